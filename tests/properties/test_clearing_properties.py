"""Promises of every clearing, on small books of every kind of line that hypothesis draws."""

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pricing.book import adjusted_ask_micros, make_book
from pricing.bundle import public_bundle
from pricing.clearing import clear
from tests.pricing import promises
from tests.pricing.drawn import CONVEX, EVERY, by_seed, small_book
from tests.pricing.lines import bid, book, demand

prove = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
prove_more = settings(prove, max_examples=30)


@st.composite
def books(draw, **limits):
    return small_book(lambda options: draw(st.sampled_from(options)), **limits)


def any_book():
    return books(rules=True)


def bundle(outcome):
    return public_bundle(outcome, window="w")


@prove
@given(any_book())
def test_every_award_keeps_the_rules_and_lies_inside_both_lines(one):
    promises.every_award_keeps_the_rules_and_lies_inside_both_lines(clear(one))


@prove
@given(any_book())
def test_no_line_gives_or_takes_more_than_it_has(one):
    promises.no_line_gives_or_takes_more_than_it_has(clear(one))


@prove
@given(any_book())
def test_every_kind_is_served_as_it_must_be(one):
    promises.every_kind_is_served_as_it_must_be(clear(one))


@prove
@given(any_book())
def test_nobody_pays_above_a_limit_or_earns_below_an_ask(one):
    promises.nobody_pays_above_a_limit_or_earns_below_an_ask(clear(one))


@prove
@given(any_book())
def test_the_money_balances_to_the_micro_and_the_units_to_the_flows(one):
    promises.money_and_units_balance(clear(one))


@prove
@given(any_book())
def test_only_what_traded_has_a_price(one):
    promises.what_did_not_trade_has_no_price_and_what_did_has_one(clear(one))


@prove
@given(any_book())
def test_every_line_is_filled_or_has_exactly_one_reason_for_exactly_the_rest(one):
    promises.every_rest_has_exactly_one_reason(clear(one))


@prove
@given(books(kinds=CONVEX, whole_bids=False, is_plain=True, rules=True))
def test_no_parent_sells_more_than_its_share_with_all_its_bids_together(one):
    promises.no_parent_sells_more_than_its_share(clear(one))


@prove
@given(books(kinds=CONVEX, rules=True))
def test_the_foundation_keeps_to_its_budget(one):
    promises.the_foundation_keeps_to_its_budget(clear(one))


@prove
@given(any_book())
def test_the_certificate_bounds_what_any_allocation_could_be_worth(one):
    promises.the_certificate_is_true(clear(one))


@prove_more
@given(books(kinds=CONVEX, whole_bids=False))
def test_a_book_that_prices_can_ration_is_cleared_to_its_optimum(one):
    promises.a_book_that_prices_can_ration_is_cleared_to_its_optimum(clear(one))


@prove_more
@given(books(is_plain=True, whole_max=4, demands=6, bids=4))
def test_no_set_of_indivisible_lines_that_prices_support_is_worth_more(one):
    promises.no_set_of_indivisible_lines_that_prices_support_is_worth_more(clear(one))


@prove_more
@given(any_book())
def test_the_verifier_agrees_with_the_engine(one):
    promises.the_verifier_agrees(clear(one))


@prove
@given(any_book(), st.randoms(use_true_random=False))
def test_permuted_lines_give_the_same_bytes(one, chance):
    demands, bids, latency = list(one.demands), list(one.bids), list(one.latency_ms.items())
    for lines in (demands, bids, latency):
        chance.shuffle(lines)

    again = make_book(slots=one.slots, demands=demands, bids=bids, latency_ms=dict(latency), rules=one.rules,
                      home_zones=one.home_zones)

    assert bundle(clear(one)) == bundle(clear(again))


@prove
@given(any_book())
def test_the_same_book_gives_the_same_bytes_again(one):
    assert bundle(clear(one)) == bundle(clear(one))


@prove
@given(books(kinds=CONVEX, whole_bids=False), st.randoms(use_true_random=False))
def test_other_names_change_nothing_that_a_name_must_not_decide(one, chance):
    """Names decide between equals only; what all trades are worth together is none of their business."""
    renamed = _renamed(one, chance)

    outcome, other = clear(one), clear(renamed)

    assert outcome.bound_micros == other.bound_micros
    assert outcome.gap_micros or other.gap_micros or outcome.welfare_micros == other.welfare_micros


def _renamed(one, chance):
    """Other ids, in another order."""
    names = [f"x{n:02d}" for n in range(len(one.demands) + len(one.bids))]
    chance.shuffle(names)
    demands = [replace(line, id=names.pop()) for line in one.demands]
    bids = [replace(line, id=names.pop()) for line in one.bids]
    return make_book(slots=one.slots, demands=demands, bids=bids, latency_ms=one.latency_ms, rules=one.rules,
                     home_zones=one.home_zones)


