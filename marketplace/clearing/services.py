"""Clearing: the book of a window in, awards with prices, reasons and a certificate out, all or nothing."""

from __future__ import annotations

import hmac
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from ledger.faults import point
from ledger.ids import uuid7
from ledger.rails import sender
from ledger.services import void_hold
from marketplace.catalogue.models import Window, Zone
from marketplace.catalogue.services import move_window, zone_countries
from marketplace.clearing.models import Award, BundleFile, Clearing, LineReason, PriceRow
from marketplace.demand.models import Demand
from marketplace.demand.services import freeze_demand, funded_figures, release_holds
from marketplace.errors import CertificateRefused, WindowClosed
from marketplace.governance.services import record
from marketplace.supply.models import Bid, SiteLatency
from pricing.book import PRICE_MAX_MICROS, Book, adjusted_ask_micros, make_book
from pricing.bundle import bundle_hash, public_bundle
from pricing.clearing import Outcome, clear
from pricing.lines import Attributes, BidLine, DemandLine, Requirement
from pricing.penalties import quality_bps
from pricing.verify import verify_bundle

RULE_VERSION = "2026-11"


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of one window under the pseudonyms of its public bundle."""

    demands: dict[str, Demand]
    bids: dict[str, Bid]


@transaction.atomic
def judge_gate(*, window: Window, now: datetime) -> str:
    """Open bidding when funded demand passes the gate, or fail the window when its time is over.

    Returns the state the window is in afterwards. A failed window releases every hold in the same transaction.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "COLLECTING" or now < locked.demand_closes_at:
        return locked.state
    figures = funded_figures(window=locked)
    met = figures["funded_unit_hours"] >= locked.gate_unit_hours and figures["funded_parties"] >= locked.gate_parties
    facts = {"gate_unit_hours": locked.gate_unit_hours, "gate_parties": locked.gate_parties, **figures}
    if met:
        freeze_demand(window=locked, now=now)
        return move_window(
            window=locked, to_state="BIDDING", reason="funded demand passed the gate", now=now, **facts
        ).state
    release_holds(window=locked, now=now)
    return move_window(window=locked, to_state="FAILED", reason="funded demand missed the gate", now=now, **facts).state


@transaction.atomic
def close_bidding(*, window: Window, now: datetime) -> str:
    """Open the sealed bids once bidding is over; returns the state afterwards."""
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "BIDDING" or now < locked.bidding_closes_at:
        return locked.state
    opened = Bid.objects.filter(window=locked, state="sealed").update(state="opened")
    return move_window(window=locked, to_state="CLEARING", reason="bidding closed", now=now, bids=opened).state


def clear_window(*, window: Window, now: datetime) -> Clearing:
    """Clear a window in CLEARING, check the certificate with the independent verifier, publish.

    Clearing again returns the result that stands. Raises WindowClosed, ClearingError or CertificateRefused, and then
    nothing is written.
    """
    standing = Clearing.objects.filter(window=window).first()
    if standing:
        return standing
    state = Window.objects.get(pk=window.pk).state
    if state != "CLEARING":
        raise WindowClosed("Only a window in CLEARING is cleared.", window=window.name, state=state)
    book, lines = build_book(window=window)
    outcome = clear(book)
    files = public_bundle(outcome, window=window.name)
    report = verify_bundle(files)
    if not report.ok:
        failed = [check.name for check in report.checks if not check.ok]
        raise CertificateRefused("The verifier does not confirm this clearing.", failed=failed)
    point("clearing.publish.before_commit")
    return _publish(window, book, outcome, files, lines, now)


def build_book(*, window: Window) -> tuple[Book, Lines]:
    """The sealed lines of a window under pseudonyms that are fresh for it, and the way back from them."""
    demands = list(
        Demand.objects.filter(window=window, state="funded")
        .select_related("party__parent", "zone", "control_zone", "sla").order_by("accepted_rank")
    )  # fmt: skip
    bids = list(
        Bid.objects.filter(window=window, state="opened")
        .select_related("party__parent", "node_class__site", "node_class__standing", "sla").order_by("accepted_rank")
    )  # fmt: skip
    name = _Pseudonyms(bytes(window.pseudonym_salt))
    countries = _ZoneLists(window)
    lines = Lines(
        demands={name.of("demand", d.party.slug, d.reference): d for d in demands},
        bids={name.of("bid", b.party.slug, b.reference): b for b in bids},
    )
    bid_lines = [_bid_line(key, row, name) for key, row in lines.bids.items()]
    for line in bid_lines:
        # An ask that a poor quality score lifts above every price could win nothing, and one such line would make the
        # engine refuse the whole book.
        if adjusted_ask_micros(line) > PRICE_MAX_MICROS:
            del lines.bids[line.id]
    book = make_book(
        slots=window.slots,
        demands=[_demand_line(key, row, name, countries) for key, row in lines.demands.items()],
        bids=[line for line in bid_lines if line.id in lines.bids],
        latency_ms={
            (row.vantage_id, name.of("site", row.site.code)): row.rtt_ms_p95
            for row in SiteLatency.objects.select_related("site")
        },
    )
    return book, lines


