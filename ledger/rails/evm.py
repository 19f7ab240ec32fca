"""Which chain this process speaks to: the node at CHAIN_URL, or the embedded chain beside the books."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections

from ledger.rails.base import Chain

if TYPE_CHECKING:
    from ledger.rails.store import Store

CONNECTION_FIELDS = ("dbname", "user", "password", "host", "port", "service", "sslmode", "sslrootcert", "sslcert",
                     "sslkey", "passfile", "options", "connect_timeout")  # fmt: skip

_opening = Lock()
_open: dict[tuple[Any, ...], Chain] = {}
_instead: Chain | None = None


def chain() -> Chain:
    """The chain of this installation, opened once per process and database.

    Raises `ChainUnreachable` if the node does not answer and `WrongChain` if its id is not CHAIN_ID.
    """
    if _instead is not None:
        return _instead
    url, chain_id = settings.CHAIN_URL, int(settings.CHAIN_ID)
    fields = {} if url else connection_fields()
    key = (url, chain_id, *(fields.get(name) for name in ("host", "port", "dbname", "user", "options")), os.getpid())
    with _opening:
        if key not in _open:
            _open[key] = _open_at_the_node(url, chain_id) if url else _open_beside_the_books(fields, chain_id)
        return _open[key]


def _open_at_the_node(url: str, chain_id: int) -> Chain:
    from ledger.rails.node import open_node

    return open_node(url, chain_id)


def _open_beside_the_books(fields: dict[str, Any], chain_id: int) -> Chain:
    from ledger.rails.store import PostgresStore

    return open_embedded(PostgresStore(fields), chain_id)


def open_embedded(store: Store, chain_id: int) -> Chain:
    """The embedded chain over a store, made at first use; web3 and the EVM are loaded now, not with this module."""
    from web3 import Web3

    from ledger.rails.embedded import EmbeddedChain
    from ledger.rails.jsonrpc import EmbeddedProvider

    embedded = EmbeddedChain(store, chain_id=chain_id)
    w3 = Web3(EmbeddedProvider(embedded), middleware=[])
    return Chain(w3, chain_id=chain_id, embedded=embedded)


def use_chain(instead: Chain | None) -> None:
    """Let `chain()` answer with another chain (a store in memory, for tests); `None` goes back."""
    global _instead
    _instead = instead


def close_all() -> None:
    """Close every connection of the embedded chain in this process, so that its database can be dropped."""
    with _opening:
        # What a fork inherited stays: dropping it would end the parent's sessions.
        for key in [key for key in _open if key[-1] == os.getpid()]:
            embedded = _open.pop(key).embedded
            if embedded is not None:
                embedded.store.close()


def connection_fields() -> dict[str, Any]:
    """Return how Django reaches its default database, in words psycopg understands; never its own connection."""
    given = connections["default"].get_connection_params()
    return {name: given[name] for name in CONNECTION_FIELDS if given.get(name)}
