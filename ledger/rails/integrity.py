"""Is the embedded chain what it says it is? A check of the stored bytes against their own hashes.

The operator can rewrite the database, but not quietly: every trie node, code and header is stored under its keccak,
each header names its parent's hash and the state root, so whoever changes one slot must rewrite every header above it,
and then the block hashes that the books and the anchors hold no longer match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import rlp
from eth.constants import BLANK_ROOT_HASH, EMPTY_SHA3
from eth.rlp.accounts import Account
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import encode_hex
from trie.constants import BLANK_NODE, NODE_TYPE_BRANCH, NODE_TYPE_EXTENSION, NODE_TYPE_LEAF
from trie.utils.nodes import decode_node, get_node_type

import ledger.rails.depth  # noqa: F401
from ledger.rails import evm
from ledger.rails.embedded import EmbeddedChain, log_rows
from ledger.rails.store import HASH_BYTES

SHOWN = 5  # broken keys named in a finding


@dataclass(frozen=True)
class StoreFinding:
    """One checked property of the stored chain."""

    invariant: str
    ok: bool
    detail: str


def check_store(embedded: EmbeddedChain | None = None) -> list[StoreFinding]:
    """Check everything that is stored, past every cache; one finding per property, none left out.

    Without an argument it is the installation's chain; a chain behind CHAIN_URL keeps no store here, so nothing is
    found about it.
    """
    chain = embedded or evm.chain().embedded
    if chain is None:
        return []
    chain.store.forget_cache()
    checks: tuple[tuple[str, Callable[[EmbeddedChain], list[str]], str], ...] = (
        ("chain.every_value_hashes_to_its_key", _wrong_hashes, "values"),
        ("chain.headers_are_connected", _broken_headers, "headers"),
        ("chain.state_is_complete", _missing_state, "state nodes"),
        ("chain.logs_are_those_of_the_receipts", _wrong_logs, "blocks"),
    )
    return [_finding(chain, *check) for check in checks]


def _finding(
    chain: EmbeddedChain, invariant: str, check: Callable[[EmbeddedChain], list[str]], what: str
) -> StoreFinding:
    try:
        broken = check(chain)
    except Exception as error:  # a damaged store may fail anywhere inside the trie or rlp layers
        broken = [f"{type(error).__name__}: {error}"]
    if not broken:
        return StoreFinding(invariant, True, f"all {what} agree")
    return StoreFinding(invariant, False, f"{len(broken)} broken: {'; '.join(broken[:SHOWN])}")


def _wrong_hashes(chain: EmbeddedChain) -> list[str]:
    return [
        f"value under {encode_hex(key)} does not hash to it"
        for key, value in chain.store.entries()
        if len(key) == HASH_BYTES and keccak(value) != key
    ]


def _broken_headers(chain: EmbeddedChain) -> list[str]:
    header = chain.head()
    broken = [] if chain.header(header.block_number + 1) is None else ["blocks lie above the head"]
    while header.block_number:
        named = chain.header(header.block_number)
        if named is None or named.hash != header.hash:
            broken.append(f"height {header.block_number} names another block")
        parent = chain.header_by_hash(header.parent_hash)
        if parent is None or parent.block_number != header.block_number - 1:
            return [*broken, f"block {header.block_number} has no parent"]
        if parent.timestamp >= header.timestamp:
            broken.append(f"block {header.block_number} is not younger than its parent")
        header = parent
    return broken


def _missing_state(chain: EmbeddedChain) -> list[str]:
    """Walk the whole state of the head: every account, storage node and code must be there."""
    missing: list[str] = []
    for value in _leaves(chain, chain.head().state_root, missing):
        account: Any = rlp.decode(value, sedes=Account)  # type: ignore[attr-defined, no-untyped-call]
        for _ in _leaves(chain, account.storage_root, missing):
            pass
        if account.code_hash != EMPTY_SHA3 and account.code_hash not in chain.store:
            missing.append(f"code {encode_hex(account.code_hash)} is missing")
    return missing


def _leaves(chain: EmbeddedChain, root: bytes, missing: list[str]) -> Iterator[bytes]:
    todo: list[Any] = [] if root == BLANK_ROOT_HASH else [root]
    while todo:
        node: Any
        reference = todo.pop()
        if isinstance(reference, bytes):
            if reference == BLANK_NODE:
                continue
            if reference not in chain.store:
                missing.append(f"node {encode_hex(reference)} is missing")
                continue
            node = decode_node(chain.store[reference])
        else:
            node = reference  # a node shorter than its hash lies inside its parent
        kind = get_node_type(node)
        if kind == NODE_TYPE_LEAF:
            yield node[1]
        elif kind == NODE_TYPE_EXTENSION:
            todo.append(node[1])
        elif kind == NODE_TYPE_BRANCH:
            todo.extend(node[:16])
            if node[16]:
                yield node[16]


def _wrong_logs(chain: EmbeddedChain) -> list[str]:
    broken = []
    for number in range(1, chain.head().block_number + 1):
        header = chain.header(number)
        if header is None:
            broken.append(f"block {number} is missing")
            continue
        txs = chain.transactions(header)
        expected = log_rows(header, [tx.hash for tx in txs], chain.receipts(header))
        if chain.store.logs(number, number) != expected:
            broken.append(f"logs of block {number} differ from its receipts")
        for index, tx in enumerate(txs):
            found = chain.executed(tx.hash)
            if found is None or (found.header.hash, found.tx_index) != (header.hash, index):
                broken.append(f"transaction {encode_hex(tx.hash)} is not found where it lies")
    return broken
