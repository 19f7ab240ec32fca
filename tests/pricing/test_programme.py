"""The programme over merged steps: what is a row, what is one column, and that nothing is lost in merging."""

import numpy as np
import pytest

from pricing.book import DIVISIBLE
from pricing.eligibility import match_lines
from pricing.market import CapRow, make_market
from pricing.programme import build_programme
from pricing.sifting import run
from pricing.steps import NEVER, Focus, Steps, grade_steps, narrow_steps
from tests.pricing.drawn import by_seed, small_book
from tests.pricing.lines import bid, book, demand
from tests.pricing.optimum import best_welfare_micros


def market_of(one, **other):
    return make_market(one, match_lines(one), **other)


def in_sight(market, *, lam, band, is_coarse=False):
    prices = np.full((len(market.group_of_pool), market.slots), lam, dtype=np.int64)
    demand_prices = np.full((len(market.mask_of_pool), market.slots), lam, dtype=np.int64)
    groups = np.full((market.accepts.shape[1], market.slots), lam, dtype=np.int64)
    return Focus(demand_prices, prices, groups, band, band, is_coarse)


def test_only_cells_with_demand_and_capacity_are_rows():
    market = market_of(book(demand("d", slots=(0, 2)), demand("alien", slots=(3, 4), accepted_classes=("X",)),
                            bid("b", slots=(1, 4)), bid("idle", resource_class="Y", slots=(0, 4))))

    assert market.demand_row.tolist() == [[-1, 0, -1, -1]]
    assert market.supply_row.tolist() == [[-1, 1, -1, -1]]
    assert market.rows == 2


def test_a_window_that_meets_nothing_in_one_slot_is_left_out():
    market = market_of(book(demand("w", kind="window", slots=(0, 2)), demand("v", kind="window", slots=(1, 2)),
                            bid("b", slots=(1, 4))))

    assert market.windows.lines.line.tolist() == [0]  # v stands before w


def test_signatures_that_every_mask_treats_alike_are_one_product():
    one = book(demand("d", accepted_classes=("A", "B")), bid("a", resource_class="A"), bid("b", resource_class="B"),
               bid("c", resource_class="C"))

    group = market_of(one).group_of_signature.tolist()

    assert sorted(group) == [-1, 0, 0]


def test_lines_of_one_price_in_one_cell_are_one_step_and_wholes_stand_alone():
    one = book(demand("d1", 900, 2), demand("d2", 900, 3), demand("d3", 800, 1), demand("k1", 900, 2, kind="block"),
               demand("k2", 900, 2, kind="block"), demand("w1", 900, 2, kind="window"),
               demand("w2", 900, 4, kind="window"), bid("b1", 500, 2), bid("b2", 500, 7))

    programme = build_programme(market_of(one), None)

    steps = programme.demand
    assert list(zip(steps.price.tolist(), steps.units.tolist(), strict=True)) == [(8, 1), (9, 5)]
    assert programme.supply.units.tolist() == [9]
    assert sorted(programme.window_units.tolist()) == [2, 2, 6]


def test_a_line_in_one_site_is_one_alternative_per_site():
    one = book(demand("g", 900, 2, kind="window", is_one_site=True), bid("a", site="berlin"), bid("b", site="lyon"))

    market = market_of(one)

    assert market.windows.lines.line.tolist() == [0, 0]
    assert (market.choices, market.windows.choice.tolist()) == (1, [0, 0])
    assert len(market.accepts) == 3  # its mask and a variant for each site


def test_a_capped_parent_is_a_pool_of_its_own_and_a_row():
    one = book(demand("d", 900, 9), bid("big", 500, 9), bid("small", 500, 9))
    capped = CapRow(np.array([True, False]), 3)

    programme = build_programme(market_of(one, caps=(capped,)), None)
    x = run(programme, None, 1).read().x

    assert len(programme.market.group_of_pool) == 2
    sold = programme.split(x)[1]  # less gifts, a fraction of a unit
    assert sold.sum() == pytest.approx(9, abs=0.25)
    assert sold.min() < 3.5


@pytest.mark.parametrize("seed", range(15))
def test_merging_loses_nothing_of_the_relaxation(seed):
    """The value of the merged programme is that of one column per demand, bid and slot, without minima."""
    one = small_book(by_seed(seed), least=3, whole_bids=False)
    programme = build_programme(market_of(one), None)

    x = run(programme, None, 1).read().x

    # gifts are less than a unit in all
    assert -programme.columns.cost @ x * 100 == pytest.approx(best_welfare_micros(one, whole=False), abs=20 * 100)


