"""The one place that knows a solver: linear programmes by HiGHS through SciPy, warm where SciPy's build lets us.

Solver output is float and serves as a proposal only: callers snap it to integers and prove it in integers.

A `Model` is `minimise cost @ x` over `row_lower <= matrix @ x <= row_upper, lower <= x <= upper`. It can be changed and
solved again, from the basis where it stands. SciPy's public calls cannot do that, so `WarmModel` holds SciPy's own
HiGHS handle, which is private to SciPy; should a SciPy hide or change it, or the setting PRICING_SOLVER=public ask for
it, `ColdModel` gives the same optima through `scipy.optimize.linprog`, slower.
"""

import os
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse

from pricing import errors
from pricing.book import Flags, Ints

Floats = npt.NDArray[np.float64]
Statuses = npt.NDArray[np.int8]

AT_LOWER, BASIC, AT_UPPER = range(3)
FEASIBILITY = 1e-9  # units: the least that HiGHS tells apart; perturbations stay far above it

# SciPy's stubs do not know that both take sparse matrices.
_linprog: Any = scipy.optimize.linprog
_milp: Any = scipy.optimize.milp

# A deterministic limit: a time limit would give different results on slower machines.
NODE_LIMIT = 20_000


@dataclass(frozen=True, eq=False)
class Columns:
    """A sparse matrix by columns, with the cost and the bounds of each."""

    cost: Floats  # [columns]
    lower: Floats  # [columns]
    upper: Floats  # [columns]
    starts: Ints  # [columns + 1]
    rows: Ints  # [entries]
    values: Floats  # [entries]

    def take(self, chosen: Ints, cost: Floats) -> "Columns":
        """The chosen columns with another cost."""
        entries = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(entries)])
        at = np.repeat(self.starts[chosen] - starts[:-1], entries) + np.arange(starts[-1])
        return Columns(cost, self.lower[chosen], self.upper[chosen], starts, self.rows[at], self.values[at])

    def cut(self, chosen: Ints, rows: Ints, rows_before: int) -> "Columns":
        """The chosen columns, which meet only the rows given, in a programme of these rows alone."""
        place = np.full(rows_before, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        taken = self.take(chosen, self.cost[chosen])
        return replace(taken, rows=place[taken.rows])

    def at_least(self, lower: Floats) -> "Columns":
        """The same columns with other lower bounds."""
        return replace(self, lower=lower)

    def matrix(self, rows: int) -> scipy.sparse.csc_array:
        return scipy.sparse.csc_array((self.values, self.rows, self.starts), shape=(rows, len(self.cost)))


class Model(Protocol):
    """What both solvers offer. Every optimum is read after `run`."""

    x: Floats  # [columns]
    row_duals: Floats  # [rows] change of the optimum per unit of right side
    iterations: int

    @property
    def reduced_costs(self) -> Floats:
        """cost - matrix' @ row_duals; >= 0 at a lower bound, <= 0 at an upper bound.  # [columns]"""

    def run(self) -> None: ...
    def set_cost(self, cost: Floats) -> None: ...
    def set_bounds(self, columns: Ints, lower: Floats, upper: Floats) -> None: ...
    def set_rows(self, rows: Ints, lower: Floats, upper: Floats) -> None: ...
    def set_basis(self, columns: Statuses, basic_rows: Flags) -> None: ...
    def basis(self) -> tuple[Flags, Flags] | None:
        """Which columns and rows are basic; None from a solver that does not tell."""


def new_model(columns: Columns, row_lower: Floats, row_upper: Floats, *, presolve: bool = False) -> Model:
    if is_public():
        return ColdModel(columns, row_lower, row_upper)
    return WarmModel(columns, row_lower, row_upper, presolve=presolve)


def is_public() -> bool:
    return os.environ.get("PRICING_SOLVER") == "public" or not _handle_works()


class WarmModel:
    """SciPy's HiGHS handle: the dual simplex method from any basis."""

    def __init__(self, columns: Columns, row_lower: Floats, row_upper: Floats, *, presolve: bool = False) -> None:
        if len(columns.rows) and not 0 <= int(columns.rows.min()) <= int(columns.rows.max()) < len(row_lower):
            raise errors.SolverFailed("A column points at no row.")  # HiGHS would not look, and corrupt its memory
        core = _core()
        self._handle = core._Highs()
        self._core = core
        for option, value in (("output_flag", False), ("presolve", "on" if presolve else "off"), ("threads", 1),
                              ("solver", "simplex"), ("primal_feasibility_tolerance", FEASIBILITY),
                              # nearly every entry is 1 or -1 already, and looking for better costs every column
                              ("simplex_scale_strategy", 0),
                              # perturbed costs would undo a good basis: 12,000 pivots in place of 400
                              ("dual_simplex_cost_perturbation_multiplier", 0.0)):
            self._handle.setOptionValue(option, value)
        self._count, self._rows = len(columns.cost), len(row_lower)
        kinds = np.zeros(self._count, dtype=np.int32)  # all continuous
        # As arrays: the attributes of a `HighsLp` would be copied number by number, six times slower.
        self._handle.passModel(
            self._count, self._rows, len(columns.rows), int(core.MatrixFormat.kColwise),
            int(core.ObjSense.kMinimize), 0.0, columns.cost, columns.lower, columns.upper, row_lower, row_upper,
            columns.starts.astype(np.int32), columns.rows.astype(np.int32), columns.values, kinds)
        self.iterations = 0

    def run(self) -> None:
        if not self._count:  # HiGHS has no answer for a model without columns
            self.x, self.row_duals = np.zeros(0), np.zeros(self._rows)
            return
        self._handle.run()
        status, known = self._handle.getModelStatus(), self._core.HighsModelStatus
        if status not in (known.kOptimal, known.kInfeasible, known.kUnbounded, known.kUnboundedOrInfeasible):
            # It lost its way, as it may where quantities are a million times apart: from scratch, once.
            self._handle.clearSolver()
            self._handle.setOptionValue("presolve", "on")
            self._handle.run()
            self._handle.setOptionValue("presolve", "off")
            status = self._handle.getModelStatus()
        if status != known.kOptimal:
            raise errors.SolverFailed("The solver found no optimum.", status=str(status))
        solution = self._handle.getSolution()
        self.x = np.asarray(solution.col_value)
        self.row_duals = np.asarray(solution.row_dual)
        self.iterations += int(self._handle.getInfo().simplex_iteration_count)

    @property
    def reduced_costs(self) -> Floats:
        """Most optima are asked for prices only, and reading a column's number costs as much as some pivots."""
        return np.asarray(self._handle.getSolution().col_dual if self._count else [], dtype=np.float64)

    def set_cost(self, cost: Floats) -> None:
        self._handle.changeColsCost(self._count, np.arange(self._count, dtype=np.int32), cost)

    def set_bounds(self, columns: Ints, lower: Floats, upper: Floats) -> None:
        self._handle.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)

    def set_rows(self, rows: Ints, lower: Floats, upper: Floats) -> None:
        for row, low, high in zip(rows.tolist(), lower.tolist(), upper.tolist(), strict=True):
            self._handle.changeRowBounds(row, low, high)

    def set_basis(self, columns: Statuses, basic_rows: Flags) -> None:
        status = self._core.HighsBasisStatus
        told = np.array([status.kLower, status.kBasic, status.kUpper])  # of objects, in the order of our own codes
        basis = self._core.HighsBasis()
        basis.valid = True
        basis.col_status = told[columns].tolist()
        basis.row_status = told[np.where(basic_rows, BASIC, AT_LOWER)].tolist()
        self._handle.setBasis(basis)

    def basis(self) -> tuple[Flags, Flags] | None:
        if not self._count:
            return np.zeros(0, dtype=np.bool_), np.ones(self._rows, dtype=np.bool_)
        basic = np.asarray(self._handle.getBasicVariables()[1])
        columns, rows = np.zeros(self._count, dtype=np.bool_), np.zeros(self._rows, dtype=np.bool_)
        columns[basic[basic >= 0]] = True
        rows[-basic[basic < 0] - 1] = True
        return columns, rows


