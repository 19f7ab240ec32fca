"""Compiled contracts as committed in `contracts/build/`: the runtime needs no compiler."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

BUILD = Path(__file__).with_name("build")
NAMES: Final = ("token", "stake", "escrow", "anchor")  # in the order they are deployed


@dataclass(frozen=True)
class Artifact:
    """One compiled contract: what is deployed (`bytecode`) and how it is spoken to (`abi`)."""

    name: str
    abi: tuple[dict[str, Any], ...]  # the JSON ABI, whole
    bytecode: bytes  # creation code; constructor arguments are appended to it
    integrity: str  # the compiler's hash over this source, its imports and its settings
    compiler: str  # e.g. "vyper 0.4.3"
    evm_version: str  # e.g. "cancun"

    def constructor_inputs(self) -> tuple[tuple[str, str], ...]:
        """Return (name, ABI type) of each constructor argument, in order."""
        for entry in self.abi:
            if entry["type"] == "constructor":
                return tuple((each["name"], each["type"]) for each in entry["inputs"])
        return ()


@cache
def load(name: str) -> Artifact:
    """Return the committed artefact of `token`, `stake`, `escrow` or `anchor`; raises ValueError for other names."""
    if name not in NAMES:
        raise ValueError(f"no such contract: {name!r}; there are {', '.join(NAMES)}")
    body = json.loads((BUILD / f"{name}.json").read_text(encoding="ascii"))
    return Artifact(
        name=name,
        abi=tuple(body["abi"]),
        bytecode=bytes.fromhex(body["bytecode"].removeprefix("0x")),
        integrity=body["integrity"],
        compiler=body["compiler"],
        evm_version=body["evm_version"],
    )
