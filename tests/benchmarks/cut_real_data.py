"""Cuts `fixtures/clearing/real/` from a folder of real data: `python -m tests.benchmarks.cut_real_data DIR`.

Only sources that may be bundled are opened; `fixtures/README.md` names their licences. What rests on other data enters
as a few fitted figures, never as lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.real_book import FOLDER

CLASSES = {  # resource class: key of the price list
    "L4": "l4", "A10": "a10", "RTX4090": "rtx-4090", "A6000": "rtx-a6000", "L40S": "l40s", "A100-40": "a100-sxm-40",
    "A100-80": "a100-sxm-80", "H100": "h100-sxm", "H200": "h200", "B200": "b200",
}  # fmt: skip
HYPERSCALERS = ("aws", "azure", "gcp")
HYPERSCALER_FACTOR = 1.9  # of the median, for a class that none of them lists
JOB_SECONDS_MIN = 600


def cut(source: Path, folder: Path) -> None:
    """Write `jobs.csv`, `prices.csv`, `regions.csv` and `figures.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs(source).to_csv(folder / "jobs.csv", index=False)
    prices(source).to_csv(folder / "prices.csv", index=False)
    regions(source).to_csv(folder / "regions.csv", index=False)
    text = json.dumps(figures(source), indent=1)
    (folder / "figures.json").write_text(text + "\n", encoding="utf-8")


def jobs(source: Path) -> pd.DataFrame:
    """Jobs of several GPUs over ten minutes: units and whole hours, as often as they occur."""
    trace = pd.read_csv(source / "demand" / "philly_2017_early.csv")
    kept = trace[(trace.num_gpus > 1) & (trace.duration_s > JOB_SECONDS_MIN)]
    hours = np.ceil(kept.duration_s / 3600).astype(int)
    table = pd.DataFrame({"units": kept.num_gpus, "hours": hours}).value_counts(sort=False).rename("jobs")
    return table.reset_index().sort_values(["units", "hours"])


def prices(source: Path) -> pd.DataFrame:
    """Lowest quote, median firm quote and median hyperscaler quote of each class on the last day, micro-USD an hour."""
    quotes = pd.read_csv(source / "supply" / "gpu_rental_prices_2026-07.csv")
    quotes = quotes[quotes.date == quotes.date.max()]
    rows = []
    for name, key in CLASSES.items():
        ours = quotes[(quotes.gpu == key) & quotes.kind.isin(["on-demand", "secure", "spot", "community"])]
        firm = ours[ours.kind.isin(["on-demand", "secure"])]
        large = firm[firm.provider.isin(HYPERSCALERS)].usd_per_gpu_hour
        median = firm.usd_per_gpu_hour.median()
        hyperscaler = large.median() if len(large) else median * HYPERSCALER_FACTOR
        rows.append((name, *(round(each * 1e6) for each in (ours.usd_per_gpu_hour.min(), median, hyperscaler))))
    return pd.DataFrame(rows, columns=["resource_class", "lowest_micros", "median_micros", "hyperscaler_micros"])


def regions(source: Path) -> pd.DataFrame:
    """One row per city with cloud regions: country, place, how many regions."""
    table = pd.read_csv(source / "geo" / "cloud_regions.csv", keep_default_na=False)
    table = table[table.city != ""].astype({"lat": float, "lon": float})
    grouped = table.groupby(["country_id", "city"]).agg(lat=("lat", "mean"), lon=("lon", "mean"), n=("lat", "size"))
    return grouped.round(2).reset_index().rename(columns={"country_id": "country", "n": "regions"})


def figures(source: Path) -> dict[str, object]:
    """What is known of small jobs and of round trips: fitted to data that is not bundled."""
    fit = json.loads((source / "fit" / "generator_params.json").read_text(encoding="utf-8"))
    pods, trips, traffic = fit["openb_2023"], fit["rtt_2020"], fit["philly_early"]
    return {
        "gpus_pmf": pods["gpus_pmf"], "fraction_quantiles": pods["fraction_quantiles"],
        "latency_sensitive_share": pods["qos_share"]["LS"], "model_named_share": pods["gpu_spec_constrained_share"],
        "duration_ln_seconds": {
            kind: [pods["duration"][kind][name] for name in ("mu_ln_s", "sigma_ln")] for kind in ("LS", "BE")
        },
        "hour_of_day_share": traffic["hour_of_day_share"], "eu_zone": eu_zone(source),
        "round_trip_ms": trips["fit_ms"], "stretch_quantiles": trips["stretch_over_fibre_light_quantiles"],
    }  # fmt: skip


def eu_zone(source: Path) -> list[str]:
    """The European Economic Area and what the Commission found adequate, the United States apart."""
    zones = json.loads((FOLDER.parents[1] / "demo" / "zones.json").read_text(encoding="utf-8"))
    area = next(zone for zone in zones if zone["code"] == "EEA")
    adequate = pd.read_csv(source / "geo" / "eu_adequacy.csv", keep_default_na=False).cca2
    members = {each["country"] for each in area["members"] if each["valid_until"] is None}
    return sorted((members | set(adequate)) - {"US"})


if __name__ == "__main__":
    cut(Path(sys.argv[1]), FOLDER)
