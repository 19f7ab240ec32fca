"""Merged steps: the lines of one price in one cell, seen through a focus on the prices that matter.

A `Focus` says which prices matter: steps within the band around them stand alone or in buckets, the others of a cell
are one step at their extreme price. `sifting` finds what that leaves out of sight.
"""

from dataclasses import dataclass

import numpy as np

from pricing.book import Flags, Ints
from pricing.highs import Floats
from pricing.ranges import Lines, RangeExtremes, cover, line_slots, range_sums, slot_by_slot

NEVER = 1 << 50  # ticks: no price reaches it, and sums of a window of it still fit
WIDE = 0.05  # of a price: the band of a cell whose own was too narrow


@dataclass(frozen=True, eq=False)
class Focus:
    """The prices that matter, in ticks, and how far around them lines stand apart."""

    demand: Ints  # [demand pools, slots] what a demand of the pool is compared with
    supply: Ints  # [supply pools, slots] what a bid of the pool is compared with
    lam: Ints  # [G, slots]
    band: float  # half width, as a part of the price
    whole_band: float  # the same for the average price of windows and other wholes
    bucket: float  # width of a bucket, as a part of the price; 0: single ticks
    hidden: "Hidden | None" = None  # what has to be seen as well
    wide: float = WIDE  # half width, as a part of the price, in the cells of `hidden`


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


def merge_steps(
    lines: Lines, rows: Ints, met: Ints | None, focus: Focus | None, wide: Flags | None
) -> Steps:
    """The steps of one side; `rows` is [pools, slots], -1 where the cell is no row. `met` None: every price alone.

    In `wide` cells the band is the wide one.
    """
    if met is None or focus is None or not len(lines):
        owner, slot = line_slots(lines.start, lines.end)
        cell, price = lines.pool[owner] * rows.shape[1] + slot, lines.price[owner]
        return _merge_prices(cell, price, lines.units[owner], rows)
    part = focus.band if wide is None else np.where(wide, focus.wide, focus.band)
    reach = np.maximum(2, (met * part).astype(np.int64))
    low, high = (met - reach).ravel(), (met + reach).ravel()
    tails = _Tails(rows, low, high)
    near = tails.take_clear(lines)
    shown: list[tuple[Ints, Ints, Ints]] = []
    for some, owner, slot in slot_by_slot(lines, near):
        cell = lines.pool[some][owner] * rows.shape[1] + slot
        shown.append(tails.take(cell, lines.price[some][owner], lines.units[some][owner]))
    cell, price, units = (np.concatenate([part[k] for part in shown] or [np.zeros(0, dtype=np.int64)])
                          for k in range(3))
    if focus.bucket:
        width = np.maximum(1, (met * focus.bucket).astype(np.int64)).ravel()
        inner = _merge_buckets(cell, price, units, low, width, rows)
    else:
        inner = _merge_prices(cell, price, units, rows)
    return in_order(inner, tails.steps())


def widen_steps(steps: Steps, lines: Lines, rows: Ints, met: Ints, focus: Focus, changed: Flags) -> Steps:
    """The same steps, but for the changed cells, which are wide now."""
    if not changed.any():
        return steps
    touching = range_sums(changed.astype(np.int64), lines.pool, lines.start, lines.end) > 0
    there = merge_steps(lines.take(touching), np.where(changed, rows, -1), met, focus, changed)
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


