"""A slash is asked for within 17 days of its breach, and a holdback comes back 30 days after the last lease."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.models import ChainIntent
from marketplace import clock
from marketplace import models as m
from marketplace.errors import TooLate
from marketplace.payout.services import release_holdbacks
from marketplace.slashing.services import open_cases, request_slash
from tests.journey import world
from tests.journey.refusals import refused


@pytest.mark.stage("paid")
def test_a_breach_of_more_than_17_days_ago_costs_no_stake() -> None:
    verdict = m.Verdict.objects.get(lease__demand__reference="genome", lease__window=world.window())
    assert verdict.breach_at is not None
    late = verdict.breach_at + timedelta(days=17, seconds=1)
    with refused(TooLate, breach_at=verdict.breach_at.isoformat()):
        request_slash(verdict=verdict, amount_micros=1, kind=1, now=late)

    open_cases(window=world.window(), now=late)

    case = m.SlashCase.objects.get(verdict=verdict)
    assert (case.outcome, case.amount_micros) == ("warned", 0)
    assert "17 days" in case.sentence


@pytest.mark.stage("paid")
def test_a_breach_of_17_days_ago_still_does() -> None:
    verdict = m.Verdict.objects.get(lease__demand__reference="genome", lease__window=world.window())

    open_cases(window=world.window(), now=verdict.breach_at + timedelta(days=17))

    assert m.SlashCase.objects.get(verdict=verdict).outcome == "requested"


@pytest.mark.stage("closed")
def test_a_holdback_comes_back_thirty_days_after_the_last_lease() -> None:
    basalt = world.node_class("basalt")
    key = f"release:{basalt.chain_class}:"
    assert basalt.standing.state != "PROVEN"

    assert release_holdbacks(now=clock.now() + timedelta(days=20)) == 0
    assert not ChainIntent.objects.filter(key__startswith=key).exists()

    assert release_holdbacks(now=clock.now() + timedelta(days=31)) == 1
    assert ChainIntent.objects.filter(key__startswith=key).count() == 1
    assert release_holdbacks(now=clock.now() + timedelta(days=31)) == 0
