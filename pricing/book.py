"""The sealed book of one window: what is cleared, checked and put in canonical order.

A `Book` that exists is valid: every number is a whole number inside its bounds, every id is unique on its side, and
the lines stand in the order of their ids. So the same lines handed in any order are the same book, and hash the same.
Ids, parties, sites and vantages are published as they stand here: hand in pseudonyms that are fresh for the window.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from pricing import errors

TICK_MICROS = 100  # micro-USD per unit-hour
PRICE_MIN_MICROS = 100
PRICE_MAX_MICROS = 1_000_000_000
QUANTITY_MAX_UNITS = 1 << 20
SLOTS_MAX = 744
MONEY_LIMIT_MICROS = 1 << 62
QUALITY_ONE_BPS = 10_000
TIER_MAX = 3
TEXT_MAX = 120
PROBATION_SLOTS_MAX = 24  # a demand over more slots than this is kept off capacity on probation

KINDS = ("divisible", "window")
STANDINGS = ("REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED")

Kind = Literal["divisible", "window", "block"]
Standing = Literal["REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED"]


@dataclass(frozen=True)
class Attributes:
    """What is known of the capacity behind a bid. Country of the site, and of each who controls it."""

    resource_class: str
    country: str
    parent_country: str
    operator_country: str
    keys_country: str
    tier: int
    site: str
    sla_bps: int
    standing: Standing


@dataclass(frozen=True)
class Requirement:
    """What capacity must be to serve a demand. None means any. `control_countries` binds parent, operator and keys."""

    accepted_classes: tuple[str, ...]
    countries: tuple[str, ...] | None = None
    control_countries: tuple[str, ...] | None = None
    tier_min: int = 0
    vantage: str | None = None
    latency_ms_max: int | None = None
    sla_bps_min: int = 0


@dataclass(frozen=True)
class DemandLine:
    """Units wanted in each slot of [start_slot, end_slot), at most at `price_limit_micros` per unit-hour, all-in.

    `divisible` takes any part in any slot; `window` takes one number of units over all its slots, and its limit binds
    on the average over them. `block` is refused by this version.
    """

    id: str
    parent: str
    kind: Kind
    quantity_units: int
    start_slot: int
    end_slot: int
    price_limit_micros: int
    requirement: Requirement
    accepted_rank: int


@dataclass(frozen=True)
class BidLine:
    """Units offered in each slot of [start_slot, end_slot), at no less than `price_ask_micros` per unit-hour.

    `quality_bps` is the share of booked hours this capacity is expected to deliver; see `adjusted_ask_micros`.
    """

    id: str
    parent: str
    quantity_units: int
    start_slot: int
    end_slot: int
    price_ask_micros: int
    quality_bps: int
    attributes: Attributes
    accepted_rank: int


@dataclass(frozen=True)
class Book:
    """One window's sealed lines in canonical order. Raises a `ClearingError` that names the line when one is bad.

    `latency_ms` maps (vantage, site) to the measured round trip; pairs that no line of this book asks for are dropped.
    """

    slots: int
    demands: tuple[DemandLine, ...]
    bids: tuple[BidLine, ...]
    latency_ms: Mapping[tuple[str, str], int]

    def __post_init__(self) -> None:
        whole(self.slots, "slots")
        if not 1 <= self.slots <= SLOTS_MAX:
            raise errors.BadSlotRange("A window has 1 to 744 slots.", slots=self.slots)
        demands = tuple(_checked_demand(line, self.slots) for line in self.demands)
        bids = tuple(_checked_bid(line, self.slots) for line in self.bids)
        object.__setattr__(self, "demands", _sorted_unique(demands))
        object.__setattr__(self, "bids", _sorted_unique(bids))
        object.__setattr__(self, "latency_ms", self._used_latency())
        self._refuse_overflow()

    def _used_latency(self) -> dict[tuple[str, str], int]:
        vantages = {line.requirement.vantage for line in self.demands if line.requirement.latency_ms_max is not None}
        sites = {line.attributes.site for line in self.bids}
        used: dict[tuple[str, str], int] = {}
        for (vantage, site), milliseconds in self.latency_ms.items():
            whole(milliseconds, "latency_ms", vantage=vantage, site=site)
            if milliseconds < 0:
                raise errors.BadLatency("A round trip is not negative.", vantage=vantage, site=site)
            if vantage in vantages and site in sites:
                used[vantage, site] = milliseconds
        return dict(sorted(used.items()))

    def _refuse_overflow(self) -> None:
        total = sum(d.quantity_units * (d.end_slot - d.start_slot) * d.price_limit_micros for d in self.demands)
        total += sum(b.quantity_units * (b.end_slot - b.start_slot) * adjusted_ask_micros(b) for b in self.bids)
        if total >= MONEY_LIMIT_MICROS:
            raise errors.BookOverflow("The book's money does not fit 62 bits.", total_micros=total)

    @cached_property
    def input_hash(self) -> bytes:
        """SHA-256 over all sealed lines, ranks included, times excluded. No party alone chooses it."""
        digests = {name: hashlib.sha256(text).hexdigest() for name, text in sealed_files(self).items()}
        return hashlib.sha256(canonical_json({"slots": self.slots, **digests})).digest()


def make_book(
    *,
    slots: int,
    demands: Iterable[DemandLine],
    bids: Iterable[BidLine],
    latency_ms: Mapping[tuple[str, str], int] | None = None,
) -> Book:
    """A valid book in canonical order, whatever the order of the lines handed in. Raises `ClearingError`."""
    return Book(slots, tuple(demands), tuple(bids), dict(latency_ms or {}))


def adjusted_ask_micros(bid: BidLine) -> int:
    """The ask per *delivered* unit-hour: ask / quality, rounded up to the tick, in exact integers.

    Hours that are not delivered are not paid, so a price of at least this covers the ask per booked hour on average.
    """
    denominator = bid.quality_bps * TICK_MICROS
    return -(-bid.price_ask_micros * QUALITY_ONE_BPS // denominator) * TICK_MICROS


def canonical_json(value: object) -> bytes:
    """One text per value: sorted keys, no spaces, UTF-8, integers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def attributes_facts(attributes: Attributes) -> dict[str, object]:
    return dict(vars(attributes))


