"""Settings are typed and loud."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from marketplace.environment import (
    BadSetting,
    data_folder,
    env_bool,
    env_choice,
    env_int,
    env_list,
    env_str,
    secret_key,
)


@pytest.mark.parametrize(("text", "meaning"), [("1", True), ("0", False), ("", True), (" 0 ", False)])
def test_a_switch_is_one_or_zero(monkeypatch: pytest.MonkeyPatch, text: str, meaning: bool) -> None:
    monkeypatch.setenv("DEBUG", text)

    assert env_bool("DEBUG", default=True) is meaning


@pytest.mark.parametrize("text", ["no", "False", "true", "yes", "2", "on"])
def test_a_switch_in_words_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DEBUG", text)

    with pytest.raises(BadSetting, match=f"DEBUG='{text}': use 1 or 0"):
        env_bool("DEBUG", default=False)


def test_a_number_inside_its_limits_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_FEE_BPS", "10000")

    assert env_int("PLATFORM_FEE_BPS", default=250, minimum=0, maximum=10_000) == 10_000


@pytest.mark.parametrize("text", ["-1", "10001", "2.5", "many", "1e3", "0x10"])
def test_a_number_outside_its_limits_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PLATFORM_FEE_BPS", text)

    with pytest.raises(BadSetting, match="PLATFORM_FEE_BPS"):
        env_int("PLATFORM_FEE_BPS", default=250, minimum=0, maximum=10_000)


def test_a_word_is_one_of_those_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env_choice("PRICING_SOLVER", default="warm", choices=("warm", "public")) == "warm"

    monkeypatch.setenv("PRICING_SOLVER", "fast")

    with pytest.raises(BadSetting, match="use warm or public"):
        env_choice("PRICING_SOLVER", default="warm", choices=("warm", "public"))


def test_a_list_is_split_and_an_empty_item_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example")
    assert env_list("ALLOWED_HOSTS", default=[]) == ["a.example", "b.example"]

    monkeypatch.setenv("ALLOWED_HOSTS", "a.example,,b.example")
    with pytest.raises(BadSetting, match="an item is empty"):
        env_list("ALLOWED_HOSTS", default=[])


def test_an_empty_text_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_NAME", "  ")

    assert env_str("DATABASE_NAME", default="grove") == "grove"


def test_the_data_folder_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROVE_HOME", str(tmp_path / "deep" / "er"))

    assert data_folder() == tmp_path / "deep" / "er"
    assert data_folder().is_dir()


def test_a_relative_data_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROVE_HOME", "data")

    with pytest.raises(BadSetting, match="absolute"):
        data_folder()


def test_a_data_folder_that_is_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GROVE_HOME", str(tmp_path / "file"))

    with pytest.raises(BadSetting, match="cannot be made"):
        data_folder()


def test_folders_that_were_there_keep_their_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o750)
    monkeypatch.setenv("GROVE_HOME", str(parent / "ours"))

    data_folder()

    assert stat.S_IMODE(parent.stat().st_mode) == 0o750
    assert stat.S_IMODE((parent / "ours").stat().st_mode) & 0o066 == 0


def test_the_secret_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first = secret_key(tmp_path)

    assert secret_key(tmp_path) == first
    assert len(first) >= 64
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_secret_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret_key(tmp_path)
    (tmp_path / "secret_key").chmod(0o644)

    with pytest.raises(BadSetting, match="chmod 600"):
        secret_key(tmp_path)
