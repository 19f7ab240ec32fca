"""Where capacity is and where demand is not met (M-019): by zone, by vantage, and as a map of sites.

Zones are listed whether or not anybody is there, so demand in an empty one is seen. What buyers asked for is told only
from `buyers_min` of them on; siblings of one parent are one buyer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from html import escape
from typing import Any
from uuid import UUID

from marketplace.catalogue.models import Vantage, Zone
from marketplace.catalogue.selectors import OPEN_STATES, zone_countries
from marketplace.clearing.models import LineReason
from marketplace.clearing.selectors import last_clearing
from marketplace.demand.models import Demand
from marketplace.demand.selectors import FUNDED_STATES
from marketplace.insights.drawing import NARROW, WIDE, Chart, Size, svg
from marketplace.supply.models import NodeClass, Site, SiteLatency

LATENCY_MS = (10, 20, 50, 100)


@dataclass(frozen=True)
class Asked:
    """Funded demand of a place: unit-hours, None where too few buyers stand behind them."""

    waiting_unit_hours: int | None  # in windows that are still open
    unmet_unit_hours: int | None  # not filled in the last cleared window
    has_demand: bool


@dataclass(frozen=True)
class ZonePlace:
    """One zone: what stands there, proven, and what is asked for there."""

    code: str
    name: str
    countries: int
    sites: int
    proven_units: int
    asked: Asked

    @property
    def is_empty_but_asked_for(self) -> bool:
        return self.asked.has_demand and not self.proven_units


@dataclass(frozen=True)
class VantagePlace:
    """One vantage: how many proven sites lie within each latency class, and what is asked for from there."""

    name: str
    within: tuple[int, ...]  # sites within LATENCY_MS
    asked: Asked


@dataclass(frozen=True)
class Coverage:
    """The whole report; `sites` is the map, None without a proven site."""

    zones: list[ZonePlace]
    vantages: list[VantagePlace]
    sites: Chart | None
    window: str  # the last cleared one


def coverage_report(*, on: date, buyers_min: int = 3) -> Coverage:
    """Return what stands where and what is not met. `buyers_min=1` is for the Foundation's own eyes."""
    clearing = last_clearing()
    waiting = _funded(Demand.objects.filter(window__state__in=OPEN_STATES))
    cleared = _funded(Demand.objects.filter(window_id=clearing.window_id)) if clearing else []
    left = _unfilled(clearing.pk) if clearing else {}
    places = _proven_places()
    zones = [
        _zone(zone, places, on, _asked(waiting, cleared, left, buyers_min, zone_id=zone.pk))
        for zone in [*Zone.objects.order_by("code")]
    ]
    vantages = [
        VantagePlace(str(v), _within(v, places), _asked(waiting, cleared, left, buyers_min, vantage_id=v.pk))
        for v in Vantage.objects.order_by("code")
    ]
    drawn = [(site, units) for site, units in places if units]
    return Coverage(zones, vantages, _map(drawn) if drawn else None, clearing.window.name if clearing else "")


def _funded(rows: Any) -> list[Demand]:
    found = rows.filter(state__in=FUNDED_STATES).exclude(hold_id=None)
    return list(found.select_related("party__parent"))


def _unfilled(clearing_id: UUID) -> dict[UUID, int]:
    rows = LineReason.objects.filter(clearing_id=clearing_id, side="demand").exclude(code="not_funded")
    return dict(rows.values_list("demand_id", "unfilled_unit_hours"))


def _proven_places() -> list[tuple[Site, int]]:
    """Every site with its proven units."""
    units: dict[UUID, int] = defaultdict(int)
    for site, number in NodeClass.objects.filter(standing__state="PROVEN").values_list("site_id", "units"):
        units[site] += number
    return [(site, units[site.pk]) for site in Site.objects.order_by("code")]


def _zone(zone: Zone, places: list[tuple[Site, int]], on: date, asked: Asked) -> ZonePlace:
    countries = zone_countries(zone.pk, on)
    inside = [units for site, units in places if site.country in countries and units]
    return ZonePlace(zone.pk, zone.name, len(countries), len(inside), sum(inside), asked)


