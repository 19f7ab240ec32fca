"""A secret split among holders so that some of them give it back and fewer learn nothing (Shamir, 1979).

The secret is the constant term of a random polynomial over the prime field of 2**521 - 1; a share is one of its points.
A share that was changed gives another secret, not an error: whoever combines shares must know the secret's public key
or hash beforehand. Python's integers do not work in constant time: shares are combined where the secret may be known.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

PRIME = 2**521 - 1
SECRET_BYTES, SHARE_BYTES = 32, 66


def split(secret: bytes, *, holders: int, threshold: int) -> dict[int, bytes]:
    """Return one share of 66 bytes for each holder, numbered from 1; any `threshold` of them give `secret` back."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    if not 1 <= threshold <= holders:
        raise ValueError("a threshold is at least one holder and at most all of them")
    line = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {x: _at(line, x).to_bytes(SHARE_BYTES, "big") for x in range(1, holders + 1)}


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """Return the secret of these shares. Raises ValueError when they are too few or give no secret of 32 bytes."""
    if len(shares) < threshold:
        raise ValueError(f"{threshold} shares are needed, there are {len(shares)}")
    points = {x: int.from_bytes(shares[x], "big") for x in sorted(shares)[:threshold]}
    total = 0
    for x, y in points.items():
        above = below = 1
        for other in points:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        total += y * above * pow(below, -1, PRIME)
    secret = total % PRIME
    if secret.bit_length() > 8 * SECRET_BYTES:
        raise ValueError("these shares give no secret: one of them is wrong")
    return secret.to_bytes(SECRET_BYTES, "big")


def _at(line: list[int], x: int) -> int:
    total = 0
    for term in reversed(line):
        total = (total * x + term) % PRIME
    return total
