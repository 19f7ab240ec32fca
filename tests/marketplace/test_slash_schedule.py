"""What earlier breaches and earlier slashes make of a breach: 90 days of memory, one per window, and the caps.

Granite was warned for the early window; its lease in the main window is broken and settled, and no case is open yet.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.selectors import balance
from marketplace import clock
from marketplace import models as m
from marketplace.governance.services import set_flag
from marketplace.slashing.services import open_cases
from tests.journey import world
from tests.owner import unseen

pytestmark = pytest.mark.stage("paid")


def broken() -> m.Verdict:
    return m.Verdict.objects.select_related("lease").get(lease__demand__reference="genome")


def warned() -> m.SlashCase:
    return m.SlashCase.objects.select_related("verdict").get(verdict__lease__demand__reference="genome-0")


def judged() -> m.SlashCase:
    open_cases(window=world.window(), now=clock.now())
    return m.SlashCase.objects.get(verdict=broken())


def stake() -> int:
    granite = world.node_class("granite")
    return balance(code="stake.mirror", party=granite.party_id, scope=granite.pk).minor


@pytest.mark.parametrize(("ago", "outcome"), [
    (timedelta(days=90), "requested"), (timedelta(days=90, seconds=1), "warned"),
])  # fmt: skip
def test_a_breach_is_remembered_for_ninety_days_to_the_second(ago: timedelta, outcome: str) -> None:
    unseen(m.Verdict.objects.filter(pk=warned().verdict_id), breach_at=broken().breach_at - ago)

    assert judged().outcome == outcome


def test_two_breaches_of_one_window_are_one() -> None:
    unseen(m.Lease.objects.filter(pk=warned().verdict.lease_id), window=world.window())

    case = judged()

    assert (case.outcome, case.amount_micros) == ("warned", 0)
    assert case.sentence.startswith("First confirmed breach")


def test_a_breach_takes_the_class_out_of_the_market_and_the_second_one_suspends_it() -> None:
    granite = world.node_class("granite")
    assert granite.standing.state == "PROVEN"

    judged()

    changed = m.StandingChange.objects.filter(node_class=granite).order_by("id").last()
    assert (changed.from_state, changed.to_state, changed.reason) == ("PROVEN", "SUSPENDED", "second breach in 90 days")
    assert bytes(changed.evidence) == bytes(broken().evidence_hash)


def test_half_of_the_stake_in_ninety_days_is_the_most() -> None:
    unseen(m.SlashCase.objects.filter(pk=warned().pk), amount_micros=stake())
    case = judged()
    assert (case.outcome, case.amount_micros) == ("warned", 0)
    assert case.sentence.startswith("The cap of this period")


def test_a_slash_of_ninety_one_days_ago_leaves_the_cap_untouched() -> None:
    old = clock.now() - timedelta(days=90, seconds=1)
    unseen(m.SlashCase.objects.filter(pk=warned().pk), amount_micros=stake(), opened_at=old)

    case = judged()

    assert (case.outcome, case.amount_micros) == ("requested", broken().lease.stake_micros * 5 // 100)


def test_a_quarter_of_the_stake_in_one_window_is_the_most() -> None:
    other = m.Verdict.objects.filter(lease__window=world.window(), slash_case=None).exclude(pk=broken().pk)
    taken = {"outcome": "requested", "reason_kind": 1, "sentence": "another lease of this window",
             "amount_micros": -(-stake() // 3), "opened_at": clock.now()}  # fmt: skip
    m.SlashCase.objects.create(
        id=uuid7(clock.now()), verdict=other.filter(lease__is_armed=True).order_by("id").first(),
        node_class=world.node_class("granite"), **taken,
    )  # fmt: skip

    case = judged()

    assert (case.outcome, case.amount_micros) == ("warned", 0)
    assert case.sentence.startswith("The cap of this period")


def test_before_slashing_opens_a_second_breach_warns_and_asks_nothing_of_the_chain() -> None:
    set_flag(name="slashing", is_on=False, opens_in_phase=3, actor="ann", reason="a fault", now=clock.now())

    case = judged()

    assert (case.outcome, case.amount_micros, case.reason_kind) == ("warned", 0, 1)
    assert case.sentence.startswith("Slashing opens in a later phase")
    assert not ChainIntent.objects.filter(key=f"slash:{broken().lease_id}").exists()
