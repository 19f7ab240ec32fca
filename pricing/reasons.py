"""Why a line, or a part of it, was not filled: exactly one code each, from a closed list, judged at published numbers.

    no_compliant_capacity   demand  no bid of the book passes its rules                     rule
    no_capacity_in_slots    demand  compliant bids, but none in a slot that it needs        slot
    no_matching_demand      bid     no demand accepts it in its slots                       slot
    budget_bound            demand  the Foundation's budget binds before the limit does     sigma_ppm, rounded down
    cap_bound               bid     its parent sells all that the concentration cap allows  rho_micros
    priced_out              both    short of the price, or of the best opposite line        short_by_micros [, slot]
    marginal                both    exactly at the price (cause at_the_price), or in the
                                    money and split off when units were made whole (rounding)
    alternative_won         demand  another line of its choice was served                   winner
    block_rejected          demand  in the money, but no whole result with it has a price   opportunity_cost_micros
    minimum_not_met         bid     the same for a bid that sells a minimum or nothing      opportunity_cost_micros

The first that is true, in this order, but `marginal` with cause rounding, which comes last. A divisible demand and a
bid without a minimum are judged slot by slot, and the code with the most unfilled unit-hours is taken (ties: the first
of the list) with its closest miss; every other line once, over all its slots. In a cell with a price the price is what
one is short of. In a cell without one it is the best opposite line: for a demand the lowest ask with what its cap
takes; for a bid the most that a waiting demand could pay there, or what a served one pays elsewhere. Lines that no
price alone brings in are no such line: bids with a minimum, indivisible demands without awards, and what the budget
keeps out of the Foundation's lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pricing import errors
from pricing.allocation import UNBOUNDED_MICROS, Allocation
from pricing.awards import Places
from pricing.book import DIVISIBLE, Bids, Book, Demands, Flags, Ints
from pricing.eligibility import RULES, Eligibility
from pricing.ranges import chunks, line_slots, range_sums

CODES = (
    "no_compliant_capacity", "no_capacity_in_slots", "no_matching_demand", "budget_bound", "cap_bound", "priced_out",
    "marginal", "alternative_won", "block_rejected", "minimum_not_met",
)
(
    NO_COMPLIANT_CAPACITY, NO_CAPACITY_IN_SLOTS, NO_MATCHING_DEMAND, BUDGET_BOUND, CAP_BOUND, PRICED_OUT, MARGINAL,
    ALTERNATIVE_WON, BLOCK_REJECTED, MINIMUM_NOT_MET,
) = range(len(CODES))
CAUSES = ("rounding", "at_the_price")  # of marginal; the first one found in any slot is told
ROUNDING, AT_THE_PRICE = range(2)
RULE_NAMES = tuple(name for name, _ in RULES)
VALUE_NAMES = {
    BUDGET_BOUND: "sigma_ppm", CAP_BOUND: "rho_micros", PRICED_OUT: "short_by_micros",
    BLOCK_REJECTED: "opportunity_cost_micros", MINIMUM_NOT_MET: "opportunity_cost_micros",
}

NONE = -1
SIDES: tuple[Literal["bid"], Literal["demand"]] = ("bid", "demand")
BID, DEMAND = range(2)
SLOT_BITS = 10  # a slot is below 744

Detail = dict[str, int | str]


@dataclass(frozen=True, eq=False)
class Quotes:
    """What a line meets in each cell, in micro-USD per unit-hour."""

    here: Ints  # [A, slots] the price, without a trade the lowest ask; UNBOUNDED_MICROS without one
    asked: Ints  # [S, slots] the least of `here` that serves S; UNBOUNDED_MICROS without capacity
    bid_up_to: Ints  # [A, slots] the most on offer to A: price or best limit; NONE without demand
    whole_up_to: Ints  # [A, slots] the same to a bid with a minimum, to which a window offers its limit in every slot
    lowest_ask: Ints  # [A, slots] with what a cap takes, of bids without a minimum; NONE without one


@dataclass(frozen=True, eq=False)
class ReasonColumns:
    """One reason a row: bids first, then demands, each in the order of the book. Lines filled in full have none."""

    side: Places  # [k] place in SIDES
    line: Places  # [k] place in book.bids or book.demands
    code: Places  # [k] place in CODES
    value: Ints  # [k] the detail's number: VALUE_NAMES, or a place in CAUSES, RULE_NAMES or book.demands; NONE without
    slot: Places  # [k] the detail's slot, NONE without
    unfilled: Ints  # [k] unit-hours

    def __len__(self) -> int:
        return len(self.line)


@dataclass(frozen=True)
class ReasonLine:
    """Why this much of a line was not filled; exactly one for each line that is not filled in full."""

    side: Literal["demand", "bid"]
    line_id: str
    code: str
    detail: Detail
    unfilled_unit_hours: int


def reason_lines(book: Book, reasons: ReasonColumns) -> Iterator[ReasonLine]:
    """The reasons line by line, in order."""
    ids = (book.bids.ids, book.demands.ids)
    columns = (reasons.side, reasons.line, reasons.code, reasons.value, reasons.slot, reasons.unfilled)
    for side, line, code, value, slot, unfilled in zip(*(column.tolist() for column in columns), strict=True):
        yield ReasonLine(SIDES[side], ids[side][line], CODES[code], _detail(book, code, value, slot), unfilled)


def _detail(book: Book, code: int, value: int, slot: int) -> Detail:
    if code == NO_COMPLIANT_CAPACITY:
        return {"rule": RULE_NAMES[value]}
    if code == MARGINAL:
        return {"cause": CAUSES[value]}
    if code == ALTERNATIVE_WON:
        return {"winner": book.demands.ids[value]}
    detail: Detail = {VALUE_NAMES[code]: value} if code in VALUE_NAMES else {}
    return detail if slot == NONE else {**detail, "slot": slot}


# -- quotes ------------------------------------------------------------------------------------------------------------


def quote_cells(book: Book, eligibility: Eligibility, allocation: Allocation, is_traded: Flags) -> Quotes:
    """What each mask is asked and each signature is offered. `is_traded` [A, slots]: where there is a price."""
    bids, cells = book.bids, (len(eligibility.signatures), book.slots)
    lowest = -most_over_slots(eligibility.signature_of_bid, bids, -bids.ask - _rho_of_bid(allocation),
                               np.flatnonzero(bids.minimum == 0), cells)
    here = np.where(is_traded, allocation.lam_micros, np.minimum(lowest, UNBOUNDED_MICROS))
    asked = np.full((len(eligibility.masks), book.slots), UNBOUNDED_MICROS, dtype=np.int64)
    for s, mask in enumerate(eligibility.masks):
        asked[s] = here[list(mask)].min(axis=0)
    up_to = np.full((2, *cells), NONE, dtype=np.int64)
    for best, offers in zip(up_to, _offers(book, eligibility, allocation, asked), strict=True):
        for a in range(len(eligibility.signatures)):
            best[a] = offers[eligibility.accepts[:, a]].max(axis=0, initial=NONE)
    bid_up_to, whole_up_to = np.where(is_traded, allocation.lam_micros, up_to)
    return Quotes(here, asked, bid_up_to, whole_up_to, np.where(lowest < UNBOUNDED_MICROS, lowest, NONE))


def _rho_of_bid(allocation: Allocation) -> Ints:
    """What the cap of each bid takes, 0 without one.  # int64 [bids]"""
    rho: Ints = np.array([cap.rho_micros for cap in allocation.caps] + [0], dtype=np.int64)[allocation.cap_of_bid]
    return rho


