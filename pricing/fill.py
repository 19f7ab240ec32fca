r"""One allocation, exactly defined: the canonical optimum of the programme.

Among all optimal fills, first the most traded unit-hours, then the greatest `sum weight * x`, with a weight per merged
step and per flow drawn from the hash of the whole book, so that no party chooses it. Each stage keeps to the face of
the one before: a column whose reduced cost is not zero stays at its bound.

A network has whole vertices, so divisible books always end here in integers. Window demands can make the vertex
fractional: then whole windows are sought on the same optimal face. Only where that has none, `settle_at_prices` takes
the best whole windows that the published prices support and solves the network again, with a stated gap.

Not proven: that the last stage has a single optimum. Two fills tie only if 20-bit weights cancel along a cycle.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from pricing import highs
from pricing.programme import Floats, Ints, Programme

WEIGHT_BITS = 20
TOLERANCE = 1e-6  # far above the solver's 1e-7, far below the 1 that separates integers


def weight(input_hash: bytes, key: str) -> int:
    """A number between 2^20 and 2^21 that the sealed book as a whole decides.

    Finer than it needs to be for prices: with 10 bits, one in 1,500 exchanges of two flows for two others is a tie.
    """
    digest = hashlib.sha256(input_hash + key.encode()).digest()
    return (1 << WEIGHT_BITS) + (int.from_bytes(digest[:4], "big") >> (32 - WEIGHT_BITS))


def column_weights(programme: Programme, input_hash: bytes) -> Ints:
    """A weight per column. The slot is not in the key: alike slots then prefer alike pairs.  # int64 [columns]"""
    known: dict[str, int] = {}

    def of(key: str) -> int:
        if key not in known:
            known[key] = weight(input_hash, key)
        return known[key]

    demand, supply, windows = programme.demand_cells, programme.supply_cells, programme.windows
    keys = [f"d|{demand[c][0]}|{p}" for c, p in zip(programme.divisible.cell, programme.divisible.price, strict=True)]
    keys += [f"z|{supply[c][0]}|{p}" for c, p in zip(programme.offered.cell, programme.offered.price, strict=True)]
    keys += [f"y|{s}|{start}|{hours}|{p}" for s, start, hours, p in
             zip(windows.mask, windows.start, windows.hours, windows.price, strict=True)]
    keys += [f"f|{demand[s][0]}|{supply[g][0]}" for s, g in
             zip(programme.flow_demand, programme.flow_supply, strict=True)]
    return np.fromiter((of(key) for key in keys), dtype=np.int64, count=len(keys))


def canonical_fill(programme: Programme, input_hash: bytes) -> Floats:
    """The canonical optimal x, whole wherever the optimal face has whole windows.  # float64 [columns] units"""
    upper = programme.upper()
    lower = np.zeros_like(upper)
    face_lower, face_upper, _ = _face(programme, programme.gain_ticks(), lower, upper)
    x = _prefer(programme, input_hash, face_lower, face_upper)
    if is_whole(x):
        return np.rint(x)
    whole = _whole_windows(programme, input_hash, face_lower, face_upper)
    return x if whole is None else np.rint(whole)


def settle_at_prices(programme: Programme, input_hash: bytes, x: Floats, lam_ticks: Ints, mu_ticks: Ints) -> Floats:
    """The best whole fill that these prices support; at worst the windows of `x` rounded down.

    Only steps that the price leaves no worse off may trade, and only over flows whose two ends have the same price, so
    every limit and ask is kept and the budget balances.
    """
    d, z, y, _ = programme.counts
    windows, window_columns = programme.windows, slice(d + z, d + z + y)
    upper, lower = programme.upper(), np.zeros(len(x))
    upper[:d][programme.divisible.price < mu_ticks[programme.divisible.cell]] = 0
    upper[d:d + z][programme.offered.price > lam_ticks[programme.offered.cell]] = 0
    upper[window_columns][windows.total_over(mu_ticks) > windows.price * windows.hours] = 0
    upper[d + z + y:][lam_ticks[programme.flow_supply] != mu_ticks[programme.flow_demand]] = 0
    # Ticks count for more than any preference: welfare first, then hours and weights within the network.
    found = _seek_whole_windows(programme, programme.gain_ticks(), lower, upper)
    fixed = np.floor(x[window_columns] + TOLERANCE) if found is None else found
    lower[window_columns] = upper[window_columns] = fixed
    face_lower, face_upper, _ = _face(programme, programme.gain_ticks(), lower, upper)
    return _prefer(programme, input_hash, face_lower, face_upper)


def is_whole(values: Floats) -> bool:
    return bool((np.abs(values - np.rint(values)) <= TOLERANCE).all())


def _prefer(programme: Programme, input_hash: bytes, lower: Floats, upper: Floats) -> Floats:
    lower, upper, _ = _face(programme, programme.hours(), lower, upper)
    return _face(programme, column_weights(programme, input_hash), lower, upper)[2]


def _face(programme: Programme, gain: Ints, lower: Floats, upper: Floats) -> tuple[Floats, Floats, Floats]:
    """The bounds of the face that maximises `gain`, and one point of it."""
    matrix = programme.matrix()
    found = highs.solve(-gain.astype(np.float64), matrix, np.zeros(matrix.shape[0]), lower, upper)
    at_upper = found.reduced_costs < -TOLERANCE
    at_lower = found.reduced_costs > TOLERANCE
    return np.where(at_upper, upper, lower), np.where(at_lower, lower, upper), found.x


def _whole_windows(programme: Programme, input_hash: bytes, lower: Floats, upper: Floats) -> Floats | None:
    """The preferred point of the face with whole windows, or None where the face has none."""
    # Hours far above weights: one unit-hour outweighs the preference of four columns.
    gain = programme.hours() * (1 << (WEIGHT_BITS + 3)) + column_weights(programme, input_hash)
    found = _seek_whole_windows(programme, gain, lower, upper)
    if found is None:
        return None
    d, z, y, _ = programme.counts
    fixed_lower, fixed_upper = lower.copy(), upper.copy()
    fixed_lower[d + z:d + z + y] = fixed_upper[d + z:d + z + y] = found
    x = _prefer(programme, input_hash, fixed_lower, fixed_upper)
    return x if is_whole(x) else None


def _seek_whole_windows(programme: Programme, gain: Ints, lower: Floats, upper: Floats) -> Floats | None:
    """The whole window fills of the best `gain` within the bounds, or None where there are none.  # [windows]"""
    d, z, y, _ = programme.counts
    columns = np.arange(len(upper))
    integral: npt.NDArray[np.bool_] = (columns >= d + z) & (columns < d + z + y)
    matrix = programme.matrix()
    zero = np.zeros(matrix.shape[0])
    found = highs.solve_rows(-gain.astype(np.float64), matrix, zero, zero, lower, upper, integral=integral)
    return None if found is None else np.rint(found[integral])
