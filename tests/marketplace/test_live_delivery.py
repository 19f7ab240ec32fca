"""Live delivery: who reported what, what is refused and why, and what the three sources come to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from marketplace import models as m
from marketplace.agent.statements import RETRY
from marketplace.delivery.cases import reconcile_window
from marketplace.delivery.probing import tend_probe_days
from marketplace.errors import (
    ClockSkewed,
    NotOnPanel,
    NoWitnessKey,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportMalformed,
    ReportOutOfSequence,
    ReportReplayed,
    WrongInstant,
)
from marketplace.parties.services import register_party
from pricing.health import is_revealed
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import VERIFIERS, enrol, go_live
from tests.owner import unseen

pytestmark = pytest.mark.stage("delivering")


def tally(slot: int = 0) -> m.SlotTally:
    return m.SlotTally.objects.get(lease=world.lease("genome"), slot=slot)


def test_a_good_hour_is_rated_as_soon_as_everybody_has_spoken() -> None:
    live = go_live()
    live.probe_slot(0)
    assert reconcile_window(window=world.window(), now=live.after(0)) == 0  # the machine has not spoken

    live.send_reading(live.reading(0), now=live.after(0))

    assert tally().held_micros == tally().unpaid_micros == 0
    assert reconcile_window(window=world.window(), now=live.after(0)) == 1
    reading = m.Reading.objects.get(lease=live.lease, slot=0)
    assert (reading.minutes_billable, reading.minutes_down, reading.earned_micros) == (60, 0, reading.amount_micros)
    assert live.lease.state == "delivering"
    with untouched():
        assert reconcile_window(window=world.window(), now=live.after(0)) == 0


def test_one_of_eight_devices_lost_is_failed_within_two_intervals_and_billing_stops() -> None:
    live = go_live()
    for minute in range(3):
        live.round(minute)
    assert m.LeaseHealth.objects.get().is_billed

    lost_at = live.at(2) + timedelta(seconds=59)  # just after the last good look
    first, second, third = live.panel
    seen_at = live.at(3) + timedelta(seconds=live.draw(live.at(3)).second(live.at(3).hour * 60 + live.at(3).minute))
    live.send_probes(first, [live.probe(3, first, up=False)], seen_at)
    assert m.LeaseHealth.objects.get().state == "SUSPECT"
    live.send_probes(second, [live.probe(3, second, up=False)], seen_at)

    health = m.LeaseHealth.objects.get()
    assert (health.state, health.is_billed) == ("FAILED", False)
    assert health.since - lost_at < timedelta(seconds=120)
    assert set(m.Notice.objects.filter(code="lease_failed").values_list("party__slug", flat=True)) == {
        "alder", "granite"
    }  # fmt: skip
    live.send_probes(first, [live.probe(3, first, up=False, attempt=RETRY)], live.at(5))
    live.send_probes(second, [live.probe(3, second, up=False, attempt=RETRY)], live.at(5))
    live.send_probes(third, [live.probe(3, third, up=False), live.probe(3, third, up=False, attempt=RETRY)], live.at(5))
    assert tally().down_word == 1 << 3
    for minute in range(4, 7):
        live.round(minute)
    assert m.LeaseHealth.objects.get().state == "HEALTHY"  # three good minutes
    assert [(e.from_state, e.to_state) for e in m.HealthEvent.objects.all()] == [
        ("HEALTHY", "SUSPECT"), ("SUSPECT", "FAILED"), ("FAILED", "HEALTHY")
    ]  # fmt: skip


def test_a_probe_is_refused_with_its_reason_and_nothing_is_written() -> None:
    live = go_live()
    name, other = live.panel[:2]
    now = live.at(1)

    for error, signed, when in (
        (ReportForged, live.probe(0, name, key=other), now),
        (ReportForged, live.probe(0, other, key=name), now),
        (ReportForged, live.probe(0, name, machine=str(world.node_class("harbour").pk)), now),
        (WrongInstant, live.probe(0, name, probed_at_ms=int(live.at(0).timestamp() * 1000) - 5000), now),
        (ReportFromFuture, live.probe(30, name), now),
        (ReportLate, live.probe(0, name), live.after(0, hours=73)),
    ):
        with refused(error, item=0):
            live.send_probes(name, [signed], when)

    assert live.send_probes(name, [live.probe(0, name)], now) == 1


def test_a_repeated_probe_changes_nothing_and_another_one_in_its_place_is_a_replay() -> None:
    live = go_live()
    name, now = live.panel[0], live.at(1)
    signed = live.probe(0, name)
    assert live.send_probes(name, [signed, signed], now) == 1

    with untouched():
        assert live.send_probes(name, [signed], now) == 0
    with refused(ReportReplayed, item=0):
        live.send_probes(name, [live.probe(0, name, up=False)], now)


def test_a_verifier_that_was_not_drawn_is_not_heard() -> None:
    live = go_live()
    party = m.Party.objects.get(slug="oak")
    m.WitnessKey.objects.filter(party=party).update(revoked_at=live.at(0))

    with refused(NoWitnessKey, party="oak"):
        live.send_probes("oak", [live.probe(0, "oak")], live.at(1))

    late = live.at(0) - timedelta(days=30)
    with refused(NotOnPanel, item=0):
        live.send_probes("pine", [live.probe(0, "pine", minute_at=int(late.timestamp()))], live.at(1))


def test_a_verifier_that_came_after_the_draw_is_not_heard_and_neither_is_a_draw_that_came_after_the_minute() -> None:
    live = go_live()
    late = register_party(slug="ash", name="Ash", kind="verifier", country="DE", parent_country="DE", now=live.at(-60))
    enrol(late, live.at(-60))
    with refused(NotOnPanel, item=0):
        live.send_probes("ash", [live.probe(0, "ash")], live.at(1))

    name = live.panel[0]
    day = m.ProbeDay.objects.get(pk=live.at(0).date())
    unseen(m.ProbeDay.objects.filter(pk=day.pk), committed_at=live.at(1))
    with refused(NotOnPanel, item=0):
        live.send_probes(name, [live.probe(0, name)], live.at(1))

    unseen(m.ProbeDay.objects.filter(pk=day.pk), committed_at=live.at(0))
    assert live.send_probes(name, [live.probe(0, name)], live.at(1)) == 1


def test_an_echo_that_the_machine_did_not_sign_is_a_failure() -> None:
    live = go_live()
    name = live.panel[0]
    stolen = live.probe(1, name)

    live.send_probes(name, [live.probe(0, name, echo="")], live.at(1))
    live.send_probes(name, [live.probe(1, name, echo="ab" * 64)], live.at(2))

    assert list(m.ProbeReport.objects.values_list("echo_ok", "has_failed")) == [(False, True)] * 2
    assert stolen is not None


def test_a_verifier_without_anchors_or_with_a_wrong_clock_is_void() -> None:
    live = go_live()
    one, two, three = live.panel
    live.send_probes(one, [live.probe(0, one, up=False, anchors=[True, True, False])], live.at(1))
    live.send_probes(two, [live.probe(0, two, up=False, clock_skew_ms=2001)], live.at(1))
    live.send_probes(three, [live.probe(0, three)], live.at(1))

    assert m.ProbeReport.objects.filter(is_valid=True).count() == 1
    assert m.LeaseHealth.objects.get().state == "HEALTHY"
    assert (tally().down_word, tally().known_word) == (0, 0)
    assert "NETWORK" not in tally().causes  # one vantage lost its path, the other its clock


def test_readings_are_taken_in_their_order_and_refused_by_name() -> None:
    live = go_live()
    first, second = live.reading(0), live.reading(1)
    now = live.after(1)

    taken = m.ReportChain.objects.get(node_class=live.lease.node_class).sequence
    with refused(ReportOutOfSequence, expected=taken + 1, item=0):
        live.send_reading(second, now=now)
    with refused(ReportFromFuture, slot=1, item=1):
        live.send_reading(first, second, now=live.after(0))
    assert live.send_reading(first, second, now=now) == 2
    with untouched():
        assert live.send_reading(first, second, now=now) == 0
    with refused(ReportReplayed, slot=1, item=0):  # the next number of the chain, and a second story of an hour
        live.send_reading(live.reading(1, up_word=1), now=now)
    live.head = None
    forged = live.reading(2, machine=str(world.node_class("harbour").pk))
    with refused(ReportForged, item=0):
        live.send_reading(forged, now=live.after(2))
    with refused(ReportMalformed, item=0):
        live.send_reading(type(forged)(b"{}", forged.signature), now=live.after(2))


def test_a_rated_hour_hears_nothing_more() -> None:
    live = go_live()
    live.probe_slot(0)
    live.send_reading(live.reading(0), now=live.after(0))
    reconcile_window(window=world.window(), now=live.after(0))

    with refused(ReportLate, slot=0):
        live.send_probes("oak", [live.probe(0, "oak", attempt=3)], live.after(0))


def test_a_machine_is_suspect_after_two_missed_heartbeats_and_only_while_it_is_leased() -> None:
    from marketplace.delivery.health import watch_silence

    live = go_live()
    live.send_beat(live.beat(live.at(5)), now=live.at(5))
    assert watch_silence(now=live.at(5) + timedelta(seconds=29)) == 0
    assert watch_silence(now=live.at(5) + timedelta(seconds=30)) == 1
    assert m.LeaseHealth.objects.get().state == "SUSPECT"


def test_a_heartbeat_with_a_missing_device_a_wrong_clock_or_an_old_number() -> None:
    live = go_live()
    now = live.at(5)
    early = live.beat(now)
    assert live.send_beat(early, now=now) == 1
    with untouched():
        assert live.send_beat(early, now=now) == 0
    with refused(ClockSkewed):
        live.send_beat(live.beat(now + timedelta(seconds=3)), now=now)
    with refused(ReportLate):
        live.send_beat(live.beat(now - timedelta(minutes=6)), now=now)
    with refused(ReportReplayed, sequence=1):
        live.send_beat(live.beat(now, sequence=1, devices=1), now=now)

    live.send_beat(live.beat(now, devices=live.units - 1), now=now)

    assert m.LeaseHealth.objects.get().state == "SUSPECT"


def test_nothing_is_drawn_before_three_verifiers_have_keys_and_each_day_is_shown_when_it_is_over() -> None:
    now = world.window().starts_at
    for n, name in enumerate(VERIFIERS):
        assert tend_probe_days(now=now) == 0
        enrol(register_party(slug=name, name=name, kind="verifier", country="DE", parent_country="DE", now=now), now)
        assert not m.ProbeDay.objects.exists(), n

    assert tend_probe_days(now=now) == 2  # today and tomorrow
    with untouched():
        assert tend_probe_days(now=now) == 0
    today = m.ProbeDay.objects.get(day=now.date())
    assert today.revealed is None
    assert tend_probe_days(now=now + timedelta(days=1)) == 2  # one more drawn, one shown

    today.refresh_from_db()
    assert is_revealed(bytes(today.revealed), day=today.day.isoformat(), commitment=bytes(today.commitment))
    told = m.AuditLine.objects.filter(subject=today.day.isoformat()).order_by("pk")
    assert list(told.values_list("action", flat=True)) == ["commit_probe_day", "reveal_probe_day"]
