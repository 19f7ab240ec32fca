"""The benchmark of gas: its figures have their names, a floor stands beside each row, a missed goal is said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks import gas

KEYS = {"settle_per_lease", "life_per_lease", "floor_per_payee", "erc20_transfer", "peers", "payout_per_payee"}


def measured(settle_shared: int = 420_000) -> dict[str, Any]:
    one = {"leases": 500, "calls": 1}
    cases = [
        one | {"payees": 50, "buyers": 10, "lock": 1_200_000, "settle": settle_shared, "lines": 10},
        one | {"payees": 50, "buyers": 50, "lock": 1_900_000, "settle": 640_000, "lines": 50},
        {"leases": 500, "payees": 500, "buyers": 1, "lock": 5_900_000, "settle": 3_545_600, "calls": 8, "lines": 8},
    ]
    single = {"payout_per_payee": 54_000.0, "claim": 56_000.0, "erc20_transfer": 33_000}
    return {"cases": cases, "buyer_line": 5_700, "single": single}


def test_the_figures_have_their_names_and_every_row_its_floor() -> None:
    figures = gas.figures_of(measured())

    assert figures.keys() >= KEYS
    assert (figures["life_per_lease"], figures["floor_per_payee"]) == (5_080, 5_596)
    rows = {(row["leases"], row["payees"], row["buyers"], row["calls"]): row for row in figures["settle_per_lease"][:2]}
    assert rows[500, 50, 10, 1]["gas"] == 840
    alone = figures["settle_per_lease"][-1]
    assert (alone["payees"], alone["buyers"], alone["gas"]) == (500, 0, 7_000)
    assert alone["floor_of_its_calls"] == 5_554 + 21_000 * 8 / 500
    assert figures["distinct_over_floor"] == pytest.approx(7_000 / 5_596 - 1)


def test_the_table_says_which_goals_were_missed() -> None:
    missed = [row for row in gas.rows_of(gas.figures_of(measured())) if "MISSED" in row]

    assert [row.split()[:5] for row in missed] == [["500", "/", "500", "/", "payee"], ["500", "/", "50", "/", "50"]]
    assert any("MISSED" in row for row in gas.rows_of(gas.figures_of(measured(451_000))) if "50 / 10" in row)


def test_a_figure_below_its_floor_is_a_fault() -> None:
    assert gas.faults_of(gas.figures_of(measured())) == []
    assert gas.faults_of(gas.figures_of(measured(354_000))) == [
        "708 gas lie under the floor of 708", "594 gas lie under the floor of 597",
    ]  # fmt: skip
