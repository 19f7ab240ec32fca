"""A workload rests while a re-check is timed, two seconds at most, and wakes whatever becomes of the meter."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.agent import resting as rests
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer
from marketplace.agent.errors import UsageWrong
from marketplace.agent.rechecks import CheckDoor
from marketplace.agent.resting import SESSION_MS_MAX, SPAN_HOURS, SPAN_MS_MAX, Rest, RestingProver
from marketplace.demo.keys import machine_key
from pricing.proof import Preset, Prover
from tests.agent.test_rechecks import LEASE, Task, checker, order
from tests.live import key_of

pytestmark = pytest.mark.usefixtures("unhurried")

LISTENER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    server.accept()
"""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of a busy machine takes its time, and its blocks more than two seconds: that is tried by set clocks."""
    monkeypatch.setattr(rests, "COMMAND_SECONDS_MAX", 60)
    monkeypatch.setattr(rests, "SESSION_MS_MAX", 120_000)
    monkeypatch.setattr(rests, "SPAN_MS_MAX", 120_000)


@pytest.fixture
def workload() -> Iterator[subprocess.Popen[str]]:
    """A process that takes connections, as a buyer's workload does."""
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as one:
        yield one
        one.kill()


def resting(workload: subprocess.Popen[str]) -> Rest:
    return Rest(rest=f"kill -STOP {workload.pid}", wake=f"kill -CONT {workload.pid}")


def stops(workload: subprocess.Popen[str], seconds: float = 20) -> bool:
    """Whether it stops: a signal takes effect when the process is next scheduled, which a busy machine puts off."""
    until = time.monotonic() + seconds
    while not is_stopped(workload) and time.monotonic() < until:
        time.sleep(0.01)
    return is_stopped(workload)


