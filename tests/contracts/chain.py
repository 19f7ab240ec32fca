"""An in-memory EVM chain for the contract tests: one transaction per block, time given by the test.

It is py-evm's MiningChain, real bytecode and real signatures, without web3 in between. A state can be copied, so a
world is deployed once per session and each test gets its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from eth.chains.base import MiningChain
from eth.consensus import ConsensusApplier, NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.db.backends.memory import MemoryDB
from eth.vm.forks import PragueVM
from eth_abi import decode, encode
from eth_keys import keys
from eth_keys.backends import CoinCurveECCBackend
from eth_utils import keccak, to_canonical_address, to_checksum_address

from contracts.artifacts import Artifact, load
from contracts.eip712 import Signature, Struct, in_signing_order

START_AT = 1_800_000_000
GAS_LIMIT = 60_000_000
FEE_PER_GAS = 10**10
# Everybody who may send a transaction; names are keys.
SENDERS = (
    "deployer", "faucet", "operator", "pauser", "governance", "successor", "treasury", "veto", "anchor",
    "arbiter:1", "arbiter:2", "buyer:1", "buyer:2", "buyer:3", "provider:1", "provider:2", "stranger",
)  # fmt: skip
_REVERT = keccak(b"Error(string)")[:4]
_BACKEND = CoinCurveECCBackend()


class TestChain(MiningChain):
    __test__ = False
    chain_id = 31_337
    vm_configuration = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, PragueVM),))

    def create_header_from_parent(self, parent_header: Any, **header_params: Any) -> Any:
        # The gas limit is a setting of the test, not a vote of miners.
        return super().create_header_from_parent(parent_header, **{**header_params, "gas_limit": GAS_LIMIT})


class Reverted(Exception):
    """A call was refused; `str(e)` is the contract's sentence, empty if it gave none."""


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    """The block must be refused with exactly this sentence."""
    with pytest.raises(Reverted) as caught:
        yield
    assert str(caught.value) == sentence


@dataclass(frozen=True)
class Event:
    contract: str
    name: str
    values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True)
class Receipt:
    returned: Any
    events: tuple[Event, ...]
    gas: int
    at: int

    def one(self, name: str) -> Event:
        (event,) = [each for each in self.events if each.name == name]
        return event


@cache
def private_key(name: str) -> keys.PrivateKey:
    return keys.PrivateKey(keccak(text=f"key of {name}"), _BACKEND)


@cache
def address_of(name: str) -> str:
    return str(private_key(name).public_key.to_checksum_address())


def sign(name: str, struct: Struct, contract: str) -> Signature:
    return sign_digest(name, struct.digest(TestChain.chain_id, contract))


def sign_digest(name: str, digest: bytes) -> Signature:
    raw = private_key(name).sign_msg_hash(digest)
    return Signature(raw.v + 27, raw.r.to_bytes(32, "big"), raw.s.to_bytes(32, "big"))


def sign_all(names: list[str], struct: Struct, contract: str) -> tuple[tuple[int, bytes, bytes], ...]:
    return in_signing_order({address_of(name): sign(name, struct, contract) for name in names})


def _type_of(entry: dict[str, Any]) -> str:
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    inner = ",".join(_type_of(each) for each in entry["components"])
    return f"({inner}){entry['type'].removeprefix('tuple')}"


@cache
def _entries(contract: str, kind: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in load(contract).abi if each["type"] == kind}


@cache
def _function(contract: str, name: str) -> tuple[bytes, list[str], list[str], list[dict[str, Any]]]:
    entry = _entries(contract, "function")[name]
    inputs = [_type_of(each) for each in entry["inputs"]]
    outputs = [_type_of(each) for each in entry["outputs"]]
    return keccak(text=f"{name}({','.join(inputs)})")[:4], inputs, outputs, entry["outputs"]


@cache
def _events(contract: str) -> dict[int, dict[str, Any]]:
    return {
        int.from_bytes(keccak(text=f"{name}({','.join(_type_of(each) for each in entry['inputs'])})"), "big"): entry
        for name, entry in _entries(contract, "event").items()
    }


def _sentence(output: bytes) -> str:
    return str(decode(["string"], output[4:])[0]) if output[:4] == _REVERT else ""


