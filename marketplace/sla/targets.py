"""Typed targets of leases: judged from stored evidence, credited by the menu's schedule, each event once.

A target that nothing can mend any more is noted while its lease runs, with a credit posted in the same turn; the others
are judged at the close. What was noted is never taken back, though a record that came later may excuse some of it. The
arithmetic is `pricing.targets`. A broken target is credited and slashes nobody: only availability, performance and
proof do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import transaction

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.delivery.checks import begins_at, intervals_of
from marketplace.delivery.evidence_models import MaintenanceNotice, SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.promises import promises
from marketplace.delivery.tallies import judge_probes, live_readings
from marketplace.escrow.backup_models import given_back_micros
from marketplace.escrow.models import Lease
from marketplace.governance.services import Deed, record_all
from marketplace.notices.services import tell_parties
from marketplace.sla.models import EarlyCredit, Recheck, TargetVerdict
from marketplace.sla.rules import RULE_VERSION, hash_of
from pricing import targets as rules
from pricing.metering import SLOT_MINUTES
from pricing.performance import CHECK_HOURS
from pricing.sla import credit_micros
from pricing.targets import DOWN, GOOD, MAINTAINED, ONE_BPS, TARGETS, UNSEEN, Late, Notice, Outcome, ShareJudgement

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Found:
    """What one target, or one event of it, came to; minutes are counted from the start of the lease."""

    outcome: Outcome
    missed: int
    known: int
    allowed: int
    measured: int | None
    evidence: list[Any]
    broken_at: datetime | None = None
    first_minute: int = 0
    last_minute: int = 0


@dataclass
class Seen:
    """The evidence of one lease so far: its hours up to the first one that is not in yet."""

    lease: Lease
    rows: Sequence[Reading]
    letters: dict[int, str] = field(init=False)  # slot: sixty minutes

    def __post_init__(self) -> None:
        known = {row.slot: row for row in self.rows}
        self.owed = sorted(slot for _, slot in promises(leases=[self.lease]))
        missing = next((slot for slot in self.owed if slot not in known), self.lease.until_slot)
        self.rows = [known[slot] for slot in self.owed if slot < missing]
        self.letters = {row.slot: _letters(row) for row in self.rows}

    @cached_property
    def minutes(self) -> str:
        """One letter for each minute since the start; hours that are not leased are seen by nobody."""
        last = max(self.letters, default=self.lease.start_slot - 1)
        slots = range(self.lease.start_slot, last + 1)
        return "".join(self.letters.get(slot, UNSEEN * SLOT_MINUTES) for slot in slots)

    @cached_property
    def echoes(self) -> dict[int, list[int]]:
        """Echo times of the good minutes of each hour, ms: a minute that is down costs availability, not latency."""
        return {
            row.slot: [ms for ms, letter in zip(row.echo_ms, self.letters[row.slot], strict=True)
                       if ms is not None and letter == GOOD] if row.echo_ms else []
            for row in self.rows
        }  # fmt: skip

    @cached_property
    def checks(self) -> list[Recheck]:
        return list(Recheck.objects.filter(lease=self.lease).order_by("interval"))

    @cached_property
    def notices(self) -> list[MaintenanceNotice]:
        return list(MaintenanceNotice.objects.filter(
            node_class=self.lease.node_class_id, starts_at__lt=self.at(len(self.minutes)), ends_at__gt=self.at(0),
        ).order_by("starts_at", "id"))  # fmt: skip

    def at(self, minute: int) -> datetime:
        """The moment of a minute of the lease."""
        return self.lease.window.slot_at(self.lease.start_slot) + minute * MINUTE

    def hour_after(self, minute: int) -> datetime:
        """The end of the slot in which a minute lies: what was in it is known then."""
        return self.lease.window.slot_at(self.lease.start_slot + minute // SLOT_MINUTES + 1)

    def words(self, first_minute: int, last_minute: int) -> list[Any]:
        """The hours of a span as evidence: slot, what was stated about it, and its minutes."""
        first, last = (self.lease.start_slot + minute // SLOT_MINUTES for minute in (first_minute, last_minute))
        return [[row.slot, _stated(row), self.letters[row.slot]] for row in self.rows if first <= row.slot <= last]


def _letters(row: Reading) -> str:
    tally = SlotTally(probe_valid=row.probe_valid, probe_failed=row.probe_failed, provider_up=row.provider_up,
                      buyer_up=row.buyer_up)  # fmt: skip
    judge_probes(tally)
    maintained, excused = row.causes.get("MAINT", 0), 0
    for word in row.causes.values():
        excused |= word
    return "".join(
        (MAINTAINED if maintained >> minute & 1 else UNSEEN if excused >> minute & 1 else DOWN)
        if tally.down_word >> minute & 1 else UNSEEN if tally.unknown_word >> minute & 1 else GOOD
        for minute in range(SLOT_MINUTES)
    )  # fmt: skip


def _stated(row: Reading) -> str:
    """The hash of every statement about a slot; of a recorded one, of its machine's report."""
    return bytes(row.statements_hash or hashlib.sha256(bytes(row.report)).digest()).hex()


