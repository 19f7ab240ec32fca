"""The benchmarks themselves: their books are what they say, their baselines keep the rules, their files are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marketplace.management.commands.bench import write_whole
from pricing.book import BLOCK, Book
from pricing.eligibility import match_lines
from tests.benchmarks import baselines, clearing, peers, peers_run, sorting
from tests.benchmarks.books import offered_over_demanded
from tests.benchmarks.report import table
from tests.benchmarks.scale_book import churn, scale_book
from tests.pricing.lines import bid, demand
from tests.pricing.lines import book as book_of


def test_the_scale_book_asks_for_120_different_things_in_64_kinds_of_capacity() -> None:
    book = scale_book(4_000, "dwk")
    known = match_lines(book)

    assert (len(known.signatures), len(known.masks)) == (64, 120)
    assert sum(map(len, known.masks)) == 956
    assert (known.mask_of_demand >= 0).all()


def test_the_scale_book_offers_nine_tenths_of_what_it_demands() -> None:
    assert offered_over_demanded(scale_book(10_000, "dwk")) == pytest.approx(0.9, abs=0.03)


def test_leaving_the_blocks_out_leaves_every_other_line_as_it_is() -> None:
    with_blocks, without = scale_book(2_000, "dwk"), scale_book(2_000, "dw")
    kept = with_blocks.demands.kind != BLOCK

    assert (with_blocks.demands.price[kept] == without.demands.price).all()
    assert (with_blocks.bids.price == without.bids.price).all()
    assert len(with_blocks.demands) + len(with_blocks.bids) == 2_000


def test_churn_amends_a_fiftieth_of_the_lines_and_no_name() -> None:
    book = scale_book(5_000, "dwk")
    amended = churn(book)

    assert amended.demands.ids == book.demands.ids
    assert 0 < np.mean(amended.demands.price != book.demands.price) <= 0.02
    assert 0 < np.mean(amended.bids.price != book.bids.price) <= 0.02


def test_first_come_gives_away_what_the_best_answer_keeps() -> None:
    # d1 could take either class; the cheap one is the only one that serves d2.
    book = book_of(
        demand("d1", 5_000, accepted_classes=("A100", "H100"), accepted_rank=0), demand("d2", 4_000, accepted_rank=1),
        bid("b1", 1_000), bid("b2", 2_000, resource_class="A100"),
    )  # fmt: skip

    assert baselines.welfare_of_baselines(book)["first_come_split"] == 4_000
    assert best_welfare(book) == 6_000


def test_a_greedy_market_serves_divisible_lines_slot_by_slot_and_windows_on_the_average() -> None:
    slots = (0, 2)
    part = book_of(demand("d1", 2_000, 2, slots), bid("b1", 1_000, 2, (0, 1)), bid("b2", 1_000, 1, (1, 2)))
    average = book_of(
        demand("d1", 2_000, 1, slots, kind="window"), bid("b1", 1_000, 1, (0, 1)), bid("b2", 2_500, 1, (1, 2))
    )

    assert baselines.welfare_of_baselines(part)["first_come_one_provider"] == 3_000
    assert baselines.welfare_of_baselines(average) == {
        "first_come_one_provider": 0, "first_come_split": 500, "price_sorted_split": 500,
    }  # fmt: skip


def test_a_greedy_market_keeps_blocks_whole_choices_single_and_gangs_in_one_site() -> None:
    whole = book_of(demand("k1", 3_000, 3, kind="block", minimum_units=3), bid("b1", 1_000, 2))
    one = book_of(
        *(demand(name, 3_000, kind="window", choice="c") for name in ("a", "b")), bid("b1", 1_000, 2),
    )  # fmt: skip
    gang = book_of(
        demand("g1", 3_000, 4, kind="block", minimum_units=4, is_one_site=True), bid("b1", 1_000, 3),
        bid("b2", 2_000, 4, site="munich"),
    )  # fmt: skip

    assert best_greedy(whole) == 0
    assert best_greedy(one) == 2_000
    assert best_greedy(gang) == 4_000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_greedy_market_beats_the_optimum(seed: int) -> None:
    book = scale_book(120, "dw", seed)

    assert 0 < best_greedy(book) <= best_welfare(book) * (1 + 1e-9)


def test_crossing_by_counting_ticks_trades_as_much_as_crossing_by_sorting() -> None:
    rng = np.random.default_rng(3)
    limit, ask = rng.integers(1, 60, 200), rng.integers(1, 60, 200)
    wanted, offered = rng.integers(1, 9, 200), rng.integers(1, 9, 200)

    traded, price = sorting.cross_one_slot(limit, wanted, ask, offered, 61)

    at_each = [min(wanted[limit >= p].sum(), offered[ask <= p].sum()) for p in range(61)]
    assert traded == max(at_each) == at_each[price]


def test_a_file_of_figures_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "figures.json"
    write_whole(path, {"lines": 1})
    with pytest.raises(TypeError):
        write_whole(path, {"lines": object()})

    assert json.loads(path.read_text()) == {"lines": 1}
    assert list(path.parent.iterdir()) == [path]


def test_the_table_lines_up_and_the_figures_have_their_names() -> None:
    cleared: dict[str, Any] = {
        "cold": [2.0, 3.0], "warm": [1.0, 1.5], "sorts": [0.1, 0.1, 0.2, 0.1], "peak_rss_mb": 90.0, "welfare_micros": 8,
        "bound_micros": 8, "gap_micros": 0, "paradoxical_accepted": 0, "paradoxical_rejected": 0, "rounds": 3,
        "offered_over_demanded": 1.0, "publish_seconds": 0.5,
    }  # fmt: skip
    figures = clearing.figures_of(100, cleared, {"first_come_split": 4}, {}, None)
    drawn = list(clearing.rows_of(figures, cleared, {"is_ok": True, "seconds": 1.0, "peak_rss_mb": 50.0}, {}))

    assert tuple(figures) == clearing.KEYS
    assert (figures["seconds_cold"], figures["ratio_to_sort"]) == (2.0, 17.5)
    assert any(row.startswith("first_come_split") and "2.000" in row for row in drawn)
    assert table([["a", "1", "x"], ["long", "22", "y"]]) == ["a      1  x", "long  22  y"]


def best_greedy(book: Book) -> int:
    return max(baselines.welfare_of_baselines(book).values())


def best_welfare(book: Book) -> float:
    programme = peers.naive_programme(book)
    return peers_run.by_scipy(vars(programme), programme.matrix, 60.0) * 100
