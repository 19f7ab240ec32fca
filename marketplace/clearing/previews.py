"""What a window would come to, found on a frozen copy that publishes nothing; and the indicative price made of it.

Before bidding has closed no sealed bid is read: the copy holds the window's funded demand and *reference supply*, the
opened bids of the last cleared window. In CLEARING it holds the opened book itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from marketplace.catalogue.models import ResourceClass, Window
from marketplace.clearing import warm
from marketplace.clearing.books import Lines, build_book, cleared_bids, funded_demands, make_window_book
from marketplace.clearing.models import IndicativePrice
from marketplace.clearing.selectors import ReasonCount, last_clearing
from marketplace.errors import WindowClosed
from marketplace.governance.services import record
from pricing.book import Book
from pricing.clearing import Outcome, clear

PARTIES_PER_SIDE = 3  # an indicative price is made of at least so many buyers and providers
PREVIEWED = ("COLLECTING", "BIDDING", "CLEARING")


@dataclass(frozen=True)
class PreviewPrice:
    """What one resource class traded at in a copy. Unit-hours; micro-USD per unit-hour."""

    resource_class: str
    unit_hours: int
    mean_micros: int
    low_micros: int  # between these two the middle half of the volume traded
    high_micros: int


@dataclass(frozen=True)
class Preview:
    """The result of a frozen copy. Nothing of it is binding and nothing was written."""

    window: Window
    supply: str  # "opened": its own bids; "reference": those of the last cleared window
    source: str  # where the supply comes from, in words
    input_hash: str  # of the copy, in hex
    demands: int
    bids: int
    welfare_micros: int
    gap_micros: int
    awards: int
    prices: list[PreviewPrice]
    losers: list[ReasonCount]


def preview_window(*, window: Window, actor: str, now: datetime) -> Preview:
    """Clear a frozen copy of `window` as it stands and return what it came to; only an audit line is written.

    Raises WindowClosed once the window is cleared or has failed, and ClearingError when the copy cannot be cleared.
    """
    state = Window.objects.get(pk=window.pk).state
    if state not in PREVIEWED:
        raise WindowClosed("Only a window that is not cleared yet has a preview.", window=window.name, state=state)
    if state == "CLEARING":
        book, supply, source = build_book(window=window)[0], "opened", "the opened bids of this window"
    else:
        (book, _), source = _reference_book(window)
        supply = "reference"
    outcome = _clear_copy(window, book)
    record(
        actor=actor, action="preview_clearing", subject=window.name, reason=f"a copy was cleared, with {supply} supply",
        now=now, input_hash=book.input_hash.hex(), supply=supply, awards=len(outcome.award_columns),
    )  # fmt: skip
    return Preview(
        window=window, supply=supply, source=source, input_hash=book.input_hash.hex(), demands=len(book.demands),
        bids=len(book.bids), welfare_micros=outcome.welfare_micros, gap_micros=outcome.gap_micros,
        awards=len(outcome.award_columns), prices=_prices(outcome), losers=_losers(outcome),
    )  # fmt: skip


def renew_indicative(*, window: Window, now: datetime) -> int:
    """Renew the indicative prices of a window that collects demand; returns how many changed.

    A class has a range of the middle half of what its funded demand trades at against reference supply, when at least
    three buyers and three providers stand behind it; else the comparator of its reference row. Outside COLLECTING
    nothing is done: bidding freezes what stands.
    """
    if window.state != "COLLECTING":
        return 0
    (book, lines), source = _reference_book(window)
    standing = {row.resource_class_id: row for row in window.indicative_prices.all()}
    if standing and all(bytes(row.input_hash) == book.input_hash for row in standing.values()):
        return 0
    wide = _wide_classes(lines)
    traded = {p.resource_class: p for p in _prices(_clear_copy(window, book))} if wide else {}
    rows = []
    for kind in ResourceClass.objects.all():
        price = traded.get(kind.pk) if kind.pk in wide else None
        rows.append(IndicativePrice(
            window=window, resource_class=kind, method="cleared_bids" if price else "comparator",
            low_micros=price.low_micros if price else kind.reference_price_micros,
            high_micros=price.high_micros if price else kind.reference_price_micros,
            bids=wide[kind.pk] if price else 0, source=source if price else "reference row of the resource class",
            input_hash=book.input_hash, made_at=now,
        ))  # fmt: skip
    return _keep_indicative(window, rows, standing)


@transaction.atomic
def _keep_indicative(window: Window, rows: list[IndicativePrice], standing: dict[str, IndicativePrice]) -> int:
    """Write the rows unless bidding has opened meanwhile; returns how many say something new."""
    if Window.objects.select_for_update().get(pk=window.pk).state != "COLLECTING":
        return 0
    told = ("method", "low_micros", "high_micros", "bids", "source", "input_hash", "made_at")
    IndicativePrice.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["window", "resource_class"], update_fields=told
    )
    before = {key: (row.method, row.low_micros, row.high_micros) for key, row in standing.items()}
    return sum(before.get(row.resource_class_id) != (row.method, row.low_micros, row.high_micros) for row in rows)


def _reference_book(window: Window) -> tuple[tuple[Book, Lines], str]:
    """Funded demand against the opened bids of the last cleared window, stretched to this window's slots."""
    last = last_clearing()
    bids = cleared_bids(last.window) if last else []
    made = make_window_book(window, funded_demands(window), bids, like=last.window if last else None)
    return made, f"{len(bids)} opened bids of {last.window.name}" if last else "no window was cleared yet"


