"""One true reason for every line that is not filled in full, judged at the published numbers."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricing import errors
from pricing.allocation import UNBOUNDED_MICROS, Cap
from pricing.awards import cut_awards, traded_units
from pricing.reasons import CODES, judge, quote_cells, reason_lines
from tests.pricing.allocations import Trade, case, random_case
from tests.pricing.lines import bid, book, demand

SEEDS = st.integers(0, 2**32)


def quotes(found):
    return quote_cells(*found.parts, is_traded(found))


def is_traded(found):
    return traded_units(found.book, found.eligibility, cut_awards(*found.parts)) > 0


def reasons(found):
    """(side, line) -> (code, detail, unfilled unit-hours)"""
    lines = list(reason_lines(found.book, judge(*found.parts, quotes(found))))
    assert len({(line.side, line.line_id) for line in lines}) == len(lines)
    return {(line.side, line.line_id): (line.code, line.detail, line.unfilled_unit_hours) for line in lines}


def of(found, name):
    """Code and detail of the one line with this id."""
    (reason,) = [reason[:2] for (_, line), reason in reasons(found).items() if line == name]
    return reason


# -- the same, line by line and slot by slot ---------------------------------------------------------------------------


class Plain:
    """The rules of `pricing.reasons` in plain Python over one line at a time."""

    def __init__(self, found):
        self.found, (self.book, self.eligibility, self.allocation) = found, found.parts
        self.traded = is_traded(found)
        self.signature = self.eligibility.signature_of_bid.tolist()
        self.price = [[int(x) if traded else None for x, traded in zip(row, flags, strict=True)] for row, flags in zip(
            self.allocation.lam_micros, self.traded, strict=True)]
        self.lowest = [[min((adjusted(self.book, j) + self.rho(j) for j, b in enumerate(self.book.bids)
                             if self.signature[j] == a and b.start_slot <= t < b.end_slot and not b.minimum_units),
                            default=None)
                        for t in range(self.book.slots)] for a in range(len(self.price))]
        self.sigma, self.sigma_over = self.allocation.sigma

    def rho(self, j):
        cap = int(self.allocation.cap_of_bid[j])
        return self.allocation.caps[cap].rho_micros if cap >= 0 else 0

    def units(self, side, n, t):
        lines, ptr, units = {
            "demand": (self.book.demands, self.allocation.demand_ptr, self.allocation.demand_units),
            "bid": (self.book.bids, self.allocation.bid_ptr, self.allocation.bid_units)}[side]
        return int(units[ptr[n] + t - lines[n].start_slot])

    def asked(self, members, t):
        here = [self.price[a][t] if self.price[a][t] is not None else self.lowest[a][t] for a in members]
        return min((x for x in here if x is not None), default=UNBOUNDED_MICROS)

    def offered(self, a, t, to_whole=False):
        if self.price[a][t] is not None:
            return self.price[a][t]
        offers = []
        for i, line in enumerate(self.book.demands):
            s = int(self.eligibility.mask_of_demand[i])
            if s < 0 or a not in self.eligibility.masks[s] or not line.start_slot <= t < line.end_slot:
                continue
            asked = [self.asked(self.eligibility.masks[s], u) for u in range(line.start_slot, line.end_slot)]
            here = asked[t - line.start_slot]
            units = self.units("demand", i, t)
            if units:
                offers.append(here)
            if units == line.quantity_units or (line.is_foundation and self.sigma):
                continue
            if not units and (line.minimum_units or line.choice or line.is_one_site):
                continue
            if line.kind == "divisible" or to_whole:
                offers.append(line.price_limit_micros)
            else:
                offers.append(max(0, line.price_limit_micros * len(asked) - (sum(asked) - here)))
        return max(offers, default=None)

    def missing(self, side, n, line):
        return {t: line.quantity_units - self.units(side, n, t) for t in range(line.start_slot, line.end_slot)}

    def all(self):
        found = {}
        for side, lines, why in (("demand", self.book.demands, self.why_demand), ("bid", self.book.bids, self.why_bid)):
            for n, line in enumerate(lines):
                missing = self.missing(side, n, line)
                if sum(missing.values()):
                    found[side, line.id] = (*why(n, line, missing), sum(missing.values()))
        return found

    def why_demand(self, i, line, missing):
        s = int(self.eligibility.mask_of_demand[i])
        if s < 0:
            return "no_compliant_capacity", {"rule": self.eligibility.emptied_by(i)}
        is_bound = line.is_foundation and self.sigma > 0
        budget = ("budget_bound", {"sigma_ppm": self.sigma * 10**6 // self.sigma_over})
        if line.kind == "divisible":
            slots = []
            for t, units in missing.items():
                short = self.asked(self.eligibility.masks[s], t) - line.price_limit_micros
                if short + line.price_limit_micros == UNBOUNDED_MICROS:
                    verdict = "no_capacity_in_slots", {"slot": t}
                elif is_bound and short <= 0:
                    verdict = budget
                else:
                    verdict = shortfall(short, t)
                slots.append((t, units, verdict))
            return most(slots)
        return self.why_whole(i, line, s, missing, budget if is_bound else None)

    def why_whole(self, i, line, s, missing, budget):
        slots = range(line.start_slot, line.end_slot)
        sites = {self.eligibility.signatures[a].attributes.site for a in self.eligibility.masks[s]}
        choices = [[a for a in self.eligibility.masks[s] if self.eligibility.signatures[a].attributes.site == site]
                   for site in sites] if line.is_one_site else [self.eligibility.masks[s]]
        rows = [[self.asked(members, t) for t in slots] for members in choices]
        if all(UNBOUNDED_MICROS in row for row in rows):
            return "no_capacity_in_slots", {"slot": slots[max(row.index(UNBOUNDED_MICROS) for row in rows)]}
        short = min(sum(row) for row in rows if UNBOUNDED_MICROS not in row) - line.price_limit_micros * len(slots)
        if budget and short <= 0:
            return budget
        if short > 0:
            return "priced_out", {"short_by_micros": -(-short // len(slots))}
        if short == 0:
            return "marginal", {"cause": "at_the_price"}
        rivals = [other.id for n, other in enumerate(self.book.demands)
                  if line.choice is not None and other.choice == line.choice and n != i
                  and self.units("demand", n, other.start_slot)]
        if rivals:
            return "alternative_won", {"winner": rivals[0]}
        if line.minimum_units or line.choice is not None or line.is_one_site:
            return "block_rejected", {"opportunity_cost_micros": -short * min(missing.values())}
        return "marginal", {"cause": "rounding"}

    def why_bid(self, j, line, missing):
        ask, a, rho = adjusted(self.book, j), self.signature[j], self.rho(j)
        bound = ("cap_bound", {"rho_micros": rho})
        if line.minimum_units:
            offers = {t: self.offered(a, t, to_whole=True) for t in missing}
            if None in offers.values():
                return "no_matching_demand", {"slot": min(t for t, offer in offers.items() if offer is None)}
            short = ask * len(offers) - sum(offers.values())
            if short <= 0 < rho:
                return bound
            if short > 0:
                return "priced_out", {"short_by_micros": -(-short // len(offers))}
            if short == 0:
                return "marginal", {"cause": "at_the_price"}
            return "minimum_not_met", {"opportunity_cost_micros": -short * min(missing.values())}
        slots = []
        for t, units in missing.items():
            offer = self.offered(a, t)
            if offer is None:
                verdict = "no_matching_demand", {"slot": t}
            elif rho > 0 and ask <= offer:
                verdict = bound
            else:
                verdict = shortfall(ask - offer, t)
            slots.append((t, units, verdict))
        return most(slots)


def adjusted(of_book, j):
    return int(of_book.bids.ask[j])


def shortfall(short, t):
    if short > 0:
        return "priced_out", {"short_by_micros": short, "slot": t}
    return "marginal", {"cause": "rounding" if short < 0 else "at_the_price"}


def most(slots):
    hours = Counter()
    for _, units, (code, _) in slots:
        hours[code] += units
    code = min((c for c in hours if hours[c]), key=lambda c: (-hours[c], CODES.index(c)))
    details = [detail for _, units, (its_code, detail) in slots if its_code == code and units]
    if code == "priced_out":
        return code, min(details, key=lambda d: (d["short_by_micros"], d["slot"]))
    return code, max(details, key=lambda d: d.get("cause") == "rounding")


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_line_not_filled_has_the_reason_that_the_plain_rules_give(seed):
    found = with_caps_and_budget(random_case(seed), seed)

    assert reasons(found) == Plain(found).all()


def with_caps_and_budget(found, seed):
    rng = np.random.default_rng(seed)
    cap = Cap(0, ("H100", "EU", 1), 5, int(rng.choice([0, 300])), 0)
    return replace(found, allocation=replace(
        found.allocation, caps=(cap,), sigma=(int(rng.integers(0, 2)), 3),
        cap_of_bid=np.where(rng.random(len(found.book.bids)) < 0.3, 0, -1)))


def test_the_random_books_reach_every_code():
    seen = Counter(code for seed in range(120) for code, _, _ in reasons(
        with_caps_and_budget(random_case(seed), seed)).values())

    assert set(seen) == set(CODES)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_quotes_are_those_of_the_plain_rules(seed):
    found, shown = random_case(seed), {None: -1}
    plain, quoted = Plain(found), quotes(found)

    slots, signatures = range(found.book.slots), range(len(found.eligibility.signatures))
    assert quoted.asked.tolist() == [[plain.asked(mask, t) for t in slots] for mask in found.eligibility.masks]
    assert quoted.lowest_ask.tolist() == [[shown.get(x, x) for x in row] for row in plain.lowest]
    assert quoted.bid_up_to.tolist() == [
        [shown.get(offer := plain.offered(a, t), offer) for t in slots] for a in signatures]
    assert quoted.whole_up_to.tolist() == [
        [shown.get(offer := plain.offered(a, t, to_whole=True), offer) for t in slots] for a in signatures]


# -- one by one --------------------------------------------------------------------------------------------------------


def test_lines_filled_in_full_have_no_reason():
    assert reasons(case(book(demand("d", units=2), bid("b", units=2)), Trade("d", "b", 0, 2))) == {}


def test_no_bid_passes_the_rules_and_the_first_that_emptied_is_named():
    found = case(book(demand("d", countries=("FR",)), bid("b")))

    assert of(found, "d") == ("no_compliant_capacity", {"rule": "country"})
    assert of(found, "b") == ("no_matching_demand", {"slot": 0})


def test_compliant_capacity_in_other_slots_only():
    lines = book(demand("d", 3_000, slots=(0, 3)), demand("w", 3_000, slots=(0, 3), kind="window"),
                 bid("b", units=1, slots=(0, 1)))

    assert of(case(lines), "d") == ("no_capacity_in_slots", {"slot": 1})
    assert of(case(lines), "w") == ("no_capacity_in_slots", {"slot": 1})


def test_short_of_the_price_by_the_closest_slot_and_a_window_on_average():
    lines = book(demand("d", 900, slots=(0, 2)), demand("w", 900, slots=(0, 2), kind="window"),
                 demand("x", 5_000, units=2, slots=(0, 2)), bid("b", 100, units=2, slots=(0, 2)))
    found = case(lines, Trade("x", "b", 0, 2), Trade("x", "b", 1, 2), lam=[1_200, 1_000, 0, 0])

    assert of(found, "d") == ("priced_out", {"short_by_micros": 100, "slot": 1})
    assert of(found, "w") == ("priced_out", {"short_by_micros": 200})


def test_at_the_price_and_in_the_money():
    lines = book(demand("even", 1_000), demand("above", 1_200, kind="window"), demand("x", 5_000), bid("b", 900))
    found = case(lines, Trade("x", "b", 0, 1), lam=1_000)

    assert of(found, "even") == ("marginal", {"cause": "at_the_price"})
    assert of(found, "above") == ("marginal", {"cause": "rounding"})


def test_the_foundation_is_stopped_by_its_budget_before_its_limit_and_not_when_that_is_too_low():
    lines = book(demand("f", 1_200, is_foundation=True), demand("g", 800, is_foundation=True),
                 demand("h", 1_200, is_foundation=True, kind="window"),
                 demand("i", 1_000, is_foundation=True, kind="window"), demand("j", 1_000, is_foundation=True),
                 demand("x", 5_000), bid("b", 900))
    found = case(lines, Trade("x", "b", 0, 1), lam=1_000, sigma=(1, 3))

    assert {name: of(found, name) for name in "fhij"} == dict.fromkeys("fhij", ("budget_bound", {"sigma_ppm": 333_333}))
    assert of(found, "g") == ("priced_out", {"short_by_micros": 200, "slot": 0})
    assert of(case(lines, Trade("x", "b", 0, 1), lam=1_000), "f") == ("marginal", {"cause": "rounding"})


def test_a_capped_seller_is_told_what_the_cap_takes_unless_its_ask_is_too_high():
    lines = book(demand("x", 5_000), bid("a", 900), bid("b", 900), bid("c", 2_000))
    cap = Cap(0, ("H100", "DE", 1), 1, 100, 100)
    found = case(lines, Trade("x", "a", 0, 1), lam=1_000, caps=(cap,), cap_of_bid=np.array([-1, 0, 0]))

    assert of(found, "b") == ("cap_bound", {"rho_micros": 100})
    assert of(found, "c") == ("priced_out", {"short_by_micros": 1_000, "slot": 0})


def test_of_alternatives_the_others_name_the_winner_unless_they_were_too_dear_anyway():
    lines = book(demand("a", 2_000, kind="window", choice="c"), demand("b", 3_000, kind="window", choice="c"),
                 demand("p", 100, kind="window", choice="c"), demand("z", 3_000, kind="window", choice="other"),
                 bid("x", 900, units=4))
    found = case(lines, Trade("b", "x", 0, 1), lam=1_000)

    assert of(found, "a") == ("alternative_won", {"winner": "b"})
    assert of(found, "p") == ("priced_out", {"short_by_micros": 900})
    assert of(found, "z") == ("block_rejected", {"opportunity_cost_micros": 2_000})


@pytest.mark.parametrize("trait", [{"kind": "block"}, {"minimum_units": 1}, {"is_one_site": True}])
def test_a_line_left_out_in_the_money_is_told_what_it_lost(trait):
    lines = book(demand("k", 1_500, units=2, slots=(0, 2), **{"kind": "window", **trait}),
                 demand("x", 5_000, slots=(0, 2)), bid("b", 900, slots=(0, 2)))
    found = case(lines, Trade("x", "b", 0, 1), Trade("x", "b", 1, 1), lam=1_000)

    assert of(found, "k") == ("block_rejected", {"opportunity_cost_micros": 2 * 2 * 500})


def test_one_site_pays_the_cheapest_site_that_holds_out_and_names_the_last_to_give_out():
    berlin, paris = {"site": "berlin"}, {"site": "paris", "country": "FR"}
    lines = [demand("k", 1_000, slots=(0, 3), kind="window", is_one_site=True),
             bid("b1", 100, slots=(0, 1), **berlin), bid("p1", 100, slots=(0, 2), **paris)]
    assert of(case(book(*lines)), "k") == ("no_capacity_in_slots", {"slot": 2})

    lines += [bid("b2", 2_000, slots=(1, 3), **berlin)]  # a window could switch sites for less
    assert of(case(book(*lines)), "k") == ("priced_out", {"short_by_micros": 367})


def test_a_bid_with_a_minimum_is_judged_over_all_its_slots():
    wanted = demand("d", 1_000, units=4, slots=(0, 2))
    assert of(case(book(wanted, bid("b", 900, 4, (0, 2), minimum_units=2))), "b") == (
        "minimum_not_met", {"opportunity_cost_micros": 4 * 2 * 100})
    assert of(case(book(wanted, bid("b", 1_000, 4, (0, 2), minimum_units=2))), "b") == (
        "marginal", {"cause": "at_the_price"})
    assert of(case(book(wanted, bid("b", 1_100, 4, (0, 2), minimum_units=2))), "b") == (
        "priced_out", {"short_by_micros": 100})
    assert of(case(book(wanted, bid("b", 900, 4, (0, 3), minimum_units=2))), "b") == (
        "no_matching_demand", {"slot": 2})


def test_a_bid_with_a_minimum_could_meet_a_window_in_all_its_slots_but_asks_nothing_in_one_alone():
    lines = book(demand("w", 1_000, 2, (0, 2), kind="window"), demand("k", 5_000, 1, (0, 2), kind="block"),
                 bid("b", 900, 4, (0, 2), minimum_units=3), bid("c", 1_200, 2, (0, 1)), slots=2)
    found = case(lines)

    assert of(found, "b") == ("minimum_not_met", {"opportunity_cost_micros": 4 * 2 * 100})
    assert of(found, "w") == of(found, "k") == ("no_capacity_in_slots", {"slot": 1})
    assert quotes(found).lowest_ask.tolist() == [[1_200, -1]]
    assert quotes(found).whole_up_to.tolist() == [[1_000, 1_000]]  # a block without awards bids nothing


def test_what_the_budget_keeps_out_bids_nothing_and_a_capped_bid_asks_for_its_cap_too():
    lines = book(demand("f", 2_000, is_foundation=True), demand("d", 1_000), bid("a", 1_100), bid("b", 900),
                 slots=1)
    cap = Cap(0, ("H100", "DE", 1), 1, 300, 300)
    found = case(lines, caps=(cap,), cap_of_bid=np.array([-1, 0]), sigma=(1, 2))

    assert quotes(found).bid_up_to.tolist() == [[1_000]]
    assert quotes(found).lowest_ask.tolist() == [[1_100]]
    assert of(found, "b") == ("cap_bound", {"rho_micros": 300})


def test_a_line_that_is_served_in_part_is_told_what_the_rest_lost():
    lines = book(demand("k", 1_500, units=5, slots=(0, 2), kind="window", minimum_units=2), bid("b", 900, 2, (0, 2)))
    found = case(lines, Trade("k", "b", 0, 2), Trade("k", "b", 1, 2), lam=1_000)

    assert of(found, "k") == ("block_rejected", {"opportunity_cost_micros": 3 * 2 * 500})


def test_an_opportunity_cost_beyond_62_bits_is_refused():
    def lines(units):
        return book(demand("d", 10**9, 1, (0, 744), kind="window"), bid("a", 100, 1, (0, 744)),
                    bid("b", 100, units, (0, 744), minimum_units=1), slots=744)

    trades = [Trade("d", "a", t, 1) for t in range(744)]
    assert of(case(lines(1), *trades, lam=10**10), "b")[0] == "minimum_not_met"
    with pytest.raises(errors.BookOverflow, match="62 bits"):
        reasons(case(lines(2**20), *trades, lam=10**10))


def test_unfilled_unit_hours_and_the_code_with_the_most_of_them():
    lines = book(demand("d", 1_000, 5, (0, 3)), demand("x", 5_000, 1, (0, 3)), bid("b", 100, 3, (0, 2)),
                 bid("c", 100, 1, (2, 3)))
    found = case(lines, *(Trade("x", "b", t, 1) for t in (0, 1)), Trade("x", "c", 2, 1), Trade("d", "b", 0, 2),
                 Trade("d", "b", 1, 2), lam=[1_000, 1_000, 1_500, 0])

    assert reasons(found)["demand", "d"] == ("marginal", {"cause": "at_the_price"}, 3 + 3 + 5)
