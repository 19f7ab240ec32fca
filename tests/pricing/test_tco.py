"""Cost of ownership: the case that was stated, sums that are exact whatever the inputs, curves at their own points."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.environment import CHECKOUT
from pricing.errors import EstimateError
from pricing.tco import (
    CURVES,
    INPUTS,
    KINDS,
    LINES,
    Input,
    Offer,
    Range,
    agent_unit_hours,
    break_even_bill_usd,
    difference_of,
    range_of,
    rank_by_total,
)

CASE = json.loads((CHECKOUT / "fixtures" / "cost" / "case.json").read_text(encoding="utf-8"))
MILLION = 10**12  # micro-USD


def side(name: str) -> dict[str, Input]:
    return {key: Input(**value) for key, value in CASE[name].items()}


def drawn(most: int) -> st.SearchStrategy[Input]:
    ends = st.lists(st.integers(0, most), min_size=3, max_size=3).map(sorted)
    return ends.map(lambda three: Input(*three, source="drawn"))


any_inputs = st.fixed_dictionaries({kind.key: drawn(kind.most) for kind in INPUTS})


def test_the_stated_case_comes_to_7_1_million_before_and_4_3_after():
    now, planned = range_of(side("now"), CASE["curve"]), range_of(side("planned"), CASE["curve"])

    assert (now.total.base, planned.total.base) == (71 * MILLION // 10, 43 * MILLION // 10)
    assert [words for _, words, _ in now.lines] == [
        "Bill", "Transit", "Egress", "Latency loss", "Compliance overhead", "Exposure", "Lock-in",
        "Single-provider dependency",
    ]  # fmt: skip
    assert all(value.source for value in (*side("now").values(), *side("planned").values()))
    found = difference_of(now, planned)
    assert found == Range(now.total.low - planned.total.high, 28 * MILLION // 10, now.total.high - planned.total.low)
    assert found.low < 0 < found.base < found.high  # so no single figure may be told


def test_each_line_of_the_case_is_the_product_its_name_says():
    lines = {key: found for key, _, found in range_of(side("now"), "commerce").lines}

    assert lines["transit"].base == 800 * 50 * 10**6
    assert lines["egress"].high == 5_000 * 120 * 10**6
    assert lines["latency"].base == 60 * MILLION * 15 // 1_000  # 150 ms are 1.5 % of sales
    assert lines["compliance"].low == 34 * MILLION // 10 // 5
    assert lines["dependency"].base == 22 * 30_000 * 10**6


@given(any_inputs, st.sampled_from(sorted(CURVES)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_sensitivity_sums_to_the_ends_of_the_range_to_the_micro_whatever_the_inputs(inputs, curve):
    found = range_of(inputs, curve)

    assert 0 <= found.total.low <= found.total.base <= found.total.high < 2**63
    assert sum(r.low for _, _, r in found.lines) == found.total.low
    assert sum(s.to_low for s in found.sensitivity) == found.total.low - found.total.base
    assert sum(s.to_high for s in found.sensitivity) == found.total.high - found.total.base
    assert all(s.to_low <= 0 <= s.to_high for s in found.sensitivity)
    assert [s.key for s in found.sensitivity] == [kind.key for kind in INPUTS]


def test_an_input_without_a_range_moves_nothing_and_a_lone_one_moves_all_of_it():
    still = {key: replace(value, low=value.base, high=value.base) for key, value in side("now").items()}
    lone = still | {"egress_tb": Input(3_000, 4_000, 5_000, "one year's bill")}

    assert all(s.to_low == s.to_high == 0 for s in range_of(still, "commerce").sensitivity)
    moved = {s.key: (s.to_low, s.to_high) for s in range_of(lone, "commerce").sensitivity if s.to_low or s.to_high}
    assert moved == {"egress_tb": (-1_000 * 85 * 10**6, 1_000 * 85 * 10**6)}


@pytest.mark.parametrize(("curve", "latency_ms", "revenue_usd", "loss_usd"), [
    ("commerce", 100, 60_000_000, 600_000), ("commerce", 50, 60_000_000, 300_000),
    ("commerce", 5_000, 60_000_000, 6_000_000), ("search", 500, 10_000_000, 2_000_000),
    ("search", 1_000, 10_000_000, 2_000_000), ("trading", 5, 400_000_000, 20_000_000),
    ("trading", 5, 3_000_000, 3_000_000), ("batch", 10_000, 10**11, 0), ("commerce", 0, 60_000_000, 0),
])  # fmt: skip
def test_a_latency_curve_goes_through_the_point_its_source_gives_and_stops_at_its_cap(
    curve, latency_ms, revenue_usd, loss_usd
):
    assert CURVES[curve].loss_micros(latency_ms, revenue_usd) == loss_usd * 10**6
    assert CURVES[curve].source


def test_the_dependency_on_one_provider_falls_with_the_cap_on_its_share():
    whole = range_of(side("now"), "commerce")
    capped = range_of(side("now") | {"share_bps": Input(3_000, 3_000, 3_000, "the buyer's cap")}, "commerce")

    assert whole.total.base - capped.total.base == 22 * 30_000 * 10**6 * 7 // 10


@pytest.mark.parametrize(("key", "value", "words"), [
    ("bill_usd", Input(2, 1, 3, "s"), "Low is at most base"), ("bill_usd", Input(1, 3, 2, "s"), "base at most high"),
    ("bill_usd", Input(-1, 1, 2, "s"), "Whole numbers from 0"), ("bill_usd", Input(1, 1, 10**11 + 1, "s"), "Whole"),
    ("share_bps", Input(1, 1, 10_001, "s"), "10,000"), ("egress_tb", Input(1, 2, 3, " "), "where this figure"),
    ("latency_ms", Input(1, True, 1, "s"), "Whole numbers"), ("move_usd", Input(0, 1.5, 2, "s"), "Whole numbers"),
])  # fmt: skip
def test_an_input_that_cannot_be_is_refused_by_its_name(key: str, value: Any, words: str):
    with pytest.raises(EstimateError, match=words) as refusal:
        range_of(side("now") | {key: value}, "commerce")

    assert refusal.value.facts["field"] == key


def test_a_missing_input_and_an_unknown_curve_are_refused():
    inputs = side("now")
    del inputs["move_usd"]

    for given_, curve, field in ((inputs, "commerce", "move_usd"), (side("now"), "gaming", "curve")):
        with pytest.raises(EstimateError) as refusal:
            range_of(given_, curve)
        assert refusal.value.facts["field"] == field
    assert {key for line in LINES for key in line.inputs} | {"latency_ms", "revenue_usd"} == set(KINDS)


def test_at_the_break_even_bill_the_plan_costs_what_is_paid_now():
    now, planned = side("now"), side("planned")
    bill = break_even_bill_usd(range_of(now, "commerce"), range_of(planned, "commerce"))

    even = range_of(planned | {"bill_usd": Input(bill, bill, bill, "break-even")}, "commerce").total.base
    assert 0 <= 71 * MILLION // 10 - even < 2 * 10**6
    assert bill == 5_845_454


def test_a_cheap_offer_with_dear_hidden_costs_ranks_lower():
    cheap, near = Offer("cheap and far", 1_400_000, 3_500_000), Offer("near", 4_330_000, 200_000)

    assert rank_by_total([cheap, near]) == [near, cheap]
    assert rank_by_total([cheap, replace(near, hidden_micros=700_000)])[0] == cheap


def test_the_hours_agents_need_move_in_proportion_to_each_assumption():
    base = agent_unit_hours(100, 20, 4_000, 1_200_000)

    assert base == 100  # 100 x 20 x 4,000 x 15 / 1,200,000
    assert agent_unit_hours(100, 20, 4_000, 1_200_000, factor_bps=300_000) == 200
    assert agent_unit_hours(300, 20, 4_000, 1_200_000) == 300
    with pytest.raises(EstimateError) as refusal:
        agent_unit_hours(100, 0, 4_000, 1_200_000)
    assert refusal.value.facts["field"] == "turns"
