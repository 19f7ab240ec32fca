"""Keys that live elsewhere: a remote signer over JSON-RPC (web3signer's dialect), or a key service that answers in DER.

Neither is believed: what comes back must recover to the key's address and be a signature of exactly what was asked, or
it is refused and nothing leaves this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from eth_keys.datatypes import Signature as KeySignature
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from eth_utils.hexadecimal import decode_hex, encode_hex
from hexbytes import HexBytes

from contracts.eip712 import Signature, Struct
from ledger.rails.errors import SignerRefused

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANSWER_BYTES_MAX = 1_000_000
QUANTITIES = ("chainId", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value")


class SignedTransaction(NamedTuple):
    """The bytes to broadcast, and the hash they will be found under."""

    raw: bytes
    tx_hash: bytes


class OutsideKey(Protocol):
    """One key that is not in this process."""

    address: str

    def sign_transaction(self, tx: Mapping[str, Any]) -> SignedTransaction:
        """Sign a transaction given as web3 fields. Raises `SignerRefused`."""

    def sign_typed(self, typed: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        """Sign an EIP-712 struct. Raises `SignerRefused`."""


# -- a remote signer over JSON-RPC -----------------------------------------------------------------------------------
class RemoteSigner:
    """The wire to one remote signer. TLS is demanded unless it is on this machine; `certificate` makes it mutual."""

    def __init__(
        self, url: str, *, seconds_max: float, ca_file: str = "", certificate: tuple[str, str] | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise SignerRefused("SIGNER_URL must be https, or http on this machine.", url=url)
        self.url, self.seconds_max = url, seconds_max
        self.verify: str | bool = ca_file or True
        self.certificate = certificate

    def ask(self, method: str, *params: Any) -> str:
        """Return the signer's answer, a hex string. Raises `SignerRefused`, also when there is none in time."""
        body: Any = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            with requests.Session() as session:
                session.trust_env = False  # a proxy or .netrc of the environment has no business with signatures
                answer = session.post(
                    self.url, json=body, timeout=self.seconds_max, verify=self.verify, cert=self.certificate,
                    allow_redirects=False,
                )  # fmt: skip
            told = answer.json() if len(answer.content) <= ANSWER_BYTES_MAX else {}
        except (requests.RequestException, OSError, ValueError) as error:
            raise SignerRefused(f"The remote signer gave no answer: {type(error).__name__}.", method=method) from error
        result = told.get("result") if isinstance(told, dict) else None
        if answer.status_code != 200 or not isinstance(result, str):
            said = told.get("error") if isinstance(told, dict) else None
            raise SignerRefused(f"The remote signer refused: {str(said)[:200]}", method=method)
        return result


