r"""Prove speed by work that anybody can check: the PoB chain.

Let n be the size, L the products per block, B the blocks, q the rows opened per block, t = 8 secret vectors.

    W        = PRG(seed)                              n x n, i.i.d. in [-32, 31], rows addressable
    X_b      = ((T_b + 32 + PRG(nonce_b)) & 63) - 32  T_b = transpose of the end matrix before (block 0: all -32)
    L times  : Y = X_b W ;  X_b = step(Y)             step(y) = (((y >> 5) xor (y >> 11)) & 63) - 32
    commit   : Merkle roots of the rows of X_b and of the rows of its transpose
    open     : q secret rows of each block: T row with its path, the L rows of Y (advice), path of the end row
    check    : Y R = X (W R) for a secret int8 matrix R of n x t   error <= 2^-64 per row and step [Freivalds 1977]

Every partial sum is at most 32 * 32 * n <= 2^24 for n <= 16384, so float32, float64 and int8 -> int32 products are the
same integers in any order of summation. The step is no ring homomorphism, so powers of W are of no use; it is local to
a row, so one commitment covers L products. There is no clock and no source of randomness here: both are arguments.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pricing.errors import FreivaldsRefused, MalformedProof, NonceRefused, PathRefused, TranspositionRefused

SUITE = "pob-chain/1"
SECRET_VECTORS = 8
SIZE_MAX = 16384  # beyond it a partial sum may pass 2^24 and float32 would round
PANEL_ROWS = 512  # a panel of this height stays in cache through all L products
FLOAT32_VECTORS_MAX = 4096
WEIGHED_ROWS = 64
# OpenBLAS packs W anew for every product: 512 rows at a time cost 16 % at n = 2048, all of them nothing.
FLOAT_PANEL_ROWS = 4096
STEP_CELLS = 1 << 17  # the step goes over a product in parts of 512 KiB: its five passes then stay in the inner cache

Int8s: TypeAlias = npt.NDArray[np.int8]
Int32s: TypeAlias = npt.NDArray[np.int32]
Int64s: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]


# --- what is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """One row of the ladder: how large the chain is and how much of it is opened."""

    name: str
    size: int  # n, a power of two from 32 to 16384
    products: int  # L, per block
    blocks: int  # B; one block alone has no transposition check and never serves as a baseline
    rows_opened: int  # q, per block and verifier
    root_deadline_ms: int  # from a nonce to the root of its block

    def __post_init__(self) -> None:
        is_power = self.size & (self.size - 1) == 0
        if not (is_power and 32 <= self.size <= SIZE_MAX and 1 <= self.rows_opened <= self.size):
            raise MalformedProof("The size must be a power of two from 32 to 16384.", size=self.size)
        if min(self.products, self.blocks, self.root_deadline_ms) < 1:
            raise MalformedProof("A chain has at least one block of one product.", preset=self.name)

    @property
    def operations(self) -> int:
        """Multiplications and additions of the whole chain: 2 n^3 L B."""
        return 2 * self.size**3 * self.products * self.blocks

    @property
    def depth(self) -> int:
        """Length of a Merkle path."""
        return self.size.bit_length() - 1


# Per purpose one row for each size of machine, smallest first; `pricing.presets` chooses among them.
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("pilot", size=1024, products=8, blocks=1, rows_opened=1, root_deadline_ms=20_000),
        Preset("demo", size=1024, products=8, blocks=4, rows_opened=16, root_deadline_ms=10_000),
        Preset("recheck", size=2048, products=4, blocks=1, rows_opened=256, root_deadline_ms=20_000),
        Preset("recheck-4096", size=4096, products=2, blocks=2, rows_opened=128, root_deadline_ms=20_000),
        Preset("recheck-8192", size=8192, products=4, blocks=2, rows_opened=128, root_deadline_ms=20_000),
        Preset("recheck-16384", size=16384, products=16, blocks=9, rows_opened=29, root_deadline_ms=20_000),
        Preset("short", size=2048, products=8, blocks=8, rows_opened=32, root_deadline_ms=30_000),
        Preset("short-4096", size=4096, products=8, blocks=6, rows_opened=43, root_deadline_ms=30_000),
        Preset("short-8192", size=8192, products=4, blocks=12, rows_opened=22, root_deadline_ms=30_000),
        Preset("short-16384", size=16384, products=16, blocks=98, rows_opened=3, root_deadline_ms=30_000),
        Preset("full", size=2048, products=16, blocks=26, rows_opened=10, root_deadline_ms=60_000),
        Preset("full-4096", size=4096, products=16, blocks=19, rows_opened=14, root_deadline_ms=60_000),
        Preset("full-8192", size=8192, products=4, blocks=37, rows_opened=7, root_deadline_ms=60_000),
        Preset("full-16384", size=16384, products=35, blocks=268, rows_opened=2, root_deadline_ms=60_000),
    )
}


@dataclass(frozen=True)
class Commitment:
    """What a prover says at the end of a block; it repeats the nonce that it answers."""

    nonce: bytes
    rows_root: bytes  # Merkle root of the rows of X_b
    columns_root: bytes  # Merkle root of the rows of the transpose of X_b


@dataclass(frozen=True)
class Opening:
    """The opened rows of one block, in the order of `rows`."""

    rows: Int64s  # int64 [q] row numbers
    previous: Int8s | None  # int8 [q, n] rows of T_b; None in the first block
    previous_paths: Bytes | None  # uint8 [q, log2 n, 32] their paths in the columns root of the block before
    advice: Int32s | None  # int32 [L, q, n] rows of Y after each product; None in direct mode
    end_paths: Bytes  # uint8 [q, log2 n, 32] paths of the end rows in the rows root


# --- arithmetic ----------------------------------------------------------------------------------------------------


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each with its length before it, so that no two lists of parts read alike."""
    sponge = hashlib.sha256()
    for part in parts:
        sponge.update(len(part).to_bytes(8, "little") + part)
    return sponge.digest()


