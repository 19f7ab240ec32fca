"""Thirteen cheats: a few of each on every push, a thousand of each before a release."""

import numpy as np
import pytest

from pricing.errors import MalformedProof, PathRefused, RadiusRefused, ReadTooLate
from pricing.proof import Prover, backend_named
from pricing.residency import READ_MARGIN_NS, check_radius, check_reads, draw_reads, radius_km, resident_bytes
from tests.pricing import cheats


@pytest.mark.parametrize("name", cheats.ATTEMPTS)
def test_each_cheat_is_caught_as_often_as_theory_says(name):
    caught, least = cheats.tried(name, 40)

    assert caught >= least


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.parametrize("name", cheats.ATTEMPTS)
def test_a_thousand_of_each_cheat_are_caught_as_often_as_theory_says(name):
    caught, least = cheats.tried(name, 1000)

    assert caught >= least


def test_some_skipped_rows_pass_so_the_comparison_with_theory_means_something():
    caught, _ = cheats.tried("skip_rows", 60)

    assert 0 < caught < 60


@pytest.mark.parametrize("backend", ["float32", "float64"])
def test_a_hundred_honest_provers_are_accepted(backend):
    for run in range(100):
        cheats.check(cheats.session(run, backend=backend_named(backend), advice=run % 2 == 0))


def memory():
    prover = Prover(preset=cheats.MEMORY, seed=cheats.secret("seed", 1), backend=backend_named("float32"))
    commitments = [prover.commit_block(nonce) for nonce in cheats.nonces_of(1, cheats.MEMORY)]
    asked = draw_reads(cheats.MEMORY, entropy=cheats.secret("reads", 1))
    return commitments, asked, [cheats.read_of(prover, *each, is_missing=False) for each in asked]


def test_resident_memory_is_shown_by_reads_in_time():
    commitments, asked, reads = memory()

    assert check_reads(cheats.MEMORY, commitments, asked, reads, rtt_max_ns=cheats.RTT_NS) == 10 * 32**2
    assert resident_bytes(cheats.MEMORY) == 10 * 32**2


def test_a_late_a_wrong_and_a_missing_read_are_refused():
    commitments, asked, reads = memory()
    late = cheats.replace(reads[5], elapsed_ns=cheats.RTT_NS + READ_MARGIN_NS + 1)
    in_time = cheats.replace(reads[5], elapsed_ns=cheats.RTT_NS + READ_MARGIN_NS)
    wrong = cheats.replace(reads[5], cells=reads[5].cells ^ np.int8(1))

    def refused(kind, changed):
        with pytest.raises(kind):
            check_reads(cheats.MEMORY, commitments, asked, changed, rtt_max_ns=cheats.RTT_NS)

    refused(ReadTooLate, [*reads[:5], late, *reads[6:]])
    refused(PathRefused, [*reads[:5], wrong, *reads[6:]])
    refused(MalformedProof, reads[:-1])
    check_reads(cheats.MEMORY, commitments, asked, [*reads[:5], in_time, *reads[6:]], rtt_max_ns=cheats.RTT_NS)


def test_the_radius_is_the_best_round_trip_at_100_km_per_millisecond():
    echoes = [5_000_000] * 19 + [3_000_001]

    assert radius_km(echoes) == 301
    assert check_radius(301, echoes) == 301
    with pytest.raises(RadiusRefused):
        check_radius(300, echoes)
    with pytest.raises(MalformedProof, match="20 echoes"):
        radius_km(echoes[:19])