def _demand_line(key: str, row: Demand, name: _Pseudonyms, countries: _ZoneLists) -> DemandLine:
    return DemandLine(
        id=key, parent=name.of("owner", row.party.owner_key), kind=row.kind, quantity_units=row.quantity_units,
        start_slot=row.start_slot, end_slot=row.end_slot, price_limit_micros=row.price_limit_micros,
        accepted_rank=row.accepted_rank,
        requirement=Requirement(
            accepted_classes=tuple(row.accepted_classes), countries=countries.of(row.zone),
            control_countries=countries.of(row.control_zone), tier_min=row.tier_min, vantage=row.vantage_id,
            latency_ms_max=row.latency_ms_max, sla_bps_min=row.sla.availability_bps,
        ),
    )  # fmt: skip


def _bid_line(key: str, row: Bid, name: _Pseudonyms) -> BidLine:
    node_class, standing = row.node_class, row.node_class.standing
    return BidLine(
        id=key, parent=name.of("owner", row.party.owner_key), quantity_units=row.quantity_units,
        start_slot=row.start_slot, end_slot=row.end_slot, price_ask_micros=row.price_ask_micros,
        quality_bps=quality_bps(standing.good_hours, standing.bad_hours), accepted_rank=row.accepted_rank,
        attributes=Attributes(
            resource_class=node_class.resource_class_id, country=node_class.site.country,
            parent_country=row.party.parent_country, operator_country=node_class.site.operator_country,
            keys_country=node_class.site.keys_country, tier=node_class.tier,
            site=name.of("site", node_class.site.code), sla_bps=row.sla.availability_bps, standing=standing.state,
        ),
    )  # fmt: skip


@transaction.atomic
def _publish(
    window: Window, book: Book, outcome: Outcome, files: dict[str, bytes], lines: Lines, now: datetime
) -> Clearing:
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "CLEARING":  # a twin was faster
        return Clearing.objects.get(window=locked)
    clearing = Clearing.objects.create(
        id=uuid7(now), window=locked, rule_version=RULE_VERSION, bundle_hash=bundle_hash(files),
        welfare_micros=outcome.welfare_micros, bound_micros=outcome.bound_micros, gap_micros=outcome.gap_micros,
        demand_lines=len(book.demands), bid_lines=len(book.bids), cleared_at=now,
    )  # fmt: skip
    BundleFile.objects.bulk_create(BundleFile(clearing=clearing, name=n, body=b) for n, b in sorted(files.items()))
    _write_awards(clearing, outcome, lines, now)
    _write_prices(clearing, book, outcome)
    _write_reasons(clearing, outcome, lines)
    _mark_lines(clearing, lines, now)
    sender.submit(
        key=f"bundle:{locked.number}", role="anchor", contract="anchor", function="bundle",
        args=[locked.number, bundle_hash(files)], now=now,
    )  # fmt: skip
    move_window(
        window=locked, to_state="CLEARED", reason="certificate confirmed by the verifier", now=now,
        welfare_micros=outcome.welfare_micros, gap_micros=outcome.gap_micros, bundle=bundle_hash(files).hex(),
    )  # fmt: skip
    return clearing


def _write_awards(clearing: Clearing, outcome: Outcome, lines: Lines, now: datetime) -> None:
    Award.objects.bulk_create(
        (
            Award(
                id=uuid7(now), clearing=clearing, demand=lines.demands[line.demand_id], bid=lines.bids[line.bid_id],
                start_slot=line.start_slot, end_slot=line.end_slot, units=line.units,
                amount_micros=line.amount_micros,
                slot_prices_micros=[
                    outcome.price_of(line.bid_id, slot) for slot in range(line.start_slot, line.end_slot)
                ],
            )
            for line in outcome.awards
        ),
        batch_size=1000,
    )  # fmt: skip


def _write_prices(clearing: Clearing, book: Book, outcome: Outcome) -> None:
    by_signature: dict[str, list[int | None]] = defaultdict(lambda: [None] * book.slots)
    for row in outcome.prices:
        by_signature[row.signature][row.slot] = row.price_micros
    attributes = {bid.id: bid.attributes for bid in book.bids}
    known = {signature: attributes[bid_id] for bid_id, signature in outcome.signature_of}
    PriceRow.objects.bulk_create(
        PriceRow(
            clearing=clearing, signature=signature, resource_class=facts.resource_class, country=facts.country,
            tier=facts.tier, slot_prices_micros=by_signature[signature],
        )
        for signature, facts in sorted(known.items())
    )  # fmt: skip