def _offers(book: Book, eligibility: Eligibility, allocation: Allocation, asked: Ints) -> tuple[Ints, Ints]:
    """The most that a demand under each mask pays, or would pay to get more; NONE without one.  # int64 [S, slots]

    To a bid that sells slot by slot, and to one with a minimum, which a window could meet in all slots at once.
    """
    demands, mask = book.demands, eligibility.mask_of_demand
    offers = np.full(asked.shape, NONE, dtype=np.int64)
    is_held = demands.is_foundation & (allocation.sigma[0] > 0)
    for lines in _chunks(demands, np.flatnonzero((mask >= 0) & (demands.kind == DIVISIBLE))):
        owner, slot, place = _line_slots(demands, allocation.demand_ptr, lines)
        line, units = lines[owner], allocation.demand_units[place]
        offer = np.where(units > 0, asked[mask[line], slot], NONE)
        waits = (units < demands.quantity[line]) & ~is_held[line]
        np.maximum.at(offers, (mask[line], slot), np.where(waits, np.maximum(offer, demands.price[line]), offer))
    whole = np.flatnonzero((mask >= 0) & (demands.kind != DIVISIBLE))
    units = allocation.demand_units[allocation.demand_ptr[whole]]
    is_out = is_held[whole] | (demands.is_indivisible[whole] & (units == 0))
    buying, waiting = whole[units > 0], whole[(units < demands.quantity[whole]) & ~is_out]
    served = most_over_slots(mask, demands, np.zeros(len(demands), dtype=np.int64), buying, asked.shape)
    offers = np.where(served == 0, np.maximum(offers, asked), offers)
    limits = most_over_slots(mask, demands, demands.price, waiting, asked.shape)
    to_whole = np.maximum(offers, limits)
    # A window pays in one slot what its whole limit leaves when it pays what is asked in all the others.
    spare = demands.price * demands.hours
    spare[waiting] -= range_sums(asked, mask[waiting], demands.start[waiting], demands.end[waiting])
    spare = most_over_slots(mask, demands, spare, waiting, asked.shape)
    return np.where(spare > -_NOTHING, np.maximum(offers, np.maximum(0, asked + spare)), offers), to_whole


