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

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pricing.book import DIVISIBLE, TICK_MICROS, Book, Flags, Ints
from pricing.draws import WEIGHT_BITS, mixed
from pricing.eligibility import Eligibility, distinct_codes
from pricing.highs import Columns, Floats
from pricing.ladder import Ladder, ladder_of
from pricing.ranges import Lines, cover, join_lines, line_slots, range_sums
from pricing.steps import NEVER, Focus, Hidden, Steps, in_order, merge_steps, narrow_steps, reach_of, widen_steps
from pricing.threads import both

NO_CAP = -1
GIFT_TOTAL = 0.25  # units, over all cells: prices answer, quantities cannot
GIFT_FALLS = 8  # from one draw to the next
FLOW_BAND = 0.12  # of a price: a missing flow tears two prices apart


@dataclass(frozen=True, eq=False)
class Wholes:
    """Lines with one number of units over all their slots: windows and blocks, or bids with a minimum.

    A line that must be in one site stands here once per site.
    """

    lines: Lines  # pool is the pool of the side
    minimum: Ints  # [wholes] units
    choice: Ints  # [wholes] place of the row of alternatives, -1 without

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def is_alone(self) -> Flags:
        """Lines that merge with no other."""
        flags: Flags = (self.minimum > 0) | (self.choice >= 0)
        return flags

    def take(self, chosen: Ints | Flags) -> "Wholes":
        return Wholes(self.lines.take(chosen), self.minimum[chosen], self.choice[chosen])


def join_wholes(one: Wholes, other: Wholes) -> Wholes:
    return Wholes(join_lines(one.lines, other.lines), np.append(one.minimum, other.minimum),
                  np.append(one.choice, other.choice))


