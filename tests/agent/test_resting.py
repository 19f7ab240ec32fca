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

import pytest

from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer
from marketplace.agent.errors import UsageWrong
from marketplace.agent.rechecks import CheckDoor
from marketplace.agent.resting import SESSION_MS_MAX, SPAN_HOURS, SPAN_MS_MAX, Rest
from marketplace.demo.keys import machine_key
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
def workload() -> Iterator[subprocess.Popen[str]]:
    """A process that takes connections, as a buyer's workload does."""
    with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as one:
        yield one
        one.kill()


def resting(workload: subprocess.Popen[str]) -> Rest:
    return Rest(rest=f"kill -STOP {workload.pid}", wake=f"kill -CONT {workload.pid}")


def stops(workload: subprocess.Popen[str]) -> bool:
    """Whether it stops: a signal takes effect when the process is next scheduled, which a busy machine puts off."""
    until = time.monotonic() + 1.5
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


def test_a_workload_stops_takes_connections_all_the_same_and_goes_on(workload: subprocess.Popen[str]) -> None:
    assert workload.stdout is not None
    port, rest = int(workload.stdout.readline()), resting(workload)

    rest.begin()
    assert stops(workload)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    length_ms = rest.end()

    assert wakes_within(workload, 20)
    assert 0 < length_ms == rest.rested_ms <= SESSION_MS_MAX
    assert rest.end() == 0
    assert rest.trouble is None


def test_a_workload_wakes_by_itself_when_its_time_is_up(workload: subprocess.Popen[str]) -> None:
    rest = resting(workload)
    rest.begin(100)

    assert wakes_within(workload, 20)
    rest.begin()  # the same session: what it had is used up
    assert not is_stopped(workload)
    assert 0 < rest.end() <= 100  # less where the command that stops it was slow: the guard counts from before it


def test_a_workload_wakes_when_the_meter_is_killed(workload: subprocess.Popen[str]) -> None:
    program = f"""
from marketplace.agent.resting import Rest
Rest(rest="kill -STOP {workload.pid}", wake="kill -CONT {workload.pid}").begin(60_000)
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


def test_twelve_seconds_in_six_hours_and_then_a_check_runs_beside_the_workload(
    workload: subprocess.Popen[str],
) -> None:
    now_ns = [0]
    rest = Rest(rest=f"kill -STOP {workload.pid}", wake=f"kill -CONT {workload.pid}", now_ns=lambda: now_ns[0])

    def try_once() -> bool:
        rest.begin()
        stopped = stops(workload)
        now_ns[0] += SESSION_MS_MAX * 10**6
        rest.end()
        return stopped

    assert [try_once() for _ in range(7)] == [True] * 6 + [False]
    assert rest.left_ms() == 0
    assert rest.rested_ms == SPAN_MS_MAX
    now_ns[0] += SPAN_HOURS * 3600 * 10**9
    assert try_once()


def test_a_command_that_fails_is_told_and_the_workload_is_woken_all_the_same(tmp_path: Path) -> None:
    woken = tmp_path / "woken"
    fails = Rest(rest="false", wake=f"touch {woken}")
    hangs = Rest(rest="sleep 30", wake="true")
    sleeps_on = Rest(rest="true", wake="false")

    for each in (fails, hangs, sleeps_on):
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


def test_a_re_check_lets_the_workload_rest_for_its_timed_blocks_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rest = Rest(**{name: shlex.join(["sh", "-c", f"echo {name} >> {log}"]) for name in ("rest", "wake")})
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
    assert 0 < rest.rested_ms <= SESSION_MS_MAX
    assert rest.trouble is None
