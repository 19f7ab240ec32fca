"""Re-checks of a machine that meters: its prover opens for the market's verifiers, one at a time and for small work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Timer

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import rechecks
from marketplace.agent.checking import Checker, Task
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer, ask_echo
from marketplace.agent.errors import ProbeRefused, ServerRefused, ServerUnreachable
from marketplace.agent.market_proof import ProverInTurn
from marketplace.agent.prover import HttpProver
from marketplace.agent.rechecks import APART_SECONDS, CheckDoor
from marketplace.agent.statements import CheckAsk, sign_statement
from marketplace.agent.turns import Turn
from marketplace.delivery.checks import due_at
from marketplace.delivery.intake import take_heartbeats
from marketplace.demo.keys import machine_key
from marketplace.parties.services import issue_api_key
from pricing.proof import PRESETS
from tests.agent.serving import served
from tests.journey import world
from tests.live import go_live, key_of
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.usefixtures("unhurried")

LEASE, MACHINE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
VERIFIERS = ("oak", "pine")


@pytest.fixture
def door() -> Iterator[CheckDoor]:
    one = CheckDoor(
        ("127.0.0.1", 0), key=machine_key("granite"), backend="float32", clock=MarketClock(),
        leases_of=lambda: {LEASE}, witnesses_of=lambda: [key_of(name).public_bytes.hex() for name in VERIFIERS],
    )  # fmt: skip
    one.start()
    yield one
    one.stop()


@pytest.fixture
def machine(door: CheckDoor) -> Iterator[EchoServer]:
    server = EchoServer(
        ("127.0.0.1", 0), key=machine_key("granite"), clock=MarketClock(), devices_of=lambda: {LEASE: 4}, door=door
    )
    server.start()
    yield server
    server.stop()


def asked(name: str = "oak", *, lease: str = LEASE, key: str = "", late_ms: int = 0) -> dict[str, str]:
    signed = sign_statement(key_of(key or name), CheckAsk(name, lease, MACHINE, 0, MarketClock().now_ms() - late_ms))
    return {"ask": signed.body.decode(), "signature": signed.signature.hex(),
            "key": key_of(name).public_bytes.hex()}  # fmt: skip


def order(machine: EchoServer, **changes: object) -> dict[str, object]:
    return {"lease": LEASE, "machine": MACHINE, "interval": 0, "proven_ops": "1", "due_at_ms": 0,
            "probe_address": f"tcp://127.0.0.1:{machine.server_address[1]}",
            "machine_key": machine_key("granite").public_bytes.hex()} | changes  # fmt: skip


def checker(home: Path, name: str = "oak", client: ApiClient | None = None) -> Checker:
    home.chmod(0o700)
    nobody = ApiClient("http://127.0.0.1:9", api_key="gx_live_none")
    return Checker(home, key=key_of(name), verifier=name, client=client or nobody, clock=MarketClock())


def test_a_verifier_measures_the_machine_while_it_answers_probes(machine: EchoServer, tmp_path: Path) -> None:
    one = checker(tmp_path)
    now_ms = one.clock.now_ms()

    one.do(Task(now_ms, order(machine)))

    _, statement = one._waiting[0]
    assert one.told == {"checked": 1, "called": 0, "unreachable": 0, "trouble": None}
    assert b'"second_ops":-1' in statement.body
    (kept,) = (tmp_path / "checks").iterdir()
    assert kept.name.encode() in statement.body
    minute_at = one.clock.now_at() // 60 * 60
    assert ask_echo("127.0.0.1", machine.server_address[1], lease=LEASE, minute_at=minute_at, attempt=1,
                    nonce="ab" * 32, timeout_seconds=5)[1] == 4  # fmt: skip


def test_a_slow_machine_is_tried_again_ten_minutes_later_and_both_tries_are_told(
    machine: EchoServer, door: CheckDoor, tmp_path: Path
) -> None:
    one = checker(tmp_path)
    slow = Task(one.clock.now_ms(), order(machine, proven_ops=str(10**18)))

    one.do(slow)
    assert not one._waiting
    (again,) = one._tasks
    assert 599_000 <= again.at_ms - slow.at_ms <= 700_000
    assert again.first_ops > 0
    door._let_in_ns.clear()  # ten minutes later
    one.do(again)

    assert b'"second_ops":-1' not in one._waiting[0][1].body


def test_whoever_is_no_verifier_or_asks_late_or_for_another_machine_is_refused(door: CheckDoor) -> None:
    for wrong, why in (
        (asked("stranger"), "no key of a verifier"),
        (asked("oak", key="pine"), "not signed by that key"),
        (asked(lease=MACHINE), "no lease of this machine"),
        (asked(late_ms=11_000), "not asked now"),
        ({"ask": 1}, "signed statement"),
    ):
        with pytest.raises(ProbeRefused, match=why):
            door.answer(wrong)

    assert door.answer(asked())["port"] == door.port


def test_one_verifier_at_a_time_and_each_once_in_five_minutes(door: CheckDoor) -> None:
    first = door.answer(asked("oak"))
    with pytest.raises(ProbeRefused, match="Another verifier measures now") as busy:
        door.answer(asked("pine"))
    assert busy.value.facts == {"busy": True}

    door.answer({"done": "somebody else's token"})
    with pytest.raises(ProbeRefused, match="Another verifier"):
        door.answer(asked("pine"))
    door.answer({"done": first["token"]})
    assert door.answer(asked("pine"))["token"] != first["token"]
    door._session = None
    with pytest.raises(ProbeRefused, match="once in five minutes") as soon:
        door.answer(asked("oak"))
    assert soon.value.facts == {"seconds": APART_SECONDS}


@pytest.fixture
def shared(door: CheckDoor, tmp_path: Path) -> tuple[CheckDoor, ProverInTurn]:
    """A meter's door and a benchmark's prover in two programs of one machine."""
    door._turn = Turn(tmp_path)
    return door, ProverInTurn("float32", key=machine_key("granite"), turn=Turn(tmp_path))


def test_nobody_measures_a_machine_while_its_benchmark_is_proved(shared: tuple[CheckDoor, ProverInTurn]) -> None:
    door, benchmark = shared
    benchmark.start(PRESETS["pilot"], bytes(32))
    with pytest.raises(ProbeRefused, match="A benchmark is proved here now") as busy:
        door.answer(asked("oak"))
    assert busy.value.facts == {"busy": True}

    benchmark.turn.leave()

    assert door.answer(asked("oak"))["port"] == door.port  # and not "once in five minutes": it was not let in before


def test_a_benchmark_begins_when_a_re_check_is_over(shared: tuple[CheckDoor, ProverInTurn]) -> None:
    door, benchmark = shared
    opened = door.answer(asked("oak"))
    assert not benchmark.turn.take()
    Timer(0.5, door.answer, [{"done": opened["token"]}]).start()

    benchmark.start(PRESETS["pilot"], bytes(32))

    assert door._session is None
    assert not Turn(benchmark.turn._file.parent).take()


def test_a_verifier_that_goes_without_a_word_holds_no_benchmark_up_for_longer_than_its_session(
    shared: tuple[CheckDoor, ProverInTurn], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, benchmark = shared
    monkeypatch.setattr(rechecks, "SESSION_SECONDS", 0.3)
    began = time.monotonic()
    door.answer(asked("oak"))

    assert benchmark.turn.take(wait_seconds=60)
    assert time.monotonic() - began >= 0.3


def test_the_prover_takes_a_re_check_and_no_larger_work_and_only_under_the_token(door: CheckDoor) -> None:
    opened = door.answer(asked())
    with HttpProver(f"http://127.0.0.1:{door.port}", token=opened["token"]) as prover:
        prover.start(PRESETS["recheck"], bytes(32))
        for name in ("short", "full"):
            with pytest.raises(ServerRefused):
                prover.start(PRESETS[name], bytes(32))
        door.answer({"done": opened["token"]})
        with pytest.raises(ServerRefused, match="Another token"):
            prover.start(PRESETS["recheck"], bytes(32))


def test_a_machine_that_answers_and_does_not_prove_has_done_nothing_and_one_out_of_reach_is_not_judged(
    machine: EchoServer, tmp_path: Path
) -> None:
    one = checker(tmp_path, "stranger")  # the machine does not know this key
    assert one.measure(Task(one.clock.now_ms(), order(machine))) == (0, b"")
    with pytest.raises(ServerUnreachable):
        one.measure(Task(one.clock.now_ms(), order(machine, probe_address="tcp://127.0.0.1:9")))
    one.do(Task(one.clock.now_ms(), order(machine, probe_address="")))

    assert (one.told["unreachable"], list(one._waiting)) == (1, [])


@pytest.mark.stage("delivering")
def test_an_order_of_the_market_becomes_a_report_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = go_live()
    lease, name = live.lease, live.panel[0]
    due = due_at(lease, 0, live.draws)
    with behind_the_triggers():
        m.Benchmark.objects.filter(node_class=lease.node_class).update(ops_per_sec=1)
    secret = issue_api_key(party=world.party(name), label="check", may_write=True, now=clock.now())[1]
    began = time.monotonic()
    monkeypatch.setattr(clock, "now", lambda: due + timedelta(seconds=time.monotonic() - began))
    cache.clear()
    keys = [key_of(each).public_bytes.hex() for each in live.panel]
    with served() as site:
        client = ApiClient(site.url, api_key=secret, attempts=1)
        one, own = checker(tmp_path, name, client), str(lease.pk)
        door = CheckDoor(("127.0.0.1", 0), key=machine_key("granite"), backend="float32", clock=one.clock,
                         leases_of=lambda: {own}, witnesses_of=lambda: keys)  # fmt: skip
        echo = EchoServer(("127.0.0.1", 0), key=machine_key("granite"), clock=one.clock,
                          devices_of=lambda: {own: live.units}, door=door)  # fmt: skip
        beat = live.beat(due, probe_address=f"tcp://127.0.0.1:{echo.server_address[1]}")
        take_heartbeats(party=world.party("granite"), signed=[beat], now=due)
        for each in (door, echo):
            each.start()
        try:
            one.fetch_orders()
            for task in [task for task in one._tasks if task.order["lease"] == own]:
                one.do(task)
            one.send()
        finally:
            for each in (echo, door):
                each.stop()

    report = m.CheckReport.objects.get(lease=lease)
    assert (report.interval, report.verifier.slug, report.second_ops) == (0, name, None)
    assert report.first_ops > 0
    assert one.told["checked"] == 1
