r"""One price per product and slot, exactly defined: the canonical point of the optimal dual face.

Let S count masks, G groups, t slots; x is an optimal fill of `programme`. The face, in ticks:

    mu[S,t] <= lam[G,t]      for G ok S, equal where f[S,G,t] > 0
    mu[S,t] >= v             for a divisible step not filled,       <= v where any of it is filled
    lam[G,t] <= c            for an offered step not used up,       >= c where any of it is used
    sum_range mu[S,t] >= vL  for a window step not filled,          <= vL where any of it is filled

1. Low point: minimise sum weight * lam over the face, the weights from the hash of the book.
2. Even lift: from there raise all cells together, tick by tick, freezing each at the first thing that binds it.
3. Price: low + half of the lift, rounded down to the tick. Every constraint above survives the midpoint.

Proven after the fact, never assumed: `certificate` evaluates the bound at the published integers. Not proven: that the
weighted minimum of step 1 is a single point. Ties of 20-bit weights are unlikely, and none was seen over solver paths.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from pricing import highs
from pricing.fill import TOLERANCE, is_whole, weight
from pricing.programme import Floats, Ints, Programme

NEVER = np.int64(1 << 60)  # ticks: no bound

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Prices:
    lam_ticks: Ints  # [supply cells]
    mu_ticks: Ints  # [demand cells] the lowest lam that may serve the cell
    is_rounded: bool  # the face has no whole point: lam is the low point rounded down to the tick


@dataclass(frozen=True)
class _Face:
    """What binds each cell, read off one optimal fill; any other optimal fill describes the same set."""

    lam_low: Ints  # [supply cells] the highest ask used
    lam_high: Ints  # [supply cells] the lowest ask not used up
    mu_low: Ints  # [demand cells] the highest limit not filled
    mu_high: Ints  # [demand cells] the lowest limit filled
    is_flowing: Flags  # [flows]
    is_some: Flags  # [windows] any of it filled
    is_rest: Flags  # [windows] any of it not filled


def canonical_prices(programme: Programme, input_hash: bytes, x: Floats) -> Prices:
    """The published duals for the optimal fill `x`, whole and on the tick."""
    face = _face_of(programme, x)
    low = _low_point(programme, face, input_hash)
    lam = np.rint(low).astype(np.int64)
    if is_whole(low):
        high = _lift(programme, face, lam)
        return Prices(lam + (high - lam) // 2, lowest_over_flows(programme, lam + (high - lam) // 2), False)
    # Asks and limits are whole ticks, so rounding down keeps every one of them, every equality and every order; only a
    # window that was not filled may now find itself in the money, by less than a tick per slot.
    lam = np.floor(low + TOLERANCE).astype(np.int64)
    return Prices(lam, lowest_over_flows(programme, lam), True)


def lowest_over_flows(programme: Programme, lam_ticks: Ints) -> Ints:
    """mu[S,t] = min of lam[G,t] over the G that S accepts.  # int64 [demand cells] ticks"""
    lowest = np.full(len(programme.demand_cells), NEVER)
    np.minimum.at(lowest, programme.flow_demand, lam_ticks[programme.flow_supply])
    return lowest


def _face_of(programme: Programme, x: Floats) -> _Face:
    d, z, y, f = programme.split(x)
    divisible, offered = programme.divisible, programme.offered
    lam_low = np.zeros(len(programme.supply_cells), dtype=np.int64)
    lam_high = np.full(len(programme.supply_cells), NEVER)
    mu_low = np.zeros(len(programme.demand_cells), dtype=np.int64)
    mu_high = np.full(len(programme.demand_cells), NEVER)
    used, left = z > TOLERANCE, z < offered.units - TOLERANCE
    np.maximum.at(lam_low, offered.cell[used], offered.price[used])
    np.minimum.at(lam_high, offered.cell[left], offered.price[left])
    filled, missed = d > TOLERANCE, d < divisible.units - TOLERANCE
    np.maximum.at(mu_low, divisible.cell[missed], divisible.price[missed])
    np.minimum.at(mu_high, divisible.cell[filled], divisible.price[filled])
    return _Face(
        lam_low, lam_high, mu_low, mu_high, f > TOLERANCE, y > TOLERANCE, y < programme.windows.units - TOLERANCE,
    )


def _low_point(programme: Programme, face: _Face, input_hash: bytes) -> Floats:
    """The weighted minimum of lam over the face; whole if the face has a whole minimum that the solver can find."""
    cells = len(programme.supply_cells)
    cost = np.zeros(cells + len(programme.demand_cells))
    cost[:cells] = [weight(input_hash, f"lam|{g}|{t}") for g, t in programme.supply_cells]
    matrix, row_lower, row_upper = _rows(programme, face)
    lower = np.concatenate([face.lam_low, face.mu_low]).astype(np.float64)
    high = np.concatenate([face.lam_high, face.mu_high])
    upper = np.where(high == NEVER, np.inf, high.astype(np.float64))
    found = highs.solve_rows(cost, matrix, row_lower, row_upper, lower, upper)
    assert found is not None
    if not is_whole(found[:cells]):
        integral = np.ones(len(cost), dtype=np.bool_)
        whole = highs.solve_rows(cost, matrix, row_lower, row_upper, lower, upper, integral=integral)
        found = found if whole is None else np.rint(whole)
    return found[:cells]


