"""Demand comes first: buyers say what they need, under which rules, and show the money."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.selectors import balance, spendable
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import judge_gate
from marketplace.demand.services import fund_demand, funded_figures
from marketplace.errors import DemandFirst, NotFunded, WindowClosed
from marketplace.escrow.services import deposit_funds
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused


@pytest.mark.stage("collecting")
def test_a_buyer_says_what_it_needs_and_under_which_rules() -> None:
    genome = world.demand("genome")

    assert genome.window.state == "COLLECTING"
    assert (genome.quantity_units, genome.hours, genome.unit_hours) == (4, 30, 120)
    assert (genome.zone_id, genome.tier_min, genome.sla_id) == ("EU", 2, "99.0")
    assert genome.hold_micros == 360 * world.USD


@pytest.mark.stage("collecting")
def test_a_funded_demand_holds_its_limit_in_the_books_and_nothing_on_the_chain() -> None:
    alder = world.party("alder")
    held = sum(row.hold_micros for row in m.Demand.objects.filter(party=alder, state="funded", window=world.window()))

    assert held == (360 + 48) * world.USD
    assert spendable(code="buyer.available", party=alder.pk).minor == (
        balance(code="buyer.available", party=alder.pk).minor - held
    )
    assert balance(code="buyer.held", party=alder.pk, scope=world.window().pk).minor == 0


@pytest.mark.stage("collecting")
def test_a_bid_sent_before_funded_demand_is_refused_and_says_what_is_missing() -> None:
    prairie = world.node_class("prairie")

    with refused(
        DemandFirst, needed_unit_hours=600, funded_unit_hours=548, needed_parties=4, funded_parties=3, funded_demands=6
    ) as refusal:
        place_bid(
            party=prairie.party, node_class=prairie, window=world.window(), reference="too early", quantity_units=1,
            start_slot=0, end_slot=30, price_ask_micros=400_000, sla_code="99.0", now=clock.now(),
        )  # fmt: skip

    assert refusal.value.code == "demand_first"
    assert not m.Bid.objects.filter(window=world.window()).exists()


@pytest.mark.stage("collecting")
def test_demand_without_money_is_not_funded_and_does_not_open_the_gate() -> None:
    tardy = world.demand("tardy")
    with refused(NotFunded, needed_micros=tardy.hold_micros):
        fund_demand(demand=tardy, party=tardy.party, now=clock.now())
    assert tardy.state == "posted"

    state = judge_gate(window=world.window(), now=world.window().demand_closes_at)

    assert state == "FAILED"
    assert world.window().transitions.get().facts["funded_unit_hours"] == 548


@pytest.mark.stage("collecting")
def test_a_window_that_misses_its_gate_gives_every_hold_back() -> None:
    judge_gate(window=world.window(), now=world.window().demand_closes_at)

    states = set(world.window().demands.values_list("reference", "state"))
    assert {state for _, state in states} == {"released", "unfunded"}
    for code in world.BUYERS:
        party = world.party(code)
        assert spendable(code="buyer.available", party=party.pk) == balance(code="buyer.available", party=party.pk)


def test_late_money_makes_a_demand_eligible_and_opens_the_gate(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    tardy, now = world.demand("tardy"), clock.now()

    deposit_funds(party=tardy.party, amount_micros=tardy.hold_micros, key="late", now=now)
    with pytest.raises(NotFunded):  # asked for is not there yet: the chain has to have it first
        fund_demand(demand=tardy, party=tardy.party, now=now)
    cycle.run_chain(now=now)
    fund_demand(demand=tardy, party=tardy.party, now=now)

    assert funded_figures(window=world.window()) == {"funded_unit_hours": 668, "funded_parties": 4, "funded_demands": 7}
    assert judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at)) == "BIDDING"
    assert world.demand("hope").state == "unfunded"


@pytest.mark.stage("bidding")
def test_demand_that_was_never_funded_is_turned_away_at_the_gate() -> None:
    hope = world.demand("hope")

    assert (hope.state, hope.hold_id) == ("unfunded", None)
    with refused(WindowClosed, state="BIDDING"):
        fund_demand(demand=hope, party=hope.party, now=clock.now())
