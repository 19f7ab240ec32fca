r"""The linear programme of one window, over merged steps.

Let S count the distinct masks, G the groups of signatures that every mask treats alike, t the slots.

    maximise    sum v d  +  sum v L y  -  sum c z                                    [ticks]
    (S,t)       sum_prices d + sum_{windows over t} y - sum_{G ok S} f[S,G,t] = 0    [units]   dual -mu[S,t]
    (G,t)       sum_{S ok G} f[S,G,t] - sum_prices z = 0                             [units]   dual -lam[G,t]
    0 <= d, y, z <= units of the merged step,   0 <= f

A step merges the lines of one (S, t, limit), one (S, range, limit) or one (G, t, ask): they are interchangeable here
and share the fill pro rata. Only cells with both demand and capacity are rows. Prices are in ticks, so duals are whole
on every book where the programme is a network. Columns stand in the order d, z, y, f.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse

from pricing.book import TICK_MICROS, Book, adjusted_ask_micros
from pricing.eligibility import Eligibility

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Column = TypeVar("Column", npt.NDArray[np.int64], npt.NDArray[np.float64])


@dataclass(frozen=True)
class Steps:
    """Merged lines of one side in one cell."""

    cell: Ints  # [steps] row of the side
    price: Ints  # [steps] ticks
    units: Ints  # [steps]
    members: tuple[tuple[int, ...], ...]  # [steps] the lines, ascending


@dataclass(frozen=True)
class Windows:
    """Merged window demands. `rows` holds the cells of all of them one after the other, `owner` whose each is."""

    mask: Ints  # [windows] S
    start: Ints  # [windows] slot
    hours: Ints  # [windows]
    price: Ints  # [windows] ticks per unit-hour
    units: Ints  # [windows]
    members: tuple[tuple[int, ...], ...]  # [windows]
    rows: Ints  # [sum of hours] demand cell
    owner: Ints  # [sum of hours] window

    def total_over(self, per_cell: Ints) -> Ints:
        """The sum of a value per demand cell over each window's slots, exact.  # int64 [windows]"""
        sums = np.zeros(len(self.hours), dtype=np.int64)
        np.add.at(sums, self.owner, per_cell[self.rows])
        return sums


@dataclass(frozen=True)
class Programme:
    groups: tuple[tuple[int, ...], ...]  # [G] signatures with the same column, ascending
    demand_cells: tuple[tuple[int, int], ...]  # [rows] (S, t), sorted
    supply_cells: tuple[tuple[int, int], ...]  # [rows] (G, t), sorted
    divisible: Steps
    offered: Steps
    windows: Windows
    flow_demand: Ints  # [flows] demand cell, ascending
    flow_supply: Ints  # [flows] supply cell

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Numbers of columns: divisible, offered, windows, flows."""
        return len(self.divisible.cell), len(self.offered.cell), len(self.windows.mask), len(self.flow_demand)

    def split(self, columns: Column) -> tuple[Column, Column, Column, Column]:
        """A vector over all columns as its parts d, z, y, f."""
        d, z, y, _ = self.counts
        return columns[:d], columns[d:d + z], columns[d + z:d + z + y], columns[d + z + y:]

    def gain_ticks(self) -> Ints:
        """What one unit of each column adds to welfare.  # int64 [columns] ticks"""
        flows = np.zeros(len(self.flow_demand), dtype=np.int64)
        return np.concatenate(
            [self.divisible.price, -self.offered.price, self.windows.price * self.windows.hours, flows]
        )

    def hours(self) -> Ints:
        """The unit-hours traded by one unit of each column, counted once, where capacity is used.  # int64 [columns]"""
        d, z, y, f = self.counts
        return np.repeat(np.array([0, 1, 0, 0], dtype=np.int64), [d, z, y, f])

    def upper(self) -> Floats:
        """The most units each column can hold. A flow has no bound of its own: a dual on it would split the price."""
        unbounded = np.full(len(self.flow_demand), np.inf)
        return np.concatenate([self.divisible.units, self.offered.units, self.windows.units, unbounded])

    def matrix(self) -> scipy.sparse.csc_array:
        """Rows: demand cells, then supply cells. The right side is zero."""
        d, z, y, f = self.counts
        below = len(self.demand_cells)
        flow = np.arange(d + z + y, d + z + y + f)
        rows = [self.divisible.cell, below + self.offered.cell, self.windows.rows, self.flow_demand,
                below + self.flow_supply]
        columns = [np.arange(d), d + np.arange(z), d + z + self.windows.owner, flow, flow]
        values = [np.ones(d), -np.ones(z), np.ones(len(self.windows.rows)), -np.ones(f), np.ones(f)]
        shape = (below + len(self.supply_cells), d + z + y + f)
        return scipy.sparse.csc_array(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape
        )


