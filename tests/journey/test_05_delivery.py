"""Delivery is measured minute by minute: the machine signs, three verifiers probe, and only shared minutes are paid."""

from __future__ import annotations

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.agent.keys import is_signed_by
from marketplace.agent.readings import SIGN_PREFIX
from marketplace.delivery.promises import promises
from marketplace.delivery.services import close_delivery
from tests.journey import world
from tests.journey.refusals import untouched

OUTAGE_SLOTS = {10: 45, 11: 15}  # minutes 615 to 675 of the window


def readings(reference: str) -> dict[int, m.Reading]:
    return {row.slot: row for row in m.Reading.objects.filter(lease__demand__reference=reference)}


@pytest.mark.stage("delivered")
def test_every_leased_slot_has_one_reading_signed_by_its_machine() -> None:
    leases = list(m.Lease.objects.filter(window=world.window()).select_related("node_class"))
    keys = {lease.pk: bytes(lease.node_class.machine_key) for lease in leases}
    rows = m.Reading.objects.filter(lease__in=leases)

    assert {(row.lease_id, row.slot) for row in rows} == set(promises(leases=leases))
    assert rows.count() == 4 * 30 + 24 + 10
    for row in rows:
        assert is_signed_by(keys[row.lease_id], SIGN_PREFIX + bytes(row.report), bytes(row.signature))


@pytest.mark.stage("delivered")
def test_the_outage_shows_in_both_twins_at_the_same_minutes() -> None:
    for reference in ("genome", "imaging"):
        down = {slot: row.minutes_down for slot, row in readings(reference).items() if row.minutes_down}
        assert down == OUTAGE_SLOTS


@pytest.mark.stage("delivered")
def test_a_slot_earns_its_minutes_and_nothing_for_those_that_failed() -> None:
    genome = readings("genome")

    assert genome[0].minutes_billable == 60
    assert genome[0].earned_micros == genome[0].amount_micros
    assert genome[10].minutes_billable == 15
    assert genome[10].earned_micros == genome[10].amount_micros * 15 // 60


@pytest.mark.stage("delivered")
def test_what_was_promised_slot_by_slot_adds_up_to_the_fee() -> None:
    for lease in m.Lease.objects.filter(window=world.window()):
        owed = promises(leases=[lease])
        assert sum(each.amount_micros for each in owed.values()) == lease.fee_micros
        assert sum(each.units for each in owed.values()) == lease.unit_hours


@pytest.mark.stage("delivered")
def test_delivery_ends_once() -> None:
    assert set(m.Lease.objects.filter(window=world.window()).values_list("state", flat=True)) == {"delivered"}

    with untouched():
        assert close_delivery(window=world.window(), now=clock.now()) == 0


@pytest.mark.stage("delivering")
def test_a_machine_that_stays_silent_is_unknown_and_unpaid_but_not_broken() -> None:
    window = world.window()
    assert close_delivery(window=window, now=world.day(24, 7)) == 0  # it may still report

    assert close_delivery(window=window, now=world.day(25, 6)) == 6

    rows = m.Reading.objects.filter(lease__window=window)
    assert set(rows.values_list("minutes_down", "minutes_unknown", "earned_micros")) == {(0, 60, 0)}