def _within(vantage: Vantage, places: list[tuple[Site, int]]) -> tuple[int, ...]:
    proven = {site.pk for site, units in places if units}
    rows = SiteLatency.objects.filter(vantage=vantage, site__in=proven).values_list("rtt_ms_p95", flat=True)
    times = list(rows)
    return tuple(sum(rtt <= bound for rtt in times) for bound in LATENCY_MS)


def _asked(
    waiting: Iterable[Demand], cleared: Iterable[Demand], left: Mapping[UUID, int], buyers_min: int, **place: Any
) -> Asked:
    (name, value), *_ = place.items()
    now = [d for d in waiting if getattr(d, name) == value]
    short = [d for d in cleared if getattr(d, name) == value and left.get(d.pk)]
    return Asked(
        _told([(d, d.unit_hours) for d in now], buyers_min), _told([(d, left[d.pk]) for d in short], buyers_min),
        bool(now or short),
    )  # fmt: skip


def _told(rows: list[tuple[Demand, int]], buyers_min: int) -> int | None:
    """The sum, or None where it would be too few buyers' own. Nothing is 0, whoever asks."""
    if rows and len({str(d.party.owner_key) for d, _ in rows}) < buyers_min:
        return None
    return sum(hours for _, hours in rows)


# -- the map -----------------------------------------------------------------------------------------------------------


def _map(places: list[tuple[Site, int]]) -> Chart:
    """Draw proven sites by longitude and latitude, larger for more units; places nearer than a degree are one."""
    dots: dict[tuple[int, int], list[tuple[Site, int]]] = defaultdict(list)
    for site, units in places:
        dots[round(site.lon), round(site.lat)].append((site, units))
    total = sum(units for _, units in places)
    title = "Proven units by site"
    finding = f"{total:,} proven units in {len(places)} sites of {len({s.country for s, _ in places})} countries."
    rows = tuple((site.city, site.country, f"{units:,}") for site, units in sorted(places, key=lambda p: -p[1]))
    wide, narrow = (_draw_map(dots, wanted, title, finding) for wanted in (WIDE, NARROW))
    return Chart(title, finding, wide, narrow, ("Site", "Country", "Proven units"), rows)


def _draw_map(
    dots: Mapping[tuple[int, int], list[tuple[Site, int]]], wanted: Size, title: str, finding: str
) -> str:
    size = Size(wanted.width, 330 if wanted is WIDE else 230, left=34, right=20, top=14, bottom=30)
    west, east = min(lon for lon, _ in dots) - 4, max(lon for lon, _ in dots) + 4
    south, north = min(lat for _, lat in dots) - 3, max(lat for _, lat in dots) + 3
    most = max(sum(units for _, units in each) for each in dots.values())

    def x(lon: float) -> float:
        return size.left + size.inner_width * (lon - west) / (east - west)

    def y(lat: float) -> float:
        return size.top + size.inner_height * (north - lat) / (north - south)

    parts = []
    for lon in range(-180, 181, 30):
        if west < lon < east:
            parts.append(f'<path class="grid" d="M{x(lon):.1f} {size.top}V{size.height - size.bottom}"/>')
            parts.append(f'<text class="axis" x="{x(lon):.1f}" y="{size.height - 10}" text-anchor="middle">'
                         f"{lon}°</text>")
    for lat in range(-90, 91, 15):
        if south < lat < north:
            parts.append(f'<path class="grid" d="M{size.left} {y(lat):.1f}H{size.width - size.right}"/>')
            parts.append(f'<text class="axis" x="{size.left - 4}" y="{y(lat) + 4:.1f}" text-anchor="end">{lat}°</text>')
    for (lon, lat), each in sorted(dots.items()):
        units = sum(number for _, number in each)
        radius = 4 + 8 * (units / most) ** 0.5
        name = ", ".join(sorted({site.city for site, _ in each}))
        parts.append(f'<circle class="bar" cx="{x(lon):.1f}" cy="{y(lat):.1f}" r="{radius:.1f}">'
                     f"<title>{escape(name)}: {units:,} units</title></circle>")
    return svg(size, title, finding, parts)
