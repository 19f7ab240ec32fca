"""From a checked transcript to the words a verifier signs: a pure function, so that every signer derives it itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from eth_account import Account

from contracts.eip712 import BenchmarkAttestation, Signature, Struct, machine_id, provider_id
from pricing.proof import digest
from pricing.transcript import ReferenceRow, Score, Transcript, challenge_root, class_of, params_hash

CHALLENGE, BASELINE = 1, 2  # kinds of benchmark: admits to PROBATION, makes PROVEN
HARDWARE_UNATTESTED = bytes(32)


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

    @property
    def binding(self) -> bytes:
        """What goes into the seed: a chain computed for one class, epoch and contract proves nothing for another."""
        contract = bytes.fromhex(self.verifying_contract.removeprefix("0x"))
        numbers = (self.chain_id, self.node_class_id, self.epoch, self.kind)
        return digest(
            b"binding", provider_id(self.provider_address), contract, *(each.to_bytes(32, "big") for each in numbers)
        )


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
        self._account = Account.from_key(private)

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, struct: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        signed = self._account.sign_typed_data(full_message=struct.typed(chain_id, verifying_contract))
        return Signature(signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))


def resource_class_of(score: Score, rows: Sequence[ReferenceRow]) -> str | None:
    """The class that a score reaches. What was not measured counts as 0, so a row that asks for it is not reached."""
    return class_of(
        rows, ops_per_second=score.ops_per_second, memory_bytes=score.memory_bytes,
        memory_bytes_per_second=score.memory_bytes_per_second,
    )  # fmt: skip


def attest(transcript: Transcript, score: Score, terms: Terms) -> BenchmarkAttestation:
    """The attestation of a transcript whose score somebody has checked. What was not measured stands as 0."""
    resource_class = resource_class_of(score, terms.reference_rows)
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
