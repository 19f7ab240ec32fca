"""keccak-256 of many messages of one length at once, in NumPy.

The hash of the packages at hand costs 8 us a call, most of it on the way in and out: a million leaves would take half a
minute. Here every step of the permutation is done for thousands of messages, at 2.5 us a block on one core. Few
messages go to the packages' hash; the tests hold the two against each other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from eth_hash.auto import keccak

Bytes = npt.NDArray[np.uint8]
Lanes = npt.NDArray[np.uint64]

RATE = 136  # bytes of a block
_AT_ONCE = 8_192  # messages; more do not stay in the cache
_FEW = 256


def _round_constants() -> list[np.uint64]:
    """The constants of iota, from their shift register."""
    register, constants = 1, []
    for _ in range(24):
        constant = 0
        for power in range(7):
            if register & 1:
                constant ^= 1 << ((1 << power) - 1)
            register = ((register << 1) ^ ((register >> 7) * 0x171)) & 0xFF
        constants.append(np.uint64(constant))
    return constants


def _rotations() -> list[tuple[int, int, int]]:
    """For each lane (x, y) how far rho turns it, starting with the one that is not turned."""
    turns, x, y = [(0, 0, 0)], 1, 0
    for step in range(24):
        turns.append((x, y, (step + 1) * (step + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return turns


_IOTA, _RHO = _round_constants(), _rotations()
_ONE, _REST = np.uint64(1), np.uint64(63)


def keccak_many(messages: Bytes) -> Bytes:
    """Return the 32-byte hashes of the rows of a two-dimensional array of bytes."""
    count = len(messages)
    if count < _FEW:
        hashes = b"".join(keccak(row.tobytes()) for row in messages)
        return np.frombuffer(hashes, np.uint8).reshape(count, 32)
    parts = [_hash(messages[first : first + _AT_ONCE]) for first in range(0, count, _AT_ONCE)]
    return np.concatenate(parts)


def merkle_root(leaves: Bytes) -> bytes:
    """Return the root over leaf hashes as `ledger.epochs` defines it: by position, an odd node promoted."""
    level = leaves
    while len(level) > 1:
        pairs = len(level) // 2
        nodes = np.empty((pairs, 65), np.uint8)
        nodes[:, 0] = 1
        nodes[:, 1:] = level[: pairs * 2].reshape(pairs, 64)
        rest = level[pairs * 2 :]
        level = np.concatenate([keccak_many(nodes), rest])
    return level[0].tobytes() if len(level) else bytes(32)


def _hash(messages: Bytes) -> Bytes:
    count, length = messages.shape
    blocks = length // RATE + 1
    padded = np.zeros((count, blocks * RATE), np.uint8)
    padded[:, :length] = messages
    padded[:, length] ^= 0x01
    padded[:, -1] ^= 0x80
    lanes = padded.view("<u8")
    state: Lanes = np.zeros((5, 5, count), np.uint64)  # [y, x, message]
    flat = state.reshape(25, count)
    scratch: Lanes = np.empty_like(state)
    rows: list[Lanes] = [np.empty((5, count), np.uint64) for _ in range(3)]
    for block in range(blocks):
        flat[:17] ^= lanes[:, block * 17 : (block + 1) * 17].T
        _permute(state, scratch, rows)
    return np.ascontiguousarray(flat[:4].T).view(np.uint8)


def _permute(a: Lanes, b: Lanes, rows: list[Lanes]) -> None:
    """Keccak-f[1600] of all messages, in place; `b` and `rows` are room to work in."""
    column, turned, t = rows
    for constant in _IOTA:
        np.bitwise_xor(a[0], a[1], out=column)
        for y in (2, 3, 4):
            np.bitwise_xor(column, a[y], out=column)
        np.left_shift(column, _ONE, out=turned)
        np.right_shift(column, _REST, out=t)
        np.bitwise_or(turned, t, out=turned)
        for x in range(5):
            np.bitwise_xor(column[x - 1], turned[(x + 1) % 5], out=t[x])
        np.bitwise_xor(a, t, out=a)
        for x, y, turn in _RHO:
            source, target = a[y, x], b[(2 * x + 3 * y) % 5, y]
            np.left_shift(source, np.uint64(turn), out=target)
            if turn:
                np.right_shift(source, np.uint64(64 - turn), out=t[0])
                np.bitwise_or(target, t[0], out=target)
        np.invert(b, out=a)
        for y in range(5):
            np.bitwise_and(a[y, 1:4], b[y, 2:5], out=t[0:3])
            np.bitwise_and(a[y, 4], b[y, 0], out=t[3])
            np.bitwise_and(a[y, 0], b[y, 1], out=t[4])
            np.bitwise_xor(b[y], t, out=a[y])
        np.bitwise_xor(a[0, 0], constant, out=a[0, 0])
