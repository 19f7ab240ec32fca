"""The lines of one window that can meet anything at all, and what they meet: the market behind every programme.

A pool is a part of a side whose lines see the same price in every slot; the words are those of `programme.py`. Lines
that must be in one site stand here once per site, caps and the Foundation's budget apart.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pricing.book import DIVISIBLE, TICK_MICROS, Book, Flags, Ints
from pricing.draws import WEIGHT_BITS, mixed
from pricing.eligibility import Eligibility, distinct_codes
from pricing.highs import Floats
from pricing.ladder import Ladder, ladder_of
from pricing.ranges import Lines, cover, join_lines, range_sums
from pricing.steps import NEVER

NO_CAP = -1
GIFT_TOTAL = 0.25  # units, over all cells: prices answer, quantities cannot
GIFT_FALLS = 8  # from one draw to the next


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
