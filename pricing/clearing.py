r"""Clear one window: who gets which slots, at which price, and the proof.

Let i count demands, j bids, t slots.

    maximise    sum_ijt (limit_i - ask_j) x_ijt          [micro-USD]
    subject to  sum_j x_ijt <= want_i                    each demand at most filled   [units in slot t]
                sum_j x_ijt the same in all t            for a window demand, its minimum or more, or nothing
                sum_i x_ijt <= have_jt                   each bid at most used        [units in slot t]
                x_ijt = 0 where not eligible_ij          compliance comes before price
                at most one of several alternatives, one site where one is asked for, caps, the Foundation's budget

`ask` is quality-adjusted. The lines become a programme over merged steps (`programme`), solved in parts (`sifting`);
its optimum is made unique (`settle`) and whole (`wholes`), priced (`prices`), shared among lines (`fill`, `awards`),
explained (`reasons`) and proven in exact integers (`certificate`). The same lines in any order give the same `Outcome`.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from pricing import caps, certificate, errors
from pricing.allocation import UNBOUNDED_MICROS, Allocation, Cap
from pricing.awards import AwardColumns, cut_awards, traded_units
from pricing.book import TICK_MICROS, Book, Flags, Ints
from pricing.cells import bound_micros
from pricing.components import Components, split_prices
from pricing.eligibility import Eligibility, match_lines
from pricing.fill import Prices, fill_lines, price_pools
from pricing.highs import Floats
from pricing.market import CapRow, Market, make_market
from pricing.ranges import Lines, cover, exact_product
from pricing.reasons import Quotes, ReasonColumns, ReasonLine, judge, quote_cells, reason_lines
from pricing.sifting import Named, carry_over
from pricing.wholes import Relaxed, Whole, settle_whole

RULE_VERSION = 2
SOLVER_NOISE_MICROS = 0.01
SIGMA_PARTS = 10**9  # the relaxation's sigma is rounded to a billionth: any value gives a bound


@dataclass(frozen=True)
class PriceRow:
    """One cell: a signature (what is sold) in one slot. Micro-USD per unit-hour."""

    signature: str
    slot: int
    price_micros: int | None  # None: nothing traded here, so there is no price
    dual_micros: int  # what the settled bound uses; equals the price where there is one
    best_limit_micros: int | None  # indicative, only without a price: the most that waiting demand could pay
    best_ask_micros: int | None  # indicative, only without a price: the lowest ask


@dataclass(frozen=True)
class AwardLine:
    """`units` of one bid for one demand in every slot of [start_slot, end_slot)."""

    demand_id: str
    bid_id: str
    start_slot: int
    end_slot: int
    units: int
    amount_micros: int  # units x the sum of the prices of its slots


@dataclass(frozen=True, eq=False)
class Priced:
    """Prices and merged fill of a book, proven optimal, before they are shared among the lines."""

    book: Book
    eligibility: Eligibility
    market: Market  # all lines, before any had to go
    whole: Whole
    caps: tuple[Cap, ...]
    cap_of_bid: Ints
    caps_not_applicable: tuple[tuple[str, str, int], ...]
    welfare_micros: int
    bound_micros: int

    @property
    def gap_micros(self) -> int:
        return self.bound_micros - self.welfare_micros


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one window. Every number is proven in integers; rows stand in canonical order."""

    book: Book
    eligibility: Eligibility
    priced: Priced
    allocation: Allocation
    certificate: certificate.Certificate
    award_columns: AwardColumns
    is_traded: Flags  # [A, slots]
    quotes: Quotes
    reason_columns: ReasonColumns
    components: Components

    @property
    def input_hash(self) -> bytes:
        return self.book.input_hash

    @property
    def welfare_micros(self) -> int:
        return self.certificate.welfare_micros

    @property
    def bound_micros(self) -> int:
        return self.certificate.bound_micros

    @property
    def gap_micros(self) -> int:
        return self.certificate.gap_micros

    @cached_property
    def awards(self) -> tuple[AwardLine, ...]:
        columns, demands, bids = self.award_columns, self.book.demands.ids, self.book.bids.ids
        rows = zip(*(getattr(columns, name).tolist() for name in (
            "demand", "bid", "start", "end", "units", "amount_micros")), strict=True)
        return tuple(AwardLine(demands[i], bids[j], start, end, units, amount)
                     for i, j, start, end, units, amount in rows)

    @cached_property
    def reasons(self) -> tuple[ReasonLine, ...]:
        return tuple(reason_lines(self.book, self.reason_columns))

    @cached_property
    def prices(self) -> tuple[PriceRow, ...]:
        """Every signature, every slot."""
        return tuple(self._price_row(a, t) for a in range(len(self.eligibility.signatures))
                     for t in range(self.book.slots))

    def _price_row(self, a: int, t: int) -> PriceRow:
        dual = int(self.allocation.lam_micros[a, t])
        name = self.eligibility.signatures[a].name
        if self.is_traded[a, t]:
            return PriceRow(name, t, dual, dual, None, None)
        limit, ask = int(self.quotes.bid_up_to[a, t]), int(self.quotes.lowest_ask[a, t])
        return PriceRow(name, t, None, dual, None if limit < 0 else limit, None if ask < 0 else ask)

    @cached_property
    def signature_of(self) -> tuple[tuple[str, str], ...]:
        """(bid id, signature) of every bid."""
        names = [signature.name for signature in self.eligibility.signatures]
        return tuple((bid, names[a]) for bid, a in zip(
            self.book.bids.ids, self.eligibility.signature_of_bid.tolist(), strict=True))

    def price_of(self, bid_id: str, slot: int) -> int | None:
        """The price of this bid's capacity in this slot, or None where nothing alike traded. KeyError if unknown."""
        a = self._signature_of_bid[bid_id]
        return int(self.allocation.lam_micros[a, slot]) if self.is_traded[a, slot] else None

    @cached_property
    def _signature_of_bid(self) -> dict[str, int]:
        return dict(zip(self.book.bids.ids, self.eligibility.signature_of_bid.tolist(), strict=True))


