r"""An optimum of the whole programme, found in small parts of it: sweep, band, certify.

1. Sweep. Windows taken slot by slot, one small programme per slot over coarse buckets of price; each starts from the
   basis of the slot before, which stays dual feasible, so a slot costs some tens of pivots.
2. Band. The whole programme around the prices of the sweep, with lines next to each other merged, then in single ticks
   around the prices of that; an old basis maps to new columns, since the steps of a cell are equal unit vectors.
3. Look. The optimum in the band is one of the whole programme unless something out of sight would trade at its prices:
   lines beyond the band, windows taken for clear, flows taken for too dear. Then once more with that in sight, and with
   a narrower band everywhere else: prices are known by now, and fewer columns are solved sooner.

Small programmes are solved at once, with every step in sight. Either way ends at the same published numbers: `settle`
takes the unique dual and the unique fill out of all optimal ones.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pricing import errors, highs
from pricing.book import Flags, Ints
from pricing.highs import AT_LOWER, AT_UPPER, BASIC, Columns, Floats, Model
from pricing.market import Market, Wholes
from pricing.programme import IN, OUT, Programme, build_programme
from pricing.ranges import Lines, cover, range_sums
from pricing.steps import NEVER, Focus, Hidden, Steps
from pricing.threads import both

DIRECT_LINE_SLOTS = 250_000  # up to here the whole programme is one small solve
SWEEP_BUCKET = 0.05  # of a price
SWEEP_CELLS = 40_000_000  # of the histograms of a sweep
COARSE = (0.06, 0.06)  # band of lines, band of wholes: as parts of the price
FINE = (0.006, 0.03)  # of lines in a dense book; wider where fewer lines stand
WIDER = 4  # times as wide each time that a wide band was too narrow
WIDEST = 10.0  # of a price: nothing is beyond
CLOSE = 1 / 3  # of the fine band: around prices that it has found
DENSE_LINE_SLOTS = 32_000_000
FINE_MAX = 0.03
ROUNDS_MAX = 40  # then the whole programme at once
TOLERANCE = 1e-6  # far above the solver's 1e-9, far below the 1 that separates integers


Width = tuple[float, float]  # as in `COARSE`
Change = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


@dataclass(frozen=True, eq=False)
class Start:
    """Where a solve begins: prices near the optimum, and, where it is known, a basis near its own."""

    lam: Ints  # [G, slots] ticks
    rho: Ints  # [caps] ticks
    sigma: float
    basis: "Basis | None"
    near: Programme | None = None  # solved around these prices, of a market with the same divisible lines
    hidden: Hidden | None = None  # what had to be seen besides

    def without(self, windows: Flags, whole_bids: Flags) -> "Start":
        """The same for a market without these wholes."""
        return self._changed(lambda one: one[~windows], lambda one: one[~whole_bids])

    def with_window(self) -> "Start":
        """The same for a market with one more window, the last."""
        return self._changed(_and_one, lambda one: one)

    def with_whole_bid(self) -> "Start":
        return self._changed(lambda one: one, _and_one)

    def _changed(self, windows: Change, whole_bids: Change) -> "Start":
        basis, hidden = self.basis, self.hidden
        if basis is not None:
            basis = replace(basis, windows=windows(basis.windows), whole_bids=whole_bids(basis.whole_bids))
        if hidden is not None:
            hidden = replace(hidden, windows=windows(hidden.windows), whole_bids=whole_bids(hidden.whole_bids))
        return replace(self, basis=basis, hidden=hidden)


def _and_one(status: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """At the lower bound, or not hidden: both are nought."""
    return np.append(status, np.zeros(1, dtype=status.dtype))


@dataclass(frozen=True, eq=False)
class Basis:
    """A basis by cell, so that it fits any choice of steps."""

    demand_fill: Floats  # [demand pools, slots] units of divisible demand
    demand_price: Floats  # [demand pools, slots] ticks of the basic step, NaN without
    supply_fill: Floats  # [supply pools, slots]
    supply_price: Floats
    flow_basic: Flags  # [pairs, slots]
    rows_basic: Flags  # [rows]
    windows: highs.Statuses  # [windows]
    whole_bids: highs.Statuses  # [whole bids]


@dataclass(eq=False)
class Solved:
    """A solved programme that can be asked again."""

    programme: Programme
    model: Model
    rounds: int

    def read(self) -> "Point":
        return _read_point(self.programme, self.model)


@dataclass(frozen=True, eq=False)
class Point:
    """One optimum: the fill of every column, and the duals in the market's terms."""

    x: Floats  # [columns]
    lam: Floats  # [G, slots] ticks
    mu: Floats  # [S + variants, slots] ticks
    rho: Floats  # [caps] ticks
    sigma: float


