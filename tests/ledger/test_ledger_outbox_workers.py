"""Several workers, and workers that are killed: each job still has one effect."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from celery import Celery, current_app
from django.db import connection

from ledger import faults, tasks
from ledger.models import Inbox, Outbox
from ledger.tasks import LEASE, drain, enqueue, handler, run_job
from tests.crash.test_crash import in_a_child


@handler("test.count")
def count(payload, *, now):
    """An effect in the database that can be counted."""
    Inbox.objects.create(source="effect", event_id=str(uuid4()), body=b"", received_at=now)


@pytest.fixture(autouse=True)
def _own_clock_and_broker(committed_books):
    product, clock = current_app._get_current_object(), tasks._clock
    Celery("tests", broker="memory://").set_current()
    tasks.use_clock(lambda: committed_books.now)
    yield
    tasks.use_clock(clock)
    product.set_current()


def put(key):
    return enqueue(kind="test.count", payload={}, dedupe_key=key)


def effects():
    return Inbox.objects.filter(source="effect").count()


def test_many_workers_on_the_same_jobs_give_one_effect_each(committed_books):
    books = committed_books
    ids = [put(str(number)) for number in range(40)]
    gate = threading.Barrier(8)

    def work(number: int) -> int:
        try:
            gate.wait(timeout=300)  # only ends what hangs
            return sum(run_job(id, books.now) for id in ids) if number % 2 else drain(books.now)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        finished = sum(pool.map(work, range(8)))
    finished += drain(books.now + LEASE)

    assert (finished, effects()) == (40, 40)
    assert Outbox.objects.filter(done_at=None).count() == 0


@pytest.mark.parametrize("where", ["outbox.run.before_commit", "outbox.run.after_commit"])
def test_a_worker_killed_at_the_commit_leaves_one_effect(committed_books, where):
    books = committed_books
    put("a"), put("b")

    def work() -> None:
        with faults.armed(where, "kill"):
            drain(books.now)

    assert in_a_child(work) == -signal.SIGKILL
    assert drain(books.now) == 0  # the dead worker's lease still holds
    drain(books.now + LEASE)

    assert (effects(), Outbox.objects.filter(done_at=None).count()) == (2, 0)
