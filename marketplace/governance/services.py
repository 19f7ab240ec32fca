"""The audit trail: one hash-chained line per decision, and the flags that phases switch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from marketplace.errors import PhaseClosed
from marketplace.governance.models import AuditLine, Flag

AUDIT_LOCK = 71_001
GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing to be remembered: who did what to whom, and why."""

    actor: str
    action: str
    subject: str
    reason: str
    facts: dict[str, Any]


def record(*, actor: str, action: str, subject: object, reason: str, now: datetime, **facts: Any) -> None:
    """Add one line to the audit trail in the caller's transaction."""
    record_all(deeds=[Deed(actor, action, str(subject), reason, facts)], now=now)


@transaction.atomic(savepoint=False)  # a line that cannot be written must take its deed with it
def record_all(*, deeds: Sequence[Deed], now: datetime) -> None:
    """Add lines in order. One writer at a time: the chain has no forks, so numbers have no gaps."""
    if not deeds:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AUDIT_LOCK])
    last = AuditLine.objects.order_by("-no").first()
    no, prev = (last.no, bytes(last.hash)) if last else (0, GENESIS)
    lines = []
    for deed in deeds:
        no += 1
        line = AuditLine(
            no=no, at=now, actor=deed.actor, action=deed.action, subject=deed.subject, reason=deed.reason[:300],
            facts=json.loads(json.dumps(deed.facts, default=str)), prev_hash=prev,
        )  # fmt: skip
        line.hash = prev = line_hash(line)
        lines.append(line)
    AuditLine.objects.bulk_create(lines, batch_size=1000)


def line_hash(line: AuditLine) -> bytes:
    """SHA-256 over the previous hash and the canonical JSON of the line."""
    body = json.dumps(
        [line.no, line.at.isoformat(), line.actor, line.action, line.subject, line.reason, line.facts],
        sort_keys=True, separators=(",", ":"), ensure_ascii=False,
    )  # fmt: skip
    return hashlib.sha256(bytes(line.prev_hash) + body.encode()).digest()


def first_broken_line() -> int | None:
    """Number of the first line whose hash, link or number is wrong; None when the trail is whole."""
    prev, expected = GENESIS, 1
    for line in AuditLine.objects.order_by("no").iterator(chunk_size=2000):
        if line.no != expected or bytes(line.prev_hash) != prev or bytes(line.hash) != line_hash(line):
            return expected
        prev, expected = bytes(line.hash), expected + 1
    return None


def require_flag(*, name: str, what: str) -> None:
    """Refuse with `phase_closed` unless the phase flag is on."""
    flag = Flag.objects.filter(pk=name).first()
    if flag is None or not flag.is_on:
        phase = flag.opens_in_phase if flag else None
        raise PhaseClosed(f"{what} opens in a later phase.", flag=name, opens_in_phase=phase)


def flag_is_on(name: str) -> bool:
    """Whether an effect is switched on; one that no row names is off."""
    return Flag.objects.filter(pk=name, is_on=True).exists()


def set_flag(*, name: str, is_on: bool, opens_in_phase: int, actor: str, reason: str, now: datetime) -> None:
    """Switch an effect flag, with its reason on the trail."""
    Flag.objects.update_or_create(
        name=name, defaults={"is_on": is_on, "opens_in_phase": opens_in_phase, "reason": reason}
    )
    record(actor=actor, action="set_flag", subject=name, reason=reason, now=now, is_on=is_on)