def solve_market(market: Market, start: Start | None = None) -> Solved:
    """An optimum of the whole programme. Raises `SolverFailed`."""
    if market.line_slot_count() <= DIRECT_LINE_SLOTS:
        return run(build_programme(market, None), start.basis if start else None, 1)
    try:
        return _solve_in_parts(market, start)
    except errors.SolverFailed:  # clear winners that a cap or the budget does not let stand together
        return run(build_programme(market, None), None, 1)


def _solve_in_parts(market: Market, start: Start | None) -> Solved:
    rounds = 0
    if start is None or start.near is None:  # prices of another book are a start for the wide band only
        is_known = start is not None
        start = start or sweep(market)
        focus = replace(focus_on(market, start, COARSE, None), is_coarse=True, is_graded=is_known)
        coarse = run(build_programme(market, focus), start.basis, 1)
        rounds = 1
        start = replace(next_start(coarse), near=None, hidden=hidden_at(coarse.programme, coarse.read()))
    solved = run(_build_near(market, start), start.basis, rounds + 1)
    while not (found := hidden_at(solved.programme, solved.read())).is_empty:
        solved = look_again(solved, found)
    return solved


def look_again(solved: Solved, found: Hidden) -> Solved:
    """Solve once more with what was found in sight; the whole programme after too many rounds."""
    market, focus = solved.programme.market, solved.programme.focus
    if solved.rounds >= ROUNDS_MAX or focus is None:
        return run(build_programme(market, None), None, solved.rounds + 1)
    start = next_start(solved)
    line, whole = _fine_width(market)
    close = focus_on(market, start, (line * CLOSE, whole), None)
    demand, supply = _moved(focus, close)
    shown, wide = focus.hidden, focus.wide
    if shown is not None and (again := found.of_both(shown)).has_cells:  # even the wide band was too narrow there
        shown, wide = shown.less(again), min(WIDEST, wide * WIDER)
    seen = replace(found, demand=found.demand | demand, supply=found.supply | supply).and_(focus.hidden)
    if focus.band <= close.band:
        close = _recentred(focus, close, seen if shown is None else seen.less(shown))
    known = replace(solved.programme, focus=replace(focus, hidden=shown))
    return run(build_programme(market, replace(close, hidden=seen, wide=wide), known), start.basis, solved.rounds + 1)


def _recentred(focus: Focus, now: Focus, changed: Hidden) -> Focus:
    """The same focus, but for the cells that change: these are seen around the prices of now."""
    return replace(focus, demand=np.where(changed.demand, now.demand, focus.demand),
                   supply=np.where(changed.supply, now.supply, focus.supply))


def _build_near(market: Market, start: Start) -> Programme:
    """The programme around a start; steps that an earlier one has merged are taken from it."""
    near = start.near
    if near is not None and near.focus is not None and near.market.divisible is market.divisible:
        return build_programme(market, replace(near.focus, hidden=start.hidden), near)
    return build_programme(market, focus_on(market, start, _fine_width(market), start.hidden))


def _fine_width(market: Market) -> Width:
    """The fine width, with about as many lines in the band whatever the size of the book."""
    line, whole = FINE
    count = sum(int((lines.end - lines.start).sum()) for lines in (market.divisible, market.offered))
    return min(FINE_MAX, line * max(1.0, DENSE_LINE_SLOTS / max(1, count))), whole


def focus_on(
    market: Market, start: Start, width: Width, hidden: Hidden | None
) -> Focus:
    """The focus around the prices of a start; `width` is as in `COARSE`."""
    lam = np.where(market.is_offered, start.lam, NEVER)
    mu = market.mu_of(lam)[market.mask_of_pool]
    kept = np.where(market.is_foundation, max(1.0 - start.sigma, 1e-3), 1.0)
    demand = np.where(mu >= NEVER, NEVER, (np.minimum(mu, NEVER) / kept[:, None]).astype(np.int64))
    return Focus(demand, pool_prices(market, lam, start.rho), lam, *width, False, hidden)


