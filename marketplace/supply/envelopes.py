"""Envelopes: bytes that only the holder of a key can read, and that nobody can move or change unseen.

AES-256-GCM throughout (authenticated encryption). An envelope to a public key takes a fresh X25519 key of its own
(ephemeral-static Diffie-Hellman, HKDF-SHA-256); whoever writes it cannot read it again. `about` names what the envelope
belongs to and is authenticated with it: put beside another row, it does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from marketplace.errors import SealBroken

KEY_BYTES, NONCE_BYTES = 32, 12


def make_private_key() -> bytes:
    """Return a fresh X25519 private key, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key_of(private_key: bytes) -> bytes:
    """Return the public key, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def lock(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Return `plain` under a key of 32 bytes."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def unlock(key: bytes, locked: bytes, about: bytes) -> bytes:
    """Return what was locked. Raises SealBroken for another key, another `about` or one changed bit."""
    try:
        return AESGCM(key).decrypt(locked[:NONCE_BYTES], locked[NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        raise SealBroken("An envelope does not open: another key, another place, or it was changed.") from None


def lock_for(public_key: bytes, plain: bytes, about: bytes) -> bytes:
    """Return `plain` for the holder of the private key behind `public_key`."""
    fresh = X25519PrivateKey.generate()
    sender = fresh.public_key().public_bytes_raw()
    shared = fresh.exchange(X25519PublicKey.from_public_bytes(public_key))
    return sender + lock(_derived(shared, sender, public_key), plain, about)


def unlock_with(private_key: bytes, locked: bytes, about: bytes) -> bytes:
    """Return what `lock_for` locked. Raises SealBroken."""
    own = X25519PrivateKey.from_private_bytes(private_key)
    sender = locked[:KEY_BYTES]
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(sender))
    except ValueError:
        raise SealBroken("An envelope does not open: it was changed.") from None
    return unlock(_derived(shared, sender, own.public_key().public_bytes_raw()), locked[KEY_BYTES:], about)


def _derived(shared: bytes, sender: bytes, receiver: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=sender + receiver, info=b"grove-exchange/envelope/1").derive(shared)
