"""Keys held elsewhere: a remote signer over HTTP and a key service in DER. Neither is believed without a look."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.hexadecimal import decode_hex

from contracts.eip712 import Mandate
from ledger.models import ChainIntent, KeyUse
from ledger.rails import sender
from ledger.rails import signer as signing
from ledger.rails.base import Chain
from ledger.rails.errors import KeyLimitReached, RoleUnknown, SignerRefused
from ledger.rails.outside_keys import CURVE_ORDER, DerKey, RemoteKey, RemoteSigner
from ledger.rails.signer import Keyring, Signer, read_master, signer
from tests.rails.conftest import START
from tests.rails.writer import SINK, account

TX = {"chainId": 31338, "nonce": 3, "gas": 50_000, "maxFeePerGas": 9, "maxPriorityFeePerGas": 1, "value": 0,
      "data": b"\1\2", "to": SINK}  # fmt: skip
CONTRACT = "0x" + "ab" * 20
MANDATE = Mandate(buyer=SINK, window=1, max_spend=2**60, zone_mask=2**200, min_tier=1, parent_mask=5, nonce=1, expiry=9)


class Remote:
    """A signer of the tests over real HTTP, in web3signer's dialect; `change` is what a thief would do."""

    def __init__(self) -> None:
        self.account = account(77)
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields
        self.signs_with, self.garbage = self.account, ""
        self.answers = threading.Event()
        self.answers.set()
        remote = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                remote.answers.wait()
                result = remote.garbage or remote.answer(request["method"], request["params"])
                body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, params: list[Any]) -> str:
        if method == "eth_signTypedData":
            message = encode_typed_data(full_message=params[1])
            return "0x" + self.signs_with.sign_message(message).signature.hex()
        names = {"chainId", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value"}
        fields = {name: int(value, 16) if name in names else value for name, value in params[0].items()}
        assert fields.pop("from") == self.account.address
        raw = self.signs_with.sign_transaction(self.change(fields)).raw_transaction
        return "0x" + bytes(raw).hex()


@pytest.fixture
def remote() -> Iterator[Remote]:
    remote = Remote()
    thread = threading.Thread(target=remote.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield remote
    remote.answers.set()
    remote.server.shutdown()
    remote.server.server_close()
    thread.join()


@pytest.fixture
def key(remote: Remote) -> RemoteKey:
    return RemoteKey(RemoteSigner(remote.url, seconds_max=300), remote.account.address)  # a busy one is waited for


def test_a_remote_signer_signs_what_was_asked(remote: Remote, key: RemoteKey) -> None:
    signed = key.sign_transaction(TX)
    assert bytes(remote.account.sign_transaction(TX).raw_transaction) == signed.raw
    assert Account.recover_transaction(signed.raw) == key.address

    typed = key.sign_typed(MANDATE, chain_id=1, verifying_contract=CONTRACT)
    parts = (typed.v, int.from_bytes(typed.r, "big"), int.from_bytes(typed.s, "big"))
    message = encode_typed_data(full_message=MANDATE.typed(1, CONTRACT))
    assert Account.recover_message(message, vrs=parts) == key.address


@pytest.mark.parametrize(
    ("field", "value"),
    [("to", "0x" + "66" * 20), ("value", 1), ("data", "0x03"), ("nonce", 4), ("chainId", 1), ("gas", 60_000),
     ("maxFeePerGas", 10), ("maxPriorityFeePerGas", 2)],
)  # fmt: skip
def test_a_signature_of_another_transaction_is_refused(remote: Remote, key: RemoteKey, field: str, value: Any) -> None:
    remote.change = lambda fields: fields | {field: value}

    with pytest.raises(SignerRefused, match="another transaction"):
        key.sign_transaction(TX)


def test_a_signature_of_another_key_is_refused(remote: Remote, key: RemoteKey) -> None:
    remote.signs_with = account(78)

    with pytest.raises(SignerRefused, match="another key"):
        key.sign_transaction(TX)
    with pytest.raises(SignerRefused, match="another key"):
        key.sign_typed(MANDATE, chain_id=1, verifying_contract=CONTRACT)


@pytest.mark.parametrize("garbage", ["0x", "0x1234", "no hex", "0x02c0"])
def test_garbage_is_refused(remote: Remote, key: RemoteKey, garbage: str) -> None:
    remote.garbage = garbage
    with pytest.raises(SignerRefused):
        key.sign_transaction(TX)
    with pytest.raises(SignerRefused):
        key.sign_typed(MANDATE, chain_id=1, verifying_contract=CONTRACT)


def test_a_signer_that_hangs_or_is_gone_is_given_up(remote: Remote) -> None:
    remote.answers.clear()
    for url in (remote.url, "http://127.0.0.1:9"):
        with pytest.raises(SignerRefused, match="no answer"):
            RemoteKey(RemoteSigner(url, seconds_max=0.5), remote.account.address).sign_transaction(TX)


def test_a_signer_elsewhere_is_asked_over_tls_only() -> None:
    with pytest.raises(SignerRefused, match="https"):
        RemoteSigner("http://signer.example", seconds_max=1)
    wire = RemoteSigner("https://signer.example", seconds_max=1, ca_file="ca.pem", certificate=("c.pem", "k.pem"))
    assert (wire.verify, wire.certificate) == ("ca.pem", ("c.pem", "k.pem"))


class Kms:
    """A key service of the tests in the shapes of AWS KMS: public key and signature in DER, s high or low."""

    def __init__(self, *, high_s: bool) -> None:
        self.key, self.high_s = ec.derive_private_key(79, ec.SECP256K1()), high_s

    def get_public_key(self, **named: Any) -> dict[str, Any]:
        assert named == {"KeyId": "key-1"}
        return {"PublicKey": self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)}

    def sign(self, **named: Any) -> dict[str, Any]:
        assert (named["MessageType"], named["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_256")
        how = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)  # the same in every run
        r, s = decode_dss_signature(self.key.sign(named["Message"], how))
        s = max(s, CURVE_ORDER - s) if self.high_s else min(s, CURVE_ORDER - s)
        return {"Signature": encode_dss_signature(r, s)}


@pytest.mark.parametrize("high_s", [True, False])
def test_a_key_service_in_der_gives_low_s_and_the_right_v(high_s: bool) -> None:
    key = DerKey(Kms(high_s=high_s), "key-1")
    parities = set()
    for nonce in range(12):
        signed = key.sign_transaction(TX | {"nonce": nonce})
        assert Account.recover_transaction(signed.raw) == key.address
        typed = key.sign_typed(MANDATE, chain_id=nonce + 1, verifying_contract=CONTRACT)
        assert int.from_bytes(typed.s, "big") <= CURVE_ORDER // 2
        parities.add(typed.v)
    assert parities == {27, 28}, "with this key the twelve have both"


def test_a_key_service_that_signs_something_else_is_refused() -> None:
    service = Kms(high_s=False)
    key = DerKey(service, "key-1")
    service.key = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(SignerRefused, match="another key"):
        key.sign_transaction(TX)
    service.sign = lambda **named: {"Signature": b"no der"}  # type: ignore[method-assign]
    with pytest.raises(SignerRefused, match="not DER"):
        key.sign_transaction(TX)
    service.get_public_key = lambda **named: {  # type: ignore[method-assign]
        "PublicKey": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    }  # fmt: skip
    with pytest.raises(SignerRefused, match="secp256k1"):
        DerKey(service, "key-1")


def test_roles_are_given_to_keys_elsewhere_and_two_roles_never_share_one(
    remote: Remote, keys: Path, settings: Any, db: None
) -> None:
    settings.SIGNER_URL, settings.SIGNER_KEYS = remote.url, [f"anchor={remote.account.address}"]
    assert signer().address("anchor") == remote.account.address
    assert signer().sign_transaction("anchor", TX).raw
    assert signer().address("custody") == Signer(read_master(keys / "keys")).address("custody")
    settings.SIGNER_KEYFILE = False
    with pytest.raises(RoleUnknown, match="SIGNER_KEYFILE=0"):
        signer().address("custody")
    settings.SIGNER_KEYS = [f"anchor={remote.account.address}", f"operator={remote.account.address}"]
    with pytest.raises(SignerRefused, match="one key"):
        signer()
    for wrong in (["anchor"], ["thief=0x1"], ["anchor=" + SINK, "anchor=" + SINK]):
        settings.SIGNER_KEYS = wrong
        with pytest.raises(SignerRefused, match="SIGNER_KEYS"):
            signer()


def test_the_roles_of_the_keyfile_have_keys_of_their_own(keys: Path) -> None:
    roles = ("operator", "custody", "anchor", "pauser", "governance")
    assert len({signer().address(role) for role in roles}) == len(roles)


def test_a_key_signs_only_so_often_within_an_hour_and_the_settle_key_is_limited_by_its_contract(
    keys: Path, settings: Any, db: None
) -> None:
    settings.KEY_SIGNATURES_PER_HOUR = 3
    ring: Keyring = signer()
    for _ in range(3):
        ring.sign_transaction("custody", TX)
    with pytest.raises(KeyLimitReached, match="'custody' has signed 3 times"):
        ring.sign_transaction("custody", TX)
    with pytest.raises(KeyLimitReached):
        ring.sign_typed("custody", MANDATE, chain_id=1, verifying_contract=CONTRACT)
    for _ in range(4):
        ring.sign_transaction("operator", TX)
    ring.sign_transaction("anchor", TX)

    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_keyuse SET at = at - interval '61 minutes'")
    ring.sign_transaction("custody", TX)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_keyuse SET at = at - interval '25 hours'")
    ring.sign_transaction("custody", TX)
    assert KeyUse.objects.filter(role="custody").count() == 1, "uses older than a day are dropped"


def test_a_key_that_signs_no_more_holds_up_its_own_calls_only(rails: Chain, settings: Any) -> None:
    settings.KEY_SIGNATURES_PER_HOUR = KeyUse.objects.filter(role="faucet").count() + 1
    for number in range(3):
        sender.submit(key=f"{number}", role="faucet", contract="token", function="mint", args=[SINK, 5], now=START)
    sender.submit(key="other", role="anchor", contract="token", function="approve", args=[SINK, 5], now=START)

    assert sender.pump(now=START).final == 2

    assert dict(ChainIntent.objects.values_list("key", "state")) == {
        "0": "final", "1": "queued", "2": "queued", "other": "final",
    }  # fmt: skip
    assert "signs no more for now" in ChainIntent.objects.get(key="1").trouble
    settings.KEY_SIGNATURES_PER_HOUR = 1000
    assert sender.pump(now=START).final == 2


def test_no_private_key_is_in_the_environment_or_the_database(rails: Chain, keys: Path) -> None:
    import os

    sender.submit(key="a", role="faucet", contract="token", function="mint", args=[SINK, 5], now=START)
    sender.pump(now=START)
    file = Signer(read_master(keys / "keys"))
    secrets = {read_master(keys / "keys").hex()}
    secrets |= {file._derive(role).hex() for role in ("deployer", "operator", "custody", "anchor", "faucet", "pauser")}
    passphrase = keys / "keys" / "passphrase"

    def hidden(text: str) -> bool:
        return not any(secret in text.lower() for secret in secrets) and passphrase.read_text().strip() not in text

    assert all(hidden(f"{name}={value}") for name, value in os.environ.items())
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'chain')")
        tables = cursor.fetchall()
        assert len(tables) > 20
        for schema, table in tables:
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{schema}"."{table}" t')
            assert all(hidden(row[0]) for row in cursor), table
    assert not hidden(f"0x{file._derive('operator').hex()}"), "the search would find one"
    assert signing.UNLIMITED_ROLE == "operator"
    assert decode_hex(next(iter(secrets)))
