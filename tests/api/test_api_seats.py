"""Seats over the API: a program reads them, a person who may changes them, and everybody else is told why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from marketplace import models as m
from marketplace.parties.services import make_seat
from tests.api.conftest import Caller
from tests.doors.factories import NOW, PASSWORD, seat


@pytest.fixture
def owner(market: Any) -> Caller:
    return person(market, "owner")


def person(market: Any, role: str) -> Caller:
    client = Client()
    client.force_login(seat(market.buyers[0], f"{role}@api.example", role))
    return Caller(client, {})


def invite(by: Caller, **changes: Any) -> Any:
    return by.post("/invitations", {"email": "noa@new.example", "role": "approver"} | changes)


def test_seats_are_listed_page_by_page_with_a_key_too(market, owner, buyer):
    for number in range(3):
        make_seat(party=market.buyers[0], email=f"c{number}@api.example", password=None, role="finance", now=NOW)

    first = buyer.get("/seats", limit="2").json()
    rest = buyer.get("/seats", limit="200", cursor=first["next_cursor"]).json()

    found = [row["email"] for row in first["data"] + rest["data"]]
    assert len(found) == len(set(found)) == m.Seat.objects.filter(party=market.buyers[0]).count() == 4
    assert rest["next_cursor"] is None
    assert set(first["data"][0]) == {
        "id", "email", "name", "role", "is_on", "since", "last_sign_in_at", "order_max_micros", "limit_micros",
    }  # fmt: skip


def test_a_colleague_is_invited_taken_back_and_invited_again(market, owner, buyer):
    made = invite(owner)
    assert made.status_code == 201, made.json()
    link = made.json()["link"].removeprefix("http://testserver")
    listed = buyer.get("/invitations").json()["data"]
    assert [(row["email"], row["role"]) for row in listed] == [("noa@new.example", "approver")]
    assert "link" not in listed[0]

    assert owner.post(f"/invitations/{made.json()['id']}/withdrawal").status_code == 200

    assert Client().get(link).status_code == 410
    assert owner.post(f"/invitations/{made.json()['id']}/withdrawal").status_code == 404
    again = invite(owner).json()["link"].removeprefix("http://testserver")
    assert Client().post(again, {"name": "Noa", "password": PASSWORD, "again": PASSWORD}).status_code == 302
    assert m.Seat.objects.get(user__email="noa@new.example").party == market.buyers[0]


def test_a_repeated_invitation_keeps_one_open_link_and_no_secret_lies_in_a_remembered_reply(market, owner):
    first, second = (owner.post("/invitations", {"email": "noa@new.example", "role": "approver"}, key="one")
                     for _ in range(2))  # fmt: skip

    assert (first.status_code, second.status_code) == (201, 201)
    assert Client().get(first.json()["link"]).status_code == 410
    assert Client().get(second.json()["link"]).status_code == 200
    assert not m.RememberedReply.objects.exists()


def test_roles_and_switches_over_the_api(market, owner):
    colleague = make_seat(party=market.buyers[0], email="c@api.example", password=None, role="finance", now=NOW)
    path = f"/seats/sea_{colleague.pk.hex}"

    assert owner.post(f"{path}/role", {"role": "approver"}).json()["role"] == "approver"
    assert owner.post(f"{path}/deactivation").json()["is_on"] is False
    assert owner.post(f"{path}/activation").json()["is_on"] is True

    own = m.Seat.objects.get(user__email="owner@api.example")
    for what, body in (("role", {"role": "finance"}), ("deactivation", None)):
        refusal = owner.post(f"/seats/sea_{own.pk.hex}/{what}", body)
        assert (refusal.status_code, refusal.json()["code"]) == (409, "last_owner")
    make_seat(party=market.buyers[0], email="second@api.example", password=None, role="owner", now=NOW)
    refusal = owner.post(f"/seats/sea_{own.pk.hex}/deactivation")
    assert (refusal.status_code, refusal.json()["code"]) == (403, "same_person")


def test_who_may_not_is_answered_403_and_a_stranger_404(market, owner, buyer):
    colleague = make_seat(party=market.buyers[0], email="c@api.example", password=None, role="finance", now=NOW)
    made = invite(owner).json()
    acts: list[tuple[str, dict[str, Any] | None]] = [
        (f"/seats/sea_{colleague.pk.hex}/role", {"role": "owner"}),
        (f"/seats/sea_{colleague.pk.hex}/deactivation", None), (f"/seats/sea_{colleague.pk.hex}/activation", None),
        (f"/invitations/{made['id']}/withdrawal", None),
        ("/invitations", {"email": "x@new.example", "role": "finance"}),
    ]  # fmt: skip
    foreign = Client()
    foreign.force_login(seat(market.buyers[1], "owner@other.example", "owner"))

    for who in (person(market, "purchaser"), buyer):
        for path, body in acts:
            refusal = who.post(path, body)
            assert (refusal.status_code, refusal.json()["code"]) == (403, "role_forbidden"), path
    for path, body in acts[:-1]:
        assert Caller(foreign, {}).post(path, body).status_code == 404
    colleague.refresh_from_db()
    assert (colleague.role, colleague.user.is_active) == ("finance", True)
    assert json.dumps(made).count("/invitation/") == 1


def test_a_bad_invitation_is_told_by_its_field(owner):
    for changes, field in (({"email": "noa"}, "email"), ({"role": "operator"}, "role")):
        refusal = invite(owner, **changes)
        assert (refusal.status_code, refusal.json()["code"], refusal.json()["field"]) == (422, "bad_input", field)
