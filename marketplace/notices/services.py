"""Progress of long work, told in sentences."""

from __future__ import annotations

from datetime import datetime

from marketplace.notices.models import Progress


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
