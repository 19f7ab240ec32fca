"""Valid allocations of small books without the solver: drawn at random, or written down pair by pair.

What comes after the solver must hold for any fills that balance and any prices, not only for optimal ones.
"""

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np

from pricing.allocation import UNBOUNDED_MICROS, Allocation
from pricing.book import Book, make_book
from pricing.eligibility import Eligibility, match_lines
from pricing.lines import Rules
from tests.pricing.lines import bid, demand

ZONES = {"DE": "EU", "FR": "EU"}
SITES = {"berlin": "DE", "paris": "FR", "dallas": "US", "austin": "US"}
CLASSES = ("A100", "H100")


@dataclass(frozen=True)
class Trade:
    """`units` of one bid for one demand in one slot, by id."""

    demand: str
    bid: str
    slot: int
    units: int


@dataclass(frozen=True)
class Case:
    book: Book
    eligibility: Eligibility
    allocation: Allocation

    @property
    def parts(self):
        return self.book, self.eligibility, self.allocation


def case(book, *trades, lam=1_000, **other):
    """The allocation in which exactly these trades happen. `lam`: one price for all cells, or int [A, slots]."""
    eligibility = match_lines(book)
    group = _groups(eligibility)
    served_under, variants = _served_under(book, eligibility, trades)
    demand_at = {name: i for i, name in enumerate(book.demands.ids)}
    bid_at = {name: j for j, name in enumerate(book.bids.ids)}
    demand_ptr, bid_ptr = (np.concatenate([[0], np.cumsum(side.hours)]) for side in (book.demands, book.bids))
    demand_units, bid_units = np.zeros(demand_ptr[-1], dtype=np.int64), np.zeros(bid_ptr[-1], dtype=np.int64)
    flows = Counter()
    for trade in trades:
        i, j = demand_at[trade.demand], bid_at[trade.bid]
        demand_units[demand_ptr[i] + trade.slot - book.demands.start[i]] += trade.units
        bid_units[bid_ptr[j] + trade.slot - book.bids.start[j]] += trade.units
        flows[trade.slot, int(served_under[i]), int(group[eligibility.signature_of_bid[j]])] += trade.units
    rows = np.array([(*cell, units) for cell, units in sorted(flows.items())], dtype=np.int64).reshape(-1, 4)
    nothing = {"caps": (), "cap_of_bid": np.full(len(book.bids), -1), "sigma": (0, 1)}
    return Case(book, eligibility, Allocation(**{
        "lam_micros": _with_unbounded(book, eligibility, lam), "relaxed_micros": None, **nothing,
        "caps_not_applicable": (), "demand_ptr": demand_ptr, "demand_units": demand_units,
        "bid_ptr": bid_ptr, "bid_units": bid_units, "served_under": served_under, "variant_masks": variants,
        "group_of_signature": group, "flow_slot": rows[:, 0], "flow_mask": rows[:, 1], "flow_group": rows[:, 2],
        "flow_units": rows[:, 3], "is_rejected": np.zeros(len(book.demands), dtype=np.bool_),
        "is_rejected_bid": np.zeros(len(book.bids), dtype=np.bool_),
        "is_rounded": np.zeros(len(book.demands), dtype=np.bool_), "rounds": 1, **other,
    }))


def random_case(seed, *, kinds=("divisible", "window", "block"), **other):
    """A random small book with random trades that keep its rules, at random prices."""
    rng = random.Random(seed)
    book = random_book(rng, kinds)
    eligibility = match_lines(book)
    lam = [[rng.randrange(1, 40) * 100 for _ in range(book.slots)] for _ in eligibility.signatures]
    groups = _groups(eligibility)
    for a, row in enumerate(lam):  # signatures of one group have one price
        row[:] = lam[groups.tolist().index(groups[a])]
    return case(book, *_random_trades(rng, book, eligibility), lam=np.array(lam, dtype=np.int64).reshape(
        len(eligibility.signatures), book.slots), **other)


def random_book(rng, kinds):
    slots = rng.randrange(1, 9)
    demands = [_random_demand(rng, f"d{i}", slots, kinds) for i in range(rng.randrange(0, 9))]
    bids = [_random_bid(rng, f"b{j}", slots) for j in range(rng.randrange(0, 9))]
    rng.shuffle(demands)
    return make_book(slots=slots, demands=demands, bids=bids, home_zones=ZONES,
                     rules=Rules(foundation_budget_micros=10**6))


