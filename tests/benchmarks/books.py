"""Which book a benchmark runs on: drawn for scale, or built from real data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pricing.book import Book
from tests.benchmarks.real_book import real_book
from tests.benchmarks.scale_book import scale_book

KINDS = ("dw", "dwk")
PROVIDERS = (15, 30, 180)


def make(wanted: Mapping[str, Any]) -> Book:
    """Return the book of a request: its `book` (scale or real), `lines` or `providers`, `kinds` and `seed`."""
    if wanted["book"] == "real":
        return real_book(wanted["providers"], kinds=wanted["kinds"], seed=wanted["seed"])
    return scale_book(wanted["lines"], wanted["kinds"], wanted["seed"])


def offered_over_demanded(book: Book) -> float:
    """Return unit-hours offered over unit-hours demanded."""
    offered = int((book.bids.quantity * book.bids.hours).sum())
    return offered / max(1, int((book.demands.quantity * book.demands.hours).sum()))
