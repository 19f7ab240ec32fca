"""Gas does not creep: each function and each row of the benchmark is held to the committed snapshot within 1 %."""

from __future__ import annotations

import pytest

from tests.benchmarks import gas, gas_floor, gas_snapshot
from tests.contracts import gas_calls

RENEW = "If that is meant: python -m tests.benchmarks.gas_snapshot"


def test_no_external_function_became_more_than_one_percent_dearer() -> None:
    assert gas_snapshot.dearer(gas_calls.measured(), gas_snapshot.committed()["functions"]) == [], RENEW


def test_no_row_of_a_small_market_became_more_than_one_percent_dearer() -> None:
    assert gas_snapshot.dearer(gas_snapshot.rows((gas_snapshot.SMALL,)), gas_snapshot.committed()["small"]) == [], RENEW


@pytest.mark.slow
def test_no_row_of_the_benchmark_became_more_than_one_percent_dearer() -> None:
    assert gas_snapshot.dearer(gas_snapshot.rows(gas.CASES), gas_snapshot.committed()["rows"]) == [], RENEW


def test_a_percent_more_passes_and_a_unit_above_it_does_not() -> None:
    before = {"escrow.lock": 10_000.0, "escrow.settle": 10_000.0}

    assert gas_snapshot.dearer({"escrow.lock": 10_100.0, "escrow.settle": 1.0}, before) == []
    assert gas_snapshot.dearer({"escrow.lock": 10_101.0, "escrow.settle": 10_000.0}, before) == [
        "escrow.lock: 10,101.00 gas after 10,000.00, +1.01%"
    ]
    assert gas_snapshot.dearer({"escrow.lock": 10_000.0}, before) != []


def test_the_floors_are_those_of_the_price_list() -> None:
    assert gas_floor.LINE == 512 + 2_100 + 2_900 + 42 == 5_554
    assert gas_floor.settle_floor(500, 0) / 500 == 5_596
    assert [round(gas_floor.settle_floor(50, buyers) / 500) for buyers in (10, 25, 50)] == [708, 875, 1_153]


def test_the_goals_of_the_committed_rows_stand_as_the_table_says() -> None:
    rows = gas_snapshot.committed()["rows"]

    assert rows["settle 500/50/10"] <= gas.GOALS["settle"]
    assert rows["life 500/50/50"] <= gas.GOALS["life"]
    assert all(rows[f"payee side 500/50/{buyers}"] <= gas.GOALS["payee_side"] for buyers in (10, 25, 50))
