"""A book of a real market's size, drawn from a seed.

The shape of the large one follows published traces: most demands are small and short, a fifth take many units; half are
bound to a zone and more than half to a latency; providers are universities and enterprises with a few classes each.
"""

import math

import numpy as np

from pricing.book import Attributes, BidLine, Book, DemandLine, Requirement, make_book

CLASSES = {  # reference price in micro-USD per unit-hour
    "L4-24GB": 400_000, "A10-24GB": 500_000, "A6000-48GB": 600_000, "L40S-48GB": 900_000, "A100-40GB": 1_100_000,
    "A100-80GB": 1_500_000, "H100-80GB": 2_400_000, "H200-141GB": 3_300_000, "B200-180GB": 4_800_000,
}
SITES = {  # country, latitude, longitude
    "grenoble": ("FR", 45.2, 5.7), "paris": ("FR", 48.9, 2.4), "frankfurt": ("DE", 50.1, 8.7),
    "munich": ("DE", 48.1, 11.6), "amsterdam": ("NL", 52.4, 4.9), "stockholm": ("SE", 59.3, 18.1),
    "helsinki": ("FI", 60.2, 24.9), "madrid": ("ES", 40.4, -3.7), "milan": ("IT", 45.5, 9.2),
    "zurich": ("CH", 47.4, 8.5), "london": ("GB", 51.5, -0.1), "ashburn": ("US", 39.0, -77.5),
    "chicago": ("US", 41.9, -87.6), "dallas": ("US", 32.8, -96.8), "san-jose": ("US", 37.3, -121.9),
    "montreal": ("CA", 45.5, -73.6),
}
EU = ("DE", "ES", "FI", "FR", "IT", "NL", "SE")
HOURS_USUAL = (1, 2, 4, 8, 12, 24, 36, 48, 72, 168)


def round_trips_ms() -> dict[tuple[str, str], int]:
    """27 ms + 17 ms per 1000 km above a metro's 6 ms: a fit to measured pings, not a distance rule of the product."""
    table: dict[tuple[str, str], int] = {}
    for one, (_, lat1, lon1) in SITES.items():
        for other, (_, lat2, lon2) in SITES.items():
            a, b, c = (math.radians(x) for x in (lat1, lat2, lon2 - lon1))
            angle = math.acos(min(1.0, math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(c)))
            table[one, other] = 6 if one == other else round(12 + 6371 * angle / 1000 * 17)
    return table


def real_sized_book(seed: int = 1, demands: int = 650, bids: int = 80, slots: int = 168) -> Book:
    rng = np.random.default_rng(seed)
    return make_book(
        slots=slots,
        demands=[_demand(rng, f"d{i:05d}", slots) for i in range(demands)],
        bids=[_bid(rng, f"b{j:05d}", slots) for j in range(bids)],
        latency_ms=round_trips_ms(),
    )


def _tick(price: float) -> int:
    return max(1, round(price / 100)) * 100


def _demand(rng: np.random.Generator, name: str, slots: int) -> DemandLine:
    names = list(CLASSES)
    large = bool(rng.random() < 0.2)
    start_class = int(rng.integers(5, len(names))) if large else int(rng.integers(len(names)))
    accepted = tuple(names[start_class:start_class + int(rng.integers(1, 4))])
    zone = rng.choice(["EU", "US", "ANY"], p=[0.4, 0.25, 0.35])
    countries = {"EU": EU, "US": ("US",), "ANY": None}[zone]
    home = [s for s, (country, _, _) in SITES.items() if countries is None or country in countries]
    hours = min(slots, int(rng.choice(HOURS_USUAL)))
    start = int(rng.integers(0, slots - hours + 1))
    bound = [30, 60, 120][int(rng.integers(3))] if rng.random() < 0.57 else None
    reference = float(np.median([CLASSES[c] for c in accepted]))
    firm = rng.random() < 0.6
    worth = reference * math.exp(rng.normal(0.05, 0.3)) if firm else reference * 0.6 * math.exp(rng.normal(0, 0.35))
    return DemandLine(
        id=name, parent=f"buyer{int(rng.integers(60)):03d}",
        kind="window" if rng.random() < 0.35 else "divisible",
        quantity_units=int(rng.choice([4, 8, 16])) if large else int(rng.choice([1, 1, 2])),
        start_slot=start, end_slot=start + hours, price_limit_micros=_tick(worth * (1.25 if zone == "EU" else 1)),
        requirement=Requirement(
            accepted_classes=accepted, countries=countries,
            control_countries=(*EU, "CH", "GB", "CA") if zone == "EU" and rng.random() < 0.5 else None,
            tier_min=int(rng.choice(3, p=[0.6, 0.3, 0.1])), vantage=str(rng.choice(home)), latency_ms_max=bound,
            sla_bps_min=int(rng.choice([0, 9_900, 9_950], p=[0.6, 0.3, 0.1])),
        ),
        accepted_rank=int(name[1:]),
    )


def _bid(rng: np.random.Generator, name: str, slots: int) -> BidLine:
    resource_class = str(rng.choice(list(CLASSES)))
    site = str(rng.choice(list(SITES)))
    country = SITES[site][0]
    university = rng.random() < 0.47
    control = "US" if not university and rng.random() < 0.4 else country
    factor = (0.5 if university else 0.75) * math.exp(rng.normal(0, 0.25))
    whole = rng.random() < 0.6
    hours = slots if whole else max(1, slots * 4 // 7)
    start = 0 if whole else int(rng.integers(0, slots - hours + 1))
    return BidLine(
        id=name, parent=f"seller{int(rng.integers(35)):03d}",
        quantity_units=int(rng.choice([4, 8, 16, 32] if university else [8, 16, 32, 64])),
        start_slot=start, end_slot=start + hours, price_ask_micros=_tick(CLASSES[resource_class] * factor),
        quality_bps=9_840 if university else 9_995,
        attributes=Attributes(
            resource_class=resource_class, country=country, parent_country=control, operator_country=country,
            keys_country=country, tier=int(rng.choice(3, p=[0.3, 0.4, 0.3])), site=site,
            sla_bps=9_900 if university else 9_950, standing="PROBATION" if rng.random() < 0.15 else "PROVEN",
        ),
        accepted_rank=int(name[1:]),
    )