def build_programme(book: Book, eligibility: Eligibility) -> Programme:
    """The programme over all cells where demand meets capacity; lines that meet nothing have no column."""
    groups, group_of = _group_signatures(eligibility)
    groups_of_mask = [sorted({group_of[a] for a in mask}) for mask in eligibility.masks]
    has_bid = {
        (group_of[a], slot)
        for line, a in zip(book.bids, eligibility.signature_of_bid, strict=True) if a in group_of
        for slot in range(line.start_slot, line.end_slot)
    }
    divisible, windows = _merge_demands(book, eligibility, groups_of_mask, has_bid)
    demand_cells = sorted(
        {(s, slot) for s, slot, _ in divisible}
        | {(s, slot) for s, start, end, _ in windows for slot in range(start, end)}
    )
    flows = [((s, t), (g, t)) for s, t in demand_cells for g in groups_of_mask[s] if (g, t) in has_bid]
    supply_cells = sorted({cell for _, cell in flows})
    demand_row = {cell: row for row, cell in enumerate(demand_cells)}
    supply_row = {cell: row for row, cell in enumerate(supply_cells)}
    offered = _merge_bids(book, eligibility, group_of, supply_row)
    demand_units = [line.quantity_units for line in book.demands]
    return Programme(
        groups=groups, demand_cells=tuple(demand_cells), supply_cells=tuple(supply_cells),
        divisible=_steps(divisible, demand_row, demand_units),
        offered=_steps(offered, supply_row, [line.quantity_units for line in book.bids]),
        windows=_windows(windows, demand_row, demand_units),
        flow_demand=_ints(demand_row[cell] for cell, _ in flows),
        flow_supply=_ints(supply_row[cell] for _, cell in flows),
    )


def _group_signatures(eligibility: Eligibility) -> tuple[tuple[tuple[int, ...], ...], dict[int, int]]:
    """Signatures accepted by the same masks are one product to every buyer here; one price, copied back to each."""
    column: dict[int, list[int]] = defaultdict(list)
    for s, mask in enumerate(eligibility.masks):
        for a in mask:
            column[a].append(s)
    merged: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for a in sorted(column):
        merged[tuple(column[a])].append(a)
    groups = tuple(sorted(tuple(members) for members in merged.values()))
    return groups, {a: g for g, members in enumerate(groups) for a in members}


Key = tuple[int, int, int]
WindowKey = tuple[int, int, int, int]


def _merge_demands(
    book: Book, eligibility: Eligibility, groups_of_mask: list[list[int]], has_bid: set[tuple[int, int]]
) -> tuple[dict[Key, list[int]], dict[WindowKey, list[int]]]:
    divisible: dict[Key, list[int]] = defaultdict(list)
    windows: dict[WindowKey, list[int]] = defaultdict(list)
    served = {(s, t) for s, of_mask in enumerate(groups_of_mask) for t in range(book.slots)
              if any((g, t) in has_bid for g in of_mask)}
    for index, (line, s) in enumerate(zip(book.demands, eligibility.mask_of_demand, strict=True)):
        slots = range(line.start_slot, line.end_slot)
        limit = line.price_limit_micros // TICK_MICROS
        if line.kind == "divisible":
            for t in slots:
                if (s, t) in served:
                    divisible[s, t, limit].append(index)
        elif all((s, t) in served for t in slots):
            windows[s, line.start_slot, line.end_slot, limit].append(index)
    return divisible, windows


def _merge_bids(
    book: Book, eligibility: Eligibility, group_of: dict[int, int], supply_row: dict[tuple[int, int], int]
) -> dict[Key, list[int]]:
    offered: dict[Key, list[int]] = defaultdict(list)
    for index, (line, a) in enumerate(zip(book.bids, eligibility.signature_of_bid, strict=True)):
        ask = adjusted_ask_micros(line) // TICK_MICROS
        for t in range(line.start_slot, line.end_slot):
            if a in group_of and (group_of[a], t) in supply_row:
                offered[group_of[a], t, ask].append(index)
    return offered


def _steps(merged: dict[Key, list[int]], row: dict[tuple[int, int], int], units: list[int]) -> Steps:
    keys = sorted(merged)
    return Steps(
        cell=_ints(row[one, t] for one, t, _ in keys),
        price=_ints(price for _, _, price in keys),
        units=_ints(sum(units[line] for line in merged[key]) for key in keys),
        members=tuple(tuple(merged[key]) for key in keys),
    )


def _windows(merged: dict[WindowKey, list[int]], row: dict[tuple[int, int], int], units: list[int]) -> Windows:
    keys = sorted(merged)
    return Windows(
        mask=_ints(s for s, _, _, _ in keys),
        start=_ints(start for _, start, _, _ in keys),
        hours=_ints(end - start for _, start, end, _ in keys),
        price=_ints(price for _, _, _, price in keys),
        units=_ints(sum(units[line] for line in merged[key]) for key in keys),
        members=tuple(tuple(merged[key]) for key in keys),
        rows=_ints(row[s, t] for s, start, end, _ in keys for t in range(start, end)),
        owner=_ints(w for w, (_, start, end, _) in enumerate(keys) for _ in range(start, end)),
    )


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)
