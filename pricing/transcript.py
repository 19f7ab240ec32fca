"""What is left of a proof: stamps, score, class, and a transcript that anybody can check again.

A transcript holds all that was said between a prover and its panel. Its light form leaves out the advice rows, which
are thirty times everything else: whoever checks it recomputes them exactly (direct mode). Its bytes are canonical JSON
(sorted keys, no spaces, arrays as base64 of little-endian cells), so its SHA-256 names it; that hash stands in the
attestation on chain.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pricing.errors import LateRoot, MalformedProof, NonceRefused
from pricing.proof import SUITE, Checker, Commitment, Opening, Preset, digest
from pricing.residency import Read, check_reads, radius_km
from pricing.sweep import MEMORY_BYTES_MIN, Sweep, Words, bytes_per_second, check_rows, resident_bytes

# A class is granted at these shares of its reference row, in basis points.
OPS_SHARE_BPS, MEMORY_SHARE_BPS, BANDWIDTH_SHARE_BPS = 8500, 9000, 8000


# --- seed and time -------------------------------------------------------------------------------------------------


def commit_share(share: bytes) -> bytes:
    """What a verifier publishes before the panel reveals: the hash of its 32 secret bytes."""
    return digest(b"share", share)


def seed_of(binding: bytes, shares: Sequence[bytes], share_commitments: Sequence[bytes]) -> bytes:
    """The seed of a challenge; unknown to anybody while one verifier keeps its share.

    `binding` names chain, contract, provider, class and epoch, so a chain proves for one class at one time only.
    Raises NonceRefused if a share is not the one committed to.
    """
    if len(shares) != len(share_commitments) or not shares:
        raise MalformedProof("Every verifier commits and reveals.", shares=len(shares))
    for number, (share, commitment) in enumerate(zip(shares, share_commitments, strict=True)):
        if len(share) != 32 or commit_share(share) != commitment:
            raise NonceRefused("A verifier revealed another seed share than it committed to.", verifier=number)
    return digest(b"seed", binding, *shares)


def joint_nonce(parts: Sequence[bytes]) -> bytes:
    """The nonce of a block to which each verifier gave a part: nobody knows it before the last part was sent.

    So every verifier may time a block from the moment of its own part, whoever carried the parts together.
    """
    return digest(b"joint nonce", *parts)


@dataclass(frozen=True)
class Timeline:
    """One verifier's stamps by its own monotonic clock, nanoseconds from an origin of its own."""

    nonce_ns: tuple[int, ...]  # when the nonce of each block went out
    root_ns: tuple[int, ...]  # when its root arrived


def check_timeline(preset: Preset, timeline: Timeline) -> None:
    """Stamps rise and no root passes its deadline. Raises MalformedProof or LateRoot."""
    if len(timeline.nonce_ns) != preset.blocks or len(timeline.root_ns) != preset.blocks:
        raise MalformedProof("Each block has two stamps.", want=preset.blocks, have=len(timeline.root_ns))
    earlier = timeline.nonce_ns[0] - 1
    for block, (sent, arrived) in enumerate(zip(timeline.nonce_ns, timeline.root_ns, strict=True)):
        if not earlier < sent < arrived:
            raise MalformedProof("A nonce goes out only after the root before it.", block=block)
        if arrived - sent > preset.root_deadline_ms * 1_000_000:
            raise LateRoot(
                "A root came after its deadline.", block=block, late_ms=(arrived - sent) // 1_000_000,
                deadline_ms=preset.root_deadline_ms,
            )  # fmt: skip
        earlier = arrived