_NOTHING = 1 << 61  # beyond any sum of prices over a window


def most_over_slots(row_of: Ints, side: Demands | Bids, value: Ints, lines: Ints, shape: tuple[int, ...]) -> Ints:
    """The greatest value among the lines that cover a slot, -_NOTHING without one.  # int64 [rows, slots]

    A range is covered by two ranges, each a power of two long, that may overlap: two entries a line, however long.
    """
    length = np.frexp(side.hours[lines].astype(np.float64))[1] - 1
    most = np.full(shape, -_NOTHING, dtype=np.int64)
    for power in range(int(length.max(initial=0)), -1, -1):
        chosen, span = lines[length == power], 1 << power
        np.maximum.at(most, (row_of[chosen], side.start[chosen]), value[chosen])
        np.maximum.at(most, (row_of[chosen], side.end[chosen] - span), value[chosen])
        half = span >> 1
        if half:  # hand each entry down to the two halves of its range
            lower = most.copy()
            lower[:, half:] = np.maximum(lower[:, half:], most[:, :-half])
            most = lower
    return most


def _next_slot(is_hit: Flags) -> Ints:
    """Per row and slot the next slot with a hit, itself included; the number of slots where none comes."""
    slots = is_hit.shape[1]
    place = np.where(is_hit, np.arange(slots), slots)
    following: Ints = np.minimum.accumulate(place[:, ::-1], axis=1)[:, ::-1]
    return following


# -- verdicts ----------------------------------------------------------------------------------------------------------