def random_rows(key: bytes, first: int, last: int, size: int) -> Bytes:
    """Rows first..last-1 of the size-wide matrix of a key, entries in [0, 63]; any row costs the same.

    One Philox counter gives 32 bytes, so row i starts at counter i * size / 32.
    """
    philox = np.random.Philox(key=int.from_bytes(key[:16], "little"), counter=first * size // 32)
    words = philox.random_raw((last - first) * size // 8).astype("<u8", copy=False)
    entries: Bytes = words.view(np.uint8)
    entries &= np.uint8(63)  # in place: at n = 2048 a fresh matrix costs as much as half of its numbers
    return entries.reshape(last - first, size)


def weights_of(seed: bytes, size: int) -> Int8s:
    """W of a seed, int8 [n, n] in [-32, 31]."""
    return weight_rows(seed, 0, size, size)


def weight_rows(seed: bytes, first: int, last: int, size: int) -> Int8s:
    """Rows first..last-1 of the W of a seed."""
    entries = random_rows(digest(b"weights", seed), first, last, size).view(np.int8)
    entries -= np.int8(32)
    return entries


def nonce_rows(nonce: bytes, rows: Int64s | None, size: int) -> Bytes:
    """Rows of PRG(nonce), uint8 in [0, 63]; all of them when `rows` is None."""
    key = digest(b"nonce", nonce)
    if rows is None:
        return random_rows(key, 0, size, size)
    return np.concatenate([random_rows(key, int(row), int(row) + 1, size) for row in rows])


def mix(previous: Int8s | None, noise: Bytes) -> Int8s:
    """Start rows of a block from rows of T and rows of PRG(nonce)."""
    if previous is None:
        return noise.view(np.int8) - np.int8(32)
    mixed: Bytes = previous.view(np.uint8) + noise  # + 32 changes only bit 5 and the wrap, which the mask takes away
    mixed += np.uint8(32)
    mixed &= np.uint8(63)
    mixed -= np.uint8(32)
    return mixed.view(np.int8)


def step(product: Int32s) -> Int8s:
    """The non-linear step int32 -> [-32, 31]; (y ^ y >> 6) >> 5 is (y >> 5) ^ (y >> 11)."""
    return (((product >> 5) ^ (product >> 11)) & 63).astype(np.int8) - np.int8(32)


def step_in_parts(product: Any, out: Any, *, offset: int) -> None:
    """The step of a whole panel into `out` (any kind of number), plus `offset`, in parts that stay in the inner cache.

    `product` may be of floating numbers that hold integers; both are C-contiguous. Bit for bit what `step` gives.
    """
    flat, wanted = product.reshape(-1), out.reshape(-1)
    whole = np.empty(min(STEP_CELLS, len(flat)), np.int32)
    shifted = np.empty_like(whole)
    for first in range(0, len(flat), STEP_CELLS):
        part = flat[first : first + STEP_CELLS]
        if part.dtype != np.int32:
            np.copyto(whole[: len(part)], part, casting="unsafe")
            part = whole[: len(part)]
        some = shifted[: len(part)]
        np.right_shift(part, 6, out=some)
        np.bitwise_xor(part, some, out=some)
        np.right_shift(some, 5, out=some)
        np.bitwise_and(some, 63, out=some)
        if offset:
            np.add(some, offset, out=some)
        np.copyto(wanted[first : first + STEP_CELLS], some, casting="unsafe")


def transpose(matrix: Int8s) -> Int8s:
    """The transpose of a square matrix of a power of two from 8, C-contiguous; eight bytes at a time.

    Byte by byte a transposition costs a tenth of an int8 block at n = 2048. Here every 8 x 8 tile is eight words that
    trade halves, quarters and eighths among each other, in a whole column of tiles at once.
    """
    size = len(matrix)
    tiles = np.ascontiguousarray(matrix).view(np.uint64).reshape(size // 8, 8, size // 8)
    words = [tiles[:, row].copy() for row in range(8)]
    for distance in (4, 2, 1):
        bits = np.uint64(8 * distance)
        mask = np.uint64(sum(255 << 8 * byte for byte in range(8) if not byte & distance))
        for row in range(8):
            if not row & distance:
                _trade(words[row], words[row + distance], bits, mask)
    turned = np.empty((size, size), np.int8)
    columns = turned.view(np.uint64).reshape(size // 8, 8, size // 8)
    for row in range(8):
        columns[:, row] = words[row].T
    return turned


def _trade(upper: Any, lower: Any, bits: np.uint64, mask: np.uint64) -> None:
    different = upper >> bits
    different ^= lower
    different &= mask
    lower ^= different
    different <<= bits
    upper ^= different


class Backend(Protocol):
    """Whoever multiplies. Two backends differ in speed alone, never in one bit."""

    name: str

    def load(self, weights: Int8s) -> None:
        """Take W, int8 [n, n]."""

    def product(self, rows: Int8s) -> Int32s:
        """Y = X W for some rows, int32 [rows, n]."""

    def chain(self, rows: Int8s, products: int) -> Int8s:
        """The rows after `products` rounds of product and step, int8 [rows, n]."""


class FloatBackend:
    """numpy in float32 (the reference) or float64 (the second witness)."""

    def __init__(self, name: str, dtype: type[np.float32] | type[np.float64]) -> None:
        self.name = name
        self._dtype: Any = dtype

    def load(self, weights: Int8s) -> None:
        self._weights: Any = weights.astype(self._dtype)

    def product(self, rows: Int8s) -> Int32s:
        product: Int32s = (rows.astype(self._dtype) @ self._weights).astype(np.int32)
        return product

    def chain(self, rows: Int8s, products: int) -> Int8s:
        ends = np.empty_like(rows)
        height = min(FLOAT_PANEL_ROWS, len(rows))
        held = tuple(np.empty((height, rows.shape[1]), self._dtype) for _ in range(2))
        for first in range(0, len(rows), height):
            panel = rows[first : first + height]
            self._chain_panel(panel, products, ends[first : first + height], *(work[: len(panel)] for work in held))
        return ends

    def _chain_panel(self, panel: Int8s, products: int, ends: Int8s, x: Any, y: Any) -> None:
        # In place throughout: fresh arrays for each step cost about a fifth of the score at n = 1024.
        np.copyto(x, panel, casting="unsafe")
        for left in range(products - 1, -1, -1):
            np.matmul(x, self._weights, out=y)
            step_in_parts(y, x if left else ends, offset=-32)


def backend_named(name: str) -> Backend:
    """A fresh backend: "float32" or "float64". Raises MalformedProof for any other name."""
    if name == "float32":
        return FloatBackend(name, np.float32)
    if name == "float64":
        return FloatBackend(name, np.float64)
    raise MalformedProof("No such backend.", backend=name)


# --- Merkle trees --------------------------------------------------------------------------------------------------


def merkle_levels(rows: Int8s) -> list[list[bytes]]:
    """Levels of the tree over the rows, leaves first, root last; leaves and nodes carry different prefixes."""
    sha256, length = hashlib.sha256, rows.shape[1] + 1
    prefixed = np.empty((len(rows), length), np.int8)  # one buffer for all leaves, each behind its prefix
    prefixed[:, 0], prefixed[:, 1:] = 0, rows
    leaves = memoryview(prefixed.reshape(-1))  # type: ignore[arg-type]
    level = [sha256(leaves[first : first + length]).digest() for first in range(0, len(leaves), length)]
    levels = [level]
    while len(level) > 1:
        level = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=True)]
        levels.append(level)
    return levels


def merkle_paths(levels: list[list[bytes]], rows: Int64s) -> Bytes:
    """The siblings from leaf to root of each row, uint8 [rows, log2 n, 32]."""
    siblings = [level[(int(row) >> height) ^ 1] for row in rows for height, level in enumerate(levels[:-1])]
    return np.frombuffer(b"".join(siblings), np.uint8).reshape(len(rows), len(levels) - 1, 32)


def root_from_path(row: Int8s, number: int, path: Bytes) -> bytes:
    """The root that a row and its siblings lead to."""
    sha256, siblings = hashlib.sha256, path.tobytes()
    node = sha256(b"\0" + row.tobytes()).digest()
    for first in range(0, len(siblings), 32):
        sibling = siblings[first : first + 32]
        node = sha256(b"\1" + sibling + node if number & 1 else b"\1" + node + sibling).digest()
        number >>= 1
    return node


# --- the prover ----------------------------------------------------------------------------------------------------


class Prover:
    """Does the work of one challenge and answers for it. Keeps every end matrix, B n^2 bytes, until it is dropped."""

    def __init__(self, *, preset: Preset, seed: bytes, backend: Backend) -> None:
        self.preset = preset
        self.backend = backend
        backend.load(weights_of(seed, preset.size))
        self._nonces: list[bytes] = []
        self._ends: list[Int8s] = []  # X_b of each block: what memory reads and sweeps go over
        self._turned: Int8s | None = None  # T of the next block
        self._row_trees: list[list[list[bytes]]] = []
        self._column_trees: list[list[list[bytes]]] = []

    def commit_block(self, nonce: bytes) -> Commitment:
        """Compute the next block on a nonce and commit to its rows and columns."""
        start = mix(self._turned, nonce_rows(nonce, None, self.preset.size))
        end = self.backend.chain(start, self.preset.products)
        self._turned = self.turn(end)
        self._nonces.append(nonce)
        self._ends.append(end)
        self._row_trees.append(merkle_levels(end))
        self._column_trees.append(merkle_levels(self._turned))
        return Commitment(nonce, self._row_trees[-1][-1][0], self._column_trees[-1][-1][0])

    def open_rows(self, block: int, rows: Int64s, *, advice: bool = True) -> Opening:
        """Rows of a committed block with their paths; with advice also the L rows of Y each.

        Raises MalformedProof for a block that is not committed or a row outside the matrix.
        """
        self._refuse_foreign_rows(block, rows)
        previous = self.turned_rows(block - 1, rows) if block else None
        paths = merkle_paths(self._column_trees[block - 1], rows) if block else None
        products = self._advice(block, rows, previous) if advice else None
        return Opening(rows, previous, paths, products, merkle_paths(self._row_trees[block], rows))

    def turn(self, end: Int8s) -> Int8s:
        """What the next block starts from: the transpose of an end matrix."""
        return transpose(end)

    def turned_rows(self, block: int, rows: Int64s) -> Int8s:
        """Some rows of the transpose of a committed block's end matrix, int8 [rows, n]."""
        return np.ascontiguousarray(self._ends[block][:, rows].T)

    def read(self, block: int, row: int) -> tuple[Int8s, Bytes]:
        """One row of an end matrix out of memory, int8 [n], and its path in the rows root, uint8 [log2 n, 32]."""
        wanted = np.array([row])
        self._refuse_foreign_rows(block, wanted)
        return self._ends[block][row], merkle_paths(self._row_trees[block], wanted)[0]

    @property
    def resident(self) -> Sequence[Int8s]:
        """The end matrices of all committed blocks, as they lie in memory."""
        return self._ends

    def _refuse_foreign_rows(self, block: int, rows: Int64s) -> None:
        if not 0 <= block < len(self._nonces):
            raise MalformedProof("That block is not committed.", block=block, committed=len(self._nonces))
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= self.preset.size:
            raise MalformedProof("Those rows are not in the matrix.", block=block)

    def _advice(self, block: int, rows: Int64s, previous: Int8s | None) -> Int32s:
        current = mix(previous, nonce_rows(self._nonces[block], rows, self.preset.size))
        products = []
        for _ in range(self.preset.products):
            products.append(self.backend.product(current))
            current = step(products[-1])
        return np.stack(products)


# --- the verifier's arithmetic -------------------------------------------------------------------------------------


class Checker:
    """What one verifier holds against a prover: W, its secret vectors R, W R, and its secret rows.

    `entropy` is at least 32 secret random bytes; the prover must not learn a row before its last commitment, nor the
    vectors at all. The same entropy gives the same rows and vectors.
    """

    def __init__(self, *, preset: Preset, seed: bytes, entropy: bytes) -> None:
        if len(entropy) < 32:
            raise MalformedProof("A checker needs at least 32 bytes of entropy.", length=len(entropy))
        self.preset = preset
        self._seed = seed
        self._direct: Backend | None = None  # made when the first opening comes without advice
        drawn = _generator(b"vectors", entropy).integers(-128, 128, (preset.size, SECRET_VECTORS), np.int8)
        # Exact in float64: |W R| <= 2^26, |X (W R)| and |Y R| <= 2^45 at the largest size.
        self._vectors = drawn.astype(np.float64)
        self._weighted = _weighted(seed, drawn)
        self._entropy = entropy

    def draw_rows(self, block: int) -> Int64s:
        """q distinct secret rows of a block, int64 [q]."""
        generator = _generator(b"rows", self._entropy, block.to_bytes(4, "little"))
        return generator.choice(self.preset.size, self.preset.rows_opened, replace=False).astype(np.int64)

    def check(self, nonces: Sequence[bytes], commitments: Sequence[Commitment], openings: Sequence[Opening]) -> None:
        """Check every opened row of every block; no answer means that all hold.

        Openings without advice are recomputed exactly (direct mode), which costs q / n of the proof. Whoever asked for
        certain rows compares them first. Raises NonceRefused, MalformedProof, PathRefused, TranspositionRefused or
        FreivaldsRefused.
        """
        check_nonces(nonces, commitments, self.preset)
        if len(openings) != self.preset.blocks:
            raise MalformedProof("Every block is opened.", want=self.preset.blocks, have=len(openings))
        before: tuple[Int64s, Int8s] | None = None
        for block, opening in enumerate(openings):
            check_shape(self.preset, block, opening)
            if before is not None:
                _check_previous(block, opening, commitments[block - 1].columns_root, *before)
            ends = self._chain_rows(block, nonces[block], opening)
            _check_paths(block, "rows", ends, opening.rows, opening.end_paths, commitments[block].rows_root)
            before = opening.rows, ends

    def _chain_rows(self, block: int, nonce: bytes, opening: Opening) -> Int8s:
        current = mix(opening.previous, nonce_rows(nonce, opening.rows, self.preset.size))
        for number in range(self.preset.products):
            if opening.advice is None:
                product = self._recompute(current)
            else:
                product = opening.advice[number]
                self._check_product(block, number, current, product)
            current = step(product)
        return current

    def _recompute(self, rows: Int8s) -> Int32s:
        if self._direct is None:
            self._direct = backend_named("float32")
            self._direct.load(weights_of(self._seed, self.preset.size))
        return self._direct.product(rows)

    def _check_product(self, block: int, number: int, rows: Int8s, product: Int32s) -> None:
        holds = product.astype(np.float64) @ self._vectors == rows.astype(np.float64) @ self._weighted
        if not holds.all():
            raise FreivaldsRefused("A product is not what it claims to be.", block=block, product=number)


def check_nonces(nonces: Sequence[bytes], commitments: Sequence[Commitment], preset: Preset) -> None:
    """Every block answers its own, fresh nonce. Raises NonceRefused or MalformedProof."""
    if len(nonces) != preset.blocks or len(commitments) != preset.blocks:
        raise MalformedProof("One nonce and one commitment per block.", want=preset.blocks, have=len(commitments))
    if len(set(nonces)) != len(nonces):
        raise NonceRefused("A nonce is used once.")
    for block, (nonce, commitment) in enumerate(zip(nonces, commitments, strict=True)):
        check_commitment(block, nonce, commitment)


def check_commitment(block: int, nonce: bytes, commitment: Commitment) -> None:
    """A commitment is well formed and answers this nonce. Raises NonceRefused or MalformedProof."""
    if len(nonce) != 32 or len(commitment.rows_root) != 32 or len(commitment.columns_root) != 32:
        raise MalformedProof("Nonces and roots have 32 bytes.", block=block)
    if commitment.nonce != nonce:
        raise NonceRefused("The block answers another nonce.", block=block)


def check_shape(preset: Preset, block: int, opening: Opening) -> None:
    """An opening has the shapes, kinds and ranges of its preset. Raises MalformedProof."""
    count, size = preset.rows_opened, preset.size
    paths = (count, preset.depth, 32)
    wanted: list[tuple[str, Any, tuple[int, ...], type[np.generic]]] = [
        ("rows", opening.rows, (count,), np.int64),
        ("end_paths", opening.end_paths, paths, np.uint8),
    ]
    if block:
        wanted.append(("previous", opening.previous, (count, size), np.int8))
        wanted.append(("previous_paths", opening.previous_paths, paths, np.uint8))
    elif opening.previous is not None or opening.previous_paths is not None:
        raise MalformedProof("The first block has no matrix before it.", block=block)
    if opening.advice is not None:
        wanted.append(("advice", opening.advice, (preset.products, count, size), np.int32))
    for field, array, shape, kind in wanted:
        if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != kind:
            raise MalformedProof("A part of the opening has the wrong shape.", block=block, field=field)
    _check_ranges(preset, block, opening)


def _check_ranges(preset: Preset, block: int, opening: Opening) -> None:
    rows, previous, advice = opening.rows, opening.previous, opening.advice
    if len(np.unique(rows)) != len(rows) or rows.min() < 0 or rows.max() >= preset.size:
        raise MalformedProof("Opened rows are distinct rows of the matrix.", block=block)
    if previous is not None and (previous.min() < -32 or previous.max() > 31):
        raise MalformedProof("Entries lie in [-32, 31].", block=block)
    # Without this bound a forged product could pass 2^53 in the check and be rounded there.
    if advice is not None and max(-int(advice.min()), int(advice.max())) > 1024 * preset.size:
        raise MalformedProof("A product is larger than any true one.", block=block)


def _check_previous(block: int, opening: Opening, columns_root: bytes, rows: Int64s, ends: Int8s) -> None:
    previous, paths = opening.previous, opening.previous_paths
    assert previous is not None
    assert paths is not None
    _check_paths(block, "columns", previous, opening.rows, paths, columns_root)
    # T[i, r] is X[r, i]: the rows opened before and now cross in q * q cells.
    if not np.array_equal(previous[:, rows], ends[:, opening.rows].T):
        raise TranspositionRefused("The block does not start from the transpose of the one before.", block=block)


def _check_paths(block: int, tree: str, rows: Int8s, numbers: Int64s, paths: Bytes, root: bytes) -> None:
    for row, number, path in zip(rows, numbers, paths, strict=True):
        if root_from_path(row, int(number), path) != root:
            raise PathRefused("A row does not lead to the committed root.", block=block, tree=tree, row=int(number))


def _generator(label: bytes, *parts: bytes) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(label, *parts)[:16], "little")))


def _weighted(seed: bytes, vectors: Int8s) -> npt.NDArray[np.float64]:
    # |W R| <= 32 * 128 * n stays below 2^24 up to n = 4096, so float32 is exact there and costs half.
    # W is made panel by panel and dropped: as a whole it would cost 8 n^2 bytes in float64, 2 GiB at the largest size.
    size = len(vectors)
    kind: Any = np.float32 if size <= FLOAT32_VECTORS_MAX else np.float64
    right, height = vectors.astype(kind), min(WEIGHED_ROWS, size)
    weighted, panel = np.empty((size, vectors.shape[1])), np.empty((height, size), kind)
    for first in range(0, size, height):
        np.copyto(panel, weight_rows(seed, first, first + height, size), casting="unsafe")
        weighted[first : first + height] = panel @ right
    return weighted
