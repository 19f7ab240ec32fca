"""kill -9 of the poster's process and of PostgreSQL under load: nothing acknowledged is lost, doubled or torn."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from marketplace import postgres
from marketplace.environment import CHECKOUT
from tests.rooms import room

PROGRAM = Path(__file__).with_name("killed_books.py")
PATIENCE_SECONDS = 400  # only ends what hangs
AT_WORK = 6  # groups of transfers, acknowledged in one life, before it may be ended
OTHERS = ("DATABASE_URL", "DATABASE_NAME", "PGOPTIONS")  # what would lead elsewhere, or commit without waiting


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="grove-test-", dir=room()))
    folder.chmod(0o711)
    (folder / "acknowledged").touch()
    yield folder
    postgres._stop(folder)
    shutil.rmtree(folder)


class Posters:
    """Processes that post, each forked from one that has loaded everything and never speaks to the server."""

    def __init__(self, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
        environment |= {"GROVE_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
        command = [sys.executable, str(PROGRAM), str(home / "acknowledged")]
        self.process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def start(self, seed: int, what: str) -> tuple[int, int, int]:
        """Start one; returns the server's process number, its own, and how many transfers it found."""
        assert self.process.stdin is not None
        print(seed, what, file=self.process.stdin, flush=True)
        told = self.line()
        assert told[:1].isdigit(), told or f"nothing for {PATIENCE_SECONDS} seconds"
        server, own, there = told.split()
        return int(server), int(own), int(there)

    def at_work(self, acknowledged: Path) -> None:
        """Wait until the one that was started last has had some transfers acknowledged."""
        there, give_up_at = lines_in(acknowledged), time.monotonic() + PATIENCE_SECONDS
        while lines_in(acknowledged) < there + AT_WORK:
            assert time.monotonic() < give_up_at, f"nothing acknowledged for {PATIENCE_SECONDS} seconds"
            time.sleep(0.01)

    def ended(self) -> int:
        """How the one that was started last ended; waits for it."""
        told = self.line()
        assert told.startswith("ended"), told or f"nothing for {PATIENCE_SECONDS} seconds"
        return int(told.removeprefix("ended"))

    def line(self) -> str:
        """The next line; "" when none came in time, after which all of them are dead."""
        assert self.process.stdout is not None
        deadline = threading.Timer(PATIENCE_SECONDS, self.kill)
        deadline.start()
        try:
            return self.process.stdout.readline()
        finally:
            deadline.cancel()

    def kill(self) -> None:
        """End them all: the one that has loaded everything, and the one it has forked."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def posters(home: Path) -> Iterator[Posters]:
    posters = Posters(home)
    yield posters
    posters.kill()
    posters.process.communicate(timeout=PATIENCE_SECONDS)


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n")


def kill_again_and_again(home: Path, posters: Posters, kills: int) -> None:
    dice = random.Random(kills)
    for seed in range(kills):
        server, poster, _ = posters.start(seed, "post")
        posters.at_work(home / "acknowledged")
        time.sleep(dice.uniform(0, 0.5))
        os.kill(poster if seed % 2 else server, signal.SIGKILL)
        assert posters.ended() == (-signal.SIGKILL if seed % 2 else 3)
    _, _, found = posters.start(kills, "look")
    assert posters.ended() == 0

    acknowledged = sum(int(line.split()[1]) for line in (home / "acknowledged").read_text().splitlines())
    assert found >= acknowledged > 10 * kills
    print(f"{kills} kills: {acknowledged} transfers acknowledged, {found} found, none lost, doubled or torn")


def test_ten_kills_lose_double_and_tear_nothing(home: Path, posters: Posters) -> None:
    kill_again_and_again(home, posters, 10)


@pytest.mark.slow
def test_a_hundred_kills_lose_double_and_tear_nothing(home: Path, posters: Posters) -> None:
    kill_again_and_again(home, posters, 100)
