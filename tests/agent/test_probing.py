"""Probes over TCP and HTTP: at the secret second, with anchors, once more after a failure, signed and taken."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import client
from marketplace.agent import echo as echo_server
from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer, ask_echo
from marketplace.agent.errors import ProbeRefused, UsageWrong
from marketplace.agent.keys import KEY_FILE
from marketplace.agent.probing import Prober, place_of
from marketplace.agent.statements import FIRST, RETRY, ProbeStatement, is_echo_of, sign_statement
from marketplace.delivery.intake import take_heartbeats
from marketplace.demo.keys import machine_key
from marketplace.parties.services import issue_api_key
from tests.agent.serving import ClosedPort, Site, agent, served, start
from tests.journey import world
from tests.live import Live, go_live, key_of

pytestmark = pytest.mark.stage("delivering")
RATE = 2  # market seconds in a second
LOOK_SECONDS = 0.05


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def live() -> Live:
    return go_live()


class RunningTime:
    """The market's time: it stands where it is set, until it is let run on, fast, or taken on step by step.

    Where a prober waits it steps: one that is slow on a busy machine is not late, since nor is the time.
    """

    def __init__(self, at: datetime) -> None:
        self.at, self.began = at, 0.0

    def __call__(self, at: datetime) -> None:
        """Stand at a moment: what is prepared takes no time of the market's."""
        self.at, self.began = at, 0.0

    def step(self) -> None:
        self.at += timedelta(seconds=RATE * LOOK_SECONDS)

    def go(self) -> None:
        self.began = time.monotonic()

    def now(self) -> datetime:
        return self.at + timedelta(seconds=(time.monotonic() - self.began) * RATE if self.began else 0)


class MarketsOwn(MarketClock):
    """A clock that shows the market's time, whatever the machine's does meanwhile."""

    def now_ms(self) -> int:
        return int(clock.now().timestamp() * 1000)


@pytest.fixture
def run_on(monkeypatch: pytest.MonkeyPatch) -> RunningTime:
    running = RunningTime(clock.now())
    monkeypatch.setattr(clock, "now", running.now)
    cache.clear()
    return running


@pytest.fixture
def open_port() -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed_port() -> Iterator[str]:
    port = ClosedPort()
    yield f"127.0.0.1:{port.number}"
    port.let_go()


@pytest.fixture
def machine(live: Live, run_on: RunningTime, unhurried: None) -> Iterator[EchoServer]:
    """Granite's machine as its meter answers for it."""
    devices = {str(live.lease.pk): live.units}  # now: the server's threads do not reach the database
    server = EchoServer(
        ("127.0.0.1", 0), key=machine_key("granite"), clock=MarketsOwn(RATE), devices_of=lambda: devices
    )
    server.start()
    yield server
    server.stop()


def prober(site: Site, live: Live, verifier: str, anchor: str, minute: int = 0) -> Prober:
    """A verifier's prober that keeps to one lease (the others' machines have no heartbeat here) and to one minute: the
    secret second of the minute before may be as near, and that of the next one nearer than a retry."""
    secret = issue_api_key(party=m.Party.objects.get(slug=verifier), label="probe", may_write=True, now=clock.now())[1]
    client = ApiClient(site.url, api_key=secret, attempts=1)
    one = Prober(key=key_of(verifier), verifier=verifier, client=client, anchors=[anchor] * 3, clock=MarketsOwn(RATE))
    plan, lease, minute_at = one._plan, str(live.lease.pk), live.at(minute).timestamp()
    one._plan = lambda task: plan(task) if (task.lease, task.order["minute_at"]) == (lease, minute_at) else None
    return one


def second_of(live: Live, minute: int) -> float:
    at = live.at(minute)
    return live.draw(at).second(at.hour * 60 + at.minute)


def looked_at(live: Live, machine: EchoServer, workload: str, at: datetime) -> None:
    """Granite's heartbeat says where it is."""
    beat = live.beat(at, probe_address=f"tcp://127.0.0.1:{machine.server_address[1]}", workload_address=workload)
    take_heartbeats(party=world.party("granite"), signed=[beat], now=at)


class Steps(Event):
    """Where a prober waits, and nowhere else, the time goes on; it is over when something holds."""

    def __init__(self, running: RunningTime, holds: Callable[[], Any], seconds: float) -> None:
        super().__init__()
        self._running, self._holds, self._end = running, holds, time.monotonic() + seconds

    def wait(self, timeout: float | None = None) -> bool:
        self._running.step()
        if self._holds() or time.monotonic() > self._end:
            self.set()
        return super().wait(LOOK_SECONDS)


def run_for(one: Prober, holds: Callable[[], Any], running: RunningTime, seconds: float = 120) -> None:
    """Let a prober run until something holds."""
    one.stop = Steps(running, holds, seconds)
    one.run()


