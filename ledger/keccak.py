"""keccak-256 of many messages of one length at once, in NumPy.

The hash of the packages at hand costs 8 us a call, most of it on the way in and out: a million leaves would take half a
minute. Here every step of the permutation is done for thousands of messages, at about 2 us a block on one core. A word
holds one bit of 64 messages, not 64 bits of one: to turn a lane is then to read its bits from other places. Few
messages go to the packages' hash; the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from eth_hash.auto import keccak

Bytes = npt.NDArray[np.uint8]
Lanes = npt.NDArray[np.uint64]

RATE = 136  # bytes of a block
_AT_ONCE = 8_192  # messages; fewer pay more for each call, more leave the cache
_FEW = 256


def _round_constants() -> list[Lanes]:
    """The constants of iota, from their shift register: each as 64 words, all ones where the bit is set."""
    register, constants = 1, []
    for _ in range(24):
        constant = np.zeros((64, 1), np.uint64)
        for power in range(7):
            if register & 1:
                constant[(1 << power) - 1] = 2**64 - 1
            register = ((register << 1) ^ ((register >> 7) * 0x171)) & 0xFF
        constants.append(constant)
    return constants


def _turns() -> dict[tuple[int, int], int]:
    """How far rho turns each lane (x, y)."""
    turns, x, y = {(0, 0): 0}, 1, 0
    for step in range(24):
        turns[x, y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return turns


_IOTA, _TURNS = _round_constants(), _turns()
_SWAPS = [
    (width, np.uint64(width), np.uint64((2**64 - 1) // (2**width + 1)))  # the last: a word whose lower halves are ones
    for width in (32, 16, 8, 4, 2, 1)
]


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
    words, blocks = -(-count // 64), length // RATE + 1
    padded = np.zeros((words * 64, blocks * RATE), np.uint8)
    padded[:count, :length] = messages
    padded[:, length] ^= 0x01
    padded[:, -1] ^= 0x80
    lanes = np.ascontiguousarray(padded.view("<u8").T).reshape(-1, 64, words)
    _transpose(lanes)
    state: Lanes = np.zeros((5, 5, 64, words), np.uint64)  # [x, y, bit, 64 messages]
    permutation = _Permutation(state)
    for block in range(blocks):
        for lane in range(17):
            state[lane % 5, lane // 5] ^= lanes[block * 17 + lane]
        permutation.run()
    hashes = np.ascontiguousarray(state[:4, 0])
    _transpose(hashes)
    return np.ascontiguousarray(hashes.reshape(4, -1).T)[:count].view(np.uint8)


def _transpose(lanes: Lanes) -> None:
    """Make bit b of word i bit i of word b, in each column of 64 words, in place: by halves, by quarters, and so on."""
    room = np.empty((len(lanes), 32, lanes.shape[2]), np.uint64)
    for width, shift, lower in _SWAPS:
        pairs = lanes.reshape(len(lanes), 32 // width, 2, width, -1)
        first, second, change = pairs[:, :, 0], pairs[:, :, 1], room.reshape(len(lanes), 32 // width, width, -1)
        np.right_shift(first, shift, out=change)
        np.bitwise_xor(change, second, out=change)
        np.bitwise_and(change, lower, out=change)
        np.bitwise_xor(second, change, out=second)
        np.left_shift(change, shift, out=change)
        np.bitwise_xor(first, change, out=first)


class _Permutation:
    """Keccak-f[1600] of all messages of one state, in place, and the room it works in."""

    def __init__(self, state: Lanes) -> None:
        words = state.shape[3]
        self.state = state
        self.moved: Lanes = np.empty_like(state)
        self.scratch: Lanes = np.empty_like(state)
        # The parities of theta with their neighbours around them: column 4 before 0, bit 63 before 0.
        self.columns: Lanes = np.empty((7, 65, words), np.uint64)
        self.change: Lanes = np.empty((5, 64, words), np.uint64)
        self.turned = list(self.turns())

    def turns(self) -> Iterator[tuple[Lanes, Lanes, Lanes]]:
        """Say of what two parts each lane is made, and where rho and pi take them, so that theta goes along."""
        for (x, y), turn in _TURNS.items():
            lane, change, moved = self.state[x, y], self.change[x], self.moved[y, (2 * x + 3 * y) % 5]
            yield lane[: 64 - turn], change[: 64 - turn], moved[turn:]
            if turn:
                yield lane[64 - turn :], change[64 - turn :], moved[:turn]

    def run(self) -> None:
        """Do the 24 rounds."""
        a, moved, others, columns = self.state, self.moved, self.scratch, self.columns
        parity = columns[1:6, 1:]
        for constant in _IOTA:
            np.bitwise_xor(a[:, 0], a[:, 1], out=parity)
            for y in (2, 3, 4):
                np.bitwise_xor(parity, a[:, y], out=parity)
            columns[1:6, 0] = columns[1:6, 64]
            columns[0], columns[6] = columns[5], columns[1]
            np.bitwise_xor(columns[:5, 1:], columns[2:, :64], out=self.change)
            for lane, change, place in self.turned:
                np.bitwise_xor(lane, change, out=place)
            np.invert(moved, out=others)
            np.bitwise_and(others[1:4], moved[2:], out=a[:3])
            np.bitwise_and(others[4], moved[0], out=a[3])
            np.bitwise_and(others[0], moved[1], out=a[4])
            np.bitwise_xor(a, moved, out=a)
            np.bitwise_xor(a[0, 0], constant, out=a[0, 0])
