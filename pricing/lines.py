"""What a market's two sides hand in: one demand line, one bid line, and what they ask of each other.

Plain value objects. `check_demand` and `check_bid` refuse what no column could hold (floats, NaN, booleans, bad texts,
unknown kinds); the bounds of numbers are checked on the columns of the whole book, in `pricing.book`.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from pricing import errors
from pricing.targets import check_menu

KINDS = ("divisible", "window", "block")
STANDINGS = ("REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED")
TEXT_MAX = 120
TIER_MAX = 3
ONE_BPS = 10_000
PUBLISHED_LIMIT = 1 << 53  # any JSON reader keeps whole numbers below it exact
ID = re.compile(r"[A-Za-z0-9._:-]{1,120}")  # what needs no escape in any format it is published in

Kind = Literal["divisible", "window", "block"]
Standing = Literal["REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED"]


@dataclass(frozen=True)
class Attributes:
    """What is known of the capacity behind a bid. Country of the site, and of each who controls it.

    `papers` are the controls, agreements and grants of use that hold for it through the whole window, by name;
    `targets` what it promises beside availability, see `pricing.targets`.
    """

    resource_class: str
    country: str
    parent_country: str
    operator_country: str
    keys_country: str
    tier: int
    site: str
    sla_bps: int
    standing: Standing
    papers: tuple[str, ...] = ()
    targets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Requirement:
    """What capacity must be to serve a demand. None means any. `control_countries` binds parent, operator and keys.

    Capacity must hold every one of `papers`, and promise every one of `targets` as strictly or more so.
    """

    accepted_classes: tuple[str, ...]
    countries: tuple[str, ...] | None = None
    control_countries: tuple[str, ...] | None = None
    tier_min: int = 0
    vantage: str | None = None
    latency_ms_max: int | None = None
    sla_bps_min: int = 0
    papers: tuple[str, ...] = ()
    targets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class DemandLine:
    """Units wanted in each slot of [start_slot, end_slot), at most at `price_limit_micros` per unit-hour, all-in.

    `divisible` takes any part in any slot. `window` takes one number of units over all its slots, `minimum_units` or
    more or nothing; its limit binds on the average over them. `block` is a window that takes all or nothing.
    At most one line of a `choice` is served. `is_one_site`: all units in one site. The lines of a `curve` are the price
    steps of one order. `is_foundation`: a buy line of the Foundation, under its budget.
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
    minimum_units: int = 0
    choice: str | None = None
    curve: str | None = None
    is_one_site: bool = False
    is_foundation: bool = False


@dataclass(frozen=True)
class BidLine:
    """Units offered in each slot of [start_slot, end_slot), at no less than `price_ask_micros` per unit-hour.

    `quality_bps` is the share of booked hours this capacity is expected to deliver; see `adjusted_ask_micros`. With
    `minimum_units` the bid sells one number of units in all its slots, at least that many or nothing, and its ask binds
    on the sum over them. The lines of a `curve` are the price steps of one offer.
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
    minimum_units: int = 0
    curve: str | None = None


@dataclass(frozen=True)
class Rules:
    """What the market's house rules add to the lines. None: the rule does not apply.

    `concentration_ppm`: the most of what trades in a product that one parent may sell. `foundation_budget_micros`: the
    most that all lines of the Foundation may cost at their limits.
    """

    concentration_ppm: int | None = None
    foundation_budget_micros: int | None = None


def canonical_json(value: object) -> bytes:
    """One text per value: sorted keys, no spaces, UTF-8, integers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def name_of(facts: dict[str, object]) -> str:
    """A name that stays the same from window to window: the head of the SHA-256 of the canonical text."""
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:16]


def requirement_facts(rule: Requirement) -> dict[str, object]:
    """The rule as published; its sets are sorted, so that one rule has one text."""
    facts = _with_promises(dict(vars(rule)))
    for name in ("accepted_classes", "countries", "control_countries"):
        if facts[name] is not None:
            facts[name] = sorted(set(facts[name]))
    return facts


def _with_promises(facts: dict[str, Any]) -> dict[str, Any]:
    """Papers and targets in order; a line that has none of them is published without the word."""
    papers: list[str] = sorted(set(facts.pop("papers")))
    targets: dict[str, int] = dict(sorted(facts.pop("targets")))
    return facts | ({"papers": papers} if papers else {}) | ({"targets": targets} if targets else {})


