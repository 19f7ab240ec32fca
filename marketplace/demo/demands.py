"""Draw the buyers' side: multi-GPU jobs of a real trace, small jobs by fitted figures, and the demands of the story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from marketplace.demo.base import Base
from marketplace.demo.world import TICK_MICROS, Demand

SLOTS, EARLY_SLOTS = 168, 48
DEMANDS, GANGS = 640, 128
UNFUNDED_SHARE, FUNDED_LATE = 0.08, 5
FIRM_SHARE = 0.57  # latency-sensitive work: firm price limit and a bound on the round trip
LATENCY_CHOICES_MS = (30, 60, 120)

EVERY_CLASS = ("H100-80", "H200", "A100-80", "L40S", "L4", "A10", "RTX4090")
# Who names a model names today's heir of an older one. Our assumption: the trace that has the shares is not bundled.
_NAMED = (("L4",), ("L40S", "A100-80"), ("A10", "L4"), ("A100-80",), ("H100-80", "H200"), ("L40S", "RTX4090"))
_NAMED_SHARE = (0.30, 0.20, 0.10, 0.15, 0.15, 0.10)
_LARGE = (("A100-80", "H100-80", "H200"), ("H100-80", "H200"), ("A100-80", "H100-80", "H200", "L40S"))
_MIDDLE = (("A10", "L40S", "A100-80"), ("A10", "L4", "RTX4090"), ("A100-80", "H100-80", "L40S"))
_TIER_SHARE = (0.50, 0.38, 0.10, 0.02)

STORY_LIMIT_BPS = (8_500, 9_500)  # of the hyperscaler median: what the anchors of the story pay at most
OPEN_B200_LIMIT_MICROS = 12_000_000  # no other demand for the class goes higher, so the anchors always win


def on_tick(micros: float) -> int:
    """Nearest price on the tick, at least one tick."""
    return max(TICK_MICROS, round(micros / TICK_MICROS) * TICK_MICROS)


def draw_demands(base: Base, rng: np.random.Generator, *, seed: int, story: Sequence[Demand]) -> tuple[Demand, ...]:
    """The main window's book of demands, numbered in order of their first slot; the story's keep their references."""
    gangs = _gangs(base, rng)
    small = _small(base, rng, count=DEMANDS - GANGS - len(story))
    ordinary = _with_funding(_with_rules(base, rng, [*gangs, *small]), rng)
    ordinary.sort(key=lambda d: (d.start_slot, d.end_slot, d.quantity_units, d.price_limit_micros, d.buyer))
    numbered = [replace(d, reference=f"D{seed}-{no:04d}") for no, d in enumerate(ordinary, start=1)]
    return (*numbered, *story)


def _gangs(base: Base, rng: np.random.Generator) -> list[Demand]:
    """A systematic sample of the trace in order of size: every seed has other lines and the same mix of sizes.

    A job that would run past the window is booked earlier, so that it fits.
    """
    step = len(base.gangs) / GANGS
    first = rng.uniform(0, step)
    demands = []
    for no in range(GANGS):
        job = base.gangs[int(first + no * step)]
        hours = min(int(job["hours"]), SLOTS)
        start = min(int(job["minute"]) // 60, SLOTS - hours)
        sets = _LARGE if job["units"] >= 8 else _MIDDLE
        accepted = sets[int(rng.integers(len(sets)))]
        demands.append(_plain(int(job["units"]), start, hours, accepted, origin="philly", buyer=str(job["vc"])))
    return demands


def _small(base: Base, rng: np.random.Generator, *, count: int) -> list[Demand]:
    """One-GPU work: sizes, kinds and durations by the fitted figures, arrivals from two real traces by halves."""
    fit = base.fit["small_jobs"]
    units_of = {"fractional": 1} | {key: int(key) for key in fit["gpus_pmf"] if key != "fractional"}
    pmf = fit["gpus_pmf"]
    sizes = rng.choice([units_of[key] for key in pmf], size=count, p=_shares(list(pmf.values())))
    named = rng.uniform(size=count) < fit["gpu_spec_constrained_share"]
    demands = []
    for no, (origin, minute) in enumerate(_arrival_minutes(base, rng, count)):
        qos = fit["duration"]["LS" if rng.uniform() < FIRM_SHARE else "BE"]
        seconds = float(np.exp(rng.normal(qos["mu_ln_s"], qos["sigma_ln"])))
        hours = int(np.clip(np.ceil(seconds / 3600), 1, SLOTS))
        start = min(minute // 60, SLOTS - hours)
        accepted = _NAMED[int(rng.choice(len(_NAMED), p=_NAMED_SHARE))] if named[no] else EVERY_CLASS
        demands.append(_plain(int(sizes[no]), start, hours, accepted, origin=origin, buyer=""))
    return demands


def _arrival_minutes(base: Base, rng: np.random.Generator, count: int) -> list[tuple[str, int]]:
    drawn: list[tuple[str, int]] = []
    for no, origin in enumerate(sorted(base.arrivals)):
        many = count // 2 if no else count - count // 2
        minutes = rng.choice(base.arrivals[origin], size=many, replace=False)
        drawn += [(origin, int(minute)) for minute in np.sort(minutes)]
    return drawn


def _shares(weights: Sequence[float]) -> np.ndarray:
    return np.asarray(weights, dtype=float) / sum(weights)


def _plain(units: int, start: int, hours: int, accepted: tuple[str, ...], *, origin: str, buyer: str) -> Demand:
    """A demand without rules, limit, funding or reference yet."""
    return Demand(reference="", buyer=buyer, kind="divisible", quantity_units=units, start_slot=start,
                  end_slot=start + hours, price_limit_micros=TICK_MICROS, accepted_classes=accepted, zone=None,
                  control_zone=None, tier_min=0, vantage=None, latency_ms_max=None, sla_bps=9900, funded=True,
                  funded_late=False, origin=origin)


def _with_rules(base: Base, rng: np.random.Generator, demands: Sequence[Demand]) -> list[Demand]:
    """Zone 40/25/35, control, tier, latency, SLA, kind 60/40, limit and buyer for each demand."""
    count = len(demands)
    eu, us = round(0.40 * count), round(0.25 * count)
    zones = [*["EU"] * eu, *["US"] * us, *[None] * (count - eu - us)]
    kinds = ["divisible"] * round(0.60 * count) + ["window"] * (count - round(0.60 * count))
    zone_order, kind_order = rng.permutation(count), rng.permutation(count)
    return [_ruled(base, rng, demand, zones[zone_order[no]], kinds[kind_order[no]])
            for no, demand in enumerate(demands)]


def _ruled(base: Base, rng: np.random.Generator, demand: Demand, zone: str | None, kind: str) -> Demand:
    firm = rng.uniform() < FIRM_SHARE
    control = {"EU": "EEA", "US": "US"}.get(zone or "") if rng.uniform() < (0.25 if zone == "EU" else 0.10) else None
    return replace(
        demand, kind=kind, zone=zone, control_zone=control,
        buyer=_buyer(base, rng, zone, demand.buyer),
        tier_min=int(rng.choice(4, p=_TIER_SHARE)),
        sla_bps=int(rng.choice((9900, 9950, 9990), p=(0.60, 0.32, 0.08) if firm else (0.90, 0.10, 0.0))),
        vantage=_vantage(base, rng, zone) if firm else None,
        latency_ms_max=int(rng.choice(LATENCY_CHOICES_MS)) if firm else None,
        price_limit_micros=_limit(base, rng, demand.accepted_classes, firm=firm, zone=zone))


def _limit(base: Base, rng: np.random.Generator, accepted: Sequence[str], *, firm: bool, zone: str | None) -> int:
    """Firm: hyperscaler median x exp(N(-.35, .3)), x 1.25 in the EU; batch: market median x .524 x exp(N(0, .35))."""
    prices = [base.prices[code] for code in accepted]
    if not firm:
        return on_tick(median(p.median_micros for p in prices) * 0.524 * float(np.exp(rng.normal(0, 0.35))))
    premium = 1.25 if zone == "EU" else 1.0
    return on_tick(median(p.hyperscaler_micros for p in prices) * premium * float(np.exp(rng.normal(-0.35, 0.3))))


def _buyer(base: Base, rng: np.random.Generator, zone: str | None, virtual_cluster: str) -> str:
    """One virtual cluster of the trace is one buyer of the zone; others by the trace's uneven shares of use."""
    inside = members(base, zone)
    group = [b.code for b in base.buyers if zone is None or b.country in inside]
    if virtual_cluster:
        return group[int(virtual_cluster, 16) % len(group)]
    weights = [base.fit["buyer_weights"][no % len(base.fit["buyer_weights"])] + 0.02 for no in range(len(group))]
    return group[int(rng.choice(len(group), p=_shares(weights)))]


