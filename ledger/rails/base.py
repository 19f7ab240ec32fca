"""What any chain is to the rails: a head, calls, receipts, logs, and a way to hand in signed bytes.

One class serves every node, because all of them speak through web3; the embedded chain adds the one thing that a wire
protocol has no word for: many transactions in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rlp
from eth_bloom.bloom import BloomFilter
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import decode_hex, encode_hex
from trie.hexary import HexaryTrie

from ledger.models import ChainContract
from ledger.rails import abi
from ledger.rails.errors import (
    CallReverted,
    ChainUnreachable,
    ContractUnknown,
    KeyOutOfGasMoney,
    LogsMissing,
    NodeNotReady,
)

if TYPE_CHECKING:  # web3 is loaded with the first chain that is opened, an EVM with the first embedded one
    from web3 import Web3
    from web3.exceptions import ContractLogicError, Web3RPCError
    from web3.types import BlockIdentifier

    from ledger.rails.embedded import EmbeddedChain, Mined

NO_GAS_MONEY = "insufficient funds"  # said of the caller's account by every node; a contract's words come with data


@dataclass(frozen=True)
class Head:
    """One block: height, unix seconds, hash and parent's hash (0x hex), and the bloom filter of its logs."""

    number: int
    timestamp: int
    hash: str
    parent_hash: str
    bloom: int
    receipts_root: str


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction on the chain. `revert_output` is known on the embedded chain only."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    revert_output: bytes | None


@dataclass(frozen=True)
class Sent:
    """What a node said to signed bytes: taken, or refused with a sentence. The receipt may come at once."""

    tx_hash: str
    refusal: str | None
    receipt: Receipt | None


@dataclass(frozen=True)
class Log:
    """One log of one of our contracts, still encoded."""

    block_number: int
    block_hash: str
    log_index: int
    tx_hash: str
    address: str
    topics: tuple[bytes, ...]
    data: bytes


