"""What a panel measures beside speed: place, memory, its rate, jitter; who is refused, and who sits."""

import secrets
from dataclasses import replace
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from marketplace.agent.attestation import LocalKey
from marketplace.agent.errors import AttestationUntrue, PanelFailed, ServerRefused
from marketplace.agent.keys import MachineKey
from marketplace.agent.measuring import check_echoes, passes_for
from marketplace.agent.panel import choose_preset, run_panel, sign_proof
from marketplace.agent.prover import HttpProver, LocalProver, ProverServer
from marketplace.agent.verifier import Verifier
from pricing import residency
from pricing.errors import EchoRefused, PathRefused, SweepRefused
from pricing.presets import PILOT
from pricing.proof import PRESETS
from pricing.sweep import digest_of
from pricing.transcript import Transcript, jitter_bps, verify_again
from tests.agent.test_panel import KEYS, SMALL, TERMS

pytestmark = pytest.mark.usefixtures("unhurried")

MACHINE = MachineKey(Ed25519PrivateKey.from_private_bytes(b"m" * 32))
VANTAGES = ("ams", "fra", "zrh")


def panel(**changes):
    return [Verifier(LocalKey(key), vantage=name, **changes) for key, name in zip(KEYS, VANTAGES, strict=True)]


def measured(prover=None, **changes):
    known = {"preset": SMALL, "binding": TERMS.binding, "machine_key": MACHINE.public_bytes}
    return run_panel(panel(), prover or LocalProver(key=MACHINE), **known | changes)


def refusals(prover, **changes):
    with pytest.raises(PanelFailed) as failure:
        measured(prover, **changes)
    return set(failure.value.facts["refusals"].values())


def test_place_memory_rate_and_jitter_are_measured_and_anybody_derives_them_again():
    proof = measured()
    score, data = proof.score, proof.transcript.light().to_bytes()

    assert [name for name, _ in score.radii] == list(VANTAGES)
    assert 0 < score.radius_km == max(km for _, km in score.radii)
    assert SMALL.blocks * SMALL.size**2 // 2 <= score.resident_bytes <= SMALL.blocks * SMALL.size**2
    assert score.sweep_bytes_per_second > 0
    assert score.jitter_bps >= 10_000
    assert verify_again(data, entropy=secrets.token_bytes(32)) == score
    check_echoes(Transcript.from_bytes(data))


def test_a_run_of_speed_alone_has_no_measures_and_the_same_bytes_as_ever():
    transcript = measured(is_measured=False).transcript

    assert (transcript.sweep, transcript.machine_key) == (None, b"")
    assert b"measure" not in transcript.to_bytes()
    assert verify_again(transcript.to_bytes(), entropy=secrets.token_bytes(32)).radii == ()


def test_every_verifier_asks_for_twenty_echoes_and_sixty_four_reads():
    for witness in measured().transcript.witnesses:
        assert len({echo.nonce for echo in witness.measures.echoes}) == 20
        assert len(witness.measures.reads) == 64


class Relayed(LocalProver):
    """Another machine, nearer to the vantage, answers the echoes with a key of its own."""

    def __init__(self):
        super().__init__(key=MACHINE)
        self.near = LocalProver()

    def start(self, preset, seed):
        super().start(preset, seed)
        self.near.start(preset, seed)

    def echo(self, vantage, nonce):
        return self.near.echo(vantage, nonce)


class ForgedSums(LocalProver):
    """Sums up what it does not keep: a guess, and the digest of the guess."""

    def sweep(self, nonce, passes):
        super().sweep(nonce, passes)
        self._sums = [each ^ each.dtype.type(1) for each in self._sums]
        return tuple(digest_of(each) for each in self._sums)


class OtherSums(LocalProver):
    """Shows other sums than those it named."""

    def sums(self):
        return [each ^ each.dtype.type(1) for each in super().sums()]


class WrongRow(LocalProver):
    """Reads a neighbour's cells."""

    def read(self, block, row):
        return replace(super().read(block, row), cells=super().read(block, row ^ 1).cells)


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [(ForgedSums, SweepRefused), (OtherSums, SweepRefused), (WrongRow, PathRefused)],
)
def test_what_is_not_in_memory_is_refused(kind, refusal):
    assert refusals(kind(key=MACHINE)) == {refusal.code}


def test_echoes_of_another_machine_are_refused():
    assert refusals(Relayed()) == {EchoRefused.code}
    assert refusals(LocalProver()) == {EchoRefused.code}  # its own echoes, but it is not the machine enrolled
    assert measured(LocalProver(), machine_key=None).score.radii