def demand_facts(line: DemandLine) -> dict[str, object]:
    """The sealed demand as published; the sets of a requirement are sorted, so that one rule has one text."""
    requirement = dict(vars(line.requirement))
    for name in ("accepted_classes", "countries", "control_countries"):
        if requirement[name] is not None:
            requirement[name] = sorted(set(requirement[name]))
    return {**vars(line), "requirement": requirement}


def bid_facts(line: BidLine) -> dict[str, object]:
    return {**vars(line), "attributes": attributes_facts(line.attributes)}


def sealed_files(book: Book) -> dict[str, bytes]:
    """The three sealed files, one canonical object per line; the input hash and the public bundle share these bytes."""
    pairs = [{"vantage": v, "site": s, "latency_ms": ms} for (v, s), ms in book.latency_ms.items()]
    return {
        "demands.jsonl": json_lines([demand_facts(line) for line in book.demands]),
        "bids.jsonl": json_lines([bid_facts(line) for line in book.bids]),
        "latency.jsonl": json_lines(pairs),
    }


def json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def whole(value: object, name: str, **facts: object) -> None:
    """Refuse anything but a plain int: floats, NaN, booleans and numpy scalars are never coerced."""
    if type(value) is not int:
        raise errors.NotInteger(f"{name} must be a whole number.", field=name, got=repr(value), **facts)


Line = TypeVar("Line", DemandLine, BidLine)


