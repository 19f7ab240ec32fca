r"""One price per product and slot: halfway from the low point to an even lift of it.

The optimal prices, in ticks, for one optimal fill x (any other describes the same set):

    mu[S,t] <= lam[G,t]      for G ok S, equal where f[S,G,t] > 0
    mu[S,t] >= v             for a divisible step not filled,       <= v where any of it is filled
    lam[G,t] <= c            for an offered step not used up,       >= c where any of it is used
    sum_range mu[S,t] >= vL  for a window not filled,               <= vL where any of it is filled
    sum_range lam[G,t] <= cL for a whole bid not used up,           >= cL where any of it is used

Even lift: from the low point all cells rise together, tick by tick; each freezes at the first thing that binds it. The
price is low + half of the lift, rounded down to the tick; every line above survives that midpoint. What a cap or the
budget takes is held where the low point left it.
"""

from dataclasses import dataclass

import numpy as np

from pricing.book import Flags, Ints
from pricing.programme import IN, NEVER
from pricing.ranges import line_slots
from pricing.settle import TOLERANCE, Settled


def midpoint(settled: Settled) -> Ints:
    """The published dual of every cell of supply that is a row; elsewhere the low point.  # int64 [G, slots] ticks"""
    if settled.is_off_tick or not settled.programme.counts[4]:
        return settled.lam
    lift = _Lift(settled)
    while lift.freeze():
        lift.rise()
    lifted: Ints = settled.lam + (lift.lam.reshape(settled.lam.shape) - settled.lam) // 2
    return lifted


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of cells that may not pass a limit: what filled windows pay, what unsold whole bids would earn."""

    limit: Ints  # [sums] ticks
    owner: Ints  # [entries]
    cell: Ints  # [entries] place of the cell among all of supply

    def room(self, lam: Ints, rising: Flags) -> tuple[Ints, Ints]:
        """Ticks left below each limit, and how many of its cells still rise."""
        spent = np.bincount(self.owner, lam[self.cell], minlength=len(self.limit)).astype(np.int64)
        count = np.bincount(self.owner, rising[self.cell], minlength=len(self.limit)).astype(np.int64)
        return self.limit - spent, count


class _Lift:
    """The levels of one even lift, in ticks, flat over [G * slots], and which cells have stopped."""

    def __init__(self, settled: Settled) -> None:
        programme, market = settled.programme, settled.programme.market
        self.market = market
        self.lam = settled.lam.ravel().copy()
        self.highest = _highest(settled).ravel()
        self.stopped = (self.lam >= self.highest) | (market.supply_row < 0).ravel()
        flows = programme.split(settled.x)[4] > TOLERANCE
        pair, slot = programme.flow_pair[flows], programme.flow_slot[flows]
        self.flow_demand = market.pair_mask[pair] * market.slots + slot
        self.flow_supply = market.pair_group[pair] * market.slots + slot
        self.sums = self._binding(_sums(settled, self.flow_demand, self.flow_supply))

    def _binding(self, sums: _Sums) -> _Sums:
        """Those that could bind before every cell of theirs has stopped for another cause."""
        left, _ = sums.room(self.lam, ~self.stopped)
        reach = np.minimum(self.highest - self.lam, NEVER // 1024)
        could = np.bincount(sums.owner, np.where(self.stopped, 0, reach)[sums.cell], minlength=len(sums.limit))
        kept = could > left
        place = np.cumsum(kept) - 1
        of_kept = kept[sums.owner]
        return _Sums(sums.limit[kept], place[sums.owner[of_kept]], sums.cell[of_kept])

    def freeze(self) -> bool:
        """Stop all that binds at the present levels; whether something can still rise."""
        self.stopped |= self.lam >= self.highest
        while True:
            newly = np.zeros(len(self.lam), dtype=np.bool_)
            if len(self.flow_supply):
                floor = self._stopped_floor()
                newly[self.flow_supply[self.lam[self.flow_supply] >= floor[self.flow_demand]]] = True
            left, rising = self.sums.room(self.lam, ~self.stopped)
            newly[self.sums.cell[(left < rising)[self.sums.owner]]] = True
            newly &= ~self.stopped
            if not newly.any():
                return bool((~self.stopped).any()) and self._step() < NEVER // 1024
            self.stopped |= newly

    def rise(self) -> None:
        self.lam[~self.stopped] += self._step()

    def _step(self) -> int:
        """Ticks up to the next event."""
        rising = ~self.stopped
        step = int((self.highest - self.lam)[rising].min())
        flows = rising[self.flow_supply]
        if flows.any():
            room = self._stopped_floor()[self.flow_demand[flows]] - self.lam[self.flow_supply[flows]]
            step = min(step, int(room.min()))
        left, count = self.sums.room(self.lam, rising)
        if (count > 0).any():
            step = min(step, int((left[count > 0] // count[count > 0]).min()))
        return step

    def _stopped_floor(self) -> Ints:
        """The lowest stopped price that each demand cell accepts: none it uses may rise above.  # [(S + k) * slots]"""
        level = np.where(self.stopped & (self.market.supply_row >= 0).ravel(), self.lam, NEVER)
        return self.market.mu_of(level.reshape(-1, self.market.slots)).ravel()


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
    kept = np.where(market.is_foundation[pool], 1.0 - settled.sigma, 1.0)
    limit = np.floor(programme.demand.price[bought] * kept + TOLERANCE).astype(np.int64)
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
    kept = np.where(market.is_foundation[filled.pool], 1.0 - settled.sigma, 1.0)
    limit = np.floor(filled.price * (filled.end - filled.start) * kept + TOLERANCE).astype(np.int64)
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
