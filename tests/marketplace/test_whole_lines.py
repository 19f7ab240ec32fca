"""Blocks, minimums, one site, alternatives and bids with a minimum, from the order to the award or its reason."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.selectors import hold
from marketplace import clock
from marketplace import models as m
from marketplace.clearing.services import clear_window, close_bidding, judge_gate, verify_published
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.errors import QuantityOutOfRange, ReferenceReused
from marketplace.insights.words import reason_sentence
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused

pytestmark = pytest.mark.stage("collecting")


def only(*orders: dict[str, Any]) -> list[m.Demand]:
    """Cedar asks for this and for nothing else, with the money that its other demands gave back."""
    owner = world.party("cedar")
    for demand in world.window().demands.filter(party=owner, state="funded"):
        withdraw_demand(demand=demand, party=owner, now=clock.now())
    made = []
    for order in orders:
        terms = {
            "party": owner, "window": world.window(), "kind": "block", "accepted_classes": ["H100"],
            "quantity_units": 2, "start_slot": 0, "end_slot": 10, "price_limit_micros": 2_000_000, "sla_code": "99.0",
            "zone_code": "US", "now": clock.now(),
        }  # fmt: skip
        made.append(fund_demand(demand=post_demand(**terms | order), party=owner, now=clock.now()))
    return made


def cleared(*offers: world.Offer, **terms: Any) -> m.Clearing:
    """The gate opens, these offers come in beside prairie's, and the window is cleared."""
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    for offer in offers or (world.Offer("prairie", 16, (0, world.SLOTS), 400_000),):
        world.let_in(offer.provider, world.window(), offer.units * (offer.slots[1] - offer.slots[0]))
        place_bid(
            party=world.party(offer.provider), node_class=world.node_class(offer.provider), window=world.window(),
            reference=f"{offer.provider} whole", quantity_units=offer.units, start_slot=offer.slots[0],
            end_slot=offer.slots[1], price_ask_micros=offer.ask, sla_code="99.0", now=clock.now(), **terms,
        )  # fmt: skip
    close_bidding(window=world.window(), now=clock.move_to(world.window().bidding_closes_at))
    clearing = clear_window(window=world.window(), now=clock.now())
    assert verify_published(clearing=clearing) == []
    return clearing


def reason(line: m.Demand | m.Bid) -> m.LineReason:
    return line.reasons.get()


def test_a_block_is_served_whole() -> None:
    [block] = only({"reference": "block", "quantity_units": 3})

    clearing = cleared()

    assert [(a.units, a.start_slot, a.end_slot) for a in clearing.awards.filter(demand=block)] == [(3, 0, 10)]


def test_a_block_that_no_capacity_holds_whole_is_not_served_in_part() -> None:
    [block] = only({"reference": "block", "quantity_units": 3})

    cleared(world.Offer("prairie", 2, (0, world.SLOTS), 400_000))

    block.refresh_from_db()
    assert (block.state, block.awards.count(), hold(block.hold_id).state) == ("lost", 0, "void")
    assert reason(block).code in ("block_rejected", "no_capacity_in_slots")
    assert reason(block).unfilled_unit_hours == 30


def test_of_two_alternatives_one_wins_and_the_other_is_told_which_and_gets_its_hold_back() -> None:
    either, other = only(
        {"reference": "either", "choice": "night or day"},
        {"reference": "other", "choice": "night or day", "quantity_units": 1, "start_slot": 10, "end_slot": 20},
    )

    clearing = cleared()

    assert {a.demand_id for a in clearing.awards.filter(demand__party__slug="cedar")} == {either.pk}
    assert (reason(other).code, reason(other).detail) == ("alternative_won", {"winner": "either"})
    assert hold(other.hold_id).state == "void"
    assert "either" in reason_sentence(reason(other).code, reason(other).detail)


def test_a_window_with_a_minimum_gets_at_least_that_or_nothing() -> None:
    enough, _ = only(
        {"reference": "enough", "kind": "window", "quantity_units": 3, "minimum_units": 1},
        {"reference": "rival", "kind": "window", "quantity_units": 1, "price_limit_micros": 4_000_000},
    )

    clearing = cleared(world.Offer("prairie", 3, (0, world.SLOTS), 400_000))

    assert sum(a.units for a in clearing.awards.filter(demand=enough)) in (2, 3)


def test_one_site_is_one_site() -> None:
    [alone] = only({"reference": "alone", "quantity_units": 6, "zone_code": "EU", "is_one_site": True,
                    "price_limit_micros": 2_000_000})  # fmt: skip

    clearing = cleared(world.Offer("granite", 8, (0, world.SLOTS), 1_500_000),
                       world.Offer("harbour", 16, (0, world.SLOTS), 1_600_000))  # fmt: skip

    sites = {a.bid.node_class.site_id for a in clearing.awards.filter(demand=alone)}
    assert len(sites) == 1 or reason(alone).code in ("block_rejected", "priced_out")


def test_a_bid_with_a_minimum_sells_that_or_nothing_and_is_told_why() -> None:
    only({"reference": "small", "kind": "window", "quantity_units": 1})

    cleared(world.Offer("prairie", 16, (0, 10), 400_000), minimum_units=8)

    bid = m.Bid.objects.get(reference="prairie whole")
    assert (bid.minimum_units, bid.state, bid.awards.count()) == (8, "lost", 0)
    assert reason(bid).code in ("minimum_not_met", "priced_out")
    assert reason_sentence(reason(bid).code, reason(bid).detail)


@pytest.mark.parametrize("minimum", [-1, 17])
def test_a_bid_s_minimum_lies_within_its_quantity(minimum: int) -> None:
    only({"reference": "small"})
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    terms: dict[str, Any] = {
        "party": world.party("prairie"), "node_class": world.node_class("prairie"), "window": world.window(),
        "reference": "mine", "quantity_units": 16, "start_slot": 0, "end_slot": 5, "price_ask_micros": 400_000,
        "sla_code": "99.0", "now": clock.now(),
    }  # fmt: skip

    world.let_in("prairie", world.window(), 16 * 5)
    with refused(QuantityOutOfRange, field="minimum_units"):
        place_bid(**terms, minimum_units=minimum)

    assert place_bid(**terms, minimum_units=16).minimum_units == 16
    with refused(ReferenceReused, field="reference"):
        place_bid(**terms, minimum_units=15)
