"""The benchmark of the books: its figures have their names, its verdicts are those of its goals."""

from __future__ import annotations

from typing import Any

from tests.benchmarks import ledger

KEYS = {
    "copy_limit_per_s", "bulk_per_s", "ratio_to_copy", "hot_direct_per_s", "hot_combined_per_s", "p99_ms",
    "naive_orm_per_s", "naive_batched_per_s", "hordak_per_s", "bytes_per_transfer", "verify_1e6_seconds",
}  # fmt: skip


def measured(**more: Any) -> dict[str, Any]:
    rates = {
        "copy": [100.0, 200.0, 300.0], "bulk 10000": [60.0, 80.0, 150.0], "bulk 10000 wide": [40.0], "bulk 1": [1.0],
        "hot direct": [5.0], "hot combined": [60.0], "naive orm": [2.0], "naive batched": [10.0],
    }  # fmt: skip
    return {
        "rates": rates, "sizes": [1, 10_000], "accounts": 1_000, "faults": [], "hot_p50_ms": [1.0],
        "hot_p99_ms": [30.0], "bytes_per_transfer": 190.0, "bytes": {}, "verify_seconds": 2.0, "verified": 500_000,
        "hordak": ([1.0, 2.0, 9.0], ""),
    } | more  # fmt: skip


def test_the_figures_have_their_names_and_a_ratio_is_taken_turn_by_turn() -> None:
    figures = ledger.figures_of(measured())

    assert figures.keys() >= KEYS
    assert figures["ratio_to_copy"] == 0.5
    assert figures["verify_1e6_seconds"] == 4.0
    assert figures["bulk_per_s"] == {"1": 1.0, "10000": 80.0}


def test_the_table_says_which_goals_were_missed() -> None:
    table = list(ledger.rows_of(ledger.figures_of(measured())))

    assert sum("reached" in row for row in table) == 6
    assert [row.split("  ")[-1].rsplit("; ", 1)[-1] for row in table if "missed" in row] == [
        "goal <= 20: missed", "goal >= 10: missed",
    ]  # fmt: skip


def test_books_that_were_not_measured_are_no_figure_and_the_reason_stands_in_the_table() -> None:
    figures = ledger.figures_of(measured(hordak=([], "not installed: no network")))

    assert (figures["hordak_per_s"], figures["over_hordak"]) == (None, None)
    assert [row for row in ledger.rows_of(figures) if "not installed: no network" in row]
    assert ledger.figures_of(measured())["over_hordak"] == 40.0
