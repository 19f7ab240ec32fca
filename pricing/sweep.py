r"""Memory read at its own speed: chained sums over everything that a chain left resident.

Let X_b be the B end matrices of a chain, n x n bytes each, and read every row as n / 8 little-endian 64-bit words.

    z_1      = words(nonce)                              n / 8 odd words
    y_s[b,i] = sum_j X_b[i, j] z_s[j]        mod 2^64    B n sums of pass s
    d_s      = SHA-256(y_s)
    z_s+1    = words(d_s)                                so no pass begins before the one before has ended

The rate is S B n^2 over the time from the nonce to the last digest. Whoever checks holds some true rows (the memory
reads) and compares their sums in every pass, with the sums that the digests were taken of.

What this shows of capacity. A *row* of X_b follows from one column of X_b-1 by L products of a vector, a millisecond:
a prover that keeps every other matrix answers any single read in time, so deadlines on reads alone show floor(B / 2)
matrices. A *pass* needs every row of every matrix: a missing share g costs g times the whole chain, again in each pass.
So a pass that took p of a chain that took c shows that no more than p / c was missing.

There is no clock here: times are arguments, in nanoseconds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pricing.errors import MalformedProof, SweepRefused
from pricing.proof import Int8s, Preset, digest

Words: TypeAlias = npt.NDArray[np.uint64]

PASSES_MAX = 64
# Below this a sweep may run out of a cache: neither memory nor its bandwidth count as measured.
MEMORY_BYTES_MIN = 64 << 20


@dataclass(frozen=True)
class Sweep:
    """What a prover said of one sweep: the digest of each pass."""

    nonce: bytes
    digests: tuple[bytes, ...]


def words_of(key: bytes, size: int) -> Words:
    """The odd words by which a pass weighs the words of a row, uint64 [n / 8]."""
    philox = np.random.Philox(key=int.from_bytes(digest(b"sweep", key)[:16], "little"))
    return philox.random_raw(size // 8) | np.uint64(1)


def row_words(rows: Int8s) -> Words:
    """Rows as words, uint64 [rows, n / 8]."""
    return np.ascontiguousarray(rows).view("<u8")


def sweep(matrices: Sequence[Int8s], nonce: bytes, passes: int) -> list[Words]:
    """The sums of each pass, uint64 [B n] each. Raises MalformedProof for no matrix or an absurd number of passes."""
    if not matrices or not 1 <= passes <= PASSES_MAX:
        raise MalformedProof("A sweep goes from 1 to 64 times over what is there.", passes=passes)
    key, made = nonce, []
    for _ in range(passes):
        words = words_of(key, matrices[0].shape[1])
        # einsum and not matmul: for whole numbers its inner loop is the faster, 7.2 against 6.1 GB/s on one core.
        sums = np.concatenate([np.einsum("ij,j->i", row_words(matrix), words) for matrix in matrices])
        made.append(sums)
        key = digest_of(sums)
    return made


def digest_of(sums: Words) -> bytes:
    """The digest of a pass."""
    return hashlib.sha256(sums.astype("<u8", copy=False).tobytes()).digest()


def check_sums(preset: Preset, said: Sweep, sums: Sequence[Words]) -> None:
    """The sums are those that the digests were taken of. Raises MalformedProof or SweepRefused."""
    if len(said.nonce) != 32 or len(sums) != len(said.digests) or not sums:
        raise MalformedProof("Each pass has its sums and its digest.", want=len(said.digests), have=len(sums))
    for number, (each, named) in enumerate(zip(sums, said.digests, strict=True)):
        if each.shape != (preset.blocks * preset.size,) or each.dtype != np.uint64:
            raise MalformedProof("A pass has one sum per resident row.", number=number)
        if digest_of(each) != named:
            raise SweepRefused("The sums are not those of the digest.", number=number)


def check_rows(preset: Preset, said: Sweep, rows: Int8s, sums: Words) -> None:
    """True rows, int8 [rows, n], have these sums in every pass, uint64 [S, rows]. Raises SweepRefused."""
    if sums.shape != (len(said.digests), len(rows)) or sums.dtype != np.uint64:
        raise MalformedProof("A checked row has one sum in each pass.", shape=list(sums.shape))
    words = row_words(rows)
    for number, key in enumerate((said.nonce, *said.digests[:-1])):
        if not np.array_equal(np.einsum("ij,j->i", words, words_of(key, preset.size)), sums[number]):
            raise SweepRefused("A row has another sum than it should: it was not read in this pass.", number=number)


def bytes_per_second(preset: Preset, *, passes: int, sweep_ns: int) -> int:
    """The rate of a sweep, bytes per second, rounded down."""
    return passes * preset.blocks * preset.size**2 * 1_000_000_000 // sweep_ns


def resident_bytes(preset: Preset, *, passes: int, sweep_ns: int, chain_ns: int) -> int:
    """Bytes shown to be resident by reads in time and by a sweep: all of them less what a pass left time to compute."""
    whole = preset.blocks * preset.size**2
    by_reads = preset.blocks // 2 * preset.size**2
    missing = min(whole, -(-whole * sweep_ns // (passes * chain_ns)))
    return max(by_reads, whole - missing)
