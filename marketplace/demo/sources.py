"""Make the bundled base world from a folder of real data: only files whose licence lets us bundle them are ever opened.

What research-only data would have given (small-job durations, failure and repair times, round-trip times) comes from
`fit/generator_params.json`, the figures fitted to it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marketplace.demo import cast
from marketplace.demo.world import ResourceClass, SlaPreset, Source, Tier
from marketplace.demo.zones import zones

# file -> (licence, attribution)
SOURCES = {
    "bench/gpu_tflops_mlco2.csv": (
        "MIT", "mlco2/impact contributors, Machine Learning Emissions Calculator, commit d0d3ee5"),
    "demand/azure_llm_2023_conv.csv": (
        "CC BY 4.0", "Microsoft, Azure Public Dataset, Azure LLM inference trace 2023 (conversation), commit b469a11"),
    "demand/philly_2017_early.csv": (
        "Apache-2.0, original CC BY 4.0",
        "Microsoft, Philly traces (Jeon et al., USENIX ATC 2019), as prepared in pkusys/ElasticFlow, commit 04a0109"),
    "demand/philly_active_nodes_hourly.csv": (
        "MIT, original CC BY 4.0",
        "Microsoft, Philly traces, as prepared in S-Lab-System-Group/HeliosArtifact, commit bdaae10"),
    "fit/generator_params.json": ("Apache-2.0", "fitted by this project; no line of the data fitted to is bundled"),
    "geo/cloud_regions.csv": ("CC BY-SA 4.0", "Spare Cores, sc-data-dumps, commit e8749be"),
    "geo/countries_blocs.csv": (
        "ODbL 1.0 (facts)", "mledoze/countries, commit 5e9f370, and country_converter 1.3.2; used as a check only"),
    "geo/eu_adequacy.csv": ("facts", "Commission nationale pour la protection des données, Luxembourg"),
    "geo/universities.csv": ("MIT", "Hipo/university-domains-list, commit bb07faf"),
    "supply/gpu_rental_prices_2026-07.csv": (
        "CC BY 4.0", "gpurentalprices.com, adriannutiu/gpu-rental-prices, commit ae6435a, prices of 2026-07-31"),
}

# Demand and asks are drawn by these market prices; a class without enough hyperscaler quotes takes 1.9 x the median.
_PRICE_KEYS = {"H100-80": "h100-sxm", "H200": "h200", "A100-80": "a100-sxm-80", "L40S": "l40s", "L4": "l4",
               "A10": "a10", "RTX4090": "rtx-4090", "B200": "b200"}
_FIRM, _LOOSE = ("on-demand", "secure"), ("spot", "community")
_CPU_CORE_PRICE_MICROS = 40_000  # our assumption: no bundled list quotes a bare core

# code: name, dense 16-bit tensor tera-operations/s, GiB, GB/s, row and column of the bundled list that confirms them
_SPECS: dict[str, tuple[str, float, int, int, tuple[str, str] | None]] = {
    "H100-80": ("NVIDIA H100 80 GB", 989, 80, 3350, ("H100 SXM", "TFLOPS32")),
    "H200": ("NVIDIA H200 141 GB", 989, 141, 4800, None),
    "A100-80": ("NVIDIA A100 80 GB", 312, 80, 2039, ("A100 SXM4 80 GB", "TFLOPS16")),
    "L40S": ("NVIDIA L40S 48 GB", 362.05, 48, 864, ("L40S", "TFLOPS16")),
    "L4": ("NVIDIA L4 24 GB", 121, 24, 300, None),
    "A10": ("NVIDIA A10 24 GB", 125, 24, 600, None),
    "RTX4090": ("NVIDIA GeForce RTX 4090 24 GB", 165.2, 24, 1008, None),
    "B200": ("NVIDIA B200 180 GB", 2250, 180, 7700, None),
}
_TIERS = tuple(
    Tier(f"T{level}", level, name) for level, name in enumerate(("Public batch", "Internal", "Regulated", "Restricted"))
)
_SLA_PRESETS = (SlaPreset("99.0", 9900), SlaPreset("99.5", 9950), SlaPreset("99.9", 9990))
_UNIT_CHOICES = {"university": (2, 4, 8, 16, 32), "enterprise": (8, 16, 32, 64), "prosumer": (1, 2, 4, 8), "lab": (2,)}
_STORY_UNITS = {(cast.STAR, "B200"): 16, (cast.TWIN, "B200"): 32, (cast.DEAR_BIDDER, "B200"): 8}
_AVAILABILITY_PPM = {"university": 984_000, "enterprise": 999_500, "prosumer": 820_000, "lab": 999_000}
_ARRIVAL_LINES, _MINUTES_PER_WEEK, _GANG_SECONDS_MIN = 1500, 10_080, 600


def make_fixture(source: Path, *, seed: int, out: Path) -> list[Path]:
    """Write the base world's files under `out`; the same source and seed give the same bytes. Returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    fit = json.loads((source / "fit/generator_params.json").read_text())
    prices = _prices(source)
    sites = _sites(source)
    classes = _resource_classes(source, prices)
    providers = _providers(sites)
    tables = {
        "prices.csv": prices,
        "sites.csv": sites,
        "vantages.csv": _vantages(source),
        "buyers.csv": _buyers(),
        "providers.csv": providers,
        "node_classes.csv": _node_classes(classes, rng),
        "latency.csv": _latency(providers, fit["rtt_2020"], rng),
        "gangs.csv": _gangs(source),
        "arrivals.csv": _arrivals(source),
        "idle_share.csv": _idle_share(source),
    }
    documents: dict[str, object] = {
        "catalogue.json": {"tiers": [asdict(t) for t in _TIERS], "sla_presets": [asdict(s) for s in _SLA_PRESETS],
                           "resource_classes": [asdict(c) for c in classes]},
        "zones.json": [asdict(zone) for zone in zones(_csv(source, "geo/countries_blocs.csv"),
                                                      _csv(source, "geo/eu_adequacy.csv"))],
        "fit.json": _fit(fit),
        "sources.json": [asdict(row) for row in _source_rows(source)],
    }
    for name, table in tables.items():
        table.to_csv(out / name, index=False, lineterminator="\n")
    for name, document in documents.items():
        (out / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / name for name in (*tables, *documents)]


