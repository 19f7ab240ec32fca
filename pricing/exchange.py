"""One unit more for a line that is in the money and yet was held down, in place of others that are worth less.

A solver's fractions are rounded down, so a window may be left without a unit that would be worth more than what it
displaces. Whatever can be gained by one unit more is found here, within these moves: in each slot the unit comes over a
chain of pairs that trade there, from idle capacity, from a divisible demand, or from one other window, which gives up
that unit in all its slots; what is then idle in other slots goes to whoever is next. In one slot at most one other
window gives way, so a chain of them along time is a shortest path. `verify` looks for the same and refuses a bundle in
which it finds one.

All costs are reduced by the published prices: what a move costs beyond them is never negative, and a unit is worth
moving where that is less, in all its slots, than what its line gains at the prices. Ticks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pricing.book import TICK_MICROS, Book, Flags, Ints
from pricing.cells import Worth
from pricing.certificate import unit_hours
from pricing.fill import LineFill, Prices, fill_lines
from pricing.market import Market, join_wholes
from pricing.ranges import Lines, exact_product, join_lines, line_slots, range_sums, slot_by_slot
from pricing.settle import Settled
from pricing.steps import NEVER


@dataclass(frozen=True, eq=False)
class Network:
    """Where one unit more, or one less, can come from or go to in a settled market, and what it costs."""

    book: Book
    settled: Settled
    prices: Prices

    @property
    def market(self) -> Market:
        return self.settled.programme.market

    @cached_property
    def fill(self) -> LineFill:
        return fill_lines(self.book, self.settled, self.prices)

    @cached_property
    def _dear(self) -> Ints:
        """[pairs, slots] what a mask pays beyond its price when it takes from a group."""
        market = self.market
        dear = self.prices.lam[market.pair_group] - self.prices.mu[market.pair_mask]
        return np.where(market.is_offered[market.pair_group], dear, NEVER)

    @cached_property
    def _parted(self) -> Ints:
        """[pairs, slots] nothing where the pair trades, so that the mask may give its unit up."""
        market, fill = self.market, self.fill
        place = np.full(market.accepts.shape, -1)
        place[market.pair_mask, market.pair_group] = np.arange(len(market.pair_mask))
        parted = np.full(self._dear.shape, NEVER)
        parted[place[fill.flow_mask, fill.flow_group], fill.flow_slot] = np.where(fill.flow_units > 0, 0, NEVER)
        return parted

    @cached_property
    def _demand_costs(self) -> tuple[Ints, Ints]:
        """[S, slots] what it costs that a divisible demand of the mask goes without a unit, or takes an idle one.

        A line that is held has all that it may have, so it takes none.
        """
        limits = self._extremes(self.market.divisible, self.market.mask_of_pool, len(self.market.accepts),
                                self.fill.demand_ptr - np.append(self.book.demands.start, 0), self.fill.demand_units)
        return _beyond(limits[0], self.prices.mu), _beyond(self.prices.mu, limits[1])

    @cached_property
    def _bid_costs(self) -> tuple[Ints, Ints]:
        """[G, slots] what idle units of the group ask beyond the price, and what it costs that a bid sells a unit less.

        Under a cap nothing is idle.
        """
        lines, sold = self.market.offered, self.fill.bid_units
        first = self.fill.bid_ptr - np.append(self.book.bids.start, 0)
        is_free = self.market.cap_of_pool[lines.pool] < 0
        idle, rests = (self._extremes(some, self.market.group_of_pool, len(self.market.is_offered), first, sold)[place]
                       for some, place in ((lines.take(is_free), 2), (lines, 3)))
        return _beyond(idle, self.prices.lam), _beyond(self.prices.lam, rests)

    @cached_property
    def placed(self) -> tuple[Ints, Ints]:
        """[S, slots], [G, slots] what it costs to find another use for a unit of a mask, or of a group."""
        return self._spread(self._demand_costs[1], self._bid_costs[1])

    def from_mask(self, mask: int) -> tuple[Ints, Ints]:
        """[slots] what one unit more for a mask costs beyond its price, and [S, slots] if a window of S gives way."""
        source = np.full(self.prices.mu.shape, NEVER)
        source[mask] = 0
        by_mask, by_group = self._spread(source, np.full(self.prices.lam.shape, NEVER))
        ends = np.minimum((by_mask + self._demand_costs[0]).min(axis=0), (by_group + self._bid_costs[0]).min(axis=0))
        return np.minimum(ends, NEVER), by_mask

    def _spread(self, by_mask: Ints, by_group: Ints) -> tuple[Ints, Ints]:
        """The least costs over all chains of pairs from what they cost at their start."""
        by_mask, by_group, market = by_mask.copy(), by_group.copy(), self.market
        while True:
            before = by_mask.copy()
            np.minimum.at(by_group, market.pair_group, by_mask[market.pair_mask] + self._dear)
            np.minimum.at(by_mask, market.pair_mask, by_group[market.pair_group] + self._parted)
            if np.array_equal(before, by_mask):
                return by_mask, by_group

    def _extremes(self, lines: Lines, row: Ints, rows: int, first: Ints, units: Ints) -> tuple[Ints, ...]:
        """[rows, slots] of lines by pool: the least price with units, the greatest without all, then the other way.

        `units` of a line in a slot stand at first[line] + slot.
        """
        shape = rows, self.market.slots
        grids = tuple(np.full(shape, level) for level in (NEVER, -NEVER, NEVER, -NEVER))
        for some, owner, slot in slot_by_slot(lines, np.arange(len(lines))):
            there, price = lines.take(some).take(owner), lines.price[some][owner]
            has = units[first[there.line] + slot]
            for grid, reduce, chosen in zip(grids, (np.minimum, np.maximum, np.minimum, np.maximum), (
                has > 0, has < there.units, has < there.units, has > 0,
            ), strict=True):
                reduce.at(grid, (row[there.pool[chosen]], slot[chosen]), price[chosen])
        return grids


def _slot_lines(lines: Lines, ptr: Ints, units: Ints) -> tuple[Lines, Ints]:
    """Lines of the book as one line per slot, and what each has there."""
    owner, slot = line_slots(lines.start, lines.end)
    there = lines.take(owner)
    return replace(there, start=slot, end=slot + 1), units[ptr[there.line] + slot - there.start]


def _beyond(most: Ints, least: Ints) -> Ints:
    """What `most` is above `least`, never less than nothing; NEVER where there is nothing at all."""
    missing = (np.abs(most) >= NEVER) | (np.abs(least) >= NEVER)
    return np.where(missing, NEVER, np.maximum(most - least, 0))


@dataclass(frozen=True, eq=False)
class Held:
    """What a settled market was made of, and what holds lines of it down."""

    market: Market  # with all units
    is_budget_held: bool  # lines of the Foundation are held at what its budget buys
    holds_caps: bool  # bids under caps are held at what they sell


@dataclass(frozen=True, eq=False)
class Trial:
    """The settled market with one unit more of a line that was held down, and one less of those that give way."""

    market: Market
    held: Ints  # lines of the book that the exchange touched


def exchanges(book: Book, held: Held, settled: Settled, worth: Worth) -> Iterator[Trial]:
    """All exchanges of one unit that bring more welfare, those of windows first, and then who gains most first."""
    market, own = held.market, book.demands.is_foundation & held.is_budget_held
    is_capped = np.zeros(len(book.bids), dtype=np.bool_)
    is_capped[market.offered.line] = held.holds_caps & (market.cap_of_pool[market.offered.pool] >= 0)
    network = Network(book, settled, worth.prices)
    left_ticks = _left_of_budget(book, market, network.fill) if own.any() else 0
    yield from _Windows(network, market, worth, own).trials(left_ticks)
    if own.any():
        yield from _of_foundation(network, market.divisible.take(own[market.divisible.line]), left_ticks)
    if is_capped.any():
        yield from _of_capped(network, market, market.offered.take(is_capped[market.offered.line]))


def _left_of_budget(book: Book, market: Market, fill: LineFill) -> int:
    """Ticks that the Foundation could still spend at its limits."""
    assert market.budget_ticks is not None
    demands, hours = book.demands, unit_hours(fill.demand_ptr, fill.demand_units)
    own = demands.is_foundation
    return market.budget_ticks - exact_product(hours[own], demands.price[own] // TICK_MICROS)


def _of_foundation(network: Network, lines: Lines, left_ticks: int) -> Iterator[Trial]:
    """One unit more in one slot of a divisible line of the Foundation that the rest of its budget pays for."""
    ends: dict[int, Ints] = {}
    cells, has = _slot_lines(lines, network.fill.demand_ptr, network.fill.demand_units)
    mask = network.market.mask_of_pool[cells.pool]
    gain = cells.price - network.prices.mu[mask, cells.start]
    short = np.flatnonzero((has < cells.units) & (gain > 0) & (cells.price <= left_ticks))
    for n in short[np.lexsort((cells.start[short], cells.line[short], -gain[short]))].tolist():
        s, slot = int(mask[n]), int(cells.start[n])
        if s not in ends:
            ends[s] = network.from_mask(s)[0]
        if ends[s][slot] < gain[n]:
            now = network.market
            yield Trial(replace(now, divisible=_one_more(now.divisible, cells.take(np.array([n])))), cells.line[[n]])


def _of_capped(network: Network, market: Market, lines: Lines) -> Iterator[Trial]:
    """One unit more in one slot of a bid under a cap that leaves room for it."""
    cells, has = _slot_lines(lines, network.fill.bid_ptr, network.fill.bid_units)
    cap = market.cap_of_pool[cells.pool]
    bids = market.whole_bids.lines  # these count as well
    sold = np.bincount(cap, has, minlength=len(market.cap_units))
    sold += _sold_whole(network.fill, bids, market.cap_of_pool[bids.pool], len(market.cap_units))
    group = network.market.group_of_pool[cells.pool]
    gain = network.prices.lam[group, cells.start] - cells.price
    useful = (has < cells.units) & (sold < market.cap_units)[cap] & (network.placed[1][group, cells.start] < gain)
    short = np.flatnonzero(useful)
    for n in short[np.lexsort((cells.start[short], cells.line[short], -gain[short]))].tolist():
        now = network.market
        more = _one_more(now.offered, cells.take(np.array([n])))
        yield Trial(replace(now, offered=more), np.zeros(0, dtype=np.int64))


def _sold_whole(fill: LineFill, bids: Lines, cap: Ints, caps: int) -> Ints:
    own = cap >= 0
    return np.bincount(cap[own], unit_hours(fill.bid_ptr, fill.bid_units)[bids.line[own]], minlength=caps)


def _one_more(lines: Lines, cell: Lines) -> Lines:
    """The lines with one unit more of this one in this slot."""
    same = (lines.line == cell.line) & (lines.start == cell.start) & (lines.end == cell.end)
    if same.any():
        return replace(lines, units=lines.units + same)
    return join_lines(lines, replace(cell, units=np.ones(1, dtype=np.int64)))


class _Windows:
    """Exchanges of one unit of a window in all its slots."""

    def __init__(self, network: Network, market: Market, worth: Worth, own: Flags) -> None:
        """`own` [demands]: lines of the Foundation that its budget holds."""
        self.network, self.all = network, market.windows
        now, lines = network.market.windows, market.windows.lines
        self.mask = market.mask_of_pool[lines.pool]
        self.gain = lines.price * (lines.end - lines.start) - range_sums(
            worth.prices.mu, self.mask, lines.start, lines.end)
        place = {key: row for row, key in enumerate(zip(now.lines.line.tolist(), now.lines.pool.tolist(), strict=True))}
        self.row = np.array([place.get(key, -1) for key in zip(lines.line.tolist(), lines.pool.tolist(), strict=True)],
                            dtype=np.int64)
        self.units = np.append(worth.window_units, 0)[self.row]
        self.now_units = worth.window_units
        self.own = own[lines.line]
        self.giving = np.flatnonzero(self.units > self.all.minimum)

    def trials(self, left_ticks: int) -> Iterator[Trial]:
        lines = self.all.lines
        short = ~self.all.is_alone & (self.gain > 0) & (self.units < lines.units)
        short &= ~self.own | (lines.price * (lines.end - lines.start) <= left_ticks)
        candidates = np.flatnonzero(short)
        order = candidates[np.lexsort((lines.line[candidates], -self.gain[candidates]))].tolist()
        ways = [(n, np.array(way, dtype=np.int64)) for n in order if (way := self._way(n)) is not None]
        now = self.network.market.windows.lines.units
        if len(apart := self._apart(ways)) > 1:
            yield self._trial(apart, self.now_units)
        for one in ways:
            for others in (now, self.now_units):  # held where they are if the others would want fractions again
                yield self._trial([one], others)

    def _apart(self, ways: list[tuple[int, Ints]]) -> list[tuple[int, Ints]]:
        """The first of these exchanges that share no slot and no budget with those before: all can be made at once."""
        lines, free = self.all.lines, np.ones(self.network.market.slots, dtype=np.bool_)
        apart = []
        for n, way in ways:
            touched = np.append(way, n)
            slots = slice(int(lines.start[touched].min()), int(lines.end[touched].max()))
            if free[slots].all() and not self.own[touched].any():
                free[slots] = False
                apart.append((n, way))
        return apart

    def _way(self, n: int) -> list[int] | None:
        """The windows that give way so that this one has one unit more; None where that is not worth it."""
        lines, network, gain, rows = self.all.lines, self.network, int(self.gain[n]), self.giving
        start, end = int(lines.start[n]), int(lines.end[n])
        ends, by_mask = network.from_mask(int(self.mask[n]))
        reached, placed, mask = _sums(by_mask), _sums(network.placed[0]), self.mask[rows]
        low, high = lines.start[rows], lines.end[rows]
        first, last = np.maximum(low, start), np.minimum(high, end)
        meets = first < last
        rows, mask, low, high, first, last = (x[meets] for x in (rows, mask, low, high, first, last))
        cost = (self.gain[rows] + reached[mask, last] - reached[mask, first]
                + placed[mask, first] - placed[mask, low] + placed[mask, high] - placed[mask, last])
        steps: dict[int, list[tuple[int, int, int]]] = {slot: [(slot + 1, int(ends[slot]), -1)]
                                                        for slot in range(start, end)}
        for k in np.flatnonzero(cost < gain).tolist():
            steps[int(first[k])].append((int(last[k]), int(cost[k]), int(rows[k])))
        return _shortest(steps, start, end, gain)

    def _trial(self, exchanges: list[tuple[int, Ints]], others: Ints) -> Trial:
        now, changed = self.network.market.windows, others.copy()
        for n, way in exchanges:
            changed[self.row[way]] = self.units[way] - 1
            if self.row[n] >= 0:
                changed[self.row[n]] = self.units[n] + 1
        windows = replace(now, lines=replace(now.lines, units=changed))
        new = np.array([n for n, _ in exchanges if self.row[n] < 0], dtype=np.int64)
        if len(new):
            some = self.all.take(new)
            ones = replace(some.lines, units=np.ones(len(new), dtype=np.int64))
            windows = join_wholes(windows, replace(some, lines=ones))
        held = now.lines.line[changed[:len(now)] < now.lines.units]
        return Trial(self.network.market.with_windows(windows.take(windows.lines.units > 0)),
                     np.append(held, self.all.lines.line[[n for n, _ in exchanges]]))


def _shortest(steps: dict[int, list[tuple[int, int, int]]], start: int, end: int, gain: int) -> list[int] | None:
    """The rows along the cheapest way from slot to slot; None where it costs `gain` or more."""
    least, came = {start: 0}, dict[int, tuple[int, int]]()
    for slot in range(start, end):
        here = least.get(slot, gain)
        for to, cost, row in steps[slot]:
            if here + cost < least.get(to, gain):
                least[to], came[to] = here + cost, (slot, row)
    if end not in least:
        return None
    rows, slot = list[int](), end
    while slot > start:
        slot, row = came[slot]
        rows += [row] if row >= 0 else []
    return rows


def _sums(grid: Ints) -> Ints:
    """Sums over the slots before each; what cannot be had is so dear that a sum over it stays so."""
    sums: Ints = np.concatenate([np.zeros((len(grid), 1), dtype=np.int64), np.cumsum(np.minimum(grid, NEVER), axis=1)],
                                axis=1)
    return sums
