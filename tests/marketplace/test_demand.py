"""Demand: every bad input is refused with its field, and what is refused writes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger.selectors import spendable
from marketplace import clock
from marketplace import models as m
from marketplace.demand.services import amend_demand, fund_demand, post_demand, withdraw_demand
from marketplace.errors import (
    BadInput,
    BadSlots,
    ContradictoryRules,
    NotFunded,
    NotYours,
    PriceOffTick,
    PriceOutOfRange,
    QuantityOutOfRange,
    ReferenceReused,
    UnknownName,
    WindowClosed,
    WrongStanding,
)
from tests.journey import world
from tests.journey.refusals import refused, untouched

pytestmark = pytest.mark.stage("collecting")


def post(**changes: Any) -> m.Demand:
    terms: dict[str, Any] = {
        "party": world.party("elm"), "window": world.window(), "reference": "new", "kind": "divisible",
        "accepted_classes": ["H100"], "quantity_units": 1, "start_slot": 0, "end_slot": 5,
        "price_limit_micros": 1_000_000, "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip
    return post_demand(**terms | changes)


BAD: list[tuple[dict[str, Any], type[Exception], dict[str, Any]]] = [
    ({"latency_class": "L30"}, BadInput, {"field": "latency_class", "rule": "no_such_class"}),
    ({"latency_class": "L20"}, BadInput, {"field": "vantage_code"}),
    ({"latency_class": "L20", "latency_ms_max": 21}, ContradictoryRules, {"field": "latency_class"}),
    ({"latency_class": "L10", "sla_targets": {"latency_p50_ms_max": 50}}, ContradictoryRules,
     {"field": "sla_targets", "rule": "percentiles_rise"}),
    ({"price_limit_micros": 0}, PriceOutOfRange, {"field": "price_limit_micros", "price": 0}),
    ({"price_limit_micros": -100}, PriceOutOfRange, {"field": "price_limit_micros", "price": -100}),
    ({"price_limit_micros": 10**9 + 100}, PriceOutOfRange, {"field": "price_limit_micros"}),
    ({"price_limit_micros": 2**63}, PriceOutOfRange, {"field": "price_limit_micros"}),
    ({"price_limit_micros": 1_000_050}, PriceOffTick, {"field": "price_limit_micros", "nearest": 1_000_000}),
    ({"price_limit_micros": 1_000_000.0}, BadInput, {"field": "price_limit_micros"}),
    ({"price_limit_micros": "1000000"}, BadInput, {"field": "price_limit_micros"}),
    ({"price_limit_micros": True}, BadInput, {"field": "price_limit_micros"}),
    ({"price_limit_micros": None}, BadInput, {"field": "price_limit_micros"}),
    ({"quantity_units": 0}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": -1}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": 2**20 + 1}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": 2**63}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": 2**200}, QuantityOutOfRange, {"field": "quantity_units"}),
    ({"quantity_units": 1.5}, BadInput, {"field": "quantity_units"}),
    ({"quantity_units": True}, BadInput, {"field": "quantity_units"}),
    ({"start_slot": -1}, BadSlots, {"field": "start_slot"}),
    ({"start_slot": 30}, BadSlots, {"field": "start_slot", "slots": 30}),
    ({"start_slot": 5}, BadSlots, {"field": "end_slot"}),
    ({"end_slot": 31}, BadSlots, {"field": "end_slot", "slots": 30}),
    ({"end_slot": 2**63}, BadSlots, {"field": "end_slot"}),
    ({"end_slot": 5.0}, BadInput, {"field": "end_slot"}),
    ({"kind": "spot"}, BadInput, {"field": "kind"}),
    ({"minimum_units": 1}, BadInput, {"field": "minimum_units"}),
    ({"is_one_site": True}, BadInput, {"field": "is_one_site"}),
    ({"choice": "either"}, BadInput, {"field": "choice"}),
    ({"kind": "block", "minimum_units": 1}, BadInput, {"field": "minimum_units"}),
    ({"kind": "window", "minimum_units": 2}, QuantityOutOfRange, {"field": "minimum_units", "quantity_units": 1}),
    ({"kind": "window", "minimum_units": -1}, QuantityOutOfRange, {"field": "minimum_units"}),
    ({"kind": "window", "minimum_units": True}, BadInput, {"field": "minimum_units"}),
    ({"kind": "window", "minimum_units": 1.0}, BadInput, {"field": "minimum_units"}),
    ({"kind": "block", "is_one_site": 1}, BadInput, {"field": "is_one_site"}),
    ({"kind": "block", "choice": "x" * 61}, BadInput, {"field": "choice"}),
    ({"kind": "block", "choice": 5}, BadInput, {"field": "choice"}),
    ({"kind": "block", "choice": " "}, BadInput, {"field": "choice"}),
    ({"accepted_classes": []}, BadInput, {"field": "accepted_classes"}),
    ({"accepted_classes": "H100"}, BadInput, {"field": "accepted_classes"}),
    ({"accepted_classes": ["H100", "TPU"]}, UnknownName, {"field": "accepted_classes", "known": ["A100", "H100"]}),
    ({"zone_code": "ATLANTIS"}, UnknownName, {"field": "zone_code"}),
    ({"control_zone_code": "ATLANTIS"}, UnknownName, {"field": "control_zone_code"}),
    ({"zone_code": "OLD"}, ContradictoryRules, {"field": "zone_code"}),
    ({"control_zone_code": "OLD"}, ContradictoryRules, {"field": "control_zone_code"}),
    ({"tier_min": 4}, BadInput, {"field": "tier_min"}),
    ({"tier_min": -1}, BadInput, {"field": "tier_min"}),
    ({"tier_min": True}, BadInput, {"field": "tier_min"}),
    ({"tier_min": 1.0}, BadInput, {"field": "tier_min"}),
    ({"sla_code": "100"}, UnknownName, {"field": "sla_code"}),
    ({"sla_code": ""}, BadInput, {"field": "sla_code"}),
    ({"vantage_code": "moon"}, UnknownName, {"field": "vantage_code"}),
    ({"latency_ms_max": 5}, BadInput, {"field": "vantage_code"}),
    ({"latency_ms_max": 0, "vantage_code": "ams"}, BadInput, {"field": "latency_ms_max"}),
    ({"latency_ms_max": 10_001, "vantage_code": "ams"}, BadInput, {"field": "latency_ms_max"}),
    ({"latency_ms_max": 1.5, "vantage_code": "ams"}, BadInput, {"field": "latency_ms_max"}),
    ({"zone_code": "EU\x00"}, UnknownName, {"field": "zone_code"}),
    ({"reference": " "}, BadInput, {"field": "reference"}),
    ({"reference": "nul\x00"}, BadInput, {"field": "reference"}),
    ({"reference": 5}, BadInput, {"field": "reference"}),
    ({"reference": "x" * 61}, BadInput, {"field": "reference"}),
]


@pytest.mark.parametrize(("changes", "kind", "facts"), BAD, ids=[str(changes)[:60] for changes, _, _ in BAD])
def test_a_bad_term_is_refused_beside_its_field(
    changes: dict[str, Any], kind: type[Exception], facts: dict[str, Any]
) -> None:
    with refused(kind, **facts):
        post(**changes)


def test_good_terms_are_posted_with_the_next_rank_and_move_no_money() -> None:
    before = spendable(code="buyer.available", party=world.party("alder").pk)

    made = post(party=world.party("alder"), zone_code="EU", vantage_code="ams", latency_ms_max=10, tier_min=3)

    assert (made.state, made.accepted_rank, made.hold_id) == ("posted", 9, None)
    assert spendable(code="buyer.available", party=world.party("alder").pk) == before


@pytest.mark.parametrize("terms", [
    {"kind": "block"}, {"kind": "block", "is_one_site": True, "choice": "either"},
    {"kind": "window", "minimum_units": 2, "quantity_units": 3}, {"kind": "window", "choice": "either"},
])  # fmt: skip
def test_a_whole_demand_keeps_what_makes_it_whole_and_says_the_same_when_sent_again(terms: dict[str, Any]) -> None:
    made = post(**terms)

    assert {name: getattr(made, name) for name in terms} == terms
    assert post(**terms) == made
    with refused(ReferenceReused, field="reference"):
        post(**terms | {"choice": "another"})


def test_a_whole_demand_that_is_amended_to_divisible_gives_up_what_made_it_whole() -> None:
    made = post(kind="window", minimum_units=1, choice="either")

    with refused(BadInput, field="minimum_units"):
        amend_demand(demand=made, party=made.party, kind="divisible", now=clock.now())

    changed = amend_demand(
        demand=made, party=made.party, kind="divisible", minimum_units=0, choice=None, now=clock.now()
    )
    assert (changed.kind, changed.minimum_units, changed.choice) == ("divisible", 0, "")


def test_only_a_buyer_posts_demand() -> None:
    with refused(BadInput, field="party"):
        post(party=world.party("granite"))

    assert post(party=world.party("cedar")).state == "posted"


def test_the_largest_order_that_can_be_written_fits_the_books() -> None:
    largest = post(quantity_units=2**20, price_limit_micros=10**9, end_slot=30)

    assert largest.hold_micros == 2**20 * 10**9 * 30 < 2**62


def test_a_window_whose_time_is_over_takes_no_demand() -> None:
    closes_at = world.window().demand_closes_at

    with refused(WindowClosed, window=world.MAIN, state="COLLECTING", closed_at=closes_at.isoformat()):
        post(now=closes_at)
    with refused(WindowClosed, window=world.EARLY, state="SETTLED"):
        post(window=world.window(world.EARLY))

    assert post(now=closes_at - timedelta(microseconds=1)).state == "posted"


def test_the_same_reference_with_the_same_terms_is_one_demand() -> None:
    first = post(zone_code="EU")

    with untouched():
        assert post(zone_code="EU") == first
    with refused(ReferenceReused, field="reference"):
        post(zone_code="EU", quantity_units=2)
    with refused(ReferenceReused, field="reference"):
        post()
    assert post(party=world.party("cedar")).pk != first.pk  # another party's names are its own


def test_what_somebody_else_owns_is_not_found() -> None:
    tardy, stranger, now = world.demand("tardy"), world.party("alder"), clock.now()

    for act in (fund_demand, withdraw_demand, amend_demand):
        with refused(NotYours) as refusal:
            act(demand=tardy, party=stranger, now=now)
        assert refusal.value.code == "not_found"

    assert withdraw_demand(demand=tardy, party=tardy.party, now=now).state == "withdrawn"


def test_an_overdraft_is_not_funded_and_says_what_is_missing() -> None:
    row = post(party=world.party("alder"), quantity_units=2**20)

    with refused(NotFunded, needed_micros=row.hold_micros):
        fund_demand(demand=row, party=row.party, now=clock.now())

    free = spendable(code="buyer.available", party=row.party_id).minor
    exact = post(party=row.party, reference="exact", price_limit_micros=free // 500 * 100, end_slot=5)
    assert fund_demand(demand=exact, party=row.party, now=clock.now()).state == "funded"


def test_funding_twice_holds_once() -> None:
    genome = world.demand("genome")

    with untouched():
        assert fund_demand(demand=genome, party=genome.party, now=clock.now()).hold_id == genome.hold_id


def test_an_unfunded_demand_may_change_and_a_funded_one_may_not() -> None:
    tardy, genome, now = world.demand("tardy"), world.demand("genome"), clock.now()

    changed = amend_demand(demand=tardy, party=tardy.party, now=now, quantity_units=5, zone_code=None)

    assert (changed.quantity_units, changed.zone_id, changed.price_limit_micros) == (5, None, tardy.price_limit_micros)
    with refused(WindowClosed, state="funded"):
        amend_demand(demand=genome, party=genome.party, now=now, quantity_units=5)
    with refused(BadInput, field="accepted_rank"):
        amend_demand(demand=tardy, party=tardy.party, now=now, accepted_rank=1)
    with refused(PriceOffTick, field="price_limit_micros"):
        amend_demand(demand=tardy, party=tardy.party, now=now, price_limit_micros=150)


def test_a_withdrawn_demand_gives_its_hold_back_once() -> None:
    genome, now = world.demand("genome"), clock.now()
    before = spendable(code="buyer.available", party=genome.party_id).minor

    assert withdraw_demand(demand=genome, party=genome.party, now=now).state == "withdrawn"

    assert spendable(code="buyer.available", party=genome.party_id).minor == before + genome.hold_micros
    with untouched():
        withdraw_demand(demand=genome, party=genome.party, now=now)
    with refused(WrongStanding, state="withdrawn"):
        fund_demand(demand=genome, party=genome.party, now=now)


@pytest.mark.stage("bidding")
def test_once_bidding_has_opened_nothing_about_demand_changes() -> None:
    genome, now = world.demand("genome"), clock.now()

    for act in (amend_demand, withdraw_demand):
        with refused(WindowClosed, window=world.MAIN, state="BIDDING"):
            act(demand=genome, party=genome.party, now=now)
    with refused(WindowClosed, state="BIDDING"):
        post()
