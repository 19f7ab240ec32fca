"""From fills to awards: who gets how many units of whose capacity, from which slot to which.

Slot after slot, units of demand meet units of capacity one to one. Three rules, each over lines in the order of ids:

1. Pairs of the slot before stay, as far as both lines still have units and the cell (mask, group) is still among the
   cheapest for its mask; where less fits, smaller pairs stay first.
2. Units move between cells so that the most of these pairs stay. The fills alone decide welfare and prices, so any
   routing through cells where the price meets the least that the mask pays is as good; the one found is deterministic.
3. In each cell what is left is matched: equal numbers of units to each other, then the largest to the largest
   (north-west corner). Of equals, the line that ends last comes first.

Equal consecutive slots of a pair become one award. Rules 2 and 3 are there to make few awards: on the scale book they
leave a third of what a plain north-west corner inside the solver's own flows leaves.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pricing import errors
from pricing.allocation import UNBOUNDED_MICROS, Allocation
from pricing.book import Book, Flags, Ints
from pricing.eligibility import Eligibility

Places = npt.NDArray[np.int32]

INT64_LIMIT = 1 << 63
FAR = 1 << 40  # longer than any path of `route_units`
SIZE_BITS = 21  # units of one pair are at most 2^20


@dataclass(frozen=True, eq=False)
class AwardColumns:
    """One award a row: `units` of one bid for one demand in every slot of [start, end). Sorted by the first three."""

    demand: Places  # [k] place in book.demands
    bid: Places  # [k] place in book.bids
    start: Places  # [k] slot
    end: Places  # [k] slot, exclusive
    units: Ints  # [k]
    amount_micros: Ints  # [k] units x the sum of the prices of its slots

    def __len__(self) -> int:
        return len(self.units)


def cut_awards(book: Book, eligibility: Eligibility, allocation: Allocation) -> AwardColumns:
    """The awards of an allocation: every unit of every line in every slot is in exactly one.

    Raises `SolverFailed` where demand, capacity and flow of a slot do not balance.
    """
    cells = _Cells(eligibility, allocation)
    pairs, closed = _NO_PAIRS, []
    for slot in range(book.slots):
        want, have = units_in_slot(book, allocation, slot)
        following = _pair_up(book, cells, pairs, want, have, slot)
        stays, pairs = _join_runs(pairs, following, slot)
        closed.append(_Runs.of(stays, slot))
    closed.append(_Runs.of(pairs, book.slots))
    return _columns(book, eligibility, allocation, closed)


def units_in_slot(book: Book, allocation: Allocation, slot: int) -> tuple[Ints, Ints]:
    """The units of every demand and of every bid in one slot.  # int64 [demands], int64 [bids]"""
    found = []
    for side, ptr, units in ((book.demands, allocation.demand_ptr, allocation.demand_units),
                             (book.bids, allocation.bid_ptr, allocation.bid_units)):
        row = np.zeros(len(side), dtype=np.int64)
        here = np.flatnonzero((side.start <= slot) & (slot < side.end))
        row[here] = units[ptr[here] + slot - side.start[here]]
        found.append(row)
    return found[0], found[1]


def traded_units(book: Book, eligibility: Eligibility, awards: AwardColumns) -> Ints:
    """The units that changed hands in each cell of the price table.  # int64 [A, slots]"""
    return spread_over_slots(
        eligibility.signature_of_bid[awards.bid], awards.start, awards.end, awards.units,
        rows=len(eligibility.signatures), slots=book.slots)


def spread_over_slots(
    row: Ints, start: Ints | Places, end: Ints | Places, value: Ints, *, rows: int, slots: int
) -> Ints:
    """The sum, per row and slot, of values that each hold over [start, end).  # int64 [rows, slots]"""
    change = np.zeros((rows, slots + 1), dtype=np.int64)
    np.add.at(change, (row, start), value)
    np.add.at(change, (row, end), -value)
    total: Ints = np.cumsum(change, axis=1)[:, :-1]
    return total


