r"""One price per product and slot: halfway from the low point to an even lift of it.

The optimal prices, in ticks, for one optimal fill x (any other describes the same set):

    mu[S,t] <= lam[G,t]      for G ok S, equal where f[S,G,t] > 0
    mu[S,t] >= v             for a divisible step not filled,       <= v where any of it is filled
    lam[G,t] <= c            for an offered step not used up,       >= c where any of it is used
    sum_range mu[S,t] >= vL  for a window not filled,               <= vL where any of it is filled
    sum_range lam[G,t] <= cL for a whole bid not used up,           >= cL where any of it is used

Even lift: from the low point all cells rise together, tick by tick; each freezes at the first thing that binds it. The
price is low + half of the lift, rounded down to the tick; every line above survives that midpoint. What a cap
takes is held where the low point left it; the budget has been met before (`wholes`).
"""

from dataclasses import dataclass

import numpy as np

from pricing import errors
from pricing.book import Flags, Ints
from pricing.programme import IN
from pricing.ranges import line_slots
from pricing.settle import TOLERANCE, Settled
from pricing.steps import NEVER


def midpoint(settled: Settled) -> Ints:
    """The published dual of every cell of supply that is a row; elsewhere the low point.  # int64 [G, slots] ticks"""
    if settled.is_off_tick or not settled.programme.counts[4]:
        return settled.lam
    lifted: Ints = settled.lam + (_lift(settled) - settled.lam) // 2
    return lifted


