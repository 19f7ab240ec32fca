"""Two connections, one behind the other: one has acted and not committed, the other is seen to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

PATIENCE_SECONDS = 300  # of a slow machine; whoever ends, ends the wait at once
TICK_SECONDS = 0.02


class Worker:
    """A thread with a connection of its own, whose number in the server it tells; what it raises is its outcome."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.outcome, self.number = work, None, 0
        self.began, self.ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.number = cursor.fetchone()[0]
            self.began.set()
            self.outcome = self.work()
        except Exception as error:
            self.outcome = error
        finally:
            connection.close()
            self.began.set()
            self.ended.set()


def one_behind_another(
    first: Callable[[], Any], second: Callable[[], Any], then: Callable[[], Any] | None = None
) -> tuple[Any, Any]:
    """Return what both came to. `second` began after `first` had acted, and waited in the database until it committed.

    `then` is what `first` goes on to do in its transaction while `second` waits with all that it holds: a deadlock,
    where they take the same rows in another order. The server itself says that `second` waits (`pg_blocking_pids`):
    nothing here hangs on how long anything takes.
    """
    acted, may_commit = threading.Event(), threading.Event()

    def act_and_wait() -> Any:
        try:
            with transaction.atomic():
                done = first()
                acted.set()
                assert may_commit.wait(PATIENCE_SECONDS)
                return then() if then else done
        finally:
            acted.set()

    leader = Worker(act_and_wait)
    assert acted.wait(PATIENCE_SECONDS)
    follower = Worker(second)
    try:
        assert follower.began.wait(PATIENCE_SECONDS)
        _see_it_wait(follower, leader)
    finally:
        may_commit.set()
        for each in (leader, follower):
            each.thread.join(PATIENCE_SECONDS)
    return leader.outcome, follower.outcome


def _see_it_wait(follower: Worker, leader: Worker) -> None:
    for _ in range(int(PATIENCE_SECONDS / TICK_SECONDS)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s = ANY(pg_blocking_pids(%s))", [leader.number, follower.number])
            if cursor.fetchone()[0]:
                return
        assert not follower.ended.wait(TICK_SECONDS), f"it did not wait: {follower.outcome!r}"
        assert not leader.ended.is_set(), f"the first did not get so far: {leader.outcome!r}"
    raise AssertionError("it neither waited nor ended")
