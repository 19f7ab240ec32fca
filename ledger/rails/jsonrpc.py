"""The embedded chain spoken to as any other: the JSON-RPC methods web3 uses, answered in this process.

`latest`, `safe`, `finalized` and `pending` are one block here, since nobody can fork the chain. A call on one of these
names runs at the time of the clock, as if it stood in the next block; a call on a number runs at that block's time.
Two answers go further than other nodes: sending bytes that are on the chain already succeeds, and the receipt of a
reverted transaction carries `revertReason` (as Besu's does), so no replay is needed to learn why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eth.exceptions import OutOfGas, Revert
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.hexadecimal import decode_hex, encode_hex
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

import ledger.rails.depth  # noqa: F401
from ledger.rails.base import created_address
from ledger.rails.embedded import (
    CALL_GAS,
    ZERO_ADDRESS,
    BlockHeaderAPI,
    EmbeddedChain,
    Executed,
    SignedTransactionAPI,
    clock_seconds,
)
from ledger.rails.store import LogRow

NEWEST = ("latest", "safe", "finalized", "pending")
PRIORITY_FEE_WEI = 0
REVERTED = 3
METHOD_UNKNOWN = -32601
INVALID = -32000


class RpcRefusal(Exception):
    """An error answer of the JSON-RPC protocol."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message} | ({"data": data} if data is not None else {})


