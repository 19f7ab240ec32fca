"""The whole demo and the whole `up`, killed on the way: minutes each, so they run before a release."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from marketplace import postgres
from marketplace.environment import CHECKOUT, env_str
from tests.crash.test_verify import DAMAGES, behind_its_back
from tests.rooms import quiet_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(env_str("DATABASE_URL")), reason="kills processes of a server that it starts by itself"),
]
PATIENCE_SECONDS = 1800  # a turn takes two minutes on two quiet cores
ROOM = "/var/lib" if os.geteuid() == 0 else None  # as root the database's user must be able to enter
LIVE_FIGURES = """
import django; django.setup()
from marketplace.demo import report, story
print(report.as_json(report.report(story.begin(), seconds=0)))
"""


@dataclass
class Home:
    """A data folder and the commands that work in it."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        leads_elsewhere = (
            "DATABASE_URL", "DATABASE_PRODUCT_URL", "DATABASE_ROLE", "DATABASE_NAME", "GROVE_FAULTS", "PGOPTIONS",
            "SECRET_KEY",
        )  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if name not in leads_elsewhere}
        return kept | {"GROVE_HOME": str(self.folder), "NO_BOOTSTRAP": "1"} | more

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(CHECKOUT / "manage.py"), *arguments], env=self.environment(**environment), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs and remove everything."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
        postgres._stop(self.folder)
        shutil.rmtree(self.folder)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, said

    def demo(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """The figures of a demo that runs to its end, times aside."""
        status, said = self.run("demo", *arguments, "--json", str(self.folder / "out.json"), **environment)
        assert status == 0, said
        return untimed(json.loads((self.folder / "out.json").read_text()))


def untimed(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figure for name, figure in figures.items() if name != "seconds"}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="grove-test-", dir=ROOM))
    folder.chmod(0o711)
    home = Home(folder)
    yield home
    home.end()


@pytest.fixture(scope="module")
def finished(home: Home) -> dict[str, Any]:
    """The figures of the demo of seed 7, which stands in the data folder."""
    return home.demo("--seed", "7")


@pytest.fixture
def port() -> int:
    return quiet_port()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What a process says up to some words; fails when it ends or is silent for too long."""
    said: list[str] = []
    watch = threading.Timer(PATIENCE_SECONDS, process.kill)
    watch.start()
    try:
        for line in process.stdout or ():
            said.append(line)
            if words in line:
                return "".join(said)
    finally:
        watch.cancel()
    raise AssertionError(f"it never said {words!r}:\n{''.join(said[-30:])}")


def test_verify_of_the_demo_exits_with_0_and_with_1_after_each_damage(home: Home, finished: dict[str, Any]) -> None:
    assert finished["books"]["invariants_broken"] == 0
    status, said = home.run("verify", "--demo")
    assert status == 0, said

    postgres.ensure_running(home.folder)
    connect = postgres.maintenance_fields(home.folder) | {"dbname": "grove_demo"}
    try:
        for what in ("a transfer of the books", "an award", "a slot of the chain"):
            damage, repair, words = DAMAGES[what]
            behind_its_back(damage, connect)
            status, said = home.run("verify", "--demo")
            behind_its_back(repair, connect)
            assert status == 1, what
            assert any(line.startswith(f"BROKEN  {words}") for line in said.splitlines()), said
        assert home.run("verify", "--demo")[0] == 0
    finally:
        postgres.leave(home.folder)


def test_a_demo_that_is_killed_four_times_ends_with_the_same_figures(home: Home, finished: dict[str, Any]) -> None:
    whole = home.demo("--seed", "3")

    kept: tuple[str, ...] = ()
    for fault in ("clearing.publish.before_commit", "escrow.lock.before_commit", "payout.settle.before_commit"):
        status, said = home.run("demo", "--seed", "3", *kept, GROVE_FAULTS=f"{fault}=kill")
        assert status == -signal.SIGKILL, said
        kept = ("--keep",)
    timed = home.start("demo", "--seed", "3", "--keep")
    read_until(timed, "A week of delivery")
    time.sleep(3)
    timed.send_signal(signal.SIGKILL)
    assert timed.wait() == -signal.SIGKILL

    assert home.demo("--keep") == whole


def test_up_goes_on_with_its_world_after_the_worker_and_up_itself_were_killed(
    home: Home, finished: dict[str, Any], port: int
) -> None:
    first = home.start("up", "--port", str(port))
    read_until(first, "warning")  # the early window is delivered
    worker = json.loads((home.folder / "up.json").read_text())["processes"]["worker"]["pid"]
    os.kill(worker, signal.SIGKILL)
    read_until(first, "worker is up again")
    read_until(first, "sealed bids come in")
    first.send_signal(signal.SIGKILL)
    first.wait()

    second = home.start("up", "--port", str(port))
    read_until(second, "The demo world stands.")
    done = subprocess.run(
        [sys.executable, "-c", LIVE_FIGURES], cwd=CHECKOUT, capture_output=True, text=True, check=True,
        env=home.environment(DJANGO_SETTINGS_MODULE="marketplace.settings"),
    )  # fmt: skip
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=PATIENCE_SECONDS) == 0

    assert untimed(json.loads(done.stdout)) == finished
