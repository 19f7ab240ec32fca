"""Where the embedded chain keeps its bytes: a four-method key-value table, its logs, and what reverted calls said.

Two stores with one interface: `PostgresStore` (schema `chain` of the database Django uses, on connections of its own)
and `MemoryStore` (tests that need no second process). All writes of one block happen inside `with store.block():`,
which is one database transaction under an advisory lock: a reader sees the whole block or nothing of it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from eth.db.backends.base import BaseDB

import ledger.rails.depth  # noqa: F401

HASH_BYTES = 32  # a key of this length is the keccak of its value: a trie node, code or header
CACHE_ENTRIES = 200_000
WRITER_LOCK = 31_338_001  # advisory lock of the one block writer, per database


@dataclass(frozen=True)
class LogRow:
    """One log as a contract wrote it; `log_index` counts within the block."""

    block_number: int
    log_index: int
    tx_index: int
    block_hash: bytes
    tx_hash: bytes
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass
class Pending:
    """What one open block would write. `None` marks a deletion."""

    values: dict[bytes, bytes | None] = field(default_factory=dict)
    logs: list[LogRow] = field(default_factory=list)
    reverts: dict[bytes, bytes] = field(default_factory=dict)


class Store(BaseDB):
    """The shared half: reads look at the open block first, then at the cache, then at the table.

    The cache holds content-addressed values only, and takes them from a block after its commit: a node of a block
    that was rolled back is never served.
    """

    def __init__(self) -> None:
        self._open = threading.local()
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cache_lock = threading.Lock()

    # -- the four methods py-evm asks for --------------------------------------------------------------------------
    def __getitem__(self, key: bytes) -> bytes:
        pending = self._pending()
        if pending is not None and key in pending.values:
            value = pending.values[key]
            if value is None:
                raise KeyError(key)
            return value
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        value = self._read(key)
        if value is None:
            raise KeyError(key)
        if len(key) == HASH_BYTES:
            self._remember({key: value})
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._writing().values[key] = value

    def __delitem__(self, key: bytes) -> None:
        self._writing().values[key] = None

    def _exists(self, key: bytes) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    # -- blocks ----------------------------------------------------------------------------------------------------
    @contextmanager
    def block(self) -> Iterator[None]:
        """Hold the writer's lock; all writes inside become durable together, or none does."""
        with self._transaction():
            self._open.pending = pending = Pending()
            try:
                yield
                self._write(pending)
            finally:
                self._open.pending = None
        self._remember({k: v for k, v in pending.values.items() if v is not None and len(k) == HASH_BYTES})

    def add_logs(self, rows: Sequence[LogRow]) -> None:
        """Store the logs of the open block."""
        self._writing().logs.extend(rows)

    def add_revert(self, tx_hash: bytes, output: bytes) -> None:
        """Store what a reverted call of the open block returned."""
        self._writing().reverts[tx_hash] = output

    def _pending(self) -> Pending | None:
        return getattr(self._open, "pending", None)

    def _writing(self) -> Pending:
        pending = self._pending()
        assert pending is not None, "the chain is written inside `with store.block():` only"
        return pending

    def _remember(self, values: dict[bytes, bytes]) -> None:
        with self._cache_lock:
            self._cache.update(values)
            while len(self._cache) > CACHE_ENTRIES:
                self._cache.popitem(last=False)

    def forget_cache(self) -> None:
        """Drop the node cache, so that the next reads come from the table itself."""
        with self._cache_lock:
            self._cache.clear()

    # -- what a concrete store brings ------------------------------------------------------------------------------
    @contextmanager
    def _transaction(self) -> Iterator[None]:
        raise NotImplementedError
        yield

    def _read(self, key: bytes) -> bytes | None:
        raise NotImplementedError

    def _write(self, pending: Pending) -> None:
        raise NotImplementedError

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value as stored, past the cache."""
        raise NotImplementedError

    def logs(self, first: int, last: int, addresses: Sequence[bytes] = ()) -> list[LogRow]:
        """Logs of blocks `first..last`, in order; all contracts if no address is given."""
        raise NotImplementedError

    def revert_of(self, tx_hash: bytes) -> bytes | None:
        """What the reverted call returned, or None if it did not revert."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of connections; a later call opens new ones."""


