"""The counts behind the gates of the phases, each with the place where it can be seen."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count as HowMany

from marketplace.demand.models import Demand
from marketplace.demand.selectors import FUNDED_STATES
from marketplace.escrow.models import Lease
from marketplace.governance.models import AuditLine
from marketplace.governance.phases import Count
from marketplace.insights.residency import DELIVERED, EXPORT
from marketplace.insights.worth import curve_givers, told_buyers
from marketplace.parties.owners import FOUNDATION, last_owners
from marketplace.sla.models import Credit
from marketplace.supply.models import NodeClass


def phase_counts() -> dict[str, Count]:
    """Return what there is of every condition of every phase, counted from live rows."""
    funded = Demand.objects.filter(state__in=FUNDED_STATES, party__kind="enterprise_buyer").exclude(hold_id=None)
    funded = funded.exclude(party__in=FOUNDATION)  # a company of its own opens no phase either
    buyers = set(funded.order_by().values_list("party_id", flat=True).distinct())
    proven = NodeClass.objects.filter(standing__state="PROVEN", party__kind="university")
    leases = Lease.objects.filter(state__in=DELIVERED).order_by().values_list("provider__kind")
    delivered = dict(leases.annotate(n=HowMany("pk")))
    kept = AuditLine.objects.filter(action=EXPORT, facts__is_kept=True).order_by()
    return {
        "funded_enterprises": Count(_owners(buyers), "demands funded, by last owner"),
        "needs_recorded": Count(_owners(told_buyers(buyers)), "statements of the buyers that funded"),
        "price_curves": Count(_owners(curve_givers(funded)), "curves stated of funded demands"),
        "proven_universities": Count(
            _owners(set(proven.order_by().values_list("party_id", flat=True).distinct())), "standings of node classes"),
        "university_leases": Count(delivered.get("university", 0), "leases delivered"),
        "enterprise_leases": Count(delivered.get("enterprise", 0), "leases delivered"),
        "credits_posted": Count(Credit.objects.exclude(posted_at=None).count(), "credits"),
        "residency_exports": Count(kept.values("subject").distinct().count(), "exports on the audit trail"),
    }  # fmt: skip


def _owners(parties: set[UUID]) -> int:
    return len(set(last_owners(parties).values()))
