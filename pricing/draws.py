"""Numbers that the sealed book as a whole decides, so that no party chooses them."""

import numpy as np
import numpy.typing as npt

from pricing.book import Ints

WEIGHT_BITS = 20

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


def mixed(input_hash: bytes, kind: int | Ints, one: Ints, other: Ints) -> Floats:
    """A number from 2^20 up to 2^21 for each key, by three rounds of SplitMix64 seeded with the book's hash.

    Source: Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    state = np.full(len(one), int.from_bytes(input_hash[:8], "little"), dtype=np.uint64)
    for part in (np.broadcast_to(kind, len(one)), one, other):
        state = _splitmix(state ^ part.astype(np.int64).view(np.uint64))
    return ((state >> np.uint64(64 - WEIGHT_BITS)) + np.uint64(1 << WEIGHT_BITS)).astype(np.float64)


def _splitmix(state: Words) -> Words:
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        z = state + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
