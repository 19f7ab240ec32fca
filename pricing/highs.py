"""The one place that knows a solver: linear and mixed-integer programmes with equality rows, by HiGHS through SciPy.

Solver output is float and serves as a proposal only: callers snap it to integers and prove it in integers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.sparse

from pricing import errors

Floats = npt.NDArray[np.float64]

# SciPy's stubs do not know that both take sparse matrices.
_linprog: Any = scipy.optimize.linprog
_milp: Any = scipy.optimize.milp

# A deterministic limit: a time limit would give different results on slower machines.
NODE_LIMIT = 20_000


@dataclass(frozen=True)
class Solution:
    """An optimum of `minimise cost @ x, matrix @ x = right_side, lower <= x <= upper`."""

    x: Floats  # [columns]
    row_duals: Floats  # [rows] change of the optimum per unit of right side
    reduced_costs: Floats  # [columns] cost - matrix' @ row_duals; >= 0 at a lower bound, <= 0 at an upper bound


def solve(
    cost: Floats, matrix: scipy.sparse.csc_array, right_side: Floats, lower: Floats, upper: Floats,
) -> Solution:
    """The optimum by the dual simplex method. Raises `SolverFailed` on any other status."""
    found: Any = _linprog(
        cost, A_eq=matrix, b_eq=right_side, bounds=np.column_stack([lower, upper]), method="highs-ds",
    )
    if found.status != 0:
        raise errors.SolverFailed("The solver found no optimum.", status=int(found.status), message=str(found.message))
    duals = np.asarray(found.eqlin.marginals, dtype=np.float64)
    return Solution(np.asarray(found.x, dtype=np.float64), duals, cost - matrix.T @ duals)


def solve_rows(
    cost: Floats, matrix: scipy.sparse.csc_array, row_lower: Floats, row_upper: Floats, lower: Floats, upper: Floats,
    *, integral: npt.NDArray[np.bool_] | None = None,
) -> Floats | None:
    """The optimal x of `minimise cost @ x, row_lower <= matrix @ x <= row_upper`, with the `integral` columns whole.

    None where an integral programme has no solution or does not end within the node limit. A linear programme (without
    `integral`) that does not end at an optimum raises `SolverFailed`.
    """
    found: Any = _milp(
        cost, bounds=scipy.optimize.Bounds(lower, upper),
        constraints=scipy.optimize.LinearConstraint(matrix, row_lower, row_upper),
        integrality=None if integral is None else integral.astype(np.int64),
        options={"mip_rel_gap": 0.0, "node_limit": NODE_LIMIT},
    )
    if found.status == 0:
        return np.asarray(found.x, dtype=np.float64)
    if integral is None:
        raise errors.SolverFailed("The solver found no optimum.", status=int(found.status), message=str(found.message))
    return None
