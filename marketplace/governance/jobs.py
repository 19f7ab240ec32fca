"""What people do with jobs that failed too often: try them once more or drop them, each with a reason on the trail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ledger.errors import JobNotDead
from ledger.models import Outbox
from ledger.tasks import drop_job, retry_job
from marketplace.errors import BadInput
from marketplace.governance.models import AuditLine
from marketplace.governance.services import record

RETRIED, DROPPED = "retry_job", "drop_job"
REASON_LENGTH_MAX = 300
ERROR_TOLD_MAX = 300  # characters of the last error that the trail keeps


def retry_parked(*, id: UUID, person: str, reason: str, now: datetime) -> None:
    """Give a parked job all its tries again, from now. Raises BadInput without a reason, JobNotDead."""
    _help(retry_job, RETRIED, id, person, reason, now)


def drop_parked(*, id: UUID, person: str, reason: str, now: datetime) -> None:
    """End a parked job without its effect. Raises BadInput without a reason, JobNotDead."""
    _help(drop_job, DROPPED, id, person, reason, now)


def told_job_lines() -> QuerySet[AuditLine]:
    """Return what was done with parked jobs, newest first."""
    return AuditLine.objects.filter(action__in=(RETRIED, DROPPED)).order_by("-no")


@transaction.atomic
def _help(act: Callable[..., bool], action: str, id: UUID, person: str, reason: str, now: datetime) -> None:
    reason = reason.strip()
    if not reason or len(reason) > REASON_LENGTH_MAX or not reason.isprintable():
        raise BadInput(f"Give a reason of at most {REASON_LENGTH_MAX} characters on one line.", field="reason")
    job = Outbox.objects.select_for_update().filter(pk=id).first()
    if job is None or not act(id=id, now=now):  # of two people the second finds the row as the first has left it
        raise JobNotDead("This job is not parked: it is done, dropped, or still tried by itself.", job=str(id))
    record(
        actor=person, action=action, subject=f"{job.kind} {job.dedupe_key}"[:120], reason=reason, now=now,
        job=str(id), tries=job.tries, last_error=job.last_error[:ERROR_TOLD_MAX],
    )  # fmt: skip
