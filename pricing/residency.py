r"""Memory that is there, and a place that is near: two bounds from a verifier's own clock.

Memory. After a chain of B blocks all end matrices, B n^2 bytes, stay resident. The verifier asks for random rows with
a deadline. A block that is not resident must be computed again, which takes longer than any read. If a share f of the
blocks is missing, k reads find it with

    1 - (1 - f)^k                                     64 reads find 10 % with 99.9 %

Place. A signal needs at least 1 ms of round trip for 100 km of fibre, so the best of at least 20 signed echoes bounds
the distance from a vantage from above. The statement is "within R km of vantage v", never a city. There is no clock
here: times are arguments, in nanoseconds, as the verifier stamped them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pricing.errors import MalformedProof, PathRefused, RadiusRefused, ReadTooLate
from pricing.proof import Bytes, Commitment, Int8s, Preset, digest, root_from_path

READS = 64
READ_MARGIN_NS = 50_000_000  # beyond the longest round trip seen in the session
ECHOES_MIN = 20
KM_PER_MS = 100  # round trip, light in fibre


@dataclass(frozen=True)
class Read:
    """One row out of memory, with its path in the rows root of its block."""

    block: int
    row: int
    cells: Int8s  # int8 [n]
    path: Bytes  # uint8 [log2 n, 32]
    elapsed_ns: int  # from question to answer, by the verifier's clock


def resident_bytes(preset: Preset) -> int:
    """Bytes of all end matrices of a chain: what `check_reads` shows to be resident."""
    return preset.blocks * preset.size**2


def draw_reads(preset: Preset, *, entropy: bytes, count: int = READS) -> list[tuple[int, int]]:
    """Secret (block, row) questions, uniform and with repetition. `entropy` is at least 32 secret random bytes."""
    if len(entropy) < 32:
        raise MalformedProof("Secret reads need at least 32 bytes of entropy.", length=len(entropy))
    key = int.from_bytes(digest(b"reads", entropy)[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    blocks = generator.integers(0, preset.blocks, count).tolist()
    return list(zip(blocks, generator.integers(0, preset.size, count).tolist(), strict=True))


def check_reads(
    preset: Preset,
    commitments: Sequence[Commitment],
    asked: Sequence[tuple[int, int]],
    reads: Sequence[Read],
    *,
    rtt_max_ns: int,
) -> int:
    """Bytes shown to be resident. Raises MalformedProof, PathRefused, or ReadTooLate for the first bad read."""
    if [(read.block, read.row) for read in reads] != list(asked) or not reads:
        raise MalformedProof("Every read that was asked for is answered, in order.", want=len(asked), have=len(reads))
    deadline_ns = rtt_max_ns + READ_MARGIN_NS
    for read in reads:
        if read.cells.shape != (preset.size,) or read.path.shape != (preset.depth, 32):
            raise MalformedProof("A read has the wrong shape.", block=read.block, row=read.row)
        if read.elapsed_ns > deadline_ns:
            raise ReadTooLate(
                "A row came too late to have been in memory.", block=read.block, row=read.row,
                elapsed_ns=read.elapsed_ns, deadline_ns=deadline_ns,
            )  # fmt: skip
        if root_from_path(read.cells, read.row, read.path) != commitments[read.block].rows_root:
            raise PathRefused("A row does not lead to the committed root.", block=read.block, tree="rows", row=read.row)
    return resident_bytes(preset)


def radius_km(echo_ns: Sequence[int]) -> int:
    """Upper bound of the distance from one vantage, km rounded up. Raises MalformedProof under 20 echoes."""
    if len(echo_ns) < ECHOES_MIN or min(echo_ns) <= 0:
        raise MalformedProof("A radius needs at least 20 echoes.", want=ECHOES_MIN, have=len(echo_ns))
    return -(-min(echo_ns) * KM_PER_MS // 1_000_000)


def check_radius(claimed_km: int, echo_ns: Sequence[int]) -> int:
    """The radius that the echoes prove. Raises RadiusRefused when less is claimed than they prove."""
    proven_km = radius_km(echo_ns)
    if claimed_km < proven_km:
        raise RadiusRefused("The echoes prove a larger radius.", claimed_km=claimed_km, proven_km=proven_km)
    return proven_km