def pool_prices(market: Market, lam: Ints, rho: Ints) -> Ints:
    """What a bid of each pool is compared with: lam, less what a cap takes.  # int64 [supply pools, slots] ticks"""
    taken = np.append(rho, 0)[market.cap_of_pool]  # no cap is -1, the last
    prices: Ints = np.maximum(lam[market.group_of_pool] - taken[:, None], 0)
    return prices


def next_start(solved: Solved) -> Start:
    point = solved.read()
    focus = solved.programme.focus
    return Start(np.rint(point.lam).astype(np.int64), np.rint(point.rho).astype(np.int64), point.sigma,
                 _read_basis(solved, point.x), solved.programme, focus.hidden if focus else None)


def run(programme: Programme, basis: Basis | None, rounds: int) -> Solved:
    """Solve a programme, from a basis where one is known."""
    model = highs.new_model(programme.columns, programme.row_lower, programme.row_upper + programme.gifts())
    if basis is not None:
        model.set_basis(*_map_basis(programme, basis))
    model.run()
    return Solved(programme, model, rounds)


def _read_point(programme: Programme, model: Model) -> Point:
    duals = model.row_duals
    return Point(model.x, programme.lam_of(duals), programme.mu_of(duals), programme.rho_of(duals),
                 programme.sigma_of(duals))


# -- what is out of sight ----------------------------------------------------------------------------------------------


def hidden_at(programme: Programme, point: Point) -> Hidden:
    """What of the market contradicts this optimum of the programme."""
    market = programme.market
    lam = np.where(market.supply_row >= 0, point.lam, float(NEVER))
    mu = least_of_masks(market, lam)
    kept = np.where(market.is_foundation, 1.0 - point.sigma, 1.0)
    windows = market.windows.lines
    gain = kept[windows.pool] * windows.price * (windows.end - windows.start) - float_sums(
        mu[market.mask_of_pool], windows)
    tolerance = TOLERANCE * 1_000
    wrong = ((programme.window_column == OUT) & (gain > tolerance)) | (
        (programme.window_column == IN) & (gain < -tolerance))
    bids = market.whole_bids.lines
    rho = np.append(point.rho, 0.0)[market.cap_of_pool]
    price = lam[market.group_of_pool] - rho[:, None]
    earned = float_sums(price, bids) - bids.price * (bids.end - bids.start)
    wrong_bids = ((programme.whole_bid_column == OUT) & (earned > tolerance)) | (
        (programme.whole_bid_column == IN) & (earned < -tolerance))
    kept_flow = np.zeros((len(market.pair_mask), market.slots), dtype=np.bool_)
    kept_flow[programme.flow_pair, programme.flow_slot] = True
    flows = (~kept_flow & (market.demand_row[market.pair_mask] >= 0) & (market.supply_row[market.pair_group] >= 0)
             & (lam[market.pair_group] < point.mu[market.pair_mask] - tolerance))
    fills = programme.split(point.x)
    short = np.zeros(market.rows + 1, dtype=np.int64)  # the last for cells that are no row
    short[programme.short_row[fills[5] > TOLERANCE]] = 1
    short_cell = np.where(market.demand_row >= 0, short[market.demand_row], 0)[market.mask_of_pool]
    wrong |= (programme.window_column == IN) & (range_sums(short_cell, windows.pool, windows.start, windows.end) > 0)
    return Hidden(
        _beyond_wrongly(programme.demand, fills[0], 1, (len(market.mask_of_pool), market.slots)),
        _beyond_wrongly(programme.supply, fills[1], -1, (len(market.group_of_pool), market.slots)),
        wrong, wrong_bids, flows,
    )


def _moved(focus: Focus, now: Focus) -> tuple[Flags, Flags]:
    """The cells of both sides whose price went beyond half the band: not yet out of sight, but the next to be."""
    edge = focus.band / 2
    return (np.abs(now.demand - focus.demand) > edge * focus.demand,
            np.abs(now.supply - focus.supply) > edge * focus.supply)


