"""The machines of the demo's providers: their keys, their simulated proofs, and one proof that is real."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from contracts.eip712 import BenchmarkAttestation, Signature, Struct, machine_id, provider_id
from ledger.rails.base import Chain
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from marketplace.agent.attestation import message_of
from marketplace.agent.panel import ScoreFacts, prove_here
from marketplace.agent.prover import LocalProver
from marketplace.demo.keys import machine_key
from marketplace.demo.rolls import answer_for_all, enrol_unit_provers
from marketplace.demo.world import NodeClass as WorldClass
from marketplace.errors import ProofRefused
from marketplace.parties.models import Party
from marketplace.parties.services import register_party
from marketplace.supply.models import Benchmark, NodeClass
from marketplace.supply.onchain import ensure_address
from marketplace.supply.proof_models import RollAnswer
from marketplace.supply.rolls import call_the_roll
from marketplace.supply.services import Measured, record_benchmark
from marketplace.supply.verifiers import seat_verifier
from pricing.transcript import ReferenceRow

CHALLENGE, BASELINE = 1, 2
PROOF_DAYS = 90
ANSWERED_AFTER = timedelta(minutes=6)  # a roll is open for ten
PROVING_SECONDS = 60  # how long a recorded, simulated proof is said to have taken
TRIES = 20  # a machine that is busy with other work measures below its class; nobody is proven on a bad moment


def verifier_roles() -> list[str]:
    """The signing roles of the demo's verifiers, as many as ATTEST_QUORUM has seats."""
    return [f"verifier:{number}" for number in range(1, settings.ATTEST_QUORUM.seats + 1)]


def places() -> list[str]:
    """Their vantages: all on this machine, and so not independent."""
    return [f"demo desk {number}" for number in range(1, settings.ATTEST_QUORUM.seats + 1)]