def _rows(programme: Programme, face: _Face) -> tuple[scipy.sparse.csc_array, Floats, Floats]:
    """One row lam - mu per flow, one row sum mu per window that its limit binds."""
    cells, windows = len(programme.supply_cells), programme.windows
    # A flow that carries nothing says nothing where the bounds of its two ends already order them.
    flow_kept = face.is_flowing | (face.mu_high[programme.flow_demand] > face.lam_low[programme.flow_supply])
    supply, demand = programme.flow_supply[flow_kept], programme.flow_demand[flow_kept]
    flows = np.arange(len(supply))
    worth = (windows.price * windows.hours).astype(np.float64)
    matrix = scipy.sparse.csc_array(
        (
            np.concatenate([np.ones(len(flows)), -np.ones(len(flows)), np.ones(len(windows.rows))]),
            (np.concatenate([flows, flows, len(flows) + windows.owner]),
             np.concatenate([supply, cells + demand, cells + windows.rows])),
        ),
        shape=(len(flows) + len(worth), cells + len(programme.demand_cells)),
    )
    row_lower = np.concatenate([np.zeros(len(flows)), np.where(face.is_rest, worth, -np.inf)])
    row_upper = np.concatenate(
        [np.where(face.is_flowing[flow_kept], 0.0, np.inf), np.where(face.is_some, worth, np.inf)]
    )
    return matrix, row_lower, row_upper


def _lift(programme: Programme, face: _Face, low: Ints) -> Ints:
    """The high end: all cells raised together, each frozen when the first constraint of the face binds it."""
    state = _Lift(programme, face, low.copy())
    while state.freeze().any():
        state.raise_unfrozen()
    return state.lam


class _Lift:
    """The levels of one even lift, in ticks, and which cells are frozen."""

    def __init__(self, programme: Programme, face: _Face, lam: Ints) -> None:
        self.lam = lam
        self.frozen: Flags = np.zeros(len(lam), dtype=np.bool_)
        self.programme = programme
        flowing = np.flatnonzero(face.is_flowing)
        self.flow_demand, self.flow_supply = programme.flow_demand[flowing], programme.flow_supply[flowing]
        self.cap = face.lam_high.copy()
        np.minimum.at(self.cap, self.flow_supply, face.mu_high[self.flow_demand])
        # The slots of each filled window, at a cell that serves it there; all that serve it have the same price.
        server = np.full(len(programme.demand_cells), -1, dtype=np.int64)
        server[self.flow_demand[::-1]] = self.flow_supply[::-1]
        windows = programme.windows
        kept = face.is_some[windows.owner]
        self.owner, self.window_cell = windows.owner[kept], server[windows.rows[kept]]
        self.worth = windows.price * windows.hours
        assert (self.window_cell >= 0).all()  # a filled window is served in each of its slots

    def freeze(self) -> Flags:
        """Freeze all that binds at the present levels; the cells still free."""
        self.frozen |= self.lam >= self.cap
        while True:
            newly = np.zeros(len(self.lam), dtype=np.bool_)
            newly[self.flow_supply[self.lam[self.flow_supply] >= self._frozen_floor()[self.flow_demand]]] = True
            slack, free = self._windows()
            newly[self.window_cell[(slack < free)[self.owner]]] = True
            newly &= ~self.frozen
            if not newly.any():
                return ~self.frozen
            self.frozen |= newly

    def raise_unfrozen(self) -> None:
        """Raise every free cell by the same ticks, up to the next event."""
        free_cell = ~self.frozen
        step = int((self.cap - self.lam)[free_cell].min())
        rising = free_cell[self.flow_supply]
        if rising.any():
            room = self._frozen_floor()[self.flow_demand[rising]] - self.lam[self.flow_supply[rising]]
            step = min(step, int(room.min()))
        slack, free = self._windows()
        if free.any():
            step = min(step, int((slack[free > 0] // free[free > 0]).min()))
        assert 0 < step < int(NEVER) // 2  # every cell holds bids, so something always binds it
        self.lam[free_cell] += step

    def _frozen_floor(self) -> Ints:
        """The lowest frozen price among the cells that each demand cell accepts: none it uses may rise above."""
        level = np.where(self.frozen, self.lam, NEVER)
        return lowest_over_flows(self.programme, level)

    def _windows(self) -> tuple[Ints, Ints]:
        """Per window: the surplus left in ticks, and how many of its slots are still free."""
        cost = np.zeros(len(self.worth), dtype=np.int64)
        np.add.at(cost, self.owner, self.lam[self.window_cell])
        free = np.zeros(len(self.worth), dtype=np.int64)
        np.add.at(free, self.owner, (~self.frozen[self.window_cell]).astype(np.int64))
        return self.worth - cost, free