def canonical_requirement(rule: Requirement) -> Requirement:
    facts = requirement_facts(rule)
    for name in ("accepted_classes", "countries", "control_countries", "papers"):
        if facts.get(name) is not None:
            facts[name] = tuple(cast(list[str], facts[name]))
    facts["targets"] = tuple(cast(dict[str, int], facts.get("targets", {})).items())
    return Requirement(**facts)  # type: ignore[arg-type]


def attributes_facts(attributes: Attributes) -> dict[str, object]:
    return _with_promises(dict(vars(attributes)))


def whole(value: object, name: str, **facts: object) -> None:
    """Refuse anything but a plain int: floats, NaN, booleans and numpy scalars are never coerced."""
    if type(value) is not int:
        raise errors.NotInteger(f"{name} must be a whole number.", field=name, got=type(value).__name__, **facts)
    if abs(value) >= PUBLISHED_LIMIT:
        raise errors.BookOverflow(f"{name} does not fit 53 bits.", field=name, **facts)


def check_demand(line: DemandLine) -> DemandLine:
    """The line with its block's minimum filled in. Raises a `ClearingError` that names it."""
    _check_is(line, DemandLine, "a demand", "")
    _check_common(line, ("price_limit_micros",))
    if not isinstance(line.kind, str) or line.kind not in KINDS:
        raise errors.KindNotSupported("A demand is divisible, a window or a block.", line=line.id,
                                      kind=str(line.kind) if isinstance(line.kind, str) else type(line.kind).__name__)
    for name in ("is_one_site", "is_foundation"):
        if type(getattr(line, name)) is not bool:
            raise errors.NotInteger(f"{name} must be true or false.", line=line.id, field=name)
    if line.choice is not None:
        _check_id(line.choice, "choice", line.id)
    if line.kind == "block" and line.minimum_units in (0, line.quantity_units):
        line = replace(line, minimum_units=line.quantity_units)
    _check_combination(line)
    check_requirement(line.requirement, line.id)
    return line


def _check_combination(line: DemandLine) -> None:
    is_whole = line.minimum_units != 0 or line.choice is not None or line.is_one_site
    if line.kind == "divisible" and is_whole:
        raise errors.KindNotSupported(
            "A divisible demand has no minimum, no alternatives and no single site.", line=line.id, kind=line.kind)
    if line.kind == "block" and line.minimum_units != line.quantity_units:
        raise errors.BadQuantity("A block is all or nothing: leave its minimum out.", line=line.id,
                                 minimum_units=line.minimum_units)
    if line.curve is not None and is_whole:
        raise errors.KindNotSupported("A price curve is of divisible or plain window steps.", line=line.id)
    if line.is_foundation and is_whole:
        raise errors.KindNotSupported("A line of the Foundation is divisible or a plain window.", line=line.id)


def check_bid(line: BidLine) -> BidLine:
    """Raises a `ClearingError` that names the line."""
    _check_is(line, BidLine, "a bid", "")
    _check_common(line, ("price_ask_micros", "quality_bps"))
    if line.curve is not None and line.minimum_units:
        raise errors.KindNotSupported("A price curve has no minimum.", line=line.id)
    check_attributes(line.attributes, line.id)
    return line


def _check_common(line: DemandLine | BidLine, prices: tuple[str, ...]) -> None:
    _check_id(line.id, "id", _told(line.id))
    _check_id(line.parent, "parent", line.id)
    if line.curve is not None:
        _check_id(line.curve, "curve", line.id)
    for name in ("quantity_units", "start_slot", "end_slot", "accepted_rank", "minimum_units", *prices):
        whole(getattr(line, name), name, line=line.id)


def check_requirement(rule: Requirement, line: str) -> None:
    _check_is(rule, Requirement, "a requirement", line)
    for name in ("accepted_classes", "countries", "control_countries"):
        names = getattr(rule, name)
        if not isinstance(names, tuple) and (names is not None or name == "accepted_classes"):
            raise errors.BadText(f"{name} is a tuple of texts.", line=line, field=name)
    if not rule.accepted_classes:
        raise errors.UnknownClass("A demand accepts at least one resource class.", line=line)
    for name in rule.accepted_classes:
        _check_class(name, line)
    for country in (*(rule.countries or ()), *(rule.control_countries or ())):
        _check_country(country, line)
    _check_tier(rule.tier_min, line)
    _check_papers(rule.papers, line)
    _check_targets(rule.targets, line)
    _check_bps(rule.sla_bps_min, "sla_bps_min", line)
    if rule.vantage is not None:
        _check_text(rule.vantage, "vantage", line)
    if rule.latency_ms_max is not None:
        whole(rule.latency_ms_max, "latency_ms_max", line=line)
        if rule.latency_ms_max < 0 or rule.vantage is None:
            raise errors.BadLatency("A latency bound is not negative and names its vantage.", line=line)


