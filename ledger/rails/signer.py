"""Keys: one secp256k1 key per role, out of one encrypted file or held elsewhere.

Development and the demo derive all roles from the file's secret. In production the settings give roles to a remote
signer or a key service (`outside_keys.py`); the interface is the same. Nothing but this module ever sees a private key,
and none is written to the environment, the database or a log.

Every key but the operator's may sign only so often within an hour, whoever holds it; what the operator's key can settle
within an hour is limited by the contract itself.
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
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.conf import settings
from django.db import connection
from eth_typing import Hash32

from contracts.eip712 import Signature, Struct
from ledger.rails.errors import KeyfileBroken, KeyfileUnsafe, KeyLimitReached, RoleUnknown, SignerRefused
from ledger.rails.outside_keys import CURVE_ORDER, DerKey, OutsideKey, RemoteKey, RemoteSigner, SignedTransaction

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1  # 32 MiB and about 0.1 s, once per process
UNLIMITED_ROLE = "operator"  # the settle key: the contract limits what it credits within an hour
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ROLES = re.compile(
    "deployer|operator|custody|anchor|pauser|governance|veto|arbiter|faucet|funder"
    rf"|(verifier|compliance|slasher):[1-9][0-9]?|(buyer|provider):{UUID}"
)


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
            from eth_account import Account  # a second of every process's start

            account = self._accounts[role] = Account.from_key(self._derive(role))
        return account

    def _derive(self, role: str) -> bytes:
        # 48 bytes before the reduction, so that no key is noticeably likelier than another (RFC 9380, section 5).
        wide = HKDF(hashes.SHA256(), 48, salt=b"grove-exchange/keys/1", info=role.encode()).derive(self._master)
        return (int.from_bytes(wide, "big") % (CURVE_ORDER - 1) + 1).to_bytes(32, "big")


class Keyring:
    """The keys of this installation: some held elsewhere, the others in the keyfile, if there may be one."""

    def __init__(self, folder: Path, outside: Mapping[str, OutsideKey], *, has_keyfile: bool = True) -> None:
        addresses = [key.address for key in outside.values()]
        if len(set(addresses)) != len(addresses):
            raise SignerRefused("Two roles were given one key: each role needs a key of its own.", addresses=addresses)
        self._folder, self._outside, self._has_keyfile = folder, dict(outside), has_keyfile

    def address(self, role: str) -> str:
        """The checksum address of a role. Raises `RoleUnknown`."""
        key = self._outside.get(role)
        return key.address if key is not None else self._file(role).address(role)

    def sign_transaction(self, role: str, tx: Mapping[str, Any]) -> SignedTransaction:
        """Sign a transaction given as web3 fields. Raises `KeyLimitReached`, `SignerRefused`, `RoleUnknown`."""
        key, file = self._outside.get(role), None if role in self._outside else self._file(role)
        _count(role)
        return key.sign_transaction(tx) if key is not None else file.sign_transaction(role, tx)  # type: ignore[union-attr]

    def sign_typed(self, role: str, typed: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        """Sign an EIP-712 struct for one contract on one chain. Raises like `sign_transaction`."""
        key, file = self._outside.get(role), None if role in self._outside else self._file(role)
        _count(role)
        where = {"chain_id": chain_id, "verifying_contract": verifying_contract}
        if key is not None:
            return key.sign_typed(typed, **where)  # type: ignore[arg-type]
        return file.sign_typed(role, typed, **where)  # type: ignore[union-attr,arg-type]

    def _file(self, role: str) -> Signer:
        if not self._has_keyfile:
            raise RoleUnknown(f"The role {role!r} has no key: SIGNER_KEYFILE=0 and no key elsewhere.", role=role)
        return _signer_in(self._folder)


_COUNT = """
    WITH old AS (DELETE FROM ledger_keyuse WHERE id IN (
            SELECT id FROM ledger_keyuse WHERE role = %(role)s AND at < clock_timestamp() - interval '1 day'
            LIMIT 100 FOR UPDATE SKIP LOCKED))
    INSERT INTO ledger_keyuse (role, at)
    SELECT %(role)s, clock_timestamp()
     WHERE (SELECT count(*) FROM ledger_keyuse
             WHERE role = %(role)s AND at > clock_timestamp() - interval '1 hour') < %(most)s
"""


def _count(role: str) -> None:
    """Count a signature before it is made. What the caller rolls back is not counted: it never left this process."""
    if role == UNLIMITED_ROLE:
        return
    most = int(settings.KEY_SIGNATURES_PER_HOUR)
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"role": role, "most": most})
        if cursor.rowcount != 1:
            raise KeyLimitReached(f"The key {role!r} has signed {most} times within an hour; it signs no more for now.",
                                  role=role, most=most)  # fmt: skip


_making = Lock()


def signer() -> Keyring:
    """The keys of this installation; its keyfile is made when a key of it is first needed.

    Raises `KeyfileUnsafe` if others may read the files, `KeyfileBroken` if the passphrase does not open them, and
    `SignerRefused` if the keys held elsewhere are set wrongly or do not answer.
    """
    with _making:
        return _keyring(
            Path(settings.DATA_DIR) / "keys", settings.SIGNER_URL, tuple(settings.SIGNER_KEYS),
            tuple(settings.SIGNER_KMS_KEYS), settings.SIGNER_KEYFILE,
        )  # fmt: skip


@lru_cache(maxsize=8)
def _keyring(folder: Path, url: str, remote: tuple[str, ...], kms: tuple[str, ...], has_keyfile: bool) -> Keyring:
    outside: dict[str, OutsideKey] = {}
    if remote:
        certificate = (settings.SIGNER_CERT_FILE, settings.SIGNER_CERT_KEY_FILE)
        wire = RemoteSigner(
            url, seconds_max=settings.SIGNER_SECONDS_MAX, ca_file=settings.SIGNER_CA_FILE,
            certificate=certificate if all(certificate) else None,
        )  # fmt: skip
        outside |= {role: RemoteKey(wire, address) for role, address in _pairs(remote, "SIGNER_KEYS")}
    if kms:
        outside |= {role: DerKey(_key_service(), key_id) for role, key_id in _pairs(kms, "SIGNER_KMS_KEYS")}
    return Keyring(folder, outside, has_keyfile=has_keyfile)


def _pairs(items: tuple[str, ...], setting: str) -> list[tuple[str, str]]:
    pairs = [(role, key) for role, _, key in (item.partition("=") for item in items)]
    wrong = [role for role, key in pairs if not key or not ROLES.fullmatch(role)]
    if wrong or len(dict(pairs)) != len(pairs):
        raise SignerRefused(f"{setting}: write role=key, each role once; look at {wrong or pairs}.", setting=setting)
    return pairs


def _key_service() -> Any:
    try:
        import boto3  # type: ignore[import-not-found]
    except ImportError as error:
        raise SignerRefused("SIGNER_KMS_KEYS needs the package boto3, which is not installed.") from error
    return boto3.client("kms")


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
