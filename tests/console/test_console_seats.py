"""Seats of the Foundation: its admin gives and takes them, the others see them, and the first comes by a command."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from marketplace import models as m
from tests.doors.factories import seat

PATH = "/console/seats/"
ANSWER = {"name": "Noa Neu", "password": "another long password", "again": "another long password"}


@pytest.fixture
def admin(market) -> Client:
    client = Client()
    client.force_login(seat(m.Party.objects.get(slug="foundation"), "admin@console.example", "admin", is_staff=True))
    return client


def test_an_admin_invites_a_judge_who_comes_into_the_console(admin):
    page = admin.post(PATH, {"act": "invite", "email": "judge@new.example", "role": "judge"}).content.decode()
    link = re.search(r"http://testserver(/invitation/[^<\s]+)", page)
    assert link

    assert Client().post(link[1], ANSWER).status_code == 302

    judge = Client()
    entered = judge.post("/login/", {"username": "judge@new.example", "password": ANSWER["password"]})
    assert entered.headers["Location"] == "/console/"
    assert judge.get(PATH).status_code == 200
    assert m.Seat.objects.get(user__email="judge@new.example").party.kind == "foundation"


def test_operations_sees_the_seats_and_changes_none(admin, staff):
    page = staff.get(PATH).content.decode()
    assert "admin@console.example" in page
    assert "Invite a colleague" not in page
    row = m.Seat.objects.get(user__email="admin@console.example")

    for act, words in (("off", {"id": row.pk}), ("role", {"id": row.pk, "role": "auditor"}), ("reset", {"id": row.pk})):
        told = staff.post(PATH, {"act": act, **words}, follow=True).content.decode()
        assert "may not" in told
    assert staff.post(PATH, {"act": "invite", "email": "x@new.example", "role": "judge"}).status_code == 422
    row.refresh_from_db()
    assert (row.role, row.user.is_active) == ("admin", True)


def test_nobody_at_the_foundation_signs_in_as_another_by_a_link_that_an_admin_makes(admin, staff):
    other = m.Seat.objects.filter(party__kind="foundation").exclude(user__email="admin@console.example").first()
    assert "Make a link for another password" not in admin.get(PATH).content.decode()

    told = admin.post(PATH, {"act": "reset", "id": other.pk}, follow=True).content.decode()

    assert "asks for the own link" in told
    assert not m.AuditLine.objects.filter(action="make_reset_link").exists()


def test_whoever_changes_a_password_in_the_console_comes_to_the_page_that_is_on_the_trail(staff):
    assert staff.get("/console/password_change/").headers["Location"] == "/account/password/"
    assert staff.get("/account/password/").status_code == 200


def test_the_first_admin_comes_by_the_operators_command(market):
    out = StringIO()
    call_command("invite", "foundation", "first@new.example", "admin", server="https://x.example/", stdout=out,
                 stderr=StringIO())  # fmt: skip
    path = out.getvalue().strip().removeprefix("https://x.example")

    assert Client().post(path, ANSWER).status_code == 302
    assert m.Seat.objects.get(user__email="first@new.example").role == "admin"
    for words, sentence in ((("nobody", "a@b.example", "admin"), "no such party"),
                            (("foundation", "a@b.example", "owner"), "bad_input")):  # fmt: skip
        with pytest.raises(CommandError, match=sentence):
            call_command("invite", *words, stdout=StringIO(), stderr=StringIO())