class MemoryStore(Store):
    """The same store in this process's memory; one writer at a time by a lock."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._values: dict[bytes, bytes] = {}
        self._logs: list[LogRow] = []
        self._reverts: dict[bytes, bytes] = {}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            yield

    def _read(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def _write(self, pending: Pending) -> None:
        for key, value in pending.values.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self._logs.extend(pending.logs)
        self._reverts.update(pending.reverts)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        yield from list(self._values.items())

    def logs(self, first: int, last: int, addresses: Sequence[bytes] = ()) -> list[LogRow]:
        return [
            row for row in self._logs
            if first <= row.block_number <= last and (not addresses or row.address in addresses)
        ]  # fmt: skip

    def revert_of(self, tx_hash: bytes) -> bytes | None:
        return self._reverts.get(tx_hash)

    def snapshot(self) -> tuple[Any, ...]:
        """A copy of everything, for `restore`: a deployed chain can be reused by many tests."""
        with self._lock:
            return dict(self._values), list(self._logs), dict(self._reverts)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Go back to a snapshot."""
        with self._lock:
            values, logs, reverts = saved
            self._values, self._logs, self._reverts = dict(values), list(logs), dict(reverts)
            self.forget_cache()


WRITE_VALUES = """
INSERT INTO chain.node SELECT * FROM unnest(%s::bytea[], %s::bytea[])
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE node.value <> excluded.value"""
LOG_COLUMNS = "block_number, log_index, tx_index, block_hash, tx_hash, address, topics, data"


class PostgresStore(Store):
    """The store every process shares, in tables a migration made. One connection per thread and process."""

    def __init__(self, connect_with: dict[str, Any]) -> None:
        super().__init__()
        self.connect_with = connect_with
        self._local = threading.local()
        self._connections: list[tuple[int, psycopg.Connection[Any]]] = []

    def _connection(self) -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid() and not connection.closed:
            return connection
        # A connection inherited through fork() stays referenced in self._connections and untouched: closing it here
        # would end the parent's session.
        connection = psycopg.connect(**self.connect_with, autocommit=True, prepare_threshold=1)
        self._local.connection, self._local.pid = connection, os.getpid()
        self._connections.append((os.getpid(), connection))
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._connection()
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_LOCK,))
            yield

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read, on a fresh connection if the server went away between two blocks."""
        try:
            return self._connection().execute(query, parameters).fetchall()
        except psycopg.OperationalError:
            if self._pending() is not None:
                raise
            self._connection().close()
            return self._connection().execute(query, parameters).fetchall()

    def _read(self, key: bytes) -> bytes | None:
        rows = self._rows("SELECT value FROM chain.node WHERE key = %s", (key,))
        return bytes(rows[0][0]) if rows else None

    def _write(self, pending: Pending) -> None:
        connection = self._connection()
        written = {key: value for key, value in pending.values.items() if value is not None}
        deleted = [key for key, value in pending.values.items() if value is None]
        # Sorted keys: neighbours fall on the same index page.
        keys = sorted(written)
        connection.execute(WRITE_VALUES, (keys, [written[key] for key in keys]))
        if deleted:
            connection.execute("DELETE FROM chain.node WHERE key = ANY(%s)", (deleted,))
        if pending.logs:
            marks = ", ".join(["(%s, %s, %s, %s, %s, %s, %s::bytea[], %s)"] * len(pending.logs))
            values = [
                part for row in pending.logs
                for part in (row.block_number, row.log_index, row.tx_index, row.block_hash, row.tx_hash, row.address,
                             list(row.topics), row.data)
            ]  # fmt: skip
            connection.execute(f"INSERT INTO chain.log ({LOG_COLUMNS}) VALUES {marks}", values)
        for tx_hash, output in pending.reverts.items():
            connection.execute("INSERT INTO chain.revert VALUES (%s, %s)", (tx_hash, output))

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        connection = self._connection()
        with connection.transaction(), connection.cursor(name="entries") as cursor:
            cursor.itersize = 5_000
            for key, value in cursor.execute("SELECT key, value FROM chain.node"):
                yield bytes(key), bytes(value)

    def logs(self, first: int, last: int, addresses: Sequence[bytes] = ()) -> list[LogRow]:
        query = f"SELECT {LOG_COLUMNS} FROM chain.log WHERE block_number BETWEEN %s AND %s"
        parameters: list[Any] = [first, last]
        if addresses:
            query += " AND address = ANY(%s)"
            parameters.append(list(addresses))
        rows = self._rows(query + " ORDER BY block_number, log_index", parameters)
        # psycopg gives arrays as lists; a frozen row holds tuples
        return [LogRow(*[*row[:6], tuple(row[6]), row[7]]) for row in rows]

    def revert_of(self, tx_hash: bytes) -> bytes | None:
        rows = self._rows("SELECT output FROM chain.revert WHERE tx_hash = %s", (tx_hash,))
        return bytes(rows[0][0]) if rows else None

    def close(self) -> None:
        """Close this process's connections in every thread, so that the database can be dropped."""
        mine = [connection for pid, connection in self._connections if pid == os.getpid()]
        self._connections = [(pid, connection) for pid, connection in self._connections if pid != os.getpid()]
        for connection in mine:
            connection.close()
        self.forget_cache()
