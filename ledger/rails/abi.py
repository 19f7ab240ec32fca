"""Calls, results, logs and reverts between Python values and the bytes of the contract ABI.

web3's contract objects do the same with more checks and about ten times the work per call; the sender encodes hundreds
of calls in a batch, so the codec is used directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.hexadecimal import encode_hex

from contracts.artifacts import load
from ledger.rails.errors import FunctionUnknown

ERROR_SELECTOR = keccak(text="Error(string)")[:4]
PANIC_SELECTOR = keccak(text="Panic(uint256)")[:4]
SENTENCE_CHARACTERS_MAX = 300


@dataclass(frozen=True)
class Function:
    """One way to call a function; Vyper's default arguments make several of one name."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    selector: bytes


@dataclass(frozen=True)
class Event:
    """One event: names and ABI types, the indexed ones marked."""

    contract: str
    name: str
    inputs: tuple[tuple[str, str, bool], ...]
    topic: bytes


def encode_call(contract: str, function: str, arguments: Sequence[Any]) -> bytes:
    """The calldata of one call. Structs of `contracts.eip712` are taken as they are.

    Raises `FunctionUnknown` if the name, the number of arguments or a value does not fit.
    """
    found = function_of(contract, function, len(arguments))
    try:
        return found.selector + encode(found.inputs, [_plain(each) for each in arguments])
    except (EncodingError, TypeError, ValueError) as error:
        raise FunctionUnknown(
            f"{contract}.{function} does not take these arguments: {error}", contract=contract, function=function
        ) from error


def encode_constructor(contract: str, arguments: Sequence[Any]) -> bytes:
    """Creation code with the constructor's arguments behind it."""
    kinds = [kind for _, kind in _constructor(contract)]
    return load(contract).bytecode + encode(kinds, [_plain(each) for each in arguments])


def decode_result(contract: str, function: str, argument_count: int, data: bytes) -> Any:
    """What a view returned: one value, or a tuple of several; addresses in checksum form."""
    found = function_of(contract, function, argument_count)
    values = tuple(
        _readable(kind, value) for kind, value in zip(found.outputs, decode(found.outputs, data), strict=True)
    )
    return values[0] if len(values) == 1 else values


def decode_log(contract: str, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of one log of `contract`, or None if its ABI has no such event."""
    event = _events(contract).get(topics[0]) if topics else None
    if event is None:
        return None
    plain = decode([kind for _, kind, indexed in event.inputs if not indexed], data)
    unindexed, indexed_words = iter(plain), iter(topics[1:])
    arguments = {}
    for name, kind, indexed in event.inputs:
        value = decode([kind], next(indexed_words))[0] if indexed else next(unindexed)
        arguments[name] = _readable(kind, value)
    return event.name, arguments


def revert_sentence(output: bytes) -> str:
    """The contract's own sentence if it gave one, else what is known, never empty."""
    try:
        if output[:4] == ERROR_SELECTOR:
            return str(decode(["string"], output[4:])[0])[:SENTENCE_CHARACTERS_MAX]
        if output[:4] == PANIC_SELECTOR:
            return f"panic 0x{decode(['uint256'], output[4:])[0]:02x}"
    except DecodingError:
        pass
    if output:
        return f"reverted with {encode_hex(output[:68])}"
    return "reverted without a reason: a check of the compiler, or out of gas"


def function_of(contract: str, function: str, argument_count: int) -> Function:
    """The function as the ABI declares it for that many arguments. Raises `FunctionUnknown`."""
    found = _functions(contract).get((function, argument_count))
    if found is None:
        raise FunctionUnknown(
            f"{contract} has no function {function} with {argument_count} arguments.",
            contract=contract, function=function, arguments=argument_count,
        )  # fmt: skip
    return found


@cache
def _functions(contract: str) -> dict[tuple[str, int], Function]:
    found = {}
    for entry in load(contract).abi:
        if entry["type"] == "function":
            inputs, outputs = _types(entry["inputs"]), _types(entry["outputs"])
            selector = keccak(text=f"{entry['name']}({','.join(inputs)})")[:4]
            found[entry["name"], len(inputs)] = Function(entry["name"], inputs, outputs, selector)
    return found


@cache
def _events(contract: str) -> dict[bytes, Event]:
    found = {}
    for entry in load(contract).abi:
        if entry["type"] == "event":
            inputs = tuple((each["name"], _type(each), bool(each["indexed"])) for each in entry["inputs"])
            topic = keccak(text=f"{entry['name']}({','.join(kind for _, kind, _ in inputs)})")
            found[topic] = Event(contract, entry["name"], inputs, topic)
    return found


def _constructor(contract: str) -> Iterator[tuple[str, str]]:
    for entry in load(contract).abi:
        if entry["type"] == "constructor":
            yield from ((each["name"], _type(each)) for each in entry["inputs"])


def _types(inputs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(_type(each) for each in inputs)


def _type(entry: Mapping[str, Any]) -> str:
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_types(entry['components']))}){kind.removeprefix('tuple')}"


def _plain(value: Any) -> Any:
    """Structs as tuples, all the way down."""
    if hasattr(value, "abi"):
        return _plain(value.abi())
    if isinstance(value, list | tuple):
        return tuple(_plain(each) for each in value)
    return value


def _readable(kind: str, value: Any) -> Any:
    if kind == "address":
        return to_checksum_address(value)
    if kind == "address[]":
        return tuple(to_checksum_address(each) for each in value)
    return value