# -- one slot ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs that hold in one slot, sorted by demand, then bid."""

    demand: Ints  # [pairs]
    bid: Ints  # [pairs]
    units: Ints  # [pairs]
    since: Ints  # [pairs] the slot from which on the units are these

    def take(self, chosen: Ints | Flags) -> "_Pairs":
        return _Pairs(self.demand[chosen], self.bid[chosen], self.units[chosen], self.since[chosen])


_NONE = np.zeros(0, dtype=np.int64)
_NO_PAIRS = _Pairs(_NONE, _NONE, _NONE, _NONE)


class _Cells:
    """Which masks may take which groups in a slot, and the flows that the solver found there."""

    def __init__(self, eligibility: Eligibility, allocation: Allocation) -> None:
        self.mask_of_demand = allocation.served_under
        self.group_of_bid = allocation.group_of_signature[eligibility.signature_of_bid]
        self.groups = int(allocation.group_of_signature.max(initial=-1)) + 1
        masks = eligibility.masks + allocation.variant_masks
        self.accepts = np.zeros((len(masks), self.groups), dtype=np.bool_)
        for s, mask in enumerate(masks):
            groups = allocation.group_of_signature[list(mask)]
            self.accepts[s, groups[groups >= 0]] = True
        self.lam = np.full((self.groups, allocation.lam_micros.shape[1]), UNBOUNDED_MICROS, dtype=np.int64)
        sold = np.flatnonzero(allocation.group_of_signature >= 0)
        np.minimum.at(self.lam, allocation.group_of_signature[sold], allocation.lam_micros[sold])
        self._allocation = allocation

    def is_cheapest(self, slot: int) -> Flags:
        """Cells that cost the least of what the mask accepts, and those that the solver uses.  # bool [masks, groups]

        An optimal flow uses no other cell; after whole units were forced it may, and then must be allowed to.
        """
        price = np.where(self.accepts, self.lam[:, slot], UNBOUNDED_MICROS)
        cheapest: Flags = self.accepts & (price == price.min(axis=1, initial=UNBOUNDED_MICROS, keepdims=True))
        first, last = np.searchsorted(self._allocation.flow_slot, [slot, slot + 1])
        cheapest[self._allocation.flow_mask[first:last], self._allocation.flow_group[first:last]] = True
        return cheapest


def _pair_up(book: Book, cells: _Cells, before: _Pairs, want: Ints, have: Ints, slot: int) -> _Pairs:
    is_open = cells.is_cheapest(slot)
    mask, group = cells.mask_of_demand[before.demand], cells.group_of_bid[before.bid]
    kept = np.where(is_open[mask, group], before.units, 0)
    _keep_within(kept, before.demand, want)
    _keep_within(kept, before.bid, have)

    cell = mask * cells.groups + group
    keepable = _sums(cell, kept, is_open.size).reshape(is_open.shape)
    wanting, having = np.flatnonzero(want), np.flatnonzero(have)
    need = _sums(cells.mask_of_demand[wanting], want[wanting], is_open.shape[0])
    spare = _sums(cells.group_of_bid[having], have[having], is_open.shape[1])
    flow = route_units(need, spare, keepable, is_open)
    _keep_within(kept, cell, flow.ravel())

    want -= _sums(before.demand, kept, len(want))
    have -= _sums(before.bid, kept, len(have))
    flow -= _sums(cell, kept, is_open.size).reshape(is_open.shape)
    new = _match(_pieces(wanting, want, cells.mask_of_demand, book.demands.end, flow),
                 _pieces(having, have, cells.group_of_bid, book.bids.end, flow.T), cells.groups)
    return _merge(before, kept, new, len(have))


def _sums(place: Ints, units: Ints, length: int) -> Ints:
    """Units per place. The weights pass through floats, exact below 2^53, and one slot holds less than 2^41."""
    return np.bincount(place, weights=units, minlength=length).astype(np.int64)


def _keep_within(kept: Ints, place: Ints, most: Ints) -> None:
    """Lower `kept` where a place holds more than `most`; smaller pairs stay first, equal ones in their order."""
    over = _sums(place, kept, len(most)) > most
    crowded = np.flatnonzero(over[place])
    if not len(crowded):
        return
    crowded = crowded[np.lexsort((kept[crowded], place[crowded]))]
    where, units = place[crowded], kept[crowded]
    before = _running_within(where, units)
    kept[crowded] = np.clip(most[where] - before, 0, units)


