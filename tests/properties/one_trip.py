"""Statements whose answer nobody waits for travel to the database with the next one: a test of many short calls is
mostly round trips, and half of those are savepoints.

The order in which the database runs them stays the same, and so does what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

Rows = list[tuple[Any, ...]]
Reader = Callable[[Rows], None]
ANSWER_NOTHING = ("select set_config('role', %s, true)", "select lock_ledger(%s)")


class Trips:
    """What waits for the next statement of this connection."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Reader | None]] = []
        self._unread: list[tuple[str, Reader | None]] = []  # asked beside a statement that was refused
        self.sent = 0  # statements since the last question

    def ask(self, question: str, read: Reader) -> None:
        """Ask, and read the answer when the next statement is sent: nothing can have changed until then."""
        self._waiting.append((question, read))
        self.sent = 0

    def flush(self) -> None:
        """Send what waits now."""
        if self._waiting:
            (last, read), self._waiting = self._waiting[-1], self._waiting[:-1]
            with connection.cursor() as cursor:
                cursor.execute(last)
                if read is not None:
                    read(cursor.fetchall())

    def forget(self) -> None:
        """Drop the questions that nobody has read: their time is over."""
        self._waiting = [(text, read) for text, read in self._waiting if read is None]
        self._unread = []

    def savepoint(self, sid: str) -> None:
        self._waiting.append((connection.ops.savepoint_create_sql(sid), None))

    def release(self, sid: str) -> None:
        self._waiting.append((connection.ops.savepoint_commit_sql(sid), None))

    def roll_back(self, sid: str) -> None:
        self._waiting.append((connection.ops.savepoint_rollback_sql(sid), None))
        self._waiting += self._unread  # all is as it was before the statement that was refused
        self._unread = []

    def __call__(self, execute: Callable, sql: str, params: Sequence | None, many: bool, context: dict) -> Any:
        self.sent += 1
        if sql in ANSWER_NOTHING:
            return self._waiting.append((context["cursor"].mogrify(sql, params), None))
        head, self._waiting = self._waiting, []
        try:
            answer = execute("; ".join([*(text for text, _ in head), sql]), params, many, context)
        except BaseException:
            self._unread = [(text, read) for text, read in head if read is not None]
            raise
        for _, read in head:
            if read is not None:
                read(context["cursor"].fetchall())
            context["cursor"].nextset()
        return answer


@contextmanager
def fewer_trips() -> Iterator[Trips]:
    """Let savepoints, and what is asked of the yielded object, wait for the statement that follows them."""
    trips = Trips()
    with pytest.MonkeyPatch.context() as patch, connection.execute_wrapper(trips):
        patch.setattr(connection, "_savepoint", trips.savepoint)
        patch.setattr(connection, "_savepoint_commit", trips.release)
        patch.setattr(connection, "_savepoint_rollback", trips.roll_back)
        yield trips
        trips.flush()
