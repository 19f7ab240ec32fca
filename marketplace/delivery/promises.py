"""What a lease owes, slot by slot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from marketplace.capacity.ceilings import Ceilings
from marketplace.catalogue.models import Window
from marketplace.clearing.models import Award
from marketplace.escrow.backup_models import StepInRun
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
    """What each lease owes in each of its slots: from its awards, or from what it took over as a backup.

    A lease owes nothing in the slots that its own backup took over.
    """
    by_key = {lease.pk: lease for lease in leases}
    windows = {each.pk: each for each in Window.objects.filter(pk__in={lease.window_id for lease in leases})}
    ceilings = Ceilings(lease.node_class_id for lease in leases)
    owed: dict[tuple[UUID, int], list[int]] = defaultdict(lambda: [0, 0])
    for lease, run in _runs(leases):
        for slot, price_micros in enumerate(run.slot_prices_micros, start=run.start_slot):
            if slot < lease.until_slot:
                cell = owed[lease.pk, slot]
                cell[0] += run.units
                cell[1] += run.units * price_micros

    def promise(lease: Lease, slot: int, units: int, amount: int) -> Promise:
        hour_at = windows[lease.window_id].slot_at(slot)
        ceiling = ceilings.micros(lease.node_class_id, hour_at, signed_at=lease.made_at)
        return Promise(units, amount, amount if ceiling is None else min(amount, units * ceiling))

    return {(key, slot): promise(by_key[key], slot, units, amount) for (key, slot), (units, amount) in owed.items()}


def _runs(leases: Sequence[Lease]) -> Iterator[tuple[Lease, Award | StepInRun]]:
    """The runs of slots that each lease was made from."""
    columns = ("bid_id", "start_slot", "units", "slot_prices_micros")
    awarded = {(lease.demand_id, lease.bid_id): lease for lease in leases if lease.step_in_id is None}
    for award in Award.objects.filter(bid_id__in={bid for _, bid in awarded}).only("demand_id", *columns):
        if lease := awarded.get((award.demand_id, award.bid_id)):
            yield lease, award
    backups = {(lease.step_in_id, lease.bid_id): lease for lease in leases if lease.step_in_id is not None}
    if backups:
        taken = StepInRun.objects.filter(step_in__in={step_in for step_in, _ in backups})
        for run in taken.only("step_in_id", *columns):
            if lease := backups.get((run.step_in_id, run.bid_id)):
                yield lease, run
