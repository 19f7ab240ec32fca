"""`manage.py up` as a person runs it: served, asked twice, ended, killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from marketplace import postgres
from marketplace.environment import CHECKOUT
from marketplace.supervisor import began
from tests.rooms import quiet_port

PATIENCE_SECONDS = 400  # only ends what hangs


class Up:
    """One `up` in a process of its own, its lines in a file."""

    def __init__(self, home: Path, port: int) -> None:
        self.port, self.output = port, home / "said.txt"
        with self.output.open("a") as file:
            self.process = subprocess.Popen(command(port), cwd="/", stdout=file, stderr=subprocess.STDOUT)

    def says(self, words: str) -> bool:
        """Wait until it has printed `words`; False when it ends before."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while words not in self.output.read_text() and time.monotonic() < give_up_at:
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        return words in self.output.read_text()

    def status_of(self, path: str) -> int:
        """Return the status of one page."""
        site = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        site.request("GET", path)
        try:
            return site.getresponse().status
        finally:
            site.close()


def command(port: int) -> list[str]:
    """Return the command line; the path of the checkout is absolute, the folder one stands in does not matter."""
    return [sys.executable, str(CHECKOUT / "manage.py"), "up", "--no-world", "--port", str(port)]


def children(home: Path) -> list[int]:
    """Return the numbers of the servers that run."""
    return [each["pid"] for each in json.loads((home / "up.json").read_text())["processes"].values()]


def who_works_in(home: Path) -> set[str]:
    """Return every role that is connected to the server, once each of the product's servers has been seen there.

    One that still gives its password has no role yet, and the owner may still be on its way out of the migrations.
    """
    servers, found = {"grove web", "grove worker", "grove cards"}, []
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    with psycopg.connect(**postgres.maintenance_fields(home), autocommit=True) as connection:
        while time.monotonic() < give_up_at:
            if servers <= {name for name, _ in found} and {role for _, role in found} == {"grove_app"}:
                break
            time.sleep(0.1)
            found = connection.execute(
                "select application_name, usename from pg_stat_activity "
                "where backend_type = 'client backend' and pid <> pg_backend_pid() and usename is not null"
            ).fetchall()
    assert servers <= {name for name, _ in found}, found
    return {role for _, role in found}


@pytest.fixture
def port() -> int:
    """Return a port nobody listens on."""
    return quiet_port()


@pytest.fixture
def up(home: Path, port: int) -> Iterator[Up]:
    """Return an `up` that serves in an empty data folder."""
    started = Up(home, port)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()


def test_up_serves_answers_twice_and_ends_with_everything_it_started(up: Up, home: Path) -> None:
    assert up.says("beat is up"), up.output.read_text()
    assert up.status_of("/") < 400
    assert up.status_of("/static/bootstrap/css/bootstrap.min.css") == 200
    servers = children(home)
    assert len(servers) == 4
    assert up.status_of("/login/") == 200  # the site has asked the database for something by now
    assert who_works_in(home) == {"grove_app"}

    again = subprocess.run(command(up.port), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert again.returncode == 0
    assert f"http://127.0.0.1:{up.port}/" in again.stdout
    assert f"pid {up.process.pid}" in again.stdout

    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert [pid for pid in servers if began(pid)] == []
    assert postgres._postmaster(home) is None


def test_a_port_somebody_else_has_is_refused_by_name(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        refused = subprocess.run(command(port), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)

    assert refused.returncode == 1
    assert f"--port {port + 1}" in refused.stderr
    assert postgres._postmaster(home) is None


@pytest.mark.slow
def test_after_kill_9_the_next_up_recovers_by_itself(up: Up, home: Path) -> None:
    assert up.says("beat is up"), up.output.read_text()
    servers = children(home)

    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait()
    up.output.write_text("")
    heir = Up(home, up.port)

    assert heir.says("beat is up"), heir.output.read_text()
    assert heir.status_of("/") < 400
    assert [pid for pid in servers if began(pid)] == []
    heir.process.send_signal(signal.SIGTERM)
    assert heir.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert postgres._postmaster(home) is None


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_database_come_back(up: Up, home: Path) -> None:
    assert up.says("beat is up"), up.output.read_text()
    worker = json.loads((home / "up.json").read_text())["processes"]["worker"]["pid"]

    os.kill(worker, signal.SIGKILL)
    assert up.says("worker was killed (signal 9)")
    server = postgres._postmaster(home)
    assert server is not None
    os.kill(server, signal.SIGKILL)

    assert up.says("The database went away")
    assert up.says("worker is up again")
    assert up.status_of("/") < 400
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=PATIENCE_SECONDS) == 0
