"""Random small books of every kind of line, drawn choice by choice: by `random` with a seed, or by hypothesis."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from pricing.book import Book
from pricing.lines import BidLine, DemandLine, Rules
from tests.pricing.lines import bid, book, demand

COUNTRIES = ("DE", "FR", "US")
ZONES = {"DE": "EU", "FR": "EU"}
CLASSES = ("A", "B")
SITES = ("berlin", "lyon", "nice")
CONVEX = ("divisible", "window")
WHOLE = ("block", "minimum", "choice", "one_site", "one_site_minimum")
EVERY = (*CONVEX, *CONVEX, *WHOLE)


class Choose(Protocol):
    def __call__(self, options: Sequence[Any], /) -> Any: ...


def by_seed(seed: int) -> Choose:
    return random.Random(seed).choice


def small_book(
    choose: Choose, *, kinds: Sequence[str] = EVERY, demands: int = 7, bids: int = 6, slots: int = 4,
    whole_bids: bool = True, ticks: int = 20, units: int = 4, rules: bool = False, is_plain: bool = False,
    whole_max: int | None = None, least: int = 0,
) -> Book:
    """At most so many lines, at least `least` a side, of which `whole_max` are indivisible.

    `is_plain`: one class, country and tier. `rules`: with a concentration cap or a budget of the Foundation at times.
    """
    whole = 0
    lines: list[DemandLine | BidLine] = []
    for n in range(choose(range(least, demands + 1))):
        kind = choose(kinds)
        if kind in WHOLE and whole_max is not None and whole >= whole_max:
            kind = "divisible"
        whole += kind in WHOLE
        lines.append(_demand(choose, f"d{n}", kind, slots, ticks, units, rules, is_plain))
    for n in range(choose(range(least, bids + 1))):
        is_whole = whole_bids and choose((False, False, True)) and (whole_max is None or whole < whole_max)
        whole += is_whole
        lines.append(_bid(choose, f"b{n}", is_whole, slots, ticks, units, rules, is_plain))
    latency = {("paris", site): choose((5, 10, 25, 50)) for site in SITES if choose((True, True, False))}
    return book(*lines, slots=slots, latency_ms=latency, home_zones=ZONES,
                rules=_rules(choose, lines) if rules else None)


def _rules(choose: Choose, lines: Sequence[DemandLine | BidLine]) -> Rules:
    share = choose((None, 250_000, 340_000, 400_000, 500_000))
    cost = sum(line.price_limit_micros * line.quantity_units * (line.end_slot - line.start_slot)
               for line in lines if isinstance(line, DemandLine) and line.is_foundation)
    budget = choose((None, cost, cost * 3 // 4, cost // 2, cost // 4, 0))
    return Rules(share, budget)


def _span(choose: Choose, slots: int) -> tuple[int, int]:
    start = choose(range(slots))
    return start, choose(range(start + 1, slots + 1))


def _some(choose: Choose, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if choose((True, True, False))) or (choose(names),)


def _demand(
    choose: Choose, name: str, kind: str, slots: int, ticks: int, units: int, rules: bool, is_plain: bool
) -> DemandLine:
    quantity = choose(range(1, units + 1))
    line = demand(
        name, 100 * choose(range(1, ticks + 1)), quantity, _span(choose, slots), accepted_rank=choose(range(3)),
        accepted_classes=("A",) if is_plain else _some(choose, CLASSES), kind=kind if kind in CONVEX else "window",
        is_foundation=rules and kind in CONVEX and choose((True, False)),
        parent=choose(("acme", "bolt", f"buyer{name}")),
    )
    if not is_plain and choose((False, True)):
        line = replace(line, requirement=replace(
            line.requirement, tier_min=choose((0, 1)), countries=choose((None, _some(choose, COUNTRIES))),
            control_countries=choose((None, None, _some(choose, COUNTRIES))), vantage="paris",
            latency_ms_max=choose((None, 10, 30)), sla_bps_min=choose((0, 9_900)),
        ))
    if kind == "block":
        return replace(line, kind="block")
    if kind in ("minimum", "one_site_minimum"):
        line = replace(line, minimum_units=choose(range(1, quantity + 1)))
    if kind == "choice" or (kind.startswith("one_site") and choose((False, False, True))):
        line = replace(line, choice=choose(("p", "q")), minimum_units=choose((0, line.minimum_units, quantity)))
    return replace(line, is_one_site=kind.startswith("one_site"))


def _bid(
    choose: Choose, name: str, is_whole: bool, slots: int, ticks: int, units: int, rules: bool, is_plain: bool
) -> BidLine:
    quantity = choose(range(1, units + 1))
    known: dict[str, Any] = {"resource_class": "A", "site": choose(SITES)}
    if not is_plain:
        known |= {
            "resource_class": choose(CLASSES), "country": choose(COUNTRIES), "tier": choose((0, 1, 1, 2)),
            "keys_country": choose(("DE", "DE", "US")), "sla_bps": choose((9_900, 9_900, 9_500)),
            "standing": choose(("PROVEN", "PROVEN", "PROBATION", "DEGRADED")),
            "quality_bps": choose((10_000, 10_000, 9_900, 8_130)),
        }
    return bid(
        name, 100 * choose(range(1, ticks + 1)), quantity, _span(choose, slots), accepted_rank=choose(range(3)),
        minimum_units=choose(range(1, quantity + 1)) if is_whole else 0,
        parent=choose(("acme", "core", "dune", "elm")) if rules or not is_plain else f"seller{name}", **known,
    )


def tied_book(choose: Choose) -> Book:
    """A book of scarce single slots whose windows tie products together: about one of 150 has no whole optimum."""
    lines, slots = tied_lines(choose)
    return book(*lines, slots=slots)


def tied_lines(choose: Choose) -> tuple[list[DemandLine | BidLine], int]:
    """The lines of such a book, and its slots."""
    slots = choose(range(3, 8))
    lines: list[DemandLine | BidLine] = []
    for t in range(slots):
        for name, stands in (("A", True), ("B", 0 < t < slots - 1 and choose((True, True, False))), (
                "C", choose((True, *[False] * 5)))):
            if stands:
                lines.append(bid(f"{name}{t}", 100 * choose((1, 1, 2, 3)), choose((1, 1, 1, 2, 5)), (t, t + 1),
                                 resource_class=name))
    for n in range(choose(range(3, 14))):
        start = choose(range(slots - 1))
        lines.append(demand(
            f"d{n}", 100 * choose(range(6, 12)), choose((1, 1, 1, 2, 3)), (start, choose(range(start + 2, slots + 1))),
            kind=choose((*["window"] * 11, "divisible")),
            accepted_classes=choose((("A",), ("A",), ("A", "B"), ("A", "B"), ("B", "C"), ("A", "C"), ("A", "B", "C"))),
        ))
    return lines, slots