def _vantage(base: Base, rng: np.random.Generator, zone: str | None) -> str:
    inside = members(base, zone)
    near = [v.code for v in base.vantages if zone is None or v.country in inside]
    return near[int(rng.integers(len(near)))]


def members(base: Base, zone: str | None) -> frozenset[str]:
    """Countries in a zone today (no end date); empty for no zone."""
    return frozenset(m.country for z in base.zones if z.code == zone for m in z.members if m.valid_until is None)


def _with_funding(demands: list[Demand], rng: np.random.Generator) -> list[Demand]:
    """About 8 % of the whole book is posted and never funded; five are funded late."""
    unfunded = round(UNFUNDED_SHARE * DEMANDS)
    picked = rng.choice(len(demands), size=unfunded + FUNDED_LATE, replace=False).tolist()
    for no in picked[:unfunded]:
        demands[no] = replace(demands[no], funded=False)
    for no in picked[unfunded:]:
        demands[no] = replace(demands[no], funded_late=True)
    return demands


def draw_early_demands(base: Base, rng: np.random.Generator, *, seed: int, anchor: Demand) -> tuple[Demand, ...]:
    """Eleven well-paid demands of at most four units beside the star's anchor, for a window of 48 slots."""
    demands = [anchor]
    for no in range(1, 12):
        job = base.gangs[int(rng.integers(len(base.gangs)))]
        hours = int(np.clip(int(job["hours"]), 2, 30))
        start = int(rng.integers(0, EARLY_SLOTS - hours + 1))
        accepted = _MIDDLE[2] if no % 2 else ("H100-80", "A100-80")
        zone = "EU" if no % 3 else None
        plain = _plain(min(int(job["units"]), 4), start, hours, accepted, origin="philly", buyer="")
        demands.append(replace(
            plain, reference=f"E{seed}-{no:04d}", buyer=_buyer(base, rng, zone, ""), zone=zone,
            kind="window" if no % 5 < 2 else "divisible",
            price_limit_micros=_limit(base, rng, accepted, firm=True, zone=zone)))
    return tuple(demands)


