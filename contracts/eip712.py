"""Typed structs that buyers, custody, verifiers and panels sign (EIP-712), shared by the rails and the agent.

Domain: name `GroveExchange`, version `1`, chain id, verifying contract. Which contract verifies what:

    Mandate                 escrow
    Verdict                 stake (to slash) or escrow (to forfeit holdback): two domains, neither serves as the other
    ClassAttestation        stake
    BenchmarkAttestation    stake
    Resumption              stake
    Permit                  the token, whose domain name is its own name (EIP-2612)

Python names are snake_case, the signed names camelCase (`zone_mask` is signed as `zoneMask`); the order of the fields
is the order of the signature and of the ABI tuple.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Final

from eth_utils.crypto import keccak

DOMAIN_NAME: Final = "GroveExchange"
DOMAIN_VERSION: Final = "1"
_DOMAIN_TYPE: Final = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@dataclass(frozen=True)
class Signature:
    """A secp256k1 signature as the contracts take it: v 27 or 28, s in the lower half."""

    v: int
    r: bytes  # 32 bytes
    s: bytes  # 32 bytes

    def abi(self) -> tuple[int, bytes, bytes]:
        """Return the ABI tuple (uint8 v, bytes32 r, bytes32 s)."""
        return (self.v, self.r, self.s)


class Struct:
    """What each typed struct can do; the subclasses are frozen dataclasses that name their Solidity types."""

    primary_type: ClassVar[str]
    solidity_types: ClassVar[tuple[str, ...]]  # one per field, in order
    domain_name: ClassVar[str] = DOMAIN_NAME

    def abi(self) -> tuple[Any, ...]:
        """Return the values in field order, as a contract call takes the struct."""
        return tuple(getattr(self, each.name) for each in fields(self))  # type: ignore[arg-type]

    def typed(self, chain_id: int, verifying_contract: str) -> dict[str, Any]:
        """Return the full EIP-712 message: types, primaryType, domain, message."""
        names = [_camel(each.name) for each in fields(self)]  # type: ignore[arg-type]
        return {
            "types": {
                "EIP712Domain": _DOMAIN_TYPE,
                self.primary_type: [
                    {"name": name, "type": kind} for name, kind in zip(names, self.solidity_types, strict=True)
                ],
            },
            "primaryType": self.primary_type,
            "domain": {
                "name": self.domain_name,
                "version": DOMAIN_VERSION,
                "chainId": chain_id,
                "verifyingContract": verifying_contract,
            },
            "message": dict(zip(names, self.abi(), strict=True)),
        }

    def digest(self, chain_id: int, verifying_contract: str) -> bytes:
        """Return the 32 bytes that are signed: keccak(0x1901, domain separator, struct hash)."""
        # Our structs are flat and of one word a field, so the general encoder (100 times slower) is not needed here;
        # a test compares the two.
        body = keccak(self.type_string().encode()) + b"".join(
            _word(kind, part) for kind, part in zip(self.solidity_types, self.abi(), strict=True)
        )
        return keccak(b"\x19\x01" + _separator(self.domain_name, chain_id, verifying_contract) + keccak(body))

    @classmethod
    def type_string(cls) -> str:
        """Return the EIP-712 type, e.g. `Mandate(address buyer,uint32 window,...)`, as the contracts hash it."""
        names = (_camel(each.name) for each in fields(cls))  # type: ignore[arg-type]
        inner = ",".join(f"{kind} {name}" for kind, name in zip(cls.solidity_types, names, strict=True))
        return f"{cls.primary_type}({inner})"


@dataclass(frozen=True)
class Mandate(Struct):
    """What a buyer lets the operator lock in one window, and under which compliance rules."""

    primary_type = "Mandate"
    solidity_types = ("address", "uint32", "uint64", "uint256", "uint8", "uint256", "uint64", "uint64")

    buyer: str
    window: int
    max_spend: int  # micro-USD, over all locks under this nonce
    zone_mask: int  # jurisdictions where the machines may stand
    min_tier: int
    parent_mask: int  # jurisdictions of owner, operator and keys
    nonce: int
    expiry: int  # unix seconds; the mandate works before it


@dataclass(frozen=True)
class ClassAttestation(Struct):
    """What the compliance panel vouches for about a node class: who owns it, where it is, how much it may carry."""

    primary_type = "ClassAttestation"
    solidity_types = (
        "address", "uint64", "uint8", "uint8", "uint8", "uint8", "uint8", "uint64", "uint64", "uint64",
    )  # fmt: skip

    provider: str
    node_class: int
    site: int  # jurisdiction index, as are the next three
    parent: int
    operator: int
    keys: int
    tier: int  # 0..3
    exposure_cap: int  # micro-USD that may be locked for the class at once
    expires: int  # unix seconds; must reach the end of a window to be locked for it
    nonce: int  # strictly rising per class


@dataclass(frozen=True)
class BenchmarkAttestation(Struct):
    """What the verifier panel measured: `kind` 1 challenge (admits to PROBATION), 2 baseline (PROVEN)."""

    primary_type = "BenchmarkAttestation"
    solidity_types = (
        "bytes32", "bytes32", "bytes32", "uint8", "bytes32", "bytes32", "bytes32", "bytes32",
        "uint64", "uint64", "uint64", "uint32", "uint64", "uint64", "uint64", "uint32", "bytes32",
    )  # fmt: skip

    provider_id: bytes  # see provider_id()
    machine_id: bytes  # see machine_id()
    hw_key_hash: bytes  # 32 zero bytes: hardware identity unattested
    kind: int
    seed: bytes
    challenge_root: bytes
    transcript_hash: bytes
    params_hash: bytes  # the spec: suite version, preset, backend, resource class
    ops_per_sec: int
    mem_bytes: int
    mem_bytes_per_sec: int
    rtt_max_km: int
    started_at: int  # unix seconds
    finished_at: int
    valid_until: int  # at most 90 days after finished_at
    epoch: int  # strictly rising per class
    panel_root: bytes


@dataclass(frozen=True)
class Verdict(Struct):
    """What the slash panel found: which lease line was broken, when, and what it costs (micro-USD)."""

    primary_type = "Verdict"
    solidity_types = ("bytes32", "uint64", "uint32", "uint16", "uint64", "uint8", "uint64", "uint64", "uint64")

    evidence: bytes  # hash of the evidence bundle; works once
    node_class: int
    batch: int  # the lock batch that holds the lease
    line: int  # position of the lease in the batch
    amount: int
    kind: int  # 1 second breach, 2 third or later, 3 severe, 9 proof fraud
    breach_at: int  # unix seconds
    nonce: int  # one verdict per class and nonce takes effect
    expires: int  # unix seconds; last moment the verdict may be brought


@dataclass(frozen=True)
class Resumption(Struct):
    """The compliance panel's word that a suspended class may be locked for again."""

    primary_type = "Resumption"
    solidity_types = ("uint64", "uint64", "uint64")

    node_class: int
    nonce: int  # shares the strictly rising nonces of ClassAttestation
    expires: int


