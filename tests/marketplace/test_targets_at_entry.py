"""Typed SLA targets at entry: taken off the menu, refused with their rule, sealed in a bid, and a rule of clearing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from marketplace import clock
from marketplace import models as m
from marketplace.demand.services import amend_demand, post_demand
from marketplace.errors import BadInput, ContradictoryRules, ReferenceReused
from marketplace.supply.bids import place_bid
from marketplace.supply.sealing import read_own
from pricing.errors import SlaError
from pricing.targets import MENU, check_menu, check_targets
from tests.journey import world
from tests.journey.refusals import refused

FAST = {"latency_p95_ms_max": 20, "latency_p99_ms_max": 50, "notice_hours_min": 96}
ALL = {target.name: target.menu[-1] for target in MENU}


def post(**changes: Any) -> m.Demand:
    terms: dict[str, Any] = {
        "party": world.party("elm"), "window": world.window(), "reference": "new", "kind": "divisible",
        "accepted_classes": ["H100"], "quantity_units": 1, "start_slot": 0, "end_slot": 30,
        "price_limit_micros": 1_000_000, "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip
    return post_demand(**terms | changes)


def bid(**changes: Any) -> m.Bid:
    terms: dict[str, Any] = {
        "party": world.party("granite"), "node_class": world.node_class("granite"), "window": world.window(),
        "reference": "promise", "quantity_units": 1, "start_slot": 0, "end_slot": 30, "price_ask_micros": 1_000_000,
        "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip
    return place_bid(**terms | changes)


BAD: list[tuple[Any, type[BadInput], dict[str, Any]]] = [
    ({"latency": 20}, BadInput, {"rule": "no_such_target", "target": "latency"}),
    ({"latency_p95_ms_max": 21}, BadInput, {"rule": "off_the_menu", "target": "latency_p95_ms_max"}),
    ({"latency_p95_ms_max": "20"}, BadInput, {"rule": "off_the_menu"}),
    (["latency_p95_ms_max"], BadInput, {"field": "sla_targets"}),
    ({"latency_p95_ms_max": 100, "latency_p99_ms_max": 50}, ContradictoryRules,
     {"rule": "percentiles_rise", "target": "latency_p99_ms_max", "field": "sla_targets"}),
]  # fmt: skip
SHORT: list[tuple[dict[str, int], str]] = [
    ({"throughput_spread_bps_max": 1000}, "too_short_to_judge"),
    ({"repair_minutes_max": 240}, "repair_within_the_lease"),
]


@pytest.mark.stage("collecting")
def test_a_demand_asks_for_targets_and_can_change_them_while_it_is_not_funded() -> None:
    demand = post(sla_targets=ALL)
    assert m.Demand.objects.get(pk=demand.pk).sla_targets == ALL
    assert post(sla_targets=ALL) == demand
    with refused(ReferenceReused):
        post(sla_targets=FAST)

    amend_demand(demand=demand, party=world.party("elm"), sla_targets=FAST, now=clock.now())

    assert m.Demand.objects.get(pk=demand.pk).sla_targets == FAST
    assert post(reference="plain").sla_targets == {}


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("targets", "error", "facts"), BAD)
def test_a_demand_with_a_contradictory_target_is_refused_with_its_rule(
    targets: Any, error: type[BadInput], facts: dict[str, Any]
) -> None:
    with refused(error, **facts):
        post(sla_targets=targets)


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("targets", "rule"), SHORT)
def test_a_target_that_the_hours_can_never_break_is_refused(targets: dict[str, int], rule: str) -> None:
    with refused(ContradictoryRules, rule=rule, field="sla_targets"):
        post(sla_targets=targets, end_slot=4)
    assert post(sla_targets=targets, end_slot=24).sla_targets == targets


@pytest.mark.stage("bidding")
def test_a_bid_promises_targets_under_its_seal() -> None:
    placed = bid(sla_targets=ALL)

    row = m.Bid.objects.get(pk=placed.pk)
    assert row.sla_targets is None
    assert read_own(row, party=world.party("granite")).sla_targets == ALL
    assert {len(bytes(body)) for body in m.BidSeal.objects.values_list("body", flat=True)} == {
        len(bytes(placed.seal.body))
    }  # whatever is promised, every seal is as long
    assert bid(sla_targets=ALL).pk == placed.pk
    with refused(ReferenceReused):
        bid(sla_targets=FAST)


@pytest.mark.stage("bidding")
@pytest.mark.parametrize(("targets", "error", "facts"), BAD)
def test_a_bid_with_a_contradictory_target_is_refused_with_its_rule(
    targets: Any, error: type[BadInput], facts: dict[str, Any]
) -> None:
    with refused(error, **facts):
        bid(sla_targets=targets)


@pytest.mark.stage("collecting")
def test_the_database_keeps_the_menu_of_the_code() -> None:
    """Each bound on the menu and its neighbours, and the contradictions, through both."""
    tried = [{target.name: bound + step} for target in MENU for bound in target.menu for step in (-1, 0, 1)]
    tried += [{"x_max": 1}, {}, {"latency_p95_ms_max": "20"}, {"latency_p95_ms_max": None}, ALL]
    pairs = [{**{"latency_p50_ms_max": a} , **{"latency_p95_ms_max": b}, "latency_p99_ms_max": c}
             for a in (5, 50) for b in (20, 100) for c in (10, 100)]  # fmt: skip
    pairs += [{"latency_p50_ms_max": 50, "latency_p99_ms_max": 20}, {"start_by_minutes_max": 60},
              {"repair_minutes_max": 240}, {"throughput_spread_bps_max": 1000}, {}]  # fmt: skip
    with connection.cursor() as cursor:
        for targets in tried:
            cursor.execute("SELECT marketplace_targets_are_known(%s)", [json.dumps(targets)])
            assert cursor.fetchone() == (not _refuses(lambda told=targets: check_menu(told)),), targets
        for targets in pairs:
            for hours in (1, 4, 5, 23, 24, 48):
                cursor.execute("SELECT marketplace_targets_agree(%s, %s)", [json.dumps(targets), hours])
                agree = not _refuses(lambda told=targets, h=hours: check_targets(told, hours=h))
                assert cursor.fetchone() == (agree,), (targets, hours)
        for odd in ("[]", "3", '"x"', "null"):
            cursor.execute("SELECT marketplace_targets_are_known(%s)", [odd])
            assert cursor.fetchone() == (False,)


def _refuses(check: Any) -> bool:
    try:
        check()
    except SlaError:
        return True
    return False