def beyond_at(programme: Programme, x: Floats) -> Hidden:
    """The cells where this fill uses steps beyond the band in part, and nothing else."""
    market = programme.market
    fills = programme.split(x)
    return Hidden(
        _beyond_wrongly(programme.demand, fills[0], 1, (len(market.mask_of_pool), market.slots)),
        _beyond_wrongly(programme.supply, fills[1], -1, (len(market.group_of_pool), market.slots)),
        np.zeros(len(market.windows), dtype=np.bool_), np.zeros(len(market.whole_bids), dtype=np.bool_),
        np.zeros((len(market.pair_mask), market.slots), dtype=np.bool_),
    )


def _beyond_wrongly(steps: Steps, fill: Floats, full: int, shape: tuple[int, int]) -> Flags:
    """Cells where what lies beyond the band is not all in or all out, as its side of it demands."""
    wrong = (steps.beyond == full) & (fill < steps.units - TOLERANCE) | (steps.beyond == -full) & (fill > TOLERANCE)
    found: Flags = (np.bincount(steps.cell[wrong], minlength=shape[0] * shape[1]) > 0).reshape(shape)
    return found


def float_sums(grid: Floats, lines: Lines) -> Floats:
    before = np.zeros((grid.shape[0], grid.shape[1] + 1))
    np.cumsum(grid, axis=1, out=before[:, 1:])
    sums: Floats = before[lines.pool, lines.end] - before[lines.pool, lines.start]
    return sums


# -- bases -------------------------------------------------------------------------------------------------------------


def _read_basis(solved: Solved, x: Floats) -> Basis | None:
    told = solved.model.basis()
    if told is None:
        return None
    programme, (columns, rows) = solved.programme, told
    market = programme.market
    d, z, y, w, f, _ = np.split(columns, np.cumsum(programme.counts)[:-1])
    fills = programme.split(x)
    shapes = (len(market.mask_of_pool), market.slots), (len(market.group_of_pool), market.slots)
    flow_basic = np.zeros((len(market.pair_mask), market.slots), dtype=np.bool_)
    flow_basic[programme.flow_pair[f], programme.flow_slot[f]] = True
    return Basis(
        *_by_cell(programme.demand, fills[0], d, shapes[0]), *_by_cell(programme.supply, fills[1], z, shapes[1]),
        flow_basic, rows, _read_wholes(programme.window_column, programme.window_units, fills[2], y),
        _read_wholes(programme.whole_bid_column, programme.whole_bid_units, fills[3], w),
    )


def _read_wholes(column: Ints, units: Ints, fill: Floats, basic: Flags) -> highs.Statuses:
    of_column = np.where(basic, BASIC, np.where(fill > units / 2, AT_UPPER, AT_LOWER))
    of_column = np.append(of_column, [AT_UPPER, AT_LOWER])  # IN is -2, OUT is -1
    return of_column[column].astype(np.int8)


