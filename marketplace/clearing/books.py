"""The book of a window: its sealed lines under pseudonyms, the house's rules, and the way back from them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from marketplace.catalogue.models import Window, Zone
from marketplace.catalogue.services import zone_countries
from marketplace.clearing.models import Clearing
from marketplace.clearing.papers import Papers
from marketplace.demand.models import Demand
from marketplace.supply.models import Bid, SiteLatency
from pricing.book import PRICE_MAX_MICROS, Book, adjusted_ask_micros, make_book
from pricing.lines import STANDINGS, Attributes, BidLine, DemandLine, Requirement, Rules
from pricing.penalties import PROBATION_TIER_MAX, quality_bps


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of one window under the pseudonyms of its public bundle."""

    demands: dict[str, Demand]
    bids: dict[str, Bid]
    frozen: frozenset[UUID] = frozenset()  # bids that an incident keeps out


class Pseudonyms:
    """Names for the public bundle: the same within a window, unlinkable between windows.

    Each is a commitment with a key of its own: whoever is given the key of one can show that it is his, and no other.
    """

    can_be_opened = True

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def of(self, *parts: str) -> str:
        return opened_name(self.key(*parts), list(parts))

    def key(self, *parts: str) -> bytes:
        """Return the key that opens one name, for the party whose name it is; 32 bytes."""
        return hmac.digest(self._salt, "\x00".join(parts).encode(), "sha256")


class SealedNames(Pseudonyms):
    """The names of bundles from before 0.3: one salt hides them all, so that nobody can be shown one of them."""

    can_be_opened = False

    def of(self, *parts: str) -> str:
        return f"{parts[0][0]}-{self.key(*parts).hex()[:20]}"


def names_of(clearing: Clearing) -> Pseudonyms:
    """The names under which a clearing was published; what was published once keeps them."""
    salt = bytes(clearing.window.pseudonym_salt)
    award = clearing.awards.select_related("demand__party").first()
    if award is None:
        return Pseudonyms(salt)
    sealed, (body,) = SealedNames(salt), clearing.files.filter(name="awards.jsonl").values_list("body", flat=True)
    known = sealed.of("demand", award.demand.party.slug, award.demand.reference)
    return sealed if known.encode() in bytes(body) else Pseudonyms(salt)


def opened_name(key: bytes, parts: list[str]) -> str:
    """Return the name that a key and what it hides give (also in `payout/offline.py`, which imports nothing)."""
    return f"{parts[0][0]}-{hashlib.sha256(key + chr(0).join(parts).encode()).hexdigest()[:20]}"


def build_book(*, window: Window) -> tuple[Book, Lines]:
    """The sealed lines of a window under pseudonyms that are fresh for it, and the way back from them."""
    opened = Bid.objects.filter(window=window, state="opened")
    return make_window_book(window, funded_demands(window), _with_attributes(opened))


def funded_demands(window: Window) -> list[Demand]:
    """The funded demand of a window in the order of acceptance."""
    rows = Demand.objects.filter(window=window, state="funded").order_by("accepted_rank")
    return list(rows.select_related("party__parent", "zone", "control_zone", "sla", "data_class"))


def _with_attributes(bids: QuerySet[Bid]) -> list[Bid]:
    rows = bids.select_related("party__parent", "node_class__site__party", "node_class__standing", "sla")
    return list(rows.prefetch_related("node_class__calendar_rules__week").order_by("accepted_rank"))


def cleared_bids(window: Window) -> list[Bid]:
    """The opened bids of a window that was cleared; none of any other."""
    return _with_attributes(Bid.objects.filter(window=window, window__clearing__isnull=False,
                                               state__in=("awarded", "lost")))  # fmt: skip


