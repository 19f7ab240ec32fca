"""Memory at its own speed: what a sweep shows that single reads cannot."""

import numpy as np
import pytest

from pricing.errors import MalformedProof, SweepRefused
from pricing.proof import Prover, backend_named, mix, nonce_rows
from pricing.residency import READ_MARGIN_NS, Read, check_reads, draw_reads
from pricing.sweep import (
    Sweep,
    bytes_per_second,
    check_rows,
    check_sums,
    digest_of,
    resident_bytes,
    row_words,
    sweep,
    words_of,
)
from tests.pricing.cheats import MEMORY, RTT_NS, nonces_of, secret

NONCE = secret("sweep")


@pytest.fixture(scope="module")
def proved():
    prover = Prover(preset=MEMORY, seed=secret("seed", 1), backend=backend_named("float32"))
    commitments = [prover.commit_block(nonce) for nonce in nonces_of(1, MEMORY)]
    return prover, commitments


def said(prover, passes=3):
    sums = sweep(prover.resident, NONCE, passes)
    return Sweep(NONCE, tuple(digest_of(each) for each in sums)), sums


def test_every_pass_is_the_sum_that_plain_whole_numbers_give(proved):
    prover, _ = proved
    named, sums = said(prover)

    key = NONCE
    for number, each in enumerate(sums):
        words = [int(word) for word in words_of(key, MEMORY.size)]
        rows = np.concatenate([row_words(matrix) for matrix in prover.resident]).tolist()
        assert each.tolist() == [
            sum(a * b for a, b in zip(row, words, strict=True)) % 2**64 for row in rows
        ]
        key = named.digests[number]
    check_sums(MEMORY, named, sums)


def test_true_rows_agree_with_true_sums_and_with_no_others(proved):
    prover, _ = proved
    named, sums = said(prover)
    places = [(0, 3), (4, 31), (9, 0)]
    rows = np.stack([prover.resident[block][row] for block, row in places])
    true = np.stack([each[[block * MEMORY.size + row for block, row in places]] for each in sums])
    check_rows(MEMORY, named, rows, true)

    for number in range(3):
        forged = true.copy()
        forged[number, 1] ^= np.uint64(1)
        with pytest.raises(SweepRefused) as refusal:
            check_rows(MEMORY, named, rows, forged)
        assert refusal.value.facts["number"] == number
    with pytest.raises(MalformedProof):
        check_rows(MEMORY, named, rows, true[:2])


def test_sums_are_those_of_their_digests_and_whole(proved):
    prover, _ = proved
    named, sums = said(prover)

    changed = [sums[0], sums[1] ^ np.uint64(1), sums[2]]
    with pytest.raises(SweepRefused):
        check_sums(MEMORY, named, changed)
    for wrong in (sums[:2], [each[:-1] for each in sums], [each.astype(np.int64) for each in sums]):
        with pytest.raises(MalformedProof):
            check_sums(MEMORY, named, wrong)
    for passes in (0, 65):
        with pytest.raises(MalformedProof):
            sweep(prover.resident, NONCE, passes)


def test_a_pass_cannot_begin_before_the_one_before_has_ended(proved):
    prover, _ = proved
    named, sums = said(prover)
    ahead = sweep(prover.resident, secret("guessed"), 1)[0]

    forged = Sweep(NONCE, (named.digests[0], digest_of(ahead), named.digests[2]))
    rows = prover.resident[0][:2]
    with pytest.raises(SweepRefused):
        check_rows(MEMORY, forged, rows, np.stack([sums[0][:2], ahead[:2], sums[2][:2]]))


class EveryOther:
    """Keeps every other matrix and works a missing row out from one column of the matrix before: reads come in time."""

    def __init__(self, prover: Prover, run: int) -> None:
        self.prover, self.nonces = prover, nonces_of(run, MEMORY)
        self.kept = {block: matrix for block, matrix in enumerate(prover.resident) if block % 2}

    def row(self, block: int, row: int):
        if block in self.kept:
            return self.kept[block][row]
        before = self.kept[block - 1][:, row][None] if block else None
        start = mix(before, nonce_rows(self.nonces[block], np.array([row]), MEMORY.size))
        return self.prover.backend.chain(start, MEMORY.products)[0]


def test_reads_alone_do_not_see_that_every_other_matrix_is_missing_and_a_sweep_does(proved):
    prover, commitments = proved
    half = EveryOther(prover, 1)
    asked = draw_reads(MEMORY, entropy=secret("reads", 1))
    # A row costs L products of one vector, far below the margin; its path is a few hashes that a prover can keep.
    reads = [
        Read(block, row, half.row(block, row), prover.read(block, row)[1], RTT_NS + READ_MARGIN_NS // 10)
        for block, row in asked
    ]
    check_reads(MEMORY, commitments, asked, reads, rtt_max_ns=RTT_NS)

    whole, chain_ns = MEMORY.blocks * MEMORY.size**2, 1_000_000_000
    # In a sweep the missing half has to be computed as a whole, in each pass: half a chain at least.
    assert resident_bytes(MEMORY, passes=4, sweep_ns=4 * chain_ns // 2, chain_ns=chain_ns) == whole // 2
    assert resident_bytes(MEMORY, passes=4, sweep_ns=4 * chain_ns // 100, chain_ns=chain_ns) == whole * 99 // 100
    # However slow the sweep, rows in time show half: a row of a missing matrix needs the matrix before.
    assert resident_bytes(MEMORY, passes=1, sweep_ns=9 * chain_ns, chain_ns=chain_ns) == whole // 2


def test_the_rate_is_what_was_read_over_the_time_it_took():
    assert bytes_per_second(MEMORY, passes=5, sweep_ns=1_000_000) == 5 * 10 * 32**2 * 1000


def test_nothing_is_read_before_it_was_committed_or_outside_of_it(proved):
    prover, _ = proved
    for place in ((MEMORY.blocks, 0), (-1, 0), (0, MEMORY.size), (0, -1)):
        with pytest.raises(MalformedProof):
            prover.read(*place)
