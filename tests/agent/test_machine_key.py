"""The machine key: safe modes or a loud refusal."""

import os

import pytest

from marketplace.agent.errors import KeyExists, KeyMissing, KeyModesWrong, PassphraseWrong, StatementForged
from marketplace.agent.keys import (
    KEY_FILE,
    check_enrolment,
    create_key,
    enrolment_statement,
    fingerprint_of,
    is_signed_by,
    load_key,
)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "agent home"


def test_a_key_is_made_in_a_closed_folder_and_read_back(home):
    key = create_key(home)

    assert (home.stat().st_mode & 0o777, (home / KEY_FILE).stat().st_mode & 0o777) == (0o700, 0o600)
    assert load_key(home).public_bytes == key.public_bytes
    assert key.fingerprint == fingerprint_of(key.public_bytes)
    assert len(key.fingerprint.split()) == 8


def test_the_umask_does_not_open_or_close_the_file(home):
    before = os.umask(0o277)
    try:
        home.mkdir()
        home.chmod(0o700)
        create_key(home)
    finally:
        os.umask(before)

    assert load_key(home)


@pytest.mark.parametrize(("part", "mode"), [(".", 0o750), (".", 0o500), (KEY_FILE, 0o640), (KEY_FILE, 0o400)])
def test_wrong_modes_are_refused_with_the_command_that_mends_them(home, part, mode):
    create_key(home)
    wanted = (home / part).stat().st_mode & 0o777
    (home / part).chmod(mode)

    with pytest.raises(KeyModesWrong, match=f"chmod {wanted:o}") as refusal:
        load_key(home)
    assert refusal.value.facts["mode"] == f"{mode:04o}"
    (home / part).chmod(wanted)
    assert load_key(home)


def test_a_link_in_place_of_the_key_is_refused(home, tmp_path):
    create_key(home)
    (home / KEY_FILE).rename(tmp_path / "elsewhere")
    (home / KEY_FILE).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(KeyModesWrong):
        load_key(home)


def test_a_key_is_never_overwritten(home):
    key = create_key(home)

    with pytest.raises(KeyExists):
        create_key(home)
    assert load_key(home).public_bytes == key.public_bytes


def test_no_key_is_made_in_an_open_folder(home):
    home.mkdir()
    home.chmod(0o755)

    with pytest.raises(KeyModesWrong):
        create_key(home)
    assert not (home / KEY_FILE).exists()


def test_a_missing_key_says_so(home):
    with pytest.raises(KeyMissing, match="enrol first"):
        load_key(home)


def test_a_passphrase_guards_the_file(home):
    key = create_key(home, passphrase=b"long enough")

    assert b"ENCRYPTED" in (home / KEY_FILE).read_bytes()
    assert load_key(home, passphrase=b"long enough").public_bytes == key.public_bytes
    for wrong in (None, b"another"):
        with pytest.raises(PassphraseWrong):
            load_key(home, passphrase=wrong)


def test_a_file_that_is_no_key_is_refused(home):
    create_key(home)
    (home / KEY_FILE).write_bytes(b"not a key")

    with pytest.raises(PassphraseWrong):
        load_key(home)


def test_a_signature_holds_for_its_key_and_message_only(home, tmp_path):
    key, other = create_key(home), create_key(tmp_path / "other")
    signature = key.sign(b"message")

    assert is_signed_by(key.public_bytes, b"message", signature)
    assert not is_signed_by(key.public_bytes, b"massage", signature)
    assert not is_signed_by(other.public_bytes, b"message", signature)
    assert not is_signed_by(b"short", b"message", signature)


def test_an_enrolment_statement_is_signed_together_with_its_token(home, tmp_path):
    key, other = create_key(home), create_key(tmp_path / "other")
    statement = enrolment_statement(key, "one-time")

    assert check_enrolment(statement) == key.public_bytes
    for forged in (
        statement | {"token": "another"},
        statement | {"public_key": other.public_bytes.hex()},
        statement | {"signature": "zz"},
        {"token": "one-time"},
    ):
        with pytest.raises(StatementForged):
            check_enrolment(forged)