class _Tails:
    """What lies beyond the band in each cell: units, and the price nearest to the band."""

    def __init__(self, rows: Ints, low: Ints, high: Ints) -> None:
        self._rows, self._low, self._high = rows, low, high
        self._units = [np.zeros(rows.size, dtype=np.int64), np.zeros(rows.size, dtype=np.int64)]
        self._edge = [np.full(rows.size, -NEVER, dtype=np.int64), np.full(rows.size, NEVER, dtype=np.int64)]

    def take_clear(self, lines: Lines) -> Ints:
        """Take the lines that are beyond the band in all their slots; the places of the others."""
        shape = self._rows.shape
        is_below = lines.price < RangeExtremes(self._low.reshape(shape)).least(lines.pool, lines.start, lines.end)
        is_above = lines.price > RangeExtremes(self._high.reshape(shape)).most(lines.pool, lines.start, lines.end)
        for place, is_beyond in enumerate((is_below, is_above)):
            beyond = lines.take(is_beyond)
            self._units[place] += cover(beyond, beyond.units, *shape).ravel()
            code = (beyond.pool * (shape[1] + 1) + beyond.start) * (shape[1] + 1) + beyond.end
            order = np.lexsort((beyond.price if place else -beyond.price, code))
            nearest = order[np.flatnonzero(np.diff(code[order], prepend=-1))]  # over the same slots only the nearest
            for some, owner, slot in slot_by_slot(beyond, nearest):
                self._mark(place, beyond.pool[some][owner] * shape[1] + slot, beyond.price[some][owner])
        return np.flatnonzero(~is_below & ~is_above)

    def take(self, cell: Ints, price: Ints, units: Ints) -> tuple[Ints, Ints, Ints]:
        """Take the line-slots beyond the band; the others, as they came."""
        beyond = (price < self._low[cell], price > self._high[cell])
        for place, chosen in enumerate(beyond):
            self._units[place] += np.rint(
                np.bincount(cell[chosen], units[chosen], minlength=self._rows.size)).astype(np.int64)
            self._mark(place, cell[chosen], price[chosen])
        kept = ~(beyond[0] | beyond[1])
        return cell[kept], price[kept], units[kept]

    def _mark(self, place: int, cell: Ints, price: Ints) -> None:
        (np.minimum if place else np.maximum).at(self._edge[place], cell, price)

    def steps(self) -> Steps:
        cells = [np.flatnonzero((units > 0) & (self._rows.ravel() >= 0)) for units in self._units]
        return Steps(
            np.concatenate(cells),
            np.concatenate([edge[cell] for edge, cell in zip(self._edge, cells, strict=True)]).astype(np.float64),
            np.concatenate([units[cell] for units, cell in zip(self._units, cells, strict=True)]),
            np.repeat([-1, 1], [len(cell) for cell in cells]),
        )


def _merge_prices(cell: Ints, price: Ints, units: Ints, rows: Ints) -> Steps:
    kept = rows.ravel()[cell] >= 0
    key, place = np.unique(cell[kept] << 24 | price[kept], return_inverse=True)
    merged = np.bincount(place, units[kept], minlength=len(key))
    return Steps(key >> 24, (key & (1 << 24) - 1).astype(np.float64), np.rint(merged).astype(np.int64),
                 np.zeros(len(key), dtype=np.int64))


def _merge_buckets(cell: Ints, price: Ints, units: Ints, low: Ints, width: Ints, rows: Ints) -> Steps:
    """Steps of several prices at their mean: good enough to find the neighbourhood of the optimum."""
    place = (price - low[cell]) // width[cell]
    places = int(place.max(initial=0)) + 1
    key = cell * places + place
    merged = np.bincount(key, units, minlength=rows.size * places)
    worth = np.bincount(key, units * price, minlength=rows.size * places)
    merged.reshape(-1, places)[rows.ravel() < 0] = 0
    used = np.flatnonzero(merged > 0.5)
    return Steps(used // places, worth[used] / merged[used], np.rint(merged[used]).astype(np.int64),
                 np.zeros(len(used), dtype=np.int64))


def in_order(one: Steps, other: Steps) -> Steps:
    cell, price = np.concatenate([one.cell, other.cell]), np.concatenate([one.price, other.price])
    order = np.lexsort((price, cell))
    return Steps(cell[order], price[order], np.concatenate([one.units, other.units])[order],
                 np.concatenate([one.beyond, other.beyond])[order])