class _Verdicts:
    """The reasons of one side while they are found, one place a line; lines filled in full are left out at the end."""

    def __init__(self, side: int, lines: Demands | Bids, ptr: Ints, units: Ints) -> None:
        self.side, self.lines, self.ptr, self.units = side, lines, ptr, units
        filled = np.add.reduceat(units, ptr[:-1], dtype=np.int64) if len(lines) else np.zeros(0, dtype=np.int64)
        self.unfilled: Ints = lines.quantity * lines.hours - filled
        self.code = np.full(len(lines), NONE, dtype=np.int32)
        self.value = np.full(len(lines), NONE, dtype=np.int64)
        self.slot = np.full(len(lines), NONE, dtype=np.int32)

    def open_lines(self, among: Flags) -> Ints:
        return np.flatnonzero(among & (self.unfilled > 0))

    def tell(self, lines: Ints, among: Flags, code: int, value: Ints | int = NONE, slot: Ints | int = NONE) -> None:
        """Give this code to those of `lines` where `among` holds and no earlier code was given."""
        chosen = among & (self.code[lines] == NONE)
        told = lines[chosen]
        self.code[told] = code
        self.value[told] = value[chosen] if isinstance(value, np.ndarray) else value
        self.slot[told] = slot[chosen] if isinstance(slot, np.ndarray) else slot

    def columns(self) -> ReasonColumns:
        lines = np.flatnonzero(self.unfilled > 0)
        return ReasonColumns(
            np.full(len(lines), self.side, dtype=np.int32), lines.astype(np.int32), self.code[lines],
            self.value[lines], self.slot[lines], self.unfilled[lines])


def judge(book: Book, eligibility: Eligibility, allocation: Allocation, quotes: Quotes) -> ReasonColumns:
    """Exactly one reason for each line that is not filled in full."""
    sides = (_judge_bids(book, eligibility, allocation, quotes).columns(),
             _judge_demands(book, eligibility, allocation, quotes).columns())
    names = ("side", "line", "code", "value", "slot", "unfilled")
    return ReasonColumns(*(np.concatenate([getattr(side, name) for side in sides]) for name in names))


def _judge_demands(book: Book, eligibility: Eligibility, allocation: Allocation, quotes: Quotes) -> _Verdicts:
    demands, mask = book.demands, eligibility.mask_of_demand
    found = _Verdicts(DEMAND, demands, allocation.demand_ptr, allocation.demand_units)
    nothing = found.open_lines(mask < 0)
    rule = np.array([NONE if name is None else RULE_NAMES.index(name) for name in eligibility.emptied_by_need],
                    dtype=np.int64)
    found.tell(nothing, np.ones(len(nothing), dtype=np.bool_), NO_COMPLIANT_CAPACITY,
               rule[eligibility.need_of_demand[nothing]])
    sigma_ppm = allocation.sigma[0] * 1_000_000 // allocation.sigma[1]
    is_bound = demands.is_foundation & (allocation.sigma[0] > 0)
    for lines in _chunks(demands, found.open_lines((mask >= 0) & (demands.kind == DIVISIBLE))):
        owner, slot, missing = _missing_slots(found, lines)
        line = lines[owner]
        asked = quotes.asked[mask[line], slot]
        short = asked - demands.price[line]
        _judge_slots(found, lines, owner, slot, missing, short, [
            (asked == UNBOUNDED_MICROS, NO_CAPACITY_IN_SLOTS, slot),
            (is_bound[line] & (short <= 0), BUDGET_BOUND, np.full_like(slot, sigma_ppm)),
        ])
    _judge_whole_demands(book, eligibility, allocation, quotes, found, is_bound, sigma_ppm)
    return found


