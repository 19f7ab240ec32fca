r"""The programme of one window as a solver sees it, over merged steps, whole or in a band around known prices.

Let S count the distinct masks, G the groups of signatures that every mask treats alike, t the slots. A pool is a part
of a side whose lines see the same price in every slot: demand of one S (the Foundation's apart, where its budget may
bind), capacity of one G (that of a capped parent apart). In ticks and units:

    maximise    sum v d  +  sum v L y  -  sum c z  -  sum c L x
    (S,t)       sum_prices d + sum_{windows over t} y - sum_{G ok S} f[S,G,t] = 0              dual -mu[S,t]
    (G,t)       sum_{S ok G} f[S,G,t] - sum_prices z - sum_{whole bids over t} x <= 0          dual -lam[G,t]
    (p)         sum of z and L x of a capped parent and product   <= K                         dual -rho
    (B)         sum of v d and v L y of the Foundation            <= budget                    dual -sigma
    (choice)    sum of y / quantity over alternatives             <= 1
    0 <= d, y, z, x <= units of the merged step,   0 <= f

A step merges the lines of one (pool, t, price), one (S, range, price): they are interchangeable here and share the fill
pro rata. Indivisible lines stand alone, their minimum relaxed. Only cells with both demand and capacity are rows.

A `Focus` says which prices matter: steps within the band around them stand alone or with their neighbours, the others
of a cell are one step at their extreme price, windows clearly in are a constant, windows clearly out and flows clearly
too dear are left out. What that leaves out of sight, the certificate finds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pricing.book import Flags, Ints
from pricing.highs import Columns, Floats
from pricing.market import Market, Wholes
from pricing.ranges import cover, line_slots, range_sums
from pricing.steps import (  # fmt: skip
    NEVER,
    Focus,
    Hidden,
    Steps,
    grade_steps,
    in_order,
    merge_steps,
    narrow_steps,
    reach_of,
    widen_steps,
)
from pricing.threads import both

FLOW_BAND = 0.12  # of a price: a missing flow tears two prices apart
OUT, IN = -1, -2  # in place of a column: left out, or a constant


@dataclass(frozen=True, eq=False)
class Programme:
    market: Market
    focus: Focus | None
    demand: Steps
    supply: Steps
    window_column: Ints  # [windows] place among the window columns, OUT or IN
    whole_bid_column: Ints  # [whole bids] likewise
    window_units: Ints  # [window columns]
    whole_bid_units: Ints  # [whole bid columns]
    window_first: Ints  # [window columns] a window of the column
    whole_bid_first: Ints  # [whole bid columns]
    flow_pair: Ints  # [flows] place among the market's pairs of mask and group
    flow_slot: Ints  # [flows]
    short_row: Ints  # [shortfalls] demand rows in which clear winners might not fit together
    columns: Columns
    row_lower: Floats
    row_upper: Floats

    @cached_property
    def counts(self) -> tuple[int, int, int, int, int, int]:
        """Numbers of columns: divisible, offered, windows, whole bids, flows, shortfalls."""
        return (len(self.demand), len(self.supply), len(self.window_units), len(self.whole_bid_units),
                len(self.flow_pair), len(self.short_row))

    def split(self, values: Floats) -> list[Floats]:
        """A vector over all columns as its parts d, z, y, x, f, u."""
        return np.split(values, np.cumsum(self.counts)[:-1])

    def whole_bid_rows(self) -> Ints:
        """The rows of supply in which a bid with a minimum stands."""
        market, lines = self.market, self.market.whole_bids.lines
        owner, slot = line_slots(lines.start, lines.end)
        rows: Ints = np.unique(market.supply_row[market.group_of_pool[lines.pool[owner]], slot])
        return rows[rows >= 0]

    def minima(self) -> Floats:
        """The least units of each column that an indivisible line may take, 0 for all others.  # float64 [columns]"""
        d, z, _, _, f, u = self.counts
        windows, bids = self.market.windows.take(self.window_first), self.market.whole_bids
        least = np.where(windows.is_alone, np.maximum(windows.minimum, 1), 0)
        return np.concatenate([np.zeros(d + z), least, bids.minimum[self.whole_bid_first], np.zeros(f + u)])

    def gifts(self) -> Floats:
        """What each row is given for nothing.  # float64 [rows]"""
        given = np.zeros(len(self.row_upper))
        row = self.market.supply_row
        given[row[row >= 0]] = self.market.gifts[row >= 0]
        # Caps and the budget as well, so that they take the least that they can; with the cells less than one unit.
        shared = len(given) - self.market.cells - self.market.choices
        given[self.market.cells:self.market.cells + shared] = self.market.shared_gift / max(1, shared)
        return given

    def hours(self) -> Floats:
        """The unit-hours sold by one unit of each column, counted where capacity is used.  # float64 [columns]"""
        d, z, y, _, f, u = self.counts
        bids = self.market.whole_bids.lines.take(self.whole_bid_first)
        return np.concatenate([np.zeros(d), np.ones(z), np.zeros(y), bids.end - bids.start, np.zeros(f + u)])

    # Duals of the rows, in the terms of the market. Float, ticks.

    def lam_of(self, row_duals: Floats) -> Floats:
        """[G, slots]; 0 where the cell is no row."""
        row = self.market.supply_row
        return np.where(row >= 0, -np.append(row_duals, 0.0)[row], 0.0)

    def mu_of(self, row_duals: Floats) -> Floats:
        """[S + variants, slots]; 0 where the cell is no row. At most the least lam that the mask accepts."""
        row = self.market.demand_row
        return np.where(row >= 0, -np.append(row_duals, 0.0)[row], 0.0)

    def rho_of(self, row_duals: Floats) -> Floats:
        first = self.market.cells
        return -row_duals[first:first + len(self.market.cap_units)]

    def sigma_of(self, row_duals: Floats) -> float:
        return 0.0 if self.market.budget_ticks is None else float(-row_duals[self._budget_row])

    @property
    def _budget_row(self) -> int:
        return self.market.cells + len(self.market.cap_units)


