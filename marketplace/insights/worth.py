"""What a buyer says a demand is worth: pain, present spend, the incumbent's quote, and price curves (M-002 to M-004).

Stated while the window collects demand, so that nobody names a counterfactual once prices are known. A buyer may also
say what hurts before it has a demand. Each statement is a new version; the last one counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from ledger.ids import uuid7
from marketplace.catalogue.limits import require_name, require_price, require_whole
from marketplace.catalogue.models import Window
from marketplace.demand.models import Demand
from marketplace.errors import BadInput, NotYours, WindowClosed
from marketplace.governance.services import record
from marketplace.insights.models import SEGMENTS, DemandStatement
from marketplace.parties.models import Party
from pricing.curves import check_curve, reach
from pricing.errors import EstimateError

Curves = Mapping[str, Sequence[Sequence[int]]]

# attribute -> words; a demand's curve without it is asked for only where the demand names it
ATTRIBUTES = {"zone": "zone", "control": "legal control", "tier": "tier", "latency": "latency bound"}
SEGMENT_OF_KIND = {"enterprise_buyer": "enterprise", "public_buyer": "public_sector", "research_buyer": "research"}
SPEND_MAX_USD = 10**12
PAIN_MAX = 1000


def attributes_of(demand: Demand) -> list[str]:
    """Return which attributes a demand names, so that a curve without each can be asked for."""
    named = {
        "zone": demand.zone_id, "control": demand.control_zone_id, "tier": demand.tier_min,
        "latency": demand.latency_ms_max,
    }  # fmt: skip
    return [name for name, value in named.items() if value]


def statement_of(demand: Demand) -> DemandStatement | None:
    """Return the last statement about a demand, or None."""
    return DemandStatement.objects.filter(demand=demand).order_by("-version").first()


def statement_by(party: Party) -> DemandStatement | None:
    """Return what a buyer said last about no demand in particular, or None."""
    return DemandStatement.objects.filter(party=party).order_by("-version").first()


def statements_by(party: Party) -> QuerySet[DemandStatement]:
    """Return every version a buyer stated, about its demands and about none."""
    return DemandStatement.objects.filter(Q(party=party) | Q(demand__party=party)).select_related("demand")


def told_buyers(parties: Collection[UUID]) -> set[UUID]:
    """Return which of these buyers recorded both what hurts and what they spend, wherever they said it."""
    said = DemandStatement.objects.exclude(pain="").exclude(present_usd_per_year=None).order_by()
    return {
        party for name in ("party_id", "demand__party_id")
        for party in said.filter(**{f"{name}__in": parties}).values_list(name, flat=True)
    }  # fmt: skip


def curve_givers(demands: QuerySet[Demand]) -> set[UUID]:
    """Return the buyers of these demands whose last word on one of them is a curve of two price steps at least."""
    rows = DemandStatement.objects.filter(demand__in=demands).order_by("version")
    last = {row.demand_id: (row.demand.party_id, row.curves) for row in rows.select_related("demand") if row.demand}
    return {party for party, curves in last.values() if len(curves.get("", ())) > 1}


@transaction.atomic
def state_worth(
    *,
    party: Party,
    segment: str,
    demand: Demand | None = None,
    pain: str = "",
    present_usd_per_year: int | None = None,
    incumbent: str = "",
    quote_micros: int | None = None,
    quote_latency_ms: int | None = None,
    quote_country: str = "",
    quote_source: str = "",
    quoted_on: date | None = None,
    curves: Curves | None = None,
    now: datetime,
) -> DemandStatement:
    """Record what the buyer says about its own demand, as a new version, while demand is collected.

    Without a demand it is about the buyer's needs at large: what hurts, and what is spent with whom, but no quote and
    no curve. `curves` gives steps of (micro-USD per unit-hour, units): under "" for the demand as it stands, under an
    attribute that the demand names for the same demand without it. Raises NotYours, WindowClosed, or BadInput with the
    field.
    """
    standing = _open_demand(demand, party, now) if demand is not None else None
    if standing is None:
        _require_need(party, pain, quote_micros, curves)
    if segment not in SEGMENTS:
        raise BadInput(f"A segment is one of {', '.join(SEGMENTS)}.", field="segment")
    if pain:
        _require_text(pain, field="pain", longest=PAIN_MAX)
    if present_usd_per_year is not None and not 0 <= require_whole(
        present_usd_per_year, field="present_usd_per_year"
    ) <= SPEND_MAX_USD:  # fmt: skip
        raise BadInput("A present spend is 0 to 10^12 USD a year.", field="present_usd_per_year")
    quote = _checked_quote(
        incumbent, quote_micros, quote_latency_ms, quote_country, quote_source, quoted_on, today=now.date()
    )
    last = statement_of(standing) if standing else statement_by(party)
    statement = DemandStatement.objects.create(
        id=uuid7(now), demand=standing, party=None if standing else party, version=last.version + 1 if last else 1,
        segment=segment, pain=pain, present_usd_per_year=present_usd_per_year, stated_at=now,
        curves=_checked_curves(standing, curves or {}) if standing else {}, **quote,
    )  # fmt: skip
    record(
        actor=party.slug, action="state_worth", subject=standing.pk if standing else party.slug, reason="stated",
        now=now,
        version=statement.version, has_counterfactual=statement.has_counterfactual, curves=sorted(statement.curves),
    )  # fmt: skip
    return statement


def _open_demand(demand: Demand, party: Party, now: datetime) -> Demand:
    standing = Demand.objects.filter(pk=demand.pk, party=party).first()
    if standing is None:
        raise NotYours("There is no such demand.")
    window = Window.objects.select_for_update().get(pk=standing.window_id)
    if window.state != "COLLECTING" or now >= window.demand_closes_at or standing.state == "withdrawn":
        raise WindowClosed("What a demand is worth is said before demand closes.", state=window.state)
    return standing


def _require_need(party: Party, pain: str, quote_micros: int | None, curves: Curves | None) -> None:
    """What may be said about no demand: a pain, and neither quote nor curve. Locks the buyer, to number versions."""
    if not party.is_buyer:
        raise BadInput("Only buyers have needs here.", field="party")
    if not pain:
        raise BadInput("Say what hurts today.", field="pain")
    for given, field in ((quote_micros is not None, "quote_micros"), (any((curves or {}).values()), "curve")):
        if given:
            raise BadInput("A quote and a curve are said of a demand: name it.", field=field)
    Party.objects.select_for_update(of=("self",), no_key=True).get(pk=party.pk)


def _require_text(value: object, *, field: str, longest: int) -> None:
    """Words of more than one line; require_name takes one line only."""
    if not isinstance(value, str) or not value.strip() or len(value) > longest or "\x00" in value:
        raise BadInput(f"Say it in 1 to {longest} characters.", field=field)


def _checked_quote(
    incumbent: str, quote_micros: int | None, latency_ms: int | None, country: str, source: str,
    quoted_on: date | None, *, today: date,
) -> dict[str, Any]:  # fmt: skip
    """The counterfactual whole or not at all: who quoted which price, when, and where that can be seen."""
    if quote_micros is None:
        for value, field in ((source, "quote_source"), (quoted_on, "quoted_on"), (latency_ms, "quote_latency_ms"),
                             (country, "quote_country")):  # fmt: skip
            if value:
                raise BadInput("A quote has a price; leave its other parts out without one.", field=field)
        if incumbent:
            require_name(incumbent, field="incumbent", longest=120)
        return {"incumbent": incumbent}
    price = require_price(quote_micros, field="quote_micros")
    require_name(incumbent, field="incumbent", longest=120)
    require_name(source, field="quote_source", longest=300)
    if quoted_on is None or quoted_on > today:
        raise BadInput("A quote was made on a day that is not in the future.", field="quoted_on")
    if latency_ms is not None and not 1 <= require_whole(latency_ms, field="quote_latency_ms") <= 10_000:
        raise BadInput("A latency is 1 to 10,000 ms.", field="quote_latency_ms")
    if country and not (len(country) == 2 and country.isascii() and country.isupper()):
        raise BadInput("A country is two capitals.", field="quote_country")
    return {
        "incumbent": incumbent, "quote_micros": price, "quote_latency_ms": latency_ms, "quote_country": country,
        "quote_source": source, "quoted_on": quoted_on,
    }  # fmt: skip


def _checked_curves(demand: Demand, curves: Curves) -> dict[str, list[list[int]]]:
    known = ["", *attributes_of(demand)]
    found: dict[str, list[list[int]]] = {}
    for name, steps in curves.items():
        if not steps:
            continue
        field = f"curve_{name}" if name else "curve"
        if name not in known:
            raise BadInput("This demand does not name that attribute.", field=field, attribute=name)
        if any(len(step) != 2 for step in steps):
            raise BadInput("A step is a price and units.", field=field)
        try:
            curve = check_curve([(step[0], step[1]) for step in steps], field=field)
        except EstimateError as error:
            raise BadInput(f"Step {error.facts['step']}: {error}", **error.facts) from error
        if reach(curve) > demand.quantity_units:
            raise BadInput("A curve goes no further than the demand's units.", field=field)
        found[name] = [list(step) for step in curve]
    if found and "" not in found:
        raise BadInput("Say the curve of the demand as it stands too.", field="curve")
    return found
