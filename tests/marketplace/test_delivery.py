"""Delivery: a report is taken once, in its order, signed by its machine, about a slot that is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace import clock
from marketplace import models as m
from marketplace.agent.readings import START, ChainHead, SignedReport, sign_report
from marketplace.delivery.promises import promises
from marketplace.delivery.services import SlotWitness, record_slots
from marketplace.demo.keys import machine_key
from marketplace.errors import BadInput, ReportForged, ReportOutOfSequence, ReportReplayed, WindowClosed
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("delivering")
ALL_UP = (FULL_WORD,) * 3
NONE_FAILED = (0, 0, 0)


def head_of(provider: str) -> ChainHead:
    taken = m.ReportChain.objects.filter(node_class=world.node_class(provider)).first()
    return ChainHead(taken.sequence, taken.head) if taken else START


def witness(slot: int, *, reference: str = "genome", provider: str = "granite", key: str = "", **changes: object):
    """A report of a machine about one slot, with probes that agree; and the head after it."""
    facts: dict[str, object] = {
        "lease": str(world.lease(reference).pk), "machine": str(world.node_class(provider).pk), "up_word": FULL_WORD,
        "slot_start_at": int(world.window().slot_at(slot).timestamp()), "head": head_of(provider),
    }  # fmt: skip
    signed, head = sign_report(machine_key(key or provider), **facts | changes)  # type: ignore[arg-type]
    return SlotWitness(signed, ALL_UP, NONE_FAILED), head


def take(*witnesses: SlotWitness, provider: str = "granite", hours: float = 12.0) -> int:
    now = world.window().starts_at + timedelta(hours=hours)
    return record_slots(
        window=world.window(), node_class=world.node_class(provider), witnesses=list(witnesses), now=now
    )


def test_a_report_is_taken_once() -> None:
    first, _ = witness(0)

    assert take(first) == 1
    with untouched():
        assert take(first) == 0

    reading = m.Reading.objects.get(lease=world.lease("genome"))
    assert (reading.minutes_billable, reading.earned_micros) == (60, reading.amount_micros)
    assert world.lease("genome").state == "delivering"


def test_a_forged_report_is_refused() -> None:
    true, _ = witness(0)
    strangers, _ = witness(0, key="harbour")
    another_machine, _ = witness(0, machine=str(world.node_class("harbour").pk))
    changed = replace(true, signed=SignedReport(true.signed.body.replace(b"fff", b"ffe", 1), true.signed.signature))

    for forged in (strangers, another_machine, changed):
        with refused(ReportForged, field="report", cause="reading_forged"):
            take(forged)

    assert take(true) == 1


def test_a_replayed_number_with_another_body_is_refused() -> None:
    first, _ = witness(0)
    other, _ = witness(1)  # signed with the same number
    take(first)

    with refused(ReportReplayed, field="report", cause="reading_replayed"):
        take(other)


def test_a_gap_in_the_reports_is_refused() -> None:
    first, head = witness(0)
    second, after = witness(1, head=head)
    third, _ = witness(2, head=after)

    with refused(ReportOutOfSequence, field="report", cause="reading_out_of_sequence"):
        take(first, third)

    assert take(first, second, third) == 3


def test_one_bad_report_takes_the_whole_call_with_it() -> None:
    first, head = witness(0)
    late, _ = witness(29, head=head)

    with refused(BadInput, field="slot", slot=29):
        take(first, late)


def test_a_slot_that_is_not_over_cannot_be_reported() -> None:
    fifth, _ = witness(5)

    with refused(BadInput, field="slot", slot=5):
        take(fifth, hours=5.99)

    assert take(fifth, hours=6) == 1


@pytest.mark.parametrize("slot", [-1, 0, 1, 26, 30])
def test_a_slot_that_was_never_leased_cannot_be_reported(slot: int) -> None:
    outside, _ = witness(slot, reference="imaging", provider="basalt")

    with refused(BadInput, field="slot", slot=slot):
        take(outside, provider="basalt", hours=40)


def test_a_lease_of_another_class_cannot_be_reported() -> None:
    climate, _ = witness(0, reference="climate")  # harbour's lease, granite's machine

    with refused(BadInput, field="slot", slot=0):
        take(climate)


def test_a_class_without_a_machine_key_reports_nothing() -> None:
    first, _ = witness(0)
    with behind_the_triggers():
        m.NodeClass.objects.filter(party__slug="granite").update(machine_key=None)

    with refused(BadInput, field="signature"):
        take(first)


@pytest.mark.stage("paid")
def test_a_settled_window_takes_no_more_readings() -> None:
    first, _ = witness(0)

    with refused(WindowClosed, state="SETTLED"):
        take(first)


def test_a_minute_is_paid_when_machine_and_probes_both_call_it_up() -> None:
    boastful, head = witness(0)
    humble, _ = witness(1, head=head, up_word=FULL_WORD >> 20)

    take(replace(boastful, probe_failed=(0b111, 0b111, 0)), humble)

    first, second = m.Reading.objects.filter(lease=world.lease("genome")).order_by("slot")
    assert (first.minutes_down, first.minutes_billable) == (3, 57)  # two of three verifiers saw it fail
    assert (second.minutes_down, second.minutes_billable) == (0, 40)  # what it does not claim is not paid


@override_settings(DEMO=True)
@settings(max_examples=30, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(st.lists(st.integers(0, FULL_WORD), min_size=3, max_size=3), st.integers(0, FULL_WORD), st.integers(0, 29))
def test_whatever_the_probes_say_a_slot_earns_between_nothing_and_its_fee(
    failed: list[int], up: int, slot: int
) -> None:
    from django.db import transaction

    with transaction.atomic():
        report, _ = witness(slot, up_word=up)
        take(replace(report, probe_failed=tuple(failed)), hours=40)
        row = m.Reading.objects.get(lease=world.lease("genome"), slot=slot)
        owed = promises(leases=[world.lease("genome")])[row.lease_id, slot]

        assert 0 <= row.earned_micros <= row.amount_micros == owed.amount_micros
        assert row.earned_micros == owed.amount_micros * row.minutes_billable // 60
        assert row.minutes_billable <= 60 - row.minutes_down
        assert row.minutes_billable <= up.bit_count()
        transaction.set_rollback(True)


def test_time_in_this_story_is_the_markets() -> None:
    assert world.window().starts_at > clock.now()
