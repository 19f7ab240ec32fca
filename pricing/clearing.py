r"""Clear one window: who gets which slots, at which price, and the proof.

Let i count demands, j bids, t slots.

    maximise    sum_ijt (limit_i - ask_j) x_ijt          [micro-USD]
    subject to  sum_j x_ijt <= want_i                    each demand at most filled   [units in slot t]
                sum_j x_ijt the same in all t            for a window demand
                sum_i x_ijt <= have_jt                   each bid at most used        [units in slot t]
                x_ijt = 0 where not eligible_ij          compliance comes before price

`ask` is quality-adjusted (`book.adjusted_ask_micros`). The programme is solved over merged steps (`programme`), its
optimum made unique (`fill`), priced (`prices`), shared among the lines (`awards`), explained (`reasons`) and proven in
exact integers (`certificate`). The same lines in any order give the same `Outcome`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from pricing import awards, certificate, errors, fill, prices, reasons
from pricing.book import TICK_MICROS, Book
from pricing.eligibility import Eligibility, match_lines
from pricing.programme import Floats, Ints, Programme, build_programme

RULE_VERSION = 1


@dataclass(frozen=True)
class PriceRow:
    """One cell: a signature (what is sold) in one slot. Micro-USD per unit-hour."""

    signature: str
    slot: int
    price_micros: int | None  # None: nothing traded here, so there is no price
    dual_micros: int  # what the bound uses; equals the price where there is one
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


@dataclass(frozen=True)
class ReasonLine:
    """Why this much of a line was not filled; exactly one for each line that is not filled in full."""

    side: Literal["demand", "bid"]
    line_id: str
    code: str
    detail: dict[str, int | str]
    unfilled_unit_hours: int


@dataclass(frozen=True)
class Outcome:
    """The result of one window. Every number is proven in integers; rows stand in canonical order."""

    input_hash: bytes
    welfare_micros: int
    bound_micros: int
    gap_micros: int
    gap_allowed_micros: int
    prices: tuple[PriceRow, ...]  # every signature, every slot
    awards: tuple[AwardLine, ...]
    reasons: tuple[ReasonLine, ...]
    signature_of: tuple[tuple[str, str], ...]  # (bid id, signature)

    def price_of(self, bid_id: str, slot: int) -> int | None:
        """The price of this bid's capacity in this slot, or None where nothing alike traded. KeyError if unknown."""
        return self._price_of_cell[self._signature_of_bid[bid_id], slot]

    @cached_property
    def _signature_of_bid(self) -> dict[str, str]:
        return dict(self.signature_of)

    @cached_property
    def _price_of_cell(self) -> dict[tuple[str, int], int | None]:
        return {(row.signature, row.slot): row.price_micros for row in self.prices}


def clear(book: Book) -> Outcome:
    """Awards, prices, reasons and certificate of one window.

    An empty side is a valid result with reasons. Raises `SolverFailed` or `CertificateFailed`, and then nothing may be
    published; there is no retry with looser tolerance.
    """
    eligibility = match_lines(book)
    programme = build_programme(book, eligibility)
    x, priced, gap_allowed = _solve(programme, book.input_hash)
    runs = awards.cut_awards(book, eligibility, programme, awards.share_fill(book, programme, x))
    lam = _spread_duals(book, eligibility, programme, priced.lam_ticks)
    proof = certificate.certify(book, eligibility, runs, lam, gap_allowed_micros=gap_allowed)
    return _publish(book, eligibility, runs, lam, proof)


def _solve(programme: Programme, input_hash: bytes) -> tuple[Ints, prices.Prices, int]:
    """A whole fill, its prices, and the gap that rounding may leave in micro-USD: 0 unless windows forced it."""
    if not len(programme.flow_demand):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, prices.Prices(nothing, nothing, False), 0
    x = fill.canonical_fill(programme, input_hash)
    priced = prices.canonical_prices(programme, input_hash, x)
    if fill.is_whole(x) and not priced.is_rounded:
        return np.rint(x).astype(np.int64), priced, 0
    settled = fill.settle_at_prices(programme, input_hash, x, priced.lam_ticks, priced.mu_ticks)
    if not fill.is_whole(settled):
        raise errors.SolverFailed("The network did not settle in whole units.")
    return np.rint(settled).astype(np.int64), priced, _rounding_micros(programme, x, priced.is_rounded)


