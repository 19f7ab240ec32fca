"""The outbox: jobs that are written with the change that asks for them, and run at least once, to one effect.

The broker only carries ids as a hint. Wiping it, or having none, loses nothing: `pump` leases what is due and publishes
it again. An atomic handler's changes and the mark that the job is done are one commit. A handler that acts outside the
database (`atomic=False`) runs without a transaction, at most once at a time, and must be idempotent.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from celery import shared_task
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from ledger import faults
from ledger.errors import ClockMissing, JobKeyReused, UnknownJobKind
from ledger.ids import uuid7
from ledger.models import Outbox

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)  # longer than a job takes; after it a job of a dead worker is published again
PUMP_AT_ONCE = 200
TRIES_MAX = 8  # then the job is a dead letter: it stays, with its last error, until retry_job or drop_job
BACKOFF_FIRST = timedelta(seconds=2)
BACKOFF_MAX = timedelta(minutes=10)
ERROR_LENGTH_MAX = 2000


HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., object])
TaskFunction = TypeVar("TaskFunction", bound=Callable[..., object])


@dataclass(frozen=True)
class _Registered:
    function: Callable[..., object]
    atomic: bool


_handlers: dict[str, _Registered] = {}
_clock: Callable[[], datetime] | None = None


def use_clock(function: Callable[[], datetime] | None) -> None:
    """Hand in the clock by which jobs fall due; the market's clock, once, when the apps are ready.

    None takes it away again."""
    global _clock
    _clock = function


def clock() -> datetime:
    """Return the time by the clock that was handed in. Raises ClockMissing."""
    if _clock is None:
        raise ClockMissing("Nobody handed the outbox a clock; call ledger.tasks.use_clock.")
    return _clock()


def handler(kind: str, *, atomic: bool = True) -> Callable[[HandlerFunction], HandlerFunction]:
    """Register the decorated function, called as f(payload, now=...), for jobs of this kind."""

    def register(function: HandlerFunction) -> HandlerFunction:
        known = _handlers.get(kind)
        if known is not None and known.function is not function:
            raise ValueError(f"two handlers for jobs of kind {kind!r}")
        _handlers[kind] = _Registered(function, atomic)
        return function

    return register


def enqueue(*, kind: str, payload: Mapping[str, Any], dedupe_key: str, run_at: datetime | None = None) -> UUID:
    """Write a job in the caller's transaction and return its id; the same key again returns the first job's id.

    `payload` holds JSON values only. Raises JobKeyReused when the key stands for another kind or payload.
    """
    now = clock()
    body = json.loads(json.dumps(payload))
    with connection.cursor() as cursor:
        cursor.execute(
            """insert into ledger_outbox (id, kind, payload, dedupe_key, run_at, tries, last_error)
               values (%s, %s, %s::jsonb, %s, %s, 0, '') on conflict (dedupe_key) do nothing returning id""",
            [uuid7(now), kind, json.dumps(body), dedupe_key, run_at or now],
        )
        row = cursor.fetchone()
    if row is None:  # a second statement, because this one also sees what another transaction committed meanwhile
        known = Outbox.objects.get(dedupe_key=dedupe_key)
        if (known.kind, known.payload) != (kind, body):
            raise JobKeyReused("This key already stands for another job.", dedupe_key=dedupe_key, kind=known.kind)
        return known.pk
    if run_at is None or run_at <= now:
        transaction.on_commit(_nudge, robust=True)
    return UUID(str(row[0]))


def pump(now: datetime, *, limit: int = PUMP_AT_ONCE) -> list[UUID]:
    """Lease what is due, publish the ids to the workers, and return them. A broker that is down is only logged."""
    leased = _lease(now, limit)
    _publish(run_job_task, [[str(job_id)] for job_id in leased])
    return leased


def _lease(now: datetime, limit: int) -> list[UUID]:
    with connection.cursor() as cursor:
        # Materialized: a plan that asks for the due rows anew for each row of the outbox would lease more than `limit`.
        cursor.execute(
            """with due as materialized (
                   select id from ledger_outbox
                    where done_at is null and run_at <= %s and tries < %s
                      and (leased_until is null or leased_until <= %s)
                    order by run_at, id limit %s for update skip locked)
               update ledger_outbox o set leased_until = %s from due where o.id = due.id returning o.id, o.run_at""",
            [now, TRIES_MAX, now, limit, now + LEASE],
        )
        rows = cursor.fetchall()
    return [row[0] for row in sorted(rows, key=lambda row: (row[1], row[0]))]


def run_job(id: UUID, now: datetime) -> bool:
    """Work on one job; True if this call finished it, False if it is done, taken by another, or failed.

    A failure is counted in the job's row with its error, and the job is put off.
    """
    job = Outbox.objects.filter(pk=id, done_at=None).first()
    if job is None:
        return False
    try:
        registered = _handlers.get(job.kind)
        if registered is None:
            raise UnknownJobKind(f"No handler is registered for jobs of kind {job.kind!r}.", kind=job.kind)
        run = _run_atomic if registered.atomic else _run_outside
        return run(job, registered.function, now)
    except Exception as error:
        log.exception("job %s of kind %s failed", job.pk, job.kind)
        _note_failure(job.pk, error, now)
        return False


def _run_atomic(job: Outbox, function: Callable[..., object], now: datetime) -> bool:
    with transaction.atomic():
        if not Outbox.objects.select_for_update(skip_locked=True).filter(pk=job.pk, done_at=None).exists():
            return False  # another worker holds it or was faster
        function(job.payload, now=now)
        faults.point("outbox.run.before_commit")
        Outbox.objects.filter(pk=job.pk).update(done_at=now)
    faults.point("outbox.run.after_commit")
    return True


def _run_outside(job: Outbox, function: Callable[..., object], now: datetime) -> bool:
    claimed = Outbox.objects.filter(
        Q(claimed_until=None) | Q(claimed_until__lte=now), pk=job.pk, done_at=None
    ).update(claimed_until=now + LEASE)
    if claimed != 1:
        return False  # another worker is at it; should it have died, the claim runs out
    function(job.payload, now=now)
    faults.point("outbox.run.before_commit")
    Outbox.objects.filter(pk=job.pk).update(done_at=now)
    faults.point("outbox.run.after_commit")
    return True


def _note_failure(job_id: UUID, error: Exception, now: datetime) -> None:
    """Count the try and put the job off; a worker that dies counts nothing, its lease only runs out."""
    tries = Outbox.objects.filter(pk=job_id).values_list("tries", flat=True).first() or 0
    wait = min(BACKOFF_FIRST * 2 ** min(tries, 20), BACKOFF_MAX)
    Outbox.objects.filter(pk=job_id, done_at=None).update(
        tries=F("tries") + 1,
        last_error=f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX],
        run_at=now + wait,
        leased_until=None,
        claimed_until=None,
    )


def drain(now: datetime, limit: int = 10_000) -> int:
    """Run in this process all that is due at `now`, at most `limit` jobs, and return how many were finished.

    Jobs that these jobs enqueue are run too. A job that fails is put off and left.
    """
    finished = tried = 0
    while tried < limit and (leased := _lease(now, min(PUMP_AT_ONCE, limit - tried))):
        for job_id in leased:
            finished += run_job(job_id, now)
        tried += len(leased)
    return finished


def dead_jobs() -> QuerySet[Outbox]:
    """Return the jobs that failed too often, oldest first; `tries` and `last_error` say how."""
    return Outbox.objects.filter(done_at=None, tries__gte=TRIES_MAX).order_by("run_at", "id")


def retry_job(*, id: UUID, now: datetime) -> bool:
    """Give a dead job a new life; False if it is done or was not dead."""
    dead = Outbox.objects.filter(pk=id, done_at=None, tries__gte=TRIES_MAX)
    return dead.update(tries=0, run_at=now, leased_until=None, claimed_until=None) == 1


def drop_job(*, id: UUID, now: datetime) -> bool:
    """End a dead job without running it; False if it is done or was not dead.

    Its row stays with tries and error, so its key stays taken and the same job is not asked for again.
    """
    dead = Outbox.objects.filter(pk=id, done_at=None, tries__gte=TRIES_MAX)
    return dead.update(done_at=now) == 1


# -- Celery: shells only ---------------------------------------------------------------------------------------------
# The rails load web3, which takes a second: they are imported when a task runs, not when Celery looks for tasks.


def _publish(task: Any, calls: Sequence[Sequence[str]]) -> None:
    """Send hints to the workers; never wait for a broker and never fail for it.

    A job whose hint is lost is published again when its lease runs out.
    """
    if not calls or not task.app.conf.broker_url:
        return
    try:
        with task.app.connection_for_write() as connection:
            # `retry=False` alone still lets the connection try for seconds (8 s were seen), inside a web request.
            connection.transport_options = {**connection.transport_options, "max_retries": 0}
            for arguments in calls:
                task.apply_async(arguments, connection=connection, retry=False, ignore_result=True)
    except Exception as error:
        log.warning("no hint was sent to the workers: %s: %s", type(error).__name__, error)


def _nudge() -> None:
    _publish(pump_task, [[]])


def _task(function: TaskFunction) -> TaskFunction:
    """Make a Celery task that is acknowledged after it ran, so that a killed worker's message is given to another."""
    task: TaskFunction = shared_task(acks_late=True)(function)  # type: ignore[no-untyped-call]
    return task