def _csv(source: Path, file: str) -> pd.DataFrame:
    """A listed source as text-safe table ("NA" is Namibia); KeyError for a file we may not bundle."""
    SOURCES[file]
    return pd.read_csv(source / file, keep_default_na=False, skipinitialspace=True)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _source_rows(source: Path) -> list[Source]:
    return [Source(file, licence, credit, hashlib.sha256((source / file).read_bytes()).hexdigest())
            for file, (licence, credit) in SOURCES.items()]


def _prices(source: Path) -> pd.DataFrame:
    """Lowest, median firm and median hyperscaler quote per class, micro-USD per unit-hour."""
    quotes = _csv(source, "supply/gpu_rental_prices_2026-07.csv")
    quotes = quotes[quotes.date == quotes.date.max()]
    rows = []
    for code, key in _PRICE_KEYS.items():
        ours = quotes[(quotes.gpu == key) & quotes.kind.isin(_FIRM + _LOOSE)]
        firm = ours[ours.kind.isin(_FIRM)]
        large = firm[firm.provider.isin(["aws", "azure", "gcp"])].usd_per_gpu_hour
        median = firm.usd_per_gpu_hour.median()
        rows.append((code, key, len(firm), _micros(ours.usd_per_gpu_hour.min()), _micros(median),
                     _micros(large.median() if len(large) else 1.9 * median)))
    cpu = _CPU_CORE_PRICE_MICROS
    rows.append(("CPU-CORE", "", 0, cpu // 4, cpu, cpu * 3 // 2))
    columns = ["resource_class", "source_key", "firm_quotes", "lowest_micros", "median_micros", "hyperscaler_micros"]
    return pd.DataFrame(rows, columns=columns)


def _micros(usd: float) -> int:
    return round(usd * 1_000_000)


def _resource_classes(source: Path, prices: pd.DataFrame) -> list[ResourceClass]:
    """Class list; each figure that the bundled list also quotes must agree with it (ValueError)."""
    listed = {row["name"]: row for row in _records(_csv(source, "bench/gpu_tflops_mlco2.csv"))}
    price = dict(zip(prices.resource_class, prices.median_micros.tolist(), strict=True))
    classes = []
    for code, (name, tera, gib, gigabytes, row) in _SPECS.items():
        origin = "vendor data sheet"
        if row is not None:
            if not math.isclose(float(listed[row[0]][row[1]]), tera):
                raise ValueError(f"{code}: the bundled list quotes {listed[row[0]][row[1]]}, ours is {tera}")
            origin = f"mlco2/impact ({row[0]}), memory by vendor data sheet"
        classes.append(ResourceClass(code, name, "GPU", round(tera * 1e12), gib * 2**30, gigabytes * 10**9,
                                     price[code], origin))
    # A quarter of one core of an 18-core Xeon E5-2699 v3: the class is for shared cores, and a machine that is busy
    # with other work must still reach it. Memory and bandwidth per core are our round figures.
    ops = round(float(listed["Intel Xeon E5-2699"]["TFLOPS32"]) * 1e12) // (4 * 18)
    origin = "mlco2/impact (Intel Xeon E5-2699), a quarter of one of 18 cores; price is our assumption"
    classes.append(ResourceClass("CPU-CORE", "One shared x86-64 core", "core", ops, 4 * 2**30, 4 * 10**9,
                                 price["CPU-CORE"], origin))
    return classes


def _sites(source: Path) -> pd.DataFrame:
    """Data-centre cities with coordinates (from the list of cloud regions, share-alike: a file of its own)."""
    regions = {(row["vendor_id"], row["region_id"]): row for row in _records(_csv(source, "geo/cloud_regions.csv"))}
    rows = []
    for site in cast.REGIONS:
        found = regions[site.vendor, site.region]
        place = (found["country_id"], round(float(found["lat"]), 4), round(float(found["lon"]), 4))
        rows.append((site.site, site.city, *place))
    return pd.DataFrame(rows, columns=["site", "city", "country", "lat", "lon"])


def _vantages(source: Path) -> pd.DataFrame:
    _refuse_unlisted(source, (*cast.VANTAGES, *cast.CAMPUSES))
    rows = [(v.site, f"{v.university} (simulated)", v.city, v.country, v.lat, v.lon, cast.UNIVERSITY_NOTE)
            for v in cast.VANTAGES]
    return pd.DataFrame(rows, columns=["code", "name", "city", "country", "lat", "lon", "note"])


def _refuse_unlisted(source: Path, campuses: Sequence[cast.Campus]) -> None:
    listed = _csv(source, "geo/universities.csv")
    known = set(zip(listed.name, listed.alpha_two_code, strict=True))
    unknown = [c.university for c in campuses if (c.university, c.country) not in known]
    if unknown:
        raise ValueError(f"Not in the list of universities: {unknown}")


def _buyers() -> pd.DataFrame:
    rows = [(f"B{no:02d}", *buyer, cast.INVENTED_NOTE) for no, buyer in enumerate(cast.buyers(), start=1)]
    return pd.DataFrame(rows, columns=["code", "name", "country", "segment", "parent_country", "note"])


def _providers(sites: pd.DataFrame) -> pd.DataFrame:
    place = {row["site"]: (row["city"], row["country"], row["lat"], row["lon"]) for row in _records(sites)}
    place |= {c.site: (c.city, c.country, c.lat, c.lon) for c in (*cast.CAMPUSES, cast.LAB_CAMPUS)}
    notes = {"university": cast.UNIVERSITY_NOTE, "lab": "measured on the machine that runs the demo"}
    rows = [(f"P{no:02d}", actor.name, actor.kind, actor.kind != "prosumer", notes.get(actor.kind, cast.INVENTED_NOTE),
             actor.site, *place[actor.site], *actor.control.split(), actor.tier)
            for no, actor in enumerate(cast.actors(), start=1)]
    columns = ["code", "name", "kind", "admitted", "note", "site", "city", "country", "lat", "lon",
               "parent_country", "operator_country", "keys_country", "tier"]
    return pd.DataFrame(rows, columns=columns)


def _node_classes(classes: Sequence[ResourceClass], rng: np.random.Generator) -> pd.DataFrame:
    """Node classes with drawn sizes and simulated benchmarks between 90 and 101 % of the reference."""
    reference = {c.code: c for c in classes}
    rows = []
    for no, actor in enumerate(cast.actors(), start=1):
        for code in actor.classes:
            drawn = int(rng.choice(_UNIT_CHOICES[actor.kind]))
            share_ppm = int(rng.integers(900_000, 1_010_000))
            spread_ppm = int(rng.integers(-4_000, 300)) if actor.kind in ("university", "prosumer") else 0
            ref = reference[code]
            rows.append((f"P{no:02d}-{code}", f"P{no:02d}", code, _STORY_UNITS.get((actor.name, code), drawn),
                         actor.standing, ref.ops_per_second * share_ppm // 1_000_000, ref.memory_bytes,
                         ref.bandwidth_bytes_per_second * share_ppm // 1_000_000,
                         _AVAILABILITY_PPM[actor.kind] + spread_ppm, actor.kind != "lab"))
    columns = ["code", "provider", "resource_class", "units", "standing", "ops_per_second", "memory_bytes",
               "bandwidth_bytes_per_second", "availability_ppm", "benchmark_simulated"]
    return pd.DataFrame(rows, columns=columns)


def _latency(providers: pd.DataFrame, fit: Mapping[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    """Round trip p95 per (vantage, site): (27 ms + 17 ms per 1000 km) x drawn stretch over its median, rounded up.

    The stretch of a route over light in fibre is drawn between its fitted 5 % and 95 % quantiles (1.4 to 4.7).
    """
    quantiles = {float(k): float(v) for k, v in fit["stretch_over_fibre_light_quantiles"].items()}
    places = _records(providers.drop_duplicates("site").sort_values("site"))
    rows = []
    for vantage in cast.VANTAGES:
        for place in places:
            kilometres = _kilometres(vantage.lat, vantage.lon, place["lat"], place["lon"])
            stretch = np.interp(rng.uniform(0.05, 0.95), list(quantiles), list(quantiles.values()))
            rule_ms = 27.0 + 17.0 * kilometres / 1000
            rows.append((vantage.site, place["site"], math.ceil(rule_ms * float(stretch) / quantiles[0.5]), "bounded"))
    return pd.DataFrame(rows, columns=["vantage", "site", "rtt_ms_p95", "basis"])


def _kilometres(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Great-circle distance (haversine, mean earth radius)."""
    a, b, c, d = (math.radians(x) for x in (lat, lon, other_lat, other_lon))
    half = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * 6371.0 * math.asin(math.sqrt(half))


def _gangs(source: Path) -> pd.DataFrame:
    """Every multi-GPU job of the trace longer than ten minutes: minute of the week it came, whole hours, units."""
    jobs = _csv(source, "demand/philly_2017_early.csv")
    jobs = jobs[(jobs.num_gpus > 1) & (jobs.duration_s > _GANG_SECONDS_MIN)].reset_index(drop=True)
    hours = np.ceil(jobs.duration_s / 3600).astype(int)
    minute = _minute_of_week(jobs.submit_time)
    table = pd.DataFrame({"minute": minute, "hours": hours, "units": jobs.num_gpus, "vc": jobs.vc})
    table["size"] = table.hours * table.units
    return table.sort_values(["size", "minute", "vc", "units"]).drop(columns="size")


def _minute_of_week(times: pd.Series) -> pd.Series:
    stamps = pd.to_datetime(times)
    return stamps.dt.day_of_week * 1440 + stamps.dt.hour * 60 + stamps.dt.minute


def _arrivals(source: Path) -> pd.DataFrame:
    """Arrival minutes within a week: a thinned single-GPU trace by its clock, an inference hour stretched to a week."""
    jobs = _csv(source, "demand/philly_2017_early.csv")
    single = _minute_of_week(jobs[jobs.num_gpus == 1].submit_time)
    single = single.iloc[:: len(single) // _ARRIVAL_LINES].head(_ARRIVAL_LINES)
    asked = _csv(source, "demand/azure_llm_2023_conv.csv").t_s
    stretched = (asked.head(_ARRIVAL_LINES) / asked.iloc[_ARRIVAL_LINES] * _MINUTES_PER_WEEK).astype(int)
    return pd.concat([pd.DataFrame({"origin": origin, "minute": minutes.sort_values()}) for origin, minutes in
                      (("philly-arrival", single), ("azure-arrival", stretched))])


def _idle_share(source: Path) -> pd.DataFrame:
    """What one cluster left idle, hour by hour over its first four weeks, in parts per million."""
    hours = _csv(source, "demand/philly_active_nodes_hourly.csv").head(672)
    idle_ppm = ((1 - hours.active / hours.total) * 1e6).round().astype(int)
    return pd.DataFrame({"hour": range(len(hours)), "idle_ppm": idle_ppm})


def _fit(fit: Mapping[str, Any]) -> dict[str, object]:
    """The fitted figures that the generator uses, and no others."""
    openb, wynton, lanl = fit["openb_2023"], fit["ucsf_wynton"], fit["lanl"]["18"]
    return {
        "small_jobs": {key: openb[key] for key in ("gpus_pmf", "qos_share", "duration", "gpu_spec_constrained_share")},
        "buyer_weights": fit["philly_early"]["vc_gpu_time_share"],
        "node_failures": {key: lanl[key] for key in ("failures_per_node_year", "ln_mu_min", "ln_sigma")},
        "site_outages": {key: wynton[key]
                         for key in ("major_unscheduled_per_year", "major_hours_p50", "major_hours_mean")},
    }
