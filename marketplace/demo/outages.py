"""Draw the failures: rates and repair times fitted to real clusters, and two scripted ones from the same law's tail."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from marketplace.demo import cast
from marketplace.demo.base import Base
from marketplace.demo.demands import SLOTS
from marketplace.demo.world import Demand, NodeClass, Outage

HOURS_PER_YEAR, UNITS_PER_NODE = 8760, 8
# Minutes of a scripted outage. At 99.5 % a lease of 24, 40 or 96 hours is in confirmed breach above 20, 29 or 52 bad
# minutes; the upper ends stay under 5 % of the star's leases, so that its second breach is an ordinary one.
MAIN_MINUTES, EARLY_MINUTES = (75, 240), (45, 110)


def draw_outages(base: Base, rng: np.random.Generator, *, star: Demand, star_class: str, twin: Demand,
                 twin_class: str) -> tuple[Outage, ...]:
    """All outages of the main window, in order of node class and minute."""
    outages = [_scripted(base, rng, star_class, "main", star, MAIN_MINUTES),
               _scripted(base, rng, twin_class, "main", twin, MAIN_MINUTES)]
    for provider in base.providers:
        if not provider.admitted or provider.kind == "lab" or provider.name in (cast.STAR, cast.TWIN):
            continue
        site = _site_outages(base, rng) if provider.kind == "university" else []
        for node_class in provider.node_classes:
            drawn = [Outage(node_class.code, "main", start, end, node_class.units, "site") for start, end in site]
            outages += _apart([*drawn, *_node_failures(base, rng, node_class)])
    return tuple(sorted(outages, key=lambda o: (o.node_class, o.start_minute)))


def early_outage(base: Base, rng: np.random.Generator, *, star_class: str, anchor: Demand) -> Outage:
    """The star's outage of the early window, inside its lease."""
    return _scripted(base, rng, star_class, "early", anchor, EARLY_MINUTES)


def _scripted(base: Base, rng: np.random.Generator, code: str, window: str, lease: Demand,
              minutes: tuple[int, int]) -> Outage:
    """A repair time between two bounds, drawn from the fitted lognormal, at least an hour inside the lease."""
    fit = base.fit["node_failures"]
    law = NormalDist(fit["ln_mu_min"], fit["ln_sigma"])
    low, high = (law.cdf(math.log(bound)) for bound in minutes)
    length = int(np.clip(round(math.exp(law.inv_cdf(rng.uniform(low, high)))), *minutes))
    first, last = lease.start_slot * 60 + 60, lease.end_slot * 60 - 60 - length
    start = int(rng.integers(first, last))
    units = next(n.units for p in base.providers for n in p.node_classes if n.code == code)
    return Outage(code, window, start, start + length, units, "scripted")


def _node_failures(base: Base, rng: np.random.Generator, node_class: NodeClass) -> list[Outage]:
    fit = base.fit["node_failures"]
    nodes = math.ceil(node_class.units / UNITS_PER_NODE)
    many = int(rng.poisson(fit["failures_per_node_year"] * nodes * SLOTS / HOURS_PER_YEAR))
    units = min(UNITS_PER_NODE, node_class.units)
    return [Outage(node_class.code, "main", start, end, units, "node")
            for start, end in (_range(rng, fit["ln_mu_min"], fit["ln_sigma"]) for _ in range(many))]


def _site_outages(base: Base, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A whole site down: median and mean of the incident log give the lognormal."""
    fit = base.fit["site_outages"]
    many = int(rng.poisson(fit["major_unscheduled_per_year"] * SLOTS / HOURS_PER_YEAR))
    sigma = math.sqrt(2 * math.log(fit["major_hours_mean"] / fit["major_hours_p50"]))
    return [_range(rng, math.log(fit["major_hours_p50"] * 60), sigma) for _ in range(many)]


def _range(rng: np.random.Generator, ln_mu: float, ln_sigma: float) -> tuple[int, int]:
    start = int(rng.integers(0, SLOTS * 60 - 1))
    length = max(1, round(float(np.exp(rng.normal(ln_mu, ln_sigma)))))
    return start, min(start + length, SLOTS * 60)


def _apart(outages: list[Outage]) -> list[Outage]:
    """Without those that begin while an earlier one of the class still lasts."""
    kept: list[Outage] = []
    for outage in sorted(outages, key=lambda o: (o.start_minute, -o.end_minute)):
        if not kept or outage.start_minute >= kept[-1].end_minute:
            kept.append(outage)
    return kept
