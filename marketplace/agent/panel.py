"""A panel of verifiers and one prover: commit, reveal, echo, chain, sweep, read, open, check, sign by quorum.

The demo runs a panel of three keys in one process and accepts two of three; its pages say so. The steps are those of a
panel of organisations: each verifier holds its own share, clock, secret rows and vectors, and derives the attestation
itself before it signs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.eip712 import BenchmarkAttestation, Signature
from marketplace.agent import clock
from marketplace.agent.attestation import (
    HARDWARE_UNATTESTED,
    LocalKey,
    SigningKey,
    Terms,
    attest,
    resource_class_of,
)
from marketplace.agent.backends import backend_for
from marketplace.agent.errors import PanelFailed
from marketplace.agent.measuring import passes_for
from marketplace.agent.prover import LocalProver, ProverSession
from marketplace.agent.verifier import Verifier
from pricing.errors import EchoRefused, ProofRefused
from pricing.overlap import sized_in_time
from pricing.presets import PILOT, choose, opens_directly
from pricing.proof import PRESETS, Commitment, Preset
from pricing.residency import ECHOES_MIN
from pricing.sweep import Sweep
from pricing.transcript import ReferenceRow, Score, Transcript, score_of, seed_of

PILOTS_MAX = 3  # a pilot is a guess: more verifiers would make it no better
RATE_SIZE, RATE_ROWS = 1024, 64


@dataclass(frozen=True)
class Proof:
    """A chain that a quorum of a panel accepted."""

    transcript: Transcript  # with advice rows
    score: Score
    refusals: Mapping[str, str]  # verifier address -> code, of those that did not accept


@dataclass(frozen=True)
class ScoreFacts:
    """What the catalogue and the pages show of a proof."""

    ops_per_second: int
    elapsed_ns: int  # last root - first nonce, median of the verifiers
    resource_class: str | None  # None: the score reaches no class
    preset: str
    backend: str
    accepted: int  # verifiers that accepted
    panel: int  # verifiers that sat
    jitter_bps: int  # p95 over p50 of the block times
    resident_bytes: int  # shown to be in memory, however small
    sweep_bytes_per_second: int
    radii: tuple[tuple[str, int], ...]  # (vantage, km)


@dataclass(frozen=True)
class ProvenBenchmark:
    """All that `prove` on chain and the evidence store need."""

    attestation: BenchmarkAttestation
    signers: tuple[str, ...]  # checksum addresses, strictly rising
    signatures: tuple[Signature, ...]  # in the order of the signers
    score: ScoreFacts
    transcript: bytes  # light form; its SHA-256 is attestation.transcript_hash


def quorum_of(verifiers: int) -> int:
    """Two thirds, rounded up: 2 of 3, 5 of 7, 6 of 9."""
    return -(-2 * verifiers // 3)


def run_panel(
    verifiers: Sequence[Verifier], prover: ProverSession, *, preset: Preset, binding: bytes, quorum: int | None = None,
    machine_key: bytes | None = None, owner: str = "", is_measured: bool = True, is_direct: bool = False,
) -> Proof:  # fmt: skip
    """Run one session. Raises PanelFailed, with each verifier's reason, if fewer than `quorum` accept.

    `machine_key` is the enrolled key, whose echoes alone count; `owner` the ultimate owner of the machine, of whose own
    organisations nobody sits. Unless `is_measured` the chain alone is proved: no echoes, no memory.
    """
    _refuse_own(verifiers, owner)
    share_commitments = [verifier.commit_share(preset, binding) for verifier in verifiers]
    shares = [verifier.reveal_share(share_commitments) for verifier in verifiers]
    for verifier in verifiers:
        verifier.begin(shares)
    seed = seed_of(binding, shares, share_commitments)
    prover.start(preset, seed)
    refusals: dict[str, ProofRefused] = {}
    if is_measured:
        echo(verifiers, prover, seed, machine_key, refusals)
    nonces, commitments = _run_blocks(verifiers, prover, preset, refusals)
    swept = _sweep_and_read(verifiers, prover, preset, refusals) if is_measured else None
    for verifier in verifiers:
        open_and_check(verifier, prover, refusals, advice=not is_direct)
    _refuse_without_quorum(verifiers, refusals, quorum or quorum_of(len(verifiers)))
    witnesses = tuple(verifier.witness for verifier in verifiers)
    transcript = Transcript(
        preset, prover.backend, binding, tuple(nonces), tuple(commitments), witnesses,
        machine_key=prover.machine_key if is_measured else b"", sweep=swept,
    )  # fmt: skip
    return Proof(transcript, score_of(transcript), {name: refusal.code for name, refusal in refusals.items()})


def choose_preset(
    verifiers: Sequence[Verifier], prover: ProverSession, *, purpose: str, memory_bytes: int = 0,
    is_in_time: bool = False,
) -> tuple[Preset, bool]:  # fmt: skip
    """The row of the ladder for this machine and whether its rows are opened directly.

    With `is_in_time` a chain that lasts about as long as every other machine's (`pricing.overlap`).

    From one pilot block that every verifier times, each with a nonce of its own; the median counts. The pilot's seed is
    nobody's secret: a block of it proves nothing. A pilot costs about a second of a slow machine.
    """
    prover.start(PILOT, bytes(32))
    spans = sorted(verifier.time_pilot(prover.commit_block) for verifier in verifiers[:PILOTS_MAX])
    pilot_ns = spans[(len(spans) - 1) // 2]
    preset = sized_in_time(pilot_ns) if is_in_time else choose(purpose, pilot_ns=pilot_ns, memory_bytes=memory_bytes)
    rate = PILOT.operations * 1_000_000_000 // pilot_ns
    return preset, opens_directly(preset, prover_ops_per_second=rate, checker_ops_per_second=own_rate())


def prove_here(
    *,
    preset: str | Preset,
    keys: Sequence[bytes | SigningKey],
    provider_address: str,
    node_class_id: int,
    reference_rows: Sequence[ReferenceRow],
    epoch: int,
    kind: int,
    chain_id: int,
    verifying_contract: str,
    started_at: int,
    valid_until: int,
    quorum: int | None = None,
    prover: ProverSession | None = None,
    vantages: Sequence[str] = (),
    machine_key: bytes | None = None,
    hw_key_hash: bytes = HARDWARE_UNATTESTED,
) -> ProvenBenchmark:
    """Really prove and really verify on this machine (or on `prover`), and sign by quorum.

    `keys` are the panel: private secp256k1 keys (32 bytes) or objects that sign. Times are unix seconds; the attested
    end is `started_at` plus the measured time, rounded up to a second, and the contract accepts no end in its future.
    `vantages` name where each verifier stands. Raises PanelFailed or AttestationUntrue.
    """
    terms = Terms(
        provider_address=provider_address, node_class_id=node_class_id, epoch=epoch, kind=kind, chain_id=chain_id,
        verifying_contract=verifying_contract, started_at=started_at, valid_until=valid_until,
        reference_rows=tuple(reference_rows), hw_key_hash=hw_key_hash,
    )  # fmt: skip
    chosen = PRESETS[preset] if isinstance(preset, str) else preset
    places = [*vantages, *[""] * len(keys)]
    verifiers = [
        Verifier(LocalKey(key) if isinstance(key, bytes) else key, vantage=place)
        for key, place in zip(keys, places, strict=False)
    ]
    proof = run_panel(
        verifiers, prover or LocalProver(), preset=chosen, binding=terms.binding, quorum=quorum, machine_key=machine_key
    )
    return sign_proof(verifiers, proof, terms)


def sign_proof(verifiers: Sequence[Verifier], proof: Proof, terms: Terms) -> ProvenBenchmark:
    """The attestation of a proof with the signatures of all verifiers that accepted it, rising by address."""
    attestation = attest(proof.transcript, proof.score, terms)
    accepting = [verifier for verifier in verifiers if verifier.address not in proof.refusals]
    ordered = sorted(accepting, key=lambda verifier: int(verifier.address, 16))
    facts = ScoreFacts(
        ops_per_second=proof.score.ops_per_second,
        elapsed_ns=proof.score.elapsed_ns,
        resource_class=resource_class_of(proof.score, terms.reference_rows),
        preset=proof.transcript.preset.name,
        backend=proof.transcript.backend,
        accepted=len(accepting),
        panel=len(verifiers),
        jitter_bps=proof.score.jitter_bps,
        resident_bytes=proof.score.resident_bytes,
        sweep_bytes_per_second=proof.score.sweep_bytes_per_second,
        radii=proof.score.radii,
    )
    return ProvenBenchmark(
        attestation=attestation,
        signers=tuple(verifier.address for verifier in ordered),
        signatures=tuple(verifier.sign(attestation, terms=terms, transcript=proof.transcript) for verifier in ordered),
        score=facts,
        transcript=proof.transcript.light().to_bytes(),
    )


def _refuse_own(verifiers: Sequence[Verifier], owner: str) -> None:
    own = [verifier.address for verifier in verifiers if owner and verifier.organisation == owner]
    if own:
        raise PanelFailed("A verifier does not sit over a machine of its own organisation.", own=own, owner=owner)


def echo(
    verifiers: Sequence[Verifier], prover: ProverSession, seed: bytes, machine_key: bytes | None,
    refusals: dict[str, ProofRefused],
) -> None:  # fmt: skip
    """Let each verifier time its echoes; a refusal is noted under its address."""
    for verifier in verifiers:
        verifier.know_machine(prover.machine_key)
        try:
            if machine_key is not None and prover.machine_key != machine_key:
                raise EchoRefused("Another machine answers than the one that is enrolled.")
            for _ in range(ECHOES_MIN):
                nonce = verifier.measuring.echo_sent()
                signature = prover.echo(verifier.measuring.vantage, nonce)
                verifier.measuring.echo_arrived(nonce, signature, seed=seed, machine_key=prover.machine_key)
        except ProofRefused as refusal:
            refusals[verifier.address] = refusal


def _sweep_and_read(
    verifiers: Sequence[Verifier], prover: ProverSession, preset: Preset, refusals: dict[str, ProofRefused]
) -> Sweep:
    nonce = verifiers[preset.blocks % len(verifiers)].new_nonce()
    passes = passes_for(preset, rtt_max_ns=max(verifier.measuring.rtt_max_ns for verifier in verifiers))
    for verifier in verifiers:
        verifier.measuring.sweep_sent(nonce)
    digests = prover.sweep(nonce, passes)
    for verifier in verifiers:
        verifier.measuring.sweep_arrived(digests)
    sums = prover.sums()
    for verifier in verifiers:
        if verifier.address in refusals:
            continue
        try:
            for block, row in verifier.measuring.take_sums(preset, sums):
                verifier.measuring.read_sent()
                verifier.measuring.read_arrived(prover.read(block, row))
        except ProofRefused as refusal:
            refusals[verifier.address] = refusal
    return Sweep(nonce, digests)


def _run_blocks(
    verifiers: Sequence[Verifier], prover: ProverSession, preset: Preset, refusals: dict[str, ProofRefused]
) -> tuple[list[bytes], list[Commitment]]:
    nonces: list[bytes] = []
    commitments: list[Commitment] = []
    for block in range(preset.blocks):
        nonce = verifiers[block % len(verifiers)].new_nonce()
        for verifier in verifiers:
            verifier.nonce_sent(nonce)
        commitment = prover.commit_block(nonce)
        for verifier in verifiers:
            try:
                verifier.root_arrived(commitment)
            except ProofRefused as refusal:
                refusals[verifier.address] = refusal
        nonces.append(nonce)
        commitments.append(commitment)
    return nonces, commitments


def open_and_check(
    verifier: Verifier, prover: ProverSession, refusals: dict[str, ProofRefused], *, advice: bool
) -> None:
    """Let a verifier that has refused nothing so far open its rows and check them; a refusal is noted."""
    if verifier.address in refusals:
        return
    try:
        asked = verifier.ask_rows()
        verifier.accept([prover.open_rows(block, rows, advice=advice) for block, rows in enumerate(asked)])
    except ProofRefused as refusal:
        refusals[verifier.address] = refusal


def _refuse_without_quorum(verifiers: Sequence[Verifier], refusals: Mapping[str, ProofRefused], quorum: int) -> None:
    accepted = len(verifiers) - len(refusals)
    if accepted < quorum:
        raise PanelFailed(
            "Too few verifiers accepted the proof.", accepted=accepted, quorum=quorum,
            refusals={name: refusal.code for name, refusal in refusals.items()},
        ) from next(iter(refusals.values()), None)  # fmt: skip


def own_rate() -> int:
    """What one direct recomputation of some rows comes to on this verifier's machine, operations per second."""
    backend = backend_for("float32")
    backend.load(np.ones((RATE_SIZE, RATE_SIZE), np.int8))
    rows = np.ones((RATE_ROWS, RATE_SIZE), np.int8)
    backend.product(rows)
    started_ns = clock.monotonic_ns()
    backend.product(rows)
    return 2 * RATE_ROWS * RATE_SIZE**2 * 1_000_000_000 // max(1, clock.monotonic_ns() - started_ns)
