"""A proposed week becomes the calendar of a node class in one act, and is taken back in one (M-015)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from marketplace import clock
from marketplace import models as m
from marketplace.capacity.services import Sellable, Times
from marketplace.capacity.weeks import adopt_week, undo_week
from marketplace.errors import BadInput, CapacityPromised, NotYours, Overlapping, PastDate, RoleForbidden
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import refused, untouched

SPANS = [[0, 30, 2], [50, 60, 4]]  # Monday 00:00 to Tuesday 06:00, and Wednesday 02:00 to 12:00


def seat(role: str = "operator", slug: str = "sprout") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def adopt(**changes: Any) -> m.CalendarWeek:
    now = clock.now()
    terms = {"seat": seat(), "node_class": world.node_class("sprout"), "spans": SPANS, "source": "slurm gpu",
             "times": Times(now, world.day(90)), "now": now}  # fmt: skip
    return adopt_week(**terms | changes)


def units_by_hour(code: str, *, days: int = 7) -> list[int]:
    """Sellable units in each hour from the next Monday on, by the service and, the same, by the database."""
    now = clock.now()
    monday = (now + timedelta(days=7 - now.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    node_class = world.node_class(code)
    hours = [monday + timedelta(hours=n) for n in range(24 * days)]
    found = [Sellable(node_class).units(hour) for hour in hours]
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_sellable_units(%s, at) FROM unnest(%s::timestamptz[]) AS at",
                       [node_class.pk, hours])  # fmt: skip
        assert [int(row[0]) for row in cursor.fetchall()] == found
    return found


@pytest.mark.stage("founded")
def test_the_calendar_is_exactly_the_proposed_week_and_is_taken_back_in_one_act() -> None:
    assert units_by_hour("sprout") == [4] * 168

    week = adopt()

    assert units_by_hour("sprout") == [2] * 30 + [0] * 20 + [4] * 10 + [0] * 108
    with untouched():
        assert adopt() == week
    undo_week(seat=seat(), week=week, now=clock.now())
    with untouched():
        undo_week(seat=seat(), week=week, now=clock.now())
    assert units_by_hour("sprout") == [4] * 168
    assert adopt(spans=[[0, 168, 1]]).unit_hours == 168
    actions = m.AuditLine.objects.filter(subject=str(world.node_class("sprout").pk)).values_list("action", flat=True)
    assert [each for each in actions if "week" in each] == ["adopt_week", "undo_week", "adopt_week"]


@pytest.mark.stage("founded")
def test_a_week_that_cannot_be_is_refused_and_nothing_changes() -> None:
    now, finance, stranger = clock.now(), seat("finance"), seat(slug="harbour")
    seat()
    for spans in (
        [], [[0, 169, 1]], [[5, 5, 1]], [[0, 5, 5]], [[0, 5, 0]], [[0, 5]], [[0, 5, True]], [[0, 1, 1]] * 169
    ):  # fmt: skip
        with refused(BadInput, field="spans"):
            adopt(spans=spans)
    with refused(Overlapping, field="spans"):
        adopt(spans=[[0, 5, 1], [4, 6, 1]])
    with refused(PastDate):
        adopt(times=Times(now - timedelta(hours=1), now + timedelta(days=1)))
    with refused(RoleForbidden):
        adopt(seat=finance)
    with refused(NotYours):
        adopt(node_class=world.node_class("harbour"))
    week = adopt()
    with refused(Overlapping, field="node_class"):
        adopt(spans=[[0, 5, 1]])
    with refused(NotYours):
        undo_week(seat=stranger, week=week, now=now)


@pytest.mark.stage("bidding")
def test_hours_that_bids_stand_on_are_not_closed_by_a_week() -> None:
    now, harbour = clock.now(), seat(slug="harbour")
    seat()
    with refused(CapacityPromised):
        adopt(seat=harbour, node_class=world.node_class("harbour"), spans=[[0, 1, 1]])
    kept = adopt(seat=harbour, node_class=world.node_class("harbour"), spans=[[0, 168, 16]],
                 times=Times(now, now + timedelta(days=400)), now=now)  # fmt: skip
    assert kept.undone_at is None
