"""The sealed book: what it accepts, what it refuses by code, and that the order of lines is no part of it."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pricing.book import BID_COLUMNS, DEMAND_COLUMNS, adjusted_ask_micros, book_from_columns, exact_sum, make_book
from pricing.errors import ClearingError
from pricing.lines import Rules
from tests.pricing.lines import bid, book, demand

NOT_WHOLE = [1.0, 1000.0, float("nan"), float("inf"), True, "1", None, np.int64(1)]


def refusal(*lines, **other):
    with pytest.raises(ClearingError) as caught:
        book(*lines, **other)
    return caught.value


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
@pytest.mark.parametrize("field", [
    "quantity_units", "start_slot", "end_slot", "price_limit_micros", "accepted_rank", "minimum_units",
])
def test_a_number_that_is_no_plain_integer_is_refused_and_never_coerced(field, value):
    book(demand("d"))

    error = refusal(replace(demand("d"), **{field: value}))

    assert error.code == "not_integer"
    assert (error.facts["line"], error.facts["field"]) == ("d", field)


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
@pytest.mark.parametrize("field", ["price_ask_micros", "quality_bps", "tier", "sla_bps", "minimum_units"])
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
    (demand("d", units=2, kind="window", minimum_units=3), "bad_quantity"),
    (demand("d", units=2, kind="window", minimum_units=-1), "bad_quantity"),
    (demand("d", units=3, kind="block", minimum_units=2), "bad_quantity"),
    (bid("b", units=2, minimum_units=3), "bad_quantity"),
    (bid("b", minimum_units=-1), "bad_quantity"),
    (demand("d", kind="window "), "kind_not_supported"),
    (demand("d", kind="gang"), "kind_not_supported"),
    (demand("d", minimum_units=1), "kind_not_supported"),
    (demand("d", choice="c"), "kind_not_supported"),
    (demand("d", is_one_site=True), "kind_not_supported"),
    (demand("d", kind="block", curve="c"), "kind_not_supported"),
    (demand("d", kind="window", choice="c", curve="c"), "kind_not_supported"),
    (demand("d", kind="block", is_foundation=True), "kind_not_supported"),
    (demand("d", kind="window", is_one_site=True, is_foundation=True), "kind_not_supported"),
    (bid("b", minimum_units=1, curve="c"), "kind_not_supported"),
    (demand("d", kind="window", is_one_site=1), "not_integer"),
    (demand("d", is_foundation=None), "not_integer"),
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
    (demand('d"'), "bad_text"),
    (demand("d d"), "bad_text"),
    (demand("dé"), "bad_text"),
    (demand("d", parent="a b"), "bad_text"),
    (demand("d", kind="window", choice=""), "bad_text"),
    (demand("d", curve="c/1"), "bad_text"),
    (bid("b", curve=7), "bad_text"),
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


class _Hostile:
    """Says nothing about itself without a fight."""

    __hash__ = None

    def __repr__(self):
        raise RuntimeError("no words")

    def __eq__(self, other):
        raise RuntimeError("no comparison")


STRANGE = [None, 5, 1.0, float("nan"), "H100", b"x", object(), _Hostile()]


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("make", [
    lambda value: [value], lambda value: [replace(demand("d"), requirement=value)],
    lambda value: [replace(bid("b"), attributes=value)], lambda value: [replace(demand("d"), kind=value)],
    lambda value: [replace(demand("d"), requirement=replace(demand("d").requirement, accepted_classes=value))],
    lambda value: [replace(bid("b"), attributes=replace(bid("b").attributes, standing=value))],
], ids=["line", "requirement", "attributes", "kind", "classes", "standing"])
def test_what_is_no_part_of_a_book_is_refused_by_a_typed_error_and_never_trips_over(make, value):
    with pytest.raises(ClearingError):
        make_book(slots=2, demands=make(value) if not _is_bid(make(value)) else [],
                  bids=make(value) if _is_bid(make(value)) else [])


def _is_bid(lines):
    return isinstance(lines[0], type(bid("b")))


@pytest.mark.parametrize("other", [
    {"latency_ms": 5}, {"latency_ms": {"p": 3}}, {"latency_ms": {("p", "q", "r"): 3}}, {"latency_ms": {(1, "q"): 3}},
    {"latency_ms": {("p", "q"): float("nan")}}, {"home_zones": 5}, {"home_zones": {"DE": ""}}, {"home_zones": []},
    {"home_zones": {"DE": None}}, {"home_zones": {"DE": "\ud800"}}, {"home_zones": {"Germany": "EU"}}, {"rules": 1.0},
], ids=str)
def test_what_stands_beside_the_lines_is_checked_as_well(other):
    book(demand("d"), bid("b"), latency_ms={("p", "q"): 3}, home_zones={"DE": "EU"}, rules=Rules())

    refusal(demand("d"), bid("b"), **other)


@pytest.mark.parametrize(("line", "code"), [
    (demand("d", accepted_rank=1 << 53), "book_overflow"), (bid("b", accepted_rank=1 << 53), "book_overflow"),
    (demand("d", vantage="p", latency_ms_max=1 << 53), "book_overflow"),
])
def test_a_number_that_json_could_not_keep_is_refused_before_it_is_published(line, code):
    book(demand("d", accepted_rank=(1 << 53) - 1))

    assert refusal(line).code == code


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

    assert (tuple(again.demands), tuple(again.bids)) == (tuple(first.demands), tuple(first.bids))
    assert again.demands.ids == tuple(sorted(line.id for line in demands))
    assert again.input_hash == first.input_hash


def test_one_rule_written_in_two_ways_has_one_hash():
    one = book(demand("d", accepted_classes=("H100", "A100"), countries=("FR", "DE", "FR")))
    other = book(demand("d", accepted_classes=("A100", "H100"), countries=("DE", "FR")))

    assert one.input_hash == other.input_hash


@pytest.mark.parametrize("change", [
    {"price_limit_micros": 1_100}, {"quantity_units": 3}, {"accepted_rank": 1}, {"parent": "other"}, {"end_slot": 2},
    {"kind": "divisible"}, {"kind": "block"}, {"id": "e"}, {"start_slot": 1}, {"minimum_units": 1}, {"choice": "c"},
    {"curve": "c"}, {"is_one_site": True}, {"is_foundation": True},
    {"requirement": replace(demand("d").requirement, tier_min=1)},
], ids=str)
def test_the_input_hash_covers_every_field_of_a_demand(change):
    line = demand("d", units=2, slots=(0, 3), kind="window")

    assert book(replace(line, **change)).input_hash != book(line).input_hash


@pytest.mark.parametrize("change", [
    {"price_ask_micros": 1_100}, {"quantity_units": 3}, {"accepted_rank": 1}, {"parent": "other"}, {"end_slot": 2},
    {"quality_bps": 9_999}, {"id": "e"}, {"start_slot": 1}, {"minimum_units": 1}, {"curve": "c"},
    {"attributes": replace(bid("b").attributes, tier=2)},
], ids=str)
def test_the_input_hash_covers_every_field_of_a_bid(change):
    line = bid("b", units=2, slots=(0, 3))

    assert book(replace(line, **change)).input_hash != book(line).input_hash


def test_the_input_hash_covers_what_stands_beside_the_lines():
    lines = [demand("d", vantage="paris", latency_ms_max=20), bid("b")]
    hashes = {one.input_hash for one in (
        book(*lines), book(*lines, slots=5), book(*lines, latency_ms={("paris", "berlin"): 5}),
        book(*lines, rules=Rules(300_000, None)), book(*lines, rules=Rules(None, 300_000)),
        book(*lines, home_zones={"DE": "EU"}),
    )}

    assert len(hashes) == 6


# -- kinds, curves, rules ----------------------------------------------------------------------------------------------


def test_a_block_is_a_window_whose_minimum_is_its_whole_quantity():
    (line,) = book(demand("d", units=3, kind="block")).demands

    assert (line.kind, line.minimum_units) == ("block", 3)
    assert book(line).input_hash == book(replace(line, minimum_units=0)).input_hash


def test_the_lines_that_a_price_cannot_ration_are_those_with_a_minimum_a_choice_or_one_site():
    made = book(
        demand("a"), demand("b", kind="window"), demand("c", kind="block"),
        demand("d", units=2, kind="window", minimum_units=1), demand("e", kind="window", choice="x"),
        demand("f", kind="window", is_one_site=True), bid("a"), bid("b", minimum_units=1),
    )

    assert made.demands.is_indivisible.tolist() == [False, False, True, True, True, True]
    assert made.bids.is_indivisible.tolist() == [False, True]


@pytest.mark.parametrize("line", [
    demand("d", 900, 3, (1, 3), kind="window", minimum_units=2, choice="c", is_one_site=True, accepted_rank=4),
    demand("d", 900, 3, (1, 3), kind="divisible", curve="c", is_foundation=True, vantage="paris"),
    bid("b", 900, 3, (1, 3), minimum_units=2, accepted_rank=4, quality_bps=9_100, tier=3),
    bid("b", 900, 3, (1, 3), curve="c"),
], ids=str)
def test_a_line_is_read_back_as_it_was_handed_in(line):
    made = book(line)

    assert [*made.demands, *made.bids] == [line]


def test_a_side_is_a_sequence():
    made = book(demand("a"), demand("b"), demand("c"))

    assert [line.id for line in made.demands] == ["a", "b", "c"]
    assert (made.demands[-1].id, [line.id for line in made.demands[1:]]) == ("c", ["b", "c"])
    with pytest.raises(IndexError):
        made.demands[3]
    with pytest.raises(IndexError):
        made.bids[0]


def test_the_limits_of_a_curve_do_not_rise_from_step_to_step_and_the_asks_do_not_fall():
    book(*(demand(f"d{n}", 900 - 100 * (n // 2), n + 1, parent="p", curve="c") for n in range(4)))
    book(*(bid(f"b{n}", 900 + 100 * (n // 2), n + 1, parent="p", curve="c") for n in range(4)))

    rising = [demand(f"d{n}", 900 + 100 * n, parent="p", curve="c") for n in range(2)]
    assert refusal(*rising).code == "curve_not_monotone"
    error = refusal(bid("b1", 900, parent="p", curve="c"), bid("b2", 800, parent="p", curve="c"))
    assert (error.code, error.facts["line"]) == ("curve_not_monotone", "b2")


@pytest.mark.parametrize("change", [
    {"kind": "window"}, {"start_slot": 1}, {"end_slot": 2}, {"parent": "other"}, {"is_foundation": True},
    {"requirement": replace(demand("d").requirement, tier_min=1)},
], ids=str)
def test_the_steps_of_a_curve_differ_in_units_price_and_rank_only(change):
    one = demand("d1", 900, 1, (0, 3), parent="p", curve="c")
    other = demand("d2", 800, 2, (0, 3), parent="p", curve="c", accepted_rank=7)
    book(one, other)

    assert refusal(one, replace(other, **change)).code == "curve_not_monotone"


@pytest.mark.parametrize("change", [
    {"start_slot": 1}, {"end_slot": 2}, {"parent": "other"}, {"quality_bps": 9_000},
    {"attributes": replace(bid("b").attributes, tier=2)},
], ids=str)
def test_the_steps_of_an_offer_do_too(change):
    one, other = bid("b1", 900, 1, (0, 3), parent="p", curve="c"), bid("b2", 1_000, 2, (0, 3), parent="p", curve="c")
    book(one, replace(other, accepted_rank=7))

    assert refusal(one, replace(other, **change)).code == "curve_not_monotone"


@pytest.mark.parametrize(("rules", "code"), [
    (Rules(0, None), "cap_invalid"), (Rules(1_000_001, None), "cap_invalid"), (Rules(None, -1), "cap_invalid"),
    (Rules(0.3, None), "not_integer"), (Rules(None, 1e6), "not_integer"), (Rules(True, None), "not_integer"),
], ids=str)
def test_a_rule_outside_its_range_is_refused(rules, code):
    book(demand("d"), rules=Rules(1, 0))
    book(demand("d"), rules=Rules(1_000_000, 10**15))

    assert refusal(demand("d"), rules=rules).code == code


def test_a_country_lies_in_its_zone_and_one_that_is_not_named_is_its_own():
    made = book(bid("b"), bid("c", country="US"), home_zones={"DE": "EU", "FR": "EU", "US": "US"})

    assert [made.home_zone(known) for known in sorted(made.attributes, key=lambda a: a.country)] == ["EU", "US"]
    assert dict(made.home_zones) == {"DE": "EU"}  # what says nothing about this book is no part of it


# -- columns -----------------------------------------------------------------------------------------------------------


def columns_of(made):
    """The book handed in again by column."""
    sides = [{"ids": side.ids, **{name: getattr(side, name) for name in names}}
             for side, names in ((made.demands, DEMAND_COLUMNS), (made.bids, BID_COLUMNS))]
    return {
        "slots": made.slots, "demands": sides[0], "bids": sides[1], "requirements": made.requirements,
        "attributes": made.attributes, "parents": made.parents, "choices": made.tables.choices,
        "curves": made.tables.curves, "latency_ms": made.latency_ms, "rules": made.rules, "home_zones": made.home_zones,
    }


@pytest.fixture
def full():
    return book(
        demand("d1", 900, 2, (0, 2), kind="window", minimum_units=1, choice="x", tier_min=1),
        demand("d2", 800, 2, curve="y", is_foundation=True), demand("d3", 700, 1, kind="block", is_one_site=True),
        bid("b1", 500, 3, (0, 2), minimum_units=2, tier=2), bid("b2", 600, curve="z", quality_bps=9_000),
        rules=Rules(300_000, 500), home_zones={"DE": "EU"},
    )


def test_a_book_from_columns_is_the_same_book(full):
    again = book_from_columns(**columns_of(full))

    assert [*again.demands, *again.bids] == [*full.demands, *full.bids]
    assert again.input_hash == full.input_hash


def test_neither_the_order_of_columns_and_tables_nor_what_no_line_uses_is_part_of_the_book(full):
    given = columns_of(full)
    for side in ("demands", "bids"):
        given[side] = {name: np.array(column)[::-1] for name, column in given[side].items()}
        given[side]["ids"] = given[side]["ids"].tolist()
        given[side]["parent"] = 1 + len(full.parents) - 1 - given[side]["parent"]
    given["parents"] = ["nobody", *full.parents[::-1]]

    again = book_from_columns(**given)

    assert again.parents == full.parents
    assert again.input_hash == full.input_hash


@pytest.mark.parametrize(("side", "name", "value", "code"), [
    ("demands", "quantity", np.array([1.0, 2.0, 3.0]), "not_integer"),
    ("demands", "quantity", np.array([1, 2]), "not_integer"),
    ("demands", "quantity", np.array([2, 2, 0]), "bad_quantity"),
    ("demands", "kind", np.array([1, 0, 3]), "kind_not_supported"),
    ("demands", "kind", np.array([-1, 0, 2]), "kind_not_supported"),
    ("demands", "minimum", np.array([1, 1, 1]), "kind_not_supported"),
    ("demands", "minimum", np.array([3, 0, 1]), "bad_quantity"),
    ("demands", "price", np.array([900, 850, 700]), "price_off_tick"),
    ("demands", "rank", np.array([0, -1, 0]), "bad_rank"),
    ("demands", "end", np.array([2, 1, 5]), "bad_slot_range"),
    ("demands", "requirement", np.array([0, 1, 9]), "not_integer"),
    ("demands", "requirement", np.array([0, 1, -1]), "not_integer"),
    ("demands", "parent", np.array([0, 1, -1]), "not_integer"),
    ("demands", "parent", np.array([0, 1, 99]), "not_integer"),
    ("demands", "choice", np.array([-2, -1, -1]), "not_integer"),
    ("demands", "choice", np.array([7, -1, -1]), "not_integer"),
    ("bids", "attributes", np.array([0, 7]), "not_integer"),
    ("bids", "curve", np.array([-1, 7]), "not_integer"),
    ("bids", "quality", np.array([10_001, 1]), "bad_quality"),
    ("bids", "price", np.array([0, 100]), "price_out_of_range"),
], ids=str)
def test_a_bad_column_is_refused_by_code(full, side, name, value, code):
    given = columns_of(full)
    given[side] = {**given[side], name: value}

    with pytest.raises(ClearingError) as caught:
        book_from_columns(**given)

    assert caught.value.code == code


@pytest.mark.parametrize("name", ["parents", "choices", "curves"])
def test_a_bad_text_in_a_table_is_refused(full, name):
    given = columns_of(full)
    given[name] = ["a b", *given[name][1:]]

    with pytest.raises(ClearingError) as caught:
        book_from_columns(**given)

    assert caught.value.code == "bad_text"


def test_a_bad_id_in_a_column_is_refused(full):
    given = columns_of(full)
    given["bids"] = {**given["bids"], "ids": ("b 1", "b2")}

    with pytest.raises(ClearingError) as caught:
        book_from_columns(**given)

    assert caught.value.code == "bad_text"


def test_a_sum_is_exact_whatever_its_size():
    values = np.array([(1 << 62) - 1, (1 << 62) - 1, -5, 1 << 61], dtype=np.int64)

    assert exact_sum(values) == sum(values.tolist())


@pytest.mark.parametrize(("ask", "quality", "adjusted"), [
    (1_000, 10_000, 1_000),
    (1_000, 9_999, 1_100),  # any loss at all costs a tick
    (900, 9_000, 1_000),  # exact: not a tick more
    (1_000_000, 8_130, 1_230_100),
    (100, 1, 1_000_000),
])
def test_an_ask_is_divided_by_quality_and_rounded_up_to_the_tick(ask, quality, adjusted):
    assert adjusted_ask_micros(bid("b", ask=ask, quality_bps=quality)) == adjusted
