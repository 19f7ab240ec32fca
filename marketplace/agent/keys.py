"""The machine key: Ed25519, in a folder of mode 0700 and a file of mode 0600, or not at all.

It signs readings, proofs and enrolment; it cannot move money. A verifier's own key (secp256k1) is no concern of this
file: attestations are checked on chain, readings by the market.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from marketplace.agent.errors import KeyExists, KeyMissing, KeyModesWrong, PassphraseWrong, StatementForged

KEY_FILE = "machine.key"
NEXT_KEY_FILE = "machine.key.next"  # of a rotation that the market has not taken yet
ENROL_PREFIX = b"grove-exchange enrolment 1\n"
ROTATE_PREFIX = b"grove-exchange rotation 1\n"


@dataclass(frozen=True)
class MachineKey:
    """A loaded machine key."""

    private: Ed25519PrivateKey

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the public half."""
        return self.private.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """What a person compares by eye: eight groups of four hex digits."""
        return fingerprint_of(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        return self.private.sign(message)


def fingerprint_of(public_bytes: bytes) -> str:
    """The fingerprint of a public key: the first 128 bits of its SHA-256."""
    digits = hashlib.sha256(public_bytes).hexdigest()[:32]
    return " ".join(digits[place : place + 4] for place in range(0, 32, 4))


def is_signed_by(public_bytes: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this Ed25519 key signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_bytes).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def create_key(home: Path, *, passphrase: bytes | None = None, name: str = KEY_FILE) -> MachineKey:
    """Make a key in `home`, which is made too if need be.

    Raises KeyExists if one stands there, KeyModesWrong if the folder is open to others.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_wrong_modes(home, 0o700)
    private = Ed25519PrivateKey.generate()
    cipher = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)
    fresh = home / f".{name}.{os.getpid()}"  # written whole before it gets its name: a half key opens with nothing
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask took away or left
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        # A link takes no name that is taken: two enrolments at once must not leave one with a key not in the file.
        os.link(fresh, home / name)
    except FileExistsError as error:
        raise KeyExists("A machine key stands here already.", path=str(home / name)) from error
    finally:
        fresh.unlink(missing_ok=True)
    return MachineKey(private)


def load_key(home: Path, *, passphrase: bytes | None = None, name: str = KEY_FILE) -> MachineKey:
    """Read the key in `home`.

    Raises KeyMissing, KeyModesWrong (folder not 0700, file not 0600, a link, or another owner) or PassphraseWrong.
    """
    path = home / name
    if not path.exists():
        raise KeyMissing("There is no machine key here; enrol first.", path=str(path))
    refuse_wrong_modes(home, 0o700)
    refuse_wrong_modes(path, 0o600)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError) as error:
        raise PassphraseWrong("The key file does not open with this passphrase.", path=str(path)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise PassphraseWrong("The key file holds another kind of key.", path=str(path))
    return MachineKey(private)


def enrolment_statement(key: MachineKey, token: str) -> dict[str, str]:
    """What the onboarding page takes: the public half, signed together with its one-time token."""
    signature = key.sign(ENROL_PREFIX + token.encode())
    return {"public_key": key.public_bytes.hex(), "token": token, "signature": signature.hex()}


def check_enrolment(statement: dict[str, str]) -> bytes:
    """The public key of a statement that its own key signed. Raises StatementForged.

    Whether the token is known, fresh and unused is the market's question.
    """
    try:
        public_bytes, signature = bytes.fromhex(statement["public_key"]), bytes.fromhex(statement["signature"])
        token = statement["token"].encode()
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StatementForged("That is no enrolment statement.") from error
    if not is_signed_by(public_bytes, ENROL_PREFIX + token, signature):
        raise StatementForged("The statement is not signed by its own key.")
    return public_bytes


def rotation_statement(old: MachineKey, new: MachineKey) -> dict[str, str]:
    """What the market takes for a change of keys: signed by the old key, and by the new one to show it is held."""
    message = ROTATE_PREFIX + old.public_bytes + new.public_bytes
    return {
        "old_key": old.public_bytes.hex(), "new_key": new.public_bytes.hex(),
        "old_signature": old.sign(message).hex(), "new_signature": new.sign(message).hex(),
    }  # fmt: skip


def check_rotation(statement: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The old and the new public key of a statement that both of them signed. Raises StatementForged."""
    try:
        old, new, by_old, by_new = (
            bytes.fromhex(statement[name]) for name in ("old_key", "new_key", "old_signature", "new_signature")
        )
    except (KeyError, ValueError, TypeError) as error:
        raise StatementForged("That is no rotation statement.") from error
    message = ROTATE_PREFIX + old + new
    if old == new or not is_signed_by(old, message, by_old) or not is_signed_by(new, message, by_new):
        raise StatementForged("A rotation is signed by the old key and by another, new one.")
    return old, new


def take_next_key(home: Path) -> None:
    """Let the next key take the place of the old one, which is gone then. Safe to be killed at any point."""
    os.replace(home / NEXT_KEY_FILE, home / KEY_FILE)
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)  # or a power cut brings the old name back, with a key that the market no longer takes
    finally:
        os.close(descriptor)


def refuse_wrong_modes(path: Path, wanted: int) -> None:
    """Raise KeyModesWrong unless `path` has exactly this mode, is no link, and is ours."""
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or mode != wanted or found.st_uid != os.geteuid():
        raise KeyModesWrong(
            f"{path} must be mode {wanted:04o}, no link, and ours; it is {mode:04o}. Run: chmod {wanted:o} {path}",
            path=str(path), mode=f"{mode:04o}", wanted=f"{wanted:04o}", owner=found.st_uid,
        )  # fmt: skip
