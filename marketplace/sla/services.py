"""SLA: the exact test over a lease's minutes, and the credit that nobody has to ask for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.delivery.checks import begins_at
from marketplace.delivery.evidence_models import SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.tallies import live_readings
from marketplace.escrow.backup_models import given_back_micros
from marketplace.escrow.models import Lease
from marketplace.governance.services import Deed, record_all
from marketplace.sla.egress import broken_hours, metered, wait_for_meter
from marketplace.sla.hours import count_hours
from marketplace.sla.models import Credit, EarlyCredit, Recheck, Verdict
from marketplace.sla.performance import checks_of
from marketplace.sla.rules import RULE_VERSION, hash_of
from marketplace.sla.targets import close_targets
from marketplace.supply.standing import record_hours
from pricing.performance import failures_allowed
from pricing.sla import SLASHABLE_MINUTES_MIN, certain_step_bps, credit_micros, judge


@transaction.atomic
def judge_window(*, window: Window, now: datetime) -> int:
    """Give each delivered lease of a window its verdict and, where its SLA broke, its credit; returns how many.

    One whose pinned data is not metered whole waits for that up to a day.
    """
    delivered = list(
        Lease.objects.select_for_update(of=("self",)).filter(window=window, state="delivered")
        .select_related("node_class", "demand", "provider", "window")
    )  # fmt: skip
    readings: dict[UUID, list[Reading]] = defaultdict(list)
    for row in Reading.objects.filter(lease__in=delivered).order_by("lease", "slot"):
        readings[row.lease_id].append(row)
    waiting = wait_for_meter(delivered, readings, now=now)
    leases = [lease for lease in delivered if lease.pk not in waiting]
    verdicts, credits, deeds = [], [], []
    for lease in leases:
        targets_micros = close_targets(lease=lease, rows=readings[lease.pk], now=now)
        verdict, credit = _judge(lease, readings[lease.pk], window, targets_micros, now)
        verdicts.append(verdict)
        if credit:
            credits.append(credit)
        deeds.append(
            Deed(
                "market",
                "judge",
                str(lease.pk),
                RULE_VERSION,
                {"down": verdict.down_minutes, "breach": verdict.is_breach},
            )
        )
    Verdict.objects.bulk_create(verdicts)
    Credit.objects.bulk_create(credits)
    _count_hours(leases, readings)
    Lease.objects.filter(pk__in=[lease.pk for lease in leases]).update(state="judged")
    record_all(deeds=deeds, now=now)
    return len(leases)


@transaction.atomic
def credit_at_once(*, window: Window, now: datetime) -> int:
    """Note the credit steps that running leases have earned for certain; returns how many are new.

    Payout posts them in the same turn. Only leases signed while PROVEN: before proof the credit comes out of the
    holdback, which fills when a lease of a day at most is settled. Again returns 0: a step is credited once per lease.
    """
    running = Lease.objects.filter(window=window, state="delivering", is_armed=True)
    down = Reading.objects.filter(minutes_down__gt=0, lease__in=running).values_list("lease", flat=True)
    live = SlotTally.objects.filter(lease__in=running, rated_at=None, is_complete=True).exclude(down_word=0)
    broken = {*down, *live.values_list("lease", flat=True)}
    leases = Lease.objects.select_for_update(of=("self",)).filter(pk__in=broken).order_by("pk").select_related("window")
    made = [credit for lease in leases for credit in _certain_credits(lease, window, now)]
    EarlyCredit.objects.bulk_create(made)
    record_all(deeds=[
        Deed("market", "credit_at_once", str(row.lease_id), RULE_VERSION,
             {"step_bps": row.step_bps, "amount_micros": row.amount_micros, "down": row.down_minutes})
        for row in made
    ], now=now)  # fmt: skip
    return len(made)


def _certain_credits(lease: Lease, window: Window, now: datetime) -> list[EarlyCredit]:
    rows = live_readings(lease)
    period = 60 * (lease.until_slot - lease.start_slot)
    before = list(lease.early_credits.all())
    credited = {row.step_bps: row.amount_micros for row in before if row.kind == "availability"}
    left = lease.fee_micros - sum(row.amount_micros for row in before) - given_back_micros(lease)
    made: list[EarlyCredit] = []
    down = 0
    for n, row in enumerate(rows, start=1):
        down += row.minutes_down
        step = certain_step_bps(down_minutes=min(down, period), period_minutes=period, sla_bps=lease.sla_bps)
        amount = min(left, credit_micros(lease.fee_micros, step) - sum(credited.values()))
        if step and step not in credited and amount > 0:
            credited[step] = amount
            left -= amount
            made.append(EarlyCredit(
                id=uuid7(now), lease=lease, step_bps=step, amount_micros=amount, down_minutes=down, made_at=now,
                evidence_hash=evidence_hash(lease, rows[:n]), broken_at=window.slot_at(row.slot + 1),
            ))  # fmt: skip
    return made


def _judge(
    lease: Lease, rows: Sequence[Reading], window: Window, targets_micros: int, now: datetime
) -> tuple[Verdict, Credit | None]:  # fmt: skip
    down = sum(row.minutes_down for row in rows)
    unknown = sum(row.minutes_unknown for row in rows)
    known = 60 * len(rows) - unknown
    judgement = judge(down_minutes=down, known_minutes=known, sla_bps=lease.sla_bps, unknown_minutes=unknown)
    checks = checks_of(lease)
    failed = [row for row in checks if row.has_failed]
    allowed = failures_allowed(len(checks))
    is_slow = len(failed) > allowed and 60 * (lease.until_slot - lease.start_slot) >= SLASHABLE_MINUTES_MIN
    instants = [_breach_instant(rows, judgement.threshold_minutes, window)] if judgement.breach else []
    instants += [begins_at(lease, failed[allowed].interval + 1)] if is_slow else []
    left = broken_hours(lease, rows, is_final=True)
    earned = sum(row.earned_micros for row in rows)
    verdict = Verdict(
        id=uuid7(now), lease=lease, known_minutes=known, down_minutes=down, unknown_minutes=unknown,
        threshold_minutes=judgement.threshold_minutes, availability_ppm=judgement.availability_ppm,
        is_below_sla=judgement.credit_step_bps > 0 or bool(failed or left) or targets_micros > 0,
        is_breach=bool(instants), earned_micros=earned,
        unpaid_micros=lease.fee_micros - earned, rule_version=RULE_VERSION, checks=len(checks),
        above_ceiling_micros=sum(row.above_ceiling_micros for row in rows),
        checks_failed=len(failed), checks_allowed=allowed, evidence_hash=evidence_hash(lease, rows, checks),
        judged_at=now, breach_at=min(instants, default=None),
    )  # fmt: skip
    owed = Owed(
        by_step=credit_micros(lease.fee_micros, judgement.credit_step_bps, refunded_micros=verdict.unpaid_micros),
        performance=sum(row.shortfall_micros for row in failed), targets=targets_micros,
        egress=sum(hour.amount_micros for hour in left),
    )  # fmt: skip
    return verdict, _credit(verdict, judgement.credit_step_bps, owed, now)


@dataclass(frozen=True, slots=True)
class Owed:
    """What a lease's credit is made of, micro-USD: its availability's step, its checks' shortfalls, its broken targets
    and the hours in which pinned data left."""

    by_step: int
    performance: int
    targets: int
    egress: int

    @property
    def total(self) -> int:
        return self.by_step + self.performance + self.targets + self.egress


def _credit(verdict: Verdict, step_bps: int, owed: Owed, now: datetime) -> Credit | None:
    """The credit of a whole lease: all that is owed, at most what is left of the fee.

    What was credited while it ran is never taken back, though a record that came later may excuse some of it. What a
    backup took along is unpaid and cannot be sent again.
    """
    lease = verdict.lease
    unsent = verdict.unpaid_micros - given_back_micros(lease)
    sent = sum(row.amount_micros for row in lease.early_credits.all()) - unsent
    amount = max(min(owed.total, lease.fee_micros - verdict.unpaid_micros), sent)
    if amount == 0:
        return None
    performance = min(owed.performance, amount)
    targets = min(owed.targets, amount - performance)
    # Before proof the whole payout waits in the holdback, and the credit is taken from there (M-058).
    return Credit(
        id=uuid7(now), verdict=verdict, step_bps=step_bps, amount_micros=amount, performance_micros=performance,
        targets_micros=targets, egress_micros=min(owed.egress, amount - performance - targets),
        source="escrow" if lease.is_armed else "holdback",
    )  # fmt: skip


def evidence_hash(lease: Lease, rows: Sequence[Reading], checks: Sequence[Recheck] = ()) -> bytes:
    """SHA-256 over the lease's terms, every slot as probed and signed, and every re-check: what a verdict rests on."""
    return hash_of(evidence_body(lease, rows, checks))


