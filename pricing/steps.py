"""Merged steps: the lines of one price in one cell, seen through a focus on the prices that matter.

A `Focus` says which prices matter: steps within the band around them stand alone or with their neighbours, the others
of a cell are one step at their extreme price. `sifting` finds what that leaves out of sight.
"""

from dataclasses import dataclass

import numpy as np

from pricing.book import Flags, Ints
from pricing.highs import Floats
from pricing.ladder import Ladder

NEVER = 1 << 50  # ticks: no price reaches it, and sums of a window of it still fit
WIDE = 0.05  # of a price: the band of a cell whose own was too narrow
GRADE = 0.002  # of a price: so near it coarse steps stay apart when prices are nearly known
GRADES = 2  # of them for each time further away


@dataclass(frozen=True, eq=False)
class Focus:
    """The prices that matter, in ticks, and how far around them lines stand apart."""

    demand: Ints  # [demand pools, slots] what a demand of the pool is compared with
    supply: Ints  # [supply pools, slots] what a bid of the pool is compared with
    lam: Ints  # [G, slots]
    band: float  # half width, as a part of the price
    whole_band: float  # the same for the average price of windows and other wholes
    is_coarse: bool  # lines next to each other are one step
    hidden: "Hidden | None" = None  # what has to be seen as well
    wide: float = WIDE  # half width, as a part of the price, in the cells of `hidden`
    is_graded: bool = False  # coarse, and the coarser the further from these prices, which are nearly right