def _rounding_micros(programme: Programme, x: Floats, is_rounded: bool) -> int:
    """The most that whole windows can cost, against the bound at the published prices.

    Rounding the windows of the optimum down gives up less than one unit of each fractional one, and loses at most its
    value: the network that is left is solved again. Rounding prices down to the tick leaves every line as content as
    before, but for windows not filled, which then miss less than a tick per unit-hour.
    """
    windows, fill_of = programme.windows, programme.split(x)[2]
    is_fractional = np.abs(fill_of - np.rint(fill_of)) > fill.TOLERANCE
    missing = np.ceil(windows.units - fill_of - fill.TOLERANCE).astype(np.int64) if is_rounded else 0 * windows.units
    per_hour = is_fractional * windows.price + missing
    return sum(int(n) * int(hours) for n, hours in zip(per_hour, windows.hours, strict=True)) * TICK_MICROS


def _spread_duals(book: Book, eligibility: Eligibility, programme: Programme, lam_ticks: Ints) -> list[list[int]]:
    """The dual of every signature in every slot, in micro-USD.

    Out of the programme are cells without a bid (no price is high enough) and cells without a demand that could be
    served (any capacity there is worth nothing).
    """
    group_of = {a: g for g, members in enumerate(programme.groups) for a in members}
    row = {cell: int(lam) * TICK_MICROS for cell, lam in zip(programme.supply_cells, lam_ticks, strict=True)}
    has_bid = {
        (a, t) for bid, a in zip(book.bids, eligibility.signature_of_bid, strict=True)
        for t in range(bid.start_slot, bid.end_slot)
    }

    def dual(a: int, t: int) -> int:
        known = row.get((group_of.get(a, -1), t))
        if known is not None:
            return known
        return 0 if (a, t) in has_bid else certificate.UNBOUNDED_MICROS

    return [[dual(a, t) for t in range(book.slots)] for a in range(len(eligibility.signatures))]


def _publish(
    book: Book, eligibility: Eligibility, runs: Sequence[awards.Run], lam: Sequence[Sequence[int]],
    proof: certificate.Certificate,
) -> Outcome:
    traded = {(eligibility.signature_of_bid[run.bid], t) for run in runs for t in range(run.start_slot, run.end_slot)}
    price = [
        [micros if (a, t) in traded else None for t, micros in enumerate(row)] for a, row in enumerate(lam)
    ]
    quotes = reasons.quote_cells(book, eligibility, runs, price)
    names = [signature.name for signature in eligibility.signatures]
    return Outcome(
        input_hash=book.input_hash, **vars(proof),
        prices=tuple(
            PriceRow(
                names[a], t, price[a][t], lam[a][t],
                None if (a, t) in traded else quotes.bid_up_to[a][t],
                None if (a, t) in traded else quotes.lowest_ask[a][t],
            )
            for a in range(len(names)) for t in range(book.slots)
        ),
        awards=tuple(_award(book, eligibility, run, lam) for run in runs),
        reasons=_reason_lines(book, eligibility, runs, quotes),
        signature_of=tuple((b.id, names[a]) for b, a in zip(book.bids, eligibility.signature_of_bid, strict=True)),
    )


def _award(book: Book, eligibility: Eligibility, run: awards.Run, lam: Sequence[Sequence[int]]) -> AwardLine:
    price = lam[eligibility.signature_of_bid[run.bid]]
    return AwardLine(
        demand_id=book.demands[run.demand].id, bid_id=book.bids[run.bid].id,
        start_slot=run.start_slot, end_slot=run.end_slot, units=run.units,
        amount_micros=run.units * sum(price[run.start_slot:run.end_slot]),
    )


def _reason_lines(
    book: Book, eligibility: Eligibility, runs: Sequence[awards.Run], quotes: reasons.Quotes
) -> tuple[ReasonLine, ...]:
    demands = reasons.judge_demands(book, eligibility, runs, quotes)
    bids = reasons.judge_bids(book, eligibility, runs, quotes)
    return (
        *(ReasonLine("bid", book.bids[j].id, v.code, v.detail, v.unfilled_unit_hours) for j, v in bids.items()),
        *(ReasonLine("demand", book.demands[i].id, v.code, v.detail, v.unfilled_unit_hours)
          for i, v in demands.items()),
    )