def _clear_copy(window: Window, book: Book) -> Outcome:
    """Clear a copy, with what was found last time as a head start; the outcome stays in this process."""
    outcome = clear(book, previous=warm.last_outcome(window.pk))
    warm.remember(window.pk, outcome)
    return outcome


def _wide_classes(lines: Lines) -> dict[str, int]:
    """The classes with enough distinct buyers and providers, with the number of bids for each."""
    buyers: dict[str, set[str]] = defaultdict(set)
    for demand in lines.demands.values():
        for code in demand.accepted_classes:
            buyers[code].add(demand.party.owner_key)
    providers: dict[str, list[str]] = defaultdict(list)
    for bid in lines.bids.values():
        providers[bid.node_class.resource_class_id].append(bid.party.owner_key)
    return {code: len(keys) for code, keys in providers.items()
            if min(len(set(keys)), len(buyers[code])) >= PARTIES_PER_SIDE}  # fmt: skip


def _prices(outcome: Outcome) -> list[PreviewPrice]:
    """What each class traded at: volume, weighted mean, and between which prices the middle half of it lies."""
    book, lam, of_bid = outcome.book, outcome.allocation.lam_micros, outcome.eligibility.signature_of_bid
    volume: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # class -> price -> unit-hours
    for line, bid in zip(outcome.awards, outcome.award_columns.bid.tolist(), strict=True):
        at_price = volume[book.attributes[book.bids.attributes[bid]].resource_class]
        for price in lam[of_bid[bid], line.start_slot : line.end_slot].tolist():
            at_price[price] += line.units
    found = []
    for code, at_price in sorted(volume.items()):
        hours, money = sum(at_price.values()), sum(price * units for price, units in at_price.items())
        low, high = _middle_half(sorted(at_price.items()))
        found.append(PreviewPrice(code, hours, (2 * money + hours) // (2 * hours), low, high))
    return found


def _middle_half(steps: Iterable[tuple[int, int]]) -> tuple[int, int]:
    steps = list(steps)
    total, seen, marks = sum(units for _, units in steps), 0, []
    for price, units in steps:
        seen += units
        while len(marks) < 2 and 4 * seen >= total * (1, 3)[len(marks)]:
            marks.append(price)
    return marks[0], marks[1]


def _losers(outcome: Outcome) -> list[ReasonCount]:
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for line in outcome.reasons:
        count = counts[line.side, line.code]
        count[0] += 1
        count[1] += line.unfilled_unit_hours
    found = [ReasonCount(side, code, lines, hours) for (side, code), (lines, hours) in counts.items()]
    return sorted(found, key=lambda c: (c.side != "demand", -c.unit_hours, c.code))
