"""What a market gets without clearing: each demand in turn takes the cheapest capacity that still stands open.

    first_come_one_provider  in the order of acceptance, each served by one bid
    first_come_split         in the order of acceptance, from as many bids as it takes
    price_sorted_split       the same, best of several orders by price

They keep every rule that clearing keeps: eligibility, whole units, windows at one number of units throughout, blocks
and minima, one of a choice, one site. They are as good as this kind can be made: a divisible demand is served slot by
slot, a window may change bids from slot to slot, its limit binds on the average, and it takes as many units as pay.
Welfare is counted as clearing counts it, limit less quality-adjusted ask, in micro-USD.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pricing.book import DIVISIBLE, Book
from pricing.eligibility import Eligibility, match_lines

Ints = npt.NDArray[np.int64]

LINES_MAX = 20_000  # above, a greedy in Python says more about Python than about greed


def welfare_of_baselines(book: Book) -> dict[str, int]:
    """Return the welfare of each baseline, micro-USD. Refuses bids with a minimum and house rules."""
    if book.bids.minimum.any() or any(value is not None for value in vars(book.rules).values()):
        raise ValueError("The baselines know no bids with a minimum, no caps and no budget.")
    known = match_lines(book)
    arrival = np.lexsort((np.arange(len(book.demands)), book.demands.rank))
    return {
        "first_come_one_provider": _Market(book, known, splits=False).serve(arrival),
        "first_come_split": _Market(book, known, splits=True).serve(arrival),
        "price_sorted_split": max(
            _Market(book, known, splits=True).serve(order) for order in price_orders(book, known)
        ),
    }


def price_orders(book: Book, known: Eligibility) -> list[Ints]:
    """Orders worth trying: by limit, by limit over the cheapest ask, by ratio, and with the whole-or-nothing first."""
    demands = book.demands
    cheapest = np.full(len(known.masks) + 1, np.int64(1) << 40)  # the last stands for no capacity
    lowest = np.full(len(known.signatures), np.int64(1) << 40)
    np.minimum.at(lowest, known.signature_of_bid, book.bids.ask)
    for s, mask in enumerate(known.masks):
        cheapest[s] = lowest[list(mask)].min()
    margin = demands.price - cheapest[known.mask_of_demand]
    worth = margin * demands.quantity * demands.hours
    is_rigid = demands.kind != DIVISIBLE
    choices = [len(known.masks[s]) if s >= 0 else 0 for s in known.mask_of_demand]
    keys: list[tuple[npt.NDArray[np.generic], ...]] = [
        (demands.rank, -demands.price),
        (demands.rank, -margin),
        (demands.rank, -margin / demands.price),
        (demands.rank, -demands.price, ~is_rigid),
        (demands.rank, -margin, ~is_rigid),
        (demands.rank, -margin, np.asarray(choices)),
        (demands.rank, -worth),
    ]
    return [np.lexsort(key) for key in keys]


class _Market:
    """The capacity still open while demands are served one after another."""

    def __init__(self, book: Book, known: Eligibility, *, splits: bool) -> None:
        self.book, self.known, self.splits = book, known, splits
        slots = np.arange(book.slots)
        is_open = (book.bids.start[:, None] <= slots) & (slots < book.bids.end[:, None])
        self.left: Ints = np.where(is_open, book.bids.quantity[:, None], 0)
        # Bids of each mask, the cheapest first; and of each mask by site, for who must stay in one.
        by_ask = np.argsort(book.bids.ask, kind="stable")
        self.bids_of = [by_ask[known.accepts[s, known.signature_of_bid[by_ask]]] for s in range(len(known.masks))]
        sites = [signature.attributes.site for signature in known.signatures]
        self.site_of_bid = np.unique(sites, return_inverse=True)[1][known.signature_of_bid] if sites else by_ask
        self.welfare = 0
        self.taken_choices: set[int] = set()

    def serve(self, order: Ints) -> int:
        """Serve every demand once; the welfare of it all."""
        demands = self.book.demands
        for i in order.tolist():
            s, choice = int(self.known.mask_of_demand[i]), int(demands.choice[i])
            if s < 0 or choice in self.taken_choices:
                continue
            if demands.kind[i] == DIVISIBLE:
                gained = self._divisible(i, self.bids_of[s])
            else:
                gained = self._window(i, self.bids_of[s])
            self.welfare += gained
            if gained and choice >= 0:
                self.taken_choices.add(choice)
        return self.welfare

    def _divisible(self, i: int, bids: Ints) -> int:
        """Fill each slot by itself, nobody's ask above the limit."""
        demands, span = self.book.demands, self._span(i)
        bids = bids[: np.searchsorted(self.book.bids.ask[bids], demands.price[i], side="right")]
        if not len(bids):
            return 0
        margin = demands.price[i] - self.book.bids.ask[bids]
        rows = self.left[bids, span]
        if self.splits:
            taken = _cheapest_first(rows, demands.quantity[i])
        else:
            most = np.minimum(rows, demands.quantity[i])
            best = (most * margin[:, None]).argmax(axis=0)
            taken = np.zeros_like(rows)
            columns = np.arange(rows.shape[1])
            taken[best, columns] = most[best, columns]
        return self._take(bids, span, taken, margin)

    def _window(self, i: int, bids: Ints) -> int:
        """Fill all slots alike, from the pool of bids (or the one bid, or the one site) that gives the most."""
        pools = [bids]
        if self.book.demands.is_one_site[i]:
            pools = [bids[self.site_of_bid[bids] == site] for site in np.unique(self.site_of_bid[bids])]
        offers = [self._split_window(i, pool) if self.splits else self._single_window(i, pool) for pool in pools]
        gain, pool, taken = max(offers, key=lambda offer: offer[0])
        if gain <= 0:
            return 0
        return self._take(pool, self._span(i), taken, self.book.demands.price[i] - self.book.bids.ask[pool])

    def _single_window(self, i: int, bids: Ints) -> tuple[int, Ints, Ints]:
        demands, span = self.book.demands, self._span(i)
        margin = demands.price[i] - self.book.bids.ask[bids]
        units = np.minimum(self.left[bids, span].min(axis=1), demands.quantity[i])
        units[(units < demands.minimum[i]) | (margin <= 0)] = 0
        gains = units * margin * demands.hours[i]
        best = int(gains.argmax()) if len(bids) else 0
        taken = np.zeros((len(bids), span.stop - span.start), dtype=np.int64)
        if len(bids):
            taken[best] = units[best]
        return int(gains[best]) if len(bids) else 0, bids, taken

    def _split_window(self, i: int, bids: Ints) -> tuple[int, Ints, Ints]:
        demands, span = self.book.demands, self._span(i)
        quantity, limit = int(demands.quantity[i]), int(demands.price[i])
        # Capacity within the limit is tried first: if it suffices, nothing dearer can be wanted.
        near = bids[: np.searchsorted(self.book.bids.ask[bids], limit, side="right")]
        pool = near if self.left[near, span].sum(axis=0).min(initial=quantity) >= quantity and len(near) else bids
        rows, ask = self.left[pool, span], self.book.bids.ask[pool]
        if not len(pool):
            return 0, pool, rows
        reach = rows.cumsum(axis=0)
        most = min(quantity, int(reach[-1].min()))
        if most <= 0:
            return 0, pool, rows
        whole = limit * int(demands.hours[i])
        units = _last_true(most, lambda n: whole > int(ask[(reach < n).sum(axis=0)].sum()))
        # A minimum may carry units that lose money by themselves, when all of them together gain.
        units = max(units, min(int(demands.minimum[i]), most))
        taken = _cheapest_first(rows, units)
        gain = int((taken * (limit - ask)[:, None]).sum()) if units >= int(demands.minimum[i]) else 0
        return gain, pool, taken

    def _span(self, i: int) -> slice:
        return slice(int(self.book.demands.start[i]), int(self.book.demands.end[i]))

    def _take(self, bids: Ints, span: slice, taken: Ints, margin: Ints) -> int:
        self.left[bids, span] -= taken
        return int((taken * margin[:, None]).sum())


def _cheapest_first(rows: Ints, units: int | np.int64) -> Ints:
    """Take `units` from each column, from the top."""
    return np.clip(units - (rows.cumsum(axis=0) - rows), 0, rows)


def _last_true(most: int, pays: Callable[[int], bool]) -> int:
    """Return the greatest n of 0..most for which `pays` holds; it holds up to some n and never after."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if pays(middle) else (low, middle - 1)
    return low
