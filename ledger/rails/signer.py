"""Keys: one master secret in an encrypted file, and one secp256k1 key per role derived from it.

Development and the demo keep all roles in this one file. In production the same interface is answered by a key service
per role. Nothing but this module ever sees a private key, and none is written to the environment, the database or a
log.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.conf import settings
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from contracts.eip712 import Signature, Struct
from ledger.rails.errors import KeyfileBroken, KeyfileUnsafe, RoleUnknown

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1  # 32 MiB and about 0.1 s, once per process
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ROLES = re.compile(
    "deployer|operator|custody|anchor|pauser|governance|veto|arbiter|faucet"
    rf"|(verifier|compliance|slasher):[1-9][0-9]?|(buyer|provider):{UUID}"
)


class SignedTransaction(NamedTuple):
    """The bytes to broadcast, and the hash they will be found under."""

    raw: bytes
    tx_hash: bytes


class Signer:
    """Signs for every role that can be derived from `master` (32 bytes)."""

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._accounts: dict[str, LocalAccount] = {}

    def address(self, role: str) -> str:
        """The checksum address of a role. Raises `RoleUnknown`."""
        return str(self._account(role).address)

    def sign_transaction(self, role: str, tx: Mapping[str, Any]) -> SignedTransaction:
        """Sign a transaction given as web3 fields; the same fields give the same bytes (RFC 6979)."""
        signed = self._account(role).sign_transaction(dict(tx))
        return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash))

    def sign_typed(self, role: str, typed: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        """Sign an EIP-712 struct for one contract on one chain (`**chain().domain("escrow")` names both)."""
        signed = self._account(role).unsafe_sign_hash(Hash32(typed.digest(chain_id, verifying_contract)))
        return Signature(signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))

    def _account(self, role: str) -> LocalAccount:
        account = self._accounts.get(role)
        if account is None:
            if not ROLES.fullmatch(role):
                raise RoleUnknown(f"No key exists for the role {role!r}.", role=role)
            account = self._accounts[role] = Account.from_key(self._derive(role))
        return account

    def _derive(self, role: str) -> bytes:
        # 48 bytes before the reduction, so that no key is noticeably likelier than another (RFC 9380, section 5).
        wide = HKDF(hashes.SHA256(), 48, salt=b"grove-exchange/keys/1", info=role.encode()).derive(self._master)
        return (int.from_bytes(wide, "big") % (CURVE_ORDER - 1) + 1).to_bytes(32, "big")


_making = Lock()


def signer() -> Signer:
    """The signer of this installation; its keyfile is made at the first call.

    Raises `KeyfileUnsafe` if others may read the files, `KeyfileBroken` if the passphrase does not open them.
    """
    with _making:
        return _signer_in(Path(settings.DATA_DIR) / "keys")


@lru_cache(maxsize=8)
def _signer_in(folder: Path) -> Signer:
    return Signer(read_master(folder))


def read_master(folder: Path) -> bytes:
    """The master secret of `folder`, made, encrypted and stored at the first call."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_unsafe(folder, want_folder=True)
    passphrase = _passphrase(folder)
    path = folder / "master.json"
    if not path.exists():
        _write_once(path, json.dumps(_encrypt(secrets.token_bytes(32), passphrase)))
    _refuse_unsafe(path)
    return _decrypt(path, passphrase)


def _passphrase(folder: Path) -> bytes:
    given = os.environ.get("KEYFILE_PASSPHRASE", "")
    if given:
        return given.encode()
    path = folder / "passphrase"
    if not path.exists():
        if (folder / "master.json").exists():
            raise KeyfileBroken(
                f"{folder / 'master.json'} needs its passphrase: set KEYFILE_PASSPHRASE or restore {path}.",
                file=str(path),
            )
        _write_once(path, secrets.token_urlsafe(32))
    _refuse_unsafe(path)
    return path.read_text().strip().encode()


def _write_once(path: Path, text: str) -> None:
    """Write with mode 0600, whole or not at all; whoever came first wins and nobody is overwritten."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(draft)


def _refuse_unsafe(path: Path, *, want_folder: bool = False) -> None:
    found = path.lstat()
    kind_ok = stat.S_ISDIR(found.st_mode) if want_folder else stat.S_ISREG(found.st_mode)
    if not kind_ok:
        raise KeyfileUnsafe(f"{path} is a link or no ordinary file; put the file itself there.", file=str(path))
    if found.st_uid != os.geteuid():
        raise KeyfileUnsafe(f"{path} belongs to another user.", file=str(path), owner=found.st_uid)
    if found.st_mode & 0o077:
        mode = "700" if want_folder else "600"
        raise KeyfileUnsafe(f"{path} can be read by others; run chmod {mode} on it.", file=str(path),
                            mode=oct(stat.S_IMODE(found.st_mode)))  # fmt: skip


def _key(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)


def _encrypt(master: bytes, passphrase: bytes) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_key(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)).encrypt(nonce, master, b"grove-keyfile-1")
    return {
        "version": 1, "kdf": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "cipher": "aes-256-gcm",
        "salt": base64.b64encode(salt).decode(), "nonce": base64.b64encode(nonce).decode(),
        "sealed": base64.b64encode(sealed).decode(),
    }  # fmt: skip


def _decrypt(path: Path, passphrase: bytes) -> bytes:
    try:
        body = json.loads(path.read_text())
        salt, nonce, sealed = (base64.b64decode(body[name]) for name in ("salt", "nonce", "sealed"))
        key = _key(passphrase, salt, body["n"], body["r"], body["p"])
        return AESGCM(key).decrypt(nonce, sealed, b"grove-keyfile-1")
    except InvalidTag:
        raise KeyfileBroken(f"{path} does not open with this passphrase.", file=str(path)) from None
    except (ValueError, KeyError, TypeError):
        raise KeyfileBroken(f"{path} is not a keyfile.", file=str(path)) from None
