"""The embedded chain: the real EVM (py-evm, Prague rules) over a table of the database the books live in.

One block is one database transaction under an advisory lock, and the head is read again inside it, so any process may
write and no daemon runs. Gas is free here: the base fee starts at zero and stays there, because no block comes near
half of the huge gas limit. It is no blockchain in the sense of trust: one operator, no consensus, and a history as
rewritable as its database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

import coincurve  # noqa: F401  required: without it eth_keys silently falls back to Python, 4 times slower
from eth.chains.base import MiningChain
from eth.consensus.applier import ConsensusApplier
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.exceptions import CanonicalHeadNotFound, HeaderNotFound, TransactionNotFound
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from eth_utils.hexadecimal import encode_hex

import ledger.rails.depth  # noqa: F401
from ledger.rails.store import LogRow, Store

# py-evm types its arguments with NewTypes of its own (Hash32, Address, BlockNumber), which no plain bytes or int fits.
BlockHeaderAPI: TypeAlias = Any
ComputationAPI: TypeAlias = Any
ReceiptAPI: TypeAlias = Any
SignedTransactionAPI: TypeAlias = Any
StateAPI: TypeAlias = Any

BLOCK_GAS_LIMIT = 10**12
CALL_GAS = 10**9
ZERO_ADDRESS = b"\0" * 20
GENESIS: dict[str, Any] = {
    "difficulty": 0, "gas_limit": BLOCK_GAS_LIMIT, "timestamp": 0, "nonce": b"\0" * 8, "mix_hash": b"\0" * 32,
    "base_fee_per_gas": 0,
}  # fmt: skip

_clock: Callable[[], datetime] | None = None


def use_clock(clock: Callable[[], datetime] | None) -> None:
    """Hand in the clock (aware UTC) that stamps blocks; `None` takes it away again."""
    global _clock
    _clock = clock


def clock_seconds() -> int:
    """The time of the clock handed in here, else of the ledger's, in whole seconds. Raises `ClockMissing`."""
    from ledger.tasks import clock  # the apps hand it their clock without loading an EVM into every process

    return int((_clock or clock)().timestamp())


@dataclass(frozen=True)
class Outcome:
    """How a transaction ended, and in which block."""

    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    revert_output: bytes | None


@dataclass(frozen=True)
class Mined:
    """What became of one raw transaction: on the chain, or refused with a sentence before it got there.

    The outcome is told only for a transaction that this very call put on the chain.
    """

    tx_hash: bytes
    refusal: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Executed:
    """A transaction on the chain with everything its receipt tells."""

    tx: SignedTransactionAPI
    header: BlockHeaderAPI
    tx_index: int
    succeeded: bool
    gas_used: int
    cumulative_gas_used: int
    bloom: int
    logs: tuple[LogRow, ...]
    revert_output: bytes | None


@dataclass(frozen=True)
class Applied:
    """A transaction of the block being built."""

    tx: SignedTransactionAPI
    tx_hash: bytes
    receipt: ReceiptAPI
    computation: ComputationAPI


def chain_class(chain_id: int) -> type[MiningChain]:
    """The py-evm chain of one chain id; block time and gas limit are chosen by us, never by py-evm."""

    class GroveChain(MiningChain):
        vm_configuration = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, PragueVM),))

        def create_header_from_parent(self, parent_header: BlockHeaderAPI, **fields: Any) -> BlockHeaderAPI:
            fields.setdefault("gas_limit", parent_header.gas_limit)
            fields.setdefault("timestamp", parent_header.timestamp + 1)  # py-evm would read the machine's clock
            return super().create_header_from_parent(parent_header, **fields)

    GroveChain.chain_id = chain_id
    return GroveChain