class Chain:
    """The chain this installation settles on."""

    def __init__(self, w3: Web3, *, chain_id: int, embedded: EmbeddedChain | None = None) -> None:
        self.w3 = w3
        self.chain_id = chain_id
        self.embedded = embedded

    # -- blocks ----------------------------------------------------------------------------------------------------
    def head(self) -> Head:
        """The newest block."""
        return self._head("latest")

    def finalized(self) -> Head:
        """The newest block that cannot be taken back; money enters the books from here only."""
        return self._head("finalized")

    def block(self, number: int) -> Head | None:
        """The block at that height, or None above the head."""
        from web3.exceptions import BlockNotFound

        try:
            return self._head(number)
        except BlockNotFound:
            return None

    def _head(self, which: BlockIdentifier) -> Head:
        block = self.w3.eth.get_block(which)
        return Head(
            int(block["number"]), int(block["timestamp"]), encode_hex(block["hash"]), encode_hex(block["parentHash"]),
            int.from_bytes(block["logsBloom"], "big"), encode_hex(block["receiptsRoot"]),
        )  # fmt: skip

    # -- contracts -------------------------------------------------------------------------------------------------
    def address(self, contract: str) -> str:
        """Where one of our contracts is deployed. Raises `ContractUnknown`."""
        row = ChainContract.objects.filter(name=contract, chain_id=self.chain_id).first()
        if row is None:
            raise ContractUnknown(f"The contract {contract} is not deployed on chain {self.chain_id}.",
                                  contract=contract, chain_id=self.chain_id)  # fmt: skip
        return row.address

    def domain(self, contract: str) -> dict[str, Any]:
        """The EIP-712 domain of a contract, as keywords for `Signer.sign_typed`."""
        return {"chain_id": self.chain_id, "verifying_contract": self.address(contract)}

    def call(self, contract: str, function: str, *arguments: Any, block: BlockIdentifier = "latest") -> Any:
        """What a view returns: one value, or a tuple of several.

        Raises `CallReverted` with the contract's sentence, and `NodeNotReady` for an empty answer.
        """
        return self.call_at(contract, self.address(contract), function, arguments, block=block)

    def call_at(
        self, contract: str, address: str, function: str, arguments: Sequence[Any] = (), *, sender: str | None = None,
        block: BlockIdentifier = "latest",
    ) -> Any:  # fmt: skip
        """Like `call`, for a contract of that kind at any address, and as any sender."""
        from web3.exceptions import ContractLogicError, Web3RPCError

        data = abi.encode_call(contract, function, arguments)
        request: dict[str, Any] = {"to": address, "data": encode_hex(data)}
        if sender is not None:
            request["from"] = sender
        try:
            output = bytes(self.w3.eth.call(request, block))  # type: ignore[arg-type]
        except (ContractLogicError, Web3RPCError) as error:
            raise CallReverted(_sentence_of(error), contract=contract, function=function) from None
        if not output and abi.function_of(contract, function, len(arguments)).outputs:
            # No contract of ours answers nothing: the node has no code there, as while it swaps a branch for another.
            raise NodeNotReady(f"The node answers nothing for {contract}.{function}.", contract=contract, block=block)
        return abi.decode_result(contract, function, len(arguments), output)

    def has_code(self, address: str) -> bool:
        """Whether a contract stands at the address."""
        return bool(self.w3.eth.get_code(to_checksum_address(address)))

    # -- transactions ----------------------------------------------------------------------------------------------
    def next_nonce(self, address: str) -> int:
        """How many transactions of this address the chain knows, waiting ones included."""
        return int(self.w3.eth.get_transaction_count(to_checksum_address(address), "pending"))

    def final_nonce(self, address: str) -> int:
        """How many transactions of this address are in finalized blocks."""
        return int(self.w3.eth.get_transaction_count(to_checksum_address(address), "finalized"))

    def coin_wei(self, address: str) -> int:
        """What an account of the newest block holds for gas."""
        return int(self.w3.eth.get_balance(to_checksum_address(address)))

    def fees(self) -> dict[str, int]:
        """Fee fields of a new transaction, in wei per gas: room for the base fee to double."""
        if self.embedded is not None:
            return {"maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
        tip = int(self.w3.eth.max_priority_fee)
        base = int(self.w3.eth.get_block("latest")["baseFeePerGas"])
        return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}

    def estimate_gas(self, *, sender: str, to: str, data: bytes) -> int:
        """Gas the call would need. Raises `CallReverted` with the contract's sentence, and `KeyOutOfGasMoney`."""
        from web3.exceptions import ContractLogicError, Web3RPCError

        try:
            return int(self.w3.eth.estimate_gas({"from": sender, "to": to, "data": encode_hex(data)}))
        except (ContractLogicError, Web3RPCError) as error:
            sentence = _sentence_of(error)
            if not isinstance(error, ContractLogicError) and NO_GAS_MONEY in sentence.lower():
                raise KeyOutOfGasMoney(f"The account {sender} cannot pay for gas.", address=sender) from None
            raise CallReverted(sentence, to=to) from None

    def broadcast(self, raws: Sequence[bytes], *, now: datetime) -> list[Sent]:
        """Hand in signed bytes, in order. Sending the same bytes again is harmless.

        The embedded chain puts them all into one block, stamped `now`, and tells at once how each ended.
        """
        if self.embedded is not None:
            return [_sent(mined) for mined in self.embedded.mine(raws, at=now)]
        return [self._send(raw) for raw in raws]

    def _send(self, raw: bytes) -> Sent:
        from web3.exceptions import Web3RPCError

        tx_hash = encode_hex(keccak(raw))
        try:
            self.w3.eth.send_raw_transaction(raw)
        except ChainUnreachable as silence:
            return Sent(tx_hash, str(silence), None)  # it may have arrived all the same: the hash will be looked up
        except Web3RPCError as error:
            sentence = _sentence_of(error)
            return Sent(tx_hash, None if _is_known(sentence) else sentence, None)
        return Sent(tx_hash, None, None)

    def revert_sentence(self, receipt: Receipt, *, sender: str, to: str, data: bytes) -> str:
        """Why a transaction reverted, in the contract's words.

        A node does not keep the reason: there the call is repeated on the state before its block.
        """
        from web3.exceptions import ContractLogicError, Web3RPCError

        if receipt.revert_output is not None:
            return abi.revert_sentence(receipt.revert_output)
        try:
            self.w3.eth.call({"from": sender, "to": to, "data": encode_hex(data)},
                             receipt.block_number - 1)  # fmt: skip
        except NodeNotReady as loss:
            return f"reverted, and the node does not tell why any more: {loss}"
        except (ContractLogicError, Web3RPCError) as error:
            return _sentence_of(error)
        return "reverted in its block only: earlier transactions of the block changed the state"

    def receipt(self, tx_hash: str) -> Receipt | None:
        """The receipt of a transaction that is in a block, else None."""
        from web3.exceptions import TransactionNotFound

        try:
            found = self.w3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return None
        output = found.get("revertReason")
        return Receipt(
            tx_hash=tx_hash, block_number=int(found["blockNumber"]), block_hash=encode_hex(found["blockHash"]),
            succeeded=bool(found["status"]), gas_used=int(found["gasUsed"]),
            revert_output=decode_hex(output) if isinstance(output, str) else None,
        )  # fmt: skip

    def logs(self, addresses: Sequence[str], *, first_block: int, last_block: int) -> list[Log]:
        """Logs of these contracts in the blocks `first_block..last_block`, in order."""
        found = self.w3.eth.get_logs({
            "address": [to_checksum_address(each) for each in addresses],
            "fromBlock": first_block, "toBlock": last_block,
        })  # fmt: skip
        logs = [_log(each) for each in found]
        return sorted(logs, key=lambda log: (log.block_number, log.log_index))


    def block_logs(self, block: Head, addresses: Sequence[str]) -> list[Log]:
        """Logs of these contracts in one block, in order, taken from its receipts.

        A node may lose logs or tell them twice: the root of the receipts with these logs must be the header's. (The
        bloom filter is not enough: two alike deposits in one block have the filter of one.)
        Raises `LogsMissing` otherwise; asked again later, it may have caught up.
        """
        if not any(to_canonical_address(each) in BloomFilter(block.bloom) for each in addresses):
            return []
        receipts = self.w3.eth.get_block_receipts(block.hash)  # type: ignore[arg-type]
        told = {int(each["logIndex"]): each for receipt in receipts for each in receipt["logs"]}
        logs = [_log(told[index]) for index in sorted(told)]
        if encode_hex(receipts_trie(receipts).root_hash) != block.receipts_root:
            raise LogsMissing(f"The logs of block {block.number} are not those its header tells of.", block=block.hash)
        if any(log.block_hash != block.hash for log in logs):
            raise LogsMissing(f"The logs told for block {block.number} belong to another block.", block=block.hash)
        wanted = set(addresses)
        return [log for log in logs if log.address in wanted]


