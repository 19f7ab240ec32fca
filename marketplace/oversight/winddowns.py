"""Leases under papers that have ended: both parties are told, data is to be taken home, and nothing is renewed.

The next window asks for the papers again, so without them there is no award: that is what blocks a renewal. A lease
of demand that stands is wound down from the moment that a later window was cleared which its agreement does not reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.db import transaction

from marketplace.compliance.holdings import Holdings, Span, agreements_in_force
from marketplace.demand.standing_models import StandingEntry
from marketplace.escrow.models import Lease
from marketplace.escrow.selectors import RUNNING_STATES
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.oversight.models import WindDown

CLEARED_STATES = ("CLEARED", "DELIVERING", "SETTLED")


@transaction.atomic
def watch_papers(*, now: datetime) -> int:
    """Start a wind-down for every running lease whose agreement, tier or legal control no longer holds.

    Returns how many are new.
    """
    rows = Lease.objects.filter(state__in=RUNNING_STATES, window__starts_at__lte=now).select_related(
        "window", "demand__data_class", "buyer", "provider__parent", "node_class__site__party"
    )
    leases = [lease for lease in rows.order_by("pk") if now < lease.window.slot_at(lease.until_slot)]
    standing = set(WindDown.objects.filter(lease__in=leases).values_list("lease_id", "cause"))
    found_now = {(each.lease_id, each.cause): each for each in (*_not_renewed(leases, now), *_ended(leases, now))}
    new = [found for found in found_now.values() if (found.lease_id, found.cause) not in standing]
    WindDown.objects.bulk_create(new)
    for found in new:
        lease = found.lease
        tell_parties(parties=(lease.buyer_id, lease.provider_id), about=f"wind-down:{lease.pk}:{found.cause}",
                     code="wind_down", sentence=found.sentence, now=now)  # fmt: skip
        record(actor="market", action="start_wind_down", subject=lease.pk, reason=found.sentence, now=now,
               cause=found.cause)  # fmt: skip
    return len(new)


def _ended(leases: list[Lease], now: datetime) -> Iterator[WindDown]:
    here = Span.instant(now)
    holdings = Holdings({lease.provider_id for lease in leases}, here)
    signed = agreements_in_force(here, buyers={lease.buyer_id for lease in leases})
    for lease in leases:
        demand, node_class = lease.demand, lease.node_class
        who = f"{demand.reference} at {lease.provider.name}"
        data = demand.data_class
        if data and data.agreement_id and (
            data.agreement_id, lease.buyer_id, lease.provider_id, demand.purpose
        ) not in signed:  # fmt: skip
            yield _wind_down(lease, "agreement", f"The agreement ({data.agreement_id}) for {who} has ended: take the "
                             "data home; it is not renewed.", now)  # fmt: skip
        if holdings.tier_of(node_class) < demand.tier_min:
            yield _wind_down(lease, "tier", f"Evidence for T{demand.tier_min} has ended under {who}; it is not renewed "
                             "until it is shown again.", now)  # fmt: skip
        if demand.control_zone_id and not holdings.proves_control(node_class.site, lease.provider):
            yield _wind_down(lease, "legal_control", f"Evidence of legal control has ended under {who}; it is not "
                             "renewed until it is shown again.", now)  # fmt: skip


def _not_renewed(leases: list[Lease], now: datetime) -> Iterator[WindDown]:
    """What stands and has run past its agreement: a later window is cleared that the agreement does not cover."""
    under = [lease for lease in leases if lease.demand.data_class and lease.demand.data_class.agreement_id]
    stands = StandingEntry.objects.filter(demand__in={lease.demand_id for lease in under})
    standing_of = dict(stands.values_list("demand_id", "standing_id"))
    later = StandingEntry.objects.filter(standing__in=set(standing_of.values()), window__state__in=CLEARED_STATES)
    for entry in later.select_related("window").order_by("window__starts_at", "pk"):
        span = Span(entry.window.starts_at, entry.window.ends_at)
        signed = agreements_in_force(span, buyers={lease.buyer_id for lease in under})
        for lease in under:
            demand, who = lease.demand, lease.provider
            if standing_of.get(lease.demand_id) != entry.standing_id or span.from_at < lease.window.ends_at:
                continue
            code = demand.data_class.agreement_id
            if (code, lease.buyer_id, who.pk, demand.purpose) not in signed:
                yield _wind_down(lease, "agreement", f"The agreement ({code}) for {demand.reference} at {who.name} "
                                 f"does not reach through {entry.window.name}: take the data home; it is not "
                                 "renewed.", now)  # fmt: skip


def _wind_down(lease: Lease, cause: str, sentence: str, now: datetime) -> WindDown:
    return WindDown(lease=lease, cause=cause, sentence=sentence[:300], at=now)
