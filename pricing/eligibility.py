r"""Which capacity may serve which demand: compliance comes before price.

Bids that look the same to every rule share an attribute signature `A`. Each distinct requirement is judged once against
all A; the bitmask of those it accepts is the demand's `S`. Two requirements with the same mask are one S.

    accepts[S, A] = class and country and control and tier and latency and sla and standing and not own parent

Latency is the measured round trip from the demand's vantage to the bid's site; a pair without a measurement fails any
bound. A demand over 24 slots is kept off capacity on probation; other standings than PROVEN and PROBATION never serve.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pricing.book import (
    PROBATION_SLOTS_MAX,
    Attributes,
    Book,
    DemandLine,
    Requirement,
    attributes_facts,
    canonical_json,
)

SIGNATURE_DIGITS = 16
LONG_STANDINGS = ("PROVEN",)
SHORT_STANDINGS = ("PROVEN", "PROBATION")

Latency = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Signature:
    """What the rules see of a bid. `parent` is set only where some demand of the book has that parent."""

    attributes: Attributes
    parent: str | None

    def facts(self) -> dict[str, object]:
        return {"attributes": attributes_facts(self.attributes), "parent": self.parent}

    @property
    def name(self) -> str:
        """A name that stays the same from window to window: the head of the SHA-256 of the canonical text."""
        return hashlib.sha256(canonical_json(self.facts())).hexdigest()[:SIGNATURE_DIGITS]


@dataclass(frozen=True)
class Need:
    """What the rules see of a demand. `parent` is set only where some bid of the book has that parent."""

    requirement: Requirement
    is_long: bool
    parent: str | None


@dataclass(frozen=True)
class Eligibility:
    """Signatures in the order of their canonical text, masks in the order of their bytes."""

    signatures: tuple[Signature, ...]  # [A]
    masks: tuple[tuple[int, ...], ...]  # [S] the A accepted, ascending; never empty
    signature_of_bid: tuple[int, ...]  # [bids] A
    mask_of_demand: tuple[int, ...]  # [demands] S, or -1 where no capacity complies
    emptied_by: tuple[str | None, ...]  # [demands] the first rule that left nothing, where mask_of_demand is -1


RULES: tuple[tuple[str, Callable[[Need, Signature, Latency], bool]], ...] = (
    ("class", lambda need, a, _: a.attributes.resource_class in need.requirement.accepted_classes),
    ("country", lambda need, a, _: _allowed(need.requirement.countries, a.attributes.country)),
    ("control", lambda need, a, _: all(
        _allowed(need.requirement.control_countries, country)
        for country in (a.attributes.parent_country, a.attributes.operator_country, a.attributes.keys_country)
    )),
    ("tier", lambda need, a, _: a.attributes.tier >= need.requirement.tier_min),
    ("latency", lambda need, a, latency: _within_bound(need.requirement, a.attributes.site, latency)),
    ("sla", lambda need, a, _: a.attributes.sla_bps >= need.requirement.sla_bps_min),
    ("standing", lambda need, a, _: a.attributes.standing in (LONG_STANDINGS if need.is_long else SHORT_STANDINGS)),
    ("own_parent", lambda need, a, _: need.parent is None or need.parent != a.parent),
)


def match_lines(book: Book) -> Eligibility:
    """Signatures, masks, and for each demand without any compliant capacity the first rule that emptied its mask."""
    buyers = {line.parent for line in book.demands}
    sellers = {line.parent for line in book.bids}
    bid_signatures = [Signature(b.attributes, b.parent if b.parent in buyers else None) for b in book.bids]
    signatures = sorted(set(bid_signatures), key=lambda a: canonical_json(a.facts()))
    position = {signature: index for index, signature in enumerate(signatures)}

    needs = [_need(line, sellers) for line in book.demands]
    judged = {need: _judge(need, signatures, book.latency_ms) for need in set(needs)}
    masks = sorted({mask for mask, _ in judged.values() if mask}, key=lambda mask: _mask_bytes(mask, len(signatures)))
    mask_position = {mask: index for index, mask in enumerate(masks)}
    return Eligibility(
        signatures=tuple(signatures),
        masks=tuple(masks),
        signature_of_bid=tuple(position[signature] for signature in bid_signatures),
        mask_of_demand=tuple(mask_position.get(judged[need][0], -1) for need in needs),
        emptied_by=tuple(judged[need][1] for need in needs),
    )


def _need(line: DemandLine, sellers: set[str]) -> Need:
    rule = line.requirement
    canonical = replace(
        rule,
        accepted_classes=_canonical(rule.accepted_classes) or (),
        countries=_canonical(rule.countries),
        control_countries=_canonical(rule.control_countries),
    )
    is_long = line.end_slot - line.start_slot > PROBATION_SLOTS_MAX
    return Need(canonical, is_long, line.parent if line.parent in sellers else None)


def _canonical(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


def _judge(need: Need, signatures: list[Signature], latency: Latency) -> tuple[tuple[int, ...], str | None]:
    """The accepted A; where there are none, the rule after which none was left (the first rule on an empty book)."""
    left = list(range(len(signatures)))
    for name, accepts in RULES:
        left = [index for index in left if accepts(need, signatures[index], latency)]
        if not left:
            return (), name
    return tuple(left), None


def _allowed(countries: tuple[str, ...] | None, country: str) -> bool:
    return countries is None or country in countries


def _within_bound(rule: Requirement, site: str, latency: Latency) -> bool:
    if rule.latency_ms_max is None or rule.vantage is None:
        return rule.latency_ms_max is None
    measured = latency.get((rule.vantage, site))
    return measured is not None and measured <= rule.latency_ms_max


def _mask_bytes(mask: tuple[int, ...], width: int) -> bytes:
    return sum(1 << index for index in mask).to_bytes(width // 8 + 1, "big")