class EmbeddedChain:
    """One process's door to the chain in `store`. Every method may be called from any thread."""

    def __init__(self, store: Store, *, chain_id: int) -> None:
        self.store = store
        self.chain_id = chain_id
        self._lock = threading.RLock()
        self._waiting: list[bytes] = []
        self._waiting_lock = threading.Lock()
        self._outcomes: dict[bytes, Mined] = {}
        kind: Any = chain_class(chain_id)
        self._chain: Any
        database = AtomicDB(store)
        try:
            self._chain = kind(database)
        except (CanonicalHeadNotFound, KeyError):
            with store.block():
                # Somebody may have written genesis while we waited for the lock.
                try:
                    self._chain = kind(database)
                except (CanonicalHeadNotFound, KeyError):
                    self._chain = kind.from_genesis(database, GENESIS, {})

    # -- writing ---------------------------------------------------------------------------------------------------
    def mine(self, raws: Sequence[bytes], *, at: datetime | None = None) -> list[Mined]:
        """Put the transactions into ONE new block, in this order, and return what became of each.

        A transaction that is on the chain already counts as mined, so sending the same bytes twice is harmless. One
        that the rules refuse (nonce, signature, chain id) is left out and named; the others still go through.
        The block's time is the later of the parent's plus one second and `at` (or the clock).
        """
        seconds = clock_seconds() if at is None else int(at.timestamp())
        with self._lock, self.store.block():
            head = self._chain.chaindb.get_canonical_head()
            header = self._chain.create_header_from_parent(head, timestamp=max(head.timestamp + 1, seconds))
            vm = self._chain.get_vm(header)
            outcomes: list[Mined] = []
            applied: dict[bytes, Applied] = {}
            for raw in raws:
                mined, done = self._apply(vm, header, bytes(raw), applied)
                outcomes.append(mined)
                if done is not None:
                    applied[done.tx_hash] = done
                    header = vm.add_receipt_to_header(header, done.receipt)
            if not applied:
                return outcomes
            told = self._seal(vm, header, list(applied.values()), mix_hash=keccak(head.hash))
            return [replace(each, outcome=told.get(each.tx_hash)) for each in outcomes]

    def _apply(
        self, vm: Any, header: BlockHeaderAPI, raw: bytes, before: Mapping[bytes, Applied]
    ) -> tuple[Mined, Applied | None]:
        try:
            tx = vm.get_transaction_builder().decode(raw)
            tx_hash, sender = tx.hash, tx.sender
        except Exception as error:  # the rlp and signature layers raise many unrelated classes
            return Mined(keccak(raw), f"not a transaction: {error}"), None
        refusal = _refusal(vm.state, tx, sender, self.chain_id)
        if refusal is None:
            try:
                receipt, computation = vm.apply_transaction(header, tx)
            except ValidationError as error:
                refusal = str(error)
            else:
                return Mined(tx_hash), Applied(tx, tx_hash, receipt, computation)
        # What is on the chain has spent its nonce, so the index is asked for refused transactions only.
        is_known = tx_hash in before or self._is_known(tx_hash)
        return Mined(tx_hash, None if is_known else refusal), None

    def _seal(
        self, vm: Any, header: BlockHeaderAPI, applied: Sequence[Applied], *, mix_hash: bytes
    ) -> dict[bytes, Outcome]:
        txs, receipts = [each.tx for each in applied], [each.receipt for each in applied]
        filled = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, txs, receipts)
        block = vm.mine_block(filled, mix_hash=mix_hash).block  # validates the block
        self._chain.chaindb.persist_block(block)
        self.store.add_logs(log_rows(block.header, [each.tx_hash for each in applied], receipts))
        told, gas_before = {}, 0
        for each in applied:
            output = bytes(each.computation.output) if each.computation.is_error else None
            if output is not None:
                self.store.add_revert(each.tx_hash, output)
            told[each.tx_hash] = Outcome(
                block.number, block.hash, output is None, each.receipt.gas_used - gas_before, output
            )
            gas_before = each.receipt.gas_used
        return told

    def send(self, raw: bytes) -> Mined:
        """Mine one transaction; those that other threads send meanwhile go into the same block."""
        raw = bytes(raw)
        tx_hash = keccak(raw)
        with self._waiting_lock:
            self._waiting.append(raw)
        with self._lock:
            with self._waiting_lock:
                batch, self._waiting = self._waiting, []
            if batch:
                for each in self.mine(batch):
                    self._outcomes[each.tx_hash] = each
            return self._outcomes.pop(tx_hash, Mined(tx_hash))

    def _is_known(self, tx_hash: bytes) -> bool:
        try:
            self._chain.chaindb.get_transaction_index(tx_hash)
        except TransactionNotFound:
            return False
        return True

    # -- reading ---------------------------------------------------------------------------------------------------
    def head(self) -> BlockHeaderAPI:
        """The newest header; it is final, since there is one operator and no fork."""
        return self._chain.chaindb.get_canonical_head()

    def header(self, number: int) -> BlockHeaderAPI | None:
        """The header of that height, or None above the head."""
        try:
            return self._chain.chaindb.get_canonical_block_header_by_number(number)
        except HeaderNotFound:
            return None

    def header_by_hash(self, block_hash: bytes) -> BlockHeaderAPI | None:
        """The header with that hash, or None."""
        try:
            return self._chain.chaindb.get_block_header_by_hash(block_hash)
        except HeaderNotFound:
            return None

    def transactions(self, header: BlockHeaderAPI) -> tuple[SignedTransactionAPI, ...]:
        """The transactions of one block, in order."""
        return tuple(self._chain.get_block_by_header(header).transactions)

    def state(self, header: BlockHeaderAPI, *, timestamp: int | None = None) -> StateAPI:
        """The state after `header`, as a call sees it; `timestamp` is what `block.timestamp` says."""
        at = max(header.timestamp, timestamp or 0)
        child = self._chain.create_header_from_parent(header, timestamp=max(at, header.timestamp + 1))
        return self._chain.get_vm(child.copy(timestamp=at)).state

    def call(
        self, header: BlockHeaderAPI, *, to: bytes, data: bytes, sender: bytes = ZERO_ADDRESS, gas: int = CALL_GAS,
        value: int = 0, timestamp: int | None = None,
    ) -> ComputationAPI:  # fmt: skip
        """Run a call on the state after `header` and throw its effects away."""
        state = self.state(header, timestamp=timestamp)
        builder = self._chain.get_vm_class(header).get_transaction_builder()
        tx = builder.new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id, nonce=state.get_nonce(sender), max_priority_fee_per_gas=0, max_fee_per_gas=0,
            gas=gas, to=to, value=value, data=data, access_list=(),
        )  # fmt: skip
        if value and state.get_balance(sender) < value:
            state.set_balance(sender, value)
        return state.apply_transaction(SpoofTransaction(tx, from_=sender))

    def executed(self, tx_hash: bytes) -> Executed | None:
        """The transaction and its receipt, or None if it is not on the chain."""
        try:
            number, index = self._chain.chaindb.get_transaction_index(tx_hash)
        except TransactionNotFound:
            return None
        header = self.header(number)
        assert header is not None
        tx = self._chain.get_canonical_transaction_by_index(number, index)
        receipt = self._chain.get_transaction_receipt_by_index(number, index)
        before = self._chain.get_transaction_receipt_by_index(number, index - 1).gas_used if index else 0
        succeeded = receipt.state_root == b"\x01"
        return Executed(
            tx=tx, header=header, tx_index=index, succeeded=succeeded, gas_used=receipt.gas_used - before,
            cumulative_gas_used=receipt.gas_used, bloom=receipt.bloom,
            logs=tuple(row for row in self.store.logs(number, number) if row.tx_index == index) if receipt.logs else (),
            revert_output=None if succeeded else self.store.revert_of(tx_hash),
        )  # fmt: skip

    def receipts(self, header: BlockHeaderAPI) -> tuple[ReceiptAPI, ...]:
        """The receipts of one block, read from the receipt trie."""
        return tuple(self._chain.get_block_by_header(header).get_receipts(self._chain.chaindb))


