"""Out of all optima one: drawn from the hash of the sealed book, whole, and the same by every way there."""

from dataclasses import replace

import numpy as np
import pytest

import pricing.settle as settle_module
from pricing.certificate import unit_hours
from pricing.clearing import clear
from pricing.draws import WEIGHT_BITS, mixed
from pricing.eligibility import match_lines
from pricing.market import make_market
from pricing.settle import low_point, settle
from pricing.sifting import solve_market
from tests.pricing.drawn import CONVEX, by_seed, small_book
from tests.pricing.lines import bid, book, demand

HASH = bytes(range(32))


def test_draws_lie_in_one_octave_and_every_part_of_the_key_counts():
    n = np.arange(2_000)
    zero = np.zeros_like(n)
    drawn = [mixed(HASH, 1, n, zero), mixed(HASH, 1, zero, n), mixed(HASH, n, zero, zero),
             mixed(HASH[::-1], 1, n, zero)]

    for one in drawn:
        assert (one >= 1 << WEIGHT_BITS).all()
        assert (one < 2 << WEIGHT_BITS).all()
        assert len(np.unique(one)) > 1_990
        assert abs(one.mean() / (1.5 * 2**WEIGHT_BITS) - 1) < 0.02
    assert len({tuple(one) for one in drawn}) == 4
    assert (drawn[0] == mixed(HASH, 1, n, zero)).all()


def test_the_draws_are_the_published_ones():
    """Fixed numbers: whoever replays an old window must draw the same."""
    drawn = mixed(HASH, np.array([1, 2]), np.array([0, 7]), np.array([0, 9]))

    assert drawn.tolist() == [1_996_640, 1_389_257]


@pytest.mark.parametrize("seed", range(8))
def test_of_all_optimal_prices_the_low_point_is_nowhere_above_the_published_ones(seed):
    one = small_book(by_seed(seed), least=3, kinds=CONVEX, whole_bids=False)

    settled = clear(one).priced.whole.settled
    published = clear(one).priced.whole.worth.prices.lam

    rows = settled.programme.market.supply_row >= 0
    assert (settled.lam[rows] <= published[rows]).all()


def test_of_all_optimal_fills_the_one_with_the_most_unit_hours_is_taken():
    """At the price of 1,000 neither side gains; the more is traded the better."""
    outcome = clear(book(demand("d", 1_000, 3), bid("b", 1_000, 5)))

    assert outcome.welfare_micros == 0
    assert sum(award.units for award in outcome.awards) == 3


@pytest.mark.parametrize("seed", range(8))
def test_the_fill_is_whole_and_optimal(seed):
    one = small_book(by_seed(seed), least=3, kinds=CONVEX, whole_bids=False)
    market = make_market(one, match_lines(one))
    low = low_point(solve_market(market))

    settled = settle(low, one.input_hash)

    columns = settled.programme.columns
    assert settled.is_whole
    assert (settled.x >= -1e-6).all()
    assert (settled.x <= columns.upper + 1e-6).all()
    used = columns.matrix(len(settled.programme.row_upper)) @ settled.x
    assert (used <= settled.programme.row_upper + 1e-6).all()
    assert (used >= settled.programme.row_lower - 1e-6).all()
    assert columns.cost @ settled.x == pytest.approx(columns.cost @ np.rint(settled.x))


def test_a_fill_found_part_by_part_is_that_of_the_whole(monkeypatch):
    sizes = watched_parts(monkeypatch)
    for seed in range(24):
        one = small_book(by_seed(seed), least=3, kinds=CONVEX)
        low = low_point(solve_market(make_market(one, match_lines(one))))
        monkeypatch.setattr(settle_module, "FACE_PART_COLUMNS", 10**9)
        whole = settle(low, one.input_hash)
        monkeypatch.setattr(settle_module, "FACE_PART_COLUMNS", 1)

        parts = settle(low, one.input_hash)

        assert np.array_equal(parts.x, whole.x)
    assert sum(len(of_one) > 1 for of_one in sizes) > 12  # most books fall apart


def watched_parts(monkeypatch):
    """How many columns each part has, of every face that is solved; each column and row stands in one part."""
    sizes, apart = [], settle_module._apart

    def watched(columns, rows):
        parts = apart(columns, rows)
        for side, count in ((0, len(columns.cost)), (1, rows)):
            assert sorted(np.concatenate([part[side] for part in parts])) == list(range(count))
        sizes.append([len(of_columns) for of_columns, _ in parts])
        return parts

    monkeypatch.setattr(settle_module, "_apart", watched)
    return sizes


def test_who_stands_first_in_the_book_has_no_advantage():
    """Two like sellers, room for one: over many books each wins about half of them."""
    first = 0
    for n in range(60):
        outcome = clear(_tied(n))
        first += bool(unit_hours(outcome.allocation.bid_ptr, outcome.allocation.bid_units)[0])

    assert 12 <= first <= 48


def _tied(rank):
    either = replace(demand("d", 2_000).requirement, accepted_classes=("A", "B"))
    return book(
        replace(demand("d", 2_000, accepted_rank=rank), requirement=either), bid("a", 1_000, resource_class="A"),
        bid("b", 1_000, resource_class="B"), demand("only-a", 900, accepted_classes=("A",)),
        demand("only-b", 900, accepted_classes=("B",)),
    )
