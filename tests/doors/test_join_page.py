"""A provider registers itself; a prosumer is answered 403 `phase_closed` until phase 4 is open."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from marketplace import join_pages as join
from marketplace import models as m
from tests.owner import behind_the_triggers

FIELDS = {
    "name": "Hochschule Neu", "kind": "university", "country": "DE", "parent_country": "DE",
    "email": "hpc@neu.example", "password": "a long enough password",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_tries_yet(market):
    cache.clear()


def register(**changes):
    return Client().post(reverse("onboarding:join"), FIELDS | changes)


def test_a_university_registers_signs_in_and_sees_its_checklist(market):
    assert "Become a provider" in Client().get("/login/").content.decode()
    assert register().status_code == 302
    seat = m.Seat.objects.get(user__email="hpc@neu.example")
    assert (seat.role, seat.party.kind, seat.user.is_staff) == ("owner", "university", False)
    client = Client()
    assert client.login(username="hpc@neu.example", password="a long enough password")
    assert client.get(reverse("onboarding:home")).status_code == 200


@pytest.mark.parametrize("kind", ["enterprise_buyer", "public_buyer", "research_buyer"])
def test_a_buyer_registers_signs_in_and_sees_its_portal(market, kind):
    assert "Register as a buyer" in Client().get("/login/").content.decode()
    assert "Money moves only when you fund" in Client().get(reverse("portal:join")).content.decode()
    fields = FIELDS | {"kind": kind}
    assert Client().post(reverse("onboarding:join"), fields).status_code == 422  # each door registers its own kinds
    assert Client().post(reverse("portal:join"), FIELDS).status_code == 422
    assert Client().post(reverse("portal:join"), fields).status_code == 302
    seat = m.Seat.objects.get(user__email="hpc@neu.example")
    assert (seat.role, seat.party.kind, seat.user.is_staff) == ("owner", kind, False)
    client = Client()
    assert client.login(username="hpc@neu.example", password="a long enough password")
    assert client.get(reverse("portal:home")).status_code == 200


def test_a_prosumer_is_answered_403_phase_closed_until_phase_4(market):
    refused = register(kind="prosumer")
    assert refused.status_code == 403
    assert "phase_closed" in refused.content.decode()
    assert not m.Party.objects.filter(name="Hochschule Neu").exists()

    with behind_the_triggers():  # how a phase is opened is another test; here it is
        m.Flag.objects.filter(name="prosumer_parties").update(is_on=True)
    assert register(kind="prosumer").status_code == 302


@pytest.mark.parametrize(("changes", "words"), [
    ({"name": "Nordlicht Rechenwerk"}, None), ({"email": "buyer@doors.example"}, "seat already"),
    ({"password": "short"}, "too short"), ({"country": "de"}, "two capital letters"), ({"name": "!"}, "two letters"),
    ({"kind": "foundation"}, "valid choice"), ({"email": "x"}, "valid email"),
])  # fmt: skip
def test_a_bad_registration_writes_nothing(market, changes, words):
    if words is None:  # nobody slips into an organisation that stands
        changes, words = {"name": market.buyers[0].slug}, "ask it for a seat"
    before = (m.Party.objects.count(), m.User.objects.count())

    refused = register(**changes)

    assert refused.status_code == 422
    assert words in refused.content.decode()
    assert (m.Party.objects.count(), m.User.objects.count()) == before


def test_one_address_tries_so_often_and_no_more(market, monkeypatch):
    monkeypatch.setattr(join, "TRIES_MAX", 2)

    assert [register(country="de").status_code for _ in range(3)] == [422, 422, 429]
    assert register().status_code == 429
    assert not m.Party.objects.filter(name="Hochschule Neu").exists()
