"""A panel of three verifiers and one prover: what a quorum signs, and what nobody signs."""

import secrets
from dataclasses import replace
from threading import Thread

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from contracts.eip712 import machine_id, provider_id
from marketplace.agent.attestation import LocalKey, Terms, attest
from marketplace.agent.errors import AttestationUntrue, OutOfTurn, PanelFailed, ServerRefused, ServerUnreachable
from marketplace.agent.panel import prove_here, quorum_of, run_panel, sign_proof
from marketplace.agent.prover import HttpProver, LocalProver, ProverServer
from marketplace.agent.verifier import Verifier
from pricing.errors import NonceRefused
from pricing.proof import Preset
from pricing.transcript import ReferenceRow, Transcript, transcript_hash, verify_again

pytestmark = pytest.mark.usefixtures("unhurried")

SMALL = Preset("small", size=256, products=3, blocks=4, rows_opened=8, root_deadline_ms=5000)
KEYS = [bytes([number]) * 32 for number in (1, 2, 3)]
CONTRACT, PROVIDER = "0x" + "22" * 20, "0x" + "11" * 20
START = 1_790_000_000
TERMS = Terms(
    provider_address=PROVIDER, node_class_id=7, epoch=3, kind=1, chain_id=31337, verifying_contract=CONTRACT,
    started_at=START, valid_until=START + 86_400 * 90, reference_rows=(ReferenceRow("CPU", 1),),
)  # fmt: skip


def prove(**changes):
    known = {
        "preset": SMALL, "keys": KEYS, "provider_address": PROVIDER, "node_class_id": 7, "epoch": 3, "kind": 1,
        "reference_rows": TERMS.reference_rows, "chain_id": 31337, "verifying_contract": CONTRACT,
        "started_at": START, "valid_until": TERMS.valid_until,
    }  # fmt: skip
    return prove_here(**known | changes)


def panel(**changes):
    return [Verifier(LocalKey(key), **changes) for key in KEYS]


# --- honest --------------------------------------------------------------------------------------------------------