def elapsed_ns(timelines: Sequence[Timeline]) -> int:
    """Median over the verifiers of last root - first nonce; the mean of the middle two is rounded up.

    Round-trip time is never subtracted, since a prover can inflate it: the score is a lower bound.
    """
    spans = sorted(timeline.root_ns[-1] - timeline.nonce_ns[0] for timeline in timelines)
    middle = len(spans) // 2
    return spans[middle] if len(spans) % 2 else -(-(spans[middle - 1] + spans[middle]) // 2)


def ops_per_second(preset: Preset, timelines: Sequence[Timeline]) -> int:
    """Score: 2 n^3 L B over the median elapsed time, operations per second, rounded down."""
    return preset.operations * 1_000_000_000 // elapsed_ns(timelines)


def jitter_bps(preset: Preset, timelines: Sequence[Timeline]) -> int:
    """p95 over p50 of the block times, median over the verifiers, in basis points; 10,000 is no jitter at all.

    Percentiles are nearest ranks, so with fewer than 20 blocks the p95 is the slowest. One block has no jitter: 0.
    """
    if preset.blocks < 2:
        return 0
    shares = []
    for timeline in timelines:
        spans = sorted(end - start for start, end in zip(timeline.nonce_ns, timeline.root_ns, strict=True))
        p50, p95 = (spans[-(-len(spans) * percent // 100) - 1] for percent in (50, 95))
        shares.append(10_000 * p95 // p50)
    return _median(shares)


def _median(figures: Sequence[int]) -> int:
    """The lower median: never a mean of two verifiers that nobody measured."""
    return sorted(figures)[(len(figures) - 1) // 2]


# --- resource class ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceRow:
    """What a machine of a resource class measures; 0 where the class asks for nothing."""

    resource_class: str
    ops_per_second: int
    memory_bytes: int = 0
    memory_bytes_per_second: int = 0


def class_of(
    rows: Sequence[ReferenceRow], *, ops_per_second: int, memory_bytes: int, memory_bytes_per_second: int
) -> str | None:
    """The highest class whose three thresholds the measured figures reach; None if they reach no class.

    Thresholds: 85 % of the reference operations, 90 % of its memory, 80 % of its memory bandwidth. An unmeasured
    figure is 0 and so reaches only classes that do not ask for it.
    """
    reached = [
        row
        for row in rows
        if ops_per_second * 10_000 >= row.ops_per_second * OPS_SHARE_BPS
        and memory_bytes * 10_000 >= row.memory_bytes * MEMORY_SHARE_BPS
        and memory_bytes_per_second * 10_000 >= row.memory_bytes_per_second * BANDWIDTH_SHARE_BPS
    ]
    if not reached:
        return None
    best = max(reached, key=lambda row: (row.ops_per_second, row.memory_bytes, row.memory_bytes_per_second))
    return best.resource_class


# --- transcript ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Echo:
    """A nonce that came back signed by the machine, and how long that took by the verifier's clock."""

    nonce: bytes
    signature: bytes  # Ed25519 over `echo_message`
    rtt_ns: int


def echo_message(seed: bytes, vantage: str, nonce: bytes) -> bytes:
    """What a machine signs to answer an echo: it belongs to one challenge and one vantage."""
    return digest(b"echo", seed, vantage.encode(), nonce)


@dataclass(frozen=True)
class Measures:
    """What one verifier measured beside the chain: distance from its vantage, and memory that is there."""

    vantage: str
    echoes: tuple[Echo, ...]
    sweep_ns: int  # from the nonce of the sweep to its last digest
    reads: tuple[Read, ...]
    sums: Words  # uint64 [passes, reads]: what the sweep said of the rows that were read

    @property
    def rtt_max_ns(self) -> int:
        """The longest round trip that was seen; a memory read may take so long and 50 ms more."""
        return max((echo.rtt_ns for echo in self.echoes), default=0)


@dataclass(frozen=True)
class Witness:
    """What one verifier brought to the panel and got from the prover."""

    name: str  # the verifier's address
    share_commitment: bytes
    share: bytes
    timeline: Timeline
    openings: tuple[Opening, ...]  # one per block, for its own secret rows; none from a verifier that did not accept
    measures: Measures | None = None  # None: this run measured speed alone

    @property
    def has_accepted(self) -> bool:
        return bool(self.openings)


@dataclass(frozen=True)
class Transcript:
    """All that was said in one proof."""

    preset: Preset
    backend: str
    binding: bytes
    nonces: tuple[bytes, ...]
    commitments: tuple[Commitment, ...]
    witnesses: tuple[Witness, ...]
    machine_key: bytes = b""  # Ed25519, whose echoes these are; empty when only speed was measured
    sweep: Sweep | None = None

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        said: dict[str, Any] = {
            "suite": SUITE,
            "preset": asdict(self.preset),
            "backend": self.backend,
            "binding": self.binding.hex(),
            "nonces": [nonce.hex() for nonce in self.nonces],
            "roots": [[item.rows_root.hex(), item.columns_root.hex()] for item in self.commitments],
            "witnesses": [witness_to_json(witness) for witness in self.witnesses],
        }
        if self.sweep is not None:
            digests = [each.hex() for each in self.sweep.digests]
            said["measured"] = {
                "machine_key": self.machine_key.hex(), "sweep_nonce": self.sweep.nonce.hex(), "digests": digests,
            }  # fmt: skip
        return canonical_json(said)

    def light(self) -> "Transcript":
        """The same without advice rows: about 0.5 MB for three witnesses at preset demo instead of 9 MB."""
        return replace(self, witnesses=tuple(without_advice(witness) for witness in self.witnesses))

    @property
    def seed(self) -> bytes:
        """The seed that the witnesses' shares make. Raises NonceRefused or MalformedProof."""
        return seed_of(
            self.binding,
            [witness.share for witness in self.witnesses],
            [witness.share_commitment for witness in self.witnesses],
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Transcript":
        """Read a transcript back. Raises MalformedProof unless the bytes are exactly canonical."""
        try:
            transcript = _transcript_from_json(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise MalformedProof("These bytes are no transcript.", cause=type(error).__name__) from error
        if transcript.to_bytes() != data:
            raise MalformedProof("The transcript is not in its canonical form.")
        return transcript


@dataclass(frozen=True)
class Score:
    """What a checked transcript proves."""

    accepted: int  # witnesses whose openings are in it
    ops_per_second: int
    elapsed_ns: int
    transcript_hash: bytes
    jitter_bps: int = 0
    resident_bytes: int = 0  # shown by reads and sweep; 0: not measured
    sweep_bytes_per_second: int = 0
    radii: tuple[tuple[str, int], ...] = ()  # (vantage, km): the machine is within so many km of that vantage

    @property
    def memory_bytes(self) -> int:
        """What counts as memory: 0 where the resident set is so small that a cache may have held it."""
        return self.resident_bytes if self.resident_bytes >= MEMORY_BYTES_MIN else 0

    @property
    def memory_bytes_per_second(self) -> int:
        """What counts as memory bandwidth; 0 under the same condition."""
        return self.sweep_bytes_per_second if self.memory_bytes else 0

    @property
    def radius_km(self) -> int:
        """The machine is within so many km of *every* vantage of the panel; 0 where none measured it."""
        return max((km for _, km in self.radii), default=0)


def transcript_hash(data: bytes) -> bytes:
    """The name of a transcript: SHA-256 of the canonical bytes of its light form."""
    return hashlib.sha256(data).digest()


def params_hash(*, preset: Preset, backend: str, resource_class: str) -> bytes:
    """Hash of what was asked: suite version, preset, backend and the resource class that was reached."""
    asked = {"suite": SUITE, "preset": asdict(preset), "backend": backend, "resource_class": resource_class}
    return hashlib.sha256(canonical_json(asked)).digest()


def challenge_root(transcript: Transcript) -> bytes:
    """Hash over the nonces and the roots that answered them."""
    said = [part for item in transcript.commitments for part in (item.nonce, item.rows_root, item.columns_root)]
    return digest(b"challenge", *said)


def verify_again(data: bytes, *, entropy: bytes) -> Score:
    """Check stored transcript bytes from nothing but themselves and fresh randomness.

    Where a transcript keeps its advice rows they are checked with new secret vectors drawn from `entropy` (32 secret
    random bytes); in its light form every opened row is recomputed exactly. Raises a ProofRefused that
    names what does not hold.
    """
    transcript = Transcript.from_bytes(data)
    checker = Checker(preset=transcript.preset, seed=transcript.seed, entropy=entropy)
    return check_transcript(transcript, checker)


def check_transcript(transcript: Transcript, checker: Checker) -> Score:
    """Check stamps and openings of all witnesses that accepted, with somebody's own secret vectors.

    Raises a ProofRefused; MalformedProof when nobody accepted.
    """
    accepted = [witness for witness in transcript.witnesses if witness.has_accepted]
    if not accepted:
        raise MalformedProof("No verifier accepted this proof.")
    for witness in accepted:
        check_timeline(transcript.preset, witness.timeline)
        checker.check(transcript.nonces, transcript.commitments, witness.openings)
    if transcript.sweep is not None:
        for witness in accepted:
            check_measures(transcript.preset, transcript.commitments, transcript.sweep, witness.measures)
    return score_of(transcript)


def check_measures(
    preset: Preset, commitments: Sequence[Commitment], swept: Sweep, measures: Measures | None
) -> None:
    """Reads came in time and lead to the roots, their sums are those of the sweep, the echoes are enough.

    Signatures of echoes are not looked at here: arithmetic only. Raises a ProofRefused.
    """
    if measures is None or measures.sweep_ns <= 0:
        raise MalformedProof("Whoever accepted a measured proof has measured it.")
    radius_km([echo.rtt_ns for echo in measures.echoes])
    asked = [(read.block, read.row) for read in measures.reads]
    if any(not 0 <= block < preset.blocks or not 0 <= row < preset.size for block, row in asked):
        raise MalformedProof("A read lies outside what is resident.")
    check_reads(preset, commitments, asked, measures.reads, rtt_max_ns=measures.rtt_max_ns)
    check_rows(preset, swept, np.stack([read.cells for read in measures.reads]), measures.sums)


def score_of(transcript: Transcript) -> Score:
    """What a transcript comes to, without checking it."""
    preset, swept = transcript.preset, transcript.sweep
    accepted = [witness for witness in transcript.witnesses if witness.has_accepted]
    timelines = [witness.timeline for witness in accepted]
    chain_ns = elapsed_ns(timelines)
    score = Score(
        accepted=len(accepted),
        ops_per_second=ops_per_second(preset, timelines),
        elapsed_ns=chain_ns,
        transcript_hash=transcript_hash(transcript.light().to_bytes()),
        jitter_bps=jitter_bps(preset, timelines),
    )
    measured = [witness.measures for witness in accepted if witness.measures is not None]
    if swept is None or not measured:
        return score
    passes, sweep_ns = len(swept.digests), _median([each.sweep_ns for each in measured])
    return replace(
        score,
        resident_bytes=resident_bytes(preset, passes=passes, sweep_ns=sweep_ns, chain_ns=chain_ns),
        sweep_bytes_per_second=bytes_per_second(preset, passes=passes, sweep_ns=sweep_ns),
        radii=tuple((each.vantage, radius_km([echo.rtt_ns for echo in each.echoes])) for each in measured),
    )


# --- wire form -----------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, no floats by convention."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def opening_to_json(opening: Opening) -> dict[str, Any]:
    """An opening as JSON; arrays are base64 of their little-endian cells beside their shape."""
    arrays = {
        "rows": opening.rows, "previous": opening.previous, "previous_paths": opening.previous_paths,
        "advice": opening.advice, "end_paths": opening.end_paths,
    }  # fmt: skip
    return {name: None if array is None else array_to_json(array) for name, array in arrays.items()}


def opening_from_json(value: Mapping[str, Any]) -> Opening:
    """Read an opening back. Raises MalformedProof; the ranges are checked with the proof."""
    try:
        rows = array_from_json(value["rows"], "<i8")
        end_paths = array_from_json(value["end_paths"], "u1")
        previous = array_from_json(value["previous"], "i1")
        paths = array_from_json(value["previous_paths"], "u1")
        advice = array_from_json(value["advice"], "<i4")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MalformedProof("That is no opening.", cause=type(error).__name__) from error
    if rows is None or end_paths is None:
        raise MalformedProof("An opening has rows and end paths.")
    return Opening(rows=rows, previous=previous, previous_paths=paths, advice=advice, end_paths=end_paths)


def array_to_json(array: npt.NDArray[Any]) -> dict[str, Any]:
    cells = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return {"cells": base64.b64encode(cells).decode(), "shape": list(array.shape)}


def array_from_json(value: Mapping[str, Any] | None, kind: str) -> npt.NDArray[Any] | None:
    if value is None:
        return None
    try:
        cells = base64.b64decode(value["cells"], validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    array = np.frombuffer(cells, kind).reshape([int(side) for side in value["shape"]])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def without_advice(witness: Witness) -> Witness:
    """A witness in the light form of its transcript."""
    return replace(witness, openings=tuple(replace(opening, advice=None) for opening in witness.openings))


def witness_to_json(witness: Witness) -> dict[str, Any]:
    """A witness as it stands in a transcript."""
    measured = {} if witness.measures is None else {"measures": _measures_to_json(witness.measures)}
    return measured | {
        "name": witness.name,
        "share": witness.share.hex(),
        "share_commitment": witness.share_commitment.hex(),
        "nonce_ns": list(witness.timeline.nonce_ns),
        "root_ns": list(witness.timeline.root_ns),
        "openings": [opening_to_json(opening) for opening in witness.openings],
    }


def _transcript_from_json(value: Mapping[str, Any]) -> Transcript:
    nonces = tuple(bytes.fromhex(nonce) for nonce in value["nonces"])
    measured = value.get("measured")
    roots = [(bytes.fromhex(rows), bytes.fromhex(columns)) for rows, columns in value["roots"]]
    return Transcript(
        preset=Preset(**value["preset"]),
        backend=str(value["backend"]),
        binding=bytes.fromhex(value["binding"]),
        nonces=nonces,
        commitments=tuple(Commitment(nonce, *pair) for nonce, pair in zip(nonces, roots, strict=True)),
        witnesses=tuple(witness_from_json(witness) for witness in value["witnesses"]),
        machine_key=bytes.fromhex(measured["machine_key"]) if measured else b"",
        sweep=_sweep_from_json(measured) if measured else None,
    )


def _sweep_from_json(value: Mapping[str, Any]) -> Sweep:
    return Sweep(bytes.fromhex(value["sweep_nonce"]), tuple(bytes.fromhex(each) for each in value["digests"]))


def _measures_to_json(measures: Measures) -> dict[str, Any]:
    return {
        "vantage": measures.vantage,
        "echoes": [[echo.nonce.hex(), echo.signature.hex(), echo.rtt_ns] for echo in measures.echoes],
        "sweep_ns": measures.sweep_ns,
        "reads": [
            [read.block, read.row, array_to_json(read.cells), array_to_json(read.path), read.elapsed_ns]
            for read in measures.reads
        ],
        "sums": array_to_json(measures.sums),
    }


def _measures_from_json(value: Mapping[str, Any]) -> Measures:
    sums = array_from_json(value["sums"], "<u8")
    if sums is None:
        raise ValueError("no sums")
    return Measures(
        vantage=str(value["vantage"]),
        echoes=tuple(Echo(bytes.fromhex(a), bytes.fromhex(b), int(rtt)) for a, b, rtt in value["echoes"]),
        sweep_ns=int(value["sweep_ns"]),
        reads=tuple(read_from_json(*read) for read in value["reads"]),
        sums=sums,
    )


def read_from_json(block: int, row: int, cells: Any, path: Any, elapsed_ns: int) -> Read:
    """A memory read from its parts. Raises MalformedProof for parts that are none."""
    try:
        found, siblings = array_from_json(cells, "i1"), array_from_json(path, "u1")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MalformedProof("That is no row out of memory.", cause=type(error).__name__) from error
    if found is None or siblings is None:
        raise MalformedProof("A row out of memory has cells and a path.")
    return Read(int(block), int(row), found, siblings, int(elapsed_ns))


def witness_from_json(value: Mapping[str, Any]) -> Witness:
    """Read a witness back. Raises ValueError, KeyError, TypeError, AttributeError or MalformedProof."""
    return Witness(
        name=str(value["name"]),
        share=bytes.fromhex(value["share"]),
        share_commitment=bytes.fromhex(value["share_commitment"]),
        timeline=Timeline(tuple(map(int, value["nonce_ns"])), tuple(map(int, value["root_ns"]))),
        openings=tuple(opening_from_json(opening) for opening in value["openings"]),
        measures=_measures_from_json(value["measures"]) if "measures" in value else None,
    )
