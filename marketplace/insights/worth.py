"""What a buyer says a demand is worth: pain, present spend, the incumbent's quote, and price curves (M-002 to M-004).

Stated while the window collects demand, so that nobody names a counterfactual once prices are known. Each statement is
a new version; the last one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from django.db import transaction

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


@transaction.atomic
def state_worth(
    *,
    demand: Demand,
    party: Party,
    segment: str,
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

    `curves` gives steps of (micro-USD per unit-hour, units): under "" for the demand as it stands, under an attribute
    that the demand names for the same demand without it. Raises NotYours, WindowClosed, or BadInput with the field.
    """
    standing = Demand.objects.filter(pk=demand.pk, party=party).first()
    if standing is None:
        raise NotYours("There is no such demand.")
    window = Window.objects.select_for_update().get(pk=standing.window_id)
    if window.state != "COLLECTING" or now >= window.demand_closes_at or standing.state == "withdrawn":
        raise WindowClosed("What a demand is worth is said before demand closes.", state=window.state)
    if segment not in SEGMENTS:
        raise BadInput(f"A segment is one of {', '.join(SEGMENTS)}.", field="segment")
    if pain:
        require_name(pain, field="pain", longest=500)
    if present_usd_per_year is not None and not 0 <= require_whole(
        present_usd_per_year, field="present_usd_per_year"
    ) <= SPEND_MAX_USD:  # fmt: skip
        raise BadInput("A present spend is 0 to 10^12 USD a year.", field="present_usd_per_year")
    quote = _checked_quote(
        incumbent, quote_micros, quote_latency_ms, quote_country, quote_source, quoted_on, today=now.date()
    )
    last = statement_of(standing)
    statement = DemandStatement.objects.create(
        id=uuid7(now), demand=standing, version=last.version + 1 if last else 1, segment=segment, pain=pain,
        present_usd_per_year=present_usd_per_year, curves=_checked_curves(standing, curves or {}), stated_at=now,
        **quote,
    )  # fmt: skip
    record(
        actor=party.slug, action="state_worth", subject=standing.pk, reason="stated", now=now,
        version=statement.version, has_counterfactual=statement.has_counterfactual, curves=sorted(statement.curves),
    )  # fmt: skip
    return statement


def _checked_quote(
    incumbent: str, quote_micros: int | None, latency_ms: int | None, country: str, source: str,
    quoted_on: date | None, *, today: date,
) -> dict[str, Any]:  # fmt: skip
    """The counterfactual whole or not at all: who quoted which price, when, and where that can be seen."""
    if quote_micros is None:
        for value, field in ((incumbent, "incumbent"), (source, "quote_source"), (quoted_on, "quoted_on"),
                             (latency_ms, "quote_latency_ms"), (country, "quote_country")):  # fmt: skip
            if value:
                raise BadInput("A quote has a price; leave its other parts out without one.", field=field)
        return {}
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
