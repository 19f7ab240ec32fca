"""The divisible lines of one side in the order of their prices, with running totals: any price is met by a short walk.

The slots are cut into spans of equal width; a line stands once in each span that it touches. The entries of one pool
and span, a row, are sorted by price, and the units of all before every so many of them are kept slot by slot. What
stands below a price in a cell is then one kept total and a walk over less than a block of entries, whatever the number
of lines: the whole of a side is looked at once, when its ladder is made.

A cell is pool * slots + slot. A place is the number of an entry, or of the one after the last of its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from pricing.book import Ints
from pricing.ranges import Lines

BLOCKS = 128  # of a row of mean length
SPAN_HOURS = 2  # a span is as long as so many lines of mean length
WALK = 1 << 18  # entries walked over together: what a core keeps near itself
NEAR = 8  # entries looked at first for the nearest line that covers a slot


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over entries, and before every block of them the sum of all earlier ones in each slot of the span."""

    weight: Ints  # [entries]
    before: Ints  # [blocks + 1, width + 1]; 64 bits that wrap round: only differences within a row mean anything


class Ladder:
    """`shape` is [pools, slots]."""

    def __init__(self, lines: Lines, shape: tuple[int, int]) -> None:
        self.shape = shape
        hours = int((lines.end - lines.start).sum())
        spans = max(1, int(shape[1] * len(lines) / max(1, SPAN_HOURS * hours)))
        self._width = -(-shape[1] // spans)
        self._spans = -(-shape[1] // self._width)
        self._bits = int(lines.price.max(initial=1)).bit_length()
        units = self._sort(lines)
        lengths = np.diff(self._first)
        self._size = max(1, len(units) // (BLOCKS * max(1, len(lengths))))
        self._first_block = np.concatenate([[0], np.cumsum(-(-lengths // self._size) + 1)])  # the last: all of the row
        row = np.repeat(np.arange(len(lengths)), lengths)
        block = self._first_block[row] + (np.arange(len(row)) - self._first[row]) // self._size
        self._units = self._add_up(block, units)
        self._worth = self._add_up(block, units * self.price(np.arange(len(units))))

    def _sort(self, lines: Lines) -> Ints:
        """Sort the lines of each row by price; the units of its entries."""
        first = lines.start // self._width
        owner, later = _spread(np.zeros_like(first), (lines.end - 1) // self._width - first + 1)
        span = first[owner] + later
        key = (lines.pool[owner] * self._spans + span) << self._bits | lines.price[owner]
        order = np.argsort(key)
        self._key, owner, origin = key[order], owner[order], span[order] * self._width
        self._start = np.maximum(lines.start[owner] - origin, 0).astype(np.int16)
        self._end = np.minimum(lines.end[owner] - origin, self._width).astype(np.int16)
        rows = np.arange(self.shape[0] * self._spans + 1)
        self._first = np.searchsorted(self._key, rows << self._bits)  # [rows + 1] places
        return lines.units[owner]

    def _add_up(self, block: Ints, weight: Ints) -> Totals:
        before = np.zeros((int(self._first_block[-1]) + 1, self._width + 1), dtype=np.int64)
        at = (block + 1) * (self._width + 1)
        np.add.at(before.ravel(), at + self._start, weight)
        np.subtract.at(before.ravel(), at + self._end, weight)
        np.cumsum(before, axis=1, out=before)
        np.cumsum(before, axis=0, out=before)
        return Totals(weight, before)

    # -- places --------------------------------------------------------------------------------------------------------

    def place(self, cell: Ints, price: Ints) -> Ints:
        """The first place in the row of each cell whose price is not below the one given."""
        low = np.clip(price, 0, 1 << self._bits)  # more than any price: there the next row begins
        found: Ints = np.searchsorted(self._key, (self._row(cell) << self._bits) + low)
        return found

    def price(self, place: Ints) -> Ints:
        """The price of entries.  # int64 ticks"""
        prices: Ints = self._key[place] & ((1 << self._bits) - 1)
        return prices

    def _row(self, cell: Ints) -> Ints:
        pool, slot = np.divmod(cell, self.shape[1])
        row: Ints = pool * self._spans + slot // self._width
        return row

    def _slot(self, cell: Ints) -> Ints:
        """The slot within its span."""
        return cell % self.shape[1] % self._width

    # -- what covers a cell --------------------------------------------------------------------------------------------

    def units(self, cell: Ints, place: Ints) -> Ints:
        """Of each cell the units of the entries before a place.  # int64"""
        return self._sum(self._units, cell, place)

    def worth(self, cell: Ints, place: Ints) -> Ints:
        """The same entries' units times their prices.  # int64 ticks"""
        return self._sum(self._worth, cell, place)

    def all_units(self, cell: Ints) -> Ints:
        return self._all(self._units, cell)

    def all_worth(self, cell: Ints) -> Ints:
        return self._all(self._worth, cell)

    def _all(self, totals: Totals, cell: Ints) -> Ints:
        row, slot = self._row(cell), self._slot(cell)
        total: Ints = totals.before[self._first_block[row + 1] - 1, slot] - totals.before[self._first_block[row], slot]
        return total

    def _sum(self, totals: Totals, cell: Ints, place: Ints) -> Ints:
        row, slot = self._row(cell), self._slot(cell)
        block, over = np.divmod(place - self._first[row], self._size)
        first = self._first_block[row]
        found: Ints = totals.before[first + block, slot] - totals.before[first, slot]
        for owner, entry in self._covering(slot, place - over, over):
            np.add.at(found, owner, totals.weight[entry])
        return found

    def between(self, cell: Ints, low: Ints, high: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
        """The line-slots from one place of each cell to another: cell, price, units, sorted by the first two."""
        for owner, entry in self._covering(self._slot(cell), low, high - low):
            yield cell[owner], self.price(entry), self._units.weight[entry]

    def nearest(self, cell: Ints, place: Ints, way: int) -> Ints:
        """The price of the last line before a place (way -1), or of the first from it on (+1); there has to be one."""
        found = np.full(len(cell), -1, dtype=np.int64)
        row, slot, open_, count = self._row(cell), self._slot(cell), np.arange(len(cell)), NEAR
        place = place.copy()
        while len(open_):
            at = place[open_]
            if way < 0:
                low = np.maximum(at - count, self._first[row[open_]])
                size = at - low
            else:
                low, size = at, np.minimum(count, self._first[row[open_] + 1] - at)
            for owner, entry in self._covering(slot[open_], low, size):
                if way > 0:
                    owner, entry = owner[::-1], entry[::-1]
                found[open_[owner]] = entry  # of several the last that is written stays
            place[open_] = low if way < 0 else low + size
            open_, count = open_[(found[open_] < 0) & (size > 0)], count * 2
        return self.price(found)

    def blocks(self, cell: Ints, low: Ints, high: Ints) -> "Blocks":
        """The blocks from one place of each cell to another, moved outwards to where blocks begin."""
        row, slot = self._row(cell), self._slot(cell)
        first = self._first[row]
        below = (low - first) // self._size
        above = -(-(high - first) // self._size)
        owner, block = _spread(self._first_block[row] + below, above - below)
        at = slot[owner]
        units, worth = (totals.before[block + 1, at] - totals.before[block, at]
                        for totals in (self._units, self._worth))
        return Blocks(cell[owner], units, worth, first + below * self._size,
                      np.minimum(first + above * self._size, self._first[row + 1]))

    def _covering(self, slot: Ints, first: Ints, count: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Of so many entries from each first on those that cover the slot of their owner: owner, entry."""
        total = np.cumsum(count)
        cuts = np.searchsorted(total, np.arange(WALK, int(total[-1]) if len(total) else 0, WALK)) + 1
        for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(count)], strict=True):
            owner, entry = _spread(first[low:high], count[low:high])
            at = slot[low:high].astype(np.int16)[owner]
            here = np.flatnonzero((self._start[entry] <= at) & (at < self._end[entry]))
            yield owner[here] + low, entry[here]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Whole blocks of entries as they cover their cell."""

    cell: Ints  # [blocks]
    units: Ints  # [blocks]
    worth: Ints  # [blocks] ticks
    low: Ints  # [cells] the place where the first block begins
    high: Ints  # [cells] the place after the last


def _spread(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Whole numbers from each first on, so many: whose they are, and the numbers."""
    owner = np.repeat(np.arange(len(count)), count)
    before = np.cumsum(count) - count
    return owner, np.arange(len(owner)) + (first - before)[owner]


_LADDERS: "WeakKeyDictionary[Lines, Ladder]" = WeakKeyDictionary()


def ladder_of(lines: Lines, shape: tuple[int, int]) -> Ladder:
    """The ladder of these very lines; made once, kept as long as they are."""
    known = _LADDERS.get(lines)
    if known is None or known.shape != shape:
        known = _LADDERS[lines] = Ladder(lines, shape)
    return known


def strictly_filled(ladder: Ladder, met: Ints, sign: int) -> tuple[Ints, Ints, Ints]:
    """By cell the units of lines that gain at the prices they meet, and of those that stand exactly at them.

    Last what the first are worth, in ticks. `met` is [pools, slots] in ticks; sign +1 for buyers, -1 for sellers.
    # int64 [pools, slots] each
    """
    cell = np.arange(met.size)
    at, after = ladder.place(cell, met.ravel()), ladder.place(cell, met.ravel() + 1)
    below, up_to = ladder.units(cell, at), ladder.units(cell, after)
    if sign > 0:
        units, worth = ladder.all_units(cell) - up_to, ladder.all_worth(cell) - ladder.worth(cell, after)
    else:
        units, worth = below, ladder.worth(cell, at)
    return units.reshape(met.shape), (up_to - below).reshape(met.shape), worth.reshape(met.shape)