@_task
def pump_task() -> int:
    """Publish what is due; the beat calls this each second, and every commit that wrote a job does."""
    return len(pump(clock()))


@_task
def run_job_task(job_id: str) -> bool:
    """Run one job."""
    return run_job(UUID(job_id), clock())


@_task
def expire_holds_task() -> int:
    """Release the holds whose time is over."""
    from ledger.services import expire_holds

    return expire_holds(now=clock())


@_task
def close_epoch_task() -> int:
    """Seal what was posted since the last epoch, in every ledger, and return how many epochs were closed."""
    from ledger.epochs import close_epoch
    from ledger.services import LEDGERS

    return sum(close_epoch(ledger, clock()) is not None for ledger in LEDGERS.values())


@_task
def send_task() -> int:
    """Send the transactions that were asked for, and return how many went out."""
    from ledger.rails import sender

    return sender.pump(now=clock()).sent


@_task
def index_task() -> int:
    """Book what the chain made final, and return how many events were new."""
    from ledger.rails import indexer

    return indexer.index(now=clock())


@_task
def reconcile_task() -> int:
    """Compare the books with the chain, and return how many differences were found; any halts the payouts."""
    from ledger.rails import mirror
    from ledger.reconcile import compare_when_still

    return len(compare_when_still(mirror.read_words, now=clock()))


@_task
def card_sweep_task() -> int:
    """Read open payments and accounts anew, in case webhooks were lost, and return how many came to an end."""
    from ledger.rails import card, connect

    return card.sweep(now=clock()) + connect.sweep(now=clock())


@_task
def card_reconcile_task() -> int:
    """Compare the books with the card processor, and return how many differences were found."""
    from ledger.rails import card_books

    return len(card_books.reconcile(now=clock()))