def test_a_row_that_comes_late_was_not_in_memory():
    ticks = [0]

    def clock():
        ticks[0] += 1000
        return ticks[0]

    class Slow(LocalProver):
        reads = 0

        def read(self, block, row):
            self.reads += 1
            ticks[0] += residency.READ_MARGIN_NS + 2_000 if self.reads % 64 == 9 else 0
            return super().read(block, row)

    with pytest.raises(PanelFailed) as failure:
        run_panel(panel(monotonic_ns=clock), Slow(key=MACHINE), preset=SMALL, binding=TERMS.binding)
    assert set(failure.value.facts["refusals"].values()) == {"proof_read_too_late"}


def test_a_changed_echo_or_a_nearer_one_is_not_signed():
    verifiers = panel()
    proof = run_panel(verifiers, LocalProver(key=MACHINE), preset=SMALL, binding=TERMS.binding)
    first, second, third = proof.transcript.witnesses
    echoes = second.measures.echoes
    forged = replace(echoes[0], signature=echoes[1].signature)
    changed = replace(second, measures=replace(second.measures, echoes=(forged, *echoes[1:])))
    transcript = replace(proof.transcript, witnesses=(first, changed, third))

    with pytest.raises(EchoRefused):
        check_echoes(transcript)
    with pytest.raises(AttestationUntrue):
        sign_proof(verifiers, replace(proof, transcript=transcript), TERMS)
    assert len(sign_proof(verifiers, proof, TERMS).signatures) == 3


def test_nobody_sits_over_a_machine_of_its_own_organisation():
    own = [Verifier(LocalKey(key), organisation=name) for key, name in zip(KEYS, ("a", "b", "c"), strict=True)]
    with pytest.raises(PanelFailed) as failure:
        run_panel(own, LocalProver(), preset=SMALL, binding=TERMS.binding, owner="b")
    assert failure.value.facts["own"] == [own[1].address]

    assert run_panel(own, LocalProver(), preset=SMALL, binding=TERMS.binding, owner="d").score.accepted == 3


def test_the_panel_chooses_the_chain_from_a_pilot_by_its_own_clock():
    ticks = [0]

    def fast():
        ticks[0] += PILOT.operations // 2_000  # the pilot at 2,000 GOPS
        return ticks[0]

    preset, _ = choose_preset(panel(monotonic_ns=fast)[:1], LocalProver(), purpose="short")
    assert preset == PRESETS["short-4096"]
    preset, _ = choose_preset(panel()[:1], LocalProver(), purpose="demo", memory_bytes=8 << 20)
    assert (preset.name, preset.blocks) == ("demo", 8)


def test_rows_are_opened_directly_where_the_panel_says_so():
    proof = measured(is_direct=True)

    assert all(opening.advice is None for witness in proof.transcript.witnesses for opening in witness.openings)
    advised = measured().transcript.witnesses
    assert all(opening.advice is not None for witness in advised for opening in witness.openings)


def test_a_sweep_lasts_twenty_round_trips():
    assert passes_for(SMALL, rtt_max_ns=1) == 1
    assert passes_for(SMALL, rtt_max_ns=10_000) == 16  # 200 us over 4 x 256^2 bytes at 20 GB/s, 13.1 us a pass
    assert passes_for(PRESETS["full-16384"], rtt_max_ns=30_000_000) == 1


def test_jitter_is_the_slowest_block_over_the_middle_one():
    timeline = measured().transcript.witnesses[0].timeline
    even = replace(timeline, nonce_ns=(0, 100, 200, 300), root_ns=(50, 150, 250, 350))
    uneven = replace(even, root_ns=(50, 150, 250, 400))

    assert jitter_bps(SMALL, [even] * 3) == 10_000
    assert jitter_bps(SMALL, [uneven] * 3) == 20_000
    assert jitter_bps(SMALL, [even, even, uneven]) == 10_000
    assert jitter_bps(PRESETS["recheck"], [even]) == 0


# --- over HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture
def served():
    server = ProverServer(
        ("127.0.0.1", 0), prover=LocalProver(key=MACHINE), token="t" * 24, memory_bytes_max=1 << 20,
        presets={"small": SMALL, "pilot": PILOT},
    )  # fmt: skip
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_machine_behind_http_shows_place_and_memory(served):
    with HttpProver(served.url, token=served.token) as prover:
        proof = measured(prover)

    assert proof.score.accepted == 3, proof.refusals
    assert len(proof.score.radii) == 3
    assert proof.score.resident_bytes > 0
    assert verify_again(proof.transcript.to_bytes(), entropy=secrets.token_bytes(32)) == proof.score


def test_a_served_machine_shows_more_memory_only_up_to_what_it_was_told(served):
    with HttpProver(served.url, token=served.token) as prover:
        prover.start(replace(SMALL, blocks=12, products=1), b"s" * 32)
        for greedy in (replace(SMALL, blocks=17, products=1), replace(SMALL, products=9)):
            with pytest.raises(ServerRefused) as refusal:
                prover.start(greedy, b"s" * 32)
            assert refusal.value.facts["problem_code"] == "out_of_turn"
