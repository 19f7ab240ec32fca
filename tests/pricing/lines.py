"""Small books for tests: one demand or one bid per call, with everything plain unless said otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pricing.book import Book, make_book
from pricing.lines import Attributes, BidLine, DemandLine, Requirement, Rules

PLAIN = Attributes(
    resource_class="H100", country="DE", parent_country="DE", operator_country="DE", keys_country="DE", tier=1,
    site="berlin", sla_bps=9_900, standing="PROVEN",
)
ANY = Requirement(accepted_classes=("H100",))


def demand(name: str, limit: int = 1_000, units: int = 1, slots: tuple[int, int] = (0, 1), **other: Any) -> DemandLine:
    """A demand at `limit` micro-USD; keywords of Requirement go there, the rest to the line."""
    rule = {key: other.pop(key) for key in list(other) if key in Requirement.__dataclass_fields__}
    line = DemandLine(
        id=name, parent=f"buyer-{name}", kind="divisible", quantity_units=units, start_slot=slots[0],
        end_slot=slots[1], price_limit_micros=limit, requirement=replace(ANY, **rule), accepted_rank=0,
    )
    return replace(line, **other)


def bid(name: str, ask: int = 1_000, units: int = 1, slots: tuple[int, int] = (0, 1), **other: Any) -> BidLine:
    """A bid at `ask` micro-USD; keywords of Attributes go there, the rest to the line."""
    known = {key: other.pop(key) for key in list(other) if key in Attributes.__dataclass_fields__}
    line = BidLine(
        id=name, parent=f"seller-{name}", quantity_units=units, start_slot=slots[0], end_slot=slots[1],
        price_ask_micros=ask, quality_bps=10_000, attributes=replace(PLAIN, **known), accepted_rank=0,
    )
    return replace(line, **other)


def book(
    *lines: DemandLine | BidLine, slots: int = 4, latency_ms: Mapping[tuple[str, str], int] | None = None,
    rules: Rules | None = None, home_zones: Mapping[str, str] | None = None,
) -> Book:
    return make_book(
        slots=slots, latency_ms=latency_ms, rules=rules, home_zones=home_zones,
        demands=[line for line in lines if isinstance(line, DemandLine)],
        bids=[line for line in lines if isinstance(line, BidLine)],
    )


def odd_cycle(limit, long_limit=None):
    """Three windows over three scarce slots, each needing two of them: the best fill takes half of each."""
    return book(
        bid("scarce", 100, 1, (0, 3), resource_class="A"), bid("other", 100, 5, (1, 2), resource_class="B"),
        demand("x", limit, 1, (0, 2), kind="window", accepted_classes=("A",)),
        demand("y", limit, 1, (1, 3), kind="window", accepted_classes=("A",)),
        demand("z", long_limit or limit, 1, (0, 3), kind="window", accepted_classes=("A", "B")), slots=3,
    )
