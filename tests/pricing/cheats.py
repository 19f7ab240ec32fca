"""The thirteen ways to cheat in a benchmark proof, each as one attempt against the production checks.

`ATTEMPTS[name](run)` plays one session with fresh seeds, nonces and secrets drawn from `run`. It returns when the cheat
went through and raises the refusal when it was caught. `theory(name)` is the chance of being caught.
"""

from collections.abc import Callable
from dataclasses import replace
from math import comb

import numpy as np

from pricing.errors import ProofRefused
from pricing.proof import (
    Backend,
    Checker,
    Commitment,
    FloatBackend,
    Int8s,
    Preset,
    Prover,
    backend_named,
    digest,
    step,
    weights_of,
)
from pricing.residency import READ_MARGIN_NS, Read, check_radius, check_reads, draw_reads
from pricing.transcript import Timeline, check_timeline

TINY = Preset("tiny", size=64, products=2, blocks=3, rows_opened=4, root_deadline_ms=1000)
# q B = 12 opened rows leave skip_rows a fair chance to pass, so that theory can be compared.
SKIPPED = 0.05
MEMORY = Preset("memory", size=32, products=1, blocks=10, rows_opened=1, root_deadline_ms=1000)
RTT_NS = 4_000_000


def secret(*parts: object) -> bytes:
    return digest(*(str(part).encode() for part in parts))


def nonces_of(run: int, preset: Preset) -> list[bytes]:
    return [secret("nonce", run, block) for block in range(preset.blocks)]


def session(run: int, *, kind: type[Prover] = Prover, preset: Preset = TINY, backend: Backend | None = None,
            seed: bytes | None = None, advice: bool = True):  # fmt: skip
    """One session: checker, nonces, commitments, openings."""
    prover = kind(preset=preset, seed=seed or secret("seed", run), backend=backend or backend_named("float32"))
    nonces = nonces_of(run, preset)
    commitments = [prover.commit_block(nonce) for nonce in nonces]
    checker = Checker(preset=preset, seed=secret("seed", run), entropy=secret("entropy", run))
    openings = [prover.open_rows(block, checker.draw_rows(block), advice=advice) for block in range(preset.blocks)]
    return checker, nonces, commitments, openings


class Skipping:
    """Leaves out a share of the rows, at places of its own choice."""

    name = "skipping"

    def __init__(self, run: int, share: float) -> None:
        self.honest, self.share, self.generator = backend_named("float32"), share, np.random.default_rng(run)

    def load(self, weights: Int8s) -> None:
        self.honest.load(weights)

    def product(self, rows: Int8s):
        return self.honest.product(rows)

    def chain(self, rows: Int8s, products: int) -> Int8s:
        ends = self.honest.chain(rows, products)
        left_out = self.generator.choice(len(rows), round(self.share * len(rows)), replace=False)
        ends[left_out] = self.generator.integers(-32, 32, (len(left_out), rows.shape[1]))
        return ends


