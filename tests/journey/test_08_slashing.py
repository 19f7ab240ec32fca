"""Slashing is held back until proven: a warning, then stake, the harmed buyer first; before proof only the holdback."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.models import ChainEvent, ChainIntent
from ledger.rails.evm import chain
from ledger.selectors import balance, total
from marketplace import clock
from marketplace import models as m
from marketplace.slashing.services import execute_due, open_cases
from tests.journey import world
from tests.journey.refusals import untouched


def case(reference: str) -> m.SlashCase:
    return m.SlashCase.objects.select_related("verdict__lease", "node_class").get(
        verdict__lease__demand__reference=reference
    )


@pytest.mark.stage("collecting")
def test_the_first_confirmed_breach_in_ninety_days_only_warns() -> None:
    warned = case("genome-0")

    assert (warned.outcome, warned.amount_micros, warned.intent_key) == ("warned", 0, None)
    granite = world.node_class("granite")
    assert balance(code="stake.mirror", party=granite.party_id, scope=granite.pk).minor == world.STAKE_MICROS
    assert m.Credit.objects.get().verdict_id == warned.verdict_id  # the buyer was credited all the same


@pytest.mark.stage("accused")
def test_the_second_breach_asks_for_stake_and_opens_the_dispute_window() -> None:
    asked = case("genome")
    requested = ChainEvent.objects.get(name="SlashRequested")
    asked_at = chain().block(requested.block_number).timestamp

    assert asked.outcome == "requested"
    assert asked.amount_micros == asked.verdict.lease.stake_micros * 5 // 100
    assert int(asked.executable_at.timestamp()) == asked_at + 72 * 3600
    assert asked.to_buyer_micros == 0


@pytest.mark.stage("accused")
def test_nobody_is_slashed_before_the_dispute_window_is_over() -> None:
    due_at = case("genome").executable_at

    with untouched():
        assert execute_due(now=due_at - timedelta(seconds=1)) == 0

    assert execute_due(now=due_at) == 1


@pytest.mark.stage("accused")
def test_the_contract_itself_reverts_a_slash_of_the_unproven_twin() -> None:
    refused = ChainIntent.objects.get(state="reverted")

    assert (refused.contract, refused.function) == ("stake", "request_slash")
    assert refused.revert_reason == "stake: not proven at lock and breach"
    assert refused.receipt["succeeded"] is False  # it was sent and it failed on the chain, not here
    basalt = world.node_class("basalt")
    assert chain().call("stake", "stake_of", basalt.chain_class)[0] == world.STAKE_MICROS


@pytest.mark.stage("accused")
def test_the_unproven_twin_pays_from_its_holdback_instead() -> None:
    held_back = case("imaging")
    credit, lease = held_back.verdict.credit, held_back.verdict.lease

    assert (held_back.outcome, held_back.amount_micros) == ("held_back", 0)
    assert held_back.forfeit_micros == credit.amount_micros + -(-lease.stake_micros // 4)
    assert credit.posted_at is not None
    forfeited = ChainEvent.objects.get(name="HoldbackForfeited")
    assert int(forfeited.args["amount"]) == held_back.forfeit_micros
    assert forfeited.args["buyer"] == world.party("birch").chain_address


@pytest.mark.stage("closed")
def test_the_executed_slash_pays_the_harmed_buyer_first() -> None:
    executed, granite = case("genome"), world.node_class("granite")
    event = ChainEvent.objects.get(name="SlashExecuted")

    assert executed.outcome == "executed"
    assert executed.executed_at >= executed.executable_at
    assert (executed.to_buyer_micros, executed.to_pool_micros) == (executed.amount_micros, 0)
    assert event.args["buyer"] == world.party("alder").chain_address
    left = world.STAKE_MICROS - executed.amount_micros
    assert balance(code="stake.mirror", party=granite.party_id, scope=granite.pk).minor == left
    assert chain().call("stake", "stake_of", granite.chain_class)[0] == left
    assert total("insurance.pool").minor == 0


@pytest.mark.stage("closed")
def test_the_same_outage_never_costs_the_unproven_less() -> None:
    proven, unproven = case("genome"), case("imaging")

    def lost_share(each: m.SlashCase) -> float:
        lease = each.verdict.lease
        in_escrow = each.verdict.credit.amount_micros if lease.is_armed else 0
        return (in_escrow + each.to_buyer_micros + each.forfeit_micros) / lease.fee_micros

    assert lost_share(unproven) > lost_share(proven)


@pytest.mark.stage("closed")
def test_cases_are_opened_once() -> None:
    with untouched():
        assert open_cases(window=world.window(), now=clock.now()) == 0
        assert execute_due(now=clock.now()) == 0