@dataclass(frozen=True)
class Permit(Struct):
    """EIP-2612 approval of the test stablecoin; the signed name of the fourth field is the standard's `value`."""

    primary_type = "Permit"
    solidity_types = ("address", "address", "uint256", "uint256", "uint256")
    domain_name = "Grove Test Dollar"

    owner: str
    spender: str
    value: int
    nonce: int
    deadline: int


@lru_cache(maxsize=64)
def _separator(name: str, chain_id: int, verifying_contract: str) -> bytes:
    """The domain separator of EIP-712."""
    type_string = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    return keccak(
        keccak(type_string)
        + keccak(name.encode())
        + keccak(DOMAIN_VERSION.encode())
        + _word("uint256", chain_id)
        + _word("address", verifying_contract)
    )


def _word(kind: str, part: int | bytes | str) -> bytes:
    """One static value as its 32 bytes; raises ValueError for a value that its type cannot hold."""
    if kind == "address" and isinstance(part, str):
        raw = bytes.fromhex(part.removeprefix("0x"))
        if len(raw) == 20:
            return bytes(12) + raw
    elif kind == "bytes32" and isinstance(part, bytes) and len(part) == 32:
        return part
    elif kind.startswith("uint") and isinstance(part, int) and 0 <= part < 1 << int(kind.removeprefix("uint")):
        return part.to_bytes(32, "big")
    raise ValueError(f"{part!r} is no {kind}")


def provider_id(address: str) -> bytes:
    """Return a provider's address left-padded to 32 bytes, as `BenchmarkAttestation.provider_id` wants it."""
    return bytes(12) + bytes.fromhex(address.removeprefix("0x"))


def machine_id(node_class: int) -> bytes:
    """Return a class id left-padded to 32 bytes, as `BenchmarkAttestation.machine_id` wants it."""
    return node_class.to_bytes(32, "big")


def in_signing_order(signed: dict[str, Signature]) -> tuple[tuple[int, bytes, bytes], ...]:
    """Return the signatures of {signer address: signature} as ABI tuples, strictly rising by address."""
    ordered = sorted(signed.items(), key=lambda item: int(item[0], 16))
    return tuple(signature.abi() for _, signature in ordered)
