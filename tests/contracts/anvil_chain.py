"""The contract tests' chain on anvil, a node of another make: the same bytecode in another EVM.

`GROVE_TEST_CHAIN=anvil pytest tests/contracts` runs all of them there; `tests/rails/test_contracts_on_anvil.py` runs
some in every suite. A copy of a chain is the list of its transactions: going from one copy to another reverts the node
to what they have in common and sends the rest again.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from eth_abi import decode, encode
from eth_utils import decode_hex, encode_hex, to_canonical_address

from tests.contracts.chain import (
    FEE_PER_GAS,
    GAS_LIMIT,
    SENDERS,
    START_AT,
    Chain,
    Reverted,
    TestChain,
    _function,
    _sentence,
    address_of,
    private_key,
)

REVERT_CODE = 3
MINED_SECONDS_MAX = 120  # only ends what hangs


@dataclass(frozen=True)
class Sent:
    """One transaction of a chain, and when its block was."""

    sender: str  # "" where no one sent it: a slot and the word planted there
    to: bytes
    data: bytes
    at: int


class Node:
    """One anvil on loopback, and which transactions it holds."""

    def __init__(self) -> None:
        from tests.rails.anvil import start_anvil  # skips, saying why, where npm cannot bring it

        self.process, self.url = start_anvil(
            "--chain-id", str(TestChain.chain_id), "--timestamp", str(START_AT), "--gas-limit", str(GAS_LIMIT),
            "--base-fee", "0",
        )  # fmt: skip
        for name in SENDERS:
            self.rpc("anvil_setBalance", address_of(name), hex(10**30))
        self.holds: tuple[Sent, ...] = ()
        self.marks: list[tuple[int, str]] = [(0, self.rpc("evm_snapshot"))]

    def end(self) -> None:
        from tests.rails.anvil import end_anvil

        end_anvil(self.process)

    def rpc(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=MINED_SECONDS_MAX) as answer:
            told = json.load(answer)
        if (error := told.get("error")) is not None:
            if error.get("code") == REVERT_CODE:
                raise Reverted(_sentence(decode_hex(error.get("data") or "0x")))
            raise RuntimeError(f"{method}: {error}")
        return told["result"]

    def mark(self) -> None:
        """Keep the present state, so that a way back to it sends nothing again."""
        if self.marks[-1][0] != len(self.holds):
            self.marks.append((len(self.holds), self.rpc("evm_snapshot")))

    def be_at(self, wanted: tuple[Sent, ...]) -> None:
        """Hold exactly these transactions."""
        if self.holds == wanted:
            return
        common = next((n for n, (a, b) in enumerate(zip(self.holds, wanted, strict=False)) if a is not b and a != b),
                      min(len(self.holds), len(wanted)))  # fmt: skip
        if common < len(self.holds):
            while self.marks[-1][0] > common:
                self.marks.pop()
            length, snapshot = self.marks.pop()
            assert self.rpc("evm_revert", snapshot)
            self.marks.append((length, self.rpc("evm_snapshot")))
            # The revert took back blocks, not the node's clock.
            self.rpc("evm_setTime", int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16))
            self.holds = wanted[:length]
        for sent in wanted[len(self.holds) :]:
            if sent.sender:
                self.send(sent)
            else:
                self.plant(sent)

    def send(self, sent: Sent) -> str:
        key = private_key(sent.sender)
        unsigned = _builder().new_unsigned_dynamic_fee_transaction(
            chain_id=TestChain.chain_id, nonce=Counter(each.sender for each in self.holds)[sent.sender],
            max_priority_fee_per_gas=0, max_fee_per_gas=FEE_PER_GAS, gas=GAS_LIMIT // 2, to=sent.to, value=0,
            data=sent.data, access_list=(),
        )  # fmt: skip
        raw = encode_hex(unsigned.as_signed_transaction(key).encode())
        self.rpc("evm_setNextBlockTimestamp", sent.at)
        tx_hash: str = self.rpc("eth_sendRawTransaction", raw)
        self.holds = (*self.holds, sent)
        self.receipt(tx_hash)  # the next block's time must not be set before this one stands
        return tx_hash

    def plant(self, sent: Sent) -> None:
        slot, word = encode_hex(sent.data[:32]), encode_hex(sent.data[32:])
        assert self.rpc("anvil_setStorageAt", encode_hex(sent.to), slot, word)
        self.holds = (*self.holds, sent)

    def receipt(self, tx_hash: str) -> Any:
        """Wait until the transaction stands in its block."""
        deadline = time.monotonic() + MINED_SECONDS_MAX
        while (found := self.rpc("eth_getTransactionReceipt", tx_hash)) is None:
            assert time.monotonic() < deadline, f"anvil did not mine {tx_hash}"
            time.sleep(0.005)
        return found


@cache
def _builder() -> Any:
    from eth.vm.forks.prague.transactions import PragueTransactionBuilder

    return PragueTransactionBuilder


@cache
def node() -> Node:
    """The node of this session."""
    import atexit

    started = Node()
    atexit.register(started.end)
    return started


class AnvilChain(Chain):
    """Deploys, sends and calls like `Chain`, with anvil underneath."""

    def __init__(self, journal: tuple[Sent, ...] = (), addresses: dict[str, str] | None = None) -> None:
        self.addresses = {} if addresses is None else addresses
        self.journal = journal
        self.now = journal[-1].at + 1 if journal else START_AT + 1

    def copy(self) -> Chain:
        node().be_at(self.journal)
        node().mark()
        twin = AnvilChain(self.journal, dict(self.addresses))
        twin.now = self.now
        return twin

    def call(self, contract: str, function: str, *args: Any, sender: str = "nobody") -> Any:
        selector, inputs, outputs, entries = _function(contract, function)
        node().be_at(self.journal)
        request = {"from": address_of(sender), "to": self.addresses[contract],
                   "data": encode_hex(selector + encode(inputs, args)), "gas": hex(GAS_LIMIT)}  # fmt: skip
        output = node().rpc("eth_call", request, "latest", {}, {"time": hex(self.now)})
        values = tuple(
            dict(zip((each["name"] for each in entry["components"]), value, strict=True))
            if entry["type"] == "tuple"
            else value
            for entry, value in zip(entries, decode(outputs, decode_hex(output)), strict=True)
        )
        return values[0] if len(values) == 1 else values

    def plant(self, contract: str, slot: int, word: int) -> None:
        node().be_at(self.journal)
        data = slot.to_bytes(32, "big") + word.to_bytes(32, "big")
        node().plant(Sent("", to_canonical_address(self.addresses[contract]), data, self.now - 1))
        self.journal = node().holds

    def _mine(self, sender: str, to: bytes, data: bytes) -> tuple[Any, int]:
        node().be_at(self.journal)
        sent = Sent(sender, to, data, self.now)
        tx_hash = node().send(sent)
        self.journal, self.now = node().holds, self.now + 1
        receipt = node().receipt(tx_hash)
        block = node().rpc("eth_getBlockByNumber", receipt["blockNumber"], False)
        assert int(block["timestamp"], 16) == sent.at
        trace = node().rpc("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        output = decode_hex(trace.get("output") or "0x")
        if int(receipt["status"], 16) == 0:
            raise Reverted(_sentence(output))
        entries = [
            (to_canonical_address(log["address"]), [int(topic, 16) for topic in log["topics"]], decode_hex(log["data"]))
            for log in receipt["logs"]
        ]
        created = to_canonical_address(receipt["contractAddress"]) if receipt["contractAddress"] else to
        computation = SimpleNamespace(
            output=output, get_log_entries=lambda: entries, msg=SimpleNamespace(storage_address=created)
        )
        return computation, int(receipt["gasUsed"], 16)