def test_three_verifiers_sign_what_they_measured():
    proven = prove()

    assert proven.score.accepted == 3
    assert proven.score.resource_class == "CPU"
    assert list(proven.signers) == sorted(proven.signers, key=lambda address: int(address, 16))
    assert set(proven.signers) == {LocalKey(key).address for key in KEYS}
    message = encode_typed_data(full_message=proven.attestation.typed(31337, CONTRACT))
    for signer, signature in zip(proven.signers, proven.signatures, strict=True):
        words = (signature.v, int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
        assert Account.recover_message(message, vrs=words) == signer


def test_the_attestation_says_what_the_transcript_proves():
    proven = prove()
    attestation = proven.attestation

    again = verify_again(proven.transcript, entropy=secrets.token_bytes(32))

    assert attestation.transcript_hash == transcript_hash(proven.transcript)
    assert attestation.ops_per_sec == again.ops_per_second == proven.score.ops_per_second
    assert attestation.seed == Transcript.from_bytes(proven.transcript).seed
    assert (attestation.provider_id, attestation.machine_id) == (provider_id(PROVIDER), machine_id(7))
    assert (attestation.mem_bytes, attestation.mem_bytes_per_sec) == (0, 0)  # 256 KiB: a cache may have held them
    assert attestation.rtt_max_km == max(km for _, km in again.radii) == max(km for _, km in proven.score.radii)
    assert attestation.finished_at == START + -(-again.elapsed_ns // 10**9)


def test_two_sessions_share_no_seed_nonce_or_root():
    first, second = (Transcript.from_bytes(prove().transcript) for _ in range(2))

    assert first.seed != second.seed
    assert not set(first.nonces) & set(second.nonces)
    assert not {item.rows_root for item in first.commitments} & {item.rows_root for item in second.commitments}


def test_a_score_below_every_class_is_attested_without_one():
    proven = prove(reference_rows=(ReferenceRow("H100-80GB", 10**15),))

    assert proven.score.resource_class is None
    assert proven.attestation.ops_per_sec > 0


def test_the_demo_preset_proves_and_verifies_end_to_end():
    proven = prove(preset="demo")

    assert proven.score.preset == "demo"
    assert proven.attestation.ops_per_sec == 2 * 1024**3 * 32 * 10**9 // proven.score.elapsed_ns


@pytest.mark.parametrize(("verifiers", "quorum"), [(1, 1), (3, 2), (7, 5), (9, 6)])
def test_the_quorum_is_two_thirds(verifiers, quorum):
    assert quorum_of(verifiers) == quorum


# --- cheats and liars ----------------------------------------------------------------------------------------------


class SlowProver(LocalProver):
    """Takes a second too long for its second block."""

    def __init__(self, ticks):
        super().__init__()
        self.ticks, self.blocks = ticks, 0

    def commit_block(self, nonce):
        self.blocks += 1
        self.ticks[0] += 5_000_000_000 + 1 if self.blocks == 2 else 1_000_000
        return super().commit_block(nonce)


def test_a_late_root_fails_the_panel():
    ticks = [0]

    def clock():
        ticks[0] += 1
        return ticks[0]

    with pytest.raises(PanelFailed) as refusal:
        run_panel(panel(monotonic_ns=clock), SlowProver(ticks), preset=SMALL, binding=b"b")
    assert set(refusal.value.facts["refusals"].values()) == {"proof_late_root"}


class ForgetfulProver(LocalProver):
    """Answers one verifier of the panel with a changed cell, and the others truly."""

    def __init__(self, lies_to):
        super().__init__()
        self.lies_to, self.opened = lies_to, 0

    def open_rows(self, block, rows, **mode):
        opening = super().open_rows(block, rows, **mode)
        verifier, self.opened = self.opened // SMALL.blocks, self.opened + 1
        if verifier in self.lies_to:
            advice = opening.advice.copy()
            advice[0, 0, 0] += 1
            return replace(opening, advice=advice)
        return opening


def test_two_of_three_carry_a_proof_and_one_does_not():
    carried = prove(prover=ForgetfulProver(lies_to={1}))
    transcript = Transcript.from_bytes(carried.transcript)

    assert (carried.score.accepted, len(carried.signatures)) == (2, 2)
    assert [witness.has_accepted for witness in transcript.witnesses] == [True, False, True]
    assert verify_again(carried.transcript, entropy=secrets.token_bytes(32)).accepted == 2
    with pytest.raises(PanelFailed) as refusal:
        prove(prover=ForgetfulProver(lies_to={0, 1}))
    assert set(refusal.value.facts["refusals"].values()) == {"proof_freivalds"}
    with pytest.raises(PanelFailed):
        prove(prover=ForgetfulProver(lies_to={1}), quorum=3)


def test_other_rows_than_asked_for_are_malformed():
    class EasyRows(LocalProver):
        def open_rows(self, block, rows, **mode):
            return super().open_rows(block, rows * 0 + range(len(rows)), **mode)

    with pytest.raises(PanelFailed) as refusal:
        prove(prover=EasyRows())
    assert set(refusal.value.facts["refusals"].values()) == {"proof_malformed"}


def test_a_proof_for_one_class_is_not_signed_for_another():
    verifiers = panel()
    proof = run_panel(verifiers, LocalProver(), preset=SMALL, binding=TERMS.binding)

    for terms in (replace(TERMS, node_class_id=8), replace(TERMS, epoch=4), replace(TERMS, chain_id=1)):
        with pytest.raises(AttestationUntrue, match="terms"):
            sign_proof(verifiers, proof, terms)
    assert len(sign_proof(verifiers, proof, TERMS).signatures) == 3


def test_a_verifier_signs_no_better_score_than_it_saw():
    verifiers = panel()
    proof = run_panel(verifiers, LocalProver(), preset=SMALL, binding=TERMS.binding)
    attestation = attest(proof.transcript, proof.score, TERMS)

    for untrue in (
        replace(attestation, ops_per_sec=attestation.ops_per_sec + 1),
        replace(attestation, valid_until=attestation.valid_until + 1),
        replace(attestation, mem_bytes=80 << 30),
    ):
        with pytest.raises(AttestationUntrue, match="something else"):
            verifiers[0].sign(untrue, terms=TERMS, transcript=proof.transcript)
    assert verifiers[0].sign(attestation, terms=TERMS, transcript=proof.transcript)


def test_a_verifier_signs_no_transcript_in_which_another_witness_is_forged():
    verifiers = panel()
    proof = run_panel(verifiers, LocalProver(), preset=SMALL, binding=TERMS.binding)
    first, second, third = proof.transcript.witnesses
    paths = second.openings[0].end_paths.copy()
    paths[0, 0, 0] ^= 1
    openings = (replace(second.openings[0], end_paths=paths), *second.openings[1:])
    forged = replace(proof.transcript, witnesses=(first, replace(second, openings=openings), third))
    attestation = attest(forged, proof.score, TERMS)

    with pytest.raises(AttestationUntrue) as refusal:
        verifiers[0].sign(attestation, terms=TERMS, transcript=forged)
    assert refusal.value.facts["cause"] == "proof_path"


def test_a_verifier_that_never_saw_a_session_signs_nothing():
    verifiers = panel()
    proof = run_panel(verifiers, LocalProver(), preset=SMALL, binding=TERMS.binding)

    with pytest.raises(AttestationUntrue, match="not the session"):
        Verifier(LocalKey(b"\4" * 32)).sign(proof_attestation(proof), terms=TERMS, transcript=proof.transcript)


def proof_attestation(proof):
    return attest(proof.transcript, proof.score, TERMS)


# --- order of a session --------------------------------------------------------------------------------------------


def test_a_share_is_revealed_only_after_all_committed_and_only_as_committed():
    one, two = Verifier(LocalKey(KEYS[0])), Verifier(LocalKey(KEYS[1]))
    commitments = [one.commit_share(SMALL, b"b"), two.commit_share(SMALL, b"b")]

    with pytest.raises(OutOfTurn):
        one.reveal_share(commitments[1:])
    with pytest.raises(OutOfTurn):
        one.reveal_share([commitments[0]] * 2)
    shares = [one.reveal_share(commitments), two.reveal_share(commitments)]
    with pytest.raises(NonceRefused):
        one.begin([shares[0], secrets.token_bytes(32)])
    one.begin(shares)


def test_steps_out_of_turn_are_refused():
    verifier, prover = Verifier(LocalKey(KEYS[0])), LocalProver()
    with pytest.raises(OutOfTurn):
        prover.commit_block(b"n" * 32)
    with pytest.raises(OutOfTurn):
        verifier.nonce_sent(b"n" * 32)
    shares = [verifier.reveal_share([verifier.commit_share(SMALL, b"b")])]
    verifier.begin(shares)
    prover.start(SMALL, b"s" * 32)
    nonce = verifier.new_nonce()
    verifier.nonce_sent(nonce)
    commitment = prover.commit_block(nonce)

    with pytest.raises(OutOfTurn):
        verifier.nonce_sent(verifier.new_nonce())  # the root of the first block is still out
    verifier.root_arrived(commitment)
    with pytest.raises(OutOfTurn):
        verifier.root_arrived(commitment)  # a root cannot be sent twice
    with pytest.raises(OutOfTurn):
        verifier.ask_rows()  # three blocks are still to come
    with pytest.raises(OutOfTurn):
        verifier.commit_share(SMALL, b"b")


# --- over HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture
def served():
    server = ProverServer(("127.0.0.1", 0), prover=LocalProver(), token="t" * 24, presets={"small": SMALL})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_prover_behind_http_is_measured_and_attested(served):
    with HttpProver(served.url, token=served.token) as prover:
        proven = prove(prover=prover)

    assert (proven.score.accepted, proven.score.backend) == (3, "float32")
    assert verify_again(proven.transcript, entropy=secrets.token_bytes(32)).accepted == 3


def test_a_served_prover_works_for_the_holder_of_its_token_and_known_presets_only(served):
    with HttpProver(served.url, token="another") as prover, pytest.raises(ServerRefused) as refusal:
        prover.start(SMALL, b"s" * 32)
    assert refusal.value.facts == {"problem_code": "token_wrong", "status": 401}

    with HttpProver(served.url, token=served.token) as prover:
        with pytest.raises(ServerRefused) as refusal:
            prover.start(replace(SMALL, name="enormous"), b"s" * 32)
        assert refusal.value.facts["status"] == 400
        with pytest.raises(ServerRefused) as refusal:
            prover.commit_block(b"n" * 32)
        assert refusal.value.facts["problem_code"] == "out_of_turn"


def test_a_prover_that_does_not_answer_says_so(served):
    served_at = served.url.rpartition(":")[0] + ":1"

    with HttpProver(served_at, token="t") as prover, pytest.raises(ServerUnreachable):
        prover.start(SMALL, b"s" * 32)
