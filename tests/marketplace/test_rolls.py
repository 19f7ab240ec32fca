"""The roll of every owner is called by itself: once a week at least, at a moment that nobody outside can know."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise

import pytest
from django.test import Client
from django.urls import reverse

from ledger import faults
from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.errors import BadInput
from marketplace.supply import rolls
from marketplace.supply.rolls import PERIOD, ROLL_JOB, SOONEST, call_due_rolls, due_rolls
from marketplace.tasks import call_rolls_task
from tests.journey import world
from tests.journey.refusals import untouched

pytestmark = pytest.mark.stage("delivering")


def test_every_owner_is_called_between_half_a_week_and_a_week_after_its_last_roll() -> None:
    start = clock.now()
    call_due_rolls(now=start)
    seen = m.RollCall.objects.count()
    for hours in range(0, 28 * 24 + 1, 6):
        call_due_rolls(now=start + timedelta(hours=hours))

    owners = {member.node_class.party_id for member in m.RollMember.objects.filter(roll__opened_at__gte=start)}
    assert owners == {world.party(code).pk for code in ("granite", "basalt", "harbour", "prairie", "fjord")}
    assert m.RollCall.objects.count() > seen
    for owner in owners:
        opened = list(m.RollCall.objects.filter(owner=owner, opened_at__gte=start).order_by("opened_at")
                      .values_list("opened_at", flat=True))  # fmt: skip
        gaps = [later - earlier for earlier, later in pairwise(opened)]
        assert opened[-1] >= start + timedelta(days=28) - PERIOD - timedelta(hours=6)
        assert all(SOONEST <= gap <= PERIOD + timedelta(hours=6) for gap in gaps)
    waits = {rolls._secret_wait(owner, start) for owner in owners}
    assert len(waits) == len(owners)  # the moment of one owner says nothing about another's


def test_a_second_run_calls_nobody_and_what_can_sell_nothing_is_not_called() -> None:
    now = clock.now() + timedelta(days=8)
    assert call_due_rolls(now=now) == 5

    with untouched():
        assert call_due_rolls(now=now) == 0
    assert not m.RollMember.objects.filter(node_class=world.node_class("sprout")).exists()  # has proven nothing


def test_a_run_calls_a_bounded_number_the_longest_overdue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now() + timedelta(days=8)
    order = [due.owner_id for due in due_rolls(now=now)]
    monkeypatch.setattr(rolls, "ROLLS_AT_ONCE", 2)

    assert call_due_rolls(now=now) == 2
    assert set(m.RollCall.objects.filter(opened_at=now).values_list("owner", flat=True)) == set(order[:2])
    assert call_due_rolls(now=now) == 2
    assert call_due_rolls(now=now) == 1


def control_room(page: str = "admin:index") -> str:
    """The console's first page or another one, as a person of the Foundation reads it."""
    user, _ = m.User.objects.get_or_create(email="rolls@foundation.example", is_staff=True, is_superuser=True)
    m.Seat.objects.get_or_create(user=user, party=world.party("foundation"), role="operations",
                                 defaults={"id": uuid7(clock.now())})  # fmt: skip
    reader = Client()
    reader.force_login(user)
    return reader.get(reverse(page)).content.decode()


def test_the_console_says_how_many_machines_of_each_roll_answered() -> None:
    def told() -> list[str]:
        return re.findall(r"\b\d+ of 40\b", control_room("admin:marketplace_rollcall_changelist"))

    before = told()
    assert set(before) == {"40 of 40"}  # basalt's forty machines answered so far

    rolls.call_the_roll(party=world.party("basalt"), now=clock.now() + timedelta(minutes=11))

    assert sorted(told()) == sorted([*before, "0 of 40"])


def test_one_that_fails_stands_on_the_console_and_holds_up_no_other() -> None:
    now = clock.move_to(clock.now() + timedelta(days=8))
    failing = iter([True])

    def fail_once() -> None:
        if next(failing, False):
            raise BadInput("These machines cannot be called.", field="party")

    with faults.armed("supply.rolls.before_commit", fail_once):
        assert call_rolls_task() == 4
    assert m.RollCall.objects.filter(opened_at__gte=now).count() == 4  # what failed wrote nothing
    assert "These machines cannot be called." in control_room()

    assert call_rolls_task() == 1
    assert m.Progress.objects.get(job=ROLL_JOB).outcome == "done"
    assert "Roll calls failed" not in control_room()
