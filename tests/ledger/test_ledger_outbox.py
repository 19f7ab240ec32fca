"""The outbox: a job is written with its cause, runs at least once, and has one effect."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from celery import Celery, current_app
from django.db import connection, transaction

from ledger import faults, tasks
from ledger.errors import ClockMissing, JobKeyReused
from ledger.models import Inbox, Outbox
from ledger.tasks import BACKOFF_FIRST, LEASE, TRIES_MAX, dead_jobs, drain, enqueue, handler, pump, retry_job, run_job
from tests.owner import as_owner

pytestmark = pytest.mark.usefixtures("outbox_clock")


@pytest.fixture(autouse=True)
def _broker_in_memory():
    """Hints of these tests stay in this process, each test's in a queue of its own: the memory outlives its app."""
    product = current_app._get_current_object()
    hints = Celery("tests", broker="memory://")
    hints.conf.task_default_queue = f"hints-{uuid4()}"
    hints.set_current()
    yield
    product.set_current()


@handler("test.note")
def note(payload, *, now):
    """An effect in the database that can be counted."""
    Inbox.objects.create(source="effect", event_id=str(uuid4()), body=payload["text"].encode(), received_at=now)


@handler("test.fail")
def fail(payload, *, now):
    note({"text": "half done"}, now=now)
    raise ValueError(payload["text"])


@handler("test.outside", atomic=False)
def outside(payload, *, now):
    payload_seen.append((payload["text"], connection.in_atomic_block))


@handler("test.chain")
def chain(payload, *, now):
    if payload["left"]:
        enqueue(kind="test.chain", payload={"left": payload["left"] - 1}, dedupe_key=f"chain:{payload['left'] - 1}")


payload_seen: list[tuple[str, bool]] = []


def put(key="key", kind="test.note", text="hello", **more):
    return enqueue(kind=kind, payload={"text": text}, dedupe_key=key, **more)


def effects():
    return Inbox.objects.filter(source="effect").count()


def test_a_job_runs_once_and_is_done(books):
    id = put()

    assert [drain(books.now), drain(books.now)] == [1, 0]

    assert (effects(), Outbox.objects.get(pk=id).done_at) == (1, books.now)
    assert run_job(id, books.now) is False


def test_a_job_exists_only_if_its_cause_does(books):
    with transaction.atomic():
        put()
        assert Outbox.objects.count() == 1
        transaction.set_rollback(True)

    assert Outbox.objects.count() == 0


def test_the_same_key_is_the_same_job(books):
    assert put() == put()

    for other in ({"text": "other"}, {"kind": "test.fail"}):
        with pytest.raises(JobKeyReused):
            put(**other)
    assert drain(books.now) == 1


def test_a_job_waits_for_its_time(books):
    put(run_at=books.now + timedelta(hours=1))

    assert drain(books.now) == 0
    assert drain(books.forward(hours=1)) == 1


def test_jobs_run_in_the_order_of_their_time_and_jobs_of_jobs_run_too(books):
    enqueue(kind="test.chain", payload={"left": 5}, dedupe_key="chain:5")

    assert drain(books.now) == 6
    assert drain(books.now, limit=0) == 0


def test_a_limit_is_kept(books):
    for number in range(5):
        put(str(number))

    assert [drain(books.now, limit=3), drain(books.now, limit=3)] == [3, 2]


def test_a_job_that_fails_leaves_nothing_behind_and_comes_back_later(books, caplog):
    id = put(kind="test.fail", text="no luck")

    assert drain(books.now) == 0

    job = Outbox.objects.get(pk=id)
    assert (effects(), job.tries, job.last_error, job.done_at) == (0, 1, "ValueError: no luck", None)
    assert job.run_at == books.now + BACKOFF_FIRST
    assert "failed" in caplog.text
    assert drain(books.now) == 0
    assert Outbox.objects.get(pk=id).tries == 1


def test_a_job_that_fails_too_often_is_a_dead_letter_until_somebody_helps(books, caplog):
    id = put(kind="test.fail", text="no luck")
    good = put("good")
    waits = []
    for _ in range(TRIES_MAX + 3):
        drain(books.now)
        waits.append((Outbox.objects.get(pk=id).run_at - books.now).total_seconds())
        books.forward(hours=1)

    assert [job.pk for job in dead_jobs()] == [id]
    assert (Outbox.objects.get(pk=id).tries, waits[:4]) == (TRIES_MAX, [2, 4, 8, 16])
    assert not retry_job(id=good, now=books.now)
    assert retry_job(id=id, now=books.now)
    assert drain(books.now) == 0
    assert Outbox.objects.get(pk=id).tries == 1


def test_a_job_of_an_unknown_kind_is_kept_and_says_so(books, caplog):
    id = put(kind="test.nobody")

    drain(books.now)

    assert "UnknownJobKind" in Outbox.objects.get(pk=id).last_error


def test_a_kind_has_one_handler():
    with pytest.raises(ValueError, match="two handlers"):
        handler("test.note")(lambda payload, now: None)
    assert handler("test.note")(note) is note


