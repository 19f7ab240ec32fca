"""Quota that a provider does not use goes to whoever waits: after notice, to the window, whoever writes it (M-001)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.errors import BadInput, DemandFirst
from marketplace.parties.services import issue_api_key
from marketplace.supply.admissions import admit, admit_waiting, ask_admission, delivery_month, free_unit_hours
from marketplace.supply.lapses import lapse_rule, lapse_unused, set_lapse_rule
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.marketplace.test_admission import far_day, far_window, fund
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")


def windows(count: int, *, funded: bool = True, first_day: int = 5, name: str = "Far") -> list[m.Window]:
    """Windows of one far month, four days apart, each with 40 funded unit-hours that harbour could serve."""
    made = []
    for number in range(count):
        starts_at = far_day().replace(day=first_day) + timedelta(days=4 * number)
        window = far_window(
            f"{name} {number}", starts_at=starts_at, demand_closes_at=starts_at - timedelta(hours=30),
            no_cancel_from=starts_at - timedelta(hours=20), bidding_closes_at=starts_at - timedelta(hours=10),
        )  # fmt: skip
        if funded or number == 0:
            fund(window, f"{name} {number}")
        made.append(window)
    return made


def pass_by(window: m.Window, state: str = "CLEARED") -> None:
    """A window closes its bidding, and the market's clock is an hour past that."""
    clock.move_to(window.bidding_closes_at + timedelta(hours=1))
    with behind_the_triggers():
        m.Window.objects.filter(pk=window.pk).update(state=state)


def let_in(slug: str, unit_hours: int) -> m.Admission:
    row = world.node_class(slug)
    asked = ask_admission(party=row.party, node_class=row, month=delivery_month(m.Window.objects.get(name="Far 0")),
                          unit_hours=unit_hours, now=clock.now())  # fmt: skip
    return admit(admission=asked, now=clock.now())


def test_quota_lapses_after_notice_and_goes_to_the_next_on_the_list() -> None:
    first, second, third = windows(3)
    row = let_in("harbour", 240)
    waiting = ask_admission(party=world.party("basalt"), node_class=world.node_class("basalt"), month=row.month,
                            unit_hours=100, now=clock.now())  # fmt: skip
    with refused(DemandFirst):
        admit(admission=waiting, now=clock.now())

    pass_by(first)
    with untouched():
        assert lapse_unused(now=clock.now()) == 0
    pass_by(second)
    assert lapse_unused(now=clock.now()) == 1
    with untouched():
        assert lapse_unused(now=clock.now()) == 0  # one notice
    notice = m.Notice.objects.get(party=row.node_class.party_id, code="quota_lapses")
    assert "2 windows" in notice.sentence
    pass_by(third)
    assert lapse_unused(now=clock.now()) == 1

    row.refresh_from_db()
    assert row.state == "LAPSED"
    assert admit_waiting(now=clock.now()) == 1
    waiting.refresh_from_db()
    assert waiting.state == "ADMITTED"
    lines = m.AuditLine.objects.filter(action__in=("notice_of_lapse", "quota_lapsed")).order_by("no")
    assert [line.action for line in lines] == ["notice_of_lapse", "quota_lapsed"]
    assert lines[1].facts["windows"] == ["Far 0", "Far 1", "Far 2"]
    with untouched():
        assert lapse_unused(now=clock.now()) == 0


def test_a_bid_begins_the_count_anew_and_what_it_stands_on_stays() -> None:
    first, second, third, fourth = windows(4)
    row = let_in("harbour", 240)
    pass_by(first)
    bid = _bid(row, second, units=3)
    pass_by(second)
    pass_by(third)
    assert lapse_unused(now=clock.now()) == 0  # one window without a bid since the bid
    pass_by(fourth)
    assert lapse_unused(now=clock.now()) == 1  # the notice

    set_lapse_rule(windows=2, person="ann", reason="sooner", now=clock.now())
    with untouched():
        assert lapse_unused(now=clock.now()) == 0  # nothing was missed since the notice
    (fifth,) = windows(1, first_day=25, name="Late")
    pass_by(fifth)
    assert lapse_unused(now=clock.now()) == 1

    row.refresh_from_db()
    assert (row.state, row.unit_hours) == ("ADMITTED", bid.unit_hours)
    assert free_unit_hours(node_class=row.node_class, month=row.month) == 0


def _bid(row: m.Admission, window: m.Window, *, units: int) -> m.Bid:
    """An awarded bid of ten hours, as a cleared window leaves it."""
    from ledger.ids import uuid7

    with behind_the_triggers():
        return m.Bid.objects.create(
            id=uuid7(clock.now()), window=window, node_class=row.node_class, party=row.node_class.party, reference="b",
            quantity_units=units, start_slot=0, end_slot=10, price_ask_micros=1_000_000, minimum_units=0,
            sla_id="99.0", state="awarded", accepted_rank=1, placed_at=clock.now(),
        )  # fmt: skip


def test_windows_without_demand_for_the_class_do_not_count() -> None:
    made = windows(4, funded=False)
    let_in("harbour", 80)

    for window in made:
        pass_by(window)

    with untouched():
        assert lapse_unused(now=clock.now()) == 0
    pass_by(made[0], "FAILED")
    with untouched():
        assert lapse_unused(now=clock.now()) == 0


def test_the_rule_is_a_row_and_leaves_time_for_a_notice() -> None:
    assert lapse_rule().windows == 3
    with refused(BadInput, field="windows"):
        set_lapse_rule(windows=1, person="ann", reason="at once", now=clock.now())
    set_lapse_rule(windows=5, person="ann", reason="slower", now=clock.now())
    assert lapse_rule().windows == 5


def test_the_database_lets_nothing_lapse_without_notice() -> None:
    first, second, third = windows(3)
    row = let_in("harbour", 240)
    for window in (first, second, third):
        pass_by(window)
    notice = m.LapseNotice.objects.create(admission=row, missed=3, at=clock.now())

    with pytest.raises(IntegrityError, match="lapse_follows_its_notice"), transaction.atomic():
        m.Lapse.objects.create(admission=row, notice=notice, unit_hours_before=240, unit_hours_after=0, windows=[],
                               at=clock.now())  # fmt: skip
    with pytest.raises(IntegrityError, match="decided_admission_stays"), transaction.atomic():
        m.Admission.objects.filter(pk=row.pk).update(state="LAPSED")


def test_the_list_of_admissions_asks_the_database_as_often_for_ten_as_for_one() -> None:
    windows(1)
    party, month = world.party("harbour"), delivery_month(m.Window.objects.get(name="Far 0"))
    _, secret = issue_api_key(party=party, label="reader", may_write=False, now=clock.now())

    seen: list[str] = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    def queries() -> tuple[int, int]:
        seen.clear()
        with connection.execute_wrapper(count):
            answer = Client().get("/api/v1/admissions", headers={"Authorization": f"Bearer {secret}"})
        return len(answer.json()["data"]), len(seen)

    ask_admission(party=party, node_class=world.node_class("harbour"), month=month, unit_hours=1, now=clock.now())
    before = queries()
    for number in range(9):
        later = (month + timedelta(days=31 * (number + 1))).replace(day=1)
        ask_admission(party=party, node_class=world.node_class("harbour"), month=later, unit_hours=1, now=clock.now())
    after = queries()

    assert (before[0] + 9, after[1]) == (after[0], before[1])
    assert before[1] > 2