def _by_cell(steps: Steps, fill: Floats, basic: Flags, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """The fill of each cell, and the price of its basic step."""
    cells = shape[0] * shape[1]
    price = np.full(cells, np.nan)
    price[steps.cell[basic]] = steps.price[basic]
    return np.bincount(steps.cell, fill, minlength=cells).astype(np.float64).reshape(shape), price.reshape(shape)


def _map_basis(programme: Programme, basis: Basis) -> tuple[highs.Statuses, Flags]:
    """Statuses of columns and rows that say the same as the old basis; as many are basic as there are rows."""
    demand = _step_status(programme.demand, basis.demand_fill, basis.demand_price, is_supply=False)
    supply = _step_status(programme.supply, basis.supply_fill, basis.supply_price, is_supply=True)
    windows = basis.windows[programme.window_first]
    bids = basis.whole_bids[programme.whole_bid_first]
    flows = np.where(basis.flow_basic[programme.flow_pair, programme.flow_slot], BASIC, AT_LOWER).astype(np.int8)
    short = np.full(len(programme.short_row), AT_LOWER, dtype=np.int8)
    columns = np.concatenate([demand, supply, windows, bids, flows, short])
    return columns, balanced_rows(basis.rows_basic, int((columns == BASIC).sum()))


def balanced_rows(rows: Flags, columns_basic: int) -> Flags:
    """The same basic rows, with some more or fewer, so that with the columns as many are basic as there are rows."""
    balanced = rows.copy()
    missing = len(rows) - columns_basic - int(rows.sum())
    if missing > 0:
        balanced[np.flatnonzero(~rows)[:missing]] = True  # the solver mends what is singular
    elif missing < 0:
        balanced[np.flatnonzero(rows)[:-missing]] = False
    return balanced


def _step_status(steps: Steps, fill: Floats, price: Floats, *, is_supply: bool) -> highs.Statuses:
    """Where a cell had a basic step: the one of the same price is basic, else the one that the old fill reaches.

    The steps before it are full, so the cell's price stays about what it was.
    """
    order = slice(None, None, 1 if is_supply else -1)  # by cell, the best step first
    cell, units = steps.cell[order], steps.units[order].astype(np.float64)
    is_first = np.diff(cell, prepend=-1) != 0
    is_last = np.append(is_first[1:], True)[:len(cell)]
    before = np.cumsum(units) - units
    before -= np.repeat(before[is_first], np.diff(np.append(np.flatnonzero(is_first), len(cell))))
    wanted, old = fill.ravel()[cell], price.ravel()[cell]
    reaches = (before <= wanted) & ((wanted < before + units) | is_last)
    same = steps.price[order] == old
    has_same = np.zeros(fill.size, dtype=np.bool_)
    has_same[cell[same]] = True
    basic = np.where(has_same[cell], same, reaches & ~np.isnan(old))
    status = np.where(before + units <= wanted + TOLERANCE, AT_UPPER, AT_LOWER).astype(np.int8)
    status[basic] = BASIC
    result = np.empty_like(status)
    result[order] = status
    return result


# -- the sweep ---------------------------------------------------------------------------------------------------------


def sweep(market: Market) -> Start:
    """Prices near the optimum, by one small programme per slot in which windows ask slot by slot."""
    bucket = SWEEP_BUCKET
    edges = _edges(market, bucket)
    pools = len(market.mask_of_pool) + len(market.group_of_pool)
    while pools * market.slots * len(edges) > SWEEP_CELLS and bucket < 0.5:
        bucket *= 1.5
        edges = _edges(market, bucket)
    wanted, offered = both(
        lambda: _histogram([market.divisible, market.windows.lines], len(market.mask_of_pool), market.slots, edges),
        lambda: _histogram([market.offered, market.whole_bids.lines], len(market.group_of_pool), market.slots, edges))
    middle = (edges + np.append(edges[1:], edges[-1] + 1) - 1) / 2

    def solve(slots: range) -> list[_SlotFound]:
        one = _OneSlot(market, wanted, offered, middle)
        return [one.solve(slot) for slot in slots]

    half = market.slots // 2
    first, second = both(lambda: solve(range(half)), lambda: solve(range(half, market.slots)))
    found = first + second
    lam = np.stack([slot.lam for slot in found], axis=1)
    rho = np.zeros(len(market.cap_units), dtype=np.int64)
    return Start(np.rint(lam).astype(np.int64), rho, 0.0, _basis_of(market, found))


def _edges(market: Market, bucket: float) -> Ints:
    """Lower edges of buckets that grow with the price, in whole ticks."""
    parts = (market.divisible, market.windows.lines, market.offered, market.whole_bids.lines)
    prices = np.concatenate([part.price for part in parts])
    edges = [int(prices.min())]
    while edges[-1] <= int(prices.max()):
        edges.append(max(edges[-1] + 1, int(edges[-1] * (1 + bucket))))
    return np.array(edges[:-1], dtype=np.int64)


def _histogram(parts: list[Lines], pools: int, slots: int, edges: Ints) -> Floats:
    """Units by pool, bucket and slot.  # float64 [pools, buckets, slots]"""
    total = np.zeros((pools * len(edges), slots), dtype=np.int64)
    for lines in parts:
        bucket = np.searchsorted(edges, lines.price, side="right") - 1
        in_bucket = replace(lines, pool=lines.pool * len(edges) + bucket)
        total += cover(in_bucket, lines.units, len(total), slots)
    return total.reshape(pools, len(edges), slots).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _SlotFound:
    lam: Floats  # [G]
    demand_fill: Floats  # [demand pools]
    demand_price: Floats  # [demand pools] ticks of the basic step, NaN without
    supply_fill: Floats  # [supply pools]
    supply_price: Floats
    flow_basic: Flags  # [pairs]
    rows_basic: Flags  # [S + variants + G]


class _OneSlot:
    """The programme of one slot; from slot to slot only the units of its steps change."""

    def __init__(self, market: Market, wanted: Floats, offered: Floats, price: Floats) -> None:
        self._market = market
        self._pool, at = np.nonzero(wanted.sum(axis=2) > 0)
        self._supply_pool, supply_at = np.nonzero(offered.sum(axis=2) > 0)
        self._units = np.concatenate([wanted[self._pool, at], offered[self._supply_pool, supply_at]])
        self._price = np.concatenate([price[at], price[supply_at]])
        masks = len(market.accepts)
        steps, flows = len(self._units), len(market.pair_mask)
        columns = Columns(
            cost=np.concatenate([-price[at], price[supply_at], np.zeros(flows)]), lower=np.zeros(steps + flows),
            upper=np.concatenate([self._units[:, 0], np.full(flows, np.inf)]),
            starts=np.concatenate([np.arange(steps), steps + 2 * np.arange(flows + 1)]),
            rows=np.concatenate([
                market.mask_of_pool[self._pool], masks + market.group_of_pool[self._supply_pool],
                np.column_stack([market.pair_mask, masks + market.pair_group]).ravel(),
            ]),
            values=np.concatenate([np.ones(len(self._pool)), -np.ones(len(self._supply_pool)),
                                   np.tile([-1.0, 1.0], flows)]),
        )
        zero = np.zeros(masks + market.accepts.shape[1])
        self._model = highs.new_model(columns, zero, zero)

    def solve(self, slot: int) -> _SlotFound:
        market, steps = self._market, len(self._units)
        self._model.set_bounds(np.arange(steps), np.zeros(steps), self._units[:, slot])
        self._model.run()
        x, told = self._model.x, self._model.basis()
        basic, rows = told if told else (np.zeros(len(x), dtype=np.bool_), np.zeros(0, dtype=np.bool_))
        split = len(self._pool)
        demand, supply, flows = slice(0, split), slice(split, steps), slice(steps, None)
        pools, supply_pools = len(market.mask_of_pool), len(market.group_of_pool)
        return _SlotFound(
            -self._model.row_duals[len(market.accepts):],
            np.bincount(self._pool, x[demand], minlength=pools).astype(np.float64),
            self._basic_price(self._pool, basic[demand], self._price[demand], pools),
            np.bincount(self._supply_pool, x[supply], minlength=supply_pools).astype(np.float64),
            self._basic_price(self._supply_pool, basic[supply], self._price[supply], supply_pools),
            basic[flows], rows,
        )

    @staticmethod
    def _basic_price(pool: Ints, basic: Flags, price: Floats, pools: int) -> Floats:
        found = np.full(pools, np.nan)
        found[pool[basic]] = price[basic]
        return found


def _basis_of(market: Market, found: list[_SlotFound]) -> Basis | None:
    """The basis of the whole programme that the slots make together; windows stand at a bound."""
    if not len(found[0].rows_basic):
        return None

    def grid(name: str) -> Floats:
        return np.stack([getattr(slot, name) for slot in found], axis=1)

    rows = np.zeros(market.rows, dtype=np.bool_)
    by_cell = grid("rows_basic") > 0
    masks = len(market.accepts)
    for row, basic in ((market.demand_row, by_cell[:masks]), (market.supply_row, by_cell[masks:])):
        rows[row[row >= 0]] = basic[row >= 0]
    rows[market.cells:] = True
    lam = grid("lam")
    return Basis(
        grid("demand_fill"), grid("demand_price"), grid("supply_fill"), grid("supply_price"),
        grid("flow_basic") > 0, rows,
        _side_of(market.windows.lines, least_of_masks(market, lam)[market.mask_of_pool], 1),
        _side_of(market.whole_bids.lines, lam[market.group_of_pool], -1),
    )


def _side_of(lines: Lines, met: Floats, sign: int) -> highs.Statuses:
    gain = sign * (lines.price * (lines.end - lines.start) - float_sums(met, lines))
    return np.where(gain > 0, AT_UPPER, AT_LOWER).astype(np.int8)


def least_of_masks(market: Market, lam: Floats) -> Floats:
    """The least lam that each mask accepts.  # float64 [S + variants, slots]"""
    least = [lam[accepted].min(axis=0, initial=float(NEVER)) for accepted in market.accepts]
    return np.array(least, dtype=np.float64).reshape(len(market.accepts), market.slots)


# -- from one book to the next -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Named:
    """A market and what of it keeps its name when lines come and go."""

    market: Market
    groups: tuple[tuple[str, ...], ...]
    masks: tuple[frozenset[tuple[str, ...]], ...]
    demand_ids: tuple[str, ...]  # of the book
    bid_ids: tuple[str, ...]


def carry_over(start: Start, old: Named, new: Named) -> Start | None:
    """The start for an amended market; None where its products or rules are too different to be worth it."""
    group, mask = _places(old.groups, new.groups), _places(old.masks, new.masks)
    if (group < 0).any() or new.market.slots != old.market.slots:
        return None
    lam = start.lam[group]
    same = len(old.masks) == len(new.masks) and not (mask < 0).any() and not old.market.choices
    if start.basis is None or not same or len(new.market.cap_units) or new.market.is_foundation.any():
        return Start(lam, np.zeros(len(new.market.cap_units), dtype=np.int64), 0.0, None)
    basis = start.basis
    pairs = {(int(s), int(g)): n for n, (s, g) in enumerate(zip(old.market.pair_mask, old.market.pair_group,
                                                                strict=True))}
    pair = [pairs[int(mask[s]), int(group[g])] for s, g in zip(new.market.pair_mask, new.market.pair_group,
                                                               strict=True)]
    demand = _pool_places(old.market.mask_of_pool, mask[new.market.mask_of_pool])
    supply = _pool_places(old.market.group_of_pool, group[new.market.group_of_pool])
    rows = np.zeros(new.market.rows, dtype=np.bool_)
    for was, is_now, place in ((old.market.demand_row, new.market.demand_row, mask),
                               (old.market.supply_row, new.market.supply_row, group)):
        before = was[place]
        both = (before >= 0) & (is_now >= 0)
        rows[is_now[both]] = basis.rows_basic[before[both]]
    lower = np.where(new.market.is_offered, lam, NEVER).astype(np.float64)
    windows = _side_of(new.market.windows.lines, least_of_masks(new.market, lower)[new.market.mask_of_pool], 1)
    bids = _side_of(new.market.whole_bids.lines, lower[new.market.group_of_pool], -1)
    return Start(lam, start.rho[:0], 0.0, Basis(
        basis.demand_fill[demand], basis.demand_price[demand], basis.supply_fill[supply], basis.supply_price[supply],
        basis.flow_basic[pair], rows,
        _by_name(_basic_names(old.market.windows, basis.windows, old.demand_ids), new.market.windows, new.demand_ids,
                 windows),
        _by_name(_basic_names(old.market.whole_bids, basis.whole_bids, old.bid_ids), new.market.whole_bids,
                 new.bid_ids, bids),
    ))


def _places(old: tuple[Hashable, ...], new: tuple[Hashable, ...]) -> Ints:
    place = {name: n for n, name in enumerate(old)}
    return np.array([place.get(name, -1) for name in new], dtype=np.int64)


def _pool_places(old: Ints, new: Ints) -> Ints:
    """The old pool of each new one; a new pool of an old mask borrows the first."""
    place = {int(mask): n for n, mask in reversed(list(enumerate(old)))}
    return np.array([place.get(int(mask), 0) for mask in new], dtype=np.int64)


def _basic_names(wholes: Wholes, status: highs.Statuses, ids: tuple[str, ...]) -> set[str]:
    return {ids[line] for line in wholes.lines.line[status == BASIC].tolist()}


def _by_name(basic: set[str], wholes: Wholes, ids: tuple[str, ...], otherwise: highs.Statuses) -> highs.Statuses:
    """Basic where a line of that name was; all others on the side that their gain puts them on."""
    is_basic = [ids[line] in basic for line in wholes.lines.line.tolist()]
    return np.where(np.array(is_basic, dtype=np.bool_), BASIC, otherwise).astype(np.int8)