class Chain:
    """Deploys, sends and calls; `now` is the timestamp of the next block."""

    def __init__(self, store: dict[bytes, bytes] | None = None, addresses: dict[str, str] | None = None) -> None:
        self._store = {} if store is None else store
        self._db = AtomicDB(MemoryDB(self._store))
        self.addresses = {} if addresses is None else addresses
        if store is None:
            genesis = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": START_AT, "mix_hash": bytes(32)}
            rich = {"balance": 10**30, "nonce": 0, "code": b"", "storage": {}}
            self._chain = TestChain.from_genesis(
                self._db, genesis, {to_canonical_address(address_of(name)): rich for name in SENDERS}
            )
        else:
            self._chain = TestChain(self._db)
        self.now = int(self._chain.get_canonical_head().timestamp) + 1

    def copy(self) -> Chain:
        twin = Chain(dict(self._store), dict(self.addresses))
        twin.now = self.now
        return twin

    def deploy(self, sender: str, contract: str, *args: Any) -> str:
        return self.deploy_build(sender, load(contract), *args)

    def deploy_build(self, sender: str, artifact: Artifact, *args: Any) -> str:
        """Deploy what was compiled elsewhere under the artefact's name."""
        types = [
            _type_of(each)
            for entry in artifact.abi
            if entry["type"] == "constructor"
            for each in entry["inputs"]
        ]
        computation, _ = self._mine(sender, b"", artifact.bytecode + encode(types, args))
        self.addresses[artifact.name] = to_checksum_address(computation.msg.storage_address)
        return self.addresses[artifact.name]

    def send(self, sender: str, contract: str, function: str, *args: Any) -> Receipt:
        """Mine one transaction in a block at `now`; raises Reverted. The next block is a second later."""
        selector, inputs, outputs, _ = _function(contract, function)
        data = selector + encode(inputs, args)
        at = self.now
        computation, gas = self._mine(sender, to_canonical_address(self.addresses[contract]), data)
        returned = decode(outputs, computation.output) if outputs else ()
        return Receipt(returned[0] if len(returned) == 1 else returned, tuple(self._read_logs(computation)), gas, at)

    def call(self, contract: str, function: str, *args: Any, sender: str = "nobody") -> Any:
        """Ask a view at the timestamp `now`; structs come back as dicts, several values as a tuple."""
        selector, inputs, outputs, entries = _function(contract, function)
        to = to_canonical_address(self.addresses[contract])
        vm = self._chain.get_vm(self._header())
        caller = to_canonical_address(address_of(sender))
        computation = vm.execute_bytecode(
            caller, 0, GAS_LIMIT, to, caller, 0, selector + encode(inputs, args), vm.state.get_code(to)
        )
        if computation.is_error:
            raise Reverted(_sentence(computation.output))
        values = tuple(
            dict(zip((each["name"] for each in entry["components"]), value, strict=True))
            if entry["type"] == "tuple"
            else value
            for entry, value in zip(entries, decode(outputs, computation.output), strict=True)
        )
        return values[0] if len(values) == 1 else values

    def plant(self, contract: str, slot: int, word: int) -> None:
        """Write a storage word as no call could: some guards stand behind others and are out of any call's reach."""
        header = self._header()
        state = self._chain.get_vm(header).state
        state.set_storage(to_canonical_address(self.addresses[contract]), slot, word)
        state.persist()
        self._chain.header = header.copy(state_root=state.state_root)
        result, _, _ = self._chain.mine_all([])
        self.now = int(result.imported_block.header.timestamp) + 1

    def _header(self) -> Any:
        return self._chain.create_header_from_parent(self._chain.get_canonical_head(), timestamp=self.now)

    def _mine(self, sender: str, to: bytes, data: bytes) -> tuple[Any, int]:
        vm = self._chain.get_vm(self._header())
        key = private_key(sender)
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=TestChain.chain_id,
            nonce=vm.state.get_nonce(key.public_key.to_canonical_address()),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=FEE_PER_GAS,
            gas=GAS_LIMIT // 2,
            to=to,
            value=0,
            data=data,
            access_list=(),
        )
        self._chain.header = self._header()
        result, receipts, (computation,) = self._chain.mine_all([unsigned.as_signed_transaction(key)])
        assert result.imported_block.header.timestamp == self.now
        self.now = int(result.imported_block.header.timestamp) + 1
        if computation.is_error:
            raise Reverted(_sentence(computation.output))
        return computation, int(receipts[0].gas_used)

    def _read_logs(self, computation: Any) -> Iterator[Event]:
        names = {to_canonical_address(address): name for name, address in self.addresses.items()}
        for emitter, topics, data in computation.get_log_entries():
            entry = _events(names[emitter])[topics[0]]
            indexed = [each for each in entry["inputs"] if each["indexed"]]
            plain = [each for each in entry["inputs"] if not each["indexed"]]
            values = {
                each["name"]: decode([each["type"]], topic.to_bytes(32, "big"))[0]
                for each, topic in zip(indexed, topics[1:], strict=True)
            }
            found = decode([_type_of(each) for each in plain], data)
            values.update({each["name"]: value for each, value in zip(plain, found, strict=True)})
            yield Event(names[emitter], entry["name"], values)