def _judge_whole_demands(
    book: Book, eligibility: Eligibility, allocation: Allocation, quotes: Quotes, found: _Verdicts, is_bound: Flags,
    sigma_ppm: int,
) -> None:
    demands, mask = book.demands, eligibility.mask_of_demand
    lines = found.open_lines((mask >= 0) & (demands.kind != DIVISIBLE))
    hours = demands.hours[lines]
    total, gap = _ask_over_range(quotes.asked, mask[lines], demands.start[lines], demands.end[lines])
    one_site = np.flatnonzero(demands.is_one_site[lines])
    total[one_site], gap[one_site] = _ask_in_one_site(book, eligibility, quotes, lines[one_site])
    short = total - demands.price[lines] * hours
    missing = demands.quantity[lines] - allocation.demand_units[allocation.demand_ptr[lines]]
    winner = _winners(book, allocation)[demands.choice[lines]]
    every = np.ones(len(lines), dtype=np.bool_)
    found.tell(lines, gap >= 0, NO_CAPACITY_IN_SLOTS, slot=gap)
    found.tell(lines, is_bound[lines] & (short <= 0), BUDGET_BOUND, sigma_ppm)
    found.tell(lines, short > 0, PRICED_OUT, -(-short // hours))  # per unit-hour, rounded up
    found.tell(lines, short == 0, MARGINAL, AT_THE_PRICE)
    found.tell(lines, (winner >= 0) & (winner != lines), ALTERNATIVE_WON, winner)
    found.tell(lines, demands.is_indivisible[lines], BLOCK_REJECTED, -short * missing)
    found.tell(lines, every, MARGINAL, ROUNDING)


def _ask_over_range(asked: Ints, row: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """What is asked over each range in all, and its first slot without capacity, NONE where there is none."""
    gap = _next_slot(asked == UNBOUNDED_MICROS)[row, start]
    return range_sums(asked, row, start, end), np.where(gap < end, gap, NONE)


def _ask_in_one_site(book: Book, eligibility: Eligibility, quotes: Quotes, lines: Ints) -> tuple[Ints, Ints]:
    """The same for lines that need one site: the cheapest that has capacity throughout, else the last to give out."""
    total, gap = np.zeros(len(lines), dtype=np.int64), np.full(len(lines), NONE, dtype=np.int64)
    mask, start, end = eligibility.mask_of_demand[lines], book.demands.start[lines], book.demands.end[lines]
    for s in np.unique(mask):
        sites: dict[str, list[int]] = {}
        for a in eligibility.masks[s]:
            sites.setdefault(eligibility.signatures[a].attributes.site, []).append(a)
        asked = np.stack([quotes.here[members].min(axis=0) for members in sites.values()])
        of_mask = np.flatnonzero(mask == s)
        each = [_ask_over_range(asked, np.full_like(of_mask, site), start[of_mask], end[of_mask])
                for site in range(len(sites))]
        gaps = np.stack([site_gap for _, site_gap in each])
        totals = np.stack([site_total for site_total, _ in each])
        total[of_mask] = np.where(gaps == NONE, totals, _NOTHING).min(axis=0)
        gap[of_mask] = np.where((gaps == NONE).any(axis=0), NONE, gaps.max(axis=0))
    return total, gap


def _winners(book: Book, allocation: Allocation) -> Ints:
    """The served line of each choice, NONE without; one place more, so that -1, no choice, has no winner."""
    winner = np.full(len(book.tables.choices) + 1, NONE, dtype=np.int64)
    rivals = np.flatnonzero(book.demands.choice >= 0)
    served = rivals[allocation.demand_units[allocation.demand_ptr[rivals]] > 0]
    winner[book.demands.choice[served]] = served
    return winner


def _judge_bids(book: Book, eligibility: Eligibility, allocation: Allocation, quotes: Quotes) -> _Verdicts:
    bids, signature = book.bids, eligibility.signature_of_bid
    found = _Verdicts(BID, bids, allocation.bid_ptr, allocation.bid_units)
    rho = _rho_of_bid(allocation)
    for lines in _chunks(bids, found.open_lines(bids.minimum == 0)):
        owner, slot, missing = _missing_slots(found, lines)
        line = lines[owner]
        offer = quotes.bid_up_to[signature[line], slot]
        short = bids.ask[line] - offer
        _judge_slots(found, lines, owner, slot, missing, short, [
            (offer == NONE, NO_MATCHING_DEMAND, slot),
            ((rho[line] > 0) & (short <= 0), CAP_BOUND, rho[line]),
        ])
    lines = found.open_lines(bids.minimum > 0)
    start, end, hours = bids.start[lines], bids.end[lines], bids.hours[lines]
    gap = _next_slot(quotes.whole_up_to == NONE)[signature[lines], start]
    short = bids.ask[lines] * hours - range_sums(quotes.whole_up_to, signature[lines], start, end)
    found.tell(lines, gap < end, NO_MATCHING_DEMAND, slot=gap)
    found.tell(lines, (rho[lines] > 0) & (short <= 0), CAP_BOUND, rho[lines])
    found.tell(lines, short > 0, PRICED_OUT, -(-short // hours))
    found.tell(lines, short == 0, MARGINAL, AT_THE_PRICE)
    missing = bids.quantity[lines] - allocation.bid_units[allocation.bid_ptr[lines]]
    found.tell(lines, short < 0, MINIMUM_NOT_MET, _exact_product(-short, missing))
    return found


def _exact_product(one: Ints, other: Ints) -> Ints:
    """Offers of many demands may add up to more than any of them could pay: refuse what does not fit."""
    product = one.astype(object) * other
    if any(abs(value) >= 1 << 62 for value in product):
        raise errors.BookOverflow("The opportunity cost of a bid does not fit 62 bits.")
    return product.astype(np.int64)


# -- slot by slot ------------------------------------------------------------------------------------------------------


def _chunks(side: Demands | Bids, lines: Ints) -> Iterator[Ints]:
    """The lines in parts whose line-slots fit the memory."""
    for part in chunks(side.start[lines], side.end[lines]):
        yield lines[part]


def _line_slots(side: Demands | Bids, ptr: Ints, lines: Ints) -> tuple[Ints, Ints, Ints]:
    """Every slot of every line: which of `lines`, the slot, its place among the units of the side."""
    owner, slot = line_slots(side.start[lines], side.end[lines])
    return owner, slot, slot + (ptr[lines] - side.start[lines])[owner]


def _missing_slots(found: _Verdicts, lines: Ints) -> tuple[Ints, Ints, Ints]:
    """The slots in which lines are not filled: which of `lines`, the slot, the units that miss."""
    owner, slot, place = _line_slots(found.lines, found.ptr, lines)
    missing = found.lines.quantity[lines][owner] - found.units[place]
    some = np.flatnonzero(missing)
    return owner[some], slot[some], missing[some]


def _judge_slots(
    found: _Verdicts, lines: Ints, owner: Ints, slot: Ints, missing: Ints, short: Ints,
    special: list[tuple[Flags, int, Ints]],
) -> None:
    """One verdict per line from its slots: the code with the most unfilled unit-hours, then its smallest key.

    `special`: (where, code, key) of what is told before the price is looked at. Keys order the misses of one code.
    """
    code = np.where(short > 0, PRICED_OUT, MARGINAL)
    key = np.where(short > 0, (short << SLOT_BITS) + slot, np.where(short < 0, ROUNDING, AT_THE_PRICE))
    for where, its_code, its_key in reversed(special):
        code, key = np.where(where, its_code, code), np.where(where, its_key, key)
    hours = np.bincount(owner * len(CODES) + code, weights=missing, minlength=len(lines) * len(CODES))
    chosen = hours.reshape(len(lines), len(CODES)).argmax(axis=1)
    same = np.flatnonzero(code == chosen[owner])
    least = np.full(len(lines), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(least, owner[same], key[same])
    is_gap = (chosen == NO_CAPACITY_IN_SLOTS) | (chosen == NO_MATCHING_DEMAND)
    is_short = chosen == PRICED_OUT
    found.code[lines] = chosen
    found.value[lines] = np.where(is_gap, NONE, np.where(is_short, least >> SLOT_BITS, least))
    found.slot[lines] = np.where(is_gap, least, np.where(is_short, least & ((1 << SLOT_BITS) - 1), NONE))
