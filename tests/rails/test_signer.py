"""Keys: derived from one secret, kept in files nobody else can read, and refused loudly otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from contracts.eip712 import Verdict
from ledger.ids import uuid_from
from ledger.rails import signer as signing
from ledger.rails.errors import KeyfileBroken, KeyfileUnsafe, RoleUnknown
from ledger.rails.signer import Signer, read_master

MASTER = bytes(range(32))
CONTRACT = "0x" + "ab" * 20
VERDICT = Verdict(
    evidence=b"e" * 32, node_class=7, batch=1, line=2, amount=3, kind=1, breach_at=4, nonce=5, expires=6
)


def test_each_role_has_its_own_lasting_address() -> None:
    roles = ["operator", "custody", "verifier:1", "verifier:2", "slasher:1", f"buyer:{uuid_from('a')}"]

    addresses = [Signer(MASTER).address(role) for role in roles]

    assert len(set(addresses)) == len(roles)
    assert addresses == [Signer(MASTER).address(role) for role in roles]
    assert Signer(MASTER[::-1]).address("operator") != addresses[0]


@pytest.mark.parametrize("role", ["", "Operator", "verifier", "verifier:0", "buyer:me", "operator\n", "root"])
def test_a_role_nobody_defined_has_no_key(role: str) -> None:
    with pytest.raises(RoleUnknown):
        Signer(MASTER).address(role)


def test_a_signed_transaction_is_the_roles_and_always_the_same_bytes() -> None:
    fields = {"chainId": 1, "nonce": 0, "gas": 21_000, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1, "value": 0,
              "data": b"", "to": Account.create().address}  # fmt: skip

    signed = Signer(MASTER).sign_transaction("operator", fields)

    assert signed == Signer(MASTER).sign_transaction("operator", fields)
    assert Account.recover_transaction(signed.raw) == Signer(MASTER).address("operator")


def test_a_typed_signature_recovers_to_the_role_for_that_chain_and_contract_only() -> None:
    signature = Signer(MASTER).sign_typed("slasher:1", VERDICT, chain_id=1, verifying_contract=CONTRACT)

    def recovered(chain_id: int) -> str:
        message = encode_typed_data(full_message=VERDICT.typed(chain_id, CONTRACT))
        parts = (signature.v, int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
        return str(Account.recover_message(message, vrs=parts))

    assert recovered(1) == Signer(MASTER).address("slasher:1")
    assert recovered(2) != Signer(MASTER).address("slasher:1")


def test_the_secret_is_made_once_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYFILE_PASSPHRASE", raising=False)
    folder = tmp_path / "keys"

    first = read_master(folder)

    assert read_master(folder) == first
    assert len(first) == 32
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "master.json": "0o600", "passphrase": "0o600",
    }  # fmt: skip
    assert first.hex() not in (folder / "master.json").read_text()


def test_a_passphrase_from_outside_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFILE_PASSPHRASE", "correct horse")
    folder = tmp_path / "keys"
    first = read_master(folder)
    assert [path.name for path in folder.iterdir()] == ["master.json"]

    monkeypatch.setenv("KEYFILE_PASSPHRASE", "wrong horse")
    with pytest.raises(KeyfileBroken, match="does not open"):
        read_master(folder)
    monkeypatch.delenv("KEYFILE_PASSPHRASE")
    with pytest.raises(KeyfileBroken, match="needs its passphrase"):
        read_master(folder)
    monkeypatch.setenv("KEYFILE_PASSPHRASE", "correct horse")
    assert read_master(folder) == first


@pytest.mark.parametrize(("name", "mode"), [("master.json", 0o640), ("passphrase", 0o604), (".", 0o755)])
def test_files_that_others_can_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int
) -> None:
    monkeypatch.delenv("KEYFILE_PASSPHRASE", raising=False)
    folder = tmp_path / "keys"
    first = read_master(folder)
    safe = (folder / name).stat().st_mode

    (folder / name).chmod(mode)
    with pytest.raises(KeyfileUnsafe, match="run chmod"):
        read_master(folder)

    (folder / name).chmod(safe)
    assert read_master(folder) == first


def test_a_link_in_place_of_the_keyfile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYFILE_PASSPHRASE", raising=False)
    folder = tmp_path / "keys"
    read_master(folder)
    (folder / "master.json").rename(tmp_path / "elsewhere.json")
    (folder / "master.json").symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(KeyfileUnsafe, match="is a link"):
        read_master(folder)


def test_a_damaged_keyfile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYFILE_PASSPHRASE", raising=False)
    folder = tmp_path / "keys"
    read_master(folder)
    path = folder / "master.json"
    body = json.loads(path.read_text())

    path.write_text(json.dumps(body | {"sealed": body["sealed"][::-1]}))
    with pytest.raises(KeyfileBroken):
        read_master(folder)
    path.write_text("{}")
    with pytest.raises(KeyfileBroken, match="is not a keyfile"):
        read_master(folder)


def test_the_installation_has_one_signer_in_its_data_folder(keys: Path) -> None:
    assert signing.signer() is signing.signer()
    signing.signer().address("operator")  # the keyfile is made when a key is first needed
    assert (keys / "keys" / "master.json").exists()