def receipts_trie(receipts: Sequence[Any]) -> Any:
    """The trie of a block's receipts (yellow paper 4.3.1, EIP-2718), a log that is told twice counted once."""
    trie: Any = HexaryTrie({})
    for place, each in enumerate(receipts):
        logs = {int(log["logIndex"]): log for log in each["logs"]}
        bodies = [
            [to_canonical_address(log["address"]), [bytes(topic) for topic in log["topics"]], bytes(log["data"])]
            for _, log in sorted(logs.items())
        ]
        encode: Any = rlp.encode  # type: ignore[attr-defined]
        fields = [int(each["status"]), int(each["cumulativeGasUsed"]), bytes(each["logsBloom"]), bodies]
        kind = int(each["type"])
        trie[encode(place)] = (bytes([kind]) if kind else b"") + encode(fields)
    return trie


def _log(told: Any) -> Log:
    return Log(
        block_number=int(told["blockNumber"]), block_hash=encode_hex(told["blockHash"]),
        log_index=int(told["logIndex"]), tx_hash=encode_hex(told["transactionHash"]), address=str(told["address"]),
        topics=tuple(bytes(topic) for topic in told["topics"]), data=bytes(told["data"]),
    )  # fmt: skip


def created_address(sender: bytes, nonce: int) -> bytes:
    """The address of the contract that `sender` creates with that nonce (yellow paper, section 7)."""
    encode: Any = rlp.encode  # type: ignore[attr-defined]
    return keccak(encode([sender, nonce]))[12:]


def _sent(mined: Mined) -> Sent:
    tx_hash, outcome = encode_hex(mined.tx_hash), mined.outcome
    if outcome is None:
        return Sent(tx_hash, mined.refusal, None)
    receipt = Receipt(tx_hash, outcome.block_number, encode_hex(outcome.block_hash), outcome.succeeded,
                      outcome.gas_used, outcome.revert_output)  # fmt: skip
    return Sent(tx_hash, mined.refusal, receipt)


def _is_known(sentence: str) -> bool:
    """Whether a node says that it holds these very bytes already; each of them has its own words for it."""
    said = sentence.lower()
    return any(words in said for words in ("already known", "already imported", "known transaction", "already exists"))


def _sentence_of(error: Web3RPCError | ContractLogicError) -> str:
    data = getattr(error, "data", None)
    if isinstance(data, str) and data.startswith("0x"):
        return abi.revert_sentence(decode_hex(data))
    return str(getattr(error, "message", None) or error)