class ColdModel:
    """`scipy.optimize.linprog` from scratch at every run."""

    def __init__(self, columns: Columns, row_lower: Floats, row_upper: Floats) -> None:
        self._matrix = columns.matrix(len(row_lower)).tocsr()
        self._cost, self._lower, self._upper = columns.cost.copy(), columns.lower.copy(), columns.upper.copy()
        self._row_lower, self._row_upper = row_lower.copy(), row_upper.copy()
        self.iterations = 0

    def run(self) -> None:
        if not len(self._cost):
            self.x, self.row_duals = np.zeros(0), np.zeros(len(self._row_lower))
            return
        equal = self._row_lower == self._row_upper
        below = ~equal  # every other row of ours has an upper side only
        found: Any = _linprog(
            self._cost, A_eq=self._matrix[equal], b_eq=self._row_upper[equal],
            A_ub=self._matrix[below] if below.any() else None, b_ub=self._row_upper[below] if below.any() else None,
            bounds=np.column_stack([self._lower, self._upper]), method="highs-ds",
            options={"primal_feasibility_tolerance": FEASIBILITY},
        )
        if found.status != 0:
            raise errors.SolverFailed("The solver found no optimum.", status=str(found.status))
        self.x = np.asarray(found.x, dtype=np.float64)
        self.row_duals = np.zeros(len(equal))
        self.row_duals[equal] = found.eqlin.marginals
        if below.any():
            self.row_duals[below] = found.ineqlin.marginals
        self.iterations += int(found.nit)

    @property
    def reduced_costs(self) -> Floats:
        costs: Floats = self._cost - self._matrix.T @ self.row_duals
        return costs

    def set_cost(self, cost: Floats) -> None:
        self._cost = cost.copy()

    def set_bounds(self, columns: Ints, lower: Floats, upper: Floats) -> None:
        self._lower[columns], self._upper[columns] = lower, upper

    def set_rows(self, rows: Ints, lower: Floats, upper: Floats) -> None:
        self._row_lower[rows], self._row_upper[rows] = lower, upper

    def set_basis(self, columns: Statuses, basic_rows: Flags) -> None:
        """It starts from scratch whatever it is told."""

    def basis(self) -> tuple[Flags, Flags] | None:
        return None


