"""Why a line, or a part of it, was not filled: exactly one code each, from a closed list, judged at published numbers.

    no_compliant_capacity   demand  no bid of the book passes its rules                     rule
    no_capacity_in_slots    demand  compliant bids, but none in a slot that it needs        slot
    no_matching_demand      bid     no demand accepts it in its slots                       slot
    priced_out              both    short of the price, or of the best opposite line        short_by_micros [, slot]
    marginal                both    exactly at the price (cause at_the_price), or in the
                                    money and split off when windows were rounded (rounding)

A line is judged slot by slot, and the code with the most unfilled unit-hours is taken; a window at once over all its
slots. In a cell with a price the price is what one is short of. In a cell without one it is the best opposite line: for
a demand the lowest ask; for a bid the most that a waiting demand could pay there, or what a served one pays elsewhere.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pricing.awards import Run
from pricing.book import Book, DemandLine, adjusted_ask_micros
from pricing.certificate import UNBOUNDED_MICROS
from pricing.eligibility import Eligibility

ORDER = ("no_compliant_capacity", "no_capacity_in_slots", "no_matching_demand", "priced_out", "marginal")

Detail = dict[str, int | str]


@dataclass(frozen=True)
class Quotes:
    """What a line meets in each cell, in micro-USD per unit-hour."""

    asked: list[list[int]]  # [S, slots] the least that serving S costs: price or lowest ask; UNBOUNDED without capacity
    bid_up_to: list[list[int | None]]  # [A, slots] the most on offer to A: price or best limit; None without demand
    lowest_ask: list[list[int | None]]  # [A, slots] in cells without a price; None without bids


@dataclass(frozen=True)
class Verdict:
    code: str
    detail: Detail
    unfilled_unit_hours: int


def quote_cells(
    book: Book, eligibility: Eligibility, runs: Sequence[Run], price: Sequence[Sequence[int | None]]
) -> Quotes:
    """`price` is [A, slots], None where the cell has no trade."""
    lowest: list[list[int | None]] = [[None] * book.slots for _ in eligibility.signatures]
    for bid, a in zip(book.bids, eligibility.signature_of_bid, strict=True):
        ask = adjusted_ask_micros(bid)
        for t in range(bid.start_slot, bid.end_slot):
            known = lowest[a][t]
            lowest[a][t] = ask if known is None else min(known, ask)
    here = [
        [price[a][t] if price[a][t] is not None else lowest[a][t] for t in range(book.slots)]
        for a in range(len(eligibility.signatures))
    ]
    asked = [
        [min((least for a in mask if (least := here[a][t]) is not None), default=UNBOUNDED_MICROS)
         for t in range(book.slots)]
        for mask in eligibility.masks
    ]
    bid_up_to: list[list[int | None]] = [list(row) for row in price]
    got = units_by_demand(runs)
    for i, (line, s) in enumerate(zip(book.demands, eligibility.mask_of_demand, strict=True)):
        for t, most in _offers(line, i, asked[s], got) if s >= 0 else ():
            for a in eligibility.masks[s]:
                best = bid_up_to[a][t]
                if price[a][t] is None and (best is None or best < most):
                    bid_up_to[a][t] = most
    return Quotes(asked, bid_up_to, lowest)


def _offers(
    line: DemandLine, i: int, asked: Sequence[int], got: dict[tuple[int, int], int]
) -> list[tuple[int, int]]:
    """The most that this demand would pay in each of its slots: what it pays now, or what it could pay to get more."""
    slots = range(line.start_slot, line.end_slot)
    total = sum(asked[t] for t in slots)
    offers = []
    for t in slots:
        if got.get((i, t), 0) == line.quantity_units:
            most = asked[t]
        elif line.kind == "divisible":
            most = line.price_limit_micros
        else:
            most = max(0, line.price_limit_micros * len(slots) - (total - asked[t]))
        offers.append((t, most))
    return offers


def units_by_demand(runs: Sequence[Run]) -> dict[tuple[int, int], int]:
    units: dict[tuple[int, int], int] = defaultdict(int)
    for run in runs:
        for t in range(run.start_slot, run.end_slot):
            units[run.demand, t] += run.units
    return units


def units_by_bid(runs: Sequence[Run]) -> dict[tuple[int, int], int]:
    units: dict[tuple[int, int], int] = defaultdict(int)
    for run in runs:
        for t in range(run.start_slot, run.end_slot):
            units[run.bid, t] += run.units
    return units


def judge_demands(book: Book, eligibility: Eligibility, runs: Sequence[Run], quotes: Quotes) -> dict[int, Verdict]:
    """One verdict for each demand that is not filled in full, by its place in the book."""
    got = units_by_demand(runs)
    verdicts: dict[int, Verdict] = {}
    for i, (line, s) in enumerate(zip(book.demands, eligibility.mask_of_demand, strict=True)):
        missing = {t: line.quantity_units - got.get((i, t), 0) for t in range(line.start_slot, line.end_slot)}
        unfilled = sum(missing.values())
        if not unfilled:
            continue
        if s < 0:
            code, detail = "no_compliant_capacity", Detail(rule=str(eligibility.emptied_by[i]))
        elif line.kind == "divisible":
            code, detail = _judge_slots(
                [(t, units, _judge_limit(line.price_limit_micros, quotes.asked[s][t], t))
                 for t, units in missing.items() if units]
            )
        else:
            code, detail = _judge_window(line, quotes.asked[s])
        verdicts[i] = Verdict(code, detail, unfilled)
    return verdicts


def judge_bids(book: Book, eligibility: Eligibility, runs: Sequence[Run], quotes: Quotes) -> dict[int, Verdict]:
    """One verdict for each bid that is not used in full, by its place in the book."""
    gave = units_by_bid(runs)
    verdicts: dict[int, Verdict] = {}
    for j, (line, a) in enumerate(zip(book.bids, eligibility.signature_of_bid, strict=True)):
        ask = adjusted_ask_micros(line)
        missing = {t: line.quantity_units - gave.get((j, t), 0) for t in range(line.start_slot, line.end_slot)}
        left = [(t, units, _judge_ask(ask, quotes.bid_up_to[a][t], t)) for t, units in missing.items() if units]
        if left:
            code, detail = _judge_slots(left)
            verdicts[j] = Verdict(code, detail, sum(missing.values()))
    return verdicts


def _judge_limit(limit: int, asked: int, slot: int) -> tuple[str, Detail]:
    if asked == UNBOUNDED_MICROS:
        return "no_capacity_in_slots", Detail(slot=slot)
    return _judge_shortfall(asked - limit, slot)


def _judge_ask(ask: int, most: int | None, slot: int) -> tuple[str, Detail]:
    if most is None:
        return "no_matching_demand", Detail(slot=slot)
    return _judge_shortfall(ask - most, slot)


def _judge_shortfall(short: int, slot: int) -> tuple[str, Detail]:
    if short > 0:
        return "priced_out", Detail(short_by_micros=short, slot=slot)
    return "marginal", Detail(cause="rounding" if short < 0 else "at_the_price")


def _judge_window(line: DemandLine, asked: Sequence[int]) -> tuple[str, Detail]:
    slots = range(line.start_slot, line.end_slot)
    for t in slots:
        if asked[t] == UNBOUNDED_MICROS:
            return "no_capacity_in_slots", Detail(slot=t)
    short = sum(asked[t] for t in slots) - line.price_limit_micros * len(slots)
    if short > 0:
        return "priced_out", Detail(short_by_micros=-(-short // len(slots)))  # per unit-hour, rounded up
    return "marginal", Detail(cause="rounding" if short < 0 else "at_the_price")


def _judge_slots(judged: Sequence[tuple[int, int, tuple[str, Detail]]]) -> tuple[str, Detail]:
    """The code with the most unfilled unit-hours, ties in the order of the list; of its details the closest miss."""
    hours: dict[str, int] = defaultdict(int)
    for _, units, (code, _) in judged:
        hours[code] += units
    code = min(hours, key=lambda code: (-hours[code], ORDER.index(code)))
    details = [detail for _, _, (its_code, detail) in judged if its_code == code]
    if code == "priced_out":
        return code, min(details, key=lambda d: (d["short_by_micros"], d["slot"]))
    if code == "marginal":
        return code, next((d for d in details if d["cause"] == "rounding"), details[0])
    return code, details[0]