def evidence_body(lease: Lease, rows: Sequence[Reading], checks: Sequence[Recheck]) -> list[object]:
    """What `evidence_hash` is the hash of, as canonical JSON."""
    body: list[object] = [str(lease.pk), lease.sla_bps, lease.fee_micros, *(_slot_words(row) for row in rows)]
    body += [["re-check", row.interval, row.first_ops, row.second_ops, _hex(row.evidence_hash)] for row in checks]
    return body + metered(lease)


def _hex(digest: bytes | memoryview) -> str:
    return bytes(digest).hex()


def _slot_words(row: Reading) -> list[object]:
    words = [row.slot, row.probe_valid, row.probe_failed, hashlib.sha256(bytes(row.report)).hexdigest()]
    if row.statements_hash is not None:  # delivered live: every statement, the buyer's word, and whose doing it was
        words += [_hex(row.statements_hash), row.buyer_up, row.causes]
        words += [row.echo_ms] if row.echo_ms else []
    return words


def _breach_instant(rows: Sequence[Reading], threshold_minutes: int, window: Window) -> datetime:
    """End of the slot in which the down minutes passed what the test allows."""
    total = 0
    for row in rows:
        total += row.minutes_down
        if total > threshold_minutes:
            return window.slot_at(row.slot + 1)
    raise AssertionError("a breach has more down minutes than its threshold")


def _count_hours(leases: Sequence[Lease], readings: dict[UUID, list[Reading]]) -> None:
    hours: dict[UUID, list[Reading]] = defaultdict(list)
    for lease in leases:
        hours[lease.node_class_id] += readings[lease.pk]
    for node_class_id, rows in hours.items():
        good, bad = count_hours(rows)
        record_hours(node_class_id=node_class_id, good=good, bad=bad)