def test_a_machine_is_probed_at_its_secret_second_and_the_report_is_taken(live, site, machine, open_port, run_on):
    verifier, minute = live.panel[0], 5
    due = live.at(minute) + timedelta(seconds=second_of(live, minute))
    run_on(due - timedelta(seconds=6))
    looked_at(live, machine, open_port, clock.now())
    one = prober(site, live, verifier, open_port, minute)

    run_for(one, lambda: one.told["sent"], run_on)

    row = m.ProbeReport.objects.get(minute_at=live.at(minute))
    assert (row.attempt, row.is_valid, row.echo_ok, row.port_ok, row.devices, row.has_failed) == (
        FIRST, True, True, True, live.units, False)  # fmt: skip
    probed_at = json.loads(bytes(row.body))["probed_at_ms"] / 1000
    assert abs(probed_at - due.timestamp()) <= 2
    assert row.echo_ms == json.loads(bytes(row.body))["echo_ms"]
    assert 1 <= row.echo_ms < 3_000  # rounded up, by the verifier's own clock


def test_a_dead_machine_is_probed_once_more_after_its_own_wait(live, site, machine, open_port, closed_port, run_on):
    verifier = live.panel[1]
    of_day = {minute: live.at(minute).hour * 60 + live.at(minute).minute for minute in range(60)}
    waits = {n: live.draw(live.at(n)).retry_seconds(of_day[n], verifier) for n in of_day}
    minute = min(waits, key=lambda n: waits[n])
    due = live.at(minute) + timedelta(seconds=second_of(live, minute))
    run_on(due - timedelta(seconds=6))
    looked_at(live, machine, closed_port, clock.now())
    machine.stop()
    one = prober(site, live, verifier, open_port, minute)

    run_for(one, lambda: one.told["sent"] >= 2, run_on)

    first, again = m.ProbeReport.objects.filter(verifier__slug=verifier).order_by("attempt")[:2]
    assert (first.attempt, again.attempt) == (FIRST, RETRY)
    assert [(row.is_valid, row.has_failed, row.echo_ok) for row in (first, again)] == [(True, True, False)] * 2
    at = [json.loads(bytes(row.body))["probed_at_ms"] for row in (first, again)]
    assert [(row.echo_ms, json.loads(bytes(row.body))["echo_ms"]) for row in (first, again)] == [(None, -1)] * 2
    assert 5 <= waits[minute] <= 15
    assert abs((at[1] - at[0]) / 1000 - waits[minute]) <= 2


def test_where_an_anchor_fails_the_report_is_void_and_no_retry_follows(live, site, machine, closed_port, run_on):
    verifier, minute = live.panel[0], 7
    run_on(live.at(minute) + timedelta(seconds=second_of(live, minute) - 6))
    looked_at(live, machine, closed_port, clock.now())
    one = prober(site, live, verifier, closed_port, minute)

    run_for(one, lambda: one.told["sent"], run_on)

    row = m.ProbeReport.objects.get(minute_at=live.at(minute))
    assert (row.is_valid, row.anchors_ok, row.port_ok) == (False, False, False)
    assert one.told["failed"] == 0


def test_what_could_not_be_sent_follows_once_the_market_answers(live, site, open_port, run_on):
    run_on(live.at(1))
    one = prober(site, live, live.panel[0], open_port)
    statement = json.loads(live.probe(0, live.panel[0]).body)
    one._waiting.append(sign_statement(key_of(live.panel[0]), ProbeStatement(**statement | {"minute_at": 60})))
    one._waiting.append(live.probe(0, live.panel[0]))
    site.cut()
    one._quietly(one.send)
    assert len(one._waiting) == 2
    site.up()

    one.send()

    assert (len(one._waiting), one.told["sent"]) == (0, 1)  # the first one is of another minute: dropped and told
    assert one.told["trouble"]
    assert m.ProbeReport.objects.count() == 1


