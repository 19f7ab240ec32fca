"""Where workloads belong: twenty of them by hand, each rule on both sides of its edge, every refusal by its field."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.compliance.catalogue import DATA_CLASSES
from marketplace.environment import CHECKOUT
from pricing.errors import EstimateError
from pricing.workloads import (
    QUADRANTS,
    SHAPES,
    Data,
    Workload,
    classes_that_hold,
    memory_bytes_of_model,
    place,
    place_all,
)

DATA = {
    code: Data(tier_min, is_bound=bool(agreement or zone), is_refused=is_refused)
    for code, _, tier_min, _, agreement, zone, is_refused, _ in DATA_CLASSES
}  # the catalogue's own list
TAKEN = sorted(code for code, data in DATA.items() if not data.is_refused)
FOLDER = CHECKOUT / "fixtures" / "workloads"
PLAIN = Workload(name="plain", units=1, data_class="public", hours_per_week=1)
workloads = st.builds(
    Workload, name=st.just("any"), units=st.integers(1, 2**20), data_class=st.sampled_from(TAKEN),
    hours_per_week=st.integers(1, 168), latency_ms=st.none() | st.integers(1, 10_000), shape=st.sampled_from(SHAPES),
    zone=st.sampled_from(["", "EU", "CH"]), memory_gib=st.integers(0, 200),
    present_usd_per_year=st.integers(0, 10**12),
)  # fmt: skip


def twenty() -> list[Workload]:
    with (FOLDER / "workloads.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    whole = ("units", "hours_per_week", "latency_ms", "memory_gib", "present_usd_per_year")
    return [Workload(**{k: int(v) if k in whole else v for k, v in row.items() if v}) for row in rows]  # type: ignore[arg-type]


def summary(workload: Workload) -> dict[str, Any]:
    found = place(workload, home_zone="EU", classes=DATA)
    return {
        "name": workload.name, "quadrant": found.quadrant, "route": found.route, "latency_class": found.latency_class,
        "tier": found.tier, "zone": found.zone, "control_zone": found.control_zone, "kind": found.kind,
        "sla_bps": found.sla_bps, "price_limit_micros": found.price_limit_micros,
    }  # fmt: skip


def test_twenty_workloads_land_where_each_was_judged_to_belong():
    golden = json.loads((FOLDER / "placements.json").read_text(encoding="utf-8"))

    assert len(golden) == 20
    assert [summary(workload) for workload in twenty()] == golden
    assert {row["quadrant"] for row in golden} == set(QUADRANTS)
    assert {row["route"] for row in golden} == {"mesh", "hybrid", "central"}
    assert {row["kind"] for row in golden} == {"divisible", "window", "block"}
    assert {row["tier"] for row in golden} == {0, 1, 2, 3}


@pytest.mark.parametrize(("latency_ms", "latency_class", "is_tight"), [
    (None, "batch", False), (10_000, "L100", False), (100, "L100", False), (99, "L50", True), (50, "L50", True),
    (49, "L20", True), (20, "L20", True), (19, "L10", True), (10, "L10", True), (9, "L10", True),
])  # fmt: skip
def test_a_class_always_keeps_the_need(latency_ms, latency_class, is_tight):
    found = place(replace(PLAIN, latency_ms=latency_ms), classes=DATA)

    assert (found.latency_class, found.is_tight) == (latency_class, is_tight)
    promises_too_little = latency_ms is not None and latency_ms < 10
    assert any("promises too little" in rule for rule in found.rules) is promises_too_little


@pytest.mark.parametrize(("data_class", "latency_ms", "route"), [
    ("personal-eu", 50, "mesh"), ("internal", 50, "hybrid"), ("personal-eu", 100, "hybrid"),
    ("internal", 100, "central"), ("restricted", 100, "mesh"), ("restricted", 50, "mesh"), ("public", None, "central"),
    ("regulated-health", None, "hybrid"),
])  # fmt: skip
def test_each_square_has_its_route_and_restricted_data_no_central_leg(data_class, latency_ms, route):
    found = place(replace(PLAIN, data_class=data_class, latency_ms=latency_ms), home_zone="EU", classes=DATA)

    assert found.route == route
    assert route in found.rules[0]


@pytest.mark.parametrize(("data_class", "zone", "where"), [
    ("internal", "", ("", "")), ("personal-eu", "", ("EU", "")), ("restricted", "", ("EU", "EU")),
    ("internal", "CH", ("CH", "")), ("restricted", "CH", ("CH", "CH")),
])  # fmt: skip
def test_private_data_stays_at_home_and_restricted_data_under_its_law(data_class, zone, where):
    found = place(replace(PLAIN, data_class=data_class, zone=zone), home_zone="EU", classes=DATA)

    assert (found.zone, found.control_zone) == where


def test_the_price_limit_is_what_a_unit_hour_costs_now_on_the_tick():
    a_million_a_year = replace(PLAIN, units=8, hours_per_week=168, present_usd_per_year=1_000_000)

    assert place(a_million_a_year, classes=DATA).price_limit_micros == 14_308_600  # 14,308,608.05..
    assert place(PLAIN, classes=DATA).price_limit_micros == 0


@given(workloads)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_workload_has_one_place_and_terms_that_the_market_can_hold(workload):
    found = place(workload, home_zone="EU", classes=DATA)

    assert found.quadrant in QUADRANTS
    assert found.tier == DATA[workload.data_class].tier_min
    private = found.tier >= 2 or DATA[workload.data_class].is_bound
    assert private == found.is_private == found.quadrant.endswith("private")
    assert found.route != "central" or not (found.is_private or found.is_tight)
    assert found.price_limit_micros == 0 or 100 <= found.price_limit_micros <= 10**9
    assert found.price_limit_micros % 100 == 0
    assert place_all([workload], home_zone="EU", classes=DATA) == [found]


@pytest.mark.parametrize(("change", "field"), [
    ({"name": ""}, "name"), ({"name": " "}, "name"), ({"name": "x" * 61}, "name"), ({"name": "a\nb"}, "name"),
    ({"units": 0}, "units"), ({"units": 2**20 + 1}, "units"), ({"units": True}, "units"), ({"units": 1.0}, "units"),
    ({"data_class": "secret"}, "data_class"), ({"data_class": "classified"}, "data_class"),
    ({"hours_per_week": 0}, "hours_per_week"), ({"hours_per_week": 169}, "hours_per_week"),
    ({"latency_ms": 0}, "latency_ms"), ({"latency_ms": 10_001}, "latency_ms"), ({"latency_ms": 1.5}, "latency_ms"),
    ({"shape": "stream"}, "shape"), ({"memory_gib": -1}, "memory_gib"),
    ({"present_usd_per_year": -1}, "present_usd_per_year"), ({"present_usd_per_year": 10**12 + 1},
                                                             "present_usd_per_year"),
])  # fmt: skip
def test_what_no_workload_can_be_is_refused_by_its_field(change, field):
    with pytest.raises(EstimateError) as refusal:
        place(replace(PLAIN, **change), classes=DATA)

    assert refusal.value.facts["field"] == field
    assert place(PLAIN, classes=DATA).quadrant == "loose-open"


def test_a_model_of_70_billion_parameters_at_4_bit_takes_35_gb_and_two_classes_hold_it():
    memory = memory_bytes_of_model(70 * 10**9, 4)
    held = {"H100-80": 80 * 2**30, "L40S": 48 * 2**30, "L4": 24 * 2**30}

    assert memory == 35 * 10**9
    assert classes_that_hold(-(-memory // 2**30), held) == ["H100-80", "L40S"]
    for parameters, bits, field in ((0, 4, "parameters"), (1, 7, "bits")):
        with pytest.raises(EstimateError) as refusal:
            memory_bytes_of_model(parameters, bits)
        assert refusal.value.facts["field"] == field
