"""Books built from real data: they look like the market they stand for, and they clear."""

from __future__ import annotations

import numpy as np
import pytest

from pricing.bundle import public_bundle
from pricing.clearing import clear, price_book
from pricing.verify import verify_bundle
from tests.benchmarks.baselines import welfare_of_baselines
from tests.benchmarks.books import offered_over_demanded
from tests.benchmarks.real_book import DEMANDS, real_book, shape
from tests.pricing.optimum import best_welfare_micros

# Providers: the shares of demands with a candidate after class, zone, latency and price, seen on real placements.
SHAPES = {
    15: ((1.00, 1.00), (0.89, 1.00), (0.74, 0.93), (0.71, 0.84)),
    30: ((1.00, 1.00), (0.96, 1.00), (0.86, 0.95), (0.85, 0.90)),
    180: ((1.00, 1.00), (1.00, 1.00), (0.96, 0.98), (0.95, 0.98)),
}


@pytest.mark.parametrize("providers", [15, 30, pytest.param(180, marks=pytest.mark.slow)])
def test_as_many_demands_find_a_candidate_as_on_real_placements(providers: int) -> None:
    seen = np.mean([shape(real_book(providers, seed=seed)) for seed in (1, 2, 3)], axis=0)

    for share, (low, high) in zip(seen, SHAPES[providers], strict=True):
        assert low - 0.005 <= share <= high + 0.005, seen


def test_three_tightness_levels_stand_for_scarcity_ease_and_plenty() -> None:
    tight, easy, slack = (offered_over_demanded(real_book(providers)) for providers in (15, 30, 180))

    assert tight < 2 < easy < 5 < slack


def test_one_seed_is_one_book_and_another_seed_is_another() -> None:
    first, again, other = real_book(15, seed=1), real_book(15, seed=1), real_book(15, seed=2)

    assert first.input_hash == again.input_hash
    assert first.input_hash != other.input_hash
    assert len(first.demands) == DEMANDS


def test_a_scarce_real_book_clears_and_no_greedy_market_does_better() -> None:
    book = real_book(15)

    outcome = clear(book)

    assert verify_bundle(public_bundle(outcome, window="real")).ok
    assert outcome.bound_micros >= outcome.welfare_micros >= max(welfare_of_baselines(book).values())


@pytest.mark.parametrize("providers", [15, pytest.param(30, marks=pytest.mark.slow)])
def test_a_real_book_with_blocks_is_worth_as_much_as_branch_and_bound_finds_without_any_prices(providers: int) -> None:
    book = real_book(providers, kinds="dwk")

    priced = price_book(book)

    assert priced.welfare_micros == round(best_welfare_micros(book, whole=True))