def _lift(settled: Settled) -> Ints:
    """Where each cell stops.  # int64 [G, slots] ticks

    Cells rise by the same ticks, so where a cell stops follows from where those stop that bind it: it may not pass the
    level of another that one of its buyers accepts. Only sums of cells have to be met in the order of their heights.
    """
    network = _Network(settled)
    level = network.levels(_highest(settled).ravel())
    sums = network.binding(_sums(settled, network.flow_demand, network.flow_supply), level)
    low = settled.lam.ravel()
    while len(sums.limit):
        height = sums.heights(low, level)
        if height.min() >= NEVER:
            break
        first = int(height.min())
        at_once = (height == first)[sums.owner]
        before = level.copy()
        level[sums.cell[at_once]] = np.minimum(level[sums.cell[at_once]], low[sums.cell[at_once]] + first)
        level = network.levels(level)
        if np.array_equal(level, before):
            raise errors.CertificateFailed("The low point lies above what a line pays.", ticks=first)
    # Cells that nothing binds rise with the others as long as one of them does.
    is_bound = (level < NEVER // 2) | (settled.programme.market.supply_row < 0).ravel()
    level = np.where(settled.programme.market.supply_row.ravel() < 0, low, level)
    last = int((level - low)[is_bound].max(initial=0))
    return np.where(is_bound, level, low + last).reshape(settled.lam.shape)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of cells that may not pass a limit: what filled windows pay, what unsold whole bids would earn."""

    limit: Ints  # [sums] ticks
    owner: Ints  # [entries]
    cell: Ints  # [entries] place of the cell among all of supply

    def heights(self, low: Ints, level: Ints) -> Ints:
        """How far all cells can rise before each sum would pass its limit; NEVER where it does not.  # [sums] ticks"""
        room = np.minimum(level, NEVER // 1024)[self.cell] - low[self.cell]
        left = self.limit - self._total(low[self.cell])
        height = np.full(len(self.limit), NEVER, dtype=np.int64)
        passes = self._total(room) > left
        floor, ceiling = np.zeros(len(height), dtype=np.int64), np.where(passes, int(room.max(initial=0)), 0)
        while (floor < ceiling).any():  # the greatest height at which the sum still fits
            middle = (floor + ceiling + 1) // 2
            fits = self._total(np.minimum(room, middle[self.owner])) <= left
            floor, ceiling = np.where(fits, middle, floor), np.where(fits, ceiling, middle - 1)
        height[passes] = floor[passes]
        return height

    def _total(self, values: Ints) -> Ints:
        return np.rint(np.bincount(self.owner, values, minlength=len(self.limit))).astype(np.int64)


class _Network:
    """Which supply serves which demand, and what else that demand accepts."""

    def __init__(self, settled: Settled) -> None:
        programme, market = settled.programme, settled.programme.market
        flows = programme.split(settled.x)[4] > TOLERANCE
        pair, slot = programme.flow_pair[flows], programme.flow_slot[flows]
        self.flow_demand = market.pair_mask[pair] * market.slots + slot
        self.flow_supply = market.pair_group[pair] * market.slots + slot
        # Of all that is accepted only what a served demand could turn to.
        served = np.zeros(market.demand_row.size, dtype=np.bool_)
        served[self.flow_demand] = True
        other, at = np.nonzero(served.reshape(market.demand_row.shape)[market.pair_mask]
                               & (market.supply_row >= 0)[market.pair_group])
        self._demand = market.pair_mask[other] * market.slots + at
        self._supply = market.pair_group[other] * market.slots + at
        self._cells = market.demand_row.size

    def levels(self, level: Ints) -> Ints:
        """The levels at which cells stop when none may pass another that its buyers accept."""
        while True:
            least = np.full(self._cells, NEVER, dtype=np.int64)
            np.minimum.at(least, self._demand, level[self._supply])
            lower = level.copy()
            np.minimum.at(lower, self.flow_supply, least[self.flow_demand])
            if np.array_equal(lower, level):
                return level
            level = lower

    @staticmethod
    def binding(sums: _Sums, level: Ints) -> _Sums:
        """Those that could pass their limit before every cell of theirs has stopped for another cause."""
        kept = sums._total(np.minimum(level, NEVER // 1024)[sums.cell]) > sums.limit
        place = np.cumsum(kept) - 1
        of_kept = kept[sums.owner]
        return _Sums(sums.limit[kept], place[sums.owner[of_kept]], sums.cell[of_kept])


def _highest(settled: Settled) -> Ints:
    """Where each cell of supply must stop by the lines of its own cell.  # int64 [G, slots] ticks"""
    programme, market = settled.programme, settled.programme.market
    slots = market.slots
    filled, sold, _, _, flow, _ = programme.split(settled.x)
    highest = np.full((len(market.accepts[0]), slots), NEVER, dtype=np.int64)
    unsold = sold < programme.supply.units - TOLERANCE
    pool, slot = np.divmod(programme.supply.cell[unsold], slots)
    ask = np.rint(programme.supply.price[unsold]).astype(np.int64) + np.append(settled.rho, 0)[
        market.cap_of_pool[pool]]
    np.minimum.at(highest, (market.group_of_pool[pool], slot), ask)
    paying = np.full((len(market.accepts), slots), NEVER, dtype=np.int64)
    bought = filled > TOLERANCE
    pool, slot = np.divmod(programme.demand.cell[bought], slots)
    limit = np.rint(programme.demand.price[bought]).astype(np.int64)
    np.minimum.at(paying, (market.mask_of_pool[pool], slot), limit)
    used = flow > TOLERANCE
    pair, slot = programme.flow_pair[used], programme.flow_slot[used]
    np.minimum.at(highest, (market.pair_group[pair], slot), paying[market.pair_mask[pair], slot])
    return np.maximum(highest, settled.lam)


def _sums(settled: Settled, flow_demand: Ints, flow_supply: Ints) -> _Sums:
    programme, market = settled.programme, settled.programme.market
    slots = market.slots
    server = np.full(len(market.accepts) * slots, -1, dtype=np.int64)
    server[flow_demand[::-1]] = flow_supply[::-1]  # all that serve a cell have the same price
    _, _, window_fill, bid_fill, _, _ = programme.split(settled.x)
    windows, bids = market.windows.lines, market.whole_bids.lines
    some = _state(programme.window_column, window_fill > TOLERANCE, IN)
    filled = windows.take(some)
    limit = filled.price * (filled.end - filled.start)
    unsold = bids.take(~_state(programme.whole_bid_column, bid_fill > programme.whole_bid_units - TOLERANCE, IN))
    taken = np.append(settled.rho, 0)[market.cap_of_pool[unsold.pool]]
    limit_bids = (unsold.price + taken) * (unsold.end - unsold.start)
    owner, slot = line_slots(filled.start, filled.end)
    cell = server[market.mask_of_pool[filled.pool[owner]] * slots + slot]
    owner_bids, slot_bids = line_slots(unsold.start, unsold.end)
    cell_bids = market.group_of_pool[unsold.pool[owner_bids]] * slots + slot_bids
    return _Sums(
        np.concatenate([limit, limit_bids]), np.concatenate([owner, len(limit) + owner_bids]),
        np.concatenate([cell, cell_bids]),
    )


def _state(column: Ints, of_column: Flags, always: int) -> Flags:
    """A flag per line from one per column; lines outside the programme are `always` or never so."""
    found: Flags = np.append(of_column, False)[np.where(column >= 0, column, len(of_column))] | (column == always)
    return found
