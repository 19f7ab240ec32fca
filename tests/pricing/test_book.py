"""The sealed book: what it accepts, what it refuses by code, and that the order of lines is no part of it."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pricing.book import adjusted_ask_micros, make_book
from pricing.errors import ClearingError
from tests.pricing.lines import bid, book, demand

NOT_WHOLE = [1.0, 1000.0, float("nan"), float("inf"), True, "1", None, np.int64(1)]


def refusal(*lines, **other):
    with pytest.raises(ClearingError) as caught:
        book(*lines, **other)
    return caught.value


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
@pytest.mark.parametrize("field", ["quantity_units", "start_slot", "end_slot", "price_limit_micros", "accepted_rank"])
def test_a_number_that_is_no_plain_integer_is_refused_and_never_coerced(field, value):
    book(demand("d"))

    error = refusal(replace(demand("d"), **{field: value}))

    assert error.code == "not_integer"
    assert (error.facts["line"], error.facts["field"]) == ("d", field)


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
@pytest.mark.parametrize("field", ["price_ask_micros", "quality_bps", "tier", "sla_bps"])
def test_the_numbers_of_a_bid_are_plain_integers_too(field, value):
    book(bid("b"))

    assert refusal(bid("b", **{field: value})).code == "not_integer"


@pytest.mark.parametrize(("line", "code"), [
    (demand("d", limit=1_050), "price_off_tick"),
    (demand("d", limit=0), "price_out_of_range"),
    (demand("d", limit=-100), "price_out_of_range"),
    (demand("d", limit=1_000_000_100), "price_out_of_range"),
    (bid("b", ask=150), "price_off_tick"),
    (bid("b", ask=1_000_000_000, quality_bps=9_999), "price_out_of_range"),
    (demand("d", units=0), "bad_quantity"),
    (demand("d", units=-1), "bad_quantity"),
    (demand("d", units=(1 << 20) + 1), "bad_quantity"),
    (demand("d", slots=(1, 1)), "bad_slot_range"),
    (demand("d", slots=(2, 1)), "bad_slot_range"),
    (demand("d", slots=(-1, 1)), "bad_slot_range"),
    (bid("b", slots=(0, 5)), "bad_slot_range"),
    (bid("b", quality_bps=0), "bad_quality"),
    (bid("b", quality_bps=10_001), "bad_quality"),
    (demand("d", sla_bps_min=-1), "bad_quality"),
    (demand("d", accepted_rank=-1), "bad_rank"),
    (demand("d", kind="block"), "kind_not_supported"),
    (demand("d", kind="window "), "kind_not_supported"),
    (demand("d", accepted_classes=()), "unknown_class"),
    (demand("d", accepted_classes=("",)), "unknown_class"),
    (bid("b", resource_class=""), "unknown_class"),
    (bid("b", country="de"), "unknown_country"),
    (demand("d", countries=("DEU",)), "unknown_country"),
    (demand("d", control_countries=("D1",)), "unknown_country"),
    (bid("b", tier=4), "unknown_tier"),
    (demand("d", tier_min=-1), "unknown_tier"),
    (bid("b", standing="EXCELLENT"), "unknown_standing"),
    (demand("d", latency_ms_max=10), "bad_latency"),
    (demand("d", latency_ms_max=-1, vantage="paris"), "bad_latency"),
    (demand(""), "bad_text"),
    (demand("d\n"), "bad_text"),
    (bid("b" * 121), "bad_text"),
    (bid("b", site=""), "bad_text"),
    (bid("b", parent=""), "bad_text"),
], ids=lambda case: case if isinstance(case, str) else None)
def test_a_bad_line_is_refused_by_code(line, code):
    error = refusal(line)

    assert error.code == code
    assert "line" in error.facts


def test_the_edges_of_every_range_are_accepted():
    accepted = book(
        demand("d", limit=100, units=1 << 20, slots=(0, 4)), bid("b", ask=1_000_000_000, units=1, slots=(3, 4)),
        bid("c", ask=100, quality_bps=1),
    )

    assert len(accepted.bids) == 2


def test_two_lines_of_one_side_never_share_an_id():
    book(demand("x"), bid("x"))

    assert refusal(demand("x"), demand("x", limit=200)).code == "duplicate_id"
    assert refusal(bid("x"), bid("x", ask=200)).code == "duplicate_id"


def test_a_book_whose_money_does_not_fit_is_refused():
    lines = [demand(f"d{n}", limit=10**9, units=1 << 20, slots=(0, 744)) for n in range(5)]
    book(*lines, slots=744)

    error = refusal(*lines, demand("last", limit=10**9, units=1 << 20, slots=(0, 744)), slots=744)

    assert error.code == "book_overflow"


def test_a_window_has_1_to_744_slots():
    assert book(slots=744).slots == 744

    assert refusal(slots=0).code == "bad_slot_range"
    assert refusal(slots=745).code == "bad_slot_range"
    assert refusal(slots=4.0).code == "not_integer"


def test_a_round_trip_is_a_whole_number_and_not_negative():
    line = demand("d", vantage="paris", latency_ms_max=20)

    assert book(line, bid("b"), latency_ms={("paris", "berlin"): 0}).latency_ms == {("paris", "berlin"): 0}
    assert refusal(line, latency_ms={("paris", "berlin"): -1}).code == "bad_latency"
    assert refusal(line, latency_ms={("paris", "berlin"): 9.5}).code == "not_integer"


def test_measurements_that_no_line_asks_for_are_no_part_of_the_book():
    line = demand("d", vantage="paris", latency_ms_max=20)
    needed = {("paris", "berlin"): 15}

    with_noise = book(line, bid("b"), latency_ms={**needed, ("rome", "berlin"): 30, ("paris", "oslo"): 40})

    assert with_noise.latency_ms == needed
    assert with_noise.input_hash == book(line, bid("b"), latency_ms=needed).input_hash


def test_the_order_of_the_lines_is_no_part_of_the_book():
    demands = [demand(f"d{n}", units=n + 1) for n in range(9)]
    bids = [bid(f"b{n}", units=n + 1) for n in range(9)]
    first = make_book(slots=4, demands=demands, bids=bids)

    random.Random(7).shuffle(demands)
    random.Random(8).shuffle(bids)
    again = make_book(slots=4, demands=demands, bids=bids)

    assert again == first
    assert again.input_hash == first.input_hash


def test_one_rule_written_in_two_ways_has_one_hash():
    one = book(demand("d", accepted_classes=("H100", "A100"), countries=("FR", "DE", "FR")))
    other = book(demand("d", accepted_classes=("A100", "H100"), countries=("DE", "FR")))

    assert one.input_hash == other.input_hash


@pytest.mark.parametrize("change", [
    {"price_limit_micros": 1_100}, {"quantity_units": 2}, {"accepted_rank": 1}, {"parent": "other"}, {"end_slot": 2},
    {"kind": "window"}, {"id": "e"},
], ids=str)
def test_the_input_hash_covers_every_sealed_field(change):
    line = demand("d")

    assert book(replace(line, **change)).input_hash != book(line).input_hash


@pytest.mark.parametrize(("ask", "quality", "adjusted"), [
    (1_000, 10_000, 1_000),
    (1_000, 9_999, 1_100),  # any loss at all costs a tick
    (900, 9_000, 1_000),  # exact: not a tick more
    (1_000_000, 8_130, 1_230_100),
    (100, 1, 1_000_000),
])
def test_an_ask_is_divided_by_quality_and_rounded_up_to_the_tick(ask, quality, adjusted):
    assert adjusted_ask_micros(bid("b", ask=ask, quality_bps=quality)) == adjusted
