"""The solver: known programmes, changed and solved again, by SciPy's handle and by its public calls alike."""

import numpy as np
import pytest
import scipy.optimize

from pricing import highs
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.errors import SolverFailed
from pricing.highs import AT_LOWER, AT_UPPER, BASIC, ColdModel, Columns, WarmModel
from tests.benchmarks.scale_book import scale_book
from tests.pricing.drawn import CONVEX, by_seed, small_book
from tests.pricing.lines import bid, book, demand

MODELS = [WarmModel, ColdModel]


def columns(cost, upper, matrix):
    matrix = np.array(matrix, dtype=np.float64)
    rows, values = zip(*[(np.flatnonzero(column), column[column != 0]) for column in matrix.T], strict=True)
    return Columns(
        np.array(cost, dtype=np.float64), np.zeros(len(cost)), np.array(upper, dtype=np.float64),
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]), np.concatenate(rows), np.concatenate(values))


@pytest.fixture(params=MODELS, ids=lambda model: model.__name__)
def model(request):
    """max 3x + 2y, x + y = 4, x + 3y <= 7, x <= 3."""
    return request.param(columns([-3, -2], [3, 9], [[1, 1], [1, 3]]), np.array([4.0, -np.inf]), np.array([4.0, 7.0]))


def test_an_optimum_comes_with_its_duals(model):
    model.run()

    assert np.allclose(model.x, [3, 1])
    assert np.allclose(model.row_duals, [-2, 0])
    assert np.allclose(model.reduced_costs, [-1, 0])


def test_a_changed_programme_is_solved_again(model):
    model.run()
    model.set_cost(np.array([-1.0, -5.0]))
    model.run()
    assert np.allclose(model.x, [2.5, 1.5])
    model.set_rows(np.array([1]), np.array([-np.inf]), np.array([10.0]))
    model.run()
    assert np.allclose(model.x, [1, 3])
    model.set_bounds(np.array([1]), np.zeros(1), np.array([2.0]))
    model.run()

    assert np.allclose(model.x, [2, 2])
    assert model.iterations >= 0


def test_what_has_no_feasible_point_is_refused(model):
    model.set_rows(np.array([1]), np.array([-np.inf]), np.array([1.0]))

    with pytest.raises(SolverFailed) as caught:
        model.run()

    assert caught.value.code == "solver_failed"


@pytest.mark.parametrize("model", MODELS)
def test_a_programme_without_columns_or_rows_is_solved(model):
    nothing = Columns(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64),
                      np.zeros(0))
    empty, rows_only = model(nothing, np.zeros(0), np.zeros(0)), model(nothing, np.zeros(2), np.zeros(2))
    for one in (empty, rows_only):
        one.run()

    assert (len(empty.x), len(empty.row_duals)) == (0, 0)
    assert rows_only.row_duals.tolist() == [0, 0]


def test_a_basis_goes_in_and_out_and_says_the_same():
    one = WarmModel(columns([-3, -2], [3, 9], [[1, 1], [1, 3]]), np.array([4.0, -np.inf]), np.array([4.0, 7.0]))
    one.run()
    basic, rows = one.basis()
    assert (basic.tolist(), rows.tolist()) == ([False, True], [False, True])

    again = WarmModel(columns([-3, -2], [3, 9], [[1, 1], [1, 3]]), np.array([4.0, -np.inf]), np.array([4.0, 7.0]))
    again.set_basis(np.array([AT_UPPER, BASIC], dtype=np.int8), rows)
    again.run()

    assert again.iterations == 0
    assert np.allclose(again.x, one.x)


def test_a_useless_basis_costs_pivots_and_changes_nothing(model):
    model.set_basis(np.array([AT_LOWER, AT_LOWER], dtype=np.int8), np.array([True, True]))

    model.run()

    assert np.allclose(model.x, [3, 1])


def test_chosen_columns_keep_their_entries_and_take_another_cost():
    some = columns([-3, -2, -1], [3, 9, 9], [[1, 1, 0], [1, 3, 2]]).take(np.array([2, 0]), np.array([5.0, 7.0]))

    assert some.matrix(2).toarray().tolist() == [[0, 1], [2, 1]]
    assert (some.cost.tolist(), some.upper.tolist()) == ([5, 7], [9, 3])


def test_a_whole_optimum_is_whole_and_none_where_there_is_none():
    half = columns([-1, -1], [9, 9], [[2, 2]])
    integral = np.array([True, True])

    assert sum(highs.solve_whole(half, np.array([-np.inf]), np.array([3.0]), integral)) == 1
    assert highs.solve_whole(half, np.array([3.0]), np.array([3.0]), integral) is None


def test_the_setting_or_a_broken_handle_leads_to_the_public_calls(monkeypatch):
    given = columns([-1], [1], [[1]]), np.zeros(1), np.ones(1)
    assert isinstance(highs.new_model(*given), WarmModel)

    monkeypatch.setenv("PRICING_SOLVER", "public")
    assert isinstance(highs.new_model(*given), ColdModel)
    monkeypatch.delenv("PRICING_SOLVER")
    monkeypatch.setattr(highs, "_core", lambda: None)
    highs._handle_works.cache_clear()
    try:
        assert isinstance(highs.new_model(*given), ColdModel)
    finally:
        highs._handle_works.cache_clear()


# -- the same clearing by either ---------------------------------------------------------------------------------------


def bundle(one):
    return public_bundle(clear(one), window="w")


def agree(one, monkeypatch):
    usual = bundle(one)
    with monkeypatch.context() as patch:
        patch.setenv("PRICING_SOLVER", "public")
        assert bundle(one) == usual
        # nor does another method of the public solver change a byte
        patch.setattr(highs, "_linprog", lambda *a, **kw: scipy.optimize.linprog(*a, **{**kw, "method": "highs-ipm"}))
        assert bundle(one) == usual


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [{"kinds": CONVEX, "whole_bids": False}, {"rules": True}], ids=["convex", "every"])
def test_the_public_solver_gives_the_same_bytes(monkeypatch, limits, seed):
    agree(small_book(by_seed(seed), least=3, **limits), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["dw", "dwk"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_public_solver_gives_the_same_bytes_for_a_scale_book(monkeypatch, kinds, seed):
    one = scale_book(300, kinds=kinds, seed=seed)
    usual = bundle(one)

    monkeypatch.setenv("PRICING_SOLVER", "public")

    assert bundle(one) == usual


def test_a_solver_that_lost_its_way_begins_again_from_scratch():
    """Quantities a million times apart, and prices ten million: HiGHS ends without a verdict from its first basis."""
    hours = (0, 24)
    outcome = clear(book(
        demand("a", 100, 476_835, hours, kind="window", choice="c", is_one_site=True),
        demand("b", 999_999_900, 849_861, hours, kind="window", choice="c"), bid("s", 200, 1_048_575, hours),
        slots=24))

    assert {award.demand_id for award in outcome.awards} == {"b"}