def build_programme(market: Market, focus: Focus | None, known: Programme | None = None) -> Programme:
    """The programme over all steps, or over those that the focus shows.

    `known` is one of the same market with a part of the steps: around the same prices with less to be seen, or in a
    wider band around prices nearby.
    """
    slots = market.slots
    demand_rows, supply_rows = market.demand_row[market.mask_of_pool], market.supply_row[market.group_of_pool]
    hidden = focus.hidden if focus else None
    met, met_supply = (focus.demand, focus.supply) if focus else (None, None)
    steps = None
    if known is not None and known.focus is not None and focus is not None and hidden is not None:
        steps = _refocused(market, focus, hidden, known, known.focus)
    band = focus.whole_band if focus else 0.0
    bought, sold = both(
        lambda: (steps[0] if steps else _merge_demand(market, focus),
                 _merge_wholes(market.windows, met, band, 1, hidden.windows if hidden else None)),
        lambda: (steps[1] if steps else _merge_supply(market, focus),
                 _merge_wholes(market.whole_bids, met_supply, band, -1, hidden.whole_bids if hidden else None)))
    demand, (window_column, window_first, window_units) = bought
    supply, (bid_column, bid_first, bid_units) = sold
    flow_pair, flow_slot = _flows(market, focus, hidden.flows if hidden else None)
    right, short_row = np.zeros(market.rows), np.zeros(0, dtype=np.int64)
    for wholes, column, rows, sign in ((market.windows, window_column, demand_rows, -1.0),
                                       (market.whole_bids, bid_column, supply_rows, 1.0)):
        fixed = wholes.lines.take(column == IN)
        if len(fixed):
            units = cover(fixed, fixed.units, len(rows), slots)
            np.add.at(right, rows[rows >= 0], sign * units[rows >= 0])
            if sign < 0:
                short_row = np.unique(rows[(rows >= 0) & (units > 0)])
    parts = [
        _step_entries(demand, demand_rows, 1.0, market, _demand_extra(market, demand)),
        _step_entries(supply, supply_rows, -1.0, market, _supply_extra(market, supply)),
        _whole_entries(market, market.windows.take(window_first), window_units, demand_rows, 1.0),
        _whole_entries(market, market.whole_bids.take(bid_first), bid_units, supply_rows, -1.0),
        _flow_entries(market, flow_pair, flow_slot),
        # Units from nowhere, dearer than any window is worth: they show where clear winners do not fit together.
        _Part(np.full(len(short_row), _dearest(market)), np.full(len(short_row), np.inf),
              np.ones(len(short_row), dtype=np.int64), short_row, np.full(len(short_row), -1.0)),
    ]
    lower, upper = _right_sides(market, right, window_column, bid_column)
    return Programme(
        market, focus, demand, supply, window_column, bid_column, window_units, bid_units, window_first, bid_first,
        flow_pair, flow_slot, short_row, _stack(parts), lower, upper,
    )


