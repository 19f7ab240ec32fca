"""A provider disputes, two persons outside the panel judge, and undecided after 14 days means no slash."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from ledger.models import ChainIntent
from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import BadInput, NotYours, SlashHeldBack, TooLate, WrongStanding
from marketplace.slashing.appeals import give_opinion, open_appeal
from marketplace.slashing.services import execute_due, request_slash
from tests.architecture.test_constraints import again, first, refused_by
from tests.journey import world
from tests.journey.refusals import refused, untouched


def case() -> m.SlashCase:
    return m.SlashCase.objects.select_related("verdict__lease", "node_class").get(outcome__in=LIVE)


LIVE = ("requested", "disputed", "upheld", "vetoed", "lapsed", "executed")


def dispute(**changes: object) -> m.Appeal:
    facts: dict[str, object] = {"case": case(), "party": world.party("granite"), "person": "gina", "now": clock.now(),
                                "grounds": "The power of the whole street was cut."}  # fmt: skip
    return open_appeal(**facts | changes)  # type: ignore[arg-type]


def judge(name: str, *, upholds: bool, **changes: object) -> m.Opinion:
    facts: dict[str, object] = {"case": case(), "judge": name, "upholds": upholds, "reason": "read", "now": clock.now()}
    return give_opinion(**facts | changes)  # type: ignore[arg-type]


def stake() -> int:
    granite = world.node_class("granite")
    return balance(code="stake.mirror", party=granite.party_id, scope=granite.pk).minor


def later(**span: float) -> None:
    cycle.advance_until_quiet(now=clock.move_to(clock.now() + timedelta(**span)))


def test_a_rejected_request_takes_no_stake(own_world: Callable[[str], str]) -> None:
    own_world("accused")
    dispute()
    later(minutes=1)
    assert case().outcome == "disputed"
    assert execute_due(now=case().executable_at) == 0

    judge("ada", upholds=False)
    later(minutes=1)
    assert case().outcome == "disputed"  # one opinion decides nothing
    judge("bob", upholds=False)
    later(hours=80)

    assert case().outcome == "vetoed"
    assert stake() == world.STAKE_MICROS
    with refused(WrongStanding, outcome="vetoed"):
        judge("eve", upholds=True)


def test_an_upheld_request_is_executed_after_its_time_lock(own_world: Callable[[str], str]) -> None:
    own_world("accused")
    dispute()
    later(minutes=1)
    judge("ada", upholds=True)
    judge("eve", upholds=False)
    judge("bob", upholds=True)
    later(minutes=1)
    assert case().outcome == "upheld"

    later(hours=73)

    assert case().outcome == "executed"
    assert stake() == world.STAKE_MICROS - case().amount_micros
    assert compare_when_still(read_words, now=clock.now()) == []


def test_undecided_after_14_days_means_no_slash(own_world: Callable[[str], str]) -> None:
    own_world("accused")
    dispute()
    later(minutes=1)
    judge("ada", upholds=True)
    later(days=13, hours=23)
    assert case().outcome == "disputed"
    assert not ChainIntent.objects.filter(function="lapse").exists()  # a day too early the contract would refuse it

    later(hours=3)
    with refused(WrongStanding, outcome="lapsed"):
        judge("bob", upholds=True)

    assert (case().outcome, stake()) == ("lapsed", world.STAKE_MICROS)
    assert ChainIntent.objects.get(function="lapse").state == "final"


@pytest.mark.stage("accused")
def test_only_its_provider_disputes_in_time_with_grounds_and_once() -> None:
    with refused(NotYours):
        dispute(party=world.party("harbour"))
    with refused(BadInput, field="grounds"):
        dispute(grounds="  ")
    with refused(TooLate):
        dispute(now=case().executable_at)
    with refused(WrongStanding, outcome="held_back"):
        dispute(party=world.party("basalt"), case=m.SlashCase.objects.get(outcome="held_back"))

    appeal = dispute(now=case().executable_at - timedelta(seconds=1))
    with untouched():
        assert dispute().pk == appeal.pk
        assert execute_due(now=case().executable_at) == 0


@pytest.mark.stage("accused")
def test_judges_are_two_persons_outside_the_panel() -> None:
    with refused(WrongStanding):
        judge("ada", upholds=True)
    appeal = dispute()
    m.SlashCase.objects.filter(pk=case().pk).update(outcome="disputed")
    for insider in ("slasher:1", "gina"):
        with refused(BadInput, field="judge"):
            judge(insider, upholds=False)
    with refused(BadInput, field="reason"):
        judge("ada", upholds=False, reason="")
    assert appeal.decide_by == appeal.opened_at + timedelta(days=14)
    with refused(TooLate):
        judge("ada", upholds=False, now=appeal.decide_by)

    judge("ada", upholds=False)
    with refused(BadInput, field="judge"):
        judge("ada", upholds=False)
    assert not ChainIntent.objects.filter(function="veto").exists()
    judge("bob", upholds=False)
    assert ChainIntent.objects.get(function="veto").role == "veto"


@pytest.mark.stage("accused")
def test_a_slash_before_proof_is_refused_by_the_service_by_the_database_and_by_the_contract() -> None:
    held_back = m.SlashCase.objects.select_related("verdict__lease").get(outcome="held_back")
    facts = {"amount_micros": 1, "kind": 1, "now": clock.now()}

    with refused(SlashHeldBack, lease=str(held_back.verdict.lease_id)):
        request_slash(verdict=held_back.verdict, **facts)
    assert refused_by(
        lambda: again(first(m.SlashCase, outcome="held_back"), outcome="requested", intent_key=None)
    ) == "slash_only_what_was_signed_while_proven"  # fmt: skip
    sent = ChainIntent.objects.get(contract="stake", function="request_slash", state="reverted")
    assert (sent.revert_reason, sent.receipt["succeeded"]) == ("stake: not proven at lock and breach", False)

    # After proof all three take it.
    armed = m.SlashCase.objects.select_related("verdict__lease").get(outcome="requested")
    assert armed.verdict.lease.is_armed
    assert ChainIntent.objects.get(key=armed.intent_key).state == "final"