@dataclass(frozen=True, eq=False)
class Market:
    """The lines that can meet anything at all, and what they meet."""

    slots: int
    group_of_signature: Ints  # [A], -1 where nobody accepts it
    accepts: Flags  # [S + variants, G]
    mask_of_pool: Ints  # [demand pools]
    is_foundation: Flags  # [demand pools]
    group_of_pool: Ints  # [supply pools]
    cap_of_pool: Ints  # [supply pools], NO_CAP without
    divisible: Lines
    windows: Wholes
    offered: Lines
    whole_bids: Wholes
    is_offered: Flags  # [G, slots] some bid stands there
    cap_units: Ints  # [caps] unit-hours
    budget_ticks: int | None
    choices: int
    is_wanted: Flags  # [S + variants, slots] cells with demand that something may serve: the rows of demand
    gifts: Floats  # [G, slots] units for nothing, too few to matter: they make the least of all optimal prices optimal
    shared_gift: float = GIFT_TOTAL  # the same for caps and the budget, over all of them

    @cached_property
    def is_served(self) -> Flags:
        """[S + variants, slots] cells where some accepted bid stands."""
        served: Flags = (self.accepts.astype(np.int64) @ self.is_offered.astype(np.int64)) > 0
        return served

    @cached_property
    def demand_row(self) -> Ints:
        """[S + variants, slots] row of the cell, -1 without."""
        return _number(self.is_wanted, 0)

    @cached_property
    def supply_row(self) -> Ints:
        """[G, slots] row of the cell, -1 without."""
        usable = (self.accepts.T.astype(np.int64) @ self.is_wanted.astype(np.int64) > 0) & self.is_offered
        bids = self.whole_bids.lines
        if len(bids):  # they sell in all their slots or in none, so the others count as well
            ones = np.ones(len(bids), dtype=np.int64)
            by_pool = cover(bids, ones, len(self.group_of_pool), self.slots) > 0
            np.logical_or.at(usable, self.group_of_pool, by_pool)
        return _number(usable, int(self.is_wanted.sum()))

    @property
    def demand_ladder(self) -> Ladder:
        return ladder_of(self.divisible, (len(self.mask_of_pool), self.slots))

    @property
    def supply_ladder(self) -> Ladder:
        return ladder_of(self.offered, (len(self.group_of_pool), self.slots))

    @cached_property
    def pair_mask(self) -> Ints:
        return np.nonzero(self.accepts)[0].astype(np.int64)

    @cached_property
    def pair_group(self) -> Ints:
        return np.nonzero(self.accepts)[1].astype(np.int64)

    @property
    def cells(self) -> int:
        """Rows of demand and supply."""
        return int(self.is_wanted.sum() + (self.supply_row >= 0).sum())

    @property
    def rows(self) -> int:
        return self.cells + len(self.cap_units) + (self.budget_ticks is not None) + self.choices

    def line_slot_count(self) -> int:
        return sum(int((lines.end - lines.start).sum())
                   for lines in (self.divisible, self.windows.lines, self.offered, self.whole_bids.lines))

    def mu_of(self, lam: Ints) -> Ints:
        """The least lam among the groups that each mask accepts.  # int64 [S + variants, slots] ticks"""
        mu = np.full((len(self.accepts), self.slots), NEVER, dtype=np.int64)
        for s, accepted in enumerate(self.accepts):
            if accepted.any():
                mu[s] = lam[accepted].min(axis=0)
        return mu

    def without_budget(self, divisible: Lines, windows: Wholes) -> "Market":
        """The market with these demands in place of its own, which together keep to the budget."""
        copy = replace(self, divisible=divisible, windows=windows, budget_ticks=None,
                       is_foundation=np.zeros(len(self.mask_of_pool), dtype=np.bool_))
        copy.__dict__["supply_row"] = self.supply_row
        return copy

    def without_caps(self, offered: Lines, whole_bids: Wholes) -> "Market":
        """The market with these bids in place of its own, which together keep to the caps."""
        copy = replace(self, offered=offered, whole_bids=whole_bids, cap_units=np.zeros(0, dtype=np.int64),
                       cap_of_pool=np.full(len(self.cap_of_pool), NO_CAP, dtype=np.int64))
        copy.__dict__["supply_row"] = self.supply_row
        return copy

    def in_micros(self) -> "Market":
        """The same lines and budget with prices in micro-USD in place of ticks; only for adding up."""
        def scaled(lines: Lines) -> Lines:
            return replace(lines, price=lines.price * TICK_MICROS)

        return replace(
            self, divisible=scaled(self.divisible), windows=replace(self.windows, lines=scaled(self.windows.lines)),
            offered=scaled(self.offered), whole_bids=replace(self.whole_bids, lines=scaled(self.whole_bids.lines)),
            budget_ticks=None if self.budget_ticks is None else self.budget_ticks * TICK_MICROS)

    def with_windows(self, windows: Wholes) -> "Market":
        return self._with_rows(windows=windows)

    def with_window(self, one: Wholes) -> "Market":
        return self._with_rows(windows=join_wholes(self.windows, one))

    def with_whole_bid(self, one: Wholes) -> "Market":
        return self._with_rows(whole_bids=join_wholes(self.whole_bids, one))

    def _with_rows(self, **parts: Wholes) -> "Market":
        """A copy with other wholes. Its rows stay, so that a basis of it stays one."""
        copy = replace(self, **parts)  # type: ignore[arg-type]
        copy.__dict__["supply_row"] = self.supply_row
        return copy

    def without(self, windows: Flags, whole_bids: Flags) -> "Market":
        """The market without these wholes."""
        return self._with_rows(windows=self.windows.take(~windows), whole_bids=self.whole_bids.take(~whole_bids))


def _number(cells: Flags, first: int) -> Ints:
    rows = np.full(cells.shape, -1, dtype=np.int64)
    rows[cells] = first + np.arange(int(cells.sum()))
    return rows


@dataclass(frozen=True, eq=False)
class CapRow:
    """A cap of the programme: which bids it counts, and how many unit-hours they may sell together."""

    bids: Flags  # [bids]
    units_max: int


