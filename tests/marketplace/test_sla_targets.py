"""Typed targets of a running lease: judged from what was signed, credited without a claim, each event once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from marketplace import cycle
from marketplace import models as m
from marketplace.agent.statements import RETRY
from marketplace.delivery.causes import announce_maintenance, record_stop
from marketplace.delivery.checks import begins_at
from marketplace.delivery.intake import take_probes
from marketplace.errors import ReportForged, ReportMalformed
from marketplace.sla.evidence import check_receipt
from marketplace.sla.performance import judge_checks
from marketplace.sla.targets import judge_targets
from pricing.metering import FULL_WORD
from pricing.targets import NO_ECHO_MS, allowed
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import ECHO_MS, Live, go_live
from tests.marketplace.test_delivery_doors import Agent

pytestmark = pytest.mark.stage("delivering")


def promised(reference: str = "genome", provider: str = "granite", **targets: int) -> Live:
    m.Lease.objects.filter(demand__reference=reference).update(sla_targets=targets)
    return go_live(reference, provider)


def judge(live: Live, slot: int) -> int:
    return judge_targets(window=live.known.window, now=live.after(slot))


def broken() -> m.TargetVerdict:
    return m.TargetVerdict.objects.get(outcome="broken")


# --- latency -------------------------------------------------------------------------------------------------------


def test_the_median_echo_of_each_minute_is_kept_with_its_hour() -> None:
    live = promised()
    live.probe_slot(0, slow=0b101, down=0b1000, void=0b10000)

    tally = m.SlotTally.objects.get()
    assert tally.echo_ms[:6] == [400, ECHO_MS, 400, ECHO_MS, None, ECHO_MS]
    assert set(m.ProbeReport.objects.filter(is_valid=True).values_list("echo_ms", flat=True)) == {ECHO_MS, 400}


def test_a_report_of_the_first_version_is_taken_and_says_nothing_of_latency() -> None:
    live = promised()
    party = world.party(live.panel[0])
    now = live.at(1) + timedelta(seconds=16)
    timed, untimed = (live.probe(0, live.panel[0], echo_ms=ms) for ms in (7, None))
    assert b"echo_ms" in timed.body
    assert b"echo_ms" not in untimed.body

    for changed, error in (
        (timed.body.replace(b'"echo_ms":7', b'"echo_ms":6'), ReportForged),
        (timed.body.replace(b'"echo_ms":7,', b""), ReportForged),  # one version's signature is not the other's
    ):
        with refused(error, item=0):
            take_probes(party=party, signed=[type(timed)(changed, timed.signature)], now=now)
    assert take_probes(party=party, signed=[untimed], now=now) == 1
    assert m.ProbeReport.objects.get().echo_ms is None
    assert m.SlotTally.objects.get().echo_ms == []


@pytest.mark.parametrize("echo_ms", [-1, -2, 2**31, "7", True, 7.0])
def test_an_echo_has_a_time_and_silence_has_none(echo_ms: Any) -> None:
    from marketplace.agent.errors import ReadingMalformed

    live = promised()
    with pytest.raises(ReadingMalformed):
        live.probe(0, live.panel[0], echo_ms=echo_ms)
    with pytest.raises(ReadingMalformed):
        live.probe(0, live.panel[0], echo="", echo_ms=7)
    assert live.probe(0, live.panel[0], echo="", echo_ms=-1)
    assert ReportMalformed.code == "report_malformed"


def test_whoever_answers_only_the_second_time_was_slower_than_a_probe_waits() -> None:
    """Dropping slow echoes would otherwise make a slow machine look fast."""
    live = promised()
    for verifier in live.panel:
        sent = [live.probe(0, verifier, echo="", devices=0), live.probe(0, verifier, attempt=RETRY)]
        live.send_probes(verifier, sent, live.at(1) + timedelta(seconds=16))

    assert m.SlotTally.objects.get().echo_ms[0] == NO_ECHO_MS


def test_a_slow_lease_is_broken_once_nothing_can_mend_it_and_credited_once() -> None:
    live = promised(latency_p99_ms_max=100, latency_p95_ms_max=100)
    most = allowed("latency_p99_ms_max", 30 * 60)
    assert 30 < most < 60
    live.probe_slot(0, slow=(1 << most) - 1)
    with untouched():
        assert judge(live, 0) == 0
    live.probe_slot(1, slow=1)

    assert judge(live, 1) == 1

    row, credit = broken(), m.EarlyCredit.objects.get()
    assert (row.target, row.bound) == ("latency_p99_ms_max", 100)
    assert (row.missed, row.known, row.allowed) == (most + 1, 120, most)
    assert (row.measured, row.broken_at) == (400, world.window().slot_at(2))
    assert (credit.kind, credit.step_bps, credit.target_verdict) == ("target", 1000, row)
    assert credit.amount_micros == -(-live.known.fee_micros // 10)
    assert credit.made_at - credit.broken_at <= timedelta(minutes=5)
    with untouched():
        assert judge(live, 1) == 0
    live.probe_slot(2, slow=FULL_WORD)
    with untouched():
        assert judge(live, 2) == 0  # p99 was judged, and p95 is not certain yet


def test_one_lying_verifier_makes_no_minute_slow_and_down_minutes_are_not_slow_ones() -> None:
    live = promised(latency_p50_ms_max=10)
    for slot in range(2):
        for place, verifier in enumerate(live.panel):
            ms = {"echo_ms": 5_000} if place == 0 else {}
            sent = [live.probe(60 * slot + minute, verifier, **ms) for minute in range(60)]
            live.send_probes(verifier, sent, live.after(slot))

    with untouched():
        assert judge(live, 1) == 0
    assert set(m.SlotTally.objects.get(slot=0).echo_ms) == {ECHO_MS}


# --- throughput ----------------------------------------------------------------------------------------------------


def test_checks_that_stray_on_either_side_break_the_spread() -> None:
    live = promised(throughput_spread_bps_max=1000)
    live.round(0)
    most = allowed("throughput_spread_bps_max", 5)
    for interval in range(5):
        live.send_checks(interval, share=1.3 if interval % 2 else 0.95)
        judge_checks(window=live.known.window, now=begins_at(live.known, interval + 1))
    assert judge(live, 29) == 0  # two of five
    assert most == 3

    m.Lease.objects.filter(pk=live.known.pk).update(sla_targets={"throughput_spread_bps_max": 1000})
    assert not m.EarlyCredit.objects.filter(kind="target").exists()


def test_a_spread_that_every_check_leaves_is_broken() -> None:
    live = promised(throughput_spread_bps_max=1000)
    live.round(0)
    for interval in range(4):
        live.send_checks(interval, share=1.3)
        judge_checks(window=live.known.window, now=begins_at(live.known, interval + 1))

    assert judge(live, 23) == 1

    row = broken()
    assert (row.missed, row.known, row.allowed, row.broken_at) == (4, 4, 3, begins_at(live.known, 4))
    assert 2_999 <= row.measured <= 3_001
    assert m.EarlyCredit.objects.get(kind="target").step_bps == 1000  # a faster machine proves itself anew


# --- start, repair, notice -----------------------------------------------------------------------------------------


def test_a_late_start_is_an_event_of_its_own() -> None:
    live = promised(start_by_minutes_max=15)
    live.probe_slot(0, down=(1 << 17) - 1)

    assert judge(live, 0) == 1

    row = broken()
    assert (row.measured, row.event_minute, row.last_minute, row.missed, row.known) == (17, 0, 16, 17, 17)
    told = m.Notice.objects.filter(code="lease_started_late").values_list("party__slug", flat=True)
    assert set(told) == {live.known.buyer.slug, live.known.provider.slug}
    with untouched():
        assert judge(live, 0) == 0


def test_a_start_within_its_bound_and_one_that_nobody_saw_are_not_late() -> None:
    live = promised(start_by_minutes_max=15)
    live.probe_slot(0, down=(1 << 16) - 1, void=0b111 << 16)  # one of them may have been seen wrongly

    with untouched():
        assert judge(live, 0) == 0


def test_minutes_that_the_buyer_stopped_do_not_make_a_start_late() -> None:
    live = promised(start_by_minutes_max=15)
    record_stop(party=live.known.buyer, lease=live.known, starts_at=live.at(0), ends_at=live.at(10), reason="stopped",
                now=live.at(0))  # fmt: skip
    live.probe_slot(0, down=(1 << 20) - 1)

    with untouched():
        assert judge(live, 0) == 0


def test_each_long_failure_is_credited_once_however_it_goes_on() -> None:
    live = promised(repair_minutes_max=15)
    live.probe_slot(0, down=FULL_WORD & ~((1 << 43) - 1))  # seventeen minutes, and it goes on
    assert judge(live, 0) == 1
    live.probe_slot(1, down=(1 << 10) - 1)
    with untouched():
        assert judge(live, 1) == 0  # the same failure
    live.probe_slot(2, down=((1 << 20) - 1) << 20)

    assert judge(live, 2) == 1

    rows = list(m.TargetVerdict.objects.order_by("event_minute"))
    assert [(row.event_minute, row.missed, row.outcome) for row in rows] == [(43, 17, "broken"), (140, 20, "broken")]
    credits = list(m.EarlyCredit.objects.order_by("period"))
    assert [(row.period, row.step_bps) for row in credits] == [(0, 500), (1, 500)]


def test_a_record_that_comes_later_makes_no_second_event_of_a_failure() -> None:
    live = promised(repair_minutes_max=15)
    live.probe_slot(0, down=FULL_WORD & ~0b11)
    assert judge(live, 0) == 1

    m.BuyerStop.objects.create(id=m.Lease.objects.first().pk, lease=live.known, starts_at=live.at(2),
                               ends_at=live.at(12), reason="stopped", recorded_at=live.at(2))  # fmt: skip
    cycle.reconcile_window(window=live.known.window, now=live.after(0))

    with untouched():
        assert judge(live, 0) == 0


def test_an_hour_that_is_not_in_yet_holds_up_the_judge() -> None:
    live = promised(repair_minutes_max=15)
    live.probe_slot(1, down=FULL_WORD)
    with untouched():
        assert judge(live, 1) == 0
    live.probe_slot(0, down=FULL_WORD & ~0b111, now=live.after(1))

    assert judge(live, 1) == 1
    assert (broken().event_minute, broken().missed) == (3, 117)


def test_a_maintenance_announced_too_late_is_broken_by_the_minutes_it_costs() -> None:
    live = promised(notice_hours_min=96)
    first, last = live.at(20), live.at(40)
    announce_maintenance(party=world.party("granite"), node_class=live.known.node_class, starts_at=first, ends_at=last,
                         reason="fans", now=first - timedelta(hours=90))  # fmt: skip
    live.probe_slot(0)
    with untouched():
        assert judge(live, 0) == 0  # it cost nothing


def test_a_notice_in_time_is_kept_and_a_later_one_is_not() -> None:
    live = promised(notice_hours_min=96)
    for start, hours in ((10, 96), (40, 95)):
        at = live.at(start)
        announce_maintenance(party=world.party("granite"), node_class=live.known.node_class, starts_at=at,
                             ends_at=at + timedelta(minutes=5), reason="fans",
                             now=at - timedelta(hours=hours))  # fmt: skip
    live.probe_slot(0, down=0b11111 << 10 | 0b11111 << 40)

    assert judge(live, 0) == 1

    assert (broken().measured, broken().event_minute, broken().missed) == (95, 40, 5)
    assert m.SlotTally.objects.get().causes["MAINT"].bit_count() == 10  # both were in time to be excused


# --- money and evidence --------------------------------------------------------------------------------------------


def test_before_proof_the_holdback_pays_at_the_close_and_nothing_is_sent_before() -> None:
    live = promised(reference="imaging", provider="basalt", start_by_minutes_max=5)
    live.probe_slot(live.known.start_slot, down=0b1111111)

    assert judge(live, live.known.start_slot) == 1

    assert broken().credit_micros > 0
    assert not m.EarlyCredit.objects.exists()


def test_both_sides_read_over_the_api_what_was_promised_and_measured_and_a_stranger_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = promised(start_by_minutes_max=15, latency_p95_ms_max=20)
    live.probe_slot(0, down=(1 << 17) - 1)
    assert judge(live, 0) == 1
    lease, now = live.lease, live.after(0)
    path = f"/leases/lea_{lease.pk.hex}"

    for party in (lease.buyer, lease.provider):
        who = Agent(party, now, monkeypatch)
        latency, start = who.get(f"{path}/targets").json()["data"]
        assert (latency["outcome"], latency["measured"], latency["verdicts"]) == ("running", f"{ECHO_MS} ms", [])
        assert (start["outcome"], start["promised"]) == ("broken", "at most 15 minutes")
        assert start["measured"] == "17 minutes"
        assert start["credit_micros"] == str(broken().credit_micros)
        assert check_receipt(start["verdicts"][0]["receipt"]) == ["its day is not sealed yet"]
        health = who.get(f"{path}/health").json()
        assert (health["standing"], health["burn_rates"][0]["tenths"]) == ("PROVEN", 283)
        assert who.get(path).json()["sla_targets"] == {"latency_p95_ms_max": 20, "start_by_minutes_max": 15}
    stranger = Agent(world.party("birch"), now, monkeypatch)
    assert stranger.get(f"{path}/targets").status_code == 404