def _merge_demand(market: Market, focus: Focus | None) -> Steps:
    ladder, rows = market.demand_ladder, market.demand_row[market.mask_of_pool]
    if focus is None:
        return merge_steps(ladder, rows, np.zeros_like(rows), np.full_like(rows, NEVER))
    reach = reach_of(focus.demand, focus, focus.hidden.demand if focus.hidden else None)
    # The budget counts what each line of the Foundation may cost, so none of them is merged with dearer ones.
    own = market.is_foundation[:, None]
    some = merge_steps(ladder, np.where(own, -1, rows), focus.demand, reach, is_coarse=focus.is_coarse)
    if focus.is_graded:
        some = grade_steps(some, focus.demand)
    if not own.any():
        return some
    return in_order(some, merge_steps(ladder, np.where(own, rows, -1), focus.demand, np.full_like(reach, NEVER)))


def _merge_supply(market: Market, focus: Focus | None) -> Steps:
    ladder, rows = market.supply_ladder, market.supply_row[market.group_of_pool]
    if focus is None:
        return merge_steps(ladder, rows, np.zeros_like(rows), np.full_like(rows, NEVER))
    reach = reach_of(focus.supply, focus, focus.hidden.supply if focus.hidden else None)
    steps = merge_steps(ladder, rows, focus.supply, reach, is_coarse=focus.is_coarse)
    return grade_steps(steps, focus.supply) if focus.is_graded else steps


def _refocused(market: Market, focus: Focus, hidden: Hidden, known: Programme, old: Focus) -> tuple[Steps, Steps]:
    """The steps of both sides from those of a known programme; only the lines in cells that are wide now are merged."""
    demand, supply, seen = known.demand, known.supply, old.hidden or _nothing(market)
    if focus.band < old.band:
        demand = narrow_steps(demand, focus.demand, focus.band, seen.demand | market.is_foundation[:, None])
        supply = narrow_steps(supply, focus.supply, focus.band, seen.supply)
    demand_rows, supply_rows = market.demand_row[market.mask_of_pool], market.supply_row[market.group_of_pool]
    return (widen_steps(demand, market.demand_ladder, demand_rows, focus.demand, focus, hidden.demand & ~seen.demand),
            widen_steps(supply, market.supply_ladder, supply_rows, focus.supply, focus, hidden.supply & ~seen.supply))


def _nothing(market: Market) -> Hidden:
    shapes = ((len(market.mask_of_pool), market.slots), (len(market.group_of_pool), market.slots),
              (len(market.windows),), (len(market.whole_bids),), (len(market.pair_mask), market.slots))
    return Hidden(*(np.zeros(shape, dtype=np.bool_) for shape in shapes))


def _dearest(market: Market) -> float:
    lines = market.windows.lines
    return float((lines.price * (lines.end - lines.start)).max(initial=0)) + 1.0


