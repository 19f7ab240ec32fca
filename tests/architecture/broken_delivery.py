"""One deliberate break for every rule that the database keeps about live delivery."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from tests.architecture.broken_compliance import Break, breaking, made, now, twice
from tests.journey import world
from tests.owner import as_owner

SECRET = hashlib.sha256(b"a day").digest()
FULL = (1 << 60) - 1
ONCE = datetime(2030, 1, 1, tzinfo=UTC)


def lease() -> m.Lease:
    return world.lease("genome")


def key() -> dict[str, Any]:
    return {"party": world.party("alder"), "public_key": uuid7(clock.now()).bytes * 2, "enrolled_at": now()}


def day(back: int = 2) -> dict[str, Any]:
    date = (now() - timedelta(days=back)).astimezone(UTC).date()
    commitment = hashlib.sha256(b"grove probe day 1" + date.isoformat().encode() + SECRET).digest()
    return {"day": date, "commitment": commitment, "locked": b"x", "organisations": [], "committed_at": now()}


def pulse() -> dict[str, Any]:
    return {"node_class": lease().node_class, "sequence": 1, "sent_at": now(), "received_at": now(), "devices": {},
            "probe_address": "", "workload_address": "", "body": b"x", "signature": bytes(64)}  # fmt: skip


def health() -> dict[str, Any]:
    return {"lease": lease(), "since": now(), "base_since": now()}


def event() -> dict[str, Any]:
    return {"lease": lease(), "from_state": "HEALTHY", "to_state": "FAILED", "reason": "r", "at": now()}


def probe() -> dict[str, Any]:
    return {"lease": lease(), "verifier": world.party("alder"), "slot": 0, "minute_at": ONCE, "attempt": 1,
            "anchors_ok": True, "is_valid": True, "echo_ok": True, "port_ok": True, "devices": 1, "has_failed": False,
            "body": b"x", "signature": bytes(64), "received_at": now()}  # fmt: skip


def slot_report() -> dict[str, Any]:
    return {"lease": lease(), "slot": 0, "source": "provider", "sequence": 1, "up_word": FULL, "body": b"x",
            "signature": bytes(64), "received_at": now()}  # fmt: skip


def tally() -> dict[str, Any]:
    return {"lease": lease(), "slot": 0, "units": 1, "amount_micros": 60, "unpaid_micros": 60, "unknown_word": FULL,
            "probe_valid": [0] * 3, "probe_failed": [0] * 3, "evidence_at": now()}  # fmt: skip


def check() -> dict[str, Any]:
    return {"lease": lease(), "verifier": world.party("alder"), "interval": 0, "first_ops": 1, "body": b"x",
            "signature": bytes(64), "received_at": now()}  # fmt: skip


def recheck() -> dict[str, Any]:
    return {"lease": lease(), "interval": 0, "proven_ops": 2, "first_ops": 1, "second_ops": 1, "reports": 3,
            "has_failed": True, "interval_fee_micros": 10, "shortfall_micros": 5, "evidence_hash": bytes(32),
            "made_at": now()}  # fmt: skip


def target() -> dict[str, Any]:
    return {"lease": lease(), "target": "repair_minutes_max", "bound": 15, "outcome": "broken", "event_minute": 1,
            "last_minute": 20, "missed": 16, "known": 16, "allowed": 15, "credit_bps": 500, "credit_micros": 5,
            "evidence": [], "evidence_hash": bytes(32), "rule_version": "r", "broken_at": now(),
            "judged_at": now()}  # fmt: skip


def of_no_target() -> None:
    made(m.EarlyCredit, lease=lease(), kind="target", step_bps=500, amount_micros=1, down_minutes=0, made_at=now(),
         evidence_hash=bytes(32), broken_at=now())  # fmt: skip


def case() -> dict[str, Any]:
    return {"lease": lease(), "slot": 0, "disputed_word": 1, "held_micros": 1, "opened_at": now(), "decide_by": now()}


def span() -> dict[str, Any]:
    return {"starts_at": now(), "ends_at": now() + timedelta(hours=1), "reason": "stopped"}


def notice() -> dict[str, Any]:
    return span() | {"node_class": lease().node_class, "announced_at": now()}


def stop() -> dict[str, Any]:
    return span() | {"lease": lease(), "recorded_at": now()}


def judged() -> dict[str, Any]:
    return {"lease": lease(), "cause": "BUYER", "starts_at": ONCE, "ends_at": ONCE + timedelta(hours=1), "person": "p",
            "evidence": "e", "signed_at": now()}  # fmt: skip


def judged_too_late() -> None:
    begins = lease().window.starts_at
    made(m.JudgedCause, **judged() | {"starts_at": begins, "ends_at": begins + timedelta(minutes=5)})


def shown(back: int = 2, secret: bytes = SECRET, *, again: bool = False) -> Break:
    def write() -> None:
        row = made(m.ProbeDay, **day(back))
        for _ in range(1 + again):
            m.ProbeDay.objects.filter(pk=row.pk).update(revealed=secret, revealed_at=now())

    return write


def rated() -> m.SlotTally:
    row: m.SlotTally = made(m.SlotTally, **tally(), rated_at=now())
    return row


def after_rating(make: Callable[[], Any]) -> Break:
    def write() -> None:
        rated()
        make()

    return write


def decided_twice() -> None:
    row = made(m.DeliveryCase, **case(), state="DECIDED", outcome="agreed", decided_at=now(), billed_word=0,
               decided_by="d", reason="r")  # fmt: skip
    m.DeliveryCase.objects.filter(pk=row.pk).update(reason="another")


def without_its_time() -> None:
    with as_owner():
        made(m.ProbeDay, **day(), revealed=SECRET)


def verdict_again(**changes: Any) -> None:
    row = m.Verdict.objects.first()
    assert row is not None
    row.pk = uuid7(now())
    for name, value in changes.items():
        setattr(row, name, value)
    row.save(force_insert=True)


def credit_changed(**changes: Any) -> None:
    row = m.Credit.objects.first()
    assert row is not None
    m.Credit.objects.filter(pk=row.pk).update(**changes)


CONSTRAINTS: dict[str, Break] = {
    "a_party_has_one_witness_key": twice(m.WitnessKey, key),
    "revealed_day_secret_has_its_time": without_its_time,
    "pulse_sequence_starts_at_one": breaking(m.Pulse, pulse, sequence=0),
    "health_state_is_known": breaking(m.LeaseHealth, health, state="TIRED"),
    "health_event_is_a_change_with_a_reason": breaking(m.HealthEvent, event, reason=""),
    "one_probe_per_verifier_minute_and_attempt": twice(m.ProbeReport, probe),
    "probe_attempt_is_one_of_three": breaking(m.ProbeReport, probe, attempt=4),
    "one_slot_report_per_source": twice(m.SlotReport, slot_report),
    "slot_report_source_is_known": breaking(m.SlotReport, slot_report, source="hearsay"),
    "slot_report_has_sixty_minutes": breaking(m.SlotReport, slot_report, up_word=FULL + 1),
    "one_tally_per_lease_and_slot": twice(m.SlotTally, tally),
    "tally_money_is_billed_held_or_unpaid": breaking(m.SlotTally, tally, billed_micros=1),
    "tally_minutes_fill_the_hour": breaking(m.SlotTally, tally, minutes_held=1),
    "rated_tally_holds_nothing": breaking(m.SlotTally, tally, held_micros=60, unpaid_micros=0, rated_at=now),
    "one_case_per_lease_and_slot": twice(m.DeliveryCase, case),
    "decided_case_says_how_who_and_why": breaking(m.DeliveryCase, case, state="DECIDED"),
    "maintenance_runs_forward_and_says_why": breaking(m.MaintenanceNotice, notice, reason=""),
    "buyer_stop_runs_forward_and_says_why": breaking(m.BuyerStop, stop, reason="bored"),
    "a_judge_signs_a_cause_once": twice(m.JudgedCause, judged),
    "judged_cause_is_known": breaking(m.JudgedCause, judged, cause="FORCE_MAJEURE"),
    "judged_cause_has_person_and_evidence": breaking(m.JudgedCause, judged, evidence=""),
    "one_check_per_verifier_and_interval": twice(m.CheckReport, check),
    "check_measured_something": breaking(m.CheckReport, check, first_ops=-1),
    "an_interval_is_checked_once": twice(m.Recheck, recheck),
    "only_a_failed_check_falls_short": breaking(m.Recheck, recheck, has_failed=False),
    "verdict_fails_checks_that_were_made": lambda: verdict_again(checks_failed=1),
    "performance_is_part_of_its_credit": lambda: credit_changed(performance_micros=-1),
    "targets_are_part_of_their_credit": lambda: credit_changed(targets_micros=-1),
    "an_event_is_judged_once": twice(m.TargetVerdict, target),
    "target_outcome_is_known": breaking(
        m.TargetVerdict, target, outcome="maybe", credit_bps=0, credit_micros=0, broken_at=None),
    "only_a_broken_target_is_credited": breaking(m.TargetVerdict, target, outcome="kept"),
    "target_misses_what_is_known": breaking(m.TargetVerdict, target, missed=17),
    "target_event_runs_forward": breaking(m.TargetVerdict, target, last_minute=0),
    "credit_of_a_target_names_its_verdict": of_no_target,
    "evidence_day_has_verdicts": lambda: made(
        m.EvidenceDay, day=ONCE.date(), root=bytes(32), verdicts=0, anchor_number=1, intent_key="e", made_at=now()),
}
RULES: dict[str, Break] = {
    "committed_day_stays": shown(again=True),
    "day_secret_waits_for_the_end_of_its_day": shown(back=0),
    "day_secret_is_the_one_committed": shown(secret=bytes(32)),
    "rated_tally_stays": after_rating(lambda: m.SlotTally.objects.update(evidence_at=now())),
    "decided_case_stays": decided_twice,
    "judged_cause_comes_before_the_rating": after_rating(judged_too_late),
    "evidence_comes_before_the_rating": after_rating(lambda: made(m.ProbeReport, **probe())),
}
