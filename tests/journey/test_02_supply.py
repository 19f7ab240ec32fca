"""Supply follows: who has proven itself may bid, under seal, and only what it has proven."""

from __future__ import annotations

import pytest

from ledger.rails.evm import chain
from marketplace import clock
from marketplace import models as m
from marketplace.demand.services import amend_demand
from marketplace.errors import NotEligible, WindowClosed
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused


@pytest.mark.stage("bidding")
def test_the_gate_opened_when_funded_demand_had_passed_it() -> None:
    opening = world.window().transitions.get(to_state="BIDDING")

    assert opening.reason == "funded demand passed the gate"
    assert (opening.facts["gate_unit_hours"], opening.facts["funded_unit_hours"]) == (600, 668)
    assert (opening.facts["gate_parties"], opening.facts["funded_parties"]) == (4, 4)


@pytest.mark.stage("bidding")
def test_demand_is_frozen_while_providers_bid() -> None:
    genome = world.demand("genome")

    with refused(WindowClosed, state="BIDDING"):
        amend_demand(demand=genome, party=genome.party, price_limit_micros=2_000_000, now=clock.now())


@pytest.mark.stage("bidding")
def test_a_bid_says_nothing_to_the_audit_trail_but_that_it_was_placed() -> None:
    bids = m.Bid.objects.filter(window=world.window())
    lines = m.AuditLine.objects.filter(action="place_bid", subject__in=[str(row.pk) for row in bids])

    assert set(bids.values_list("state", flat=True)) == {"sealed"}
    assert {line.subject: line.facts for line in lines} == {
        str(row.pk): {"window": str(row.window_id), "commitment": bytes(row.seal.commitment).hex()} for row in bids
    }


@pytest.mark.stage("bidding")
def test_two_weeks_of_checks_and_a_baseline_prove_a_class_in_books_and_chain() -> None:
    proven = {each.code for each in world.MACHINES if each.standing == "PROVEN"}

    for each in world.MACHINES:
        row = world.node_class(each.code)
        on_chain = chain().call("stake", "state_of", row.chain_class)
        assert row.standing.state == each.standing
        assert on_chain == ("REGISTERED", "PROBATION", "PROVEN").index(each.standing)
    rises = m.StandingChange.objects.filter(from_state="PROBATION", to_state="PROVEN")
    assert set(rises.values_list("node_class__party__slug", flat=True)) == proven


@pytest.mark.stage("bidding")
def test_granite_was_warned_in_an_earlier_window_and_has_proven_itself_again() -> None:
    path = list(world.node_class("granite").standing_changes.values_list("to_state", flat=True))

    assert path == ["PROBATION", "PROVEN", "DEGRADED", "PROVEN"]
    assert m.SlashCase.objects.get().outcome == "warned"


@pytest.mark.stage("bidding")
def test_who_has_proven_nothing_cannot_bid() -> None:
    with refused(NotEligible, rule="standing", standing="REGISTERED"):
        _bid("sprout", units=1)

    m.Bid.objects.filter(pk=world.bid("harbour").pk).update(state="withdrawn")
    assert _bid("harbour", units=16).state == "sealed"


@pytest.mark.stage("bidding")
def test_probation_offers_a_tenth_of_what_was_measured_and_no_more() -> None:
    with refused(NotEligible, rule="proven_units", allowed_units=4, already_offered=2, standing="PROBATION"):
        _bid("basalt", units=3)

    assert _bid("basalt", units=2).state == "sealed"


def _bid(provider: str, *, units: int) -> m.Bid:
    row = world.node_class(provider)
    return place_bid(
        party=row.party, node_class=row, window=world.window(), reference="one more", quantity_units=units,
        start_slot=2, end_slot=26, price_ask_micros=1_000_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip
