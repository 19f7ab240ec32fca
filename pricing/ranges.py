"""Sums and extremes of a price per slot over the slots of many lines at once, without a loop over lines.

A grid is [pools, slots]; a line lies in one pool and covers [start, end). Most lines are, over all their slots, on one
side of the price they meet; only the others are looked at slot by slot.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pricing.book import Flags, Ints, exact_sum

Floats = npt.NDArray[np.float64]

CHUNK = 1 << 17  # line-slots looked at together: what a core keeps near itself


@dataclass(frozen=True, eq=False)
class Lines:
    """Offers of units at a price over a range of slots."""

    pool: Ints  # [lines] row of the grids that they meet
    price: Ints  # [lines] ticks per unit-hour
    units: Ints  # [lines]
    start: Ints  # [lines]
    end: Ints  # [lines]
    line: Ints  # [lines] place in the book

    def __len__(self) -> int:
        return len(self.pool)

    def take(self, chosen: Ints | Flags) -> "Lines":
        return Lines(self.pool[chosen], self.price[chosen], self.units[chosen], self.start[chosen], self.end[chosen],
                     self.line[chosen])


def join_lines(one: Lines, other: Lines) -> Lines:
    return Lines(*(np.concatenate(pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True)))


class RangeExtremes:
    """The least and the greatest value of a grid over any range of a row, by tables of powers of two."""

    def __init__(self, grid: Ints) -> None:
        self._least, self._most = [grid], [grid]
        width = 1
        while 2 * width <= grid.shape[1]:
            for levels, choose in ((self._least, np.minimum), (self._most, np.maximum)):
                last = levels[-1]
                wider = last.copy()
                wider[:, :-width] = choose(last[:, :-width], last[:, width:])
                levels.append(wider)
            width *= 2

    def least(self, row: Ints, start: Ints, end: Ints) -> Ints:
        return self._over(np.stack(self._least), np.minimum, row, start, end)

    def most(self, row: Ints, start: Ints, end: Ints) -> Ints:
        return self._over(np.stack(self._most), np.maximum, row, start, end)

    @staticmethod
    def _over(levels: Ints, choose: np.ufunc, row: Ints, start: Ints, end: Ints) -> Ints:
        level = np.frexp((end - start).astype(np.float64))[1] - 1  # floor of the binary logarithm, exact
        found: Ints = choose(levels[level, row, start], levels[level, row, end - (1 << level)])
        return found


def range_sums(grid: Ints, row: Ints, start: Ints, end: Ints) -> Ints:
    """The sum of a grid over each range, exact.  # int64 [lines]"""
    before = np.zeros((grid.shape[0], grid.shape[1] + 1), dtype=np.int64)
    np.cumsum(grid, axis=1, out=before[:, 1:])
    sums: Ints = before[row, end] - before[row, start]
    return sums


def cover(lines: Lines, weight: Ints, pools: int, slots: int) -> Ints:
    """The sum of a weight per line in each cell that the lines cover, by differences.  # int64 [pools, slots]"""
    at = lines.pool * (slots + 1)
    ends = np.concatenate([at + lines.start, at + lines.end])
    # float64 is exact up to 2^53 units in a cell
    steps = np.bincount(ends, np.concatenate([weight, -weight]), minlength=pools * (slots + 1))
    total = np.cumsum(steps.reshape(pools, slots + 1), axis=1)[:, :-1]
    return np.rint(total).astype(np.int64)


def line_slots(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Every slot of every line: the place of the line, and the slot."""
    hours = end - start
    owner = np.repeat(np.arange(len(start)), hours)
    first = np.cumsum(hours) - hours
    return owner, start[owner] + np.arange(len(owner)) - first[owner]


def chunks(start: Ints, end: Ints) -> Iterator[slice]:
    """Slices of the lines with about `CHUNK` line-slots each."""
    total = np.cumsum(end - start)
    cuts = np.searchsorted(total, np.arange(CHUNK, int(total[-1]) if len(total) else 0, CHUNK)) + 1
    bounds = [0, *dict.fromkeys(cuts.tolist()), len(start)]
    for first, last in itertools.pairwise(bounds):
        if first < last:
            yield slice(first, last)


def surplus(lines: Lines, met: Ints, sign: int) -> Ints:
    """What each unit of each line gains at the prices it meets: the sum of (sign * (price - met))^+ over its slots.

    `met` is [pools, slots] in ticks; sign +1 for buyers, -1 for sellers.  # int64 [lines] ticks
    """
    extremes = RangeExtremes(met)
    most = extremes.most(lines.pool, lines.start, lines.end)
    least = extremes.least(lines.pool, lines.start, lines.end)
    gains_always = lines.price >= most if sign > 0 else lines.price <= least
    gains_sometimes = (lines.price > least if sign > 0 else lines.price < most) & ~gains_always
    total = range_sums(met, lines.pool, lines.start, lines.end)
    gained: Ints = np.where(gains_always, sign * (lines.price * (lines.end - lines.start) - total), 0)
    for some, owner, slot in slot_by_slot(lines, np.flatnonzero(gains_sometimes)):
        here = np.maximum(sign * (lines.price[some][owner] - met[lines.pool[some][owner], slot]), 0)
        gained[some] = np.bincount(owner, here, minlength=len(some)).astype(np.int64)  # exact: far below 2^53
    return gained


def exact_product(gain: Ints, units: Ints) -> int:
    """The sum of products that may each take 80 bits."""
    high, low = gain >> 24, gain & 0xFFFFFF
    return (exact_sum(high * units) << 24) + exact_sum(low * units)


def slot_by_slot(lines: Lines, chosen: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The chosen lines in parts of about `CHUNK` line-slots: their places, and for each slot its owner in the part."""
    for part in chunks(lines.start[chosen], lines.end[chosen]):
        some = chosen[part]
        owner, slot = line_slots(lines.start[some], lines.end[some])
        yield some, owner, slot
