"""The one place that knows how the engine is called."""

from __future__ import annotations

from pathlib import Path

from pricing.book import Book
from pricing.bundle import public_bundle
from pricing.clearing import Outcome, Priced, clear, price_book


def settle(book: Book, before: Priced | None = None) -> Priced:
    """Prices and the checked certificate of a book, without awards; warm where `before` is given."""
    return price_book(book, previous=before)


def rounds_of(settled: Priced) -> int:
    """How many programmes were solved."""
    return settled.whole.rounds


def publish(book: Book, settled: Priced, folder: Path) -> Outcome:
    """Cut the awards, judge the losers, write the public bundle; the outcome."""
    outcome = clear(book, previous=settled)
    for name, content in public_bundle(outcome, window="bench").items():
        (folder / name).write_bytes(content)
    return outcome
