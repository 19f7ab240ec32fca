"""From merged fills to lines: who gets how many units of whose capacity, in which slots.

Within a merged step the fill is shared pro rata by quantity, largest remainder first; equal remainders go to the
earlier accepted line, then by a hash that no party chooses. Per slot, pairs of the slot before are kept as far as both
still have units; what is left is matched in canonical order (north-west corner). Equal runs become one award.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricing.book import BidLine, Book, DemandLine
from pricing.eligibility import Eligibility
from pricing.programme import Ints, Programme

Pair = tuple[int, int]  # demand, bid


@dataclass(frozen=True)
class Run:
    """One demand served by one bid with the same units in each slot of [start_slot, end_slot)."""

    demand: int
    bid: int
    start_slot: int
    end_slot: int
    units: int


@dataclass(frozen=True)
class LineFill:
    """The fill of each line and each network edge."""

    demand_units: Ints  # [demands, slots]
    bid_units: Ints  # [bids, slots]
    flows: dict[int, dict[Pair, int]]  # slot -> (S, G) -> units


def share_fill(book: Book, programme: Programme, x: Ints) -> LineFill:
    """Split the whole fill of each merged step among its lines; the sums are exact."""
    d, z, y, f = programme.split(x)
    demand_units = np.zeros((len(book.demands), book.slots), dtype=np.int64)
    bid_units = np.zeros((len(book.bids), book.slots), dtype=np.int64)
    tie = [_tie(book, line) for line in book.demands]
    bid_tie = [_tie(book, line) for line in book.bids]
    for cell, members, units in zip(programme.divisible.cell, programme.divisible.members, d, strict=True):
        _split(demand_units[:, programme.demand_cells[cell][1]], members, int(units), book.demands, tie)
    for cell, members, units in zip(programme.offered.cell, programme.offered.members, z, strict=True):
        _split(bid_units[:, programme.supply_cells[cell][1]], members, int(units), book.bids, bid_tie)
    for members, units in zip(programme.windows.members, y, strict=True):
        share = np.zeros(len(book.demands), dtype=np.int64)
        _split(share, members, int(units), book.demands, tie)
        for i in members:
            demand_units[i, book.demands[i].start_slot:book.demands[i].end_slot] = share[i]
    flows: dict[int, dict[Pair, int]] = defaultdict(dict)
    for n in np.flatnonzero(f):
        (s, t), (g, _) = programme.demand_cells[programme.flow_demand[n]], programme.supply_cells[
            programme.flow_supply[n]]
        flows[t][s, g] = int(f[n])
    return LineFill(demand_units, bid_units, dict(flows))


def cut_awards(book: Book, eligibility: Eligibility, programme: Programme, fill: LineFill) -> tuple[Run, ...]:
    """The runs, sorted by demand, bid and slot. Each unit of demand is paired with exactly one unit of capacity."""
    group_of = {a: g for g, members in enumerate(programme.groups) for a in members}
    bid_group = [group_of.get(a, -1) for a in eligibility.signature_of_bid]
    open_runs: dict[Pair, tuple[int, int]] = {}  # pair -> units, first slot
    runs: list[Run] = []
    for slot in range(book.slots + 1):
        pairs: dict[Pair, int] = {}
        if slot < book.slots and slot in fill.flows:
            kept = {pair: units for pair, (units, _) in open_runs.items()}
            pairs = _match_slot(kept, slot, fill, eligibility.mask_of_demand, bid_group)
        for pair in sorted(open_runs):
            units, start = open_runs[pair]
            if pairs.get(pair) != units:
                runs.append(Run(*pair, start, slot, units))
                del open_runs[pair]
        for pair, units in pairs.items():
            open_runs.setdefault(pair, (units, slot))
    return tuple(sorted(runs, key=lambda run: (run.demand, run.bid, run.start_slot)))


def _match_slot(
    kept: dict[Pair, int], slot: int, fill: LineFill, mask_of: Sequence[int], group_of: Sequence[int]
) -> dict[Pair, int]:
    want = {int(i): int(fill.demand_units[i, slot]) for i in np.flatnonzero(fill.demand_units[:, slot])}
    have = {int(j): int(fill.bid_units[j, slot]) for j in np.flatnonzero(fill.bid_units[:, slot])}
    flow = dict(fill.flows[slot])
    pairs: dict[Pair, int] = defaultdict(int)

    def match(i: int, j: int, most: int) -> None:
        edge = (mask_of[i], group_of[j])
        units = min(most, want.get(i, 0), have.get(j, 0), flow.get(edge, 0))
        if units:
            pairs[i, j] += units
            want[i] -= units
            have[j] -= units
            flow[edge] -= units

    for (i, j), units in sorted(kept.items()):
        match(i, j, units)
    wanting: dict[int, list[int]] = defaultdict(list)
    having: dict[int, list[int]] = defaultdict(list)
    for i in sorted(want):
        wanting[mask_of[i]].append(i)
    for j in sorted(have):
        having[group_of[j]].append(j)
    for s, g in sorted(flow):
        for i in wanting[s]:
            for j in having[g]:
                if not flow[s, g] or not want[i]:
                    break
                match(i, j, flow[s, g])
    assert not any(want.values())
    assert not any(have.values())
    assert not any(flow.values())
    return pairs


def _split(
    units_of: Ints, members: Sequence[int], units: int, lines: Sequence[DemandLine] | Sequence[BidLine],
    tie: Sequence[tuple[int, bytes]],
) -> None:
    """Add `units` to the members in proportion to their quantity, whole, nobody above its quantity."""
    total = sum(lines[i].quantity_units for i in members)
    shares = {i: divmod(units * lines[i].quantity_units, total) for i in members}
    left = units - sum(share for share, _ in shares.values())
    for n, i in enumerate(sorted(members, key=lambda i: (-shares[i][1], tie[i]))):
        units_of[i] += shares[i][0] + (1 if n < left else 0)


def _tie(book: Book, line: DemandLine | BidLine) -> tuple[int, bytes]:
    return line.accepted_rank, hashlib.sha256(book.input_hash + line.id.encode()).digest()