def make_market(
    book: Book, eligibility: Eligibility, *, caps: tuple[CapRow, ...] = (), budget_micros: int | None = None
) -> Market:
    """The book as the programme sees it. `budget_micros` None: the Foundation's budget cannot bind."""
    demands, bids = book.demands, book.bids
    variants = _site_variants(book, eligibility)
    accepts_signature = np.concatenate([eligibility.accepts, variants.accepts])
    groups, group_of = _group_signatures(accepts_signature)
    group_of_bid = group_of[eligibility.signature_of_bid]
    cap_of_bid = np.full(len(bids), NO_CAP, dtype=np.int64)
    for place, cap in enumerate(caps):
        cap_of_bid[cap.bids] = place
    stands = group_of_bid >= 0
    supply_pools, supply_pool = _pairs(group_of_bid[stands], cap_of_bid[stands])
    all_bids = Lines(np.full(len(bids), -1), bids.ask // TICK_MICROS, bids.quantity, bids.start, bids.end,
                     np.arange(len(bids)))
    all_bids.pool[stands] = supply_pool
    by_group = Lines(group_of_bid[stands], *_rest(all_bids.take(stands)))
    is_offered = cover(by_group, np.ones(int(stands.sum()), dtype=np.int64), groups, book.slots) > 0

    foundation = demands.is_foundation if budget_micros is not None else np.zeros(len(demands), dtype=np.bool_)
    line = np.concatenate([np.flatnonzero((eligibility.mask_of_demand >= 0) & ~demands.is_one_site), variants.line])
    mask = np.concatenate([eligibility.mask_of_demand[line[:len(line) - len(variants.line)]],
                           len(eligibility.masks) + np.arange(len(variants.line))])
    demand_pools, pool = _pairs(mask, foundation[line].astype(np.int64))
    all_demands = Lines(pool, demands.price[line] // TICK_MICROS, demands.quantity[line], demands.start[line],
                        demands.end[line], line)
    is_divisible = demands.kind[line] == DIVISIBLE
    choice, choices = _number_choices(book, line)
    market = Market(
        slots=book.slots, group_of_signature=group_of, accepts=_by_group(accepts_signature, group_of, groups),
        mask_of_pool=demand_pools[0], is_foundation=demand_pools[1] > 0,
        group_of_pool=supply_pools[0], cap_of_pool=supply_pools[1],
        divisible=all_demands.take(is_divisible),
        windows=Wholes(all_demands, demands.minimum[line], choice).take(~is_divisible),
        offered=all_bids.take(stands & (bids.minimum == 0)),
        whole_bids=Wholes(all_bids, bids.minimum, np.full(len(bids), -1)).take(stands & (bids.minimum > 0)),
        is_offered=is_offered, cap_units=np.array([cap.units_max for cap in caps], dtype=np.int64),
        budget_ticks=None if budget_micros is None else budget_micros // TICK_MICROS, choices=choices,
        is_wanted=np.zeros((len(accepts_signature), book.slots), dtype=np.bool_),
        gifts=_gifts(book, groups),
    )
    return _without_unserved(market)


def draw_again(book: Book, market: Market, draw: int) -> Market:
    """The market with other and smaller gifts, where the first draw put prices between two ticks or moved its fill."""
    copy = replace(market, gifts=_gifts(book, market.accepts.shape[1], draw) / GIFT_FALLS**draw,
                   shared_gift=GIFT_TOTAL / GIFT_FALLS**draw)
    copy.__dict__["supply_row"] = market.supply_row
    return copy


def _gifts(book: Book, groups: int, draw: int = 0) -> Floats:
    group, slot = (part.ravel() for part in np.indices((groups, book.slots)))
    weights = mixed(book.input_hash, 1 + (draw << 8), group, slot) / (1 << WEIGHT_BITS)
    return (weights * min(1e-4, GIFT_TOTAL / max(1, 2 * len(group)))).reshape(groups, book.slots)


def _rest(lines: Lines) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    return lines.price, lines.units, lines.start, lines.end, lines.line


@dataclass(frozen=True, eq=False)
class _Variants:
    line: Ints  # [variants] place in the book
    accepts: Flags  # [variants, A]


