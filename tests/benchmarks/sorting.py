"""What clearing is measured against: how long NumPy needs only to sort the same lines."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pricing.book import PRICE_MAX_MICROS, TICK_MICROS, Book
from pricing.eligibility import match_lines

Ints = npt.NDArray[np.int64]
SECONDS_MIN = 0.02  # a small book is sorted again and again, else the clock is what is measured
TICKS = PRICE_MAX_MICROS // TICK_MICROS + 1


def sorter(book: Book) -> Callable[[], float]:
    """Return a function that sorts both sides by group and price, sums them up and says in how many seconds."""
    known = match_lines(book)
    demand_keys = np.asarray(known.mask_of_demand) * TICKS - book.demands.price // TICK_MICROS
    bid_keys = np.asarray(known.signature_of_bid) * TICKS + book.bids.ask // TICK_MICROS

    def sort() -> float:
        began, times, took = time.perf_counter(), 0, 0.0
        while took < SECONDS_MIN:
            for keys, quantity in ((demand_keys, book.demands.quantity), (bid_keys, book.bids.quantity)):
                quantity[np.argsort(keys)].cumsum()
            times, took = times + 1, time.perf_counter() - began
        return took / times

    return sort


def cross_one_slot(limit_ticks: Ints, wanted: Ints, ask_ticks: Ints, offered: Ints, ticks: int) -> tuple[int, int]:
    """Clear one product in one slot by counting ticks: (units traded, a price in ticks at which they trade)."""
    demanded = np.bincount(limit_ticks, wanted, ticks)[::-1].cumsum()[::-1]
    supplied = np.bincount(ask_ticks, offered, ticks).cumsum()
    traded = np.minimum(demanded, supplied)
    price = int(np.argmax(traded))
    return int(traded[price]), price


def single_slot_over_sort(lines_a_side: int = 1_000_000, rounds: int = 5) -> float:
    """Return the seconds of clearing one product-slot over those of one argsort of one side: the median of pairs."""
    rng, ticks = np.random.default_rng(0), 1 << 16
    limit, ask = rng.integers(1, ticks, lines_a_side), rng.integers(1, ticks, lines_a_side)
    wanted, offered = rng.integers(1, 64, lines_a_side), rng.integers(1, 64, lines_a_side)
    ratios = []
    for _ in range(rounds):
        began = time.perf_counter()
        np.argsort(limit)
        sorted_at = time.perf_counter()
        cross_one_slot(limit, wanted, ask, offered, ticks)
        ratios.append((time.perf_counter() - sorted_at) / (sorted_at - began))
    return float(np.median(ratios))
