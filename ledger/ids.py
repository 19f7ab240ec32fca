"""The only source of ids: time-ordered ones for new things, derived ones for things that follow from others."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def uuid7(now: datetime) -> UUID:
    """Return a new id that sorts by `now` (aware), to about a quarter of a microsecond (RFC 9562, version 7).

    48 bits of milliseconds, 12 bits of the rest of the millisecond, 62 random bits.
    """
    micros = (now - _EPOCH) // timedelta(microseconds=1)
    millis, rest_micros = divmod(micros, 1000)
    fraction = rest_micros * 4096 // 1000
    value = (millis & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=value)


def uuid_from(*parts: object) -> UUID:
    """Return the id that these parts always give (RFC 9562, version 8, from SHA-256).

    A job that is killed and run again makes the same ids, so it writes nothing twice. Each part is taken as text with
    its length before it, so ("ab", "c") and ("a", "bc") differ; bytes are taken as hex.
    """
    if not parts:
        raise ValueError("an id is derived from at least one part")
    digest = hashlib.sha256()
    for part in parts:
        text = (part.hex() if isinstance(part, bytes) else str(part)).encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    value = int.from_bytes(digest.digest()[:16], "big")
    value &= ~(0xF << 76) & ~(0b11 << 62)
    return UUID(int=value | 0x8 << 76 | 0b10 << 62)


def chain_reference(block_hash: str | bytes, log_index: int) -> bytes:
    """Return what a transfer keeps of the chain event that caused it: 32 bytes of block hash, 4 of log index."""
    raw = bytes.fromhex(block_hash.removeprefix("0x")) if isinstance(block_hash, str) else bytes(block_hash)
    if len(raw) != 32:
        raise ValueError("a block hash has 32 bytes")
    return raw + log_index.to_bytes(4, "big")