def test_the_pump_leases_what_is_due_once(books):
    ids = {put(str(number)) for number in range(3)}

    assert set(pump(books.now)) == ids
    assert pump(books.now) == []
    assert set(pump(books.now + LEASE)) == ids
    assert set(pump(books.now + 2 * LEASE, limit=2)) < ids


def test_the_pump_leases_no_more_than_it_was_told_whatever_the_planner_chooses(books):
    """It believes the outbox to hold one row, and asks what is due anew for each that it finds."""
    put("0")
    with as_owner() as cursor:
        cursor.execute("analyze ledger_outbox")
        for plan in ("hashjoin", "mergejoin", "material", "memoize", "indexscan", "bitmapscan"):
            cursor.execute(f"set local enable_{plan} = off")
    for number in range(1, 9):
        put(str(number))

    assert [len(pump(books.now, limit=2)) for _ in range(6)] == [2, 2, 2, 2, 1, 0]


def test_a_lost_message_is_published_again_and_a_repeated_one_does_nothing(books):
    [id] = pump(books.now) if put() else []

    [again] = pump(books.now + LEASE)
    assert again == id
    assert [run_job(id, books.now) for _ in range(3)] == [True, False, False]

    assert effects() == 1
    assert pump(books.now + 3 * LEASE) == []


@pytest.mark.parametrize("where", ["outbox.run.before_commit", "outbox.run.after_commit"])
def test_a_fault_around_the_commit_gives_one_effect(books, caplog, where):
    put()
    with faults.armed(where):
        drain(books.now)

    drain(books.forward(hours=1))

    assert (effects(), Outbox.objects.get().done_at is not None) == (1, True)


def test_a_handler_that_acts_outside_runs_without_its_own_transaction_and_not_twice_at_a_time(books):
    id = put(kind="test.outside")
    payload_seen.clear()
    Outbox.objects.update(claimed_until=books.now + LEASE)  # another worker is at it

    assert run_job(id, books.now) is False
    assert payload_seen == []
    assert run_job(id, books.now + LEASE) is True  # it died
    assert [text for text, _ in payload_seen] == ["hello"]
    assert run_job(id, books.now + LEASE) is False


def test_a_handler_that_acts_outside_comes_back_after_a_failure(books, caplog):
    id = put(kind="test.outside")
    with faults.armed("outbox.run.before_commit"):
        assert run_job(id, books.now) is False

    assert Outbox.objects.get(pk=id).claimed_until is None
    assert drain(books.forward(minutes=1)) == 1


def test_without_a_clock_nothing_is_enqueued():
    tasks.use_clock(None)

    with pytest.raises(ClockMissing):
        put()


# -- hints -----------------------------------------------------------------------------------------------------------


def test_a_hint_is_sent_after_the_commit_and_not_before(books, monkeypatch, django_capture_on_commit_callbacks):
    sent = []
    monkeypatch.setattr(tasks, "_publish", lambda task, calls: sent.append((task.name, calls)))

    with django_capture_on_commit_callbacks(execute=True):
        put()
        put("later", run_at=books.now + timedelta(hours=1))
        assert sent == []

    assert sent == [("ledger.tasks.pump_task", [[]])]


def test_the_broker_carries_ids_only(books, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks, "_publish", lambda task, calls: sent.append((task.name, calls)))
    id = put()

    assert tasks.pump_task() == 1

    assert sent == [("ledger.tasks.run_job_task", [[str(id)]])]
    assert tasks.run_job_task(str(id)) is True


def test_what_is_published_reaches_the_broker(books):
    put("a"), put("b")

    pump(books.now)

    with current_app.connection_for_read() as connection:
        queue = connection.SimpleQueue(current_app.conf.task_default_queue)
        assert [queue.get(timeout=60).headers["task"] for _ in range(2)] == ["ledger.tasks.run_job_task"] * 2


class BrokenBroker:
    """Whoever connects is cut off at once; `knocks` counts them."""

    def __init__(self) -> None:
        self.server, self.knocks, self.is_over = socket.create_server(("127.0.0.1", 0)), 0, False
        self.url = f"redis://127.0.0.1:{self.server.getsockname()[1]}/0"
        self.thread = threading.Thread(target=self._cut_off)

    def _cut_off(self) -> None:
        while True:
            line, _ = self.server.accept()
            line.close()
            if self.is_over:
                return
            self.knocks += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        socket.create_connection(self.server.getsockname()).close()
        self.thread.join()
        self.server.close()


def test_a_broker_that_is_down_costs_nothing_but_the_hint(books, caplog):
    put()

    with BrokenBroker() as broker:
        Celery("down", broker=broker.url).set_current()
        assert len(pump(books.now)) == 1

    assert broker.knocks == 1, "it is not asked again and again: with Celery's habits that took eight seconds"
    assert "no hint was sent" in caplog.text
    assert drain(books.now + LEASE) == 1


def test_without_a_broker_the_next_sweep_finds_the_job(books, caplog):
    Celery("none", broker=None).set_current()
    put()

    assert len(pump(books.now)) == 1

    assert caplog.text == ""
    assert drain(books.now + LEASE) == 1
