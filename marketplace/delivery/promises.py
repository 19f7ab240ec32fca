"""What a lease owes, slot by slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from marketplace.capacity.ceilings import Ceilings
from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award
from marketplace.escrow.models import Lease


@dataclass(frozen=True, slots=True)
class Promise:
    """What a lease owes in one slot: units, their fee in micro-USD, and what funding lets be paid for it at most."""

    units: int
    amount_micros: int
    most_micros: int

    def earned_micros(self, minutes: int) -> int:
        """What so many minutes earn, rounded down: what is lost to rounding stays with the buyer."""
        return self.most_micros * minutes // 60

    def above_ceiling_micros(self, minutes: int) -> int:
        """What the clearing price of so many minutes leaves above what they earn."""
        return self.amount_micros * minutes // 60 - self.earned_micros(minutes)


def promises(*, leases: Sequence[Lease]) -> dict[tuple[UUID, int], Promise]:
    """What each lease owes in each of its slots, from its awards."""
    by_pair = {(lease.demand_id, lease.bid_id): lease.pk for lease in leases}
    windows = {each.pk: each for each in Window.objects.filter(pk__in={lease.window_id for lease in leases})}
    ceilings, by_key = Ceilings(lease.node_class_id for lease in leases), {lease.pk: lease for lease in leases}
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

    def promise(lease: Lease, slot: int, units: int, amount: int) -> Promise:
        hour_at = windows[lease.window_id].slot_at(slot)
        ceiling = ceilings.micros(lease.node_class_id, hour_at, signed_at=lease.made_at)
        return Promise(units, amount, amount if ceiling is None else min(amount, units * ceiling))

    return {(key, slot): promise(by_key[key], slot, units, amount) for (key, slot), (units, amount) in owed.items()}