def _refusal(state: StateAPI, tx: SignedTransactionAPI, sender: bytes, chain_id: int) -> str | None:
    """The nonce and chain rules in the words other nodes use, so that callers can tell them apart."""
    if getattr(tx, "chain_id", None) not in (chain_id, None):
        return f"invalid chain id: {tx.chain_id}, want {chain_id}"
    expected = state.get_nonce(sender)
    if tx.nonce < expected:
        return f"nonce too low: {tx.nonce}, next is {expected} for {encode_hex(sender)}"
    if tx.nonce > expected:
        return f"nonce too high: {tx.nonce}, next is {expected} for {encode_hex(sender)}"
    return None


def log_rows(header: BlockHeaderAPI, tx_hashes: Sequence[bytes], receipts: Sequence[ReceiptAPI]) -> list[LogRow]:
    """The log rows of one block, as its receipts dictate them."""
    rows: list[LogRow] = []
    block_hash = header.hash
    for tx_index, (tx_hash, receipt) in enumerate(zip(tx_hashes, receipts, strict=True)):
        for log in receipt.logs:
            topics = tuple(topic.to_bytes(32, "big") for topic in log.topics)
            rows.append(LogRow(header.block_number, len(rows), tx_index, block_hash, tx_hash, bytes(log.address),
                               topics, bytes(log.data)))  # fmt: skip
    return rows