def clear(book: Book, *, previous: Outcome | Priced | None = None) -> Outcome:
    """Awards, prices, reasons and certificate of one window.

    `previous`, the result of nearly the same book, saves time and changes nothing. An empty side is a valid result with
    reasons. Raises `SolverFailed` or `CertificateFailed`, and then nothing may be published; there is no retry with
    looser tolerance.
    """
    priced = price_book(book, previous=previous.priced if isinstance(previous, Outcome) else previous)
    eligibility = priced.eligibility
    allocation = _allocate(priced)
    proof = certificate.certify(book, eligibility, allocation)
    if (proof.welfare_micros, proof.bound_micros) != (priced.welfare_micros, priced.bound_micros):
        raise errors.CertificateFailed("The lines add up to other totals than the merged steps.",
                                       welfare_micros=proof.welfare_micros, merged_welfare_micros=priced.welfare_micros,
                                       bound_micros=proof.bound_micros, merged_bound_micros=priced.bound_micros)
    awards = cut_awards(book, eligibility, allocation)
    is_traded = traded_units(book, eligibility, awards) > 0
    quotes = quote_cells(book, eligibility, allocation, is_traded)
    return Outcome(
        book=book, eligibility=eligibility, priced=priced, allocation=allocation, certificate=proof,
        award_columns=awards, is_traded=is_traded, quotes=quotes,
        reason_columns=judge(book, eligibility, allocation, quotes),
        components=split_prices(book, eligibility, allocation, awards),
    )


def price_book(book: Book, *, previous: Priced | None = None) -> Priced:
    """The prices of a book and the proof that its merged fill is optimal. Raises as `clear` does."""
    eligibility = match_lines(book)
    solve = _Solver(book, eligibility)
    market, whole = solve((), previous)
    known = caps.none(book, eligibility)
    while (tighter := caps.tighten(book, known, whole, _sold)) is not None:
        known = tighter
        market, whole = solve(
            tuple(CapRow(known.of_bid == place, units) for place, units in enumerate(known.units_max)), None)
    return _prove(book, eligibility, market, whole, known)