class RemoteKey:
    """One key of a remote signer, known by its address."""

    def __init__(self, wire: RemoteSigner, address: str) -> None:
        self.wire, self.address = wire, str(to_checksum_address(address))

    def sign_transaction(self, tx: Mapping[str, Any]) -> SignedTransaction:
        asked = {name: hex(tx[name]) for name in QUANTITIES} | {"from": self.address, "data": encode_hex(tx["data"])}
        if tx.get("to"):
            asked["to"] = tx["to"]
        raw = _bytes(self.wire.ask("eth_signTransaction", asked))
        _refuse_other_transaction(raw, tx, self.address)
        return SignedTransaction(raw, keccak(raw))

    def sign_typed(self, typed: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        message = _wire_form(typed.typed(chain_id, verifying_contract))
        raw = _bytes(self.wire.ask("eth_signTypedData", self.address, message))
        if len(raw) != 65:
            raise SignerRefused("The remote signer's signature has another length than 65 bytes.")
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big")
        return _signature(r, s, typed.digest(chain_id, verifying_contract), self.address)


def _bytes(text: str) -> bytes:
    try:
        return decode_hex(text)
    except (ValueError, TypeError) as error:
        raise SignerRefused("The remote signer's answer is not hex.") from error


def _wire_form(value: Any) -> Any:
    """JSON keeps no bytes, and readers of JSON keep no integer above 2**53."""
    if isinstance(value, bytes):
        return encode_hex(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**53:
        return str(value)
    if isinstance(value, Mapping):
        return {key: _wire_form(each) for key, each in value.items()}
    return [_wire_form(each) for each in value] if isinstance(value, list | tuple) else value


def _refuse_other_transaction(raw: bytes, tx: Mapping[str, Any], address: str) -> None:
    """Compare each field of signed bytes with what was asked, and the key that signed."""
    from eth_account import Account  # a second of every process's start, here and below
    from eth_account.typed_transactions.typed_transaction import TypedTransaction

    try:
        found = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        sender = str(Account.recover_transaction(raw))
        low = 0 < int(found["s"]) <= CURVE_ORDER // 2
    except Exception as error:  # the rlp and signature layers raise many unrelated classes
        raise SignerRefused(f"The remote signer's answer is no transaction: {type(error).__name__}.") from error
    same = (
        all(int(found[name]) == int(tx[name]) for name in QUANTITIES)
        and bytes(found["to"]) == (to_canonical_address(tx["to"]) if tx.get("to") else b"")
        and bytes(found["data"]) == bytes(tx["data"])
        and not found["accessList"]
        and found["type"] == 2
    )
    if not (same and low and sender == address):
        raise SignerRefused("The remote signer signed another transaction than asked, or with another key.",
                            sender=sender, expected=address)  # fmt: skip


# -- a key service that answers in DER -------------------------------------------------------------------------------
class KeyService(Protocol):
    """The two calls of AWS KMS that are needed, as its Python client names them."""

    def get_public_key(self, **named: Any) -> Mapping[str, Any]: ...

    def sign(self, **named: Any) -> Mapping[str, Any]: ...


class DerKey:
    """One secp256k1 key of a key service (AWS KMS: ECC_SECG_P256K1). Low s and `v` are worked out here."""

    def __init__(self, service: KeyService, key_id: str) -> None:
        self.service, self.key_id = service, key_id
        self.address = _address_of(self._ask("get_public_key", KeyId=key_id).get("PublicKey", b""))

    def _ask(self, call: str, **arguments: Any) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = getattr(self.service, call)(**arguments)
        except Exception as error:  # each key service has an error tree of its own
            sentence = f"The key service gave no answer: {type(error).__name__}."
            raise SignerRefused(sentence, key_id=self.key_id) from error
        return answer

    def sign_transaction(self, tx: Mapping[str, Any]) -> SignedTransaction:
        from eth_account.typed_transactions.typed_transaction import TypedTransaction

        fields = {**tx, "type": 2}
        digest = bytes(TypedTransaction.from_dict(fields).hash())
        signature = self._sign(digest)
        r, s = int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big")
        parts = {"v": signature.v - 27, "r": r, "s": s}
        raw = bytes(TypedTransaction.from_dict(fields | parts).encode())
        return SignedTransaction(raw, keccak(raw))

    def sign_typed(self, typed: Struct, *, chain_id: int, verifying_contract: str) -> Signature:
        return self._sign(typed.digest(chain_id, verifying_contract))

    def _sign(self, digest: bytes) -> Signature:
        answer = self._ask("sign", KeyId=self.key_id, Message=digest, MessageType="DIGEST",
                           SigningAlgorithm="ECDSA_SHA_256")  # fmt: skip
        try:
            r, s = decode_dss_signature(answer.get("Signature", b""))
        except (ValueError, TypeError) as error:
            raise SignerRefused("The key service's signature is not DER.", key_id=self.key_id) from error
        return _signature(r, s, digest, self.address)


def _address_of(public_key: bytes) -> str:
    try:
        key = load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignerRefused("The key service's public key is not DER.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256K1):
        raise SignerRefused("The key service's key is not on the curve secp256k1.")
    point = key.public_numbers()
    return to_checksum_address(keccak(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))[12:])


def _signature(r: int, s: int, digest: bytes, address: str) -> Signature:
    """Bring a signature into the form the contracts take: low s, and the `v` under which it recovers to `address`."""
    if not (0 < r < CURVE_ORDER and 0 < s < CURVE_ORDER):
        raise SignerRefused("The signature is out of range.")
    s = min(s, CURVE_ORDER - s)
    for v in (0, 1):
        try:
            found = KeySignature(vrs=(v, r, s)).recover_public_key_from_msg_hash(digest).to_checksum_address()
        except (BadSignature, ValidationError):
            continue
        if found == address:
            return Signature(v + 27, r.to_bytes(32, "big"), s.to_bytes(32, "big"))
    raise SignerRefused("The signature is another key's, or of something else than asked.", expected=address)
