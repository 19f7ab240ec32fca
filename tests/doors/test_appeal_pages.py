"""Where a provider disputes a request, and where the Foundation's people judge it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from tests.owner import behind_the_triggers


@pytest.fixture
def requested(market) -> m.SlashCase:
    """A request against the first provider that can still be disputed."""
    case = m.SlashCase.objects.filter(node_class__party=market.providers[0], outcome="executed").first()
    with behind_the_triggers():
        m.SlashCase.objects.filter(pk=case.pk).update(
            outcome="requested", chain_id_of_request=7, executed_at=None, to_buyer_micros=0,
            executable_at=clock.now() + timedelta(hours=70),
        )  # fmt: skip
    return m.SlashCase.objects.get(pk=case.pk)


def appeal_of(case: m.SlashCase, *, outcome: str = "disputed") -> m.Appeal:
    m.SlashCase.objects.filter(pk=case.pk).update(outcome=outcome)
    return m.Appeal.objects.create(
        id=uuid7(clock.now()), case=case, person="gina", grounds="The street had no power.", opened_at=clock.now(),
        decide_by=clock.now() + timedelta(days=14),
    )  # fmt: skip


def page_of(client: Client, case: m.SlashCase) -> str:
    return client.get(reverse("onboarding:arming"), {"class": case.node_class_id}).content.decode()


def test_a_request_shows_how_to_dispute_it_and_refuses_empty_grounds(requested, enter):
    provider = enter("provider")

    assert "Dispute this request" in page_of(provider, requested)
    answer = provider.post(reverse("onboarding:case_dispute", args=[requested.pk]), {"grounds": ""}, follow=True)

    assert answer.status_code == 200
    assert not m.Appeal.objects.exists()
    assert provider.get(reverse("onboarding:case_dispute", args=[requested.pk])).status_code == 405


def test_an_appeal_shows_its_grounds_its_clock_and_its_opinions(requested, enter):
    appeal = appeal_of(requested)
    judge = "ada@judges.example"  # no three letters that an id in hex may hold by chance
    m.Opinion.objects.create(appeal=appeal, judge=judge, upholds=True, reason="The log says no.", given_at=clock.now())

    page = page_of(enter("provider"), requested)

    assert "The street had no power." in page
    assert "upholds the request: The log says no." in page
    assert judge not in page  # judges are not named to those they judge
    assert "Dispute this request" not in page


def test_a_case_of_somebody_else_is_not_there(requested, enter):
    assert enter("buyer").post(reverse("onboarding:case_dispute", args=[requested.pk])).status_code in (302, 403, 404)
    assert not m.Appeal.objects.exists()


def test_a_judge_reads_the_evidence_and_gives_one_opinion(requested):
    appeal_of(requested)
    client, address = Client(), f"/console/appeals/{requested.pk}/"
    client.force_login(m.User.objects.create_superuser("ada@foundation.example", "a long enough password"))

    page = client.get(address).content.decode()
    assert "The street had no power." in page
    assert "a breach needs more than" in page
    client.post(address, {"opinion": "reject", "reason": "The street was dark."})
    client.post(address, {"opinion": "reject", "reason": "The street was dark."})

    opinion = m.Opinion.objects.get()
    assert (opinion.judge, opinion.upholds) == ("ada@foundation.example", False)
    assert client.get(f"/console/appeals/{uuid7(clock.now())}/").status_code == 404
