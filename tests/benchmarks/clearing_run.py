"""The process that clears: cold, and warm after 2 % of the lines changed, in turns with a plain sort of the lines."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from pricing.book import BLOCK, Book
from tests.benchmarks import books, engine, process
from tests.benchmarks.scale_book import churn
from tests.benchmarks.sorting import sorter


def main() -> None:
    """Answer with every time taken, the totals of the certificate, and what became of the blocks."""
    asked = process.request()
    book = books.make(asked)
    began = time.perf_counter()
    settled = engine.settle(book)
    cold = [time.perf_counter() - began]
    peak_rss_mb = process.peak_rss_mb()  # before anything but clearing was done here

    sort, amended, sorts, warm = sorter(book), churn(book, seed=asked["seed"]), [], []
    for turn in range(asked["turns"]):
        sorts.append(sort())
        if turn:
            cold.append(seconds_of(book))
        sorts.append(sort())
        warm.append(seconds_of(amended, settled))

    began = time.perf_counter()
    outcome = engine.publish(book, settled, Path(asked["folder"]))
    process.answer({
        "cold": cold, "warm": warm, "sorts": sorts, "peak_rss_mb": peak_rss_mb,
        "publish_seconds": time.perf_counter() - began,
        "offered_over_demanded": books.offered_over_demanded(book),
        "welfare_micros": outcome.welfare_micros, "bound_micros": outcome.bound_micros,
        "gap_micros": outcome.gap_micros, "rounds": engine.rounds_of(settled), **blocks_of(book, outcome),
    })  # fmt: skip


def seconds_of(book: Book, before: Any = None) -> float:
    """Return the seconds from arrays in memory to the checked certificate."""
    began = time.perf_counter()
    engine.settle(book, before)
    return time.perf_counter() - began


def blocks_of(book: Book, outcome: Any) -> dict[str, int]:
    """Count blocks served against their price, and blocks left out although they were in the money."""
    paid: dict[str, int] = defaultdict(int)
    units_hours: dict[str, int] = defaultdict(int)
    for award in outcome.awards:
        paid[award.demand_id] += award.amount_micros
        units_hours[award.demand_id] += award.units * (award.end_slot - award.start_slot)
    limit = {
        name: price
        for name, price, kind in zip(
            book.demands.ids, book.demands.price.tolist(), book.demands.kind.tolist(), strict=True
        )
        if kind == BLOCK
    }
    return {
        "paradoxical_accepted": sum(
            amount > limit[name] * units_hours[name] for name, amount in paid.items() if name in limit
        ),
        "paradoxical_rejected": sum(reason.code == "block_rejected" for reason in outcome.reasons),
    }


if __name__ == "__main__":
    main()
