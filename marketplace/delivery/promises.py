"""What a lease owes, slot by slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from marketplace.clearing.models import Award
from marketplace.escrow.models import Lease


@dataclass(frozen=True, slots=True)
class Promise:
    """What a lease owes in one slot: units, and their fee in micro-USD."""

    units: int
    amount_micros: int


def promises(*, leases: Sequence[Lease]) -> dict[tuple[UUID, int], Promise]:
    """What each lease owes in each of its slots, from its awards."""
    by_pair = {(lease.demand_id, lease.bid_id): lease.pk for lease in leases}
    owed: dict[tuple[UUID, int], list[int]] = defaultdict(lambda: [0, 0])
    awards = Award.objects.filter(bid_id__in={lease.bid_id for lease in leases})
    for award in awards.only("demand_id", "bid_id", "start_slot", "units", "slot_prices_micros"):
        lease_id = by_pair.get((award.demand_id, award.bid_id))
        if lease_id is None:
            continue
        for slot, price_micros in enumerate(award.slot_prices_micros, start=award.start_slot):
            cell = owed[lease_id, slot]
            cell[0] += award.units
            cell[1] += award.units * price_micros
    return {key: Promise(units, amount) for key, (units, amount) in owed.items()}