class PanelKey:
    """A verifier's key as the panel uses it; the private half stays with the signer."""

    def __init__(self, role: str) -> None:
        self._role = role

    @property
    def address(self) -> str:
        return signer().address(self._role)

    def sign(self, struct: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        return signer().sign_typed(self._role, struct, chain_id=chain_id, verifying_contract=verifying_contract)


def seat_demo_panel(*, now: datetime) -> None:
    """Register the demo's verifiers and seat them: three keys of one server, and every page says so."""
    for number, (role, place) in enumerate(zip(verifier_roles(), places(), strict=True), start=1):
        party = register_party(
            slug=f"verifier-{number}", name=f"Demo verifier {number} (not independent)", kind="verifier",
            country="CH", parent_country="CH", now=now,
        )  # fmt: skip
        seat_verifier(party=party, address=signer().address(role), vantage=place, is_demo=True, now=now)


def call_all_machines(
    pairs: Sequence[tuple[NodeClass, WorldClass]], *, epoch: int, at: datetime, now: datetime
) -> None:
    """Prove these classes, call the roll of every owner among them and let each of its machines answer in one span."""
    codes = {node_class.pk: world_class.code for node_class, world_class in pairs}
    verifiers = list(Party.objects.filter(verifier_seats__address__in=_panel_addresses()).order_by("slug"))
    for node_class, world_class in pairs:
        enrol_unit_provers(node_class, code=world_class.code, now=node_class.enrolled_at)
        prove(node_class=node_class, world_class=world_class, kind=CHALLENGE, epoch=epoch,
              at=at + timedelta(seconds=PROVING_SECONDS), now=now)  # fmt: skip
    for party in {node_class.party_id: node_class.party for node_class, _ in pairs}.values():
        roll = call_the_roll(party=party, now=at)
        if not RollAnswer.objects.filter(member__roll=roll).exists():
            answer_for_all(roll, codes=codes, verifiers=verifiers, at=at + ANSWERED_AFTER)


def _panel_addresses() -> list[str]:
    return [signer().address(role) for role in verifier_roles()]


def prove(
    *, node_class: NodeClass, world_class: WorldClass, kind: int, epoch: int, at: datetime, now: datetime
) -> Benchmark:
    """Record a benchmark of a node class: measured on this machine, or recorded and marked as simulated."""
    standing = Benchmark.objects.filter(node_class=node_class, epoch=epoch).first()
    if standing:
        return standing
    if world_class.benchmark_simulated:
        return _simulated(node_class, world_class, kind, epoch, at, now)
    return _measured(node_class, world_class.code, kind, epoch, at, now)


def _measured(node_class: NodeClass, code: str, kind: int, epoch: int, at: datetime, now: datetime) -> Benchmark:
    """A real chain of exact products on this machine, checked by three verifiers."""
    reference = node_class.resource_class
    here: Chain = chain()
    for attempt in range(1, TRIES + 1):
        proven = prove_here(
            preset="demo", keys=[PanelKey(role) for role in verifier_roles()],
            prover=LocalProver(key=machine_key(code)), vantages=places(), machine_key=machine_key(code).public_bytes,
            provider_address=ensure_address(party=node_class.party), node_class_id=node_class.chain_class,
            # 4 MiB may lie in a cache: this preset shows memory without measuring it, so it is not asked for
            reference_rows=[ReferenceRow(reference.code, reference.ops_per_sec, 0, 0)], epoch=epoch, kind=kind,
            chain_id=here.chain_id, verifying_contract=here.address("stake"), started_at=int(at.timestamp()),
            valid_until=int((at + timedelta(days=PROOF_DAYS)).timestamp()),
        )  # fmt: skip
        if proven.score.resource_class == reference.code:
            break
        if attempt == TRIES:
            raise ProofRefused(
                "This machine measures below its resource class.", claimed=reference.code,
                measured_ops_per_sec=proven.score.ops_per_second, needed_ops_per_sec=reference.ops_per_sec * 85 // 100,
            )  # fmt: skip
    signatures = dict(zip(proven.signers, proven.signatures, strict=True))
    return _keep(
        node_class, proven.attestation, signatures, at, is_simulated=False, transcript=proven.transcript,
        score=proven.score, now=now,
    )  # fmt: skip


def _simulated(
    node_class: NodeClass, world_class: WorldClass, kind: int, epoch: int, at: datetime, now: datetime
) -> Benchmark:
    """A recorded result with real signatures of the demo panel; every page marks it as simulated."""
    here = chain()
    name = f"{world_class.code}/{kind}/{epoch}"
    struct = BenchmarkAttestation(
        provider_id=provider_id(ensure_address(party=node_class.party)), machine_id=machine_id(node_class.chain_class),
        hw_key_hash=bytes(32), kind=kind, seed=_hash("seed", name), challenge_root=_hash("challenge", name),
        transcript_hash=_hash("simulated transcript", name),
        params_hash=_hash("params", world_class.resource_class), ops_per_sec=world_class.ops_per_second,
        mem_bytes=world_class.memory_bytes, mem_bytes_per_sec=world_class.bandwidth_bytes_per_second, rtt_max_km=0,
        started_at=int(at.timestamp()), finished_at=int(at.timestamp()) + PROVING_SECONDS,
        valid_until=int((at + timedelta(days=PROOF_DAYS)).timestamp()), epoch=epoch, panel_root=_hash("panel", "demo"),
    )  # fmt: skip
    keys = [PanelKey(role) for role in verifier_roles()]
    signatures = {key.address: key.sign(struct, **here.domain("stake")) for key in keys}
    return _keep(node_class, struct, signatures, at, is_simulated=True, transcript=None, now=now)


def _keep(
    node_class: NodeClass, struct: BenchmarkAttestation, signatures: dict[str, Signature], at: datetime, *,
    is_simulated: bool, transcript: bytes | None, score: ScoreFacts | None = None, now: datetime,
) -> Benchmark:  # fmt: skip
    moments: dict[str, Any] = {
        name: at + timedelta(seconds=getattr(struct, name) - struct.started_at)
        for name in ("started_at", "finished_at", "valid_until")
    }
    seen: dict[str, Any] = {} if score is None else {
        "preset": score.preset, "backend": score.backend, "jitter_bps": score.jitter_bps,
        "resident_bytes": score.resident_bytes, "sweep_bytes_per_sec": score.sweep_bytes_per_second,
        "radii": score.radii,
    }
    return record_benchmark(
        node_class=node_class, kind=struct.kind, epoch=struct.epoch,
        measured=Measured(
            ops_per_sec=struct.ops_per_sec, mem_bytes=struct.mem_bytes, mem_bytes_per_sec=struct.mem_bytes_per_sec,
            seed=struct.seed, params_hash=struct.params_hash, transcript_hash=struct.transcript_hash, **moments, **seen,
        ),
        message=message_of(struct), is_simulated=is_simulated, transcript=transcript, now=now,
        signatures=[(address, each.v, each.r, each.s) for address, each in sorted(signatures.items())],
    )  # fmt: skip


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode()).digest()
