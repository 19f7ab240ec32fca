"""What well-known exact solvers make of the same book: the naive programme, one column per demand, bid and slot.

    maximise    sum_ijt (limit_i - ask_j) x_ijt
    subject to  sum_j x_ijt <= want_i                 divisible, each slot
                sum_j x_ijt  = want_i y_i, y_i <= 1   window, each slot
                sum_i x_ijt <= have_jt

Each solver works in a process of its own, is timed from the arrays of this programme to its optimum (making the arrays
is not counted), and has the same limit of time. Whoever does not finish, or cannot be installed, is not in the figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from pricing.book import TICK_MICROS, WINDOW, Book
from pricing.eligibility import match_lines
from tests.benchmarks import peers_environment, process

NAMES = ("scipy", "ortools", "cvxpy", "pulp")
SECONDS_MAX = 150.0
COLUMNS_MAX = 8_000_000  # above, the naive programme does not fit a usual machine

Ints = npt.NDArray[np.int64]


class TooLarge(Exception):
    """The naive programme has more columns than are worth writing down."""


@dataclass(frozen=True)
class Naive:
    """`minimise cost @ x, low <= matrix @ x <= high, 0 <= x <= upper`, prices in ticks."""

    cost: npt.NDArray[np.float64]
    matrix: scipy.sparse.csr_array
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]


def measure_peers(book: Book, tell: Callable[[str], None], seconds_max: float = SECONDS_MAX) -> tuple[
    dict[str, dict[str, Any]], dict[str, str]
]:
    """Return {name: {seconds, welfare_micros}} of who finished, and {name: why} of who did not."""
    try:
        programme = naive_programme(book)
    except TooLarge as error:
        return {}, dict.fromkeys(NAMES, str(error))
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    try:
        python = peers_environment.prepared()
    except peers_environment.CannotPrepare as error:
        first = str(error).splitlines()[0]
        return {}, dict.fromkeys(NAMES, f"not installed: {first}")
    with tempfile.TemporaryDirectory(prefix="grove-peers-") as folder:
        path = Path(folder) / "programme.npz"
        save(programme, path)
        for name in NAMES:
            tell(f"{name}: {programme.matrix.shape[1]} columns, {programme.matrix.shape[0]} rows")
            try:
                asked = {"solver": name, "path": str(path), "seconds_max": seconds_max}
                answer = process.run("tests.benchmarks.peers_run", asked, python=python, seconds_max=seconds_max + 60)
            except process.TookTooLong:
                missing[name] = f"not done after {seconds_max:.0f} s"
                continue
            except process.Failed as error:
                missing[name] = str(error).strip().splitlines()[-1]
                continue
            if answer["seconds"] > seconds_max:
                missing[name] = f"not done after {seconds_max:.0f} s"
            else:
                welfare_micros = round(answer["welfare_ticks"] * TICK_MICROS)
                found[name] = {"seconds": answer["seconds"], "welfare_micros": welfare_micros}
    return found, missing


def naive_programme(book: Book) -> Naive:
    """Write the programme down. Raises `TooLarge`; knows divisible lines and plain windows only."""
    demands, bids = book.demands, book.bids
    if demands.is_indivisible.any() or bids.is_indivisible.any():
        raise ValueError("The naive programme is linear: no blocks, minima, alternatives or single sites.")
    i, j = _pairs(book)
    first = np.maximum(demands.start[i], bids.start[j])
    hours = np.minimum(demands.end[i], bids.end[j]) - first
    columns, windows = int(hours.sum()), np.flatnonzero(demands.kind == WINDOW)
    if columns > COLUMNS_MAX:
        raise TooLarge(f"{columns} columns")
    pair = np.repeat(np.arange(len(i)), hours)
    slot = np.repeat(first, hours) + _within(hours)
    demand_row = (np.cumsum(demands.hours) - demands.hours)[i[pair]] + slot - demands.start[i[pair]]
    bid_row = (np.cumsum(bids.hours) - bids.hours)[j[pair]] + slot - bids.start[j[pair]]
    demand_rows, bid_rows = int(demands.hours.sum()), int(bids.hours.sum())
    window_hours = demands.hours[windows]
    window_row = np.repeat((np.cumsum(demands.hours) - demands.hours)[windows], window_hours) + _within(window_hours)
    window_column = columns + np.repeat(np.arange(len(windows)), window_hours)
    one = np.ones(columns)
    matrix = scipy.sparse.csr_array(
        (
            np.concatenate([one, -np.repeat(demands.quantity[windows], window_hours), one]),
            (
                np.concatenate([demand_row, window_row, demand_rows + bid_row]),
                np.concatenate([np.arange(columns), window_column, np.arange(columns)]),
            ),
        ),
        shape=(demand_rows + bid_rows, columns + len(windows)),
    )
    is_window = np.repeat(demands.kind == WINDOW, demands.hours)
    free = np.full(bid_rows, -np.inf)
    margin = (demands.price[i] - bids.ask[j])[pair] / TICK_MICROS
    return Naive(
        cost=np.concatenate([-margin, np.zeros(len(windows))]), matrix=matrix,
        low=np.concatenate([np.where(is_window, 0.0, -np.inf), free]),
        high=np.concatenate([
            np.where(is_window, 0.0, np.repeat(demands.quantity, demands.hours)), np.repeat(bids.quantity, bids.hours),
        ]).astype(np.float64),
        upper=np.concatenate([np.full(columns, np.inf), np.ones(len(windows))]),
    )  # fmt: skip


def save(programme: Naive, path: Path) -> None:
    """Write the arrays where a solver's process reads them."""
    matrix = programme.matrix
    np.savez(
        path, cost=programme.cost, low=programme.low, high=programme.high, upper=programme.upper, data=matrix.data,
        indices=matrix.indices, indptr=matrix.indptr, shape=np.array(matrix.shape),
    )  # fmt: skip


def _pairs(book: Book) -> tuple[Ints, Ints]:
    """Demand and bid of each pair that may trade: eligible, at one time in some slot."""
    known, demands, bids = match_lines(book), book.demands, book.bids
    accepted = np.vstack([known.accepts, np.zeros(len(known.signatures), dtype=np.bool_)])  # the last for S = -1
    found = []
    for i in range(len(demands)):
        may = accepted[known.mask_of_demand[i]][known.signature_of_bid]
        j = np.flatnonzero(may & (bids.start < demands.end[i]) & (demands.start[i] < bids.end))
        found.append(np.stack([np.full(len(j), i), j]))
    both = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
    return both[0], both[1]


def _within(lengths: Ints) -> Ints:
    """0, 1, .. within each run of the given lengths."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