def _site_variants(book: Book, eligibility: Eligibility) -> _Variants:
    """A line that must be in one site is one alternative per site; each has a mask of its own."""
    lines, accepts = [], []
    sites: dict[str, list[int]] = defaultdict(list)
    for a, signature in enumerate(eligibility.signatures):
        sites[signature.attributes.site].append(a)
    for i in np.flatnonzero(book.demands.is_one_site & (eligibility.mask_of_demand >= 0)):
        accepted = eligibility.accepts[eligibility.mask_of_demand[i]]
        for site in sorted(sites):
            here = np.zeros_like(accepted)
            here[sites[site]] = accepted[sites[site]]
            if here.any():
                lines.append(int(i))
                accepts.append(here)
    shape = (len(lines), len(eligibility.signatures))
    return _Variants(np.array(lines, dtype=np.int64), np.array(accepts, dtype=np.bool_).reshape(shape))


def _group_signatures(accepts: Flags) -> tuple[int, Ints]:
    """Signatures accepted by the same masks are one product to every buyer; one price, copied back to each."""
    group_of = np.full(accepts.shape[1], -1, dtype=np.int64)
    known: dict[bytes, int] = {}
    for a, column in enumerate(accepts.T):
        if column.any():
            group_of[a] = known.setdefault(np.packbits(column).tobytes(), len(known))
    return len(known), group_of


def _by_group(accepts: Flags, group_of: Ints, groups: int) -> Flags:
    merged = np.zeros((len(accepts), groups), dtype=np.bool_)
    for a in np.flatnonzero(group_of >= 0):
        merged[:, group_of[a]] = accepts[:, a]
    return merged


def _pairs(one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """The distinct pairs [2, pools], sorted, and the place of each line's."""
    width = int(other.max(initial=0)) + 2
    code, place = distinct_codes(one * width + other + 1)
    return np.stack([code // width, code % width - 1]), place


def _number_choices(book: Book, line: Ints) -> tuple[Ints, int]:
    """The row of alternatives of each line: its choice, or its own where it is one line in several sites."""
    demands = book.demands
    key = np.where(demands.choice[line] >= 0, demands.choice[line],
                   np.where(demands.is_one_site[line], len(book.tables.choices) + line, -1))
    known, place = distinct_codes(key + 1)
    has_none = int(len(known) > 0 and known[0] == 0)
    return place - has_none, len(known) - has_none


def _without_unserved(market: Market) -> Market:
    """Windows that meet nothing in one of their slots can never trade; what is left says which cells are rows."""
    unserved = (~market.is_served).astype(np.int64)
    windows = market.windows.lines
    missing = range_sums(unserved, market.mask_of_pool[windows.pool], windows.start, windows.end) > 0
    market = replace(market, windows=market.windows.take(~missing))
    wanted = np.zeros((len(market.accepts), market.slots), dtype=np.bool_)
    for lines in (market.divisible, market.windows.lines):
        covered = cover(lines, np.ones(len(lines), dtype=np.int64), len(market.mask_of_pool), market.slots) > 0
        np.logical_or.at(wanted, market.mask_of_pool, covered)
    return replace(market, is_wanted=wanted & market.is_served)


# -- the programme -----------------------------------------------------------------------------------------------------

OUT, IN = -1, -2


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
    if not own.any():
        return some
    return in_order(some, merge_steps(ladder, np.where(own, rows, -1), focus.demand, np.full_like(reach, NEVER)))


def _merge_supply(market: Market, focus: Focus | None) -> Steps:
    ladder, rows = market.supply_ladder, market.supply_row[market.group_of_pool]
    if focus is None:
        return merge_steps(ladder, rows, np.zeros_like(rows), np.full_like(rows, NEVER))
    reach = reach_of(focus.supply, focus, focus.hidden.supply if focus.hidden else None)
    return merge_steps(ladder, rows, focus.supply, reach, is_coarse=focus.is_coarse)


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
