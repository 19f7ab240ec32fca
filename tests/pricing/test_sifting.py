"""Parts of a programme end where the whole of it ends: swept, sifted and warm results are the same to the byte."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pricing import sifting
from pricing.bundle import public_bundle
from pricing.clearing import clear, price_book
from pricing.eligibility import match_lines
from pricing.market import make_market
from pricing.sifting import solve_market
from pricing.steps import NEVER
from tests.benchmarks.scale_book import churn, scale_book
from tests.pricing.drawn import CONVEX, by_seed, small_book
from tests.pricing.lines import book
from tests.pricing.synthetic import real_sized_book

KINDS = {
    "convex": {"kinds": CONVEX, "whole_bids": False}, "every": {}, "rules": {"rules": True},
    "one product": {"is_plain": True, "slots": 6, "ticks": 400, "units": 9},
}


def bundle(one, previous=None):
    return public_bundle(clear(one, previous=previous), window="w")


def sifted(one, monkeypatch, previous=None):
    with monkeypatch.context() as patch:
        patch.setattr(sifting, "DIRECT_LINE_SLOTS", 0)
        return bundle(one, previous)


def amended(one, seed):
    """The same book with a fifth of its prices changed and a line of each side gone at times."""
    rng = random.Random(seed)
    sides = []
    for lines, price in ((list(one.demands), "price_limit_micros"), (list(one.bids), "price_ask_micros")):
        changed = [replace(line, **{price: 100 * rng.randint(1, 20)}) if rng.random() < 0.2 else line for line in lines]
        sides += [line for line in changed if rng.random() < 0.95]
    return book(*sides, slots=one.slots, latency_ms=one.latency_ms, rules=one.rules, home_zones=one.home_zones)


@pytest.mark.parametrize("seed", [0, 2, 11])
@pytest.mark.parametrize("kinds", KINDS)
def test_a_sifted_small_book_gives_the_bytes_of_a_direct_one(monkeypatch, kinds, seed):
    one = small_book(by_seed(seed), least=3, **KINDS[kinds])

    assert sifted(one, monkeypatch) == bundle(one)


@pytest.mark.parametrize("seed", [0, 2, 11])
@pytest.mark.parametrize("kinds", KINDS)
def test_a_warm_start_saves_time_and_changes_no_byte(monkeypatch, kinds, seed):
    one = small_book(by_seed(seed), least=3, **KINDS[kinds])
    before = clear(amended(one, seed))
    cold = bundle(one)

    assert bundle(one, before) == cold
    assert bundle(one, before.priced) == cold
    assert sifted(one, monkeypatch, before) == cold


@pytest.mark.parametrize("seed", [6, 289])  # a fill beyond half a price; slots that compete for a budget
def test_where_a_budget_binds_the_bytes_are_the_same_direct_sifted_and_warm(monkeypatch, seed):
    one = small_book(by_seed(seed), least=2, **KINDS["rules"])
    direct = bundle(one)

    assert sifted(one, monkeypatch) == direct
    assert sifted(one, monkeypatch, clear(amended(one, seed))) == direct


def test_a_start_from_a_book_with_other_products_is_of_no_use_and_no_harm():
    one, other = (small_book(by_seed(seed), least=4) for seed in (1, 2))

    assert bundle(one, clear(other)) == bundle(one)
    assert bundle(one, clear(book())) == bundle(one)
    assert bundle(book(), clear(one)) == bundle(book())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_scale_book_gives_the_same_bytes_direct_sifted_and_warm(monkeypatch, seed):
    one = scale_book(200, seed=seed)
    direct, before = bundle(one), clear(churn(one, seed=seed))

    assert sifted(one, monkeypatch) == direct
    assert bundle(one, before) == direct
    assert sifted(one, monkeypatch, before) == direct


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["dw", "dwk"])
@pytest.mark.parametrize("lines", [400, 1_000])
def test_larger_scale_books_give_the_same_bytes_direct_sifted_and_warm(monkeypatch, lines, kinds):
    one = scale_book(lines, kinds=kinds, seed=lines)
    direct, before = bundle(one), clear(churn(one, seed=lines))

    assert sifted(one, monkeypatch) == direct
    assert sifted(one, monkeypatch, before) == direct


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kinds", KINDS)
def test_hundreds_of_small_books_give_the_same_bytes_sifted_and_warm(monkeypatch, kinds, part):
    for seed in range(100 * part, 100 * (part + 1)):
        one = small_book(by_seed(seed), least=2, **KINDS[kinds])
        direct, before = bundle(one), clear(amended(one, seed))
        assert sifted(one, monkeypatch) == direct
        assert sifted(one, monkeypatch, before) == direct == bundle(one, before)


def test_a_sifted_solve_sees_a_part_of_the_steps_and_finds_the_prices_of_all(monkeypatch):
    one = real_sized_book(seed=4, demands=300, bids=60, slots=48)
    eligibility = match_lines(one)
    market = make_market(one, eligibility)
    whole = solve_market(market)
    monkeypatch.setattr(sifting, "DIRECT_LINE_SLOTS", 0)

    part = solve_market(market)

    assert len(part.programme.columns.cost) < len(whole.programme.columns.cost)
    rows = market.supply_row >= 0
    assert np.allclose(part.read().lam[rows], whole.read().lam[rows])
    assert part.rounds > whole.rounds == 1


def test_the_sweep_comes_near_the_prices_and_never_to_a_cell_without_capacity():
    one = real_sized_book(seed=4, demands=300, bids=60, slots=48)
    market = make_market(one, match_lines(one))

    start = sifting.sweep(market)

    found = solve_market(market).read().lam
    rows = market.supply_row >= 0
    assert np.median(np.abs(start.lam - found)[rows & (found > 0)] / found[rows & (found > 0)]) < 0.1
    assert (market.mu_of(np.where(market.is_offered, start.lam, NEVER))[market.is_wanted] < NEVER).all()


def test_prices_alone_are_those_of_the_whole_clearing():
    one = scale_book(120, kinds="dwk", seed=3)
    outcome, priced = clear(one), price_book(one)

    assert (priced.welfare_micros, priced.bound_micros, priced.gap_micros) == (
        outcome.welfare_micros, outcome.bound_micros, outcome.gap_micros)
    assert priced.caps == outcome.allocation.caps