# --- the echo --------------------------------------------------------------------------------------------------------
def asked(live: Live, machine: EchoServer, **changes: Any) -> tuple[str, int]:
    now_at = machine.clock.now_at()
    facts = {"lease": str(live.lease.pk), "minute_at": now_at // 60 * 60, "attempt": 1, "nonce": "ab" * 32} | changes
    return ask_echo("127.0.0.1", machine.server_address[1], timeout_seconds=30, **facts)


def test_an_echo_is_over_the_nonce_and_the_devices_and_for_the_minute_that_runs(live, machine):
    echo, devices = asked(live, machine)

    minute_at = machine.clock.now_at() // 60 * 60
    told = json.loads(live.probe(0, "oak").body) | {
        "minute_at": minute_at, "nonce": "ab" * 32, "echo": echo, "devices": devices, "attempt": 1}  # fmt: skip
    public = machine_key("granite").public_bytes
    assert is_echo_of(public, ProbeStatement(**told))
    assert not is_echo_of(public, ProbeStatement(**told | {"nonce": "cd" * 32}))
    assert not is_echo_of(public, ProbeStatement(**told | {"devices": devices + 1}))


@pytest.mark.parametrize("changes", [
    {"lease": "somebody-elses"}, {"minute_at": 60}, {"minute_at": 2**40 // 60 * 60}, {"attempt": 4}, {"nonce": "ab"},
    {"nonce": 7}, {"minute_at": "0"},
])  # fmt: skip
def test_no_echo_for_another_lease_minute_or_form(live, machine, changes):
    with pytest.raises(ProbeRefused):
        asked(live, machine, **changes)
    assert asked(live, machine)  # and it still answers


@pytest.mark.parametrize("sent", [
    b"\n", b"[]\n", b"x" * 5000 + b"\n", b"\xff\n", b'{"lease":{}}\n', b"[" * 900 + b"\n",
])  # fmt: skip
def test_whoever_asks_in_another_form_gets_no_signature(live, machine, sent):
    with socket.create_connection(("127.0.0.1", machine.server_address[1]), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""

    assert b'"echo"' not in answer
    assert asked(live, machine)


def test_many_idle_connections_do_not_hold_the_echo_up_for_long(live, machine, monkeypatch):
    monkeypatch.setattr(echo_server._Handler, "timeout", echo_server.ANSWER_SECONDS)
    idle = [socket.create_connection(("127.0.0.1", machine.server_address[1])) for _ in range(80)]
    try:
        end = time.monotonic() + 120
        while True:
            try:
                assert asked(live, machine)
                break
            except ProbeRefused:
                assert time.monotonic() < end
                time.sleep(0.2)
    finally:
        for each in idle:
            each.close()


@pytest.mark.parametrize(("text", "place"), [
    ("tcp://h:1", ("h", 1)), ("h:1", ("h", 1)), ("https://h", ("h", 443)), ("tcp://[::1]:9", ("::1", 9)),
])  # fmt: skip
def test_an_address_is_host_and_port(text, place):
    assert place_of(text) == place
    for wrong in ("", "h", "h:x", "tcp://:1", "h:99999999"):
        with pytest.raises(ProbeRefused):
            place_of(wrong)


def test_a_verifier_plans_what_stands_on_every_page_of_its_orders(site, live, closed_port, run_on, monkeypatch):
    run_on(live.at(-2))
    one = prober(site, live, "oak", closed_port)
    one._plan = type(one)._plan.__get__(one)  # every lease's orders, not one's alone
    whole = list(one._client.rows("/api/v1/probe-orders", minutes="5"))
    monkeypatch.setattr(client, "PAGE_ROWS", "3")

    one.fetch_orders()

    assert len(whole) > 6
    assert {(task.lease, task.at_ms) for task in one._tasks} == {(row["lease"], row["probe_at_ms"]) for row in whole}
    assert site.requests.count("GET /api/v1/probe-orders") == 1 + -(-len(whole) // 3)


# --- as a process ----------------------------------------------------------------------------------------------------
def test_a_verifier_enrols_its_key_and_probes_as_a_process(live, site, tmp_path: Path, run_on):
    run_on(live.at(-24 * 60))
    run_on.go()
    party = m.Party.objects.get(slug="oak")
    key = issue_api_key(party=party, label="probe", may_write=True, now=clock.now())[1]
    home, anchors = tmp_path / "home", ["--anchor", "127.0.0.1:9"] * 3

    enrolled = agent("enrol", "--home", home, "--witness", "oak", "--server", site.url, GROVE_API_KEY=key)
    probing = start("probe", "--home", home, *anchors, "--minutes", 1, GROVE_API_KEY=key, GROVE_CLOCK_RATE="60")
    out, err = probing.communicate(timeout=300)
    assert (probing.returncode, err) == (0, "")
    told = json.loads(out.split("\n", 1)[1])  # after the line that says that it began

    assert (home / KEY_FILE).exists()
    standing = m.WitnessKey.objects.get(party=party, revoked_at=None)
    assert bytes(standing.public_key).hex() == enrolled["public_key"]
    assert (told["trouble"], told["failed"], told["waiting"]) == (None, 0, 0)
    assert "GET /api/v1/probe-orders" in site.requests
    assert homes.enrolled_at(home)["witness"] == "oak"


def test_a_prober_without_its_three_anchors_is_refused(site, live):
    with pytest.raises(UsageWrong, match="3 anchors"):
        Prober(key=key_of("oak"), verifier="oak", client=None, anchors=["a:1"], clock=MarketClock(1))
