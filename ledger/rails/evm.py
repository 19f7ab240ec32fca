"""Which chain this process speaks to: the node at CHAIN_URL, or the embedded chain beside the books."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, RPCResponse

from ledger.rails.base import Chain
from ledger.rails.errors import ChainUnreachable, NodeNotReady, WrongChain

if TYPE_CHECKING:
    from ledger.rails.store import Store

CONNECTION_FIELDS = ("dbname", "user", "password", "host", "port", "service", "sslmode", "sslrootcert", "sslcert",
                     "sslkey", "passfile", "options", "connect_timeout")  # fmt: skip
REQUEST_SECONDS_MAX = 20
# What a node says of the call itself. Any other error tells of the node: a block it lost in a reorganisation, a state
# it has pruned, a limit of requests. Nothing may be concluded from that about the call.
ABOUT_THE_CALL = ("revert", "out of gas", "gas required", "insufficient funds", "intrinsic gas", "invalid opcode")
SENDS = "eth_sendRawTransaction"  # here every error is an answer: the sender keeps it with the transaction

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
            _open[key] = open_node(url, chain_id) if url else _open_beside_the_books(fields, chain_id)
        return _open[key]


def open_node(url: str, chain_id: int) -> Chain:
    """A node reached by JSON-RPC over HTTP, after its chain id was compared."""
    w3 = Web3(NodeProvider(url))
    found = w3.eth.chain_id
    if found != chain_id:
        raise WrongChain(f"CHAIN_URL speaks for chain {found}, CHAIN_ID asks for {chain_id}.",
                         found=found, expected=chain_id)  # fmt: skip
    return Chain(w3, chain_id=chain_id)


class NodeProvider(HTTPProvider):
    """A node over HTTP. Silence, broken answers and time-outs all become `ChainUnreachable`, whatever was asked.

    Nothing is asked twice here: the sender and the indexer begin anew by themselves, and they look before they send.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, request_kwargs={"timeout": REQUEST_SECONDS_MAX}, exception_retry_configuration=None)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the node once. Raises `ChainUnreachable`, and `NodeNotReady` for an error that is about the node."""
        try:
            answer = super().make_request(method, params)
        except (OSError, Web3Exception, ValueError) as error:
            raise ChainUnreachable(f"No chain answers at CHAIN_URL: {error}", method=str(method)) from error
        if method != SENDS and "error" in answer and not _is_about_the_call(answer["error"]):
            raise NodeNotReady(f"The node cannot answer {method} now: {answer['error']}", method=str(method))
        return answer


def _is_about_the_call(error: Any) -> bool:
    said = str(error.get("message", "") if isinstance(error, dict) else error).lower()
    has_data = isinstance(error, dict) and isinstance(error.get("data"), str)  # the revert's own bytes
    return has_data or any(words in said for words in ABOUT_THE_CALL)


def _open_beside_the_books(fields: dict[str, Any], chain_id: int) -> Chain:
    from ledger.rails.store import PostgresStore

    return open_embedded(PostgresStore(fields), chain_id)


def open_embedded(store: Store, chain_id: int) -> Chain:
    """The embedded chain over a store, made at first use; the EVM is loaded now, not with this module."""
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