def is_stopped(workload: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{workload.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wakes_within(workload: subprocess.Popen[str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while is_stopped(workload) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_stopped(workload)


def test_a_workload_stops_takes_connections_all_the_same_and_goes_on(
    workload: subprocess.Popen[str], patient: None
) -> None:
    assert workload.stdout is not None
    port, rest = int(workload.stdout.readline()), resting(workload)

    rest.begin(60_000)
    assert stops(workload)
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    assert is_stopped(workload)
    length_ms = rest.end()

    assert wakes_within(workload, 20)
    assert 0 < length_ms == rest.rested_ms <= 60_000
    assert rest.end() == 0
    assert rest.trouble is None


def test_a_workload_wakes_by_itself_when_its_time_is_up(workload: subprocess.Popen[str], patient: None) -> None:
    rest = resting(workload)
    rest.begin(100)

    assert wakes_within(workload, 20)
    rest.begin()  # the same session: what it had is used up
    assert not is_stopped(workload)
    assert 0 < rest.end() <= 100  # less where the command that stops it was slow: the guard counts from before it


@pytest.mark.parametrize("after", ["", "; exit 3"])
def test_a_workload_whose_command_is_slower_than_its_time_is_up_does_not_stay_stopped(
    workload: subprocess.Popen[str], patient: None, after: str
) -> None:
    slow = shlex.join(["sh", "-c", f"sleep 0.5; kill -STOP {workload.pid}{after}"])
    rest = Rest(rest=slow, wake=f"kill -CONT {workload.pid}")

    rest.begin(100)  # the guard wakes it before it stopped

    assert wakes_within(workload, 20)
    rest.end()
    assert not is_stopped(workload)
    assert rest.rested_ms == 100


def test_a_workload_wakes_when_the_meter_is_killed(workload: subprocess.Popen[str]) -> None:
    program = f"""
from marketplace.agent import resting
resting.COMMAND_SECONDS_MAX = 60
resting.Rest(rest="kill -STOP {workload.pid}", wake="kill -CONT {workload.pid}").begin(60_000)
print("stopped", flush=True)
input()
"""
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as meter:
        assert meter.stdout is not None
        assert meter.stdout.readline() == "stopped\n"
        assert stops(workload)

        os.kill(meter.pid, signal.SIGKILL)
        meter.wait()

        assert wakes_within(workload, 20)  # the guard's own time is a minute


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def noted(log: Path, **more: Any) -> Rest:
    """One whose commands say in a file that they were run."""
    commands = {name: shlex.join(["sh", "-c", f"echo {name} >> {log}"]) for name in ("rest", "wake")}
    return Rest(**commands, **more)


def times_rested(log: Path) -> int:
    """How often it rested; each time it was woken once."""
    said = log.read_text().split() if log.exists() else []
    assert said.count("rest") == said.count("wake")
    return said.count("rest")


def test_twelve_seconds_in_six_hours_and_then_a_check_runs_beside_the_workload(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "COMMAND_SECONDS_MAX", 60)
    now_ns = [0]
    rest = noted(log, now_ns=lambda: now_ns[0])

    def try_once() -> int:
        rest.begin()
        now_ns[0] += SESSION_MS_MAX * 10**6
        rest.end()
        return times_rested(log)

    assert [try_once() for _ in range(7)] == [1, 2, 3, 4, 5, 6, 6]
    assert rest.left_ms() == 0
    assert rest.rested_ms == SPAN_MS_MAX
    now_ns[0] += SPAN_HOURS * 3600 * 10**9
    assert try_once() == 7


def test_in_one_session_a_workload_rests_two_seconds_however_long_its_blocks_take(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "COMMAND_SECONDS_MAX", 60)
    now_ns = [0]

    class Slow(RestingProver):
        """Its blocks take 1.2 seconds."""

        @property
        def _started(self) -> Prover:
            now_ns[0] += 1_200 * 10**6
            return super()._started

    rest, key = noted(log, now_ns=lambda: now_ns[0]), machine_key("granite")
    small = Preset("small", size=256, products=1, blocks=1, rows_opened=1, root_deadline_ms=5000)
    prover, rested = Slow("float32", key=key, rest=rest), []
    for _ in range(3):
        prover.start(small, bytes(32))
        prover.commit_block(bytes(32))
        rested.append((times_rested(log), rest.rested_ms))

    assert rested == [(1, 1_200), (2, SESSION_MS_MAX), (2, SESSION_MS_MAX)]
    assert (prover.wake(), rest.trouble) == (None, None)


def test_a_command_that_fails_is_told_and_the_workload_is_woken_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken = tmp_path / "woken"
    fails = Rest(rest="false", wake=f"touch {woken}")
    hangs = Rest(rest="sleep 30", wake="true")
    sleeps_on = Rest(rest="true", wake="false")

    for each in (fails, hangs, sleeps_on):
        monkeypatch.setattr(rests, "COMMAND_SECONDS_MAX", 0.5 if each is hangs else 60)
        each.begin()
        each.end()

    assert woken.exists()
    assert [("rest" in str(each.trouble), "wake" in str(each.trouble)) for each in (fails, hangs, sleeps_on)] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip


def test_one_command_without_the_other_is_refused_and_none_stops_nothing() -> None:
    with pytest.raises(UsageWrong):
        Rest(rest="true")
    with pytest.raises(UsageWrong):
        Rest(wake="true")
    nothing = Rest()
    nothing.begin()
    assert (nothing.end(), nothing.rested_ms) == (0, 0)


def test_a_re_check_lets_the_workload_rest_for_its_timed_blocks_alone(
    log: Path, tmp_path: Path, patient: None
) -> None:
    rest = noted(log)
    door = CheckDoor(
        ("127.0.0.1", 0), key=machine_key("granite"), backend="float32", clock=MarketClock(), rest=rest,
        leases_of=lambda: {LEASE}, witnesses_of=lambda: [key_of("oak").public_bytes.hex()],
    )  # fmt: skip
    door.start()
    machine = EchoServer(
        ("127.0.0.1", 0), key=machine_key("granite"), clock=MarketClock(), devices_of=lambda: {LEASE: 4}, door=door
    )
    machine.start()
    home = tmp_path / "oak"
    home.mkdir()
    one = checker(home)
    try:
        one.do(Task(one.clock.now_ms(), order(machine)))
    finally:
        machine.stop()
        door.stop()

    assert one.told["checked"] == 1
    assert log.read_text().split() == ["rest", "wake", "rest", "wake"]  # the pilot, and the chain that counts
    assert rest.rested_ms > 0
    assert rest.trouble is None
