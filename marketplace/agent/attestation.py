"""From a checked transcript to the words a verifier signs: a pure function, so that every signer derives it itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from eth_keys.exceptions import BadSignature, ValidationError

from contracts.eip712 import BenchmarkAttestation, Signature, Struct, machine_id, provider_id
from pricing.proof import digest
from pricing.transcript import ReferenceRow, Score, Transcript, challenge_root, class_of, params_hash

CHALLENGE, BASELINE = 1, 2  # kinds of benchmark: admits to PROBATION, makes PROVEN
HARDWARE_UNATTESTED = bytes(32)
LOW_S_MAX = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # half of secp256k1's order


@dataclass(frozen=True)
class Terms:
    """What a panel is asked to attest, and for which contract."""

    provider_address: str
    node_class_id: int
    epoch: int  # strictly rising per class
    kind: int
    chain_id: int
    verifying_contract: str
    started_at: int  # unix seconds
    valid_until: int  # unix seconds, at most 90 days after the end
    reference_rows: tuple[ReferenceRow, ...]
    hw_key_hash: bytes = HARDWARE_UNATTESTED  # hash of a device's own certificate; unique on chain unless 0
    declared: str = ""  # its own class, which counts if it is reached: two classes may stand close together
    challenge: bytes = b""  # nonce of the market's challenge; none where no market asked

    @property
    def binding(self) -> bytes:
        """What goes into the seed: a chain computed for one class, epoch and contract proves nothing for another."""
        contract = bytes.fromhex(self.verifying_contract.removeprefix("0x"))
        numbers = (self.chain_id, self.node_class_id, self.epoch, self.kind)
        asked = [self.challenge] if self.challenge else []
        return digest(
            b"binding", provider_id(self.provider_address), contract, *(each.to_bytes(32, "big") for each in numbers),
            *asked,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What a challenge of the market says; `from_json` reads it back."""
        told = asdict(self) | {"hw_key_hash": self.hw_key_hash.hex(), "challenge": self.challenge.hex()}
        return told | {"reference_rows": [asdict(row) for row in self.reference_rows]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Terms":
        """Read terms back. Raises KeyError, TypeError or ValueError for what is none."""
        rows = tuple(ReferenceRow(**row) for row in told["reference_rows"])
        read = {name: bytes.fromhex(told[name]) for name in ("hw_key_hash", "challenge")}
        return cls(**{**told, **read, "reference_rows": rows})


class SigningKey(Protocol):
    """A verifier's secp256k1 key, wherever it is kept."""

    @property
    def address(self) -> str:
        """The checksum address."""

    def sign(self, struct: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        """An EIP-712 signature with s in the lower half."""


class LocalKey:
    """A verifier's key held in this process."""

    def __init__(self, private: bytes) -> None:
        from eth_account import Account  # a second of every process's start, here and below

        self._account = Account.from_key(private)

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, struct: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        signed = self._account.sign_typed_data(full_message=struct.typed(chain_id, verifying_contract))
        return Signature(signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))


def resource_class_of(score: Score, rows: Sequence[ReferenceRow], declared: str = "") -> str | None:
    """The class that a score reaches: the declared one, else the highest.

    What was not measured counts as 0, so a row that asks for it is not reached.
    """

    def reached(some: Sequence[ReferenceRow]) -> str | None:
        return class_of(
            some, ops_per_second=score.ops_per_second, memory_bytes=score.memory_bytes,
            memory_bytes_per_second=score.memory_bytes_per_second,
        )  # fmt: skip

    return reached([row for row in rows if row.resource_class == declared]) or reached(rows)


def attest(transcript: Transcript, score: Score, terms: Terms) -> BenchmarkAttestation:
    """The attestation of a transcript whose score somebody has checked. What was not measured stands as 0."""
    resource_class = resource_class_of(score, terms.reference_rows, terms.declared)
    panel = sorted(bytes.fromhex(witness.name.removeprefix("0x")) for witness in transcript.witnesses)
    return BenchmarkAttestation(
        provider_id=provider_id(terms.provider_address),
        machine_id=machine_id(terms.node_class_id),
        hw_key_hash=terms.hw_key_hash,
        kind=terms.kind,
        seed=transcript.seed,
        challenge_root=challenge_root(transcript),
        transcript_hash=score.transcript_hash,
        params_hash=params_hash(
            preset=transcript.preset, backend=transcript.backend, resource_class=resource_class or ""
        ),
        ops_per_sec=score.ops_per_second,
        mem_bytes=score.memory_bytes,
        mem_bytes_per_sec=score.memory_bytes_per_second,
        rtt_max_km=score.radius_km,
        started_at=terms.started_at,
        finished_at=terms.started_at + -(-score.elapsed_ns // 1_000_000_000),
        valid_until=terms.valid_until,
        epoch=terms.epoch,
        panel_root=digest(b"panel", *panel),
    )


def message_of(attestation: BenchmarkAttestation) -> dict[str, Any]:
    """The struct as JSON: bytes as 0x hex."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else value for name, value in vars(attestation).items()
    }


def signer_of(attestation: BenchmarkAttestation, signature: Signature, terms: Terms) -> str:
    """The checksum address whose key signed; empty for what is no signature, or has its s in the upper half."""
    if int.from_bytes(signature.s, "big") > LOW_S_MAX:
        return ""
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    message = encode_typed_data(full_message=attestation.typed(terms.chain_id, terms.verifying_contract))
    vrs = (signature.v, int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
    try:
        return str(Account.recover_message(message, vrs=vrs))
    except (ValueError, ValidationError, BadSignature):
        return ""