@pytest.mark.parametrize("is_coarse", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_a_focus_merges_what_lies_beyond_its_band_and_keeps_every_unit(seed, is_coarse):
    market = market_of(small_book(by_seed(seed), least=4, is_plain=True, kinds=("divisible",), whole_bids=False))
    whole = build_programme(market, None)

    part = build_programme(market, in_sight(market, lam=10, band=0.3, is_coarse=is_coarse))

    for all_steps, some in ((whole.demand, part.demand), (whole.supply, part.supply)):
        for cell in np.unique(all_steps.cell):
            assert some.units[some.cell == cell].sum() == all_steps.units[all_steps.cell == cell].sum()
        assert (some.price[some.beyond == 0] >= 7).all()
        assert (some.price[some.beyond == 0] <= 13).all()
        assert (some.price[some.beyond < 0] < 7).all()
        assert (some.price[some.beyond > 0] > 13).all()


@pytest.mark.parametrize("seed", range(10))
def test_narrowed_steps_keep_every_unit_and_what_must_stand_apart(seed):
    market = market_of(small_book(by_seed(seed), least=4, is_plain=True, kinds=("divisible",), whole_bids=False))
    focus = in_sight(market, lam=10, band=0.5)
    steps = build_programme(market, focus).demand
    kept = np.zeros(focus.demand.shape, dtype=np.bool_)
    kept[:, 0] = True

    narrow = narrow_steps(steps, focus.demand, 0.2, kept)

    apart = kept.ravel()[narrow.cell]
    assert np.array_equal(np.bincount(narrow.cell, narrow.units, kept.size),
                          np.bincount(steps.cell, steps.units, kept.size))
    assert apart.sum() == kept.ravel()[steps.cell].sum()
    assert (np.abs(narrow.price - 10)[(narrow.beyond == 0) & ~apart] <= 2).all()
    assert (narrow.price[narrow.beyond > 0] > 12).all()
    assert (narrow.price[narrow.beyond < 0] < 8).all()
    for cell in np.unique(narrow.cell[~apart]):  # nearest to the band, one each way
        for way in (-1, 1):
            out = steps.price[(steps.cell == cell) & (way * (steps.price - 10) > 2)]
            assert narrow.price[(narrow.cell == cell) & (narrow.beyond == way)].tolist() == (
                [min(out * way) * way] if len(out) else [])


@pytest.mark.parametrize("seed", range(10))
def test_graded_steps_keep_units_and_money_and_are_the_finer_the_nearer(seed):
    market = market_of(small_book(by_seed(seed), least=4, is_plain=True, kinds=("divisible",), whole_bids=False))
    focus = in_sight(market, lam=10, band=0.5)
    steps = build_programme(market, focus).demand

    graded = grade_steps(steps, focus.demand)

    for cell in np.unique(steps.cell):
        old, new = steps.cell == cell, graded.cell == cell
        assert graded.units[new].sum() == steps.units[old].sum()
        assert (graded.units * graded.price)[new].sum() == pytest.approx((steps.units * steps.price)[old].sum())
        assert (np.diff(graded.price[new]) > 0).all()
        for way in (-1, 1):
            assert graded.units[new & (graded.beyond == way)].sum() == steps.units[old & (steps.beyond == way)].sum()
        assert set(steps.price[old & (steps.price == 10)]) <= set(graded.price[new])  # nothing joins the price itself


def test_steps_far_from_their_price_stand_together():
    prices = [1_000, 1_001, 1_090, 1_091, 1_100, 1_101]
    far = Steps(np.zeros(6, dtype=np.int64), np.array(prices, dtype=float), np.ones(6, dtype=np.int64),
                np.zeros(6, dtype=np.int64))

    graded = grade_steps(far, np.array([[1_000]]))

    assert graded.price.tolist() == [1_000, 1_001, 1_095.5]


def test_the_price_of_a_mask_is_the_least_of_what_it_accepts():
    market = market_of(book(demand("d", accepted_classes=("A", "B")), demand("e", accepted_classes=("B",)),
                            bid("a", resource_class="A"), bid("b", resource_class="B")))
    lam = np.full((2, 4), NEVER)
    lam[:, 0] = [3, 5]

    mu = market.mu_of(lam)

    assert mu[:, 0].tolist() == [lam[row, 0].min() for row in market.accepts]
    assert (mu[:, 1:] == NEVER).all()


def test_kinds_go_where_they_belong():
    one = small_book(by_seed(3), least=5, rules=True)
    market = market_of(one)

    assert set(market.divisible.line) <= set(np.flatnonzero(one.demands.kind == DIVISIBLE))
    assert set(market.windows.lines.line) <= set(np.flatnonzero(one.demands.kind != DIVISIBLE))
    assert set(market.whole_bids.lines.line) <= set(np.flatnonzero(one.bids.minimum > 0))
    assert set(market.offered.line) <= set(np.flatnonzero(one.bids.minimum == 0))
