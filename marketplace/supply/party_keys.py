"""The keys under which each party's own copy of its bids, and of the API's answers to it, lie in the database.

They are derived from the secret of one file beside the database, never in it, and never in a log. Why not a key that
only the bidder holds: a seat reads its bids in a browser and from several machines, and what one node class offers is
added up at each bid, so the server has to read the party's own copies while it serves the party.

What this keeps out: whoever has the database, its copies, its log or its backups, with every right in it. What it does
not keep out: whoever runs the server's processes or reads its files. That person sees a bid when it arrives in any
case, and with the file those that arrived before. The window's key is not here: see `holders.py`.

A line of the file is a version and its secret; the last one is used for what is new. A lost version costs its parties
the sight of their own copies until the window opens, and nothing else.
"""

from __future__ import annotations

import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from marketplace.environment import private_text
from marketplace.errors import SealUnreadable

FILE = "party_keys"


def newest_version() -> int:
    """Return the version that is used for what is new; the file is made at the first call."""
    return max(_secrets())


def party_key(party_id: UUID, version: int) -> bytes:
    """Return a party's key of one version, 32 bytes. Raises SealUnreadable when that version is lost."""
    return _derived(version, b"party-copy:" + party_id.bytes)


def private_digest(party_id: UUID, text: bytes, version: int = 1) -> bytes:
    """Return a digest that only this server can make: that of a short text cannot be found by trying texts."""
    return hmac.digest(_derived(version, b"digest:" + party_id.bytes), text, "sha256")


def rotate() -> int:
    """Add a fresh version for what is new, and return it. What is old stays readable."""
    known = _secrets()
    version = max(known) + 1
    path = Path(settings.DATA_DIR) / FILE
    draft = path.with_name(f".{FILE}-{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join([*(f"{no} {text}" for no, text in known.items()), f"{version} {secrets.token_hex(32)}"]))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return version


def _derived(version: int, purpose: bytes) -> bytes:
    secret = _secrets().get(version)
    if secret is None:
        raise SealUnreadable("The key of your own copy is not on this server.", version=version)
    return _expand(secret, purpose)


@lru_cache(maxsize=4096)
def _expand(secret: str, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=b"grove-exchange/party-keys/1", info=purpose).derive(bytes.fromhex(secret))


def _secrets() -> dict[int, str]:
    lines = private_text(Path(settings.DATA_DIR) / FILE, f"1 {secrets.token_hex(32)}").splitlines()
    return {int(number): secret for number, _, secret in (line.partition(" ") for line in lines if line.strip())}
