"""Draw the providers' side: asks by class median and kind, capacity by what a real cluster leaves idle."""

from __future__ import annotations

import math

import numpy as np

from marketplace.demo import cast
from marketplace.demo.base import Base
from marketplace.demo.demands import EARLY_SLOTS, OPEN_B200_LIMIT_MICROS, SLOTS
from marketplace.demo.world import TICK_MICROS, Bid, NodeClass, Provider

ASK_FACTOR = {"university": 0.45, "enterprise": 0.70, "lab": 0.70}
FLOOR_OF_LOWEST = 0.60
PROBATION_SHARE, PROBATION_SLOTS = 10, 24  # at most 1/10 of what was measured, leases of at most 24 slots
OFFERED_OF_IDLE = 0.65  # the rest is kept for the provider's own peaks
WHOLE_WINDOW_SHARE, SECOND_STEP_SHARE = 0.5, 0.4
_SLA = {"university": ((9900, 9950), (0.7, 0.3)), "enterprise": ((9950, 9990), (0.6, 0.4)), "lab": ((9900,), (1.0,))}
_EARLY = (("Halmstrand Cloud", "H100-80"), ("Breval Calcul", "A100-80"), ("Breval Calcul", "L40S"),
          ("Ashgrove Potomac", "H100-80"))


def draw_bids(base: Base, rng: np.random.Generator, *, seed: int, twin_start: int) -> tuple[Bid, ...]:
    """One or two bids per admitted node class; those of the story are fixed in class, size and span."""
    drawn: list[Bid] = []
    for provider in base.providers:
        if not provider.admitted:
            continue
        for node_class in provider.node_classes:
            for units, start, end, ask, sla in _lines(base, rng, provider, node_class, twin_start):
                reference = f"A{seed}-{len(drawn) + 1:03d}"
                drawn.append(Bid(reference, provider.code, node_class.code, units, start, end, ask, sla))
    return tuple(drawn)


Line = tuple[int, int, int, int, int]  # units, start slot, end slot, ask micros, SLA bps


def _lines(base: Base, rng: np.random.Generator, provider: Provider, node_class: NodeClass,
           twin_start: int) -> list[Line]:
    ask = _ask(base, rng, provider, node_class.resource_class)
    values, shares = _SLA[provider.kind]
    sla = int(rng.choice(values, p=shares))
    if node_class.resource_class == "B200":
        return [_story_line(provider, node_class, ask, twin_start)]
    if provider.kind == "lab":
        return [(node_class.units, 0, SLOTS, ask, sla)]
    if node_class.standing == "PROBATION":
        start = int(rng.integers(0, SLOTS - PROBATION_SLOTS + 1))
        return [(probation_units(node_class), start, start + PROBATION_SLOTS, ask, sla)]
    start, end = _span(rng)
    units = min(node_class.units, max(1, round(node_class.units * _idle_share(base, rng) * OFFERED_OF_IDLE)))
    if units < 2 or rng.uniform() >= SECOND_STEP_SHARE:
        return [(units, start, end, ask, sla)]
    dearer, second = tick_up(ask * float(rng.uniform(1.1, 1.4))), max(1, units // 3)
    return [(units - second, start, end, ask, sla), (second, start, end, dearer, sla)]


def _idle_share(base: Base, rng: np.random.Generator) -> float:
    """Mean idle share of two consecutive days of the cluster, from a drawn hour on."""
    first = int(rng.integers(0, len(base.idle_ppm) - 48))
    return float(base.idle_ppm[first : first + 48].mean()) / 1_000_000


def _story_line(provider: Provider, node_class: NodeClass, ask: int, twin_start: int) -> Line:
    """B200: the star offers 12 units all week, the twin a tenth for one day, an outsider asks more than any can pay."""
    if provider.name == cast.STAR:
        return 12, 0, SLOTS, min(ask, OPEN_B200_LIMIT_MICROS // 2), 9990
    if provider.name == cast.TWIN:
        return (probation_units(node_class), twin_start, twin_start + PROBATION_SLOTS,
                min(ask, OPEN_B200_LIMIT_MICROS // 2), 9950)
    return 4, 0, SLOTS, OPEN_B200_LIMIT_MICROS + max(ask, 100 * TICK_MICROS), 9950


def probation_units(node_class: NodeClass) -> int:
    """What an unproven class may offer: a tenth of its measured units, at least one."""
    return max(1, node_class.units // PROBATION_SHARE)


def _span(rng: np.random.Generator) -> tuple[int, int]:
    """The whole window, or two to six days of it."""
    if rng.uniform() < WHOLE_WINDOW_SHARE:
        return 0, SLOTS
    length = int(rng.integers(48, 145))
    start = int(rng.integers(0, SLOTS - length + 1))
    return start, start + length


def _ask(base: Base, rng: np.random.Generator, provider: Provider, code: str) -> int:
    """Class median x .45 (university) or .70 x exp(N(0, .3)), not below .6 x the lowest quote; on the tick."""
    price = base.prices[code]
    floor = tick_up(price.lowest_micros * FLOOR_OF_LOWEST)
    drawn = tick_up(price.median_micros * ASK_FACTOR[provider.kind] * float(np.exp(rng.normal(0, 0.3))))
    if provider.name == cast.CHEAP_OUTSIDER:
        return floor
    if provider.kind == "lab":
        return tick_up(price.median_micros * 0.5)
    return max(floor, drawn)


def tick_up(micros: float) -> int:
    return math.ceil(micros / TICK_MICROS) * TICK_MICROS


def draw_early_bids(base: Base, rng: np.random.Generator, *, seed: int) -> tuple[Bid, ...]:
    """Five bids for the early window: the star's B200 and four proven enterprises."""
    bids: list[Bid] = []
    for name, code in ((cast.STAR, "B200"), *_EARLY):
        provider = base.provider(name)
        node_class = next(n for n in provider.node_classes if n.resource_class == code)
        units = 8 if name == cast.STAR else min(node_class.units, 8)
        ask = min(_ask(base, rng, provider, code), OPEN_B200_LIMIT_MICROS // 2)
        reference = f"F{seed}-{len(bids) + 1:03d}"
        bids.append(Bid(reference, provider.code, node_class.code, units, 0, EARLY_SLOTS, ask, 9990))
    return tuple(bids)
