"""Rules for spending and limits of seats over the API: a person sets them, two people loosen them, a program reads."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from marketplace import models as m
from tests.api.conftest import Caller
from tests.doors.factories import seat

RULE = {"threshold_micros": "5000000", "approvals_needed": 2, "needs_purchase_order": True}


@pytest.fixture
def owner(market: Any) -> Caller:
    return person(market, "owner")


@pytest.fixture
def approver(market: Any) -> Caller:
    return person(market, "approver")


def person(market: Any, role: str, who: str = "") -> Caller:
    client = Client()
    client.force_login(seat(market.buyers[0], f"{who or role}@api.example", role))
    return Caller(client, {})


def path_of(role: str) -> str:
    return f"/seats/sea_{m.Seat.objects.get(user__email=f'{role}@api.example').pk.hex}"


def decide(by: Caller, change: dict[str, Any], let: bool = True) -> Any:
    return by.post(f"/spending-changes/{change['id']}/decision", {"let": let, "reason": "agreed"})


def test_a_rule_is_set_read_and_loosened_by_a_second_person(owner, approver, buyer):
    assert buyer.get("/spending-rule").json() == dict.fromkeys(RULE) | {"waiting": None}
    assert owner.post("/spending-rule", RULE).json() == RULE | {"waiting": None}

    told = owner.post("/spending-rule", RULE | {"threshold_micros": 9_000_000}).json()

    assert told | {"waiting": None} == RULE | {"waiting": None}
    assert buyer.get("/spending-rule").json() == told
    change = told["waiting"]
    assert (change["kind"], change["state"], change["threshold_micros"], change["proposed_by"]) == (
        "rule", "waiting", "9000000", "owner@api.example")  # fmt: skip
    refusal = decide(owner, change)
    assert (refusal.status_code, refusal.json()["code"]) == (403, "same_person")
    assert decide(approver, change).json()["state"] == "let"
    assert buyer.get("/spending-rule").json() == RULE | {"threshold_micros": "9000000", "waiting": None}
    again = decide(approver, change)
    assert (again.status_code, again.json()["code"]) == (409, "window_closed")


def test_what_a_seat_approves_and_posts_is_set_and_raised_by_two(market, owner, approver):
    person(market, "purchaser")
    set_to = owner.post(f"{path_of('purchaser')}/order-limit", {"order_max_micros": "7"}).json()
    assert (set_to["order_max_micros"], set_to["waiting"]) == ("7", None)
    raised = owner.post(f"{path_of('purchaser')}/order-limit", {"order_max_micros": None}).json()
    approves = owner.post(f"{path_of('purchaser')}/approving-limit", {"limit_micros": 8}).json()
    assert (raised["order_max_micros"], approves["limit_micros"]) == ("7", "0")

    assert decide(approver, raised["waiting"], let=False).json()["state"] == "refused"
    assert decide(approver, approves["waiting"]).json()["state"] == "let"

    (row,) = (row for row in owner.get("/seats").json()["data"] if row["role"] == "purchaser")
    assert (row["order_max_micros"], row["limit_micros"]) == ("7", "8")
    assert owner.post(f"{path_of('purchaser')}/approving-limit", {"limit_micros": 2}).json()["waiting"] is None
    own = owner.post(f"{path_of('owner')}/order-limit", {"order_max_micros": 1})
    assert (own.status_code, own.json()["code"]) == (403, "same_person")


def test_changes_are_listed_page_by_page_with_what_became_of_them(owner, approver, buyer, other_buyer):
    owner.post("/spending-rule", RULE)
    changes = [owner.post("/spending-rule", RULE | {"threshold_micros": 9_000_000 + n}).json()["waiting"]
               for n in range(3)]  # fmt: skip
    decide(approver, changes[2])

    first = buyer.get("/spending-changes", limit="2").json()
    rest = buyer.get("/spending-changes", limit="2", cursor=first["next_cursor"]).json()

    found = {row["id"]: row["state"] for row in first["data"] + rest["data"]}
    assert found == dict(zip((each["id"] for each in changes), ("withdrawn", "withdrawn", "let"), strict=True))
    assert rest["next_cursor"] is None
    assert other_buyer.get("/spending-changes").json()["data"] == []


def test_the_same_key_sets_a_rule_once(owner, approver):
    owner.post("/spending-rule", RULE)
    less = RULE | {"approvals_needed": 1}

    first, second = (owner.post("/spending-rule", less, key="one") for _ in range(2))

    assert (first.json(), second.headers["Idempotency-Replayed"]) == (second.json(), "true")
    assert m.SpendingChange.objects.count() == 1
    other = owner.post("/spending-rule", RULE, key="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_who_may_not_is_answered_403_a_stranger_404_and_bad_words_422(market, owner, approver, buyer):
    owner.post("/spending-rule", RULE)
    change = owner.post("/spending-rule", RULE | {"approvals_needed": 1}).json()["waiting"]
    decision = (f"/spending-changes/{change['id']}/decision", {"let": True, "reason": "r"})
    acts: list[tuple[str, dict[str, Any]]] = [
        ("/spending-rule", RULE), (f"{path_of('approver')}/approving-limit", {"limit_micros": 1}),
        (f"{path_of('approver')}/order-limit", {"order_max_micros": 1}), decision,
    ]  # fmt: skip

    for who in (person(market, "purchaser"), buyer):
        for path, body in acts:
            refusal = who.post(path, body)
            assert (refusal.status_code, refusal.json()["code"]) == (403, "role_forbidden"), path
    foreign = Client()
    foreign.force_login(seat(market.buyers[1], "owner@other.example", "owner"))
    for path, body in acts[1:]:
        assert Caller(foreign, {}).post(path, body).status_code == 404
    for path, body in (("/spending-rule", RULE | {"approvals_needed": 6}),
                       ("/spending-rule", RULE | {"threshold_micros": -1}),
                       ("/spending-rule", RULE | {"threshold_micros": 1.5}),
                       (f"{path_of('approver')}/approving-limit", {"limit_micros": None}),
                       (decision[0], {"let": "yes", "reason": "r"})):  # fmt: skip
        assert owner.post(path, body).status_code == 422, (path, body)
    assert m.SpendingRule.objects.get().approvals_needed == 2
    assert not m.SeatLimit.objects.exists()
