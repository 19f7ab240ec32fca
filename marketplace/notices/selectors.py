"""Reads of what people are told while the product works."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from marketplace.notices.models import Notice, Progress

TOLD_FOR = timedelta(days=14)
SILENT_AFTER = timedelta(seconds=30)


def current_progress() -> Progress | None:
    """Return the job that runs now, or None. The newest one counts."""
    return Progress.objects.filter(outcome="running").order_by("-updated_at", "job").first()


def find_progress(job: str) -> Progress | None:
    """Return one job's progress, or None."""
    return Progress.objects.filter(pk=job).first()


def is_silent(progress: Progress, now: datetime) -> bool:
    """Say whether a running job has said nothing for 30 seconds. `now` is the wall clock's time zone, UTC."""
    return progress.outcome == "running" and now - progress.updated_at > SILENT_AFTER


def notices_of(party_id: UUID, now: datetime) -> list[Notice]:
    """Return what a party was told in the last two weeks, newest first; five at most."""
    return list(Notice.objects.filter(party_id=party_id, at__gte=now - TOLD_FOR)[:5])