# --- each kind of target -------------------------------------------------------------------------------------------


def _latency(seen: Seen, name: str, bound: int, *, is_over: bool) -> Iterator[Found]:
    counts = [(slot, len(times), sum(ms > bound for ms in times)) for slot, times in seen.echoes.items()]
    stated = {row.slot: _stated(row) for row in seen.rows}
    judged = _share(name, [(known, missed) for _, known, missed in counts], SLOT_MINUTES * len(seen.owed), is_over)
    if judged is None:
        return
    judgement, place = judged
    samples = [ms for times in seen.echoes.values() for ms in times]
    at = None if place is None else seen.lease.window.slot_at(counts[place][0] + 1)
    yield Found(
        judgement.outcome, judgement.missed, judgement.known, judgement.allowed,
        rules.percentile(samples, share_bps=ONE_BPS - TARGETS[name].missed_bps_max),
        [[slot, stated[slot], known, missed] for slot, known, missed in counts], at,
        last_minute=max(0, len(seen.minutes) - 1),
    )  # fmt: skip


def _throughput(seen: Seen, name: str, bound: int, *, is_over: bool) -> Iterator[Found]:
    strayed = [
        rules.strays(ops=row.first_ops, proven_ops=row.proven_ops, spread_bps=bound) for row in seen.checks
    ]
    judged = _share(name, [(1, int(each)) for each in strayed], intervals_of(seen.lease), is_over)
    if judged is None:
        return
    judgement, place = judged
    spreads = [-(-abs(row.first_ops - row.proven_ops) * ONE_BPS // row.proven_ops) for row in seen.checks]
    yield Found(
        judgement.outcome, judgement.missed, judgement.known, judgement.allowed,
        rules.percentile(spreads, share_bps=ONE_BPS - TARGETS[name].missed_bps_max),
        [[row.interval, row.first_ops, row.proven_ops, bytes(row.evidence_hash).hex()] for row in seen.checks],
        None if place is None else begins_at(seen.lease, seen.checks[place].interval + 1),
        last_minute=max(0, SLOT_MINUTES * CHECK_HOURS * len(seen.checks) - 1),
    )  # fmt: skip


def _share(
    name: str, counts: Sequence[tuple[int, int]], period: int, is_over: bool
) -> tuple[ShareJudgement, int | None] | None:
    """The judgement of (known, missed) in order of time, and the place with which it was broken; None: too early."""
    known, missed = (sum(each) for each in zip(*counts, strict=True)) if counts else (0, 0)
    if is_over:
        judgement = rules.judge_share(name, missed=missed, known=known)
    elif rules.is_certainly_broken(name, missed=missed, period=period):
        judgement = ShareJudgement("broken", missed, known, rules.allowed(name, period))
    else:
        return None
    if judgement.outcome != "broken":
        return judgement, None
    total = 0
    for place, (_, more) in enumerate(counts):
        total += more
        if total > judgement.allowed:
            return judgement, place
    raise AssertionError("what is broken has missed more than it may")


def _start(seen: Seen, name: str, bound: int, *, is_over: bool) -> Iterator[Found]:
    outcome, late = rules.late_start(seen.minutes, bound=bound)
    if late is not None:
        yield _event(seen, late, bound + rules.MISSEEN_MINUTES, measured=late.bad_minutes)
    elif is_over:
        begun = seen.minutes.find(GOOD)
        bad = seen.minutes[:begun].count(DOWN) if begun >= 0 else None
        yield Found(outcome, bad or 0, max(begun, 0), bound, bad, seen.words(0, max(begun, 0)),
                    last_minute=max(begun, 0))  # fmt: skip


def _repair(seen: Seen, name: str, bound: int, *, is_over: bool) -> Iterator[Found]:
    late = rules.long_failures(seen.minutes, bound=bound)
    allowed = bound + rules.MISSEEN_MINUTES
    yield from (_event(seen, each, allowed, measured=each.bad_minutes) for each in late)
    if is_over and not late:
        longest = max(map(len, rules.failures(seen.minutes)), default=0)
        has_run = GOOD in seen.minutes
        yield Found("kept" if has_run else "unknown", longest, len(seen.minutes), bound, longest if has_run else None,
                    seen.words(0, len(seen.minutes)), last_minute=max(0, len(seen.minutes) - 1))  # fmt: skip


def _notice(seen: Seen, name: str, bound: int, *, is_over: bool) -> Iterator[Found]:
    told = [
        Notice(*((at - seen.at(0)) // MINUTE for at in (row.announced_at, row.starts_at, row.ends_at)))
        for row in seen.notices
    ]
    hours = {max(0, each.first_minute): (each.first_minute - each.announced_minute) // 60 for each in told}
    late = rules.short_notices(seen.minutes, told, bound_hours=bound)
    records = [[str(row.pk), *(at.isoformat() for at in (row.announced_at, row.starts_at, row.ends_at))]
               for row in seen.notices]  # fmt: skip
    for each in late:
        yield _event(seen, each, 0, measured=hours[each.first_minute], more=records)
    if is_over and not late:
        yield Found("kept", 0, len(told), 0, min(hours.values(), default=None), records,
                    last_minute=max(0, len(seen.minutes) - 1))  # fmt: skip


def _event(seen: Seen, late: Late, allowed: int, *, measured: int, more: Sequence[Any] = ()) -> Found:
    span = seen.minutes[late.first_minute : late.last_minute + 1]
    return Found(
        "broken", late.bad_minutes, len(span) - span.count(UNSEEN), allowed, measured,
        [*more, *seen.words(late.first_minute, late.last_minute)], seen.hour_after(late.certain_minute),
        late.first_minute, late.last_minute,
    )  # fmt: skip


JUDGES: dict[str, Callable[..., Iterator[Found]]] = {
    "latency": _latency, "throughput": _throughput, "start": _start, "notice": _notice, "repair": _repair,
}  # fmt: skip


def look_at(seen: Seen, name: str, *, is_over: bool) -> Iterator[Found]:
    """What one target of a lease comes to; of a running one (`is_over=False`) only what is broken for certain."""
    return JUDGES[name.split("_")[0]](seen, name, seen.lease.sla_targets[name], is_over=is_over)


# --- what is written -----------------------------------------------------------------------------------------------


@transaction.atomic
def judge_targets(*, window: Window, now: datetime) -> int:
    """Note what running leases have broken for certain, each with its credit; returns how many are new.

    Payout posts the credits in the same turn, of leases signed while PROVEN; before proof the holdback pays at the
    close. Again returns 0: an event is judged once.
    """
    running = Lease.objects.select_for_update(of=("self",)).filter(window=window, state="delivering")
    leases = running.exclude(sla_targets={}).order_by("pk").select_related("window", "demand", "provider")
    made = [row for lease in leases for row in _judge(Seen(lease, live_readings(lease)), now, is_over=False)]
    TargetVerdict.objects.bulk_create(made)
    for lease in {row.lease_id: row.lease for row in made if row.lease.is_armed}.values():
        EarlyCredit.objects.bulk_create(_credits(lease, [row for row in made if row.lease_id == lease.pk], now))
    _tell(made, now)
    point("sla.targets.before_commit")
    return len(made)


def close_targets(*, lease: Lease, rows: Sequence[Reading], now: datetime) -> int:
    """Judge what is left of a delivered lease's targets; returns what all broken ones credit, micro-USD."""
    if not lease.sla_targets:
        return 0
    made = _judge(Seen(lease, rows), now, is_over=True)
    TargetVerdict.objects.bulk_create(made)
    _tell(made, now)
    return sum(row.credit_micros for row in TargetVerdict.objects.filter(lease=lease))


def _judge(seen: Seen, now: datetime, *, is_over: bool) -> list[TargetVerdict]:
    """Verdicts that are not written yet. An event that was seen before, however much of it, is not judged again."""
    lease, made = seen.lease, list[TargetVerdict]()
    before = list(TargetVerdict.objects.filter(lease=lease))
    for name, bound in sorted(lease.sla_targets.items()):
        known = [row for row in before if row.target == name]
        if known and TARGETS[name].is_share:
            continue
        for found in look_at(seen, name, is_over=is_over):
            is_known = any(
                row.event_minute <= found.last_minute and found.first_minute <= row.last_minute for row in known
            )
            if not is_known and (is_over or found.outcome == "broken"):
                made.append(_verdict(lease, name, bound, found, now))
    return made


def _verdict(lease: Lease, name: str, bound: int, found: Found, now: datetime) -> TargetVerdict:
    credit_bps = TARGETS[name].credit_bps if found.outcome == "broken" else 0
    evidence = [
        str(lease.pk), name, bound, lease.fee_micros, found.outcome, found.first_minute, found.last_minute,
        found.measured, found.missed, found.known, found.allowed, *found.evidence,
    ]  # fmt: skip
    return TargetVerdict(
        id=uuid7(now), lease=lease, target=name, bound=bound, outcome=found.outcome, event_minute=found.first_minute,
        last_minute=found.last_minute, measured=found.measured, missed=found.missed, known=found.known,
        allowed=found.allowed, credit_bps=credit_bps, credit_micros=credit_micros(lease.fee_micros, credit_bps),
        evidence=evidence, evidence_hash=hash_of(evidence), rule_version=RULE_VERSION, broken_at=found.broken_at,
        judged_at=now,
    )  # fmt: skip


def _credits(lease: Lease, broken: Sequence[TargetVerdict], now: datetime) -> list[EarlyCredit]:
    """The credits of broken targets, never more than what is left of the fee after the credits before them."""
    before = list(lease.early_credits.all())
    left = lease.fee_micros - sum(row.amount_micros for row in before) - given_back_micros(lease)
    period, made = sum(row.kind == "target" for row in before), list[EarlyCredit]()
    for row in broken:
        amount = min(left, row.credit_micros)
        if amount > 0:
            left -= amount
            made.append(EarlyCredit(
                id=uuid7(now), lease=lease, kind="target", period=period + len(made), step_bps=row.credit_bps,
                target_verdict=row, amount_micros=amount, down_minutes=0, evidence_hash=bytes(row.evidence_hash),
                broken_at=row.broken_at, made_at=now,
            ))  # fmt: skip
    return made


def _tell(made: Sequence[TargetVerdict], now: datetime) -> None:
    """A broken target goes on the trail and to both sides; a late start is an event of its own name."""
    record_all(deeds=[
        Deed("market", "judge_target", str(row.lease_id), RULE_VERSION,
             {"target": row.target, "bound": row.bound, "outcome": row.outcome, "measured": row.measured,
              "credit_micros": row.credit_micros, "evidence": bytes(row.evidence_hash).hex()})
        for row in made
    ], now=now)  # fmt: skip
    for row in (each for each in made if each.outcome == "broken"):
        is_start = row.target == "start_by_minutes_max"
        what = f"started late: {row.measured} bad minutes before its first good one" if is_start else (
            f"broke a target: {TARGETS[row.target].words.lower()} {rules.bound_words(TARGETS[row.target], row.bound)}"
        )  # fmt: skip
        tell_parties(
            parties={row.lease.buyer_id, row.lease.provider_id}, about=f"target:{row.pk}", now=now,
            code="lease_started_late" if is_start else "target_broken",
            sentence=f"{row.lease.demand.reference} {what}. Its credit needs no claim.",
        )  # fmt: skip
