"""A book of one day built from real data: 600 demands against 15, 30 or 180 providers.

Jobs of several GPUs are lines of a published trace, prices are quotes of July 2026, places are the cities of real cloud
regions. Small jobs and round trips follow figures fitted to data that cannot be bundled. Nobody in it is anybody.

| part | rule |
|---|---|
| demand | 80 % small: slices of a GPU, one GPU, a few; 34 % of them name a model. 20 % jobs of several GPUs |
| rules | zone EU 40, US 25, any 35 %; a latency bound of 30, 60 or 120 ms for the latency-sensitive 57 % |
| limit | latency-sensitive: hyperscaler median x exp(N(-.35, .3)), x 1.25 in the EU; batch: .524 x market median |
| providers | university 35, enterprise 40, prosumer 25 %; 1 to 3 classes; 2-32, 8-64, 1-8 GPUs |
| ask | class median x .45, .70, .524 by kind, x exp(N(0, .3)), at least .6 of the lowest quote |

Whoever is latency-sensitive wants its units throughout (window); batch takes any part in any slot (divisible). A job of
several GPUs is a gang: all of it throughout (block), or, in a book without blocks, any whole part of it (window).
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pricing.book import TICK_MICROS, Book, make_book
from pricing.eligibility import match_lines
from pricing.lines import Attributes, BidLine, DemandLine, Requirement

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "clearing" / "real"
DEMANDS = 600
SLOTS = 24
SMALL_SHARE = 0.8
SLICES_A_UNIT = 4  # a part of a GPU is so many units of a slice class
SLICED_SHARE = 0.25  # of a provider's GPUs
BATCH_FACTOR = 0.524  # interruptible over firm price
CITY_MS = 6  # within one city
FIBRE_MS = 10.0  # light there and back over 1000 km of fibre
BUYERS = 60
WHOLE_NODE = 8  # a gang spreads over nodes of so many

ZONES, ZONE_SHARES = ("EU", "US", "any"), (0.40, 0.25, 0.35)
US = ("US",)
EU_HOMES = ("DE", "ES", "FR", "IT", "NL", "PL", "SE")
BOUNDS_MS = (30, 60, 120)

BIG_ACCEPT = ("A100-80", "H100", "H200", "B200")
NAMED = (  # what a model named in an old cluster is today
    ("L4",), ("A10", "RTX4090"), ("A6000", "RTX4090"), ("A100-40", "A6000", "L40S"), ("A10", "L4"),
    ("A100-40", "A100-80"), ("H100", "H200"),
)  # fmt: skip


@dataclass(frozen=True)
class ProviderKind:
    """What providers of one kind offer, where, at which share of the median price."""

    name: str
    share: float
    class_shares: tuple[float, ...]  # in the order of `prices.csv`
    units: tuple[int, ...]
    unit_shares: tuple[float, ...]
    countries: tuple[str, ...] | None  # None: wherever cloud regions are, in proportion
    ask_factor: float
    quality_bps: tuple[int, ...]
    tier: int
    sla_bps: int


PROVIDER_KINDS = (
    ProviderKind("university", 0.35, (0.1, 0.1, 0.08, 0.15, 0.15, 0.2, 0.15, 0.05, 0.02, 0.0), (2, 4, 8, 16, 32),
                 (0.2,) * 5, ("FR", "BE", "US", "US", "DE", "NL", "SE", "FI", "GB", "CA", "CH"), 0.45, (9_840,), 1,
                 9_900),
    ProviderKind("enterprise", 0.40, (0.15, 0.05, 0.02, 0.08, 0.17, 0.05, 0.2, 0.18, 0.07, 0.03), (8, 16, 32, 64),
                 (0.25,) * 4, None, 0.70, (9_995,), 2, 9_950),
    ProviderKind("prosumer", 0.25, (0.0, 0.02, 0.55, 0.2, 0.05, 0.03, 0.05, 0.06, 0.02, 0.02), (1, 2, 4, 8),
                 (0.4, 0.3, 0.15, 0.15), None, BATCH_FACTOR, (9_050, 8_900, 7_600, 6_800, 5_900), 0, 9_000),
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """The bundled files, read once."""

    jobs: list[tuple[int, int]]  # units, hours; as often as in the trace
    lowest: dict[str, float]
    median: dict[str, float]
    hyperscaler: dict[str, float]
    cities: list[tuple[str, str, float, float]]  # country, city, latitude, longitude; as often as regions are there
    eu_zone: tuple[str, ...]
    figures: dict[str, Any]


@cache
def facts() -> Facts:
    """Read `fixtures/clearing/real/`."""
    prices = {row["resource_class"]: row for row in _rows("prices.csv")}
    figures = json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))
    return Facts(
        jobs=[(int(r["units"]), int(r["hours"])) for r in _rows("jobs.csv") for _ in range(int(r["jobs"]))],
        lowest={name: float(row["lowest_micros"]) for name, row in prices.items()},
        median={name: float(row["median_micros"]) for name, row in prices.items()},
        hyperscaler={name: float(row["hyperscaler_micros"]) for name, row in prices.items()},
        cities=[
            (r["country"], r["city"], float(r["lat"]), float(r["lon"]))
            for r in _rows("regions.csv") for _ in range(int(r["regions"]))
        ],
        eu_zone=tuple(figures["eu_zone"]), figures=figures,
    )  # fmt: skip


def real_book(providers: int, *, kinds: str = "dw", seed: int = 1) -> Book:
    """Return the book of 600 demands against so many providers; `kinds` "dw" makes windows of its blocks."""
    if kinds not in ("dw", "dwk"):
        raise ValueError(f"kinds is dw or dwk, not {kinds!r}")
    rng = np.random.default_rng([seed, providers])
    demands = [_draw_demand(rng, k, kinds) for k in range(DEMANDS)]
    numbers = np.floor(np.cumsum([0.0, *(kind.share for kind in PROVIDER_KINDS)]) * providers + 0.5).astype(int)
    drawn = [kind for n, kind in zip(np.diff(numbers), PROVIDER_KINDS, strict=True) for _ in range(n)]
    bids = [bid for k, kind in enumerate(drawn) for bid in _draw_provider(rng, k, kind)]
    return make_book(slots=SLOTS, demands=demands, bids=bids, latency_ms=_round_trips_ms(rng, demands, bids))


def shape(book: Book) -> tuple[float, float, float, float]:
    """Return the shares of demands with a candidate after class, zone, latency and price."""
    known, bids = match_lines(book), book.bids
    classes = np.array([each.resource_class for each in book.attributes])[bids.attributes]
    countries = np.array([each.country for each in book.attributes])[bids.attributes]
    stages = np.zeros((len(book.demands), 4), dtype=np.bool_)
    for i, line in enumerate(book.demands):
        rule, s = line.requirement, int(known.mask_of_demand[i])
        left = np.isin(classes, rule.accepted_classes) & (bids.quantity >= min(line.quantity_units, WHOLE_NODE))
        in_zone = left & (True if rule.countries is None else np.isin(countries, rule.countries))
        near = left & (np.isin(known.signature_of_bid, known.masks[s]) if s >= 0 else False)
        in_reach = near & (bids.price <= line.price_limit_micros)
        stages[i] = left.any(), in_zone.any(), near.any(), in_reach.any()
    a, b, c, d = stages.mean(axis=0).tolist()
    return a, b, c, d


def _draw_demand(rng: np.random.Generator, k: int, kinds: str) -> DemandLine:
    known = facts()
    is_small = k < SMALL_SHARE * DEMANDS
    is_sensitive = rng.random() < known.figures["latency_sensitive_share"] if is_small else rng.random() < 0.5
    zone = str(rng.choice(ZONES, p=ZONE_SHARES))
    if is_small:
        accepted, slices, units = _draw_small(rng)
        mu, sigma = known.figures["duration_ln_seconds"]["LS" if is_sensitive else "BE"]
        hours = math.ceil(rng.lognormal(mu, sigma) / 3600)
    else:
        accepted, slices = BIG_ACCEPT, 1
        units, hours = known.jobs[rng.integers(len(known.jobs))]
    hours = max(1, min(hours, SLOTS))
    start = min(_draw_hour(rng), SLOTS - hours)
    if is_sensitive:
        worth = float(np.median([known.hyperscaler[name] for name in accepted])) * math.exp(rng.normal(-0.35, 0.3))
        worth *= 1.25 if zone == "EU" else 1.0
    else:
        worth = float(np.median([known.median[name] for name in accepted])) * BATCH_FACTOR
        worth *= math.exp(rng.normal(0, 0.35))
    is_block = not is_small and kinds == "dwk"
    return DemandLine(
        id=f"d{k:04d}", parent=f"buyer{rng.integers(BUYERS):02d}",
        kind="block" if is_block else "window" if is_sensitive or not is_small else "divisible",
        quantity_units=units, start_slot=start, end_slot=start + hours,
        price_limit_micros=_tick(worth / slices), minimum_units=units if is_block else 0,
        requirement=Requirement(
            accepted_classes=tuple(_class(name, slices) for name in accepted),
            countries={"EU": known.eu_zone, "US": US, "any": None}[zone], vantage=_draw_home(rng, zone),
            latency_ms_max=int(rng.choice(BOUNDS_MS)) if is_sensitive else None,
        ),
        accepted_rank=int(rng.integers(1 << 30)),
    )  # fmt: skip


def _draw_small(rng: np.random.Generator) -> tuple[tuple[str, ...], int, int]:
    """Return the classes accepted, how many slices make a unit (1: whole GPUs), and the units wanted."""
    known = facts()
    pmf = known.figures["gpus_pmf"]
    size = str(rng.choice(list(pmf), p=np.array(list(pmf.values())) / sum(pmf.values())))
    accepted: tuple[str, ...] = tuple(known.median)
    if rng.random() < known.figures["model_named_share"]:
        accepted = NAMED[rng.integers(len(NAMED))]
    if size != "fractional":
        return accepted, 1, int(size)
    quantiles = known.figures["fraction_quantiles"]
    part = np.interp(rng.random(), [float(q) for q in quantiles], list(quantiles.values()))
    return accepted, SLICES_A_UNIT, math.ceil(part * SLICES_A_UNIT)


def _draw_hour(rng: np.random.Generator) -> int:
    shares = np.array(facts().figures["hour_of_day_share"])
    return int(rng.choice(24, p=shares / shares.sum()))


def _draw_home(rng: np.random.Generator, zone: str) -> str:
    homes = {"EU": EU_HOMES, "US": US, "any": None}[zone]
    cities = [each for each in facts().cities if homes is None or each[0] in homes]
    return cities[rng.integers(len(cities))][1]


def _draw_provider(rng: np.random.Generator, k: int, kind: ProviderKind) -> list[BidLine]:
    known = facts()
    cities = known.cities
    if kind.countries is not None:
        country = kind.countries[rng.integers(len(kind.countries))]
        cities = [each for each in cities if each[0] == country]
    country, city, _, _ = cities[rng.integers(len(cities))]
    names = list(known.median)
    quality_bps = int(rng.choice(kind.quality_bps))
    bids = []
    shares = np.array(kind.class_shares) / sum(kind.class_shares)
    for name in rng.choice(names, size=rng.integers(1, 4), replace=False, p=shares):
        units = int(rng.choice(kind.units, p=kind.unit_shares))
        ask = max(0.6 * known.lowest[name], known.median[name] * kind.ask_factor * math.exp(rng.normal(0, 0.3)))
        sliced = math.ceil(units * SLICED_SHARE) if units > 1 else 0
        for slices, offered in ((1, units - sliced), (SLICES_A_UNIT, sliced * SLICES_A_UNIT)):
            if offered:
                bids.append(BidLine(
                    id=f"b{k:03d}-{_class(name, slices)}".replace("/", "-"), parent=f"seller{k:03d}",
                    quantity_units=offered, start_slot=0, end_slot=SLOTS, price_ask_micros=_tick(ask / slices),
                    quality_bps=quality_bps, accepted_rank=k,
                    attributes=Attributes(
                        resource_class=_class(name, slices), country=country, parent_country=country,
                        operator_country=country, keys_country=country, tier=kind.tier, site=city,
                        sla_bps=kind.sla_bps, standing="PROVEN",
                    ),
                ))  # fmt: skip
    return bids


def _class(name: str, slices: int) -> str:
    return name if slices == 1 else f"{name}/{slices}"


def _tick(price_micros: float) -> int:
    return max(1, round(price_micros / TICK_MICROS)) * TICK_MICROS


def _round_trips_ms(
    rng: np.random.Generator, demands: list[DemandLine], bids: list[BidLine]
) -> dict[tuple[str, str], int]:
    """27 ms + 17 ms per 1000 km, spread as measured, between 1.4 and 4.7 times the time of light in fibre."""
    known = facts()
    place = {city: (math.radians(lat), math.radians(lon)) for _, city, lat, lon in known.cities}
    fit, quantiles = known.figures["round_trip_ms"], known.figures["stretch_quantiles"]
    levels, stretches = [float(q) for q in quantiles], list(quantiles.values())
    table = {}
    for vantage in sorted({str(line.requirement.vantage) for line in demands}):
        for site in sorted({line.attributes.site for line in bids}):
            thousands = _kilometres(*place[vantage], *place[site]) / 1000
            spread = float(np.interp(rng.uniform(levels[0], levels[-1]), levels, stretches)) / quantiles["0.5"]
            milliseconds = (fit["intercept"] + fit["per_1000km"] * thousands) * spread
            low, high = (stretch * FIBRE_MS * thousands for stretch in (stretches[0], stretches[-1]))
            table[vantage, site] = max(CITY_MS, math.ceil(min(max(milliseconds, low), high)))
    return table


def _kilometres(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    cosine = math.sin(lat1) * math.sin(lat2) + math.cos(lat1) * math.cos(lat2) * math.cos(lon1 - lon2)
    return 6371 * math.acos(max(-1.0, min(1.0, cosine)))


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