def _running_within(group: Ints, units: Ints) -> Ints:
    """The sum of the units that stand earlier in the same run of equal groups.  # int64 like units"""
    total = np.cumsum(units) - units
    first = np.flatnonzero(_is_first(group))
    before: Ints = total - np.repeat(total[first], np.diff(first, append=len(group)))
    return before


def _is_first(*keys: Ints) -> Flags:
    """Where a run of equal keys begins."""
    new = np.ones(len(keys[0]), dtype=np.bool_)
    if len(new):
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return new


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Units of lines that go into one cell each, sorted by cell, then by end (last first), then by line."""

    row: Ints  # [pieces] mask or group of the line
    column: Ints  # [pieces] group or mask that it meets
    line: Ints  # [pieces]
    end: Ints  # [pieces] slot
    units: Ints  # [pieces]


def _pieces(lines: Ints, units: Ints, row_of: Ints, end: Ints, flow: Ints) -> _Pieces:
    """Share the lines of each row of `flow` among its columns: north-west corner, the line that ends last first."""
    lines = lines[units[lines] > 0]
    lines = lines[np.lexsort((-end[lines], row_of[lines]))]
    row, column = np.nonzero(flow)
    place, cell, part = _overlay(units[lines], flow[row, column])
    if not np.array_equal(row_of[lines[place]], row[cell]):
        raise errors.SolverFailed("The units of a slot do not balance with its flows.")
    return _Pieces(row[cell], column[cell], lines[place], end[lines[place]], part)


def _overlay(one: Ints, other: Ints) -> tuple[Ints, Ints, Ints]:
    """Two ways to cut one length, laid over each other: per part its place in each, and its length."""
    ends, other_ends = np.cumsum(one), np.cumsum(other)
    if ends[-1:].sum() != other_ends[-1:].sum():
        raise errors.SolverFailed("The units of a slot do not balance.")
    cuts = np.union1d(ends, other_ends)
    starts = np.concatenate([[0], cuts[:-1]]) if len(cuts) else cuts
    return np.searchsorted(ends, starts, "right"), np.searchsorted(other_ends, starts, "right"), cuts - starts


def _match(wanted: _Pieces, offered: _Pieces, groups: int) -> _Pairs:
    """Pair the pieces inside each cell: first equal numbers of units, then the largest with the largest."""
    sides = []
    cells = wanted.row * groups + wanted.column, offered.column * groups + offered.row
    for cell, pieces in zip(cells, (wanted, offered), strict=True):
        order = np.lexsort((pieces.line, -pieces.end, -pieces.units, cell))
        size = (cell[order] << SIZE_BITS) + pieces.units[order]
        sides.append((pieces.line[order], pieces.units[order], size, _running_within(size, np.ones_like(size))))
    (demand, wants, size, nth), (bid, has, bid_size, bid_nth) = sides
    _, known = np.unique(np.concatenate([size, bid_size]), return_inverse=True)
    width = max(len(size), len(bid_size), 1)
    _, one, other = np.intersect1d(
        known[:len(size)] * width + nth, known[len(size):] * width + bid_nth, assume_unique=True, return_indices=True)
    rest, bid_rest = np.delete(np.arange(len(size)), one), np.delete(np.arange(len(bid_size)), other)
    place, bid_place, part = _overlay(wants[rest], has[bid_rest])
    demands = np.concatenate([demand[one], demand[rest[place]]])
    bids = np.concatenate([bid[other], bid[bid_rest[bid_place]]])
    return _Pairs(demands, bids, np.concatenate([wants[one], part]), np.zeros(len(demands), dtype=np.int64))


def _merge(before: _Pairs, kept: Ints, new: _Pairs, bids: int) -> _Pairs:
    """Kept and new pairs as one sorted list; `since` is not set yet."""
    stays = kept > 0
    demand = np.concatenate([before.demand[stays], new.demand])
    bid = np.concatenate([before.bid[stays], new.bid])
    units = np.concatenate([kept[stays], new.units])
    order = np.argsort(demand * bids + bid, kind="stable")
    demand, bid, units = demand[order], bid[order], units[order]
    first = np.flatnonzero(_is_first(demand, bid))
    units = np.add.reduceat(units, first) if len(first) else units
    return _Pairs(demand[first], bid[first], units, np.zeros(len(first), dtype=np.int64))


def _join_runs(before: _Pairs, now: _Pairs, slot: int) -> tuple[_Pairs, _Pairs]:
    """The runs that end before this slot, and the pairs of this slot with the slot in which each run began."""
    bids = int(max(before.bid.max(initial=0), now.bid.max(initial=0))) + 1
    old, new = before.demand * bids + before.bid, now.demand * bids + now.bid
    place = np.minimum(np.searchsorted(old, new), max(len(old) - 1, 0))
    goes_on = np.zeros(len(new), dtype=np.bool_)
    if len(old):
        goes_on = (old[place] == new) & (before.units[place] == now.units)
    ends = np.ones(len(old), dtype=np.bool_)
    ends[place[goes_on]] = False
    since = np.full(len(new), slot, dtype=np.int64)
    since[goes_on] = before.since[place[goes_on]]
    return before.take(ends), _Pairs(now.demand, now.bid, now.units, since)


# -- routing -----------------------------------------------------------------------------------------------------------


def route_units(need: Ints, spare: Ints, keepable: Ints, is_open: Flags) -> Ints:
    """Whole flows from groups to masks that fill every need and keep the most of `keepable`.

    Starts from everything kept, fills what is missing directly, then along the paths that take the least away from what
    was kept (shortest augmenting paths, which leave the least taken away in the end). `need` [masks] and `spare`
    [groups] hold all units of the slot, `keepable` and `is_open` are [masks, groups]. Integers only, and the first of
    equal paths in canonical order, so every machine finds the same.  # int64 [masks, groups]
    """
    rows, columns = np.flatnonzero(need), np.flatnonzero(spare)
    corner = np.ix_(rows, columns)
    kept, is_cell = keepable[corner], is_open[corner]
    flow = kept.copy()
    missing, left = need[rows] - flow.sum(axis=1), spare[columns] - flow.sum(axis=0)
    for s, g in np.argwhere(is_cell & (missing[:, None] > 0) & (left > 0)):
        units = min(missing[s], left[g])
        flow[s, g] += units
        missing[s] -= units
        left[g] -= units
    if (missing < 0).any() or (left < 0).any():
        raise errors.SolverFailed("More is kept than the units of the slot.")
    while missing.any():
        _augment(flow, kept, is_cell, missing, left)
    routed = np.zeros_like(keepable)
    routed[corner] = flow
    return routed


def _augment(flow: Ints, kept: Ints, is_cell: Flags, missing: Ints, left: Ints) -> None:
    """Move units along one path of least cost: from a group with units left over cells to a mask that misses some.

    Adding to a cell costs nothing, or gives back 1 below what was kept; taking from it costs 1 there, nothing above.
    """
    add = np.where(is_cell, np.where(flow < kept, -1, 0), FAR)
    take = np.where(flow > 0, np.where(flow <= kept, 1, 0), FAR)
    to_group = np.where(left > 0, 0, FAR)
    to_mask = np.full(len(missing), FAR, dtype=np.int64)
    from_group = np.zeros(len(missing), dtype=np.int64)
    from_mask = np.full(len(left), -1, dtype=np.int64)
    is_shorter = np.ones(1, dtype=np.bool_)
    while is_shorter.any():
        reach = to_group + add
        is_shorter = reach.min(axis=1) < to_mask
        from_group[is_shorter] = reach.argmin(axis=1)[is_shorter]
        to_mask = np.where(is_shorter, reach.min(axis=1), to_mask)
        reach = to_mask[:, None] + take
        is_shorter = reach.min(axis=0) < to_group
        from_mask[is_shorter] = reach.argmin(axis=0)[is_shorter]
        to_group = np.where(is_shorter, reach.min(axis=0), to_group)
    s = int(np.where(missing > 0, to_mask, FAR).argmin())
    if to_mask[s] >= FAR // 2:
        raise errors.SolverFailed("The units of a slot do not balance with its flows.")
    added, taken, units = [], [], int(missing[s])
    while True:
        g = int(from_group[s])
        added.append((s, g))
        if flow[s, g] < kept[s, g]:
            units = min(units, int(kept[s, g] - flow[s, g]))
        if from_mask[g] < 0:
            break
        s = int(from_mask[g])
        taken.append((s, g))
        units = min(units, int(flow[s, g] - (kept[s, g] if flow[s, g] > kept[s, g] else 0)))
    units = min(units, int(left[g]))
    for cell in added:
        flow[cell] += units
    for cell in taken:
        flow[cell] -= units
    missing[added[0][0]] -= units
    left[g] -= units


# -- rows --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Runs:
    """Finished runs, in small numbers: a book of a million lines has millions of them."""

    demand: Places
    bid: Places
    start: Places
    end: Places
    units: Places

    @classmethod
    def of(cls, pairs: _Pairs, end: int) -> "_Runs":
        narrow = [column.astype(np.int32) for column in (pairs.demand, pairs.bid, pairs.since, pairs.units)]
        return cls(narrow[0], narrow[1], narrow[2], np.full(len(pairs.units), end, dtype=np.int32), narrow[3])


def _columns(book: Book, eligibility: Eligibility, allocation: Allocation, runs: list[_Runs]) -> AwardColumns:
    demand, bid, start, end, units = (
        np.concatenate([getattr(run, name) for run in runs]) for name in ("demand", "bid", "start", "end", "units"))
    order = np.lexsort((start, bid, demand))
    demand, bid, start, end, units = demand[order], bid[order], start[order], end[order], units[order].astype(np.int64)
    total = np.zeros((len(eligibility.signatures), book.slots + 1), dtype=np.int64)
    np.cumsum(allocation.lam_micros, axis=1, out=total[:, 1:])
    signature = eligibility.signature_of_bid[bid]
    price_sum = total[signature, end] - total[signature, start]
    if float((units * price_sum.astype(np.float64)).max(initial=0)) >= INT64_LIMIT / 2:
        raise errors.BookOverflow("The money of an award does not fit 62 bits.")
    return AwardColumns(demand, bid, start, end, units, units * price_sum)


# -- shares ------------------------------------------------------------------------------------------------------------


def share_pro_rata(
    group: Ints | Places, quantity: Ints, to_share: Ints, rank: Ints, tie: npt.NDArray[np.uint64]
) -> Ints:
    """Split whole units among the lines of each group in proportion to their quantity; the sums are exact.

    Largest remainder first, then the earlier rank, then the smaller `tie` (a hash that no party chooses), then order.
    `group` [k] is a place in `to_share` [groups], which is at most the group's quantity: nobody gets more than it has.
    Exact whatever the size: products above 63 bits are computed in Python integers.  # int64 [k] units
    """
    group, length = group.astype(np.int64), len(to_share)
    total = _sums(group, quantity, length)
    if (to_share < 0).any() or (to_share > total).any():
        raise errors.BadQuantity("A group shares no more units than its lines hold.")
    share, remainder = _divide(quantity, to_share[group], total[group])
    left = to_share - _sums(group, share, length)
    order = np.lexsort((tie, rank, -remainder, group))
    ordered = group[order]
    nth = _running_within(ordered, np.ones(len(ordered), dtype=np.int64))
    share[order] += nth < left[ordered]
    return share


def _divide(one: Ints, other: Ints, by: Ints) -> tuple[Ints, Ints]:
    """Quotient and remainder of one * other / by, exact; 0 where `by` is 0."""
    by = np.maximum(by, 1)
    if int(one.max(initial=0)) * int(other.max(initial=0)) < INT64_LIMIT:
        quotient, remainder = np.divmod(one * other, by)
        return quotient, remainder
    product = one.astype(object) * other
    return (product // by).astype(np.int64), (product % by).astype(np.int64)
