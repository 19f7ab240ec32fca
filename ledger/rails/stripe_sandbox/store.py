"""Where the sandbox keeps what it knows: objects as JSON, answers by idempotency key, webhooks on their way.

One connection, one request at a time: whatever a request changed and the answer it gave are one commit. The clock is
that of the database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import RLock
from typing import Any

import psycopg

from ledger.ids import uuid7
from ledger.rails.stripe_sandbox.refusals import missing

API_VERSION = "2026-10-28.endive"
TRIES_MAX = 12
# What the sandbox can be told to do wrong; all are numbers, 0 is well-behaved.
BEHAVIOURS = {
    "hold": "1: send no webhook; they are handed out by /_sandbox/deliveries",
    "duplicate": "so many more copies of each webhook",
    "delay_ms": "each webhook waits so long",
    "shuffle_ms": "each webhook waits up to so long, no two alike, so that they overtake each other",
    "drop_every": "every n-th event is never sent",
    "fail_after": "the next n changes are made, but answered with 500",
    "fail_before": "the next n changes are answered with 500 and not made",
    "refunds_wait": "1: refunds begin as pending",
    "fees": "1: charges and disputes cost what they usually cost",
}


class Store:
    """The tables, which a migration made, behind one connection and one lock."""

    def __init__(self, connect_with: Mapping[str, Any]) -> None:
        self._connect_with = connect_with
        self._connection = psycopg.connect(**connect_with)
        self._lock = RLock()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Hold the lock; everything inside becomes durable together, or nothing of it."""
        with self._lock:
            if self._connection.closed:  # the database was restarted
                self._connection = psycopg.connect(**self._connect_with)
            with self._connection.transaction():
                yield

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    # -- objects --------------------------------------------------------------------------------------------------
    def now(self) -> int:
        """Seconds since 1970 by the database's clock."""
        return int(self._run("select extract(epoch from clock_timestamp())")[0][0])

    def add(self, kind: str, prefix: str, **body: Any) -> dict[str, Any]:
        """Make an object and return it; its id sorts by time."""
        now = self.now()
        made = {
            "id": f"{prefix}_{uuid7(datetime.fromtimestamp(now, UTC)).hex}", "object": kind, "created": now,
            "livemode": False, "metadata": {},
        } | body  # fmt: skip
        self._run(
            "insert into stripe_sandbox.object (id, kind, body) values (%s, %s, %s)",
            (made["id"], kind, json.dumps(made)),
        )
        return made

    def put(self, changed: Mapping[str, Any]) -> None:
        """Write an object back."""
        self._run("update stripe_sandbox.object set body = %s where id = %s", (json.dumps(changed), changed["id"]))

    def get(self, kind: str, id: str) -> dict[str, Any]:
        """Return one object. Raises the refusal of a missing one."""
        rows = self._run("select body from stripe_sandbox.object where id = %s and kind = %s", (id, kind))
        if not rows:
            raise missing(kind, id)
        return dict(rows[0][0])

    def find(self, kind: str, **content: Any) -> list[dict[str, Any]]:
        """Return all objects of a kind with this content, oldest first."""
        rows = self._run(
            "select body from stripe_sandbox.object where kind = %s and body @> %s order by place",
            (kind, json.dumps(content)),
        )
        return [dict(row[0]) for row in rows]

    def page(
        self, kind: str, content: Mapping[str, Any], *, limit: int, after: str = "", before: str = "", since: int = 0
    ) -> tuple[list[dict[str, Any]], bool]:
        """Return a page of objects, newest first, and whether there are more in that direction."""
        edge = "(select place from stripe_sandbox.object where id = %s)"
        where, values = ["kind = %s", "body @> %s", "(body->>'created')::bigint >= %s"], [kind, json.dumps(content)]
        facts: list[Any] = [*values, since]
        if after:
            where.append(f"place < {edge}")
            facts.append(after)
        if before:
            where.append(f"place > {edge}")
            facts.append(before)
        order = "asc" if before else "desc"
        rows = self._run(
            f"select body from stripe_sandbox.object where {' and '.join(where)} order by place {order} limit %s",
            (*facts, limit + 1),
        )
        found = [dict(row[0]) for row in rows[:limit]]
        return (found[::-1] if before else found), len(rows) > limit

    def total(self, kind: str, field: str) -> int:
        """Return the sum of a number over all objects of a kind."""
        rows = self._run(
            "select coalesce(sum((body->>%s)::bigint), 0) from stripe_sandbox.object where kind = %s", (field, kind)
        )
        return int(rows[0][0])

    # -- answers by idempotency key -------------------------------------------------------------------------------
    def answer_to(self, key: str) -> tuple[str, int, str] | None:
        """Return the fingerprint, status and body that were kept for a key."""
        rows = self._run("select fingerprint, status, body from stripe_sandbox.answer where key = %s", (key,))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None

    def keep_answer(self, key: str, fingerprint: str, status: int, body: str) -> None:
        """Keep the first answer to a key."""
        self._run("insert into stripe_sandbox.answer values (%s, %s, %s, %s)", (key, fingerprint, status, body))

    # -- behaviour ------------------------------------------------------------------------------------------------
    def behaviour(self, name: str) -> int:
        """Return what the sandbox was told to do wrong, 0 if nothing."""
        rows = self._run("select value from stripe_sandbox.behaviour where name = %s", (name,))
        return int(rows[0][0]) if rows else 0

    def behave(self, name: str, value: int) -> None:
        """Tell the sandbox to do something wrong, or to stop it."""
        self._run(
            """insert into stripe_sandbox.behaviour values (%s, %s)
               on conflict (name) do update set value = excluded.value""",
            (name, value),
        )

    def use_up(self, name: str) -> bool:
        """Say whether a counted misbehaviour is due now, and count it."""
        rows = self._run(
            "update stripe_sandbox.behaviour set value = value - 1 where name = %s and value > 0 returning 1", (name,)
        )
        return bool(rows)

    # -- events and webhooks --------------------------------------------------------------------------------------
    def tell(self, type: str, about: Mapping[str, Any]) -> None:
        """Write an event about an object, and the webhooks that shall tell it."""
        event = self.add(
            "event", "evt", type=type, api_version=API_VERSION, data={"object": dict(about)}, pending_webhooks=1,
            request={"id": None, "idempotency_key": None},
        )  # fmt: skip
        number = self._run("select place from stripe_sandbox.object where id = %s", (event["id"],))[0][0]
        every = self.behaviour("drop_every")
        if every and number % every == 0:
            return
        for copy in range(1 + self.behaviour("duplicate")):
            wait_ms = self.behaviour("delay_ms") + _spread(event["id"], copy, self.behaviour("shuffle_ms"))
            self._run(
                """insert into stripe_sandbox.delivery (event, due_at, held)
                   values (%s, clock_timestamp() + %s * interval '1 millisecond', %s)""",
                (event["id"], wait_ms, bool(self.behaviour("hold"))),
            )

    def held(self) -> list[dict[str, Any]]:
        """Hand out the events that were held back; from now on they count as sent."""
        rows = self._run(
            """with handed as (update stripe_sandbox.delivery set done_at = clock_timestamp()
                                where held and done_at is null returning id, event)
               select o.body from handed h join stripe_sandbox.object o on o.id = h.event order by h.id"""
        )
        return [dict(row[0]) for row in rows]

    def due(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the webhooks that are to be sent now."""
        rows = self._run(
            """select d.id, o.body from stripe_sandbox.delivery d join stripe_sandbox.object o on o.id = d.event
                where d.done_at is null and not d.held and d.due_at <= clock_timestamp() and d.tries < %s
                order by d.due_at, d.id limit 20""",
            (TRIES_MAX,),
        )
        return [(row[0], dict(row[1])) for row in rows]

    def note_sent(self, id: int, *, taken: bool) -> None:
        """Write down how a webhook went; one that was not taken is sent again, later each time."""
        self._run(
            """update stripe_sandbox.delivery set tries = tries + 1,
                      done_at = case when %s then clock_timestamp() end,
                      due_at = clock_timestamp() + least(60, power(2, tries)) * interval '0.5 second'
                where id = %s""",
            (taken, id),
        )


def _spread(event: str, copy: int, most_ms: int) -> int:
    """Return a wait that differs from event to event, always the same for one."""
    digest = hashlib.sha256(f"{event}/{copy}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % most_ms if most_ms else 0
