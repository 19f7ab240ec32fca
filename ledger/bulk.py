"""How many transfers travel to PostgreSQL at once: as arrays for the function, as rows of a binary COPY.

Both are written out by hand: a driver that adapts value by value takes longer than the database does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from ledger.posting import Posting

COLUMNS = (
    "ledger", "seq", "debit", "credit", "amount", "id", "kind", "code", "origin", "pending_id", "link", "timeout_at",
    "reference", "effective_at", "posted_at",
)  # fmt: skip
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_HEAD = struct.Struct(">hii" + "iq" * 4 + "i16s")  # the columns that every row has, each behind its length
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_BLOCK = 100  # rows that the server waits for before it can begin
_BLOCK = 1_000  # rows that are made at once
_COPY_AS = "grove_copy"  # may insert transfers and nothing else


class NotForCopy(Exception):
    """A value that has no binary form of its column's width; the function names what is wrong with it."""


# -- arrays ----------------------------------------------------------------------------------------------------------


def arrays(postings: Sequence[Posting]) -> list[str]:
    """Return one array literal for each parameter of `post_transfers`, in its order."""
    return [
        _array(postings, "id", str),
        _array(postings, "debit", str),
        _array(postings, "credit", str),
        _array(postings, "amount", str),
        _array(postings, "kind", _quoted),
        _array(postings, "code", lambda code: str(int(code))),
        _array(postings, "origin", _quoted),
        _array(postings, "pending_id", str),
        _array(postings, "link", str),
        _array(postings, "timeout_at", datetime.isoformat),
        _array(postings, "reference", lambda value: f'"\\\\x{value.hex()}"'),
        _array(postings, "effective_at", datetime.isoformat),
    ]


def _array(postings: Sequence[Posting], name: str, text: Callable[[Any], str]) -> str:
    values = (getattr(posting, name) for posting in postings)
    return "{" + ",".join("NULL" if value is None else text(value) for value in values) + "}"


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- rows ------------------------------------------------------------------------------------------------------------


def copy(ledger: int, postings: Sequence[Posting], now: datetime) -> int:
    """Write all postings by one COPY inside the caller's transaction and return how many.

    The rows are numbered here, under the ledger's lock; the trigger refuses any other numbers. Raises NotForCopy, or
    what the database says, also about an id that is known.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select next_number(%s), current_setting('role'), set_config('role', %s, true)", [ledger, _COPY_AS]
        )  # from left to right
        first, role, _ = cursor.fetchone()
        statement = f"copy ledger_transfer ({', '.join(COLUMNS)}) from stdin (format binary)"
        with connection.wrap_database_errors, cursor.copy(statement) as pipe:
            for block in blocks(ledger, postings, now, first):
                pipe.write(block)
        cursor.execute("select set_config('role', %s, true)", [role])
    return len(postings)


def blocks(ledger: int, postings: Sequence[Posting], now: datetime, first: int) -> Iterator[bytes]:
    """Yield the postings as the bytes of a binary COPY, numbered from `first`. Raises NotForCopy.

    In pieces, because the server works on one while we make the next.
    """
    yield _HEADER
    tails: dict[tuple[object, ...], bytes] = {}
    ends = [0, *range(_FIRST_BLOCK, len(postings), _BLOCK), len(postings)]
    for start, end in pairwise(ends):
        yield _block(ledger, postings[start:end], now, first + start, tails)
    yield _TRAILER


def _block(
    ledger: int, postings: Sequence[Posting], now: datetime, first: int, tails: dict[tuple[object, ...], bytes]
) -> bytes:
    parts, head, width = [], _HEAD.pack, len(COLUMNS)
    try:
        for seq, posting in enumerate(postings, start=first):
            key = (
                posting.kind, posting.code, posting.origin, posting.pending_id, posting.link, posting.timeout_at,
                posting.reference, posting.effective_at,
            )  # fmt: skip
            tail = tails.get(key)
            if tail is None:  # mostly a handful of different ones in a run
                tail = tails[key] = _tail(posting, now)
            numbers = (4, ledger, 8, seq, 8, posting.debit, 8, posting.credit, 8, posting.amount)
            parts.append(head(width, *numbers, 16, posting.id.bytes))
            parts.append(tail)
    except struct.error as error:
        raise NotForCopy(str(error)) from error
    return b"".join(parts)


def _tail(posting: Posting, now: datetime) -> bytes:
    return b"".join((
        _field(str(posting.kind).encode()),
        _field(struct.pack(">h", posting.code)),
        _field(str(posting.origin).encode()),
        _field(posting.pending_id.bytes) if posting.pending_id else _NULL,
        _field(posting.link.bytes) if posting.link else _NULL,
        _field(_time(posting.timeout_at)) if posting.timeout_at else _NULL,
        _field(posting.reference) if posting.reference is not None else _NULL,
        _field(_time(posting.effective_at or now)),
        _field(_time(now)),
    ))  # fmt: skip


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _time(moment: datetime) -> bytes:
    return ((moment - _POSTGRES_EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True)
