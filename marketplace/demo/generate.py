"""Draw a demo world from the bundled base: `world_for(seed, folder)` is pure, deterministic and needs no Django."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marketplace.demo import cast
from marketplace.demo.base import Base, read_base
from marketplace.demo.bids import draw_bids, draw_early_bids, probation_units
from marketplace.demo.demands import (
    EARLY_SLOTS,
    SLOTS,
    draw_demands,
    draw_early_demands,
    early_anchor,
    story_demands,
)
from marketplace.demo.outages import draw_outages, early_outage
from marketplace.demo.world import Bid, Demand, EarlyWindow, NodeClass, Story, World

_STREAMS = ("story", "demands", "bids", "outages", "early")


def world_for(seed: int, folder: Path) -> World:
    """The demo world of one seed, drawn from the base world in `folder`; ValueError for a negative seed.

    The base (parties, sites, zones, latency) is the same at every seed. Drawn are: which trace lines become demands and
    under which rules, limits, asks, offered capacity, outages. Each part has its own stream of random numbers.
    """
    if seed < 0:
        raise ValueError(f"A seed is zero or more, not {seed}.")
    base = read_base(folder)
    draw = {name: np.random.default_rng((seed, no)) for no, name in enumerate(_STREAMS)}
    star_class, twin_class = _b200(base, cast.STAR), _b200(base, cast.TWIN)
    anchors = story_demands(base, draw["story"], seed=seed, twin_units=probation_units(twin_class))
    demands = draw_demands(base, draw["demands"], seed=seed, story=list(anchors.values()))
    bids = draw_bids(base, draw["bids"], seed=seed, twin_start=anchors["twin"].start_slot)
    early = _early_window(base, draw["early"], seed=seed, star_class=star_class)
    return World(
        seed=seed, slots=SLOTS, sources=base.sources, zones=base.zones, tiers=base.tiers,
        resource_classes=base.resource_classes, sla_presets=base.sla_presets, vantages=base.vantages,
        buyers=base.buyers, providers=base.providers, latency=base.latency, demands=demands, bids=bids,
        outages=draw_outages(base, draw["outages"], star=anchors["star"], star_class=star_class.code,
                             twin=anchors["twin"], twin_class=twin_class.code),
        early_window=early, story=_story(base, anchors, early, bids))


def _b200(base: Base, name: str) -> NodeClass:
    return next(n for n in base.provider(name).node_classes if n.resource_class == "B200")


def _early_window(base: Base, rng: np.random.Generator, *, seed: int, star_class: NodeClass) -> EarlyWindow:
    anchor = early_anchor(base, rng, seed=seed)
    return EarlyWindow(
        slots=EARLY_SLOTS, demands=draw_early_demands(base, rng, seed=seed, anchor=anchor),
        bids=draw_early_bids(base, rng, seed=seed),
        outages=(early_outage(base, rng, star_class=star_class.code, anchor=anchor),))


def _story(base: Base, anchors: dict[str, Demand], early: EarlyWindow, bids: tuple[Bid, ...]) -> Story:
    code = {name: base.provider(name).code for name in
            (cast.EARLY_BIDDER, cast.CHEAP_OUTSIDER, cast.STAR, cast.TWIN, cast.DEAR_BIDDER, cast.OWN_LAB)}
    dear = f"{code[cast.DEAR_BIDDER]}-B200"
    return Story(
        early_bidder=code[cast.EARLY_BIDDER],
        early_bid=next(b.reference for b in bids if b.provider == code[cast.EARLY_BIDDER]),
        cheap_outsider=code[cast.CHEAP_OUTSIDER],
        star=code[cast.STAR], star_node_class=_b200(base, cast.STAR).code, star_demand=anchors["star"].reference,
        early_star_demand=early.demands[0].reference,
        twin=code[cast.TWIN], twin_node_class=_b200(base, cast.TWIN).code, twin_demand=anchors["twin"].reference,
        losing_demand=anchors["loser"].reference,
        losing_bid=next(b.reference for b in bids if b.node_class == dear),
        own_lab=code[cast.OWN_LAB])
