"""Reads of a clearing: awards, reasons, prices, the opened book and the public bundle.

Nothing here reads a bid of a window that has not closed: every function starts from a `Clearing`, which exists only
after the seal was lifted.
"""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BigIntegerField, Count, ExpressionWrapper, F, Q, QuerySet, Sum

from marketplace.catalogue.models import Window
from marketplace.clearing.models import PARTS, Award, Backup, Clearing, IndicativePrice, LineReason, PriceRow
from marketplace.demand.models import Demand
from marketplace.demand.selectors import FUNDED_STATES, CurveStep
from marketplace.parties.models import Party
from marketplace.supply.models import Bid

AWARD_HOURS = ExpressionWrapper(F("units") * (F("end_slot") - F("start_slot")), output_field=BigIntegerField())
BID_HOURS = ExpressionWrapper(
    F("quantity_units") * (F("end_slot") - F("start_slot")), output_field=BigIntegerField()
)
ZIP_DATE = (2000, 1, 1, 0, 0, 0)  # a fixed date: the same bundle is the same bytes


@dataclass(frozen=True)
class ProductPrice:
    """What one product traded at: unit-hours, mean price (micro-USD per unit-hour), distinct parties per side."""

    resource_class: str
    tier: int
    unit_hours: int
    mean_micros: int
    low_micros: int
    high_micros: int
    buyers: int
    providers: int

    @property
    def is_wide_enough(self) -> bool:
        """At least three parties on each side, so that more than price and volume may be shown."""
        return self.buyers >= 3 and self.providers >= 3


@dataclass(frozen=True)
class ReasonCount:
    """How many lines of a side were not filled for one reason, and by how many unit-hours."""

    side: str
    code: str
    lines: int
    unit_hours: int


def find_clearing(window: Window) -> Clearing | None:
    """Return the window's clearing, or None before it."""
    return Clearing.objects.filter(window=window).first()


def last_clearing() -> Clearing | None:
    """Return the newest clearing with at least one award, or None."""
    return (
        Clearing.objects.filter(awards__isnull=False).order_by("-window__number").select_related("window").first()
    )


def find_clearing_by_number(number: int) -> Clearing | None:
    """Return the clearing of the window with that number on chain, or None."""
    return Clearing.objects.filter(window__number=number).select_related("window").first()


def awards_of_demand(demand: Demand) -> QuerySet[Award]:
    """Return the awards of one demand with provider and site."""
    return demand.awards.select_related(
        "bid__node_class__site", "bid__party", "bid__node_class", "backup__bid__party", "backup__bid__node_class__site"
    ).order_by("bid", "start_slot")


def backups_of(demand: Demand, bid: Bid) -> list[Backup]:
    """Return the backups of what one bid serves of one demand, one of each provider, site and strike price."""
    rows = Backup.objects.filter(award__demand=demand, award__bid=bid).order_by("strike_price_micros", "award_id")
    found = rows.select_related("bid__party", "bid__node_class__site")
    return list({(b.bid_id, b.strike_price_micros): b for b in found}.values())