def _random_range(rng, slots):
    start = rng.randrange(slots)
    return start, rng.randrange(start + 1, slots + 1)


def _random_demand(rng, name, slots, kinds):
    kind, units = rng.choice(kinds), rng.choice([1, 2, 3, 8])
    is_plain = kind == "divisible" or rng.random() < 0.4
    return demand(
        name, rng.randrange(1, 40) * 100, units, _random_range(rng, slots), kind=kind,
        accepted_classes=tuple(rng.sample(CLASSES, rng.randrange(1, 3))),
        countries=rng.choice([None, None, ("US",), ("DE", "FR")]), tier_min=rng.choice([0, 0, 2]),
        minimum_units=0 if is_plain or kind == "block" else rng.randrange(units + 1),
        choice=None if is_plain else rng.choice([None, "c1", "c2"]), is_one_site=not is_plain and rng.random() < 0.4,
        is_foundation=is_plain and kind != "block" and rng.random() < 0.3,
    )


def _random_bid(rng, name, slots):
    units, site = rng.choice([1, 2, 3, 8]), rng.choice(list(SITES))
    return bid(
        name, rng.randrange(1, 40) * 100, units, _random_range(rng, slots), parent=f"seller{rng.randrange(4)}",
        resource_class=rng.choice(CLASSES), country=SITES[site], site=site, tier=rng.choice([1, 2]),
        sla_bps=rng.choice([9_900, 9_990]), minimum_units=rng.choice([0, 0, 0, 1, units]),
    )


def _random_trades(rng, book, eligibility):
    """Serve the lines in random order with whatever is left; a window that cannot be served evenly gets nothing."""
    left = {(j, t): line.quantity_units for j, line in enumerate(book.bids) if not line.minimum_units
            for t in range(line.start_slot, line.end_slot)}
    trades, served = [], set()
    for i in rng.sample(range(len(book.demands)), len(book.demands)):
        line, s = book.demands[i], int(eligibility.mask_of_demand[i])
        if s < 0 or (line.choice is not None and line.choice in served) or rng.random() < 0.1:
            continue
        fitting = [j for j in range(len(book.bids)) if eligibility.signature_of_bid[j] in eligibility.masks[s]]
        if line.is_one_site:
            site = rng.choice(list(SITES))
            fitting = [j for j in fitting if book.bids[j].attributes.site == site]
        slots = range(line.start_slot, line.end_slot)
        room = {t: sum(left.get((j, t), 0) for j in fitting) for t in slots}
        most = {t: min(line.quantity_units, room[t]) for t in slots}
        if line.kind != "divisible":
            least = min(most.values())
            most = dict.fromkeys(slots, least if least >= max(line.minimum_units, 1) else 0)
        for t in slots:
            want = most[t] if line.kind != "divisible" else rng.choice([most[t], rng.randint(0, most[t])])
            for j in rng.sample(fitting, len(fitting)):
                units = min(want, left.get((j, t), 0))
                if units:
                    left[j, t] -= units
                    want -= units
                    trades.append(Trade(line.id, book.bids[j].id, t, units))
                    served.add(line.choice)
    return trades


def _groups(eligibility):
    number = {}
    group = np.full(len(eligibility.signatures), -1, dtype=np.int64)
    for a in range(len(eligibility.signatures)):
        column = eligibility.accepts[:, a]
        if column.any():
            group[a] = number.setdefault(column.tobytes(), len(number))
    return group


def _served_under(book, eligibility, trades):
    site_of = {line.id: line.attributes.site for line in book.bids}
    site = {trade.demand: site_of[trade.bid] for trade in trades}
    under, variants = eligibility.mask_of_demand.copy(), []
    for i, line in enumerate(book.demands):
        if line.is_one_site and line.id in site:
            at_site = tuple(a for a in eligibility.masks[under[i]]
                            if eligibility.signatures[a].attributes.site == site[line.id])
            if at_site not in variants:
                variants.append(at_site)
            under[i] = len(eligibility.masks) + variants.index(at_site)
    return under, tuple(variants)


def _with_unbounded(book, eligibility, lam):
    table = np.full((len(eligibility.signatures), book.slots), UNBOUNDED_MICROS, dtype=np.int64)
    known = np.broadcast_to(np.asarray(lam, dtype=np.int64), table.shape)
    for j, line in enumerate(book.bids):
        here = eligibility.signature_of_bid[j], slice(line.start_slot, line.end_slot)
        table[here] = known[here]
    return table
