"""The benchmark of verdicts: its keys, its table, no false slash in a small run, and what a missed goal says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pricing.targets import MENU, median_ms
from tests.benchmarks import sla
from tests.benchmarks.sla_replay import Outage, Record, replay, tally_of
from tests.benchmarks.sla_targets import (
    burst_minutes,
    exact_rows,
    exact_table,
    measure_targets,
    panel_medians,
    target_faults,
    target_table,
)

KEYS = {"lease_months", "false_slash_at_budget", "power_at_2x", "seconds"}


def test_a_small_run_has_its_keys_and_no_false_slash() -> None:
    figures = sla.measure(months=48, power_months=2, check_months=20, target_months=3, seed=1)

    assert figures.keys() >= KEYS
    assert (figures["lease_months"], figures["false_slash_at_budget"]) == (48, 0)
    assert figures["largest_size"] <= 5e-5
    assert sla.faults_of(figures) == []


def rates(dip: float, noise: float) -> dict[str, dict[str, float]]:
    return {"dip": {"called_a_breach": dip}, "noise": {"called_a_breach": noise}}


def test_a_dip_of_60_percent_is_called_a_breach_and_5_percent_of_noise_is_not() -> None:
    found = sla.measure(months=0, power_months=1, check_months=50, target_months=1, seed=2)["performance"]

    assert (found["dip"]["called_a_breach"], found["dip"]["checks_failed"]) == (1.0, 1.0)
    assert found["dip"]["credited_of_fee"] == pytest.approx(0.6, abs=0.03)  # the better of both tries counts
    assert found["noise"]["called_a_breach"] == 0.0
    assert found["noise"]["checks_failed"] < 2e-3  # 5.2e-4 by the arithmetic, 6,000 checks here


def test_typed_targets_are_kept_at_the_promise_and_broken_at_twice_it() -> None:
    rows = measure_targets(np.random.default_rng(4), months=6)

    assert [row["target"] for row in rows] == [target.name for target in MENU]
    assert {(row["false_credits"], row["called_at_2x"]) for row in rows} == {(0, 1.0)}
    assert target_faults(rows, power=0.99) == []
    worse = [rows[0] | {"false_credits": 1}, rows[1] | {"called_at_2x": 0.5}]
    assert len(target_faults(worse, power=0.99)) == 2
    assert len(list(target_table(rows))) >= len(MENU)
    assert any("Latency, 99 % of the minutes, 30 d" in line for line in exact_table(exact_rows()))


def test_the_simulated_panel_has_the_products_median() -> None:
    rng = np.random.default_rng(5)
    echoes = rng.integers(1, 50, (3, 500))
    for place in range(500):
        heard = rng.random(3) >= 0.3
        times = [int(ms) for ms, is_heard in zip(echoes[:, place], heard, strict=True) if is_heard]
        ordered = sorted(times)
        assert median_ms(times) == (ordered[(len(ordered) - 1) // 2] if len(ordered) >= 2 else None)
    slow = burst_minutes(rng, 500, 60)
    medians = panel_medians(rng, slow, fast_ms=3, slow_ms=40)
    assert slow.sum() == 500
    assert set(medians[slow]) == {40, -1}  # whoever lies is never in the middle, nor the lower one of two
    assert set(medians[~slow]) == {3, -1}


def test_faults_are_named() -> None:
    good = {"false_slash_at_budget": 0, "power_at_2x": 0.99, "largest_size": 5e-5, "performance": rates(1.0, 0.0),
            "targets": []}  # fmt: skip

    assert sla.faults_of(good) == []
    worse = {"false_slash_at_budget": [1], "power_at_2x": [0.989], "largest_size": [6e-5],
             "performance": [rates(0.999, 0.0), rates(1.0, 0.001)]}  # fmt: skip
    for name, value in ((name, value) for name, values in worse.items() for value in values):
        assert len(sla.faults_of(good | {name: value})) == 1


def test_the_error_table_is_the_one_of_the_design() -> None:
    rows = {(row["sla_bps"], row["minutes"]): row for row in sla.error_table()}

    assert [row["threshold"] for row in rows.values()] == [31, 516, 20, 276, 25, 72]
    assert rows[9990, 10_080]["breach_rate"]["0.998"] == pytest.approx(0.13, abs=0.005)
    assert rows[9900, 1440]["breach_rate"]["0.98"] == pytest.approx(0.30, abs=0.01)
    assert sla.performance_rates()["breach_at"] == 11


def test_a_replayed_record_is_warned_first_and_slashed_later() -> None:
    days = [Outage(43_200 * month + 1000, 43_200 * month + 1900) for month in range(3)]
    tally = tally_of([Record("bad", 4, tuple(days))], seed=1)[9900]

    assert (tally.months, tally.below_sla, tally.warnings, tally.slashes) == (4, 3, 1, 2)
    assert (tally.false_calls, tally.missed) == (0, 0)


@pytest.mark.slow
def test_real_records_are_replayed_without_a_false_call() -> None:
    folder = os.environ.get("GROVE_RELIABILITY_DATA", "")
    if not folder:
        pytest.skip("GROVE_RELIABILITY_DATA names no folder of failure records, which may not be bundled")

    found = replay(Path(folder))

    assert all(tally.false_calls == 0 for by_sla in found.values() for tally in by_sla.values())
    assert found["LANL nodes, 2004"][9900].months > 10_000
