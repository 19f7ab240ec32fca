"""How each running lease's machine stands now. The automaton is `pricing.health`; this keeps its state in a row.

A round is made anew from the state before it whenever one of its reports arrives, so a round says the same in whatever
order and however often they come. Rounds older than the last one change nothing here: the tallies judge them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from django.db import transaction

from marketplace.agent.statements import EXTRA, FIRST
from marketplace.clearing.models import Backup
from marketplace.delivery.evidence_models import HealthEvent, LeaseHealth, ProbeReport
from marketplace.delivery.probing import RUNNING, slot_of
from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from pricing.health import (
    HEARTBEAT_SECONDS,
    HEARTBEATS_MISSED_MAX,
    Health,
    accepted,
    after_extra_probe,
    after_heartbeat,
    after_round,
    after_silence,
)


@transaction.atomic
def note_rounds(*, lease: Lease, minutes: Iterable[datetime], now: datetime) -> LeaseHealth:
    """Take the rounds of some minutes into a lease's health. The caller holds the lease's row."""
    row, wanted = _row(lease, now), set(minutes)
    by_minute: dict[datetime, list[ProbeReport]] = defaultdict(list)
    for report in ProbeReport.objects.filter(lease=lease, minute_at__in=wanted).defer("body", "signature"):
        by_minute[report.minute_at].append(report)
    for minute_at in sorted(wanted):
        if row.round_minute_at is not None and minute_at < row.round_minute_at:
            continue
        if minute_at != row.round_minute_at:
            row.base_state, row.base_since = row.state, row.since
            row.base_good_minutes, row.round_minute_at = row.good_minutes, minute_at
        reports = by_minute[minute_at]
        before, words = row.state, _words(reports)
        _put(row, _after(_base(row), reports, now))
        _tell(row, lease, before, words, now)
    row.save()
    return row


def _after(health: Health, reports: Sequence[ProbeReport], now: datetime) -> Health:
    firsts = [each for each in reports if each.attempt == FIRST and each.is_valid]
    extras = [each for each in reports if each.attempt == EXTRA and each.is_valid]
    stamp = now.timestamp()
    found = after_round(health, valid=len(firsts), failed=sum(each.has_failed for each in firsts), at=stamp)
    return after_extra_probe(found, failed=any(each.has_failed for each in extras), at=stamp) if extras else found


def _words(reports: Sequence[ProbeReport]) -> str:
    valid = [each for each in reports if each.is_valid]
    return f"{sum(each.has_failed for each in valid)} of {len(valid)} valid probe reports failed"


@transaction.atomic
def note_heartbeat(*, lease: Lease, devices: int, devices_leased: int, now: datetime) -> LeaseHealth:
    """Take a heartbeat into a lease's health; a missing device is a suspicion."""
    row = _row(lease, now)
    before, stamp = row.state, now.timestamp()
    _put(row, after_heartbeat(_now(row), devices=devices, devices_leased=devices_leased, at=stamp))
    _lift_base(row, before)
    _tell(row, lease, before, f"{devices} of {devices_leased} devices in a heartbeat", now)
    row.save()
    return row


@transaction.atomic
def watch_silence(*, now: datetime) -> int:
    """Suspect running leases whose machine has missed two heartbeats; returns how many are new."""
    late = now - timedelta(seconds=HEARTBEAT_SECONDS * HEARTBEATS_MISSED_MAX)
    rows = LeaseHealth.objects.select_for_update(of=("self",)).filter(
        state="HEALTHY", heartbeat_at__lte=late, lease__state__in=RUNNING
    )
    suspected = 0
    for row in rows.select_related("lease__demand", "lease__provider", "lease__window").order_by("pk"):
        if not row.lease.start_slot <= slot_of(row.lease, now) < row.lease.until_slot:
            continue
        before = row.state
        _put(row, after_silence(_now(row), at=now.timestamp()))
        _lift_base(row, before)
        _tell(row, row.lease, before, "two heartbeats missed", now)
        row.save()
        suspected += row.state != before
    return suspected


def _lift_base(row: LeaseHealth, before: str) -> None:
    """A suspicion that comes between the reports of a round is part of what the round starts from."""
    if row.state != before and row.base_state == before:
        row.base_state, row.base_since, row.base_good_minutes = row.state, row.since, row.good_minutes


def _row(lease: Lease, now: datetime) -> LeaseHealth:
    found = LeaseHealth.objects.select_for_update().filter(pk=lease.pk).first()
    if found is None:
        fresh = accepted(now.timestamp())
        found = LeaseHealth(lease=lease, state=fresh.state, since=now, base_state=fresh.state, base_since=now)
        found.save(force_insert=True)
    return found


def _now(row: LeaseHealth) -> Health:
    beat = row.heartbeat_at.timestamp() if row.heartbeat_at else None
    return Health(row.state, row.since.timestamp(), row.good_minutes, beat)


def _base(row: LeaseHealth) -> Health:
    beat = row.heartbeat_at.timestamp() if row.heartbeat_at else None
    return Health(row.base_state, row.base_since.timestamp(), row.base_good_minutes, beat)


def _put(row: LeaseHealth, health: Health) -> None:
    row.state, row.good_minutes = health.state, health.good_minutes
    row.since = datetime.fromtimestamp(health.since, UTC)
    row.heartbeat_at = datetime.fromtimestamp(health.heartbeat_at, UTC) if health.heartbeat_at is not None else None


def _tell(row: LeaseHealth, lease: Lease, before: str, reason: str, now: datetime) -> None:
    if row.state == before:
        return
    HealthEvent.objects.create(lease=lease, from_state=before, to_state=row.state, reason=reason, at=now)
    record(actor="verifiers", action="health", subject=lease.pk, reason=reason, now=now, from_state=before,
           to_state=row.state)  # fmt: skip
    if "FAILED" not in (before, row.state):
        return
    has_failed = row.state == "FAILED"
    sentence = f"{lease.demand.reference} at {lease.provider.name} "
    sentence += f"has failed: {reason}. It is not billed." if has_failed else "delivers again and is billed."
    if has_failed and Backup.objects.filter(award__demand=lease.demand_id, award__bid=lease.bid_id).exists():
        sentence += " A backup was agreed: see the lease."
    tell_parties(
        parties={lease.buyer_id, lease.provider_id}, about=f"health:{lease.pk}:{now.isoformat()}",
        code="lease_failed" if has_failed else "lease_recovered", sentence=sentence, now=now,
    )  # fmt: skip
