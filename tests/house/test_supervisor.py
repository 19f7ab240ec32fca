"""The servers of `up`: started again when they die, ended when asked or when `up` is killed, found after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marketplace.environment import CHECKOUT
from marketplace.supervisor import AlreadyRunning, Supervisor, began, end_leftovers

PATIENCE_SECONDS = 300  # only ends what hangs
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"]
PARENT = """
import sys, time
from pathlib import Path
from marketplace.supervisor import Supervisor
parent = Supervisor(Path(sys.argv[1]), say=print)
parent.claim(url="http://127.0.0.1:1/")
parent.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
time.sleep(600)
"""


def becomes_true(question: Callable[[], bool]) -> bool:
    """Wait until `question` is answered with yes."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not question() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return question()


@pytest.fixture
def said() -> list[str]:
    """Return the lines the supervisor has printed."""
    return []


@pytest.fixture
def supervisor(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    """Return a supervisor that has claimed an empty folder."""
    made = Supervisor(tmp_path, say=said.append)
    made.claim(url="http://127.0.0.1:8000/")
    yield made
    made.stop()


def pid_of(folder: Path, name: str) -> int:
    """Return the number that `up.json` names."""
    return int(json.loads((folder / "up.json").read_text())["processes"][name]["pid"])


def test_a_dead_server_is_started_again_and_said_so(supervisor: Supervisor, tmp_path: Path, said: list[str]) -> None:
    supervisor.start("web", SLEEPER)
    first = pid_of(tmp_path, "web")

    os.kill(first, signal.SIGKILL)
    assert becomes_true(lambda: supervisor.watch() or pid_of(tmp_path, "web") != first)

    assert began(pid_of(tmp_path, "web"))
    assert "web was killed (signal 9); starting it again in 1 s" in said[0]


def test_a_server_that_dies_at_once_is_started_less_and_less_often(supervisor: Supervisor, said: list[str]) -> None:
    supervisor.start("web", [sys.executable, "-c", "raise SystemExit(3)"])

    assert becomes_true(lambda: supervisor.watch() or len(said) >= 5)

    assert [line.split(" in ")[1][:3] for line in said[::2]] == ["1 s", "2 s", "4 s"]


def test_stop_ends_the_willing_and_the_stubborn(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start("willing", SLEEPER)
    supervisor.start("stubborn", STUBBORN)
    processes = [supervisor.children[name].process for name in ("willing", "stubborn")]
    assert becomes_true(lambda: bool(supervisor.log_path("stubborn").read_text()))

    supervisor.stop()

    assert [process.returncode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]
    assert not (tmp_path / "up.json").exists()


def test_a_second_one_learns_what_runs_and_a_third_may_follow_the_first(supervisor: Supervisor, tmp_path: Path) -> None:
    second = Supervisor(tmp_path, say=print)
    with pytest.raises(AlreadyRunning) as refused:
        second.claim(url="http://127.0.0.1:9000/")
    assert (refused.value.record["url"], refused.value.record["pid"]) == ("http://127.0.0.1:8000/", os.getpid())

    supervisor.stop()
    second.claim(url="http://127.0.0.1:9000/")
    second.stop()


def test_children_die_with_a_killed_parent_and_the_next_one_may_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = pid_of(tmp_path, "sleeper")
        assert began(child)

        parent.kill()

    assert becomes_true(lambda: not began(child))
    heir = Supervisor(tmp_path, say=print)
    heir.claim(url="http://127.0.0.1:8000/")
    heir.stop()


def test_leftovers_are_ended_and_strangers_spared() -> None:
    with subprocess.Popen(SLEEPER) as ours, subprocess.Popen(SLEEPER) as stranger:
        ended = end_leftovers(
            [{"pid": ours.pid, "began": began(ours.pid)}, {"pid": stranger.pid, "began": "another life"}]
        )

        assert ended == 1
        assert ours.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()


def test_a_child_waits_at_its_gate(supervisor: Supervisor) -> None:
    waits = "import os; os.read(int(os.environ['START_GATE_FD']), 1); print('through', flush=True)"
    gate, go = os.pipe()
    supervisor.start("web", [sys.executable, "-c", waits], gate=gate)
    os.close(gate)
    time.sleep(0.5)
    assert supervisor.log_path("web").read_text() == ""

    os.close(go)

    assert becomes_true(lambda: "through" in supervisor.log_path("web").read_text())
