"""kill -9 of the poster's process and of PostgreSQL under load: nothing acknowledged is lost, doubled or torn."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace import postgres
from marketplace.environment import CHECKOUT

PROGRAM = Path(__file__).with_name("killed_books.py")
# pytest's own folders are closed to others, and as root the database's user could not enter them.
ROOM = "/var/lib" if os.geteuid() == 0 else None
OTHERS = ("DATABASE_URL", "DATABASE_NAME", "PGOPTIONS")  # what would lead elsewhere, or commit without waiting


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="grove-test-", dir=ROOM))
    folder.chmod(0o711)
    (folder / "acknowledged").touch()
    yield folder
    postgres._stop(folder)
    shutil.rmtree(folder)


def start(home: Path, seed: int, what: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in OTHERS}
    environment |= {"GROVE_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, str(PROGRAM), str(home / "acknowledged"), str(seed), what]
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, text=True, stdout=subprocess.PIPE)


def kill_again_and_again(home: Path, kills: int) -> None:
    dice = random.Random(kills)
    for seed in range(kills):
        child = start(home, seed, "post")
        assert child.stdout is not None
        told = child.stdout.readline()
        assert told[:1].isdigit(), told
        time.sleep(dice.uniform(0.1, 0.6))
        os.kill(child.pid if seed % 2 else int(told.split()[0]), signal.SIGKILL)
        child.communicate(timeout=60)
        assert child.returncode in (3, -signal.SIGKILL)
    child = start(home, kills, "look")
    told, _ = child.communicate(timeout=120)

    acknowledged = sum(int(line.split()[1]) for line in (home / "acknowledged").read_text().splitlines())
    assert child.returncode == 0, told
    assert int(told.split()[1]) >= acknowledged > 10 * kills
    print(f"{kills} kills: {acknowledged} transfers acknowledged, {told.split()[1]} found, none lost, doubled or torn")


def test_ten_kills_lose_double_and_tear_nothing(home: Path) -> None:
    kill_again_and_again(home, 10)


@pytest.mark.slow
def test_a_hundred_kills_lose_double_and_tear_nothing(home: Path) -> None:
    kill_again_and_again(home, 100)
