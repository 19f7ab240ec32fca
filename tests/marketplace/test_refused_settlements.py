"""A settlement that the contract refuses three times waits for two people, who find it named on the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.test import Client
from django.urls import reverse

from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.rails.evm import chain
from ledger.reconcile import check_books
from ledger.selectors import total
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import BadInput, NotYours, RoleForbidden, SamePerson
from marketplace.parties.services import make_seat
from marketplace.payout import services as payout
from marketplace.payout.refusals import ask_retry, blocking_calls, let_retry, refused_calls, take_back_refused
from tests.journey import world

SET_SETTLE_LIMIT = 4
ENOUGH_MICROS = 10**12
TOO_MUCH = "escrow: hourly limit exceeded"


def limit_settlements_to(micros: int) -> None:
    """Governance changes what may be credited within an hour, two days in public."""
    for function in ("schedule", "enact"):
        sender.submit(
            key=f"governance:{function}:{micros}", role="governance", contract="escrow", function=function,
            args=[SET_SETTLE_LIMIT, "0x" + "00" * 20, micros], now=clock.now(),
        )  # fmt: skip
        cycle.run_chain(now=clock.now())
        # A block may stand some seconds ahead of the clock, and the delay counts from it.
        clock.move_forward(chain().call("escrow", "governance_delay") + 60)
    assert chain().call("escrow", "settle_limit") == micros


def settle_once() -> int:
    """One turn's worth of settling: ask, send, and take back what was refused."""
    leases = payout.settle_window(window=world.window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    take_back_refused(now=clock.now())
    return leases


def refuse_three_times() -> m.Settlement:
    limit_settlements_to(1)
    for _ in range(3):
        assert settle_once() > 0
    (call,) = blocking_calls()
    return call.settlement


def seat(name: str, role: str = "operations") -> m.Seat:
    return make_seat(email=f"{name}@foundation.example", party=m.Party.objects.get(slug="foundation"), role=role,
                     password=None, now=clock.now())  # fmt: skip


@contextmanager
def nothing_changes() -> Iterator[None]:
    before = list(m.Settlement.objects.values().order_by("pk")), m.AuditLine.objects.count()
    yield
    assert (list(m.Settlement.objects.values().order_by("pk")), m.AuditLine.objects.count()) == before


def test_after_the_third_refusal_two_people_let_the_settlement_go_on(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    stuck = refuse_three_times()
    rows = m.Settlement.objects.filter(window=world.window(), epoch=stuck.epoch)
    assert [(row.epoch, row.refusal) for row in rows.exclude(pk=stuck.pk)] == 2 * [(stuck.epoch, TOO_MUCH)]
    assert (stuck.refused_at, blocking_calls()[0].sentence, blocking_calls()[0].attempts) == (None, TOO_MUCH, 3)

    # By itself nothing happens any more, and no call is made that could only be refused.
    calls = ChainIntent.objects.count()
    assert (take_back_refused(now=clock.now()), settle_once()) == (0, 0)
    assert payout.post_credits(window=world.window(), now=clock.now()) == 0
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 0
    assert (ChainIntent.objects.count(), world.window().state) == (calls, "DELIVERING")

    limit_settlements_to(ENOUGH_MICROS)
    ada, max_, judge = seat("ada"), seat("max"), seat("jo", role="judge")
    with nothing_changes(), pytest.raises(RoleForbidden):
        ask_retry(settlement_id=stuck.pk, seat=judge, reason="why not", now=clock.now())
    for reason in ("", "   ", "x" * 301, "two\nlines"):
        with nothing_changes(), pytest.raises(BadInput):
            ask_retry(settlement_id=stuck.pk, seat=ada, reason=reason, now=clock.now())
    with nothing_changes(), pytest.raises(NotYours, match="Nobody has asked"):
        let_retry(settlement_id=stuck.pk, seat=max_, now=clock.now())
    ask_retry(settlement_id=stuck.pk, seat=ada, reason="Governance has raised the hourly limit.", now=clock.now())
    with nothing_changes(), pytest.raises(SamePerson):
        let_retry(settlement_id=stuck.pk, seat=ada, now=clock.now())
    assert settle_once() == 0, "asking alone lets nothing go on"
    let_retry(settlement_id=stuck.pk, seat=max_, now=clock.now())

    stuck.refresh_from_db()
    assert (stuck.retry_let_by, stuck.refusal, stuck.lines.count()) == ("max@foundation.example", TOO_MUCH, 0)
    line = m.AuditLine.objects.get(action="let_settle_retry")
    assert (line.actor, line.reason, line.facts["asked_by"], line.facts["attempts"], len(line.facts["lines"])) == (
        "max@foundation.example", TOO_MUCH, "ada@foundation.example", 3, 1)  # fmt: skip
    assert settle_once() == 6
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert (blocking_calls(), world.window().state) == ([], "SETTLED")
    assert chain().call("escrow", "last_epoch") == stuck.epoch
    assert total("suspense").minor == 0
    assert all(found.ok for found in check_books())
    assert cycle.reconcile(now=clock.now()) == []


def test_a_try_that_people_let_is_one_try(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    stuck = refuse_three_times()
    ada, max_ = seat("ada"), seat("max")
    ask_retry(settlement_id=stuck.pk, seat=ada, reason="It may go through now.", now=clock.now())
    let_retry(settlement_id=stuck.pk, seat=max_, now=clock.now())

    assert settle_once() == 6
    (call,) = blocking_calls()
    assert (call.attempts, call.settlement.epoch, call.settlement.retry_asked_by) == (4, stuck.epoch, "")
    assert settle_once() == 0
    with nothing_changes(), pytest.raises(NotYours, match="waits for people"):
        let_retry(settlement_id=stuck.pk, seat=max_, now=clock.now())


def test_only_a_settlement_that_used_its_tries_asks_for_people(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    limit_settlements_to(1)
    payout.settle_window(window=world.window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    refused, *_ = refused_calls()  # no hour has room for two leases, so each has a call of its own
    ada = seat("ada")
    with nothing_changes(), pytest.raises(NotYours):
        ask_retry(settlement_id=refused.settlement.pk, seat=ada, reason="too early", now=clock.now())
    with nothing_changes(), pytest.raises(NotYours):
        ask_retry(settlement_id=uuid7(clock.now()), seat=ada, reason="no such settlement", now=clock.now())
    # The next epoch would be refused too: nothing is asked for before this one is taken back.
    assert (payout.settle_window(window=world.window(), now=clock.now()), blocking_calls()) == (0, [])


def test_the_console_names_it_and_two_people_act_there(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    assert blocking_calls() == []
    stuck = refuse_three_times()
    people = {name: signed_in(name) for name in ("ada", "max")}
    judge = signed_in("jo", role="judge")
    home = people["ada"].get(reverse("admin:index")).content.decode()
    assert f"epoch {stuck.epoch} of {stuck.window.name} was refused 3 times" in home
    assert TOO_MUCH in home
    address = reverse("admin:settlement_retry", args=[stuck.pk])
    page = people["ada"].get(reverse("admin:transactions")).content.decode()
    assert address in page
    assert "Let it be tried again" not in page, "nobody has asked"

    def told(person: str, **form: str) -> str:
        return people[person].post(address, form, follow=True).content.decode()

    with nothing_changes():
        answer = judge.post(address, {"act": "ask", "reason": "why not"}, follow=True)
        assert "role_forbidden" in answer.content.decode()
        assert "bad_input" in told("ada", act="ask", reason=" ")
        assert people["ada"].post(address, {"act": "burn"}).status_code == 404
        assert people["ada"].get(address).status_code == 405
    assert "Another person of operations" in told("ada", act="ask", reason="The limit is raised tonight.")
    with nothing_changes():
        assert "same_person" in told("ada", act="let")
    shown = people["max"].get(reverse("admin:transactions")).content.decode()
    assert "ada@foundation.example asked on" in shown
    assert "The limit is raised tonight." in shown
    assert "Taken back" in told("max", act="let")
    assert blocking_calls() == []
    assert "was refused 3 times" not in people["max"].get(reverse("admin:index")).content.decode()


def signed_in(name: str, role: str = "operations") -> Client:
    user = seat(name, role).user
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client
