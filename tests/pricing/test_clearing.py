"""One window cleared: prices, shares, awards, reasons and proof, on books small enough to know the answer."""

import itertools
import random
import time

import numpy as np
import pytest

from pricing import certificate
from pricing.allocation import Cap
from pricing.book import make_book
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.errors import CertificateFailed
from pricing.lines import Rules
from pricing.verify import verify_bundle
from tests.pricing.allocations import Trade, case
from tests.pricing.lines import bid, book, demand, odd_cycle
from tests.pricing.optimum import best_welfare_micros
from tests.pricing.synthetic import real_sized_book


def units(outcome):
    return {(a.demand_id, a.bid_id, a.start_slot, a.end_slot): a.units for a in outcome.awards}


def filled_hours(outcome, demand_id):
    return sum(a.units * (a.end_slot - a.start_slot) for a in outcome.awards if a.demand_id == demand_id)


def reason(outcome, line_id):
    found = [r for r in outcome.reasons if r.line_id == line_id]
    assert len(found) == 1
    return found[0].code, found[0].detail


# -- prices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "ask", "price"), [(2_000, 1_000, 1_500), (1_900, 1_000, 1_400), (700, 700, 700)])
@pytest.mark.parametrize("kind", ["divisible", "window"])
def test_one_buyer_and_one_provider_meet_at_the_midpoint_on_the_tick(kind, limit, ask, price):
    outcome = clear(book(demand("d", limit, 3, (0, 4), kind=kind), bid("b", ask, 3, (0, 4))))

    assert units(outcome) == {("d", "b", 0, 4): 3}
    assert [outcome.price_of("b", t) for t in range(4)] == [price] * 4
    assert outcome.awards[0].amount_micros == 3 * 4 * price
    assert (outcome.gap_micros, outcome.reasons) == (0, ())


def test_a_limit_below_the_ask_trades_nothing_and_both_are_told_by_how_much():
    outcome = clear(book(demand("d", 900), bid("b", 1_000)))

    assert (outcome.awards, outcome.price_of("b", 0)) == ((), None)
    assert reason(outcome, "d") == ("priced_out", {"short_by_micros": 100, "slot": 0})
    assert reason(outcome, "b") == ("priced_out", {"short_by_micros": 100, "slot": 0})


def test_spare_capacity_brings_the_price_down_to_the_ask():
    outcome = clear(book(demand("d", 2_000, 3), bid("b", 1_000, 4)))

    assert outcome.price_of("b", 0) == 1_000
    assert reason(outcome, "b") == ("marginal", {"cause": "at_the_price"})


def test_waiting_demand_brings_the_price_up_to_the_limit():
    outcome = clear(book(demand("d", 2_000, 4), bid("b", 1_000, 3)))

    assert outcome.price_of("b", 0) == 2_000
    assert reason(outcome, "d") == ("marginal", {"cause": "at_the_price"})


