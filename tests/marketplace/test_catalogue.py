"""Windows lie ahead, walk their path, and market time runs forward only."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import NEXT_STATES, move_window, open_window, zone_countries
from marketplace.errors import BadInput, BadSlots, ClockRunsForward, ReferenceReused, StateSkipped
from tests.journey import world
from tests.journey.refusals import refused, untouched

pytestmark = pytest.mark.stage("collecting")


def open_one(**changes: Any) -> m.Window:
    now = clock.now()
    terms: dict[str, Any] = {
        "name": "next", "slots": 168, "demand_closes_at": now + timedelta(days=1),
        "no_cancel_from": now + timedelta(days=2), "bidding_closes_at": now + timedelta(days=3),
        "starts_at": now + timedelta(days=4), "gate_unit_hours": 1, "gate_parties": 1, "now": now,
    }  # fmt: skip
    return open_window(**terms | changes)


@pytest.mark.parametrize("slots", [0, -1, 745, 2**63])
def test_a_window_has_1_to_744_slots(slots: int) -> None:
    with refused(BadSlots, field="slots"):
        open_one(slots=slots)

    assert open_one(slots=744).state == "COLLECTING"


@pytest.mark.parametrize("moved", ["demand_closes_at", "no_cancel_from", "bidding_closes_at"])
def test_a_window_whose_times_are_past_or_crossed_is_refused(moved: str) -> None:
    now = clock.now()

    with refused(BadInput, field="demand_closes_at"):
        open_one(demand_closes_at=now)
    with refused(BadInput, field="demand_closes_at"):
        open_one(**{moved: now + timedelta(days=5)})

    assert open_one(demand_closes_at=now + timedelta(seconds=1)).number == 3


def test_a_gate_asks_for_something() -> None:
    for nothing in ({"gate_unit_hours": 0}, {"gate_parties": 0}, {"gate_unit_hours": -5}, {"gate_unit_hours": 2**63}):
        with refused(BadInput, field="gate_unit_hours"):
            open_one(**nothing)
    for changes, field in (
        ({"gate_parties": 1.5}, "gate_parties"), ({"slots": 2.0}, "slots"), ({"slots": True}, "slots"),
        ({"name": ""}, "name"), ({"name": "x" * 61}, "name"), ({"kind": "auction"}, "kind"),
    ):  # fmt: skip
        with refused(BadInput, field=field):
            open_one(**changes)

    assert open_one().gate_unit_hours == 1


def test_a_window_is_opened_once() -> None:
    made = open_one()
    times = ("starts_at", "demand_closes_at", "no_cancel_from", "bidding_closes_at")
    same_times = {name: getattr(made, name) for name in times}

    with untouched():
        assert open_one(**same_times) == made
    with refused(ReferenceReused, field="name"):
        open_one(slots=30)


def test_a_window_skips_no_state() -> None:
    for state in set(NEXT_STATES) - {"BIDDING", "FAILED"}:
        with refused(StateSkipped, state="COLLECTING", to_state=state):
            move_window(window=world.window(), to_state=state, reason="hurry", now=clock.now())

    assert move_window(window=world.window(), to_state="BIDDING", reason="gate", now=clock.now()).state == "BIDDING"
    assert world.window().transitions.get().to_state == "BIDDING"


def test_a_settled_window_moves_nowhere() -> None:
    for state in NEXT_STATES:
        with refused(StateSkipped, state="SETTLED"):
            move_window(window=world.window(world.EARLY), to_state=state, reason="again", now=clock.now())


def test_a_country_belongs_to_a_zone_from_a_day_until_a_day() -> None:
    old = m.ZoneMember.objects.get(zone="OLD")

    assert zone_countries(zone=old.zone, on=old.valid_from - timedelta(days=1)) == ()
    assert zone_countries(zone=old.zone, on=old.valid_from) == ("SU",)
    assert zone_countries(zone=old.zone, on=old.valid_until - timedelta(days=1)) == ("SU",)
    assert zone_countries(zone=old.zone, on=old.valid_until) == ()


def test_market_time_is_never_turned_back() -> None:
    with refused(ClockRunsForward, seconds=-1):
        clock.move_forward(-1)

    before = clock.now()
    assert clock.move_forward(3600) - before >= timedelta(hours=1)
    with untouched():
        assert clock.move_to(before) > before  # already past it: nothing moves


def test_only_a_demo_moves_time() -> None:
    with override_settings(DEMO=False), refused(ClockRunsForward, seconds=1):
        clock.move_forward(1)
