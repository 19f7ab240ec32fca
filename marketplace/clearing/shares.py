"""Who sold how much of each product, how much of what was proven, and how both changed since the window before.

A product is a resource class x home zone x tier. Owners are counted at the top: siblings of one parent are one seller.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Sum

from marketplace.catalogue.models import Window
from marketplace.clearing.books import Lines, ZoneLists, served_tier
from marketplace.clearing.models import Clearing
from marketplace.compliance.holdings import Holdings, Span
from marketplace.supply.models import Bid, NodeClass
from pricing.clearing import Outcome
from pricing.penalties import probation_units

ONE_PPM = 1_000_000
SELLERS_TO_SHOW = 3
Product = tuple[str, str, int]  # resource class, home zone, tier


@dataclass(frozen=True, slots=True)
class Churn:
    """How the sellers of one product changed from one window to the next: owners that came, left and stayed, and the
    share of the trade that is with another owner than before (parts per million)."""

    product: Product
    since: str
    entered: int
    left: int
    stayed: int
    moved_ppm: int

    @property
    def is_wide(self) -> bool:
        """Whether enough sellers stood in both windows for the public to see it."""
        return min(self.stayed + self.entered, self.stayed + self.left) >= SELLERS_TO_SHOW


def churn_between(before: dict[str, int], after: dict[str, int]) -> tuple[int, int, int, int]:
    """Return (entered, left, stayed, moved in parts per million) of two windows' unit-hours by owner; both trade.

    Moved is half the sum of the differences of shares: 0 when every owner kept its share, a million when none did.
    """
    totals = sum(before.values()), sum(after.values())
    moved = sum(abs(after.get(owner, 0) * totals[0] - before.get(owner, 0) * totals[1])
                for owner in {*before, *after})  # fmt: skip
    return (len(after.keys() - before.keys()), len(before.keys() - after.keys()), len(after.keys() & before.keys()),
            moved * ONE_PPM // (2 * totals[0] * totals[1]))  # fmt: skip


def sellers_of(outcome: Outcome, lines: Lines) -> list[dict[str, Any]]:
    """Unit-hours of each product by owner, for the window that follows; it is not published."""
    sold: dict[Product, Counter[str]] = defaultdict(Counter)
    for bid, hours in _awards(outcome):
        row = lines.bids[outcome.book.bids.ids[bid]]
        sold[product_of(outcome, bid)][row.party.owner_key] += hours
    return [{"product": list(product), "sellers": dict(sorted(owners.items()))} for product, owners in sorted(
        sold.items())]  # fmt: skip


def churn_of(clearing: Clearing) -> dict[Product, Churn]:
    """The churn of each product that also traded in the window cleared before; empty for the first one."""
    previous = Clearing.objects.filter(window__number__lt=clearing.window.number, awards__isnull=False).order_by(
        "-window__number").select_related("window").first()  # fmt: skip
    if previous is None:
        return {}
    before = {_key(row): row["sellers"] for row in previous.sellers}
    return {
        _key(row): Churn(_key(row), previous.window.name, *churn_between(before[_key(row)], row["sellers"]))
        for row in clearing.sellers if _key(row) in before
    }  # fmt: skip


def use_of(window: Window, outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Per resource class, and in it per product: unit-hours sold, offered, and proven: what may be sold by standing.

    A class that lost its standing after it had bid counts with what it offered, so nothing is sold twice over.
    """
    bids = {row["node_class"]: int(row["hours"]) for row in
            Bid.objects.filter(window=window, state="opened").order_by().values("node_class")
            .annotate(hours=Sum(F("quantity_units") * (F("end_slot") - F("start_slot"))))}  # fmt: skip
    sold: Counter[Product] = Counter()
    for bid, hours in _awards(outcome):
        sold[product_of(outcome, bid)] += hours
    offered: Counter[Product] = Counter()
    proven: Counter[Product] = Counter()
    providers: dict[Product, set[str]] = defaultdict(set)
    classes = list(NodeClass.objects.select_related("standing", "site__party", "party__parent"))
    holdings = Holdings({row.party_id for row in classes}, Span(window.starts_at, window.ends_at))
    home = ZoneLists(window).home_zones()
    for row in classes:
        tier = served_tier(row.standing.state, holdings.tier_of(row))
        product = (row.resource_class_id, home.get(row.site.country, row.site.country), tier)
        allowed = {"PROVEN": row.units, "PROBATION": probation_units(row.units)}.get(row.standing.state, 0)
        offered[product] += bids.get(row.pk, 0)
        proven[product] += max(allowed * window.slots, bids.get(row.pk, 0))
        if row.pk in bids:
            providers[product].add(row.party.owner_key)
    for code in sorted({product[0] for product, hours in proven.items() if hours}):
        own = sorted(product for product in {*proven, *sold} if product[0] == code)
        yield {
            "resource_class": code, "sold": sum(sold[each] for each in own),
            "offered": sum(offered[each] for each in own), "proven": sum(proven[each] for each in own),
            "products": [
                {"zone": zone, "tier": tier, "sold": sold[code, zone, tier], "offered": offered[code, zone, tier],
                 "proven": proven[code, zone, tier], "providers": len(providers[code, zone, tier])}
                for _, zone, tier in own if proven[code, zone, tier] or sold[code, zone, tier]
            ],
        }  # fmt: skip


def product_of(outcome: Outcome, bid: int) -> Product:
    """The product that a bid of the book serves."""
    known = outcome.book.attributes[outcome.book.bids.attributes[bid]]
    return known.resource_class, outcome.book.home_zone(known), known.tier


def _awards(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Each award as (place of its bid, unit-hours)."""
    columns = outcome.award_columns
    for bid, start, end, units in zip(
        columns.bid.tolist(), columns.start.tolist(), columns.end.tolist(), columns.units.tolist(), strict=True
    ):
        yield bid, units * (end - start)


def _key(row: dict[str, Any]) -> Product:
    code, zone, tier = row["product"]
    return str(code), str(zone), int(tier)