def test_one_buyer_takes_the_cheapest_of_many_and_pays_all_the_same():
    outcome = clear(book(demand("d", 3_000, 5), *(bid(f"b{n}", 1_000 + 500 * n, 2) for n in range(4))))

    assert units(outcome) == {("d", "b0", 0, 1): 2, ("d", "b1", 0, 1): 2, ("d", "b2", 0, 1): 1}
    assert {a.amount_micros // a.units for a in outcome.awards} == {2_000}
    assert reason(outcome, "b3") == ("priced_out", {"short_by_micros": 500, "slot": 0})


def test_the_price_of_divisible_demand_is_halfway_between_the_lowest_and_the_highest_that_clear():
    outcome = clear(book(
        demand("rich", 5_000), demand("poor", 1_200), bid("cheap", 1_000), bid("dear", 4_100),
    ))

    # Anything from the rejected limit 1,200 to the rejected ask 4,100 clears this market; the half tick goes down.
    assert units(outcome) == {("rich", "cheap", 0, 1): 1}
    assert outcome.price_of("cheap", 0) == 2_600


def test_a_provider_is_never_paid_less_than_its_ask_over_quality():
    outcome = clear(book(demand("d", 2_000, 2), bid("b", 900, 3, quality_bps=9_000)))

    assert outcome.price_of("b", 0) == 1_000
    assert outcome.welfare_micros == 2 * (2_000 - 1_000)


def test_a_window_may_pay_above_its_limit_in_one_slot_but_not_on_average():
    outcome = clear(book(
        demand("w", 2_000, slots=(0, 2), kind="window"), bid("night", 500, slots=(0, 1)),
        bid("day", 3_300, slots=(1, 2)),
    ))

    assert outcome.price_of("day", 1) >= 3_300 > 2_000
    assert sum(a.amount_micros for a in outcome.awards) <= 2 * 2_000


def test_unlike_products_have_their_own_prices_and_a_flexible_buyer_ties_them():
    outcome = clear(book(
        demand("a1", 5_000, accepted_classes=("A",)), demand("b1", 5_000, accepted_classes=("B",)),
        demand("either", 3_000, 1, accepted_classes=("A", "B")),
        bid("x", 1_000, 1, resource_class="A"), bid("y", 2_000, 2, resource_class="B"),
    ))

    assert units(outcome) == {("a1", "x", 0, 1): 1, ("b1", "y", 0, 1): 1, ("either", "y", 0, 1): 1}
    assert outcome.price_of("x", 0) >= outcome.price_of("y", 0)  # else the flexible buyer would take x


def test_two_resource_classes_fill_one_demand_that_names_both_and_not_one_that_names_one():
    machines = [bid("x", 1_000, 3, resource_class="A"), bid("y", 2_000, 2, resource_class="B")]

    assert units(clear(book(demand("d", 5_000, 5, accepted_classes=("A", "B")), *machines))) == {
        ("d", "x", 0, 1): 3, ("d", "y", 0, 1): 2}  # fmt: skip
    assert units(clear(book(demand("d", 5_000, 5, accepted_classes=("A",)), *machines))) == {("d", "x", 0, 1): 3}


# -- shares and awards ----------------------------------------------------------------------------------------------


def test_equal_limits_share_pro_rata_by_quantity():
    outcome = clear(book(demand("d1", 2_000, 6), demand("d2", 2_000, 3), bid("b", 1_000, 6)))

    assert units(outcome) == {("d1", "b", 0, 1): 4, ("d2", "b", 0, 1): 2}


def test_an_equal_remainder_goes_to_the_line_accepted_first():
    one = [demand("d1", 2_000, 1, accepted_rank=2), demand("d2", 2_000, 1, accepted_rank=1)]
    outcome = clear(book(*one, bid("b", 1_000, 1)))

    assert units(outcome) == {("d2", "b", 0, 1): 1}
    assert reason(outcome, "d1") == ("marginal", {"cause": "at_the_price"})


def test_with_equal_ranks_a_hash_decides_and_no_order_of_lines_changes_it():
    lines = [demand("d1", 2_000), demand("d2", 2_000), demand("d3", 2_000), bid("b", 1_000)]

    winners = {a.demand_id for order in itertools.permutations(lines) for a in clear(book(*order)).awards}

    assert len(winners) == 1


def test_equal_asks_share_pro_rata_too():
    outcome = clear(book(demand("d", 2_000, 6), bid("b1", 1_000, 6), bid("b2", 1_000, 3)))

    assert units(outcome) == {("d", "b1", 0, 1): 4, ("d", "b2", 0, 1): 2}


def test_a_pair_is_kept_from_slot_to_slot_when_a_newcomer_stands_before_it():
    outcome = clear(book(
        demand("d1", 2_000, 1, (1, 4)), demand("d2", 2_000, 1, (0, 4)), bid("b1", 1_000, 1, (0, 4)),
        bid("b2", 1_100, 1, (0, 4)),
    ))

    assert units(outcome) == {("d2", "b1", 0, 4): 1, ("d1", "b2", 1, 4): 1}


def test_a_window_takes_the_same_units_in_every_slot():
    outcome = clear(book(
        demand("w", 3_000, 4, (0, 3), kind="window"), bid("wide", 1_000, 5, (0, 3)), bid("narrow", 1_000, 9, (1, 3)),
        demand("rival", 4_000, 2, (1, 2)),
    ))

    got = [sum(a.units for a in outcome.awards if a.demand_id == "w" and a.start_slot <= t < a.end_slot)
           for t in range(3)]
    assert got == [4, 4, 4]


def test_the_amount_is_the_units_times_the_prices_of_the_slots():
    outcome = clear(book(
        demand("d", 2_000, 2, (0, 3)), demand("peak", 9_000, 1, (1, 2)), bid("b", 1_000, 2, (0, 3)),
    ))

    for award in outcome.awards:
        prices = [outcome.price_of(award.bid_id, t) for t in range(award.start_slot, award.end_slot)]
        assert award.amount_micros == award.units * sum(prices)


# -- empty sides and reasons ----------------------------------------------------------------------------------------


def test_an_empty_book_is_a_valid_result():
    outcome = clear(book())

    assert (outcome.awards, outcome.reasons, outcome.prices, outcome.welfare_micros) == ((), (), (), 0)


def test_demand_without_bids_is_told_so():
    outcome = clear(book(demand("d", units=3, slots=(0, 2))))

    assert reason(outcome, "d") == ("no_compliant_capacity", {"rule": "class"})
    assert outcome.reasons[0].unfilled_unit_hours == 6


def test_bids_without_demand_are_told_so():
    outcome = clear(book(bid("b", units=2, slots=(1, 3))))

    assert reason(outcome, "b") == ("no_matching_demand", {"slot": 1})
    assert outcome.reasons[0].unfilled_unit_hours == 4


def test_each_code_is_given_where_it_is_true():
    outcome = clear(book(
        demand("rules", 9_000, tier_min=3),
        demand("gap", 9_000, slots=(2, 4), kind="window"),
        demand("cheap", 1_000), demand("fits", 2_000, 2),
        bid("used", 1_500, 2), bid("late", 1_500, slots=(2, 3)), bid("alien", 100, resource_class="other"),
    ))

    assert reason(outcome, "rules") == ("no_compliant_capacity", {"rule": "tier"})
    assert reason(outcome, "gap") == ("no_capacity_in_slots", {"slot": 3})
    assert reason(outcome, "cheap")[0] == "priced_out"
    assert reason(outcome, "alien") == ("no_matching_demand", {"slot": 0})
    assert {a.demand_id for a in outcome.awards} == {"fits"}


def test_a_line_that_fails_in_several_ways_gets_the_one_with_the_most_unfilled_hours():
    lines = [demand("d", 2_000, 1, (0, 4)), bid("cheap", 1_000, 1, (0, 1)), bid("dear", 3_000, 1, (1, 2))]

    assert reason(clear(book(*lines)), "d") == ("no_capacity_in_slots", {"slot": 2})
    more = bid("dearer", 3_500, 1, (2, 4))
    assert reason(clear(book(*lines, more)), "d") == ("priced_out", {"short_by_micros": 1_000, "slot": 1})


def test_a_cell_without_a_trade_has_no_price_but_shows_the_best_of_both_sides():
    outcome = clear(book(demand("d", 900), bid("b", 1_000), bid("c", 1_200)))
    cell = outcome.prices[0]

    assert (cell.price_micros, cell.best_limit_micros, cell.best_ask_micros) == (None, 900, 1_000)
    assert outcome.price_of("b", 0) is None
    with pytest.raises(KeyError):
        outcome.price_of("nobody", 0)


# -- whole windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [900, 1_000, 1_100])  # 1,000 puts the only dual half a tick off
def test_where_no_optimum_is_whole_the_best_whole_one_at_the_prices_is_taken_and_the_gap_is_stated(limit):
    cycle = odd_cycle(limit)
    best, bound = best_welfare_micros(cycle, whole=True), best_welfare_micros(cycle, whole=False)
    assert bound > best

    outcome = clear(cycle)

    assert outcome.welfare_micros == best
    assert outcome.bound_micros >= bound
    assert reason(outcome, "x") == ("marginal", {"cause": "rounding"})
    assert verify_bundle(public_bundle(outcome, window="w")).ok  # the gap is at most a unit of each rounded window


def test_where_one_optimum_is_whole_it_is_found_and_nothing_is_rounded():
    cycle = odd_cycle(1_000, long_limit=1_300)  # z alone is worth as much as half of each, which would trade more hours

    outcome = clear(cycle)

    assert outcome.welfare_micros == best_welfare_micros(cycle, whole=False) == 3_600
    assert outcome.gap_micros == 0
    assert filled_hours(outcome, "z") == 3


# -- proof ----------------------------------------------------------------------------------------------------------


def random_book(seed, *, windows, lines=(8, 6), slots=4):
    rng = random.Random(seed)
    classes = ["A", "B", "C"]

    def span():
        start = rng.randrange(slots)
        return start, rng.randrange(start + 1, slots + 1)

    return book(
        *(demand(f"d{n}", 100 * rng.randint(1, 20), rng.randint(1, 4), span(), tier_min=rng.randint(0, 1),
                 kind="window" if rng.random() < windows else "divisible",
                 accepted_classes=tuple(rng.sample(classes, rng.randint(1, 3)))) for n in range(lines[0])),
        *(bid(f"b{n}", 100 * rng.randint(1, 20), rng.randint(1, 5), span(), resource_class=rng.choice(classes),
              tier=rng.randint(0, 1), quality_bps=rng.choice([10_000, 9_000])) for n in range(lines[1])),
        slots=slots,
    )


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("windows", [0.0, 0.6])
def test_welfare_equals_the_optimum_of_a_programme_that_merges_nothing(seed, windows):
    small = random_book(seed, windows=windows)

    outcome = clear(small)

    assert outcome.gap_micros == 0
    assert outcome.welfare_micros == pytest.approx(best_welfare_micros(small, whole=True), abs=0.01)


def certify(made, *trades, **other):
    return certificate.certify(*case(made, *trades, **other).parts)


def test_a_result_that_is_not_optimal_is_never_published():
    small = book(demand("d", 2_000, 2), bid("b", 1_000, 2))
    assert certify(small, Trade("d", "b", 0, 2), lam=1_500).gap_micros == 0

    with pytest.raises(CertificateFailed) as caught:
        certify(small, Trade("d", "b", 0, 1), lam=1_500)

    assert caught.value.code == "certificate_failed"
    assert caught.value.facts["gap_micros"] == 1_000


def test_the_bound_of_a_result_that_lacks_a_line_is_that_of_the_whole_book():
    small = book(demand("d", 2_000, 2), demand("k", 900, 3, kind="block"), bid("b", 500, 3))
    left_out = {"is_rejected": np.array([False, True]), "lam": 500}

    proof = certify(small, Trade("d", "b", 0, 2), relaxed_micros=case(small, lam=500).allocation.lam_micros, **left_out)

    assert (proof.welfare_micros, proof.settled_bound_micros) == (3_000, 3_000)
    assert (proof.bound_micros, proof.gap_micros) == (4_200, 1_200)  # 3 units of k at 500 would gain 1,200


WIDE = {"slots": (0, 2), "kind": "window"}
PROMISES = {
    "a demand is overfilled": ([demand("d", 2_000, 1), bid("b", 1_000, 9)], [Trade("d", "b", 0, 2)], {}),
    "a price is above a limit": ([demand("d", 900), bid("b", 500)], [Trade("d", "b", 0, 1)], {}),
    "a window is uneven": (
        [demand("d", 2_000, **WIDE), bid("b", 500, slots=(0, 2))], [Trade("d", "b", 0, 1)], {}),
    "a demand pays above its limit": (
        [demand("d", 900, **WIDE), bid("b", 500, slots=(0, 2))], [Trade("d", "b", 0, 1), Trade("d", "b", 1, 1)], {}),
    "a minimum is not kept": (
        [demand("d", 2_000, 3, kind="window", minimum_units=2), bid("b", 500)], [Trade("d", "b", 0, 1)], {}),
    "two alternatives are served": (
        [*(demand(name, 2_000, kind="window", choice="c") for name in "de"), bid("b", 500, 2)],
        [Trade("d", "b", 0, 1), Trade("e", "b", 0, 1)], {}),
    "a bid is oversold": ([demand("d", 2_000, 2), bid("b", 500, 1)], [Trade("d", "b", 0, 2)], {}),
    "a price is below an ask": ([demand("d", 2_000), bid("b", 1_500)], [Trade("d", "b", 0, 1)], {}),
    "a bid with a minimum is uneven": (
        [demand("d", 2_000, slots=(0, 2)), bid("b", 500, slots=(0, 2), minimum_units=1)], [Trade("d", "b", 0, 1)], {}),
    "a bid with a minimum is paid below its ask": (
        [demand("d", 2_000), bid("b", 1_500, minimum_units=1)], [Trade("d", "b", 0, 1)], {}),
    "a minimum is not kept by a bid": (
        [demand("d", 2_000), bid("b", 500, 3, minimum_units=2)], [Trade("d", "b", 0, 1)], {}),
    "a cap is not kept": (
        [demand("d", 2_000, 2), bid("b", 500, 2)], [Trade("d", "b", 0, 2)],
        {"caps": (Cap(1, ("H100", "DE", 1), 1, 0, 0),), "cap_of_bid": np.zeros(1, dtype=np.int64)}),
    "the Foundation spends more than its budget": (
        [demand("d", 2_000, is_foundation=True), bid("b", 500)], [Trade("d", "b", 0, 1)], {}),
}


@pytest.mark.parametrize("broken", PROMISES)
def test_the_certificate_refuses_each_broken_promise(broken):
    lines, trades, other = PROMISES[broken]
    small = book(*lines, rules=Rules(None, 1_900))

    with pytest.raises(CertificateFailed, match=broken.removesuffix(" by a bid")):
        certify(small, *trades, lam=1_000, **other)


def test_a_real_sized_book_clears_to_a_checked_certificate_and_verifies_in_seconds():
    market = real_sized_book(seed=1)
    started = time.process_time()
    outcome = clear(market)
    cleared = time.process_time()
    report = verify_bundle(public_bundle(outcome, window="w1"))
    verified = time.process_time()

    assert (outcome.gap_micros, report.ok, report.losers_without_reason) == (0, True, 0)
    assert report.awards > 500
    assert cleared - started < 40  # 2 s on a quiet machine
    assert verified - cleared < 20  # .8 s


def test_a_middling_book_gives_the_same_bytes_from_shuffled_lines():
    market = real_sized_book(seed=3, demands=90, bids=20, slots=48)
    demands, bids = list(market.demands), list(market.bids)
    random.Random(1).shuffle(demands)
    random.Random(2).shuffle(bids)
    again = make_book(slots=48, demands=demands, bids=bids, latency_ms=dict(reversed(market.latency_ms.items())))

    assert public_bundle(clear(market), window="w") == public_bundle(clear(again), window="w")