def _write_reasons(clearing: Clearing, outcome: Outcome, lines: Lines) -> None:
    rows = [
        LineReason(
            clearing=clearing, side=line.side, code=line.code, detail=dict(line.detail),
            demand=lines.demands[line.line_id] if line.side == "demand" else None,
            bid=lines.bids[line.line_id] if line.side == "bid" else None,
            unfilled_unit_hours=line.unfilled_unit_hours,
        )
        for line in outcome.reasons
    ]  # fmt: skip
    turned_away = {"unfunded": "not_funded", "withdrawn": "withdrawn"}
    rows += [
        LineReason(
            clearing=clearing, side="demand", code=turned_away[row.state], demand=row,
            unfilled_unit_hours=row.unit_hours,
        )
        for row in Demand.objects.filter(window=clearing.window, state__in=turned_away)
    ]  # fmt: skip
    rows += [
        LineReason(
            clearing=clearing, side="bid", code="withdrawn", bid=row,
            unfilled_unit_hours=row.unit_hours,
        )
        for row in Bid.objects.filter(window=clearing.window, state="withdrawn")
    ]  # fmt: skip
    left_out = Bid.objects.filter(window=clearing.window, state="opened")
    rows += [
        LineReason(
            clearing=clearing, side="bid", code="not_eligible", detail={"rule": "quality"}, bid=row,
            unfilled_unit_hours=row.unit_hours,
        )
        for row in left_out.exclude(pk__in=[bid.pk for bid in lines.bids.values()])
    ]  # fmt: skip
    LineReason.objects.bulk_create(rows, batch_size=1000)


def _mark_lines(clearing: Clearing, lines: Lines, now: datetime) -> None:
    """Say who won; release the holds of those who won nothing, in this same transaction."""
    won_demands = set(Award.objects.filter(clearing=clearing).values_list("demand_id", flat=True))
    won_bids = set(Award.objects.filter(clearing=clearing).values_list("bid_id", flat=True))
    lost = [row for row in lines.demands.values() if row.pk not in won_demands]
    for row in lost:
        void_hold(id=row.hold_id, now=now)
    Demand.objects.filter(pk__in=won_demands).update(state="awarded")
    Demand.objects.filter(pk__in=[row.pk for row in lost]).update(state="lost")
    Bid.objects.filter(pk__in=won_bids).update(state="awarded")
    Bid.objects.filter(window=clearing.window, state="opened").update(state="lost")
    record(
        actor="market", action="publish_clearing", subject=clearing.window.name, reason="awards and reasons written",
        now=now, awarded=len(won_demands), lost=len(lost), bids_awarded=len(won_bids),
    )  # fmt: skip


class _Pseudonyms:
    """Names for the public bundle: the same within a window, unlinkable between windows."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def of(self, *parts: str) -> str:
        digest = hmac.digest(self._salt, "\x00".join(parts).encode(), "sha256").hex()
        return f"{parts[0][0]}-{digest[:20]}"


class _ZoneLists:
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


def verify_published(*, clearing: Clearing) -> Sequence[str]:
    """What is wrong with a published clearing: the verifier's failed checks, and awards that differ from the bundle."""
    files = {row.name: bytes(row.body) for row in clearing.files.all()}
    report = verify_bundle(files)
    wrong = [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]
    if bundle_hash(files) != bytes(clearing.bundle_hash):
        wrong.append("bundle_hash: the stored bundle is not the one that was published")
    if report.welfare_micros != clearing.welfare_micros:
        wrong.append("welfare: the row differs from the bundle")
    return wrong or _awards_that_differ(clearing, files)  # a damaged bundle is no measure for the awards


def _awards_that_differ(clearing: Clearing, files: dict[str, bytes]) -> list[str]:
    name = _Pseudonyms(bytes(clearing.window.pseudonym_salt))
    published = {
        (row["demand_id"], row["bid_id"], row["start_slot"], row["end_slot"], row["units"], row["amount_micros"])
        for row in map(json.loads, files["awards.jsonl"].splitlines())
    }
    rows = clearing.awards.select_related("demand__party", "bid__party")
    kept = {
        (
            name.of("demand", row.demand.party.slug, row.demand.reference),
            name.of("bid", row.bid.party.slug, row.bid.reference),
            row.start_slot, row.end_slot, row.units, row.amount_micros,
        )
        for row in rows
    }  # fmt: skip
    wrong = [f"award: {len(published ^ kept)} awards differ from the bundle"] if published ^ kept else []
    priced = [row for row in rows if row.units * sum(row.slot_prices_micros) != row.amount_micros]
    return wrong + ([f"award: {len(priced)} amounts are not units x price"] if priced else [])