def solve_whole(
    columns: Columns, row_lower: Floats, row_upper: Floats, integral: Flags, *, node_limit: int = NODE_LIMIT,
) -> Floats | None:
    """The optimal x with the `integral` columns whole; None where there is none, or not within the node limit."""
    matrix = columns.matrix(len(row_lower))
    found: Any = _milp(
        columns.cost, bounds=scipy.optimize.Bounds(columns.lower, columns.upper),
        constraints=scipy.optimize.LinearConstraint(matrix, row_lower, row_upper),
        integrality=integral.astype(np.int64), options={"mip_rel_gap": 0.0, "node_limit": node_limit},
    )
    return np.asarray(found.x, dtype=np.float64) if found.status == 0 else None


def _core() -> Any:
    import scipy.optimize._highspy._core as core  # private to SciPy: `_handle_works` tries it before anybody trusts it

    return core


@cache
def _handle_works() -> bool:
    """Solve `max 2x + y, x + y <= 1, x <= 3/4` and change it; anything but the known answers means: do not use it."""
    try:
        columns = Columns(
            np.array([-2.0, -1.0]), np.zeros(2), np.array([0.75, 1.0]), np.arange(3), np.zeros(2, dtype=np.int64),
            np.ones(2),
        )
        model = WarmModel(columns, np.array([-np.inf]), np.array([1.0]))
        model.run()
        first = np.allclose(model.x, [0.75, 0.25]) and np.allclose(model.row_duals, [-1.0])
        model.set_bounds(np.array([0]), np.zeros(1), np.array([0.5]))
        model.set_cost(np.array([-2.0, -3.0]))
        model.run()
        basis = model.basis()
        return first and np.allclose(model.x, [0.0, 1.0]) and basis is not None and int(sum(basis[0])) == 1
    except Exception:  # a private module may break in any way
        return False
