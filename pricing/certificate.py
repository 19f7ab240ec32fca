r"""The proof of a clearing, in exact integers, over the full book and the published numbers only.

For any whole numbers lam[A,t] >= 0, with mu[S,t] = min over A ok S of lam[A,t], weak duality gives

    g = sum_divisible,t q (v - mu)^+  +  sum_windows q (vL - sum_range mu)^+  +  sum_bids,t o (lam - c)^+  >=  welfare

so `g - welfare` is the most that any other allocation could gain. Python integers throughout: nothing can overflow.
Written without the programme or the solver: what they got wrong shows here as a gap or a broken promise.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pricing import errors
from pricing.awards import Run
from pricing.book import Book, adjusted_ask_micros
from pricing.eligibility import Eligibility

# The dual of a cell without capacity: above any window's whole value, 744 slots at the highest price.
UNBOUNDED_MICROS = 10**12


@dataclass(frozen=True)
class Certificate:
    welfare_micros: int  # sum over awarded unit-hours of limit - adjusted ask
    bound_micros: int  # g
    gap_micros: int  # bound - welfare, never negative
    gap_allowed_micros: int  # 0, or what rounding windows may cost; see clearing.py


def certify(
    book: Book, eligibility: Eligibility, runs: Sequence[Run], lam_micros: Sequence[Sequence[int]], *,
    gap_allowed_micros: int,
) -> Certificate:
    """The certificate of these awards at these duals. Raises `CertificateFailed` when a promise or the gap fails.

    `lam_micros` is int [signatures, slots] in micro-USD per unit-hour, for every cell, traded or not.
    """
    _check_promises(book, eligibility, runs, lam_micros)
    welfare = welfare_micros(book, runs)
    bound = bound_micros(book, eligibility, lam_micros)
    certificate = Certificate(welfare, bound, bound - welfare, gap_allowed_micros)
    if not 0 <= certificate.gap_micros <= gap_allowed_micros:
        raise errors.CertificateFailed("The result is not proven optimal.", **vars(certificate))
    return certificate


def welfare_micros(book: Book, runs: Sequence[Run]) -> int:
    return sum(
        run.units * (run.end_slot - run.start_slot)
        * (book.demands[run.demand].price_limit_micros - adjusted_ask_micros(book.bids[run.bid]))
        for run in runs
    )


def bound_micros(book: Book, eligibility: Eligibility, lam_micros: Sequence[Sequence[int]]) -> int:
    mu = [[min(lam_micros[a][t] for a in mask) for t in range(book.slots)] for mask in eligibility.masks]
    bound = 0
    for line, s in zip(book.demands, eligibility.mask_of_demand, strict=True):
        if s < 0:
            continue  # nothing may serve it, so it adds nothing to any allocation
        slots = range(line.start_slot, line.end_slot)
        if line.kind == "divisible":
            surplus = sum(max(0, line.price_limit_micros - mu[s][t]) for t in slots)
        else:
            surplus = max(0, line.price_limit_micros * len(slots) - sum(mu[s][t] for t in slots))
        bound += line.quantity_units * surplus
    for bid, a in zip(book.bids, eligibility.signature_of_bid, strict=True):
        ask = adjusted_ask_micros(bid)
        slots = range(bid.start_slot, bid.end_slot)
        bound += bid.quantity_units * sum(max(0, lam_micros[a][t] - ask) for t in slots)
    return bound


def _check_promises(
    book: Book, eligibility: Eligibility, runs: Sequence[Run], lam_micros: Sequence[Sequence[int]]
) -> None:
    """Rules, slots, quantities, limits and asks of every award; a window the same in all its slots."""
    got: dict[tuple[int, int], int] = defaultdict(int)
    gave: dict[tuple[int, int], int] = defaultdict(int)
    paid: dict[int, int] = defaultdict(int)
    for run in runs:
        demand, bid = book.demands[run.demand], book.bids[run.bid]
        s, a = eligibility.mask_of_demand[run.demand], eligibility.signature_of_bid[run.bid]
        _promise(run.units > 0 and s >= 0 and a in eligibility.masks[s], "an award breaks a rule", demand.id, bid.id)
        _promise(max(demand.start_slot, bid.start_slot) <= run.start_slot < run.end_slot
                 <= min(demand.end_slot, bid.end_slot), "an award leaves its slots", demand.id, bid.id)
        for t in range(run.start_slot, run.end_slot):
            price = lam_micros[a][t]
            _promise(adjusted_ask_micros(bid) <= price, "a price is below an ask", demand.id, bid.id)
            _promise(demand.kind != "divisible" or price <= demand.price_limit_micros,
                     "a price is above a limit", demand.id, bid.id)
            got[run.demand, t] += run.units
            gave[run.bid, t] += run.units
            paid[run.demand] += run.units * price
    for (i, _), units in got.items():
        _promise(units <= book.demands[i].quantity_units, "a demand is overfilled", book.demands[i].id)
    for (j, _), units in gave.items():
        _promise(units <= book.bids[j].quantity_units, "a bid is oversold", book.bids[j].id)
    for i, amount in paid.items():
        line = book.demands[i]
        units_by_slot = [got[i, t] for t in range(line.start_slot, line.end_slot)]
        _promise(line.kind == "divisible" or len(set(units_by_slot)) == 1, "a window is uneven", line.id)
        _promise(amount <= sum(units_by_slot) * line.price_limit_micros, "a demand pays above its limit", line.id)


def _promise(is_kept: bool, broken: str, *lines: str) -> None:
    if not is_kept:
        raise errors.CertificateFailed(f"The result is refused: {broken}.", lines=lines)