def _merge_wholes(
    wholes: Wholes, met: Ints | None, band: float, sign: int, asked_for: Flags | None
) -> tuple[Ints, Ints, Ints]:
    """The column of each whole (or OUT, IN), a whole of each column, and the units of each column."""
    lines = wholes.lines
    column = np.zeros(len(lines), dtype=np.int64)
    if met is not None and len(lines):
        asked = range_sums(met, lines.pool, lines.start, lines.end)
        gain = sign * (lines.price * (lines.end - lines.start) - asked)
        reach = np.maximum(2 * (lines.end - lines.start), (asked * band).astype(np.int64))
        column[gain < -reach] = OUT
        column[(gain > reach) & (wholes.choice < 0)] = IN
        if asked_for is not None:
            column[asked_for] = 0
    shown = np.flatnonzero(column == 0)
    some = lines.take(shown)
    alone = np.where(wholes.is_alone[shown], shown + 1, 0)
    order = np.lexsort((alone, some.price, some.end, some.start, some.pool))
    keys = np.stack([some.pool, some.start, some.end, some.price, alone])[:, order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(is_first) - 1
    column[shown] = place
    units = np.bincount(place, some.units, minlength=int(is_first.sum()))
    return column, shown[order[is_first]], np.rint(units).astype(np.int64)


def _flows(market: Market, focus: Focus | None, wider: Flags | None) -> tuple[Ints, Ints]:
    mask, group = market.pair_mask, market.pair_group
    is_there = (market.demand_row[mask] >= 0) & (market.supply_row[group] >= 0)
    if focus is not None:
        mu = market.mu_of(np.where(market.supply_row >= 0, focus.lam, NEVER))
        near = focus.lam[group] - mu[mask] <= np.maximum(2, focus.lam[group] * FLOW_BAND)
        is_there &= near if wider is None else near | wider
    pair, slot = np.nonzero(is_there)
    return pair.astype(np.int64), slot.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some columns: cost, upper bound, and entries in the order of the columns."""

    cost: Floats
    upper: Floats
    entries: Ints  # [columns] how many
    rows: Ints
    values: Floats


def _step_entries(steps: Steps, rows: Ints, sign: float, market: Market, extra: tuple[Ints, Ints, Floats]) -> _Part:
    """One entry a step, and `extra` (steps, row, value) for caps and the budget."""
    own = rows.ravel()[steps.cell]
    at, row, value = extra
    owner = np.concatenate([np.arange(len(steps)), at])
    order = np.argsort(owner, kind="stable") if len(at) else np.arange(len(owner))
    return _Part(
        -sign * steps.price, steps.units.astype(np.float64), np.bincount(owner, minlength=len(steps)).astype(np.int64),
        np.concatenate([own, row])[order], np.concatenate([np.full(len(steps), sign), value])[order],
    )


def _demand_extra(market: Market, steps: Steps) -> tuple[Ints, Ints, Floats]:
    at = np.flatnonzero(market.is_foundation[steps.cell // market.slots])
    row = np.full(len(at), market.cells + len(market.cap_units), dtype=np.int64)
    return at, row, steps.price[at]


def _supply_extra(market: Market, steps: Steps) -> tuple[Ints, Ints, Floats]:
    cap = market.cap_of_pool[steps.cell // market.slots]
    at = np.flatnonzero(cap >= 0)
    return at, market.cells + cap[at], np.ones(len(at))


def _whole_entries(market: Market, wholes: Wholes, units: Ints, rows: Ints, sign: float) -> _Part:
    """One entry a slot; one more where the whole is capped, of the Foundation, or one of several."""
    lines = wholes.lines
    hours = lines.end - lines.start
    owner, slot = line_slots(lines.start, lines.end)
    row = rows[lines.pool[owner], slot]
    value = np.full(len(owner), sign)
    extra: list[tuple[Ints, Ints, Floats]] = []
    if sign > 0:
        first = market.cells + len(market.cap_units)
        at = np.flatnonzero(market.is_foundation[lines.pool])
        extra.append((at, np.full(len(at), first), (lines.price * hours)[at].astype(np.float64)))
        at = np.flatnonzero(wholes.choice >= 0)
        first += market.budget_ticks is not None
        extra.append((at, first + wholes.choice[at], 1.0 / lines.units[at]))
    else:
        cap = market.cap_of_pool[lines.pool]
        at = np.flatnonzero(cap >= 0)
        extra.append((at, market.cells + cap[at], hours[at].astype(np.float64)))
    owner = np.concatenate([owner, *(at for at, _, _ in extra)])
    order = np.argsort(owner, kind="stable")
    return _Part(
        (-sign * lines.price * hours).astype(np.float64), units.astype(np.float64),
        np.bincount(owner, minlength=len(lines)).astype(np.int64),
        np.concatenate([row, *(one for _, one, _ in extra)])[order].astype(np.int64),
        np.concatenate([value, *(one for _, _, one in extra)])[order],
    )


def _flow_entries(market: Market, pair: Ints, slot: Ints) -> _Part:
    rows = np.column_stack([market.demand_row[market.pair_mask[pair], slot],
                            market.supply_row[market.pair_group[pair], slot]]).ravel()
    count = len(pair)
    return _Part(np.zeros(count), np.full(count, np.inf), np.full(count, 2, dtype=np.int64), rows,
                 np.tile([-1.0, 1.0], count))


def _right_sides(market: Market, right: Floats, windows: Ints, whole_bids: Ints) -> tuple[Floats, Floats]:
    """Equal in cells of demand, from above in all others: capacity may stay idle, so no price is below zero.

    Caps and the budget have less what clear winners use of them.
    """
    lower, upper = right.copy(), right.copy()
    lower[int(market.is_wanted.sum()):] = -np.inf
    first = market.cells
    bids = market.whole_bids.lines.take(whole_bids == IN)
    cap = market.cap_of_pool[bids.pool]
    used = np.bincount(cap[cap >= 0], (bids.units * (bids.end - bids.start))[cap >= 0], minlength=len(market.cap_units))
    first += len(market.cap_units)
    upper[market.cells:first] = market.cap_units - used
    if market.budget_ticks is not None:
        won = market.windows.lines.take(windows == IN)
        cost = (won.units * won.price * (won.end - won.start))[market.is_foundation[won.pool]]
        upper[first] = market.budget_ticks - float(cost.sum())
        first += 1
    upper[first:] = 1.0
    return lower, upper


def _stack(parts: list[_Part]) -> Columns:
    cost = np.concatenate([part.cost for part in parts])
    starts = np.concatenate([[0], np.cumsum(np.concatenate([part.entries for part in parts]))]).astype(np.int64)
    return Columns(
        cost, np.zeros(len(cost)), np.concatenate([part.upper for part in parts]), starts,
        np.concatenate([part.rows for part in parts]), np.concatenate([part.values for part in parts]),
    )
