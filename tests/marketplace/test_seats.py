"""Seats: a colleague is invited by a link, roles change, a seat is switched off at once, and the last owner stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.errors import (
    BadInput,
    BadKey,
    LastOwner,
    LinkOver,
    NotYours,
    ReferenceReused,
    RoleForbidden,
    SamePerson,
)
from marketplace.parties import passwords, seats
from marketplace.parties.roles import BUYER_ACTS, FOUNDATION_ACTS, PROVIDER_ACTS, acts_of
from marketplace.parties.services import find_api_key, issue_api_key, make_seat, register_party
from tests.journey import world
from tests.journey.refusals import refused, untouched

pytestmark = pytest.mark.stage("founded")
PASSWORD = "a long enough password"


def seat(role: str, slug: str = "elm", who: str = "") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{who or role}@{slug}.example", password=PASSWORD, role=role,
                     now=clock.now())  # fmt: skip


def house() -> m.Party:
    return m.Party.objects.filter(kind="foundation").first() or register_party(
        slug="house", name="House", kind="foundation", country="CH", parent_country="CH", now=clock.now())  # fmt: skip


def invited(by: m.Seat, email: str = "new@elm.example", role: str = "approver", **changes: Any) -> tuple[Any, str]:
    return seats.invite(**{"party": by.party, "by": by, "email": email, "role": role, "now": clock.now(), **changes})


def accept(secret: str, **changes: Any) -> m.Seat:
    return seats.accept_invitation(**{"secret": secret, "name": "Noa Neu", "password": PASSWORD, "now": clock.now(),
                                      **changes})  # fmt: skip


# --- inviting --------------------------------------------------------------------------------------------------------
def test_a_colleague_takes_the_seat_of_a_link_once() -> None:
    row, secret = invited(seat("owner"))
    assert secret.encode() not in bytes(row.secret_sha256)
    assert not m.Invitation.objects.filter(secret_sha256=secret.encode()).exists()

    made = accept(secret)

    assert (made.party, made.role, made.user.email, made.user.first_name) == (
        world.party("elm"), "approver", "new@elm.example", "Noa Neu")  # fmt: skip
    assert Client().login(username="new@elm.example", password=PASSWORD)
    with refused(LinkOver):
        accept(secret, name="Somebody else")
    actions = m.AuditLine.objects.filter(subject="new@elm.example").order_by("no").values_list("action", flat=True)
    assert list(actions) == ["invite", "make_seat", "accept_invitation"]


def test_a_link_leads_nowhere_once_it_is_taken_back_replaced_expired_or_guessed() -> None:
    owner, now = seat("owner"), clock.now()
    row, taken = invited(owner, now=now)
    seats.withdraw_invitation(invitation=row, by=owner, now=now)
    _, replaced = invited(owner, now=now)
    _, newest = invited(owner, now=now)

    for secret, at in ((taken, now), (replaced, now), (newest, now + timedelta(days=7)), ("guess", now), ("", now)):
        with refused(LinkOver):
            accept(secret, now=at)
    with refused(LinkOver):
        seats.withdraw_invitation(invitation=row, by=owner, now=now)
    assert accept(newest, now=now + timedelta(days=7, seconds=-1)).role == "approver"


def test_a_bad_invitation_or_answer_is_refused_beside_its_field_and_writes_nothing() -> None:
    owner = seat("owner")
    for changes, field in (({"email": "noa"}, "email"), ({"role": "king"}, "role"), ({"role": "market_maker"}, "role"),
                           ({"email": f"{'a' * 120}@elm.example"}, "email")):  # fmt: skip
        with refused(BadInput, field=field):
            invited(owner, **changes)
    with refused(ReferenceReused, field="email"):
        invited(owner, email="OWNER@elm.example")
    _, secret = invited(owner)

    for answer, field in (({"name": " "}, "name"), ({"password": "short"}, "password"),
                          ({"password": "new@elm.example"}, "password")):  # fmt: skip
        with refused(BadInput, field=field):
            accept(secret, **answer)
    assert accept(secret).user.email == "new@elm.example"


def test_that_an_address_has_a_seat_elsewhere_is_told_to_whoever_holds_the_link_and_not_to_who_invites() -> None:
    seat("owner", "alder", "ada")
    _, secret = invited(seat("owner"), email="ada@alder.example")

    with refused(ReferenceReused, field="name"):
        accept(secret)


def test_a_party_invites_so_many_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "INVITATIONS_PER_DAY", 2)
    owner, now = seat("owner"), clock.now()
    for number in range(2):
        invited(owner, email=f"n{number}@elm.example")

    with refused(BadInput, field="email"):
        invited(owner, email="n2@elm.example")
    assert invited(owner, email="n2@elm.example", now=now + timedelta(days=1, minutes=1))[0].role == "approver"


# --- who may ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("slug", "table"), [("elm", BUYER_ACTS), ("harbour", PROVIDER_ACTS), ("house", FOUNDATION_ACTS)]
)
def test_of_each_kind_of_party_one_role_gives_and_takes_seats(slug: str, table: dict[str, set[str]]) -> None:
    slug = house().slug if slug == "house" else slug
    may, given = [], next(iter(table))
    colleague = seat(given, slug, "colleague")

    for role in table:
        by = seat(role, slug, f"by-{role}")
        try:
            seats.invite(party=by.party, by=by, email=f"{role}-s@friend.example", role=given, now=clock.now())
        except RoleForbidden:
            for act in (lambda by=by: seats.change_role(seat=colleague, by=by, role=given, now=clock.now()),
                        lambda by=by: seats.switch_off(seat=colleague, by=by, now=clock.now()),
                        lambda by=by: seats.switch_on(seat=colleague, by=by, now=clock.now()),
                        lambda by=by: passwords.reset_path(
                            seat=colleague, by=by, root="/", now=clock.now())):  # fmt: skip
                with refused(RoleForbidden, role=role):
                    act()
        else:
            may.append(role)

    assert may == (["admin"] if table is FOUNDATION_ACTS else ["owner"])


def test_another_party_s_seat_is_not_found() -> None:
    stranger, own = seat("owner", "alder"), seat("finance")

    for act in (lambda: seats.change_role(seat=own, by=stranger, role="owner", now=clock.now()),
                lambda: seats.switch_off(seat=own, by=stranger, now=clock.now()),
                lambda: invited(stranger, party=own.party),
                lambda: passwords.reset_path(seat=own, by=stranger, root="/", now=clock.now())):  # fmt: skip
        with refused(NotYours):
            act()


# --- changing --------------------------------------------------------------------------------------------------------
def test_another_role_counts_at_once_and_stands_on_the_trail() -> None:
    owner, colleague = seat("owner"), seat("purchaser")

    changed = seats.change_role(seat=colleague, by=owner, role="approver", now=clock.now())

    assert acts_of(changed) == BUYER_ACTS["approver"]
    line = m.AuditLine.objects.get(action="change_role")
    assert (line.actor, line.subject, line.reason) == (
        "owner@elm.example", "purchaser@elm.example", "purchaser to approver")  # fmt: skip
    with untouched():
        seats.change_role(seat=colleague, by=owner, role="approver", now=clock.now())
    with refused(BadInput, field="role"):
        seats.change_role(seat=colleague, by=owner, role="operator", now=clock.now())


def test_a_seat_that_is_switched_off_is_signed_out_at_once_and_its_keys_end() -> None:
    owner, colleague, now = seat("owner"), seat("owner", who="second"), clock.now()
    _, own_key = issue_api_key(party=owner.party, label="a", may_write=True, seat=owner, now=now)
    _, its_key = issue_api_key(party=owner.party, label="b", may_write=True, seat=colleague, now=now)
    client = Client()
    assert client.login(username="second@elm.example", password=PASSWORD)
    assert client.get("/portal/seats/").status_code == 200

    seats.switch_off(seat=colleague, by=owner, now=now)

    assert client.get("/portal/seats/").headers["Location"].startswith("/login/")
    assert client.get("/api/v1/seats").status_code == 401
    assert not Client().login(username="second@elm.example", password=PASSWORD)
    with refused(BadKey):
        find_api_key(secret=its_key, now=now)
    assert find_api_key(secret=own_key, now=now).label == "a"
    with refused(RoleForbidden):
        passwords.reset_path(seat=colleague, by=owner, root="/", now=now)

    seats.switch_on(seat=colleague, by=owner, now=now)
    assert client.get("/portal/seats/").status_code == 302  # the session of before stays ended
    assert Client().login(username="second@elm.example", password=PASSWORD)
    with refused(BadKey):
        find_api_key(secret=its_key, now=now)


def test_the_last_owner_stays_whoever_tries_and_nobody_changes_the_own_seat() -> None:
    first, second, now = seat("owner"), seat("owner", who="second"), clock.now()
    for act in (lambda: seats.switch_off(seat=first, by=first, now=now),
                lambda: seats.change_role(seat=first, by=first, role="finance", now=now)):  # fmt: skip
        with refused(SamePerson):
            act()

    seats.switch_off(seat=second, by=first, now=now)

    for act in (lambda: seats.switch_off(seat=first, by=first, now=now),
                lambda: seats.change_role(seat=first, by=first, role="finance", now=now)):  # fmt: skip
        with refused(LastOwner):
            act()
    for rows, columns in ((m.User.objects.filter(seat=first), {"is_active": False}),
                          (m.Seat.objects.filter(pk=first.pk), {"role": "finance"})):  # fmt: skip
        with pytest.raises(IntegrityError, match="the_last_owner_stays"), transaction.atomic():
            rows.update(**columns)
    seats.switch_on(seat=second, by=first, now=now)
    assert seats.change_role(seat=first, by=second, role="finance", now=now).role == "finance"


# --- passwords -------------------------------------------------------------------------------------------------------
def test_a_password_is_changed_by_who_knows_the_one_of_now() -> None:
    user, now = seat("owner").user, clock.now()
    for answer, field in (({"old": "wrong", "password": "another long password"}, "old"),
                          ({"old": PASSWORD, "password": "short"}, "password"),
                          ({"old": PASSWORD, "password": "owner@elm.example"}, "password")):  # fmt: skip
        with refused(BadInput, field=field):
            passwords.change_password(user=user, now=now, **answer)

    passwords.change_password(user=user, old=PASSWORD, password="another long password", now=now)

    assert Client().login(username=user.email, password="another long password")
    assert not Client().login(username=user.email, password=PASSWORD)
    assert m.AuditLine.objects.filter(action="change_password", subject=user.email).count() == 1


def test_a_link_of_an_owner_sets_a_password_once() -> None:
    owner, colleague, now = seat("owner"), seat("approver"), clock.now()
    uid, token = passwords.reset_path(seat=colleague, by=owner, root="/", now=now).strip("/").split("/")[1:]
    with refused(BadInput, field="password"):
        passwords.reset_password(uid=uid, token=token, password="short", now=now)

    passwords.reset_password(uid=uid, token=token, password="another long password", now=now)

    assert Client().login(username=colleague.user.email, password="another long password")
    for wrong in ((uid, token), (uid, "x-y"), ("!!", token), ("", ""), ("OTk5OTk5OTk5OTk5OTk5OTk5OTk", token)):
        with refused(LinkOver):
            passwords.reset_password(uid=wrong[0], token=wrong[1], password="a third long password", now=now)
    actions = set(m.AuditLine.objects.filter(subject=colleague.user.email).values_list("action", flat=True))
    assert {"make_reset_link", "reset_password"} <= actions