def make_window_book(
    window: Window, demands: Iterable[Demand], bids: Iterable[Bid], *, like: Window | None = None
) -> tuple[Book, Lines]:
    """The book of these lines. With `like`, the window that the bids come from: their slots are stretched to ours."""
    name = Pseudonyms(bytes(window.pseudonym_salt))
    zones = ZoneLists(window)
    demands, papers = list(demands), Papers(window, demands, bids := list(bids), name.of)
    lines = Lines(
        demands={name.of("demand", d.party.slug, d.reference): d for d in demands},
        bids={name.of("bid", b.party.slug, b.reference): b for b in bids if not papers.is_frozen(b)},
        frozen=frozenset(b.pk for b in bids if papers.is_frozen(b)),
    )
    slots_before = (like or window).slots
    bid_lines = [_bid_line(key, row, name, papers, slots=window.slots, slots_before=slots_before)
                 for key, row in lines.bids.items()]  # fmt: skip
    for line in bid_lines:
        # An ask that a poor quality score lifts above every price could win nothing, and one such line would make the
        # engine refuse the whole book.
        if adjusted_ask_micros(line) > PRICE_MAX_MICROS:
            del lines.bids[line.id]
    book = make_book(
        slots=window.slots,
        demands=[_demand_line(key, row, name, zones, papers) for key, row in lines.demands.items()],
        bids=[line for line in bid_lines if line.id in lines.bids],
        latency_ms={
            (row.vantage_id, name.of("site", row.site.code)): row.rtt_ms_p95
            for row in SiteLatency.objects.select_related("site")
        },
        rules=Rules(window.concentration_ppm, window.foundation_budget_micros),
        home_zones=zones.home_zones(),
    )
    return book, lines


def _demand_line(key: str, row: Demand, name: Pseudonyms, zones: ZoneLists, papers: Papers) -> DemandLine:
    return DemandLine(
        id=key, parent=name.of("owner", row.party.owner_key), kind=row.kind, quantity_units=row.quantity_units,
        start_slot=row.start_slot, end_slot=row.end_slot, price_limit_micros=row.price_limit_micros,
        accepted_rank=row.accepted_rank, minimum_units=row.minimum_units, is_one_site=row.is_one_site,
        choice=name.of("choice", row.party.slug, row.choice) if row.choice else None,
        is_foundation=row.party.is_foundation,
        requirement=Requirement(
            accepted_classes=tuple(row.accepted_classes), countries=zones.of(row.zone),
            control_countries=zones.of(row.control_zone), tier_min=row.tier_min, vantage=row.vantage_id,
            latency_ms_max=row.latency_ms_max, sla_bps_min=row.sla.availability_bps, papers=papers.asked_by(row),
            targets=tuple(sorted(row.sla_targets.items())),
        ),
    )  # fmt: skip


def served_tier(standing: str, tier: int) -> int:
    """The tier that a class may serve: T1 at most while on probation, whatever it is attested for."""
    return min(tier, PROBATION_TIER_MAX) if standing == "PROBATION" else tier


def _bid_line(
    key: str, row: Bid, name: Pseudonyms, papers: Papers, *, slots: int, slots_before: int
) -> BidLine:  # fmt: skip
    node_class, standing = row.node_class, row.node_class.standing
    return BidLine(
        id=key, parent=name.of("owner", row.party.owner_key), quantity_units=row.quantity_units,
        start_slot=row.start_slot * slots // slots_before, end_slot=-(-row.end_slot * slots // slots_before),
        price_ask_micros=row.price_ask_micros, minimum_units=row.minimum_units,
        quality_bps=quality_bps(standing.good_hours, standing.bad_hours), accepted_rank=row.accepted_rank,
        attributes=Attributes(
            resource_class=node_class.resource_class_id, country=node_class.site.country,
            parent_country=row.party.ultimate_country, operator_country=node_class.site.operator_country,
            keys_country=node_class.site.keys_country, tier=served_tier(standing.state, papers.tier_of(row)),
            papers=papers.held_by(row),
            site=name.of("site", node_class.site.code), sla_bps=row.sla.availability_bps,
            targets=tuple(sorted((row.sla_targets or {}).items())),
            # A class on its way out of the market serves nobody, and is no reason to refuse the book.
            standing=standing.state if standing.state in STANDINGS else "SUSPENDED",
        ),
    )  # fmt: skip


class ZoneLists:
    """Member lists at the delivery date, read once per zone."""

    def __init__(self, window: Window) -> None:
        self._on = window.starts_at.date()
        self._known: dict[str, tuple[str, ...]] = {}

    def of(self, zone: Zone | None) -> tuple[str, ...] | None:
        if zone is None:
            return None
        if zone.pk not in self._known:
            self._known[zone.pk] = zone_countries(zone=zone, on=self._on)
        return self._known[zone.pk]

    def home_zones(self) -> dict[str, str]:
        """The smallest listed zone of every country that is in one; of two as small the first by name."""
        home: dict[str, tuple[int, str]] = {}
        for zone in Zone.objects.all():
            members = self.of(zone) or ()
            for country in members:
                size = (len(members), zone.pk)
                home[country] = min(home.get(country, size), size)
        return {country: code for country, (_, code) in sorted(home.items())}