@dataclass(frozen=True, eq=False)
class Hidden:
    """What a programme left out although it would trade at its prices."""

    demand: Flags  # [demand pools, slots] cells where a step beyond the band trades, or does not, against its price
    supply: Flags  # [supply pools, slots]
    windows: Flags  # [windows]
    whole_bids: Flags  # [whole bids]
    flows: Flags  # [pairs, slots]

    @property
    def is_empty(self) -> bool:
        return not any(flags.any() for flags in vars(self).values())

    @property
    def has_cells(self) -> bool:
        return bool(self.demand.any() or self.supply.any())

    def of_both(self, other: "Hidden") -> "Hidden":
        return Hidden(*(one & two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))

    def less(self, other: "Hidden") -> "Hidden":
        return Hidden(*(one & ~two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))

    def and_(self, other: "Hidden | None") -> "Hidden":
        if other is None:
            return self
        return Hidden(*(one | two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True, eq=False)
class Steps:
    """Merged lines of one side in one cell, sorted by cell and price; all beyond the band is one step each way."""

    cell: Ints  # [steps] pool * slots + slot
    price: Floats  # [steps] ticks; the mean of a bucket; of what lies beyond the band the price nearest to it
    units: Ints  # [steps]
    beyond: Ints  # [steps] -1 all below the band, +1 all above it, else 0

    def __len__(self) -> int:
        return len(self.cell)


def merge_steps(ladder: Ladder, rows: Ints, met: Ints, reach: Ints, *, is_coarse: bool = False) -> Steps:
    """The steps of one side in the cells that are rows; `rows` is [pools, slots], -1 where the cell is none.

    Those further from the price that they meet than `reach` (both [pools, slots], ticks) are one step each way. Coarse:
    lines next to each other stand together at their mean price, good enough to find the neighbourhood of the optimum.
    """
    cell = np.flatnonzero(rows.ravel() >= 0)
    price, far = met.ravel()[cell], reach.ravel()[cell]
    low, high = ladder.place(cell, price - far), ladder.place(cell, price + far + 1)
    if is_coarse:
        blocks = ladder.blocks(cell, low, high)
        low, high, kept = blocks.low, blocks.high, blocks.units > 0
        units = blocks.units[kept]
        inner = blocks.cell[kept], blocks.worth[kept] / units, units
    else:
        inner = _merge_prices(ladder, cell, low, high)
    below, above = ladder.units(cell, low), ladder.all_units(cell) - ladder.units(cell, high)
    parts = [(inner, np.zeros(len(inner[0]), dtype=np.int64))]
    for units, place, way in ((below, low, -1), (above, high, 1)):
        some = np.flatnonzero(units)
        edge = ladder.nearest(cell[some], place[some], way).astype(np.float64)
        parts.append(((cell[some], edge, units[some]), np.full(len(some), way)))
    cells, prices, all_units = (np.concatenate([part[k] for part, _ in parts]) for k in range(3))
    beyond = np.concatenate([way for _, way in parts])
    order = np.argsort(cells * 3 + beyond, kind="stable")  # each of the three stands in order already
    return Steps(cells[order], prices[order], all_units[order], beyond[order])


def reach_of(met: Ints, focus: Focus, wide: Flags | None) -> Ints:
    """How far from the prices they meet lines stand apart; further in `wide` cells.  # int64 [pools, slots] ticks"""
    part = focus.band if wide is None else np.where(wide, focus.wide, focus.band)
    reach: Ints = np.maximum(2, (met * part).astype(np.int64))
    return reach


def widen_steps(steps: Steps, ladder: Ladder, rows: Ints, met: Ints, focus: Focus, changed: Flags) -> Steps:
    """The same steps, but for the changed cells, which are wide now."""
    if not changed.any():
        return steps
    there = merge_steps(ladder, np.where(changed, rows, -1), met, reach_of(met, focus, changed))
    kept = ~changed.ravel()[steps.cell]
    return in_order(Steps(steps.cell[kept], steps.price[kept], steps.units[kept], steps.beyond[kept]), there)


def narrow_steps(steps: Steps, met: Ints, band: float, kept: Flags) -> Steps:
    """The same steps, where all further from their price than the band is one step each way, but in `kept` cells."""
    reach = np.maximum(2, (met * band).astype(np.int64)).ravel()[steps.cell]
    above = steps.price - met.ravel()[steps.cell]
    is_near = (np.abs(above) <= reach) | kept.ravel()[steps.cell]
    beyond = np.where((steps.beyond == 0) & ~is_near, np.sign(above).astype(np.int64), steps.beyond)
    run = steps.cell * 3 + beyond  # steps are in order, so all beyond the band on one side of a cell stand together
    first = np.flatnonzero((np.diff(run, prepend=-2) != 0) | (beyond == 0))
    if not len(first):
        return steps
    last = np.append(first[1:], len(steps)) - 1
    nearest = np.where(beyond[first] < 0, last, first)
    return Steps(steps.cell[first], steps.price[nearest], np.add.reduceat(steps.units, first), beyond[first])


def grade_steps(steps: Steps, met: Ints) -> Steps:
    """The same steps, those of a cell together that lie about as far from its price, at the mean of theirs."""
    price = met.ravel()[steps.cell]
    off = steps.price / np.maximum(price, 1) - 1.0
    grade = np.rint(GRADES * np.log1p(np.abs(off) / GRADE) * np.sign(off)).astype(np.int64)
    run = np.stack([steps.cell, steps.beyond, grade])
    first = np.flatnonzero(np.append(True, (np.diff(run) != 0).any(axis=0))[:len(steps)])
    if not len(first):
        return steps
    units = np.add.reduceat(steps.units, first)
    mean = np.add.reduceat(steps.units * steps.price, first) / units
    return Steps(steps.cell[first], mean, units, steps.beyond[first])  # beyond the band stands one step: its own mean


def _merge_prices(ladder: Ladder, cell: Ints, low: Ints, high: Ints) -> tuple[Ints, Floats, Ints]:
    """The line-slots between two places of each cell, those of one price together: cells, prices, units."""
    found = list(ladder.between(cell, low, high))
    cells, price, units = (np.concatenate([part[k] for part in found]) for k in range(3))
    first = np.flatnonzero((np.diff(cells, prepend=-1) != 0) | (np.diff(price, prepend=-1) != 0))
    merged = np.add.reduceat(units, first) if len(first) else units
    return cells[first], price[first].astype(np.float64), merged


def in_order(one: Steps, other: Steps) -> Steps:
    cell, price = np.concatenate([one.cell, other.cell]), np.concatenate([one.price, other.price])
    order = np.lexsort((price, cell))
    return Steps(cell[order], price[order], np.concatenate([one.units, other.units])[order],
                 np.concatenate([one.beyond, other.beyond])[order])