class _Solver:
    """Solves a book under caps, with the Foundation's budget once a result without it would cost more."""

    def __init__(self, book: Book, eligibility: Eligibility) -> None:
        self.book, self.eligibility, self.is_bound = book, eligibility, False

    def __call__(self, rows: tuple[CapRow, ...], previous: Priced | None) -> tuple[Market, Whole]:
        if not self.is_bound:
            market, whole = self._solve(rows, None, previous)
            self.is_bound = not self._is_within_budget(whole)
            if not self.is_bound:
                return market, whole
        return self._solve(rows, self.book.rules.foundation_budget_micros, previous)

    def _solve(
        self, rows: tuple[CapRow, ...], budget: int | None, previous: Priced | None
    ) -> tuple[Market, Whole]:
        market = make_market(self.book, self.eligibility, caps=rows, budget_micros=budget)
        if previous is None or rows or previous.caps:
            return market, settle_whole(self.book, market, None)
        start = carry_over(previous.whole.start, _names(previous.book, previous.eligibility, previous.market),
                           _names(self.book, self.eligibility, market))
        return market, settle_whole(self.book, market, start)

    def _is_within_budget(self, whole: Whole) -> bool:
        """What the Foundation won costs no more than its budget, at its limits."""
        budget, demands = self.book.rules.foundation_budget_micros, self.book.demands
        if budget is None or not demands.is_foundation.any():
            return True
        fill = fill_lines(self.book, whole.settled, whole.worth.prices)
        hours = certificate.unit_hours(fill.demand_ptr, fill.demand_units)
        own = demands.is_foundation
        return exact_product(hours[own], demands.price[own]) <= budget


def _sold(book: Book, whole: Whole) -> Ints:
    """Unit-hours of each bid."""
    fill = fill_lines(book, whole.settled, whole.worth.prices)
    return certificate.unit_hours(fill.bid_ptr, fill.bid_units)


def _prove(book: Book, eligibility: Eligibility, market: Market, whole: Whole, known: caps.Caps) -> Priced:
    """The totals that `certificate` will find again over the lines, from the merged fill: nothing unproven goes on."""
    prices, final = whole.worth.prices, whole.settled.programme.market
    welfare = whole.worth.welfare_ticks * TICK_MICROS
    settled = bound_micros(final, prices)
    bound = settled
    if whole.relaxed is not None:
        bound = bound_micros(market.in_micros(), _relaxed_prices(market, whole.relaxed), 1)
    if settled != welfare:
        raise errors.CertificateFailed("The result is not proven optimal.", welfare_micros=welfare,
                                       settled_bound_micros=settled)
    return Priced(book, eligibility, market, whole, _caps(known, whole), known.of_bid, known.not_applicable,
                  welfare, bound)


def _relaxed_prices(market: Market, relaxed: Relaxed) -> Prices:
    """Whole micro-USD near the relaxation's duals, which need not be on the tick: any give a bound."""
    sigma = Fraction(0)
    if market.budget_ticks is not None:  # at least one part, which says that the budget was looked at
        sigma = Fraction(max(1, round(relaxed.sigma * SIGMA_PARTS)), SIGMA_PARTS)
    return price_pools(market, _in_micros(relaxed.lam), _in_micros(relaxed.rho), (sigma.numerator, sigma.denominator))


def _in_micros(ticks: Floats) -> Ints:
    """Rounded down, but for what a solver's noise lacks."""
    return np.floor(ticks * TICK_MICROS + SOLVER_NOISE_MICROS).astype(np.int64)