def check_attributes(known: Attributes, line: str) -> None:
    _check_is(known, Attributes, "the attributes of a bid", line)
    _check_class(known.resource_class, line)
    for country in (known.country, known.parent_country, known.operator_country, known.keys_country):
        _check_country(country, line)
    _check_tier(known.tier, line)
    _check_papers(known.papers, line)
    _check_targets(known.targets, line)
    _check_text(known.site, "site", line)
    _check_bps(known.sla_bps, "sla_bps", line)
    if not isinstance(known.standing, str) or known.standing not in STANDINGS:
        raise errors.UnknownStanding("No such standing.", line=line)


def check_rules(rules: Rules) -> None:
    _check_is(rules, Rules, "the house rules", "")
    share, budget = rules.concentration_ppm, rules.foundation_budget_micros
    if share is not None:
        whole(share, "concentration_ppm")
        if not 1 <= share <= 1_000_000:
            raise errors.CapInvalid("A share is 1 to 1,000,000 parts per million.", concentration_ppm=share)
    if budget is not None:
        whole(budget, "foundation_budget_micros")
        if budget < 0:
            raise errors.CapInvalid("A budget is not negative.", foundation_budget_micros=budget)


def check_latency(key: object, milliseconds: object) -> None:
    """A measured round trip: (vantage, site) and whole milliseconds."""
    if not isinstance(key, tuple) or len(key) != 2:
        raise errors.BadLatency("A round trip is measured between a vantage and a site.")
    for name, text in zip(("vantage", "site"), key, strict=True):
        _check_text(text, name, "")
    whole(milliseconds, "latency_ms", vantage=key[0], site=key[1])
    if cast(int, milliseconds) < 0:
        raise errors.BadLatency("A round trip is not negative.", vantage=key[0], site=key[1])


def check_zone(country: object, zone: object) -> None:
    """A country's home zone."""
    _check_country(country, "")
    _check_text(zone, "zone", "")


def _told(value: object) -> str:
    """What was handed in, for a message: never the words of an unknown object."""
    return ascii(value)[:TEXT_MAX] if isinstance(value, str | int | float | None) else type(value).__name__


def _check_is(value: object, kind: type, what: str, line: str) -> None:
    if not isinstance(value, kind):
        raise errors.BadText(f"This is not {what}.", line=line, got=type(value).__name__)


def _check_id(value: object, name: str, line: str) -> None:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise errors.BadText(f"{name} is 1 to {TEXT_MAX} letters, digits, dots, colons, dashes.", line=line, field=name)


def _check_text(value: object, name: str, line: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise errors.BadText(f"{name} is 1 to {TEXT_MAX} printable characters.", line=line, field=name)


def _check_class(value: object, line: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX or not value.isprintable():
        raise errors.UnknownClass("No such resource class.", line=line, got=_told(value))


def _check_country(value: object, line: str) -> None:
    if not (isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha() and value.isupper()):
        raise errors.UnknownCountry("A country is two capitals of ISO 3166.", line=line, got=_told(value))


def _check_tier(value: object, line: str) -> None:
    whole(value, "tier", line=line)
    if value not in range(TIER_MAX + 1):
        raise errors.UnknownTier("A tier is 0 to 3.", line=line, tier=value)


def _check_papers(value: object, line: str) -> None:
    if not isinstance(value, tuple):
        raise errors.BadText("papers is a tuple of texts.", line=line, field="papers")
    for paper in value:
        _check_id(paper, "papers", line)


def _check_targets(value: object, line: str) -> None:
    if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        raise errors.BadText("targets is a tuple of pairs, a name and its bound.", line=line, field="targets")
    try:
        check_menu(dict(value))
    except (errors.SlaError, TypeError) as wrong:
        raise errors.BadQuality(str(wrong), line=line, field="targets") from wrong
    if len(dict(value)) < len(value):
        raise errors.BadQuality("A target is named once.", line=line, field="targets")


def _check_bps(value: object, name: str, line: str) -> None:
    whole(value, name, line=line)
    if not 0 <= cast(int, value) <= ONE_BPS:
        raise errors.BadQuality(f"{name} is 0 to 10,000 basis points.", line=line, **{name: value})
