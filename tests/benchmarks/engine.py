"""The one place that knows how the engine is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricing.book import Book
from pricing.bundle import public_bundle
from pricing.clearing import clear


def settle(book: Book, before: Any = None) -> Any:
    """Prices and the checked certificate of a book, without awards; warm where `before` is given."""
    return clear(book)


def rounds_of(settled: Any) -> int:
    """How many programmes were solved."""
    return int(getattr(settled, "rounds", 0))


def publish(book: Book, settled: Any, folder: Path) -> Any:
    """Cut the awards, judge the losers, write the public bundle; the outcome."""
    for name, content in public_bundle(book, settled, window="bench").items():
        (folder / name).write_bytes(content)
    return settled
