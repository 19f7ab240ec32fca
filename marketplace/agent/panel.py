"""A panel of verifiers and one prover: commit, reveal, chain, open, check, sign by quorum.

The demo runs a panel of three keys in one process and accepts two of three; its pages say so. The steps are those of a
panel of organisations: each verifier holds its own share, clock, secret rows and vectors, and derives the attestation
itself before it signs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.eip712 import BenchmarkAttestation, Signature
from marketplace.agent.attestation import LocalKey, SigningKey, Terms, attest, resource_class_of
from marketplace.agent.errors import PanelFailed
from marketplace.agent.prover import LocalProver, ProverSession
from marketplace.agent.verifier import Verifier
from pricing.errors import ProofRefused
from pricing.proof import PRESETS, Commitment, Preset
from pricing.transcript import ReferenceRow, Score, Transcript, elapsed_ns, ops_per_second, seed_of, transcript_hash


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
    verifiers: Sequence[Verifier], prover: ProverSession, *, preset: Preset, binding: bytes, quorum: int | None = None
) -> Proof:
    """Run one session. Raises PanelFailed, with each verifier's reason, if fewer than `quorum` accept."""
    share_commitments = [verifier.commit_share(preset, binding) for verifier in verifiers]
    shares = [verifier.reveal_share(share_commitments) for verifier in verifiers]
    for verifier in verifiers:
        verifier.begin(shares)
    prover.start(preset, seed_of(binding, shares, share_commitments))
    refusals: dict[str, ProofRefused] = {}
    nonces, commitments = _run_blocks(verifiers, prover, preset, refusals)
    for verifier in verifiers:
        _open_and_check(verifier, prover, refusals)
    _refuse_without_quorum(verifiers, refusals, quorum or quorum_of(len(verifiers)))
    witnesses = tuple(verifier.witness for verifier in verifiers)
    transcript = Transcript(preset, prover.backend, binding, tuple(nonces), tuple(commitments), witnesses)
    return Proof(transcript, _score_of(transcript), {name: refusal.code for name, refusal in refusals.items()})


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
) -> ProvenBenchmark:
    """Really prove and really verify on this machine (or on `prover`), and sign by quorum.

    `keys` are the panel: private secp256k1 keys (32 bytes) or objects that sign. Times are unix seconds; the attested
    end is `started_at` plus the measured time, rounded up to a second, and the contract accepts no end in its future.
    Raises PanelFailed or AttestationUntrue.
    """
    terms = Terms(
        provider_address=provider_address, node_class_id=node_class_id, epoch=epoch, kind=kind, chain_id=chain_id,
        verifying_contract=verifying_contract, started_at=started_at, valid_until=valid_until,
        reference_rows=tuple(reference_rows),
    )  # fmt: skip
    chosen = PRESETS[preset] if isinstance(preset, str) else preset
    verifiers = [Verifier(LocalKey(key) if isinstance(key, bytes) else key) for key in keys]
    proof = run_panel(verifiers, prover or LocalProver(), preset=chosen, binding=terms.binding, quorum=quorum)
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
    )
    return ProvenBenchmark(
        attestation=attestation,
        signers=tuple(verifier.address for verifier in ordered),
        signatures=tuple(verifier.sign(attestation, terms=terms, transcript=proof.transcript) for verifier in ordered),
        score=facts,
        transcript=proof.transcript.light().to_bytes(),
    )


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


def _open_and_check(verifier: Verifier, prover: ProverSession, refusals: dict[str, ProofRefused]) -> None:
    if verifier.address in refusals:
        return
    try:
        asked = verifier.ask_rows()
        verifier.accept([prover.open_rows(block, rows) for block, rows in enumerate(asked)])
    except ProofRefused as refusal:
        refusals[verifier.address] = refusal


def _refuse_without_quorum(verifiers: Sequence[Verifier], refusals: Mapping[str, ProofRefused], quorum: int) -> None:
    accepted = len(verifiers) - len(refusals)
    if accepted < quorum:
        raise PanelFailed(
            "Too few verifiers accepted the proof.", accepted=accepted, quorum=quorum,
            refusals={name: refusal.code for name, refusal in refusals.items()},
        ) from next(iter(refusals.values()), None)  # fmt: skip


def _score_of(transcript: Transcript) -> Score:
    # Each verifier derives this again, from checked rows, before it signs.
    timelines = [witness.timeline for witness in transcript.witnesses if witness.has_accepted]
    return Score(
        accepted=len(timelines),
        ops_per_second=ops_per_second(transcript.preset, timelines),
        elapsed_ns=elapsed_ns(timelines),
        transcript_hash=transcript_hash(transcript.light().to_bytes()),
    )
