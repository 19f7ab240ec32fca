"""Parties, seats, keys, flags and the trail: who may act, and that nobody can pretend otherwise."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.errors import BadInput, BadKey, PhaseClosed, ReferenceReused
from marketplace.governance.services import first_broken_line, record
from marketplace.parties.services import find_api_key, issue_api_key, make_seat, register_party, revoke_api_key
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("founded")


def register(**changes: Any) -> m.Party:
    facts: dict[str, Any] = {
        "slug": "new-party", "name": "New party", "kind": "enterprise_buyer", "country": "DE", "parent_country": "US",
        "now": clock.now(),
    }  # fmt: skip
    return register_party(**facts | changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slug": "A b"}, "slug"), ({"slug": "x"}, "slug"), ({"slug": "x" * 60}, "slug"),
        ({"kind": "reseller"}, "kind"), ({"country": "de"}, "country"), ({"country": "DEU"}, "country"),
        ({"parent_country": ""}, "parent_country"),
        ({"name": "  "}, "name"),
    ],
)  # fmt: skip
def test_a_bad_fact_about_a_party_is_refused_beside_its_field(changes: dict[str, str], field: str) -> None:
    with refused(BadInput, field=field):
        register(**changes)


def test_a_party_is_registered_once_with_one_set_of_facts() -> None:
    made = register()

    with untouched():
        assert register() == made
    with refused(ReferenceReused, field="slug", slug="new-party"):
        register(parent_country="DE")


def test_prosumers_wait_for_their_phase() -> None:
    with refused(PhaseClosed, flag="prosumer_parties", opens_in_phase=4) as refusal:
        register(kind="prosumer")
    assert refusal.value.code == "phase_closed"

    assert register(kind="university").kind == "university"


def test_a_person_has_one_seat() -> None:
    alder, now = world.party("alder"), clock.now()
    who: dict[str, Any] = {"email": "ada@alder.example", "password": "correct horse", "role": "owner", "now": now}
    for changes, field in (({"email": "ada"}, "email"), ({"role": "king"}, "role")):
        with refused(BadInput, field=field):
            make_seat(party=alder, **who | changes)

    seat = make_seat(party=alder, **who)

    assert seat.user.party == alder
    assert not seat.user.is_staff
    assert make_seat(party=alder, **who) == seat
    with refused(ReferenceReused, field="email"):
        make_seat(party=world.party("birch"), **who)


def test_only_the_foundation_opens_the_console() -> None:
    foundation = register(slug="another-foundation", kind="foundation")

    seat = make_seat(
        party=foundation, email="f@f.example", password="correct horse", role="operations", now=clock.now()
    )

    assert seat.user.is_staff


def test_a_key_is_shown_once_and_kept_as_a_hash() -> None:
    with refused(BadInput, field="label"):
        issue_api_key(party=world.party("alder"), label=" ", may_write=True, now=clock.now())

    key, secret = issue_api_key(party=world.party("alder"), label="bot", may_write=True, now=clock.now())

    assert bytes(key.secret_sha256) == hashlib.sha256(secret.encode()).digest()
    assert find_api_key(secret=secret, now=clock.now()) == key


def test_unknown_expired_and_revoked_keys_are_refused_alike() -> None:
    now = clock.now()
    key, secret = issue_api_key(
        party=world.party("alder"), label="bot", may_write=False, expires_at=now + timedelta(days=1), now=now
    )

    for wrong in ("", "x", secret[:-1], secret + "x", f"gx_live_{key.prefix}_", "gx_test_" + secret[8:]):
        with refused(BadKey):
            find_api_key(secret=wrong, now=now)
    with refused(BadKey):
        find_api_key(secret=secret, now=now + timedelta(days=1))
    assert find_api_key(secret=secret, now=now) == key
    revoke_api_key(key=key, now=now)
    with refused(BadKey):
        find_api_key(secret=secret, now=now)


def test_one_changed_line_of_the_trail_is_found() -> None:
    record(actor="foundation", action="test", subject="x", reason="because", now=clock.now(), figure=1)
    assert first_broken_line() is None

    with behind_the_triggers() as cursor:
        cursor.execute("UPDATE marketplace_auditline SET reason = 'another' WHERE no = 5")

    assert first_broken_line() == 5


def test_a_missing_line_of_the_trail_is_found() -> None:
    with behind_the_triggers() as cursor:
        cursor.execute("DELETE FROM marketplace_auditline WHERE no = 7")

    assert first_broken_line() == 7
