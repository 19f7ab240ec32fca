r"""The concentration cap: the most that one ultimate parent may sell of what trades in a product.

A product is a resource class in a home zone at a tier. Let kappa be the cap and Q the unit-hours of the product that
trade. A row `z_parent <= kappa * sum z` would pay every other bid a subsidy through its dual; so a cap is a number:

1. Clear without caps. Where a parent sold more than kappa Q, give every parent of that product K = floor(kappa Q) and
   clear again.
2. Repeat with the new Q; a K only falls, so it ends. After three rounds K jumps to what the parents below their cap
   allow, kappa / (1 - m kappa) of their sales for m capped parents.

With too few parents to share a product so, no cap can hold: the product is named instead. A parent counts where one of
its bids is in reach, asking no more than the limit of some demand that it may serve in one of its slots; bids that
nobody would take cannot share a product, and a cap that waited for them would close it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from pricing.allocation import Product
from pricing.book import Book, Flags, Ints
from pricing.eligibility import Eligibility
from pricing.ranges import RangeExtremes
from pricing.reasons import most_over_slots

MILLION = 1_000_000
JUMP_AFTER = 3


@dataclass(frozen=True, eq=False)
class Caps:
    """What is capped so far. A cap is a pair of product and parent."""

    products: tuple[Product, ...]
    product_of_bid: Ints  # [bids]
    not_applicable: tuple[Product, ...]
    units_of_product: dict[int, int]  # K, unit-hours
    pairs: tuple[tuple[int, int], ...]  # [caps] product, parent
    of_bid: Ints  # [bids] place in pairs, or -1
    rounds: int

    @property
    def units_max(self) -> tuple[int, ...]:
        return tuple(self.units_of_product[product] for product, _ in self.pairs)


def none(book: Book, eligibility: Eligibility) -> Caps:
    """No caps yet; which products can have one."""
    names = [(known.resource_class, book.home_zone(known), known.tier) for known in book.attributes]
    products = tuple(sorted(set(names)))
    place = np.array([products.index(name) for name in names], dtype=np.int64)
    of_bid = place[book.bids.attributes] if len(book.bids) else np.zeros(0, dtype=np.int64)
    share = book.rules.concentration_ppm
    few = tuple[Product, ...]()
    if share is not None:
        reaches, needed = _in_reach(book, eligibility), -(-MILLION // share) + 1
        few = tuple(product for number, product in enumerate(products)
                    if _parents(book, reaches & (of_bid == number)) < needed)
    return Caps(products, of_bid, few, {}, (), np.full(len(book.bids), -1, dtype=np.int64), 0)


def _in_reach(book: Book, eligibility: Eligibility) -> Flags:
    """[bids] some demand that the bid may serve, in one of its slots, has a limit no lower than its ask."""
    demands, bids = book.demands, book.bids
    served = np.flatnonzero(eligibility.mask_of_demand >= 0)
    limit = most_over_slots(eligibility.mask_of_demand, demands, demands.price, served,
                            (len(eligibility.masks), book.slots))
    best = np.stack([limit[column].max(axis=0, initial=0) for column in eligibility.accepts.T]) if len(
        eligibility.signatures) else limit[:0]
    reaches: Flags = RangeExtremes(best).most(eligibility.signature_of_bid, bids.start, bids.end) >= bids.ask
    return reaches


def _parents(book: Book, chosen: Flags) -> int:
    return len(np.unique(book.bids.parent[chosen]))


Result = TypeVar("Result")


def tighten(book: Book, known: Caps, last: Result, sold_in: Callable[[Book, Result], Ints]) -> Caps | None:
    """The caps that the last result calls for; None where it keeps them. `sold_in` gives unit-hours per bid."""
    share = book.rules.concentration_ppm
    if share is None or len(known.not_applicable) == len(known.products):
        return None
    units = sold_in(book, last)
    limits = dict(known.units_of_product)
    for number, product in enumerate(known.products):
        if product in known.not_applicable:
            continue
        own = known.product_of_bid == number
        by_parent = _by_parent(book, own, units)
        total = sum(by_parent)
        if all(sold * MILLION <= share * total for sold in by_parent):
            continue
        limit = share * total // MILLION
        if known.rounds >= JUMP_AFTER:
            limit = min(limit, _jump(by_parent, known.units_of_product.get(number, limit), share))
        limits[number] = min(limit, limits.get(number, limit + 1) - 1)
    if limits == known.units_of_product:
        return None
    return _with_limits(book, known, limits)


def _by_parent(book: Book, own: Flags, units: Ints) -> list[int]:
    """Unit-hours of each parent among these bids, as Python ints: a million times them may pass 62 bits."""
    total = np.zeros(len(book.parents), dtype=np.int64)
    np.add.at(total, book.bids.parent[own], units[own])
    return [int(hours) for hours in total]


def _jump(by_parent: list[int], limit: int, share: int) -> int:
    """The K at which the capped parents sell just their share beside what the others sell now."""
    free = [sold for sold in by_parent if sold < limit]
    left = MILLION - share * (len(by_parent) - len(free))
    return limit if left <= 0 else share * sum(free) // left


def _with_limits(book: Book, known: Caps, limits: dict[int, int]) -> Caps:
    """Only parents that offer more than K of a product need a row."""
    offered = book.bids.quantity * book.bids.hours
    pairs: list[tuple[int, int]] = []
    of_bid = np.full(len(book.bids), -1, dtype=np.int64)
    for number in sorted(limits):
        own = known.product_of_bid == number
        for parent, hours in enumerate(_by_parent(book, own, offered)):
            if hours > limits[number]:
                of_bid[own & (book.bids.parent == parent)] = len(pairs)
                pairs.append((number, parent))
    return replace(known, units_of_product=limits, pairs=tuple(pairs), of_bid=of_bid, rounds=known.rounds + 1)