@prove_more
@given(books(kinds=("divisible",), whole_bids=False, slots=1, is_plain=True))
def test_one_product_in_one_slot_is_priced_halfway_between_the_lowest_and_the_highest_that_clear(one):
    limits = sorted((line.price_limit_micros for line in one.demands for _ in range(line.quantity_units)), reverse=True)
    asks = sorted(adjusted_ask_micros(line) for line in one.bids for _ in range(line.quantity_units))
    assume(len({line.parent for line in (*one.demands, *one.bids)}) == len(one.demands) + len(one.bids))
    traded = sum(limit >= ask for limit, ask in zip(limits, asks, strict=False))

    outcome = clear(one)

    assert sum(award.units for award in outcome.awards) == traded
    if traded:
        low = max([asks[traded - 1], *limits[traded:traded + 1]])
        high = min([limits[traded - 1], *asks[traded:traded + 1]])
        assert {cell.price_micros for cell in outcome.prices if cell.price_micros is not None} == {
            low + (high - low) // 200 * 100}


@prove
@given(books(kinds=("divisible",), whole_bids=False, slots=1, is_plain=True), st.data())
def test_who_raises_its_limit_is_not_further_from_the_price_than_before(one, data):
    losers = [reason for reason in clear(one).reasons if reason.side == "demand" and reason.code == "priced_out"]
    assume(losers)
    loser = data.draw(st.sampled_from(losers))
    short = loser.detail["short_by_micros"]
    more = short + 100 * data.draw(st.integers(0, 5))
    lines = [replace(line, price_limit_micros=line.price_limit_micros + more) if line.id == loser.line_id else line
             for line in one.demands]

    again = [reason for reason in clear(book(*lines, *one.bids, slots=one.slots)).reasons
             if (reason.side, reason.line_id, reason.code) == ("demand", loser.line_id, "priced_out")]

    assert all(reason.detail["short_by_micros"] <= short for reason in again)


spans = st.tuples(st.integers(0, 3), st.integers(1, 4)).filter(lambda span: span[0] < span[1])


@prove_more
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(1, 4), spans, spans,
       st.sampled_from(["divisible", "window", "block"]))
def test_one_buyer_and_one_provider_meet_halfway_unless_one_of_them_has_more_to_give(
    limit, ask, wanted, offered, inside, outside, kind,
):
    limit, ask = 100 * limit, 100 * ask
    span = (min(inside[0], outside[0]), max(inside[1], outside[1]))
    outcome = clear(book(demand("d", limit, wanted, inside, kind=kind), bid("b", ask, offered, span)))

    is_served = limit >= ask and (kind != "block" or wanted <= offered)
    assert sum(award.units for award in outcome.awards) == (min(wanted, offered) if is_served else 0)
    prices = [outcome.price_of("b", t) for t in range(*inside)]
    if is_served and wanted > offered and kind == "window":
        assert sum(prices) == limit * len(prices)  # its limit binds on the average
    elif is_served:
        high, low = ask if wanted < offered else limit, limit if wanted > offered else ask
        assert set(prices) == {low + (high - low) // 200 * 100}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("limits", [
    {}, {"rules": True}, {"is_plain": True, "whole_max": 5}, {"kinds": CONVEX, "rules": True, "whole_bids": False},
    {"kinds": CONVEX, "rules": True, "is_plain": True, "demands": 9, "bids": 9},
    {"kinds": (*CONVEX, "block"), "slots": 6, "ticks": 400, "units": 9}, {"kinds": EVERY, "slots": 1, "is_plain": True},
], ids=str)
def test_thousands_of_books_keep_every_promise(limits, part):
    for seed in range(150 * part, 150 * (part + 1)):
        one = small_book(by_seed(seed), least=1, **limits)
        outcome = clear(one)
        for promise in promises.PROMISES:
            promise(outcome)
        lines = [*one.demands, *one.bids]
        random.Random(seed).shuffle(lines)
        assert bundle(clear(book(*lines, slots=one.slots, latency_ms=one.latency_ms, rules=one.rules,
                                 home_zones=one.home_zones))) == bundle(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_supported_set_of_thousands_of_books_is_worth_more(part):
    for seed in range(150 * part, 150 * (part + 1)):
        one = small_book(by_seed(seed), least=2, is_plain=seed % 2 == 0, whole_max=5)
        promises.no_set_of_indivisible_lines_that_prices_support_is_worth_more(clear(one))
