"""Progress of long work and what parties are told, in sentences."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from marketplace.notices.models import Notice, Progress


def report_progress(
    *, job: str, phase: str, done: int, total: int, sentence: str, now: datetime, outcome: str = "running"
) -> None:
    """Write how far `job` has come; the last word wins."""
    Progress.objects.update_or_create(
        job=job,
        defaults={
            "phase": phase, "done": min(done, total), "total": total, "sentence": sentence, "outcome": outcome,
            "updated_at": now,
        },
    )  # fmt: skip


def tell_parties(*, parties: Iterable[UUID], about: str, code: str, sentence: str, now: datetime) -> None:
    """Tell each of these parties one sentence, once per `about`, in the caller's transaction."""
    Notice.objects.bulk_create(
        (Notice(party_id=party, about=about, code=code, sentence=sentence[:300], at=now) for party in sorted(parties)),
        ignore_conflicts=True,
    )
