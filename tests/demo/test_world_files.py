"""The bundled demo world: same seed, same bytes; only sources that may be bundled; every part of the story in place."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binom

from marketplace.demo.generate import world_for
from marketplace.demo.shape import current_members, describe, near_enough, offers_of, rules_met, shape_of
from marketplace.demo.sources import SOURCES, make_fixture
from marketplace.demo.world import Bid, Demand, Outage, Provider, World

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "fixtures" / "demo"
SEEDS = (1, 2, 3, 4, 5, 7)
SMALL_PROBABILITY = 5e-5
NOT_BUNDLED = ("openb", "alibaba", "rtt_pings", "rtt_servers", "techpowerup", "mlperf", "titan_gpu",
               "spot_availability", "spot_preemption", "wynton_incidents", "wynton_gpu", "grid5000", "lanl_failures",
               "located_offers", "aws_gpu_ondemand", "stablecoin")

each_seed = pytest.mark.parametrize("seed", SEEDS)


@cache
def world(seed: int) -> World:
    return world_for(seed, FOLDER)


def provider_of(world: World, code: str) -> Provider:
    return next(p for p in world.providers if p.code == code)


def demand_of(world: World, reference: str) -> Demand:
    return next(d for d in (*world.demands, *world.early_window.demands) if d.reference == reference)


def bids_on(bids: tuple[Bid, ...], node_class: str) -> list[Bid]:
    return [b for b in bids if b.node_class == node_class]


# --- the same seed, the same world ---


@each_seed
def test_the_same_seed_gives_the_same_bytes(seed):
    again = world_for(seed, FOLDER).to_json()

    assert again == world(seed).to_json()
    assert again != world_for(seed + 100, FOLDER).to_json()


def test_another_process_draws_the_same_bytes():
    code = ("import sys, pathlib; from marketplace.demo.generate import world_for; "
            "sys.stdout.buffer.write(world_for(7, pathlib.Path(sys.argv[1])).to_json()); "
            "assert 'django' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, str(FOLDER)], cwd=ROOT, capture_output=True, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "12345"})

    assert done.stdout == world(7).to_json()


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="zero or more"):
        world_for(-1, FOLDER)


def test_the_bundle_is_what_the_real_data_gives(tmp_path):
    if "REAL_DATA" not in os.environ:
        pytest.skip("REAL_DATA names no folder of real data: the bundle cannot be made again here")

    files = make_fixture(Path(os.environ["REAL_DATA"]), seed=7, out=tmp_path)

    assert sorted(f.name for f in files) == sorted(f.name for f in FOLDER.iterdir())
    assert [f.name for f in files if f.read_bytes() != (FOLDER / f.name).read_bytes()] == []


def test_the_bundle_stays_small():
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 600_000


# --- only what may be bundled ---


def test_every_source_is_listed_with_licence_and_credit():
    listed = json.loads((FOLDER / "sources.json").read_text())

    assert {row["file"] for row in listed} == set(SOURCES)
    assert all(row["licence"] and row["attribution"] and len(row["sha256"]) == 64 for row in listed)
    readme = (ROOT / "fixtures" / "README.md").read_text()
    assert [f.name for f in FOLDER.iterdir() if f"`{f.name}`" not in readme] == []


def test_no_source_that_may_not_be_bundled_is_named():
    named = " ".join(SOURCES) + "".join(f.read_text() for f in FOLDER.iterdir())

    assert [name for name in NOT_BUNDLED if name in named.lower()] == []


def test_real_universities_are_marked_as_simulated():
    with (FOLDER / "providers.csv").open() as file:
        universities = [row for row in csv.DictReader(file) if row["kind"] == "university"]

    assert len(universities) == 14
    assert all(row["note"] == "fixture, simulated, no endorsement" for row in universities)
    assert all(row["name"].endswith("(simulated)") for row in universities)
    assert all(v.note == "fixture, simulated, no endorsement" for v in world(7).vantages)


# --- parties and places ---


def test_zones_know_when_a_country_came_and_left():
    zones = {z.code: {m.country: m for m in z.members} for z in world(7).zones}

    assert sum(m.valid_until is None for m in zones["EU"].values()) == 27
    assert sum(m.valid_until is None for m in zones["EEA"].values()) == 30
    assert zones["EU"]["GB"].valid_until == "2020-02-01"
    assert zones["EU"]["HR"].valid_from == "2013-07-01"
    assert "US" not in zones["ADEQUATE"]
    assert {"CH", "JP", "NO"} <= set(zones["ADEQUATE"])


def test_thirty_are_admitted_and_no_prosumer_is():
    kinds = [(p.kind, p.admitted) for p in world(7).providers]

    assert kinds.count(("enterprise", True)) == 16
    assert kinds.count(("university", True)) == 14
    assert kinds.count(("prosumer", False)) == 5
    assert kinds.count(("lab", True)) == 1
    assert len(kinds) == 36


@each_seed
def test_no_bid_comes_from_a_provider_who_is_not_admitted(seed):
    admitted = {p.code for p in world(seed).providers if p.admitted}

    bidders = {b.provider for b in (*world(seed).bids, *world(seed).early_window.bids)}

    assert bidders <= admitted
    assert {b.provider for b in world(seed).bids} == admitted


def test_node_classes_keep_to_the_sizes_of_their_kind():
    bounds = {"university": (2, 32), "enterprise": (8, 64), "prosumer": (1, 8), "lab": (1, 8)}

    for provider in world(7).providers:
        low, high = bounds[provider.kind]
        assert 1 <= len(provider.node_classes) <= 3
        assert all(low <= n.units <= high for n in provider.node_classes)
        assert len({n.resource_class for n in provider.node_classes}) == len(provider.node_classes)


def test_four_providers_are_on_probation_and_only_this_machine_is_measured():
    unproven = {p.code for p in world(7).providers for n in p.node_classes if n.standing == "PROBATION"}
    measured = [n.code for p in world(7).providers for n in p.node_classes if not n.benchmark_simulated]

    assert len(unproven) == 4
    assert all(provider_of(world(7), code).tier <= 1 for code in unproven)
    assert measured == [f"{world(7).story.own_lab}-CPU-CORE"]


def test_every_pair_of_vantage_and_site_has_a_bounded_round_trip():
    pairs = {(row.vantage, row.site) for row in world(7).latency}

    assert pairs == {(v.code, p.site) for v in world(7).vantages for p in world(7).providers}
    assert all(row.basis == "bounded" and 15 <= row.rtt_ms_p95 <= 1000 for row in world(7).latency)


# --- the book ---


@each_seed
def test_prices_are_whole_ticks_and_quantities_whole_units(seed):
    lines = [(d.price_limit_micros, d.quantity_units, d.start_slot, d.end_slot) for d in world(seed).demands]
    lines += [(b.price_ask_micros, b.quantity_units, b.start_slot, b.end_slot) for b in world(seed).bids]

    assert all(type(value) is int for line in lines for value in line)
    assert all(price % 100 == 0 and 100 <= price <= 1_000_000_000 for price, *_ in lines)
    assert all(units >= 1 and 0 <= start < end <= 168 for _, units, start, end in lines)


@each_seed
def test_references_are_unique_and_point_to_what_exists(seed):
    w = world(seed)
    demands, bids = (*w.demands, *w.early_window.demands), (*w.bids, *w.early_window.bids)
    references = [line.reference for line in (*demands, *bids)]

    assert len(set(references)) == len(references)
    assert {d.buyer for d in demands} <= {b.code for b in w.buyers}
    assert {d.vantage for d in demands} - {None} <= {v.code for v in w.vantages}
    assert {d.zone for d in demands} | {d.control_zone for d in demands} <= {z.code for z in w.zones} | {None}
    assert {c for d in demands for c in d.accepted_classes} <= {c.code for c in w.resource_classes}
    assert {(b.provider, b.node_class) for b in bids} <= {(p.code, n.code) for p in w.providers for n in p.node_classes}
    assert {o.node_class for o in w.outages} <= {n.code for p in w.providers for n in p.node_classes}


@each_seed
def test_the_book_has_the_shares_it_should(seed):
    ordinary = [d for d in world(seed).demands if d.origin != "story"]
    share = {zone: sum(d.zone == zone for d in ordinary) / len(ordinary) for zone in ("EU", "US", None)}
    bounds = [d.latency_ms_max for d in ordinary]

    assert len(world(seed).demands) == 640
    assert sum(d.origin == "philly" for d in ordinary) == 128
    assert share == pytest.approx({"EU": 0.40, "US": 0.25, None: 0.35}, abs=0.01)
    assert sum(d.kind == "divisible" for d in ordinary) / len(ordinary) == pytest.approx(0.60, abs=0.01)
    assert {d.kind for d in ordinary} == {"divisible", "window"}
    assert sum(b is not None for b in bounds) / len(bounds) == pytest.approx(0.57, abs=0.07)
    assert set(bounds) == {30, 60, 120, None}
    assert all((d.vantage is None) == (d.latency_ms_max is None) for d in ordinary)
    assert any(d.control_zone == "EEA" for d in ordinary)


@each_seed
def test_some_demands_are_never_funded_and_five_are_late(seed):
    demands = world(seed).demands

    assert sum(not d.funded for d in demands) / len(demands) == pytest.approx(0.08, abs=0.005)
    assert sum(d.funded_late for d in demands) == 5
    assert not any(d.funded_late and not d.funded for d in demands)
    assert all(d.funded and not d.funded_late for d in demands if d.origin == "story")


@each_seed
def test_asks_keep_their_floor(seed):
    with (FOLDER / "prices.csv").open() as file:
        lowest = {row["resource_class"]: int(row["lowest_micros"]) for row in csv.DictReader(file)}

    for offer in offers_of(world(seed), world(seed).bids):
        assert offer.bid.price_ask_micros >= 0.6 * lowest[offer.node_class.resource_class]


@each_seed
def test_bids_stay_within_what_was_measured_and_probation_within_a_tenth_and_a_day(seed):
    offered: dict[str, int] = {}
    for offer in offers_of(world(seed), world(seed).bids):
        offered[offer.node_class.code] = offered.get(offer.node_class.code, 0) + offer.bid.quantity_units
        assert offered[offer.node_class.code] <= offer.node_class.units
        if offer.node_class.standing == "PROBATION":
            assert offered[offer.node_class.code] <= max(1, offer.node_class.units // 10)
            assert offer.bid.end_slot - offer.bid.start_slot <= 24


@each_seed
def test_the_book_has_the_shape_of_a_market_of_thirty(seed):
    shape = shape_of(world(seed))

    assert shape.with_class == 1.0
    assert 0.96 <= shape.with_rules <= 1.0
    assert 0.86 <= shape.with_latency <= 0.96
    assert 0.84 <= shape.with_price <= 0.91
    assert 0.7 <= shape.tightness <= 1.5
    assert f"{shape.with_price:.3f}" in describe([shape])


# --- the story ---


def award_shares(world: World, demands: tuple[Demand, ...], bids: tuple[Bid, ...], slots: int) -> dict[str, float]:
    """Optimal fill of every demand for B200, as a linear programme over (demand, bid, slot), and which bid gave it.

    A fill is a share of quantity x slots. Keys are demand references and "demand/bid" pairs.
    """
    members = current_members(world)
    offers = [o for o in offers_of(world, bids) if o.node_class.resource_class == "B200"]
    wanted = [d for d in demands if "B200" in d.accepted_classes]
    cells = [(d, o, t) for d in wanted for o in offers if rules_met(d, o.bid, o.provider, o.node_class, members)
             for t in range(max(d.start_slot, o.bid.start_slot), min(d.end_slot, o.bid.end_slot))]
    gain = [d.price_limit_micros - o.bid.price_ask_micros for d, o, _ in cells]
    windows = [d for d in wanted if d.kind == "window"]
    columns = len(cells) + len(windows)
    upper, bound, equal = [], [], []
    for offer in offers:
        for t in range(slots):
            upper.append([float(o is offer and at == t) for _, o, at in cells] + [0.0] * len(windows))
            bound.append(offer.bid.quantity_units)
    for d in wanted:
        for t in range(d.start_slot, d.end_slot):
            row = [float(e is d and at == t) for e, _, at in cells] + [0.0] * len(windows)
            if d.kind == "window":
                row[len(cells) + windows.index(d)] = -float(d.quantity_units)
                equal.append(row)
            else:
                upper.append(row)
                bound.append(d.quantity_units)
    solved = linprog(np.array([-g / 1e6 for g in gain] + [0.0] * len(windows)), np.array(upper), np.array(bound),
                     np.array(equal), np.zeros(len(equal)), bounds=[(0, None)] * len(cells) + [(0, 1)] * len(windows))
    assert solved.status == 0
    assert len(solved.x) == columns
    shares: dict[str, float] = {d.reference: 0.0 for d in wanted}
    for (d, o, _), units in zip(cells, solved.x, strict=False):
        for key in (d.reference, f"{d.reference}/{o.bid.node_class}"):
            shares[key] = shares.get(key, 0.0) + units / (d.quantity_units * (d.end_slot - d.start_slot))
    return shares


@each_seed
def test_the_star_and_its_twin_win_their_leases_whole(seed):
    w = world(seed)
    main = award_shares(w, w.demands, w.bids, 168)
    early = award_shares(w, w.early_window.demands, w.early_window.bids, 48)

    assert main[f"{w.story.star_demand}/{w.story.star_node_class}"] == pytest.approx(1)
    assert main[f"{w.story.twin_demand}/{w.story.twin_node_class}"] == pytest.approx(1)
    assert early[f"{w.story.early_star_demand}/{w.story.star_node_class}"] == pytest.approx(1)


@each_seed
def test_the_star_and_its_twin_serve_leases_long_enough_to_judge(seed):
    w = world(seed)
    star, twin, early = (demand_of(w, ref) for ref in (w.story.star_demand, w.story.twin_demand,
                                                       w.story.early_star_demand))

    assert twin.end_slot - twin.start_slot == 24
    assert min(star.end_slot - star.start_slot, early.end_slot - early.start_slot) >= 24
    assert {star.sla_bps, early.sla_bps} <= {9950, 9990}
    assert provider_of(w, w.story.star).node_classes[0].standing == "PROVEN"
    assert provider_of(w, w.story.twin).node_classes[0].standing == "PROBATION"
    assert {len(bids_on(w.bids, code)) for code in (w.story.star_node_class, w.story.twin_node_class)} == {1}


def worst_breach(outages: tuple[Outage, ...], node_class: str, lease: Demand, sla_bps: int) -> tuple[int, int]:
    """Bad minutes of a lease and the most that the exact binomial allows at its SLA."""
    known = (lease.end_slot - lease.start_slot) * 60
    bad = sum(max(0, min(o.end_minute, lease.end_slot * 60) - max(o.start_minute, lease.start_slot * 60))
              for o in outages if o.node_class == node_class)
    return bad, int(binom.isf(SMALL_PROBABILITY, known, 1 - sla_bps / 10_000 + 2e-5))


@each_seed
def test_the_star_breaks_its_promise_in_both_windows_and_the_twin_in_the_main_one(seed):
    w = world(seed)
    early = (w.early_window.outages, w.story.star_node_class, demand_of(w, w.story.early_star_demand))
    star = (w.outages, w.story.star_node_class, demand_of(w, w.story.star_demand))
    twin = (w.outages, w.story.twin_node_class, demand_of(w, w.story.twin_demand))

    for outages, node_class, lease in (early, star, twin):
        bad, allowed = worst_breach(outages, node_class, lease, lease.sla_bps)
        assert bad > allowed + 10, (bad, allowed)
    for outages, node_class, lease in (early, star):
        bad, _ = worst_breach(outages, node_class, lease, lease.sla_bps)
        assert bad < 0.05 * (lease.end_slot - lease.start_slot) * 60


@each_seed
def test_the_other_lease_of_the_star_and_its_short_ones_can_be_judged_too(seed):
    w = world(seed)
    short = [d for d in w.demands if d.accepted_classes == ("B200",) and d.kind == "divisible"]
    anchors = [d for d in w.demands if d.accepted_classes == ("B200",) and d.kind == "window"]

    assert all(d.end_slot - d.start_slot < 24 for d in short)
    second = next(d for d in anchors if d.reference not in (w.story.star_demand, w.story.twin_demand))
    assert worst_breach(w.outages, w.story.star_node_class, second, second.sla_bps)[0] == 0


@each_seed
def test_outages_lie_within_their_window_and_touch_nobody_else_on_the_stage(seed):
    w = world(seed)

    assert all(0 <= o.start_minute < o.end_minute <= 168 * 60 and o.units_down >= 1 for o in w.outages)
    assert all(0 <= o.start_minute < o.end_minute <= 48 * 60 for o in w.early_window.outages)
    assert len(w.outages) > 2
    scripted = {o.node_class for o in w.outages if o.cause == "scripted"}
    assert scripted == {w.story.star_node_class, w.story.twin_node_class}
    assert not any(o.node_class.startswith(w.story.own_lab) for o in w.outages)


@each_seed
def test_the_cheap_outsider_is_cheapest_and_never_fits_a_demand_bound_to_the_union(seed):
    w = world(seed)
    offers = offers_of(w, w.bids)
    outsider = [o for o in offers if o.provider.code == w.story.cheap_outsider]
    members = current_members(w)
    bound = [d for d in w.demands if d.zone == "EU" or d.control_zone == "EEA"]

    for offer in outsider:
        rivals = [o.bid.price_ask_micros for o in offers
                  if o.node_class.resource_class == offer.node_class.resource_class]
        cheapest_step = min(o.bid.price_ask_micros for o in outsider if o.node_class.code == offer.node_class.code)
        assert cheapest_step == min(rivals)
    assert outsider
    assert not any(rules_met(d, o.bid, o.provider, o.node_class, members) for d in bound for o in outsider)


@each_seed
def test_a_residence_rule_alone_lets_a_foreign_parent_in_and_a_control_rule_does_not(seed):
    w = world(seed)
    members = current_members(w)
    offers = [o for o in offers_of(w, w.bids) if o.provider.country in members["EU"]
              and o.provider.parent_country not in members["EEA"]]
    modest = [d for d in w.demands if d.zone == "EU" and d.tier_min <= 2 and d.sla_bps <= 9950]
    bound = [d for d in modest if d.control_zone == "EEA"]

    assert offers
    assert bound
    assert not any(rules_met(d, o.bid, o.provider, o.node_class, members) for d in bound for o in offers)
    free = [d for d in modest if d.control_zone is None]
    assert any(rules_met(d, o.bid, o.provider, o.node_class, members) for d in free for o in offers)


@each_seed
def test_the_losers_of_the_story_can_never_win(seed):
    w = world(seed)
    rtt = {(row.vantage, row.site): row.rtt_ms_p95 for row in w.latency}
    members = current_members(w)
    demand = demand_of(w, w.story.losing_demand)
    bid = next(o for o in offers_of(w, w.bids) if o.bid.reference == w.story.losing_bid)

    asks = [o.bid.price_ask_micros for o in offers_of(w, w.bids)
            if o.node_class.resource_class in demand.accepted_classes]
    takers = [d for d in w.demands if bid.node_class.resource_class in d.accepted_classes
              and rules_met(d, bid.bid, bid.provider, bid.node_class, members) and near_enough(d, bid.provider, rtt)]

    assert demand.kind == "divisible"
    assert demand.price_limit_micros < min(asks)
    assert all(d.kind == "divisible" and d.price_limit_micros < bid.bid.price_ask_micros for d in takers)
    assert takers


@each_seed
def test_the_early_bidder_is_proven_and_bids_again_in_its_time(seed):
    w = world(seed)
    bid = next(b for b in w.bids if b.reference == w.story.early_bid)

    assert bid.provider == w.story.early_bidder
    assert all(n.standing == "PROVEN" for n in provider_of(w, w.story.early_bidder).node_classes)


@each_seed
def test_the_early_window_is_small_and_clears(seed):
    early = world(seed).early_window

    assert early.slots == 48
    assert len(early.demands) == 12
    assert len(early.bids) == 5
    assert all(d.end_slot <= 48 and d.funded for d in early.demands)
    assert all(d.price_limit_micros % 100 == 0 for d in early.demands)


@each_seed
def test_this_machine_has_work_it_can_win(seed):
    w = world(seed)
    ask = next(b.price_ask_micros for b in w.bids if b.provider == w.story.own_lab)

    limits = [d.price_limit_micros for d in w.demands if "CPU-CORE" in d.accepted_classes]

    assert len(limits) == 6
    assert min(limits) >= ask
