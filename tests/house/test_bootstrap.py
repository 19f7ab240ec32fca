"""`manage.py` makes its own environment: what it takes for current, what it mends, what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace import bootstrap
from marketplace.bootstrap import DEVELOPER_LOCK, RUNTIME_LOCK, CannotPrepare, Environment
from marketplace.environment import CHECKOUT

PREPARE = "import sys; from pathlib import Path; from marketplace.bootstrap import Environment; "
PREPARE += "Environment(Path(sys.argv[1])).prepare('up')"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout in a path with a space, whose locks name no package."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for lock in (RUNTIME_LOCK, DEVELOPER_LOCK):
        (folder / lock).write_text(f"# {lock}\n")
    return folder


def prepared(checkout: Path, lock: str = RUNTIME_LOCK) -> Environment:
    """Return an environment that looks as an install leaves it."""
    environment = Environment(checkout)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    environment.stamp.write_text(bootstrap.json.dumps(environment._stamp_of(lock)))
    return environment


def test_what_was_installed_is_current_until_the_lock_changes(checkout: Path) -> None:
    environment = prepared(checkout)
    assert environment.is_current("up")

    (checkout / RUNTIME_LOCK).write_text("# another\n")
    assert not environment.is_current("up")


def test_the_developers_lock_serves_every_command_and_the_other_one_does_not(checkout: Path) -> None:
    environment = prepared(checkout, DEVELOPER_LOCK)
    assert environment.is_current("up")
    assert environment.is_current("test")

    environment.stamp.write_text(bootstrap.json.dumps(environment._stamp_of(RUNTIME_LOCK)))
    assert environment.is_current("up")
    assert not environment.is_current("test")


def test_an_interrupted_install_is_not_current(checkout: Path) -> None:
    environment = prepared(checkout)
    environment.unfinished.touch()

    assert not environment.is_current("up")


def test_an_interpreter_that_went_away_is_noticed(checkout: Path) -> None:
    environment = prepared(checkout)
    environment.python.unlink()
    environment.python.symlink_to("/usr/bin/python-of-yesterday")

    assert not environment.is_current("up")


def test_two_racing_first_runs_make_one_working_environment(checkout: Path) -> None:
    command = [sys.executable, "-c", PREPARE, str(checkout)]
    racers = [subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    words = [racer.communicate(timeout=600)[1] for racer in racers]

    assert [racer.returncode for racer in racers] == [0, 0], words
    assert sum("Installing" in each for each in words) == 1
    assert Environment(checkout).is_current("up")
    assert subprocess.run([Environment(checkout).python, "-c", "import sys"], check=False).returncode == 0


def test_a_half_made_environment_is_made_again(checkout: Path) -> None:
    environment = Environment(checkout)
    (environment.folder / "bin").mkdir(parents=True)
    environment.python.write_text("half a file")
    environment.unfinished.touch()
    (environment.folder / "rubbish").touch()

    environment.prepare("up")

    assert environment.is_current("up")
    assert not (environment.folder / "rubbish").exists()


def test_without_venv_the_debian_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())

    with pytest.raises(CannotPrepare, match=r"(?s)no ensurepip.*apt install python3-venv"):
        bootstrap.refuse_without_venv()


def test_an_install_without_network_says_so_in_plain_words() -> None:
    offline = bootstrap.failure("pip", ["Collecting django", "NewConnectionError: Name or service not known"])
    broken = bootstrap.failure("pip", ["error: no space left on device"])

    assert "No package index answered" in offline
    assert "No package index answered" not in broken
    assert "no space left" in broken


@pytest.mark.parametrize("lock", [RUNTIME_LOCK, DEVELOPER_LOCK])
def test_a_lock_pins_every_package_by_hash_and_names_no_index(lock: str) -> None:
    text = (CHECKOUT / lock).read_text()
    pins = re.split(r"\n(?=[A-Za-z0-9])", text.strip())

    assert len(pins) > 50
    assert [pin.splitlines()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert re.findall(r"https?://|--index-url|--extra-index-url|--find-links|--trusted-host| @ ", text) == []


def test_the_developers_lock_contains_the_other_one_pin_for_pin() -> None:
    runtime, developer = (
        set(re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / lock).read_text(), re.MULTILINE))
        for lock in (RUNTIME_LOCK, DEVELOPER_LOCK)
    )

    assert runtime - developer == set()


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    lines = [line for line in (CHECKOUT / ".ci" / "run").read_text().splitlines() if line.strip()]

    assert lines == ["#!/usr/bin/env bash", "set -eu", 'cd "$(dirname "$0")/.."', "exec python3 manage.py test"]