class JsonRpc:
    """Answers requests on one embedded chain."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self.chain = chain
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "grove-embedded/py-evm",
            "net_version": lambda: str(chain.chain_id),
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_gasPrice": lambda: hex(chain.head().base_fee_per_gas + PRIORITY_FEE_WEI),
            "eth_maxPriorityFeePerGas": lambda: hex(PRIORITY_FEE_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_blockNumber": lambda: hex(chain.head().block_number),
            "eth_getBlockByNumber": lambda tag, full=False: self._block(self._header(tag), full),
            "eth_getBlockByHash": lambda block, full=False: self._block(chain.header_by_hash(decode_hex(block)), full),
            "eth_getTransactionCount": lambda who, tag="latest": hex(self._state(tag).get_nonce(_address(who))),
            "eth_getBalance": lambda who, tag="latest": hex(self._state(tag).get_balance(_address(who))),
            "eth_getCode": lambda who, tag="latest": encode_hex(self._state(tag).get_code(_address(who))),
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getLogs": self._logs,
        }

    def answer(self, method: str, parameters: Sequence[Any]) -> Any:
        """The result of one method. Raises `RpcRefusal`."""
        known = self._methods.get(method)
        if known is None:
            raise RpcRefusal(METHOD_UNKNOWN, f"the method {method} does not exist")
        return known(*_plain(list(parameters)))

    # -- blocks and state ------------------------------------------------------------------------------------------
    def _header(self, tag: str) -> BlockHeaderAPI | None:
        if tag in NEWEST:
            return self.chain.head()
        return self.chain.header(0 if tag == "earliest" else int(tag, 16))

    def _known_header(self, tag: str | Mapping[str, str]) -> BlockHeaderAPI:
        if isinstance(tag, Mapping):
            header = self.chain.header_by_hash(decode_hex(tag["blockHash"]))
        else:
            header = self._header(tag)
        if header is None:
            raise RpcRefusal(INVALID, "header not found")
        return header

    def _state(self, tag: str) -> Any:
        return self.chain.state(self._known_header(tag))

    def _storage(self, who: str, slot: str, tag: str = "latest") -> str:
        return encode_hex(self._state(tag).get_storage(_address(who), int(slot, 16)).to_bytes(32, "big"))

    def _block(self, header: BlockHeaderAPI | None, full: bool) -> dict[str, Any] | None:
        if header is None:
            return None
        txs = self.chain.transactions(header)
        hashed = {
            "blobGasUsed": hex(header.blob_gas_used), "excessBlobGas": hex(header.excess_blob_gas),
            "parentBeaconBlockRoot": encode_hex(header.parent_beacon_block_root),
            "requestsHash": encode_hex(header.requests_hash),
        }  # fmt: skip
        return hashed | {
            "number": hex(header.block_number), "hash": encode_hex(header.hash),
            "parentHash": encode_hex(header.parent_hash), "nonce": encode_hex(header.nonce),
            "sha3Uncles": encode_hex(header.uncles_hash), "logsBloom": f"0x{header.bloom:0512x}",
            "transactionsRoot": encode_hex(header.transaction_root), "stateRoot": encode_hex(header.state_root),
            "receiptsRoot": encode_hex(header.receipt_root), "miner": to_checksum_address(header.coinbase),
            "difficulty": "0x0", "totalDifficulty": "0x0", "extraData": encode_hex(header.extra_data),
            "size": "0x0", "gasLimit": hex(header.gas_limit), "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp), "baseFeePerGas": hex(header.base_fee_per_gas),
            "mixHash": encode_hex(header.mix_hash), "uncles": [], "withdrawals": [],
            "withdrawalsRoot": encode_hex(header.withdrawals_root),
            "transactions": [
                self._describe(tx, header, index) if full else encode_hex(tx.hash) for index, tx in enumerate(txs)
            ],
        }  # fmt: skip

    def _fee_history(self, count: str, newest: str, percentiles: Sequence[float] = ()) -> dict[str, Any]:
        header = self._known_header(newest)
        return {
            "oldestBlock": hex(header.block_number), "baseFeePerGas": [hex(header.base_fee_per_gas)] * 2,
            "gasUsedRatio": [header.gas_used / header.gas_limit],
            "reward": [[hex(PRIORITY_FEE_WEI)] * len(percentiles)],
        }  # fmt: skip

    # -- calls -----------------------------------------------------------------------------------------------------
    def _run(self, request: Mapping[str, str], tag: str | Mapping[str, str], gas: int) -> Any:
        newest = isinstance(tag, str) and tag in NEWEST
        computation = self.chain.call(
            self._known_header(tag),
            to=_address(request["to"]) if request.get("to") else b"",
            data=decode_hex(request.get("data") or request.get("input") or "0x"),
            sender=_address(request["from"]) if request.get("from") else ZERO_ADDRESS,
            gas=gas,
            value=int(request.get("value") or "0x0", 16),
            timestamp=clock_seconds() if newest else None,
        )
        if computation.is_error:
            if isinstance(computation.error, Revert):
                raise RpcRefusal(REVERTED, "execution reverted", encode_hex(computation.output))
            name = "out of gas" if isinstance(computation.error, OutOfGas) else str(computation.error)
            raise RpcRefusal(INVALID, name)
        return computation

    def _call(self, request: Mapping[str, str], tag: str | Mapping[str, str] = "latest", *_: Any) -> str:
        return encode_hex(self._run(request, tag, int(request.get("gas") or hex(CALL_GAS), 16)).output)

    def _estimate(self, request: Mapping[str, str], tag: str = "latest", *_: Any) -> str:
        used = self._run(request, tag, CALL_GAS).get_gas_used()
        # Refunds and the 63/64 rule make a call need more than it uses; double until it goes through.
        limit = used + used // 16 + 21_000
        while limit < CALL_GAS:
            try:
                self._run(request, tag, limit)
            except RpcRefusal:
                limit *= 2
            else:
                return hex(limit)
        return hex(CALL_GAS)

    # -- transactions ----------------------------------------------------------------------------------------------
    def _send(self, raw: str) -> str:
        mined = self.chain.send(decode_hex(raw))
        if mined.refusal is not None:
            raise RpcRefusal(INVALID, mined.refusal)
        return encode_hex(mined.tx_hash)

    def _describe(self, tx: SignedTransactionAPI, header: BlockHeaderAPI, tx_index: int) -> dict[str, Any]:
        type_id = getattr(tx, "type_id", None) or 0
        described: dict[str, Any] = {
            "hash": encode_hex(tx.hash), "nonce": hex(tx.nonce), "blockHash": encode_hex(header.hash),
            "blockNumber": hex(header.block_number), "transactionIndex": hex(tx_index),
            "from": to_checksum_address(tx.sender), "to": to_checksum_address(tx.to) if tx.to else None,
            "value": hex(tx.value), "gas": hex(tx.gas), "gasPrice": hex(_effective_gas_price(tx, header)),
            "input": encode_hex(tx.data), "r": hex(tx.r), "s": hex(tx.s), "v": hex(tx.y_parity),
            "type": hex(type_id), "chainId": hex(self.chain.chain_id),
        }  # fmt: skip
        if type_id == 2:
            described |= {
                "maxFeePerGas": hex(tx.max_fee_per_gas), "maxPriorityFeePerGas": hex(tx.max_priority_fee_per_gas),
                "accessList": [], "yParity": hex(tx.y_parity),
            }  # fmt: skip
        return described

    def _transaction(self, tx_hash: str) -> dict[str, Any] | None:
        found = self.chain.executed(decode_hex(tx_hash))
        return None if found is None else self._describe(found.tx, found.header, found.tx_index)

    def _receipt(self, tx_hash: str) -> dict[str, Any] | None:
        found = self.chain.executed(decode_hex(tx_hash))
        return None if found is None else _receipt_answer(found)

    def _block_receipts(self, tag: str) -> list[dict[str, Any] | None]:
        header = self._known_header({"blockHash": tag} if len(tag) == 66 else tag)
        return [self._receipt(encode_hex(tx.hash)) for tx in self.chain.transactions(header)]

    def _logs(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        if wanted.get("blockHash"):
            header = self._known_header({"blockHash": wanted["blockHash"]})
            first = last = header.block_number
        else:
            # Above the head is no error: the range is simply empty.
            first, last = (
                self.chain.head().block_number if tag in NEWEST else 0 if tag == "earliest" else int(tag, 16)
                for tag in (wanted.get("fromBlock") or "latest", wanted.get("toBlock") or "latest")
            )
        addresses = wanted.get("address") or []
        addresses = [addresses] if isinstance(addresses, str) else addresses
        rows = self.chain.store.logs(first, last, [_address(each) for each in addresses])
        return [_log_answer(row) for row in rows if _has_topics(row, wanted.get("topics") or [])]


class EmbeddedProvider(BaseProvider):
    """A web3 provider without a daemon: every process answers itself from the shared store."""

    def __init__(self, chain: EmbeddedChain) -> None:
        super().__init__()
        self.rpc = JsonRpc(chain)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answer one request in the shape web3 expects."""
        try:
            return {"jsonrpc": "2.0", "id": 1, "result": self.rpc.answer(method, params)}
        except RpcRefusal as refusal:
            return {"jsonrpc": "2.0", "id": 1, "error": refusal.answer}  # type: ignore[typeddict-item]

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Always: there is no wire."""
        return True


def _plain(value: Any) -> Any:
    """Parameters as they would arrive over a wire: bytes and numbers as hex text."""
    if isinstance(value, bytes | bytearray):
        return encode_hex(bytes(value))
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value]


def _address(text: str) -> bytes:
    return to_canonical_address(text)


def _effective_gas_price(tx: SignedTransactionAPI, header: BlockHeaderAPI) -> int:
    base_fee: int = header.base_fee_per_gas
    return base_fee + int(min(tx.max_priority_fee_per_gas, tx.max_fee_per_gas - base_fee))


def _log_answer(row: LogRow) -> dict[str, Any]:
    return {
        "address": to_checksum_address(row.address), "topics": [encode_hex(topic) for topic in row.topics],
        "data": encode_hex(row.data), "blockNumber": hex(row.block_number), "blockHash": encode_hex(row.block_hash),
        "transactionHash": encode_hex(row.tx_hash), "transactionIndex": hex(row.tx_index),
        "logIndex": hex(row.log_index), "removed": False,
    }  # fmt: skip


def _has_topics(row: LogRow, wanted: Sequence[str | Sequence[str] | None]) -> bool:
    for index, choice in enumerate(wanted):
        if choice is None:
            continue
        choices = [choice] if isinstance(choice, str) else choice
        if index >= len(row.topics) or encode_hex(row.topics[index]) not in choices:
            return False
    return True


def _receipt_answer(found: Executed) -> dict[str, Any]:
    tx, header = found.tx, found.header
    created = None if tx.to else to_checksum_address(created_address(tx.sender, tx.nonce))
    answer = {
        "transactionHash": encode_hex(tx.hash), "transactionIndex": hex(found.tx_index),
        "blockHash": encode_hex(header.hash), "blockNumber": hex(header.block_number),
        "from": to_checksum_address(tx.sender), "to": to_checksum_address(tx.to) if tx.to else None,
        "contractAddress": created, "cumulativeGasUsed": hex(found.cumulative_gas_used),
        "gasUsed": hex(found.gas_used), "status": hex(int(found.succeeded)),
        "type": hex(getattr(tx, "type_id", None) or 0), "effectiveGasPrice": hex(_effective_gas_price(tx, header)),
        "logsBloom": f"0x{found.bloom:0512x}", "logs": [_log_answer(row) for row in found.logs],
    }  # fmt: skip
    if found.revert_output is not None:
        answer["revertReason"] = encode_hex(found.revert_output)
    return answer
