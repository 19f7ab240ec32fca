"""A data folder of its own for each test of the house, and processes that are ended whatever happens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marketplace import postgres
from marketplace.environment import CHECKOUT
from tests.rooms import room

OTHERS = ("DATABASE_URL", "DATABASE_PRODUCT_URL", "DATABASE_ROLE", "DATABASE_NAME", "PG_BIN", "SECRET_KEY",
          "PGOPTIONS")  # what would lead elsewhere  # fmt: skip
PATIENCE_SECONDS = 300  # only ends what hangs
USER_OF_THE_SERVER = """
import sys
from marketplace import postgres
from marketplace.environment import data_folder
postgres.ensure_running()
print(postgres._postmaster(data_folder()), flush=True)
sys.stdin.read()
"""


class Process:
    """A user of the server in a process of its own, there until its input closes."""

    def __init__(self, program: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=CHECKOUT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def server(self) -> int:
        """Return the process number of the server it uses; waits until that one answers."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def leave(self) -> None:
        """End in good order."""
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def kill(self) -> None:
        """End without a last word."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def made_once() -> Iterator[Path]:
    """Return the folder of a stopped server with an empty database, to copy: initdb costs a second each time."""
    folder = Path(tempfile.mkdtemp(prefix="grove-test-", dir=room()))
    folder.chmod(0o711)
    program = "from marketplace import postgres; postgres.ensure_running()"
    environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
    environment["GROVE_HOME"] = str(folder)
    subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, check=True, env=environment)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def users(home: Path, made_once: Path) -> Iterator[Callable[[], Process]]:
    """Return a function that starts one more user of the server in `home`, which has been started once before."""
    subprocess.run(["cp", "-a", made_once / "postgres", home], check=True)
    yield from _start_users()


@pytest.fixture
def first_users(home: Path) -> Iterator[Callable[[], Process]]:
    """Return a function that starts one more user of the server in `home`, which has never been started."""
    yield from _start_users()


def _start_users() -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(USER_OF_THE_SERVER))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty data folder that `GROVE_HOME` names; its server, if any, is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="grove-test-", dir=room()))
    folder.chmod(0o711)
    monkeypatch.setenv("GROVE_HOME", str(folder))
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    yield folder
    postgres._stop(folder)
    shutil.rmtree(folder)
