"""What `manage.py test` adds to a plain call."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from marketplace.environment import CHECKOUT
from tests import __main__ as suite
from tests.__main__ import names_a_path, wants_a_browser, with_habits
from tests.conftest import DEAR, pytest_collection_modifyitems


@dataclass
class _Item:
    path: Path


PR_SIZE = ["-m", "not slow and not nightly"]
TWO_PROCESSES = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ([], [*PR_SIZE, *TWO_PROCESSES]),
        (["-x"], ["-x", *PR_SIZE, *TWO_PROCESSES]),
        (["tests/house"], ["tests/house", *PR_SIZE]),
        (["-m", "slow"], ["-m", "slow", *TWO_PROCESSES]),
        (["-n", "0"], ["-n", "0", *PR_SIZE]),
        (["tests/house/test_broker.py::test_x", "-m", "slow"], ["tests/house/test_broker.py::test_x", "-m", "slow"]),
    ],
)
def test_a_call_gets_its_habits(asked: list[str], run: list[str]) -> None:
    assert with_habits(asked) == run


def test_a_browser_is_looked_for_only_when_pages_are_tested() -> None:
    assert wants_a_browser([])
    assert wants_a_browser(["tests/browser"])
    assert not wants_a_browser(["tests/house"])
    assert names_a_path(["tests/house"])


def test_the_dear_files_come_first_and_each_of_them_is_there() -> None:
    assert len(set(DEAR)) == len(DEAR)
    assert [name for name in DEAR if not (CHECKOUT / "tests" / name).is_file()] == []

    one, other = (_Item(CHECKOUT / "tests" / name) for name in DEAR[:2])
    cheap = _Item(CHECKOUT / "tests/house/test_broker.py")
    items: list[Any] = [cheap, other, one]
    pytest_collection_modifyitems(items)

    assert items == [one, other, cheap]


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place in memory, much of it free, and no folder or server that the caller names."""
    monkeypatch.setattr(suite, "MEMORY", tmp_path)
    monkeypatch.setattr(suite, "MEMORY_BYTES_MIN", 0)
    monkeypatch.setattr(suite, "CONTAINER_LIMITS", (tmp_path / "no limit",))
    for name in ("GROVE_HOME", "DATABASE_URL", "DATABASE_PRODUCT_URL"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    return tmp_path


def test_the_suites_server_works_in_memory_and_what_a_killed_session_left_there_goes(memory: Path) -> None:
    dead, alive = memory / "grove-tests-999999999-x", memory / f"grove-tests-{os.getppid()}-x"
    for each in (dead, alive):
        each.mkdir()

    suite.work_in_memory()

    home = Path(os.environ["GROVE_HOME"])
    assert home.name.startswith(f"grove-tests-{os.getpid()}-")
    assert set(memory.iterdir()) == {alive, home}


@pytest.mark.parametrize("name", ["GROVE_HOME", "DATABASE_URL", "DATABASE_PRODUCT_URL"])
def test_a_folder_or_server_that_you_name_is_used(memory: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "yours")

    suite.work_in_memory()

    assert (os.environ[name], list(memory.iterdir())) == ("yours", [])
    assert name == "GROVE_HOME" or "GROVE_HOME" not in os.environ


def test_without_much_room_in_memory_the_data_folder_stays(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "MEMORY_BYTES_MIN", 2**62)

    suite.work_in_memory()

    assert "GROVE_HOME" not in os.environ
    assert list(memory.iterdir()) == []


@pytest.mark.parametrize(("limit", "fits"), [("max", True), (str(20 * 2**30), True), (str(8 * 2**30), False)])
def test_a_container_that_may_use_less_than_the_machine_has_counts(
    memory: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, limit: str, fits: bool
) -> None:
    file = tmp_path_factory.mktemp("group") / "memory.max"
    file.write_text(f"{limit}\n")
    monkeypatch.setattr(suite, "CONTAINER_LIMITS", (file.with_name("not there"), file))
    monkeypatch.setattr(suite, "MEMORY_BYTES_MIN", 8 * 2**30)
    monkeypatch.setattr(suite, "available_bytes", lambda: 2**62)
    monkeypatch.setattr(suite.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**62))

    suite.work_in_memory()

    assert ("GROVE_HOME" in os.environ) is fits


def test_python_keeps_what_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    suite.keep_bytecode()

    started = subprocess.run([sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"], capture_output=True,
                             text=True, check=True)  # fmt: skip
    assert (sys.dont_write_bytecode, started.stdout.strip()) == (False, "False")
