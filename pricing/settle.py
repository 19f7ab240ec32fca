r"""Out of all optima the one that is published: a unique dual, then a unique fill.

Let w be a number per cell and per column that a hash of the whole sealed book decides, so that no party chooses it.

1. Low point: of all optimal prices those with the least sum of w * lam. They are optimal when each cell of supply is
   given units for nothing in proportion to w, too few in all to fill a whole unit anywhere: some pivots away.
2. Canonical fill: of all optimal fills the one with the greatest sum of w * x, where each unit-hour sold counts for
   more than any single preference. Columns whose reduced cost at the low point is not zero stay at their bound.

Proven after the fact, never assumed: `certificate` evaluates the bound at the published integers. Not proven: that
either optimum is a single point. Two would have to tie in 20-bit weights; none did over solver paths and machines.
"""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy.sparse.csgraph

from pricing import errors, highs, sifting
from pricing.book import Flags, Ints
from pricing.draws import WEIGHT_BITS, mixed
from pricing.highs import AT_LOWER, AT_UPPER, BASIC, Floats
from pricing.programme import Programme
from pricing.sifting import Point, Solved
from pricing.threads import both

HOUR_BONUS = 1 << (WEIGHT_BITS + 3)  # one unit-hour sold outweighs the preference of four columns
TOLERANCE = 1e-6
FACE_PARTS = 8
FACE_PART_COLUMNS = 2_000  # smaller parts gain nothing
MINIMA_LINE_SLOTS = 250_000  # in larger books hardly any fill meets all minima, and a look for one takes a second


@dataclass(frozen=True, eq=False)
class Settled:
    """The one optimum, in whole numbers wherever the programme has whole ones."""

    programme: Programme
    x: Floats  # [columns] units
    lam: Ints  # [G, slots] ticks, the low point
    rho: Ints  # [caps] ticks
    sigma: float
    is_off_tick: bool  # the low point, or what a cap takes there, is not on the tick; lam is rounded down
    rounds: int
    start: sifting.Start  # where a later solve of nearly the same market may begin
    face: "Face | None"  # where a later fill of nearly the same market may begin

    @property
    def is_whole(self) -> bool:
        return bool((np.abs(self.x - np.rint(self.x)) <= TOLERANCE).all())


@dataclass(frozen=True, eq=False)
class Face:
    """The basis of a canonical fill, by what its columns stand for."""

    names: Ints  # [columns] sorted
    status: highs.Statuses  # [columns]
    rows_basic: Flags  # [rows]


def settle(low: "Low", input_hash: bytes, face: Face | None = None) -> Settled:
    """The published optimum of a market at its low point; `face` is of nearly the same. Raises `SolverFailed`."""
    x, face = _canonical_fill(low.solved, input_hash, face)
    found = sifting.beyond_at(low.solved.programme, x)
    if not found.is_empty:  # it would share what stands at a price with all that lies beyond it
        return settle(low_point(sifting.look_again(low.solved, found)), input_hash, face)
    solved, point, start = low.solved, low.point, low.start
    lam, rho = np.rint(point.lam).astype(np.int64), np.rint(point.rho).astype(np.int64)
    is_off_tick = bool((np.abs(point.lam - lam) > TOLERANCE * 100).any()
                       or (np.abs(point.rho - rho) > TOLERANCE * 100).any())
    if is_off_tick:
        lam = np.floor(point.lam + TOLERANCE * 100).astype(np.int64)
    return Settled(solved.programme, x, lam, rho, point.sigma, is_off_tick, solved.rounds, start, face)


@dataclass(frozen=True, eq=False)
class Low:
    """A market at the low point of its prices."""

    solved: Solved
    point: Point
    start: sifting.Start  # prices and basis of the optimum that was found first


def low_point(solved: Solved) -> Low:
    """The point where a programme with its gifts was solved."""
    return Low(solved, solved.read(), sifting.next_start(solved))


def _canonical_fill(solved: Solved, input_hash: bytes, face: Face | None) -> tuple[Floats, Face | None]:
    programme, model = solved.programme, solved.model
    columns, reduced_costs = programme.columns, model.reduced_costs
    is_full = reduced_costs < -TOLERANCE
    free = np.flatnonzero(~is_full & (reduced_costs <= TOLERANCE))
    x = np.where(is_full, columns.upper, columns.lower)
    x[free] = 0.0
    used = columns.matrix(len(programme.row_lower)) @ x
    gain = programme.hours()[free] * HOUR_BONUS + column_weights(programme, input_hash, free)
    # A row with a price is used to its end in every optimum.
    lower = np.where(np.abs(model.row_duals) > TOLERANCE, programme.row_upper, programme.row_lower)
    no_idle = programme.whole_bid_rows()
    strict = lower.copy()
    strict[no_idle] = programme.row_upper[no_idle]
    taken, upper = columns.take(free, -gain), programme.row_upper
    try:  # of all optima one that leaves nothing idle of a bid that sells the same in all its slots, if there is one
        x[free], face = _solve_face(solved, taken, strict - used, upper - used, free, face)
        lower = strict
    except errors.SolverFailed:
        x[free], face = _solve_face(solved, taken, lower - used, upper - used, free, face)
    least = programme.minima()[free]
    if (x[free] < least - TOLERANCE).any() and programme.market.line_slot_count() <= MINIMA_LINE_SLOTS:
        with suppress(errors.SolverFailed):  # and one that serves every indivisible line from its minimum on
            x[free], face = _solve_face(solved, taken.at_least(least), lower - used, upper - used, free, face)
    return x, face