class Rounding(FloatBackend):
    """Keeps eight significant bits of each product, as a bf16 accumulator would."""

    def __init__(self) -> None:
        super().__init__("bfloat16", np.float32)

    def product(self, rows: Int8s):
        bits = super().product(rows).astype(np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(np.int32)

    def chain(self, rows: Int8s, products: int) -> Int8s:
        for _ in range(products):
            rows = step(self.product(rows))
        return rows


class NoTranspose(Prover):
    """Starts each block from its own last rows instead of other machines' columns."""

    def turn(self, end: Int8s) -> Int8s:
        return end

    def turned_rows(self, block: int, rows):
        return self._ends[block][rows]


class StaleNonce(Prover):
    """Worked ahead on nonces of its own and claims to have answered the fresh ones."""

    def commit_block(self, nonce: bytes) -> Commitment:
        return replace(super().commit_block(digest(b"stale", nonce)), nonce=nonce)


class Hankel(Prover):
    """Multiplies by a structured matrix that a fast transform serves, instead of the one of the seed."""

    def __init__(self, *, preset: Preset, seed: bytes, backend: Backend) -> None:
        super().__init__(preset=preset, seed=seed, backend=backend)
        line = weights_of(seed, preset.size)[:2].ravel()
        places = np.arange(preset.size)
        backend.load(np.ascontiguousarray(line[places[:, None] + places[None, :]]))


def skip_rows(run: int) -> None:
    check(session(run, backend=Skipping(run, SKIPPED)))


def wrong_dtype(run: int) -> None:
    # Only where products pass eight significant bits: at the smallest sizes rounding is no cheat at all.
    check(session(run, backend=Rounding()))


def no_transpose(run: int) -> None:
    check(session(run, kind=NoTranspose))


def stale_nonce(run: int) -> None:
    check(session(run, kind=StaleNonce, advice=run % 2 == 0))


def replay(run: int) -> None:
    _, _, commitments, openings = session(run)
    checker = Checker(preset=TINY, seed=secret("seed", run + 1), entropy=secret("entropy", run))
    nonces = nonces_of(run + 1, TINY)
    relabelled = [replace(item, nonce=nonce) for item, nonce in zip(commitments, nonces, strict=True)]
    checker.check(nonces, relabelled if run % 2 else commitments, openings)


def other_w(run: int) -> None:
    check(session(run, seed=secret("a cheaper seed", run)))


def forged_path(run: int) -> None:
    checker, nonces, commitments, openings = session(run)
    generator = np.random.default_rng(run)
    block = int(generator.integers(TINY.blocks))
    field = "previous_paths" if block and run % 2 else "end_paths"
    paths = getattr(openings[block], field).copy()
    place = tuple(int(generator.integers(side)) for side in paths.shape)
    paths[place] ^= np.uint8(1 << int(generator.integers(8)))
    openings[block] = replace(openings[block], **{field: paths})
    checker.check(nonces, commitments, openings)


def late_root(run: int) -> None:
    generator = np.random.default_rng(run)
    late = int(generator.integers(TINY.blocks))
    sent, arrived, now = [], [], 1
    for block in range(TINY.blocks):
        sent.append(now)
        took = TINY.root_deadline_ms * 1_000_000 + 1 + int(generator.integers(10**9)) if block == late else 10**6
        now += took
        arrived.append(now)
        now += 1
    check_timeline(TINY, Timeline(tuple(sent), tuple(arrived)))


def short_memory(run: int) -> None:
    prover = Prover(preset=MEMORY, seed=secret("seed", run), backend=backend_named("float32"))
    commitments = [prover.commit_block(nonce) for nonce in nonces_of(run, MEMORY)]
    missing = int(np.random.default_rng(run).integers(MEMORY.blocks))
    asked = draw_reads(MEMORY, entropy=secret("reads", run))
    reads = [read_of(prover, block, row, is_missing=block == missing) for block, row in asked]
    check_reads(MEMORY, commitments, asked, reads, rtt_max_ns=RTT_NS)


def read_of(prover: Prover, block: int, row: int, *, is_missing: bool) -> Read:
    """A true row; one that was not resident had to be computed again, longer than the margin."""
    cells, path = prover.read(block, row)
    late_ns = READ_MARGIN_NS + 1 if is_missing else 8_000
    return Read(block, row, cells, path, RTT_NS + late_ns)


def relay_rtt(run: int) -> None:
    """Claims to be nearer than light in fibre allows for the best of its echoes."""
    generator = np.random.default_rng(run)
    true_km = int(generator.integers(50, 20_000))
    echoes = (true_km * 10_000 * generator.uniform(1.0, 2.0, 20) + 1).astype(np.int64).tolist()
    check_radius(int(generator.integers(1, true_km)), echoes)


def hankel_seed(run: int) -> None:
    check(session(run, kind=Hankel))


def truncated_advice(run: int) -> None:
    checker, nonces, commitments, openings = session(run)
    whole = openings[run % TINY.blocks].advice
    cut = (whole[:-1], whole[:, :-1], whole[:, :, :-1], whole.astype(np.int64))[run % 4]
    openings[run % TINY.blocks] = replace(openings[run % TINY.blocks], advice=cut)
    checker.check(nonces, commitments, openings)


def malformed(run: int) -> None:
    checker, nonces, commitments, openings = session(run)
    block = 1 + run % (TINY.blocks - 1)
    good = openings[block]
    broken = (
        replace(good, previous=None),
        replace(good, previous=good.previous + np.int8(64)),
        replace(good, rows=np.zeros_like(good.rows)),
        replace(good, rows=good.rows + TINY.size),
        replace(good, end_paths=good.end_paths[:, :-1]),
        replace(good, advice=np.full_like(good.advice, 1024 * TINY.size + 1)),
    )[run % 6]
    openings[block] = broken
    checker.check(nonces, commitments, openings)


def check(played) -> None:
    checker, nonces, commitments, openings = played
    checker.check(nonces, commitments, openings)


ATTEMPTS: dict[str, Callable[[int], None]] = {
    attempt.__name__: attempt
    for attempt in (
        skip_rows, wrong_dtype, no_transpose, stale_nonce, replay, other_w, forged_path, late_root, short_memory,
        relay_rtt, hankel_seed, truncated_advice, malformed,
    )
}  # fmt: skip


# A cheat that is refused for another reason is a mistake of this harness, not a catch.
REFUSED_AS: dict[str, set[str]] = {
    "skip_rows": {"proof_freivalds", "proof_path"},
    "wrong_dtype": {"proof_freivalds"},
    "no_transpose": {"proof_transposition"},
    "stale_nonce": {"proof_freivalds", "proof_path"},
    "replay": {"proof_nonce", "proof_freivalds"},
    "other_w": {"proof_freivalds"},
    "forged_path": {"proof_path"},
    "late_root": {"proof_late_root"},
    "short_memory": {"proof_read_too_late"},
    "relay_rtt": {"proof_radius"},
    "hankel_seed": {"proof_freivalds"},
    "truncated_advice": {"proof_malformed"},
    "malformed": {"proof_malformed"},
}


def theory(name: str) -> float:
    """The chance that one attempt is caught."""
    if name == "skip_rows":
        # Exact for rows opened without repetition: round(5 % of 64) = 3 rows of 64 are missing in each block.
        left_out = round(SKIPPED * TINY.size)
        untouched = comb(TINY.size - left_out, TINY.rows_opened) / comb(TINY.size, TINY.rows_opened)
        return 1 - untouched**TINY.blocks
    if name == "short_memory":
        return float(1 - 0.9**64)
    return 1.0


def tried(name: str, count: int) -> tuple[int, float]:
    """How many of `count` attempts were caught, and the least that theory - 3 sigma allows."""
    caught = 0
    for run in range(count):
        try:
            ATTEMPTS[name](run)
        except ProofRefused as refusal:
            caught += refusal.code in REFUSED_AS[name]
    expected = theory(name)
    return caught, count * expected - 3 * (count * expected * (1 - expected)) ** 0.5