def _caps(known: caps.Caps, whole: Whole) -> tuple[Cap, ...]:
    if not known.pairs:
        return ()
    rho = whole.worth.prices.rho * TICK_MICROS
    relaxed = rho if whole.relaxed is None else _in_micros(whole.relaxed.rho)
    rho = relaxed if whole.holds_caps else rho
    return tuple(
        Cap(parent, known.products[product], units, int(rho[place]), int(relaxed[place]), whole.holds_caps)
        for place, ((product, parent), units) in enumerate(zip(known.pairs, known.units_max, strict=True))
    )


def _allocate(priced: Priced) -> Allocation:
    book, eligibility, whole = priced.book, priced.eligibility, priced.whole
    market, prices = whole.settled.programme.market, whole.worth.prices
    fill = fill_lines(book, whole.settled, prices)
    relaxed = None if whole.relaxed is None else _relaxed_prices(priced.market, whole.relaxed)
    won = certificate.unit_hours(fill.demand_ptr, fill.demand_units) > 0
    sold = certificate.unit_hours(fill.bid_ptr, fill.bid_units) > 0
    masks = len(eligibility.masks)
    rounded = np.zeros(len(book.demands), dtype=np.bool_)
    rounded[whole.rounded] = True
    return Allocation(
        lam_micros=_by_signature(book, eligibility, market, prices.lam * TICK_MICROS),
        relaxed_micros=None if relaxed is None else _by_signature(book, eligibility, market, relaxed.lam),
        caps=priced.caps, cap_of_bid=priced.cap_of_bid, caps_not_applicable=priced.caps_not_applicable,
        sigma=(0, 1) if relaxed is None else relaxed.sigma,
        demand_ptr=fill.demand_ptr, demand_units=fill.demand_units, bid_ptr=fill.bid_ptr, bid_units=fill.bid_units,
        served_under=np.where(won, fill.served_under, -1),
        variant_masks=tuple(_signatures_of(eligibility, market, row) for row in range(masks, len(market.accepts))),
        group_of_signature=market.group_of_signature,
        flow_slot=fill.flow_slot, flow_mask=fill.flow_mask, flow_group=fill.flow_group, flow_units=fill.flow_units,
        is_rejected=book.demands.is_indivisible & ~won, is_rejected_bid=book.bids.is_indivisible & ~sold,
        is_rounded=rounded, rounds=whole.rounds,
    )


def _signatures_of(eligibility: Eligibility, market: Market, row: int) -> tuple[int, ...]:
    accepted = market.accepts[row][market.group_of_signature] & (market.group_of_signature >= 0)
    return tuple(int(a) for a in np.flatnonzero(accepted))


def _by_signature(book: Book, eligibility: Eligibility, market: Market, lam_micros: Ints) -> Ints:
    """The dual of every signature in every slot.

    Out of the programme are cells without a bid (no price is high enough) and cells without a demand that could be
    served (any capacity there is worth nothing).
    """
    group = market.group_of_signature
    priced = np.where(market.supply_row >= 0, lam_micros, -1)
    priced = np.concatenate([priced, np.full((1, book.slots), -1)])[group]  # -1 takes the last
    bids = book.bids
    own = Lines(eligibility.signature_of_bid, bids.price, bids.quantity, bids.start, bids.end, np.arange(len(bids)))
    has_bid = cover(own, np.ones(len(bids), dtype=np.int64), len(group), book.slots) > 0
    return np.where(priced >= 0, priced, np.where(has_bid, 0, UNBOUNDED_MICROS))


def _names(book: Book, eligibility: Eligibility, market: Market) -> Named:
    """What stays the same of a market when its book is amended: the names of its products, rules and lines."""
    names = [signature.name for signature in eligibility.signatures]
    groups: list[list[str]] = [[] for _ in range(market.accepts.shape[1])]
    for name, group in zip(names, market.group_of_signature.tolist(), strict=True):
        if group >= 0:
            groups[group].append(name)
    group_names = [tuple(sorted(group)) for group in groups]
    masks = [frozenset(group_names[g] for g in np.flatnonzero(row)) for row in market.accepts]
    return Named(market, tuple(group_names), tuple(masks), book.demands.ids, book.bids.ids)
