"""Transfers read by the hundred thousand, and what their leaves are hashed from.

Each column comes as one array in PostgreSQL's binary form and is laid out as it is: no value becomes an object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from django.db import connection
from eth_hash.auto import keccak

from ledger.chart import Kind, Origin
from ledger.keccak import Bytes, keccak_many

Rows = npt.NDArray[Any]

LEAF_VERSION = 1
NO_TIME = -(2**63)  # -infinity in PostgreSQL, and "no time" in a leaf
KINDS = [kind.value for kind in Kind]
ORIGINS = [origin.value for origin in Origin]
_REFERENCE_BYTES = 36  # of a chain event; others are read apart
_TO_1970 = 946_684_800_000_000  # PostgreSQL counts its microseconds from 2000
_ARRAY_HEADER_BYTES = 20

# name, how SQL makes it a value that is never null, its type in the binary COPY
_COLUMNS = (
    ("seq", "seq", ">i8"), ("id", "id", "V16"), ("debit", "debit", ">i8"), ("credit", "credit", ">i8"),
    ("amount", "amount", ">i8"), ("kind", f"array_position(array{KINDS!r}, kind)", ">i4"), ("code", "code", ">i2"),
    ("origin", f"array_position(array{ORIGINS!r}, origin)", ">i4"),
    ("has_pending", "pending_id is not null", "u1"),
    ("pending_id", "coalesce(pending_id, '00000000-0000-0000-0000-000000000000')", "V16"),
    ("has_link", "link is not null", "u1"), ("link", "coalesce(link, '00000000-0000-0000-0000-000000000000')", "V16"),
    ("timeout_at", "coalesce(timeout_at, '-infinity')", ">i8"),
    ("reference_bytes", "coalesce(length(reference), -1)", ">i4"),
    ("reference", f"case when length(reference) = {_REFERENCE_BYTES} then reference "
                  f"else decode(repeat('00', {_REFERENCE_BYTES}), 'hex') end", f"V{_REFERENCE_BYTES}"),
    ("effective_at", "effective_at", ">i8"), ("posted_at", "posted_at", ">i8"),
)  # fmt: skip
# Most transfers have none of these, and PostgreSQL takes its time over each value: they are read where one is there.
_RARE = ("has_pending", "pending_id", "has_link", "link", "timeout_at", "reference_bytes", "reference")
_ANY_RARE = "num_nonnulls(pending_id, link, timeout_at, reference) > 0"
_GATHERED = [
    f"array_agg({name}) filter (where is_rich)" if name in _RARE else f"array_agg({name})" for name, _, _ in _COLUMNS
]
_READ = f"""select {", ".join(_GATHERED)}, array_agg(seq) filter (where is_rich)
              from (select {", ".join(f"{sql} as {name}" for name, sql, _ in _COLUMNS)}, {_ANY_RARE} as is_rich
                      from ledger_transfer where ledger = %s and seq between %s and %s order by seq) run"""
_ROW = np.dtype([(name, wire) for name, _, wire in _COLUMNS])
FIELDS = tuple(name for name, _, _ in _COLUMNS)
_LEAF = np.dtype([
    ("zero", "u1"), ("version", "u1"), ("ledger", ">i4"), ("id", "V16"), ("seq", ">i8"), ("debit", ">i8"),
    ("credit", ">i8"), ("amount", ">i8"), ("kind", "u1"), ("code", ">i2"), ("origin", "u1"), ("has_pending", "u1"),
    ("pending_id", "V16"), ("has_link", "u1"), ("link", "V16"), ("timeout_at", ">i8"), ("has_reference", "u1"),
    ("reference", "V32"), ("effective_at", ">i8"), ("posted_at", ">i8"),
])  # fmt: skip


def read_transfers(ledger: int, first: int, last: int) -> Rows:
    """Return the transfers of a run of numbers, in order; kinds and origins as places in KINDS and ORIGINS, from 1."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:  # Django's sends no binary
        result = cursor.execute(_READ, [ledger, first, last], binary=True).pgresult
        assert result is not None
        columns = [result.get_value(0, place) for place in range(len(_COLUMNS) + 1)]
    wires = [*(wire for _, _, wire in _COLUMNS), ">i8"]
    read = [_values(column, wire) for column, wire in zip(columns, wires, strict=True)]
    rows = np.zeros(len(read[0]), _ROW)
    rows["timeout_at"], rows["reference_bytes"] = NO_TIME, -1
    rich = np.searchsorted(read[0], read[-1])
    for name, values in zip(FIELDS, read[:-1], strict=True):
        rows[name][rich if name in _RARE else slice(None)] = values
    return rows


def _values(column: bytes | None, wire: str) -> npt.NDArray[Any]:
    """Return the elements of an array in PostgreSQL's binary form, all of one width; none of what was not gathered."""
    if column is None:
        return np.zeros(0, wire)
    element = np.dtype([("length", ">i4"), ("value", wire)])
    return np.frombuffer(column, element, offset=_ARRAY_HEADER_BYTES)["value"]


def leaves_of(ledger: int, rows: Rows) -> Bytes:
    """Return what the leaves of transfers are hashed from, as `ledger.epochs.leaf_hash` does it for one."""
    leaf = np.zeros(len(rows), _LEAF)
    leaf["version"], leaf["ledger"] = LEAF_VERSION, ledger
    same = ("id", "seq", "debit", "credit", "amount", "code", "has_pending", "pending_id", "has_link", "link")
    for name in same:
        leaf[name] = rows[name]
    for name in ("kind", "origin"):
        leaf[name] = rows[name] - 1
    for name in ("timeout_at", "effective_at", "posted_at"):
        moments = rows[name].astype(np.int64)
        leaf[name] = np.where(moments == NO_TIME, NO_TIME, moments + _TO_1970)
    leaf["has_reference"] = rows["reference_bytes"] >= 0
    usual = rows["reference_bytes"] == _REFERENCE_BYTES
    references = np.ascontiguousarray(rows["reference"][usual]).view(np.uint8).reshape(-1, _REFERENCE_BYTES)
    leaf["reference"][usual] = keccak_many(references).view("V32")[:, 0]
    others = np.flatnonzero(leaf["has_reference"].astype(bool) & ~usual)
    if len(others):
        with connection.cursor() as cursor:
            wanted = [ledger, rows["seq"][others].tolist()]
            cursor.execute(
                "select reference from ledger_transfer where ledger = %s and seq = any(%s) order by seq", wanted
            )
            hashes = b"".join(keccak(bytes(row[0])) for row in cursor.fetchall())
        leaf["reference"][others] = np.frombuffer(hashes, "V32")
    return leaf.view(np.uint8).reshape(len(rows), _LEAF.itemsize)


def leaf_hashes(ledger: int, first: int, last: int) -> Bytes:
    """Return the leaves of a run of transfers, 32 bytes each."""
    return keccak_many(leaves_of(ledger, read_transfers(ledger, first, last)))
