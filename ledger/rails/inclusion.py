"""Proof that a transaction and its logs stand in a block, for somebody who has nothing but the block's hash.

A header names the roots of two Patricia tries (yellow paper 4.3): of the block's transactions, and of their receipts.
The header, and in each trie the nodes from its root to one place, prove the signed bytes and what became of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rlp
from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import decode_hex, encode_hex
from trie.hexary import HexaryTrie

from ledger.rails.base import Chain, receipts_trie
from ledger.rails.errors import LogsMissing

# What a header is hashed from, in order; a chain that knows no later field leaves it out, from the end.
HEADER_WORDS = ("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom")
HEADER_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
HEADER_REST = ("extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas",
               "parentBeaconBlockRoot", "requestsHash")  # fmt: skip
_encode: Any = rlp.encode  # type: ignore[attr-defined]


@dataclass(frozen=True)
class InBlock:
    """One log of a transaction in its block. `place` is the transaction's in the block, `log` the log's in it."""

    tx_hash: bytes
    log: int
    block_hash: bytes
    header: bytes
    place: int
    tx_nodes: tuple[bytes, ...]
    receipt_nodes: tuple[bytes, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as hex text."""
        return {
            "tx_hash": encode_hex(self.tx_hash), "log": self.log, "block_hash": encode_hex(self.block_hash),
            "header": encode_hex(self.header), "place": self.place,
            "transaction_nodes": [encode_hex(node) for node in self.tx_nodes],
            "receipt_nodes": [encode_hex(node) for node in self.receipt_nodes],
        }  # fmt: skip


def prove_log(here: Chain, tx_hash: str, log_index: int) -> InBlock:
    """Return the proof of a log that stands at `log_index` of its block, and of the transaction that left it.

    Raises `LogsMissing` where the node's answers do not give the hash and the roots that the header has.
    """
    ask = here.w3.eth
    receipt: Any = ask.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
    block: Any = ask.get_block(receipt["blockHash"], full_transactions=True)
    header, place = header_bytes(block), int(receipt["transactionIndex"])
    receipts = receipts_trie(ask.get_block_receipts(receipt["blockHash"]))
    transactions: Any = HexaryTrie({})
    for at, each in enumerate(block["transactions"]):
        transactions[_encode(at)] = transaction_bytes(each)
    told = (keccak(header), transactions.root_hash, receipts.root_hash)
    if told != (bytes(block["hash"]), bytes(block["transactionsRoot"]), bytes(block["receiptsRoot"])):
        raise LogsMissing(f"Block {int(block['number'])} is not what its header tells of.", block=encode_hex(told[0]))
    at = [int(log["logIndex"]) for log in receipt["logs"]].index(log_index)
    return InBlock(
        bytes(receipt["transactionHash"]), at, told[0], header, place, _path(transactions, place),
        _path(receipts, place),
    )  # fmt: skip


def _path(trie: Any, place: int) -> tuple[bytes, ...]:
    nodes = [bytes(_encode(node)) for node in trie.get_proof(_encode(place))]
    # A node shorter than a hash lies in its parent.
    return tuple(node for at, node in enumerate(nodes) if at == 0 or len(node) >= 32)


def header_bytes(block: Mapping[str, Any]) -> bytes:
    """Return what a block's hash is the hash of."""
    words = [_bytes(block[name]) for name in HEADER_WORDS]
    numbers = [int(block[name]) for name in HEADER_NUMBERS]
    rest = [int(block[name]) if isinstance(block[name], int) else _bytes(block[name])
            for name in HEADER_REST if block.get(name) is not None]  # fmt: skip
    return bytes(_encode([*words, *numbers, *rest]))


def transaction_bytes(tx: Mapping[str, Any]) -> bytes:
    """Return the signed bytes of a transaction as a node tells it (EIP-2718: legacy, 2930, 1559, 4844, 7702)."""
    kind = int(tx.get("type", 0))
    call = [int(tx["gas"]), _bytes(tx["to"]) if tx.get("to") else b"", int(tx["value"]), _bytes(tx["input"])]
    signed = [int(tx["yParity"]) if kind else int(tx["v"]), _number(tx["r"]), _number(tx["s"])]
    if kind == 0:
        return bytes(_encode([int(tx["nonce"]), int(tx["gasPrice"]), *call, *signed]))
    fees = [int(tx["gasPrice"])] if kind == 1 else [int(tx["maxPriorityFeePerGas"]), int(tx["maxFeePerGas"])]
    access = [[_bytes(each["address"]), [_bytes(key) for key in each["storageKeys"]]] for each in tx["accessList"]]
    more: list[Any] = []
    if kind == 3:
        more = [int(tx["maxFeePerBlobGas"]), [_bytes(each) for each in tx["blobVersionedHashes"]]]
    if kind == 4:
        more = [[_authorization(each) for each in tx["authorizationList"]]]
    return bytes([kind]) + bytes(
        _encode([int(tx["chainId"]), int(tx["nonce"]), *fees, *call, access, *more, *signed])
    )


def _authorization(each: Mapping[str, Any]) -> list[Any]:
    names = ("yParity", "r", "s")
    return [int(each["chainId"]), _bytes(each["address"]), int(each["nonce"]), *(_number(each[name]) for name in names)]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int.from_bytes(_bytes(value), "big")


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return to_canonical_address(value) if len(value) == 42 else decode_hex(value)
    return bytes(value)

