"""One Idempotency-Key, one act. The reply is remembered in the transaction of the act, under an advisory lock.

Only what was done is remembered. A refusal wrote nothing and is remembered nowhere, so the same key may be used again
once the body is put right, the money is there, or the window has opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from marketplace.api.errors import IdempotencyKeyBad, IdempotencyKeyMissing
from marketplace.errors import IdempotencyMismatch, InFlight
from marketplace.parties.models import Party, RememberedReply
from marketplace.supply.envelopes import lock, unlock
from marketplace.supply.party_keys import newest_version, party_key, private_digest

KEPT = timedelta(days=7)
KEY_SHAPE = re.compile(r"[!-~]{1,120}")


@dataclass(frozen=True)
class Reply:
    """An answer to an act: its status and body, and whether it was given before."""

    status: int
    body: dict[str, Any]
    is_replayed: bool = False


def require_key(header: str | None) -> str:
    """Return the Idempotency-Key of a request. Raises IdempotencyKeyMissing or IdempotencyKeyBad."""
    if not header:
        raise IdempotencyKeyMissing("Every POST needs an Idempotency-Key header, so that a retry is one act.")
    if not KEY_SHAPE.fullmatch(header):
        raise IdempotencyKeyBad("An Idempotency-Key is 1 to 120 printable ASCII characters without spaces.")
    return header


@transaction.atomic
def once(
    *, party: Party, key: str, route: str, raw: bytes, act: Callable[[], tuple[int, dict[str, Any]]], now: datetime
) -> Reply:
    """Do `act` and remember its reply, or return the reply of the same act. `raw` is the body as it was sent.

    Raises InFlight while the twin runs, IdempotencyMismatch when the key stands for another act; and whatever the act
    raises, having written nothing.
    """
    if not _lock(f"{party.pk}:{key}"):
        raise InFlight("The same key is being handled right now.", idempotency_key=key)
    digest = private_digest(party.pk, route.encode() + b"\n" + raw)
    known = RememberedReply.objects.filter(party=party, key=key).first()
    if known and known.remembered_at <= now - KEPT:
        known.delete()
        known = None
    if known:
        if known.route != route or bytes(known.body_sha256) != digest:
            raise IdempotencyMismatch("This Idempotency-Key stands for another request.", idempotency_key=key)
        return Reply(known.status, json.loads(_read(party, key, known.reply)), is_replayed=True)
    status, body = act()
    RememberedReply.objects.create(
        party=party, key=key, route=route, body_sha256=digest, status=status, reply=_kept(party, key, body),
        remembered_at=now,
    )  # fmt: skip
    return Reply(status, body)


def _kept(party: Party, key: str, body: dict[str, Any]) -> dict[str, Any]:
    """The reply under the party's key: it repeats a bid that is sealed. As text, so that its replay is the same."""
    version, text = newest_version(), json.dumps(body).encode()
    return {"version": version, "locked": lock(party_key(party.pk, version), text, f"reply:{key}".encode()).hex()}


def _read(party: Party, key: str, kept: dict[str, Any]) -> bytes:
    own_key = party_key(party.pk, kept["version"])
    return unlock(own_key, bytes.fromhex(kept["locked"]), f"reply:{key}".encode())


@transaction.atomic
def rehearsed(act: Callable[[], tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Return the body that `act` would answer with, and undo all it wrote. Raises whatever the act raises."""
    mark = transaction.savepoint()
    try:
        return act()[1]
    finally:
        transaction.savepoint_rollback(mark)


def _lock(name: str) -> bool:
    number = int.from_bytes(hashlib.sha256(f"idempotency:{name}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        return bool(cursor.fetchone()[0])
