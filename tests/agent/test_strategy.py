"""A strategy file becomes bids; a wrong one is told by line and field, all mistakes at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.agent.errors import NothingToBid, StrategyWrong
from marketplace.agent.strategy import bids_of, read_strategy

FILE = f"""
name = "night"
node_class = "cls_{"ab" * 16}"
sla = "99.5"
floor_usd = 1.25
target_utilisation_percent = 70
beyond_target_usd = "1.9"
minimum_units = 2

[[calendar]]
days = ["mon", "tue"]
from_hour = 18
until_hour = 24
"""
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
WINDOW = {"id": "win_1", "name": "W49", "number": 7, "slots": 72, "starts_at": MONDAY.isoformat()}
CAPACITY = {"units": 10, "standing": "PROVEN"}


def changed(old: str, new: str) -> str:
    assert old in FILE
    return FILE.replace(old, new)


def mistakes(text: str) -> list[tuple[int, str]]:
    with pytest.raises(StrategyWrong) as refusal:
        read_strategy(text)
    found = refusal.value.facts["mistakes"]
    assert str(refusal.value).startswith(f"Line {found[0]['line']}")
    return [(each["line"], each["field"]) for each in found]


def test_the_target_is_offered_at_the_floor_and_the_rest_above_it_in_the_open_hours():
    bids = bids_of(read_strategy(FILE), WINDOW, CAPACITY)

    told = [(b["start_slot"], b["end_slot"], b["quantity_units"], b["price_ask_micros"]) for b in bids]
    assert told == [(18, 24, 7, "1250000"), (18, 24, 3, "1900000"), (42, 48, 7, "1250000"), (42, 48, 3, "1900000")]
    assert [b["reference"] for b in bids] == ["night.7.18.0", "night.7.18.1", "night.7.42.0", "night.7.42.1"]
    assert {b["minimum_units"] for b in bids} == {2}


def test_without_a_price_beyond_the_target_and_a_calendar_one_bid_covers_the_window():
    text = changed('beyond_target_usd = "1.9"\n', "").split("[[calendar]]")[0]

    (bid,) = bids_of(read_strategy(text), WINDOW, CAPACITY)
    assert (bid["start_slot"], bid["end_slot"], bid["quantity_units"]) == (0, 72, 7)


def test_on_probation_no_bid_is_longer_than_a_day():
    text = FILE.split("[[calendar]]")[0]

    bids = bids_of(read_strategy(text), WINDOW, CAPACITY | {"standing": "PROBATION"})
    assert [(b["start_slot"], b["end_slot"]) for b in bids if b["quantity_units"] == 7] == [(0, 24), (24, 48), (48, 72)]


def test_targets_are_promised_by_every_bid_and_one_that_is_no_number_is_told():
    text = changed('sla = "99.5"\n', 'sla = "99.5"\nsla_targets = { latency_p95_ms_max = 20, notice_hours_min = 96 }\n')

    promised = [bid["sla_targets"] for bid in bids_of(read_strategy(text), WINDOW, CAPACITY)]
    assert promised == [{"latency_p95_ms_max": 20, "notice_hours_min": 96}] * 4
    assert "sla_targets" not in bids_of(read_strategy(FILE), WINDOW, CAPACITY)[0]
    for odd in ('{ latency_p95_ms_max = "20" }', "{ latency_p95_ms_max = 2.5 }", "7", "{ x = true }", "{ x = 0 }"):
        assert mistakes(changed('sla = "99.5"\n', f'sla = "99.5"\nsla_targets = {odd}\n')) == [(5, "sla_targets")]


def test_a_price_is_read_as_it_is_written():
    strategy = read_strategy(changed("floor_usd = 1.25", "floor_usd = 1.1001"))

    assert strategy.floor_micros == 1_100_100


@pytest.mark.parametrize(("old", "new", "line", "field"), [
    ("floor_usd = 1.25", "floor_usd = 1.00001", 5, "floor_usd"),
    ("floor_usd = 1.25", "floor_usd = -1", 5, "floor_usd"),
    ("floor_usd = 1.25", "floor_usd = nan", 5, "floor_usd"),
    ("floor_usd = 1.25", "floor_usd = true", 5, "floor_usd"),
    ("floor_usd = 1.25", "", 1, "floor_usd"),
    ('beyond_target_usd = "1.9"', 'beyond_target_usd = "1.2"', 7, "beyond_target_usd"),
    ("_percent = 70", "_percent = 101", 6, "target_utilisation_percent"),
    ("_percent = 70", "_percent = 0.7", 6, "target_utilisation_percent"),
    ('name = "night"', 'name = "two words"', 2, "name"),
    ('sla = "99.5"', "sla = 99.5", 4, "sla"),
    ("minimum_units = 2", "minimum = 2", 8, "minimum"),
    ('node_class = "cls_', 'node_class = "xls_', 3, "node_class"),
    ("from_hour = 18", "from_hour = 24", 12, "calendar[0].from_hour"),
    ("until_hour = 24", "until_hour = 18", 13, "calendar[0].until_hour"),
    ('"tue"', '"Tuesday"', 11, "calendar[0].days"),
    ("[[calendar]]", "[calendar]", 1, "calendar"),
    ("from_hour = 18", "from = 18", 12, "calendar[0].from"),
])  # fmt: skip
def test_a_mistake_is_told_by_line_and_field(old, new, line, field):
    assert (line, field) in mistakes(changed(old, new))


def test_what_is_no_toml_is_told_by_its_line_and_all_other_mistakes_at_once():
    assert mistakes(changed('sla = "99.5"', "sla = ")) == [(4, "")]
    assert mistakes(changed("floor_usd = 1.25", "floor_usd = 0").replace("= 18", "= 99")) == [
        (5, "floor_usd"), (12, "calendar[0].from_hour")]  # fmt: skip


def test_a_strategy_that_comes_to_nothing_says_so():
    closed = changed('days = ["mon", "tue"]', 'days = ["sun"]')

    with pytest.raises(NothingToBid):
        bids_of(read_strategy(closed), WINDOW, CAPACITY)


@given(
    start=st.integers(0, 200), slots=st.integers(1, 200), units=st.integers(1, 50), percent=st.integers(1, 100),
    days=st.sets(st.sampled_from(["mon", "wed", "sun"]), min_size=1), hours=st.tuples(st.integers(0, 23)),
    standing=st.sampled_from(["PROVEN", "PROBATION"]),
)  # fmt: skip
def test_bids_offer_each_open_hour_once_up_to_the_units_and_no_other(start, slots, units, percent, days, hours,
                                                                     standing):  # fmt: skip
    text = changed("_percent = 70", f"_percent = {percent}").replace(
        '["mon", "tue"]', str(sorted(days)).replace("'", '"'))  # fmt: skip
    text = text.replace("from_hour = 18", f"from_hour = {hours[0]}")
    window = WINDOW | {"slots": slots, "starts_at": (MONDAY + timedelta(hours=start)).isoformat()}
    strategy = read_strategy(text)
    offered = dict.fromkeys(range(slots), 0)
    try:
        bids = bids_of(strategy, window, {"units": units, "standing": standing})
    except NothingToBid:
        bids = []

    for bid in bids:
        assert bid["minimum_units"] <= bid["quantity_units"]
        for slot in range(bid["start_slot"], bid["end_slot"]):
            offered[slot] += bid["quantity_units"]
    for slot, offer in offered.items():
        is_open = strategy.calendar[0].cover(MONDAY + timedelta(hours=start + slot))
        assert offer == (units if is_open else 0)
    assert len({bid["reference"] for bid in bids}) == len(bids)
