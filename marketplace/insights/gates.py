"""The counts behind the gates of the phases, each with the place where it can be seen."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count as HowMany

from marketplace.demand.models import Demand
from marketplace.demand.need_models import Need
from marketplace.demand.selectors import FUNDED_STATES
from marketplace.escrow.models import Lease
from marketplace.governance.models import AuditLine
from marketplace.governance.phases import Count
from marketplace.parties.owners import last_owners
from marketplace.sla.models import Credit
from marketplace.supply.models import NodeClass

DELIVERED = ("delivered", "judged", "settled")
EXPORT = "export_residency"  # the action under which the trail keeps an export of residency evidence


def phase_counts() -> dict[str, Count]:
    """Return what there is of every condition of every phase, counted from live rows."""
    buyers = set(
        Demand.objects.filter(state__in=FUNDED_STATES, party__kind="enterprise_buyer").exclude(hold_id=None)
        .order_by().values_list("party_id", flat=True).distinct()
    )  # fmt: skip
    told = set(Need.objects.filter(party__in=buyers).values_list("party_id", flat=True))
    proven = NodeClass.objects.filter(standing__state="PROVEN", party__kind="university")
    leases = Lease.objects.filter(state__in=DELIVERED).order_by().values_list("provider__kind")
    delivered = dict(leases.annotate(n=HowMany("pk")))
    return {
        "funded_enterprises": Count(_owners(buyers), "demands funded, by last owner"),
        "needs_recorded": Count(_owners(told), "needs of the buyers that funded"),
        "price_curves": Count(_owners(_with_price_steps(buyers)), "funded demands of one buyer, window and class"),
        "proven_universities": Count(
            _owners(set(proven.order_by().values_list("party_id", flat=True).distinct())), "standings of node classes"),
        "university_leases": Count(delivered.get("university", 0), "leases delivered"),
        "enterprise_leases": Count(delivered.get("enterprise", 0), "leases delivered"),
        "credits_posted": Count(Credit.objects.exclude(posted_at=None).count(), "credits"),
        "residency_exports": Count(AuditLine.objects.filter(action=EXPORT).count(), "audit trail"),
    }  # fmt: skip


def _with_price_steps(buyers: set[UUID]) -> set[UUID]:
    """Buyers with at least two different limits for the same classes in one window: a demand for each step."""
    rows = (
        Demand.objects.filter(party__in=buyers, state__in=FUNDED_STATES).order_by()
        .values("party_id", "window_id", "accepted_classes")
        .annotate(steps=HowMany("price_limit_micros", distinct=True)).filter(steps__gte=2)
    )  # fmt: skip
    return {row["party_id"] for row in rows}


def _owners(parties: set[UUID]) -> int:
    return len(set(last_owners(parties).values()))
