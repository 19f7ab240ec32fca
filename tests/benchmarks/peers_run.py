"""The process of one solver: reads the naive programme's arrays and answers with its optimum and its seconds.

Knows nothing of the product: it runs among the packages of `peers.lock`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from tests.benchmarks import process


def by_scipy(data: dict[str, Any], matrix: Any, seconds_max: float) -> float:
    """SciPy's own HiGHS."""
    linprog = importlib.import_module("scipy.optimize").linprog
    equal = data["low"] == data["high"]
    found = linprog(
        data["cost"], A_ub=matrix[~equal], b_ub=data["high"][~equal], A_eq=matrix[equal], b_eq=data["high"][equal],
        bounds=np.column_stack([np.zeros_like(data["upper"]), data["upper"]]), method="highs",
        options={"time_limit": seconds_max},
    )  # fmt: skip
    assert found.status == 0, found.message
    return -float(found.fun)


def by_ortools(data: dict[str, Any], matrix: Any, seconds_max: float) -> float:
    """OR-Tools' GLOP, its model filled from the arrays at once."""
    helper = importlib.import_module("ortools.linear_solver.python.model_builder_helper")
    model = helper.ModelBuilderHelper()
    model.fill_model_from_sparse_data(
        np.zeros_like(data["upper"]), data["upper"], data["cost"], data["low"], data["high"], matrix
    )
    solver = helper.ModelSolverHelper("glop")
    solver.set_time_limit_in_seconds(seconds_max)
    solver.solve(model)
    assert solver.status() == helper.SolveStatus.OPTIMAL, solver.status()
    return -float(solver.objective_value())


def by_cvxpy(data: dict[str, Any], matrix: Any, seconds_max: float) -> float:
    """CVXPY with HiGHS behind it."""
    cp = importlib.import_module("cvxpy")
    x = cp.Variable(len(data["cost"]), nonneg=True)
    equal, bounded = data["low"] == data["high"], np.isfinite(data["upper"])
    problem = cp.Problem(
        cp.Minimize(data["cost"] @ x),
        [matrix[~equal] @ x <= data["high"][~equal], matrix[equal] @ x == data["high"][equal],
         x[bounded] <= data["upper"][bounded]],
    )  # fmt: skip
    problem.solve(solver=cp.HIGHS)
    assert problem.status == "optimal", problem.status
    return -float(problem.value)


def by_pulp(data: dict[str, Any], matrix: Any, seconds_max: float) -> float:
    """PuLP with the CBC it brings."""
    pulp = importlib.import_module("pulp")
    model = pulp.LpProblem("naive", pulp.LpMinimize)
    x = [
        pulp.LpVariable(f"x{k}", 0, None if np.isinf(most) else most) for k, most in enumerate(data["upper"].tolist())
    ]
    model += pulp.LpAffineExpression(list(zip(x, data["cost"].tolist(), strict=True)))
    columns, values = matrix.indices.tolist(), matrix.data.tolist()
    for row, (low, high) in enumerate(zip(data["low"].tolist(), data["high"].tolist(), strict=True)):
        part = slice(int(matrix.indptr[row]), int(matrix.indptr[row + 1]))
        if part.start == part.stop:
            continue
        left = pulp.LpAffineExpression([(x[k], value) for k, value in zip(columns[part], values[part], strict=True)])
        model += (left == high) if low == high else (left <= high)
    status = model.solve(pulp.PULP_CBC_CMD(msg=0, timeLimit=seconds_max))
    assert status == pulp.LpStatusOptimal, status
    return -float(pulp.value(model.objective))


SOLVERS: dict[str, tuple[str, Callable[[dict[str, Any], Any, float], float]]] = {
    "scipy": ("scipy.optimize", by_scipy), "ortools": ("ortools.linear_solver.python.model_builder_helper", by_ortools),
    "cvxpy": ("cvxpy", by_cvxpy), "pulp": ("pulp", by_pulp),
}  # fmt: skip


def main() -> None:
    """Load the package and the arrays, then start the clock."""
    asked = process.request()
    package, solve = SOLVERS[asked["solver"]]
    importlib.import_module(package)
    with np.load(asked["path"]) as file:
        data = {name: file[name] for name in file.files}
    matrix = scipy.sparse.csr_array((data["data"], data["indices"], data["indptr"]), shape=tuple(data["shape"]))
    began = time.perf_counter()
    welfare_ticks = solve(data, matrix, asked["seconds_max"])
    process.answer({"welfare_ticks": welfare_ticks, "seconds": time.perf_counter() - began})


if __name__ == "__main__":
    main()