def story_demands(base: Base, rng: np.random.Generator, *, seed: int, twin_units: int) -> dict[str, Demand]:
    """The demands whose fate is the same at every seed, by role.

    B200 units in the EU and in Switzerland are offered by the star and the twin alone. Their anchors pay more than any
    other demand for the class, and all others for it are divisible: taking a unit from an anchor can never gain.
    """
    ceiling = base.prices["B200"].hyperscaler_micros
    start, late = int(rng.integers(4, 13)), int(rng.integers(112, 125))
    twin_start = int(rng.integers(48, 97))
    b200 = replace(_plain(4, start, 96, ("B200",), origin="story", buyer=_named_buyer(base, "Vintervik Pharma")),
                   kind="window", zone="EU", control_zone="EEA", tier_min=2, sla_bps=9950)
    demands = {
        "star": replace(b200, sla_bps=int(rng.choice((9950, 9990)))),
        "star_second": replace(b200, quantity_units=2, start_slot=late, end_slot=late + 36,
                               buyer=_named_buyer(base, "Institut Clairvoie")),
        "twin": replace(b200, quantity_units=twin_units, start_slot=twin_start, end_slot=twin_start + 24, zone="CH",
                        control_zone=None, tier_min=1, buyer=_named_buyer(base, "Alpsegel Privatbank")),
        "loser": replace(b200, kind="divisible", quantity_units=2, end_slot=start + 24, accepted_classes=("H100-80",),
                         control_zone=None, tier_min=0, sla_bps=9900, buyer=_named_buyer(base, "Tulpveld Genomics"),
                         price_limit_micros=on_tick(base.prices["H100-80"].lowest_micros * 0.2)),
    }
    for role in ("star", "star_second", "twin"):
        share = int(rng.integers(*STORY_LIMIT_BPS)) / 10_000
        demands[role] = replace(demands[role], price_limit_micros=on_tick(ceiling * share))
    for no in range(8):
        demands[f"b200_{no}"] = _open_b200(base, rng)
    for no in range(6):
        demands[f"core_{no}"] = _cores(base, rng)
    return {role: replace(d, reference=f"D{seed}-S{no:03d}") for no, (role, d) in enumerate(demands.items(), start=1)}


def early_anchor(base: Base, rng: np.random.Generator, *, seed: int) -> Demand:
    """The star's demand of the early window: 40 of its 48 slots."""
    buyer = _named_buyer(base, "Vintervik Pharma")
    plain = _plain(4, int(rng.integers(2, 7)), 40, ("B200",), origin="story", buyer=buyer)
    limit = base.prices["B200"].hyperscaler_micros * int(rng.integers(*STORY_LIMIT_BPS)) / 10_000
    return replace(plain, reference=f"E{seed}-S001", kind="window", zone="EU", control_zone="EEA", tier_min=2,
                   sla_bps=9950, price_limit_micros=on_tick(limit))


def _open_b200(base: Base, rng: np.random.Generator) -> Demand:
    hours = int(rng.integers(2, 21))
    limit = base.prices["B200"].median_micros * float(np.exp(rng.normal(0.1, 0.25)))
    zone = "EU" if rng.uniform() < 0.5 else None
    plain = _plain(int(rng.integers(1, 4)), int(rng.integers(0, SLOTS - hours + 1)), hours, ("B200",),
                   origin="story", buyer=_buyer(base, rng, zone, ""))
    return replace(plain, zone=zone, price_limit_micros=min(on_tick(limit), OPEN_B200_LIMIT_MICROS))


def _cores(base: Base, rng: np.random.Generator) -> Demand:
    """Work for this machine's own cores: small, anywhere, at a limit that its bid meets."""
    hours = int(rng.integers(2, 13))
    plain = _plain(1, int(rng.integers(0, SLOTS - hours + 1)), hours, ("CPU-CORE",), origin="story",
                   buyer=_buyer(base, rng, None, ""))
    limit = base.prices["CPU-CORE"].median_micros * float(rng.uniform(0.9, 1.5))
    return replace(plain, kind="window" if rng.uniform() < 0.4 else "divisible", price_limit_micros=on_tick(limit))


def _named_buyer(base: Base, name: str) -> str:
    return next(b.code for b in base.buyers if b.name == name)