def _sorted_unique(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    ordered = tuple(sorted(lines, key=lambda line: line.id))
    for one, other in itertools.pairwise(ordered):
        if one.id == other.id:
            raise errors.DuplicateId("Two lines of one side share an id.", line=one.id)
    return ordered


def _checked_demand(line: DemandLine, slots: int) -> DemandLine:
    _check_common(line, slots)
    if line.kind not in KINDS:
        raise errors.KindNotSupported(f"The kind {line.kind!r} cannot be cleared yet.", line=line.id, kind=line.kind)
    _check_price(line.price_limit_micros, "price_limit_micros", line.id)
    rule = line.requirement
    if not rule.accepted_classes:
        raise errors.UnknownClass("A demand accepts at least one resource class.", line=line.id)
    for name in rule.accepted_classes:
        _check_class(name, line.id)
    for country in (*(rule.countries or ()), *(rule.control_countries or ())):
        _check_country(country, line.id)
    _check_tier(rule.tier_min, line.id)
    _check_bps(rule.sla_bps_min, "sla_bps_min", line.id, lowest=0)
    if rule.vantage is not None:
        _check_text(rule.vantage, "vantage", line.id)
    if rule.latency_ms_max is not None:
        whole(rule.latency_ms_max, "latency_ms_max", line=line.id)
        if rule.latency_ms_max < 0 or rule.vantage is None:
            raise errors.BadLatency("A latency bound is not negative and names its vantage.", line=line.id)
    return line


def _checked_bid(line: BidLine, slots: int) -> BidLine:
    _check_common(line, slots)
    _check_price(line.price_ask_micros, "price_ask_micros", line.id)
    _check_bps(line.quality_bps, "quality_bps", line.id, lowest=1)
    if adjusted_ask_micros(line) > PRICE_MAX_MICROS:
        raise errors.PriceOutOfRange("The ask divided by the quality score is above the highest price.", line=line.id)
    known = line.attributes
    _check_class(known.resource_class, line.id)
    for country in (known.country, known.parent_country, known.operator_country, known.keys_country):
        _check_country(country, line.id)
    _check_tier(known.tier, line.id)
    _check_text(known.site, "site", line.id)
    _check_bps(known.sla_bps, "sla_bps", line.id, lowest=0)
    if known.standing not in STANDINGS:
        raise errors.UnknownStanding("No such standing.", line=line.id, standing=known.standing)
    return line


def _check_common(line: DemandLine | BidLine, slots: int) -> None:
    _check_text(line.id, "id", repr(line.id))
    _check_text(line.parent, "parent", line.id)
    for name in ("quantity_units", "start_slot", "end_slot", "accepted_rank"):
        whole(getattr(line, name), name, line=line.id)
    if not 1 <= line.quantity_units <= QUANTITY_MAX_UNITS:
        raise errors.BadQuantity("A quantity is 1 to 2^20 units.", line=line.id, quantity_units=line.quantity_units)
    if not 0 <= line.start_slot < line.end_slot <= slots:
        raise errors.BadSlotRange(
            "A line lies inside its window and is not empty.", line=line.id, start_slot=line.start_slot,
            end_slot=line.end_slot, slots=slots,
        )
    if line.accepted_rank < 0:
        raise errors.BadRank("A rank of acceptance is not negative.", line=line.id)


def _check_text(value: object, name: str, line: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise errors.BadText(f"{name} is 1 to {TEXT_MAX} printable characters.", line=line, field=name)


def _check_class(value: object, line: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise errors.UnknownClass("No such resource class.", line=line, got=repr(value))


def _check_country(value: object, line: str) -> None:
    if not (isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha() and value.isupper()):
        raise errors.UnknownCountry("A country is two capitals of ISO 3166.", line=line, got=repr(value))


def _check_tier(value: object, line: str) -> None:
    whole(value, "tier", line=line)
    if value not in range(TIER_MAX + 1):
        raise errors.UnknownTier("A tier is 0 to 3.", line=line, tier=value)


def _check_price(value: object, name: str, line: str) -> None:
    whole(value, name, line=line)
    assert isinstance(value, int)
    if not PRICE_MIN_MICROS <= value <= PRICE_MAX_MICROS:
        raise errors.PriceOutOfRange("A price is 100 to 1,000,000,000 micro-USD.", line=line, **{name: value})
    if value % TICK_MICROS:
        raise errors.PriceOffTick("A price is a multiple of 100 micro-USD.", line=line, **{name: value})


def _check_bps(value: object, name: str, line: str, *, lowest: int) -> None:
    whole(value, name, line=line)
    assert isinstance(value, int)
    if not lowest <= value <= QUALITY_ONE_BPS:
        raise errors.BadQuality(f"{name} is {lowest} to 10,000 basis points.", line=line, **{name: value})