def parts_of(awards: Iterable[Award]) -> list[tuple[str, int, int]]:
    """Return (part, micro-USD, parts per million of the whole) of what the awards cost; the money adds up exactly.

    Empty without an award, and for awards from before the parts were kept.
    """
    sums: dict[str, int] = dict.fromkeys(PARTS, 0)
    for award in awards:
        if not award.parts_micros:
            return []
        for name, micros in award.parts_micros.items():
            sums[name] += micros
    whole = sum(sums.values())
    return [(name, micros, 1_000_000 * micros // whole) for name, micros in sums.items()] if whole else []


def indicative_prices(window: Window) -> QuerySet[IndicativePrice]:
    """Return what the window's funded demand would meet in reference supply, class by class."""
    return window.indicative_prices.select_related("resource_class").order_by("resource_class_id")


def awards_sold_by(party: Party) -> QuerySet[Award]:
    """Return the awards of a provider's own bids, newest window first."""
    return (
        Award.objects.filter(bid__party=party)
        .select_related("clearing__window", "bid__node_class", "demand")
        .order_by("-clearing__window__number", "bid", "start_slot", "id")
    )


def reason_of_demand(demand: Demand) -> LineReason | None:
    """Return the one reason for what was not filled, or None."""
    return demand.reasons.first()


def reasons_of_bids(bids: Iterable[Bid]) -> dict[UUID, LineReason]:
    """Return the reason of each bid that has one."""
    return {reason.bid_id: reason for reason in LineReason.objects.filter(bid__in=list(bids))}


def count_reasons(clearing: Clearing) -> list[ReasonCount]:
    """Return how many lines each reason left unfilled, by side, the most unit-hours first."""
    rows = clearing.reasons.order_by().values("side", "code").annotate(n=Count("pk"), hours=Sum("unfilled_unit_hours"))
    counts = [ReasonCount(r["side"], r["code"], r["n"], int(r["hours"] or 0)) for r in rows]
    return sorted(counts, key=lambda c: (c.side != "demand", -c.unit_hours, c.code))


def products_of(clearing: Clearing, countries: set[str] | None = None) -> list[ProductPrice]:
    """Return what each resource class and tier traded at, in all countries or only in `countries`."""
    awards = clearing.awards.all()
    rows = clearing.price_rows.all()
    if countries is not None:
        awards = awards.filter(bid__node_class__site__country__in=countries)
        rows = rows.filter(country__in=countries)
    spans = _price_spans(rows)
    sums = (
        awards.order_by()
        .values("bid__node_class__resource_class", "bid__node_class__tier")
        .annotate(
            hours=Sum(AWARD_HOURS), money=Sum("amount_micros"),
            buyers=Count("demand__party", distinct=True), providers=Count("bid__party", distinct=True),
        )
    )
    found = []
    for row in sums:
        key = (row["bid__node_class__resource_class"], row["bid__node_class__tier"])
        hours, money = int(row["hours"]), int(row["money"])
        mean = (2 * money + hours) // (2 * hours)
        low, high = spans.get(key, (mean, mean))
        found.append(ProductPrice(*key, hours, mean, low, high, row["buyers"], row["providers"]))
    return sorted(found, key=lambda p: (-p.unit_hours, p.resource_class, p.tier))


def _price_spans(rows: QuerySet[PriceRow]) -> dict[tuple[str, int], tuple[int, int]]:
    spans: dict[tuple[str, int], tuple[int, int]] = {}
    for resource_class, tier, prices in rows.values_list("resource_class", "tier", "slot_prices_micros"):
        traded = [p for p in prices if p is not None]
        if traded:
            low, high = spans.get((resource_class, tier), (traded[0], traded[0]))
            spans[resource_class, tier] = (min(low, *traded), max(high, *traded))
    return spans


def middle_half_micros(clearing: Clearing, resource_class: str, countries: set[str] | None) -> tuple[int, int] | None:
    """Return the award prices between which the middle half of a class's volume traded; None without a trade."""
    awards = clearing.awards.filter(bid__node_class__resource_class_id=resource_class)
    if countries is not None:
        awards = awards.filter(bid__node_class__site__country__in=countries)
    rows = sorted((money // int(hours), int(hours)) for money, hours in
                  awards.annotate(hours=AWARD_HOURS).values_list("amount_micros", "hours"))  # fmt: skip
    total, seen, marks = sum(hours for _, hours in rows), 0, []
    for price, hours in rows:
        seen += hours
        while len(marks) < 2 and 4 * seen >= total * (1, 3)[len(marks)]:
            marks.append(price)
    return (marks[0], marks[1]) if marks else None


def opened_demand(clearing: Clearing, resource_class: str, countries: set[str] | None) -> list[CurveStep]:
    """Return the funded demand of a cleared window that accepts a class; with countries: that may be served there."""
    lines = Demand.objects.filter(
        window_id=clearing.window_id, accepted_classes__contains=[resource_class], state__in=FUNDED_STATES
    ).exclude(hold_id=None)
    if countries is not None:
        lines = lines.filter(Q(zone=None) | Q(zone__members__country__in=countries)).distinct()
    lines = lines.order_by("-price_limit_micros", "accepted_rank")
    return [CurveStep(d.price_limit_micros, d.unit_hours) for d in lines]


def opened_supply(clearing: Clearing, resource_class: str, countries: set[str] | None) -> list[CurveStep]:
    """Return the opened bids of a cleared window for a class, as steps of ask and unit-hours."""
    bids = Bid.objects.filter(window_id=clearing.window_id, node_class__resource_class_id=resource_class)
    bids = bids.exclude(state__in=("sealed", "withdrawn")).annotate(hours=BID_HOURS)
    if countries is not None:
        bids = bids.filter(node_class__site__country__in=countries)
    return [CurveStep(ask, int(hours)) for ask, hours in
            bids.order_by("price_ask_micros", "accepted_rank").values_list("price_ask_micros", "hours")]


def parties_per_side(clearing: Clearing) -> dict[str, tuple[int, int]]:
    """Return, per resource class, how many distinct buyers and providers stood in the opened book."""
    bids = Bid.objects.filter(window_id=clearing.window_id).exclude(state__in=("sealed", "withdrawn"))
    providers: dict[str, set] = defaultdict(set)
    for code, party in bids.values_list("node_class__resource_class_id", "party_id"):
        providers[code].add(party)
    buyers: dict[str, set] = defaultdict(set)
    demands = Demand.objects.filter(window_id=clearing.window_id, state__in=FUNDED_STATES).exclude(hold_id=None)
    for codes, party in demands.values_list("accepted_classes", "party_id"):
        for code in codes:
            buyers[code].add(party)
    return {code: (len(buyers[code]), len(providers[code])) for code in {*buyers, *providers}}


def sold_and_proven(clearing: Clearing) -> list[tuple[str, int, int]]:
    """Return (resource class, sold, proven and available) unit-hours of the window, the largest class first.

    Of a clearing from before proven hours were kept: offered ones instead.
    """
    if clearing.use:
        kept = ((row["resource_class"], row["sold"], row["proven"]) for row in clearing.use)
        return sorted(kept, key=lambda r: (-r[2], r[0]))
    bids = Bid.objects.filter(window_id=clearing.window_id).exclude(state__in=("sealed", "withdrawn"))
    offered = dict(bids.order_by().values_list("node_class__resource_class").annotate(hours=Sum(BID_HOURS)))
    sold = dict(clearing.awards.order_by().values_list("bid__node_class__resource_class").annotate(h=Sum(AWARD_HOURS)))
    rows = [(code, int(sold.get(code, 0)), int(hours)) for code, hours in offered.items()]
    return sorted(rows, key=lambda r: (-r[2], r[0]))


@dataclass(frozen=True)
class ProductUse:
    """What of one product was sold, of what was proven and available; None where too few owners stand behind it."""

    resource_class: str
    zone: str
    tier: int
    providers: int
    sold: int | None
    proven: int | None

    @property
    def share_ppm(self) -> int | None:
        return 1_000_000 * self.sold // self.proven if self.proven and self.sold is not None else None


def product_use(clearing: Clearing, least: int) -> list[ProductUse]:
    """Return the use of each product, the largest first; figures only from `least` owners and as many buyers on."""
    buyers = {code: sides[0] for code, sides in parties_per_side(clearing).items()}
    found = []
    for row in clearing.use:
        for each in row.get("products", []):
            is_wide = min(each["providers"], buyers.get(row["resource_class"], 0)) >= least
            figures = (each["sold"], each["proven"]) if is_wide else (None, None)
            found.append(ProductUse(row["resource_class"], each["zone"], each["tier"], each["providers"], *figures))
    return sorted(found, key=lambda p: (-(p.proven or 0), p.resource_class, p.zone, p.tier))


def totals_of(clearing: Clearing) -> dict[str, int]:
    """Return awards, unit-hours and money (micro-USD) of a clearing."""
    sums = clearing.awards.aggregate(awards=Count("pk"), hours=Sum(AWARD_HOURS), money=Sum("amount_micros"))
    return {"awards": sums["awards"], "unit_hours": int(sums["hours"] or 0), "micros": int(sums["money"] or 0)}


def bundle_zip(clearing: Clearing) -> bytes:
    """Return the public bundle as a zip of exactly the hashed files; the same bundle gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in clearing.files.order_by("name").values_list("name", "body"):
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), bytes(body), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