def _solve_face(
    solved: Solved, taken: highs.Columns, lower: Floats, upper: Floats, free: Ints, face: Face | None
) -> tuple[Floats, Face | None]:
    """Solve the face part by part: what no column ties together has an optimum of its own."""
    names, start = _column_names(solved.programme)[free], _start_of_fill(solved, free)
    if start is not None and face is not None and len(face.rows_basic) == len(lower):
        place = np.minimum(np.searchsorted(face.names, names), len(face.names) - 1)
        start = np.where(face.names[place] == names, face.status[place], AT_LOWER).astype(np.int8), face.rows_basic
    x, status = np.zeros(len(free)), np.zeros(len(free), dtype=np.int8)
    rows_basic, told = np.zeros(len(lower), dtype=np.bool_), True

    def solve(parts: list[tuple[Ints, Ints]]) -> None:
        nonlocal told
        for columns, rows in parts:
            fill = highs.new_model(taken.cut(columns, rows, len(lower)), lower[rows], upper[rows])
            if start is not None:
                some = start[0][columns]
                fill.set_basis(some, sifting.balanced_rows(start[1][rows], int((some == BASIC).sum())))
            fill.run()
            x[columns] = fill.x
            basis = fill.basis()
            told &= basis is not None
            if basis is not None:
                side = np.where(fill.x > taken.upper[columns] / 2, AT_UPPER, AT_LOWER)
                status[columns], rows_basic[rows] = np.where(basis[0], BASIC, side), basis[1]

    parts = _apart(taken, len(lower))
    both(lambda: solve(parts[::2]), lambda: solve(parts[1::2]))
    if not told or not len(names):
        return x, None
    order = np.argsort(names)
    return x, Face(names[order], status[order], rows_basic)


def _start_of_fill(solved: Solved, free: Ints) -> tuple[highs.Statuses, Flags] | None:
    """What stands between its bounds is basic; the rest starts where the optimum of the prices left it."""
    basis = solved.model.basis()
    if basis is None:
        return None
    upper = solved.programme.columns.upper
    status = np.where(basis[0], BASIC, np.where(solved.model.x > upper / 2, AT_UPPER, AT_LOWER))
    return status[free].astype(np.int8), basis[1]


def _apart(columns: highs.Columns, rows: int) -> list[tuple[Ints, Ints]]:
    """Columns and rows in parts that share nothing: as many of about the same size as the ties between them allow.

    A pivot costs as much as its programme is large, so parts are solved sooner than the whole, and two at once.
    """
    count = len(columns.cost)
    owner = np.repeat(np.arange(count), np.diff(columns.starts))
    ties = scipy.sparse.coo_array((np.ones(len(owner)), (owner, count + columns.rows)), shape=(count + rows,) * 2)
    found, label = scipy.sparse.csgraph.connected_components(ties, directed=False)
    size = np.bincount(label[:count], minlength=found)
    parts = max(1, min(FACE_PARTS, count // FACE_PART_COLUMNS))
    part, load = np.zeros(found, dtype=np.int64), [0] * parts
    for component in np.argsort(-size, kind="stable")[:int((size > 0).sum())].tolist():
        part[component] = least = load.index(min(load))
        load[least] += int(size[component])
    part = part[label]  # a row that no column meets goes to the first part
    return [(np.flatnonzero(part[:count] == n), np.flatnonzero(part[count:] == n)) for n in range(parts)]


def _column_names(programme: Programme) -> Ints:
    """A number per column that it keeps when lines come and go."""
    market = programme.market
    windows, bids = market.windows.lines.take(programme.window_first), market.whole_bids.lines.take(
        programme.whole_bid_first)
    numbers = (
        programme.demand.cell << 24 | np.rint(programme.demand.price).astype(np.int64),
        programme.supply.cell << 24 | np.rint(programme.supply.price).astype(np.int64),
        windows.line * len(market.mask_of_pool) + windows.pool, bids.line * len(market.group_of_pool) + bids.pool,
        programme.flow_pair * market.slots + programme.flow_slot, programme.short_row,
    )
    return np.concatenate([kind << 58 | number for kind, number in enumerate(numbers)])


def column_weights(programme: Programme, input_hash: bytes, chosen: Ints) -> Floats:
    """A weight per chosen column.

    The slot is not in the key, so that alike slots prefer alike pairs, unless caps or the budget let slots compete.
    """
    market, slots = programme.market, programme.market.slots
    compete = len(market.cap_units) > 0 or market.budget_ticks is not None
    bought, sold = (side.cell if compete else side.cell // slots for side in (programme.demand, programme.supply))
    windows, bids = market.windows.lines.take(programme.window_first), market.whole_bids.lines.take(
        programme.whole_bid_first)
    keys = [
        _keys(2, bought, programme.demand.price), _keys(3, sold, programme.supply.price),
        _keys(4, windows.line, windows.pool), _keys(5, bids.line, bids.pool),
        _keys(6, market.pair_mask[programme.flow_pair], market.pair_group[programme.flow_pair]),
        _keys(7, programme.short_row, programme.short_row),
    ]
    kind, one, other = np.concatenate(keys, axis=1)[:, chosen]
    return mixed(input_hash, kind, one, other)


def _keys(kind: int, one: Ints, other: Ints | Floats) -> Ints:
    return np.stack([np.full(len(one), kind), one, np.rint(other).astype(np.int64)])
