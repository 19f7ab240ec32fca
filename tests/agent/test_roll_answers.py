"""A real machine answers a roll call over HTTP: its meter signs that it is there, and verifiers measure it then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.echo import EchoServer
from marketplace.agent.errors import ServerRefused
from marketplace.agent.keys import create_key, load_key, rotation_statement
from marketplace.agent.meter import Addresses, Meter
from marketplace.agent.rechecks import CheckDoor
from marketplace.agent.sensors import Sensors
from marketplace.agent.statements import RollMeasured, RollPresence, sign_statement
from marketplace.delivery.rolls import open_call_of, roll_orders, take_measured, take_presences
from marketplace.demo.machines import machine_key
from marketplace.errors import (
    BadInput,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportMalformed,
    ReportReplayed,
    WrongInstant,
)
from marketplace.parties.services import issue_api_key, set_owner
from marketplace.supply.machine_keys import rotate_machine_key
from marketplace.supply.rolls import call_the_roll, is_whole
from tests.agent.serving import Site, served
from tests.agent.test_rechecks import checker
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import VERIFIERS, Live, go_live, key_of
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("delivering")
WHOLE = 10**18


@pytest.fixture
def live() -> Live:
    return go_live()


@pytest.fixture
def member(live: Live) -> m.RollMember:
    """Granite's machines, called now."""
    roll = call_the_roll(party=world.party("granite"), now=clock.now())
    return roll.members.select_related("node_class__resource_class").get(node_class=live.lease.node_class)


def presence(member: m.RollMember, at: datetime, **changes: object) -> RollPresence:
    facts = {"machine": str(member.node_class_id), "roll": str(member.roll_id), "machines": member.machines,
             "sent_at_ms": int(at.timestamp() * 1000)}  # fmt: skip
    return RollPresence(**facts | changes)


def say(member: m.RollMember, at: datetime, *, key: str = "granite", party: str = "granite", **changes: object) -> int:
    signed = sign_statement(machine_key(key), presence(member, at, **changes))
    return take_presences(party=world.party(party), signed=[signed], now=at)


def measured(
    member: m.RollMember, at: datetime, name: str = "oak", *, now: datetime | None = None, signer: str = "",
    **changes: object,
) -> int:  # fmt: skip
    facts = {"verifier": name, "machine": str(member.node_class_id), "roll": str(member.roll_id), "ops": WHOLE,
             "measured_at_ms": int(at.timestamp() * 1000), "transcript": "ab" * 32}  # fmt: skip
    signed = sign_statement(key_of(signer or name), RollMeasured(**facts | changes))
    return take_measured(party=world.party(name), signed=[signed], now=now or at)


def test_a_machine_that_says_so_and_two_verifiers_that_saw_it_are_an_answer(member: m.RollMember) -> None:
    now = clock.now()
    assert say(member, now) == 1
    assert measured(member, now, "oak") == 1
    assert not m.RollAnswer.objects.filter(member=member).exists()

    assert measured(member, now, "pine") == 1

    answer = m.RollAnswer.objects.get(member=member)
    assert (answer.machines, answer.benchmark) == (member.machines, None)
    assert is_whole(member.roll_id)
    with untouched():
        assert say(member, now) == measured(member, now, "oak") == 0
    assert measured(member, now, "yew") == 1  # one more changes nothing
    assert m.RollAnswer.objects.count() == m.RollAnswer.objects.filter(pk=answer.pk).count() + others()


def others() -> int:
    return m.RollAnswer.objects.exclude(benchmark=None).count()


def test_no_verifier_alone_lets_a_machine_answer_and_a_third_one_decides_between_two(member: m.RollMember) -> None:
    now, low = clock.now(), member.node_class.resource_class.ops_per_sec * 84 // 100
    say(member, now)
    measured(member, now, "oak")
    measured(member, now, "pine", ops=low)
    assert not m.RollAnswer.objects.filter(member=member).exists()

    measured(member, now, "yew", ops=member.node_class.resource_class.ops_per_sec * 85 // 100 + 1)

    assert m.RollAnswer.objects.filter(member=member).exists()


def test_what_verifiers_saw_is_no_answer_without_the_machines_own_word(member: m.RollMember) -> None:
    now = clock.now()
    for name in VERIFIERS:
        measured(member, now, name)
    assert not m.RollAnswer.objects.filter(member=member).exists()

    say(member, now, machines=member.machines - 1)

    assert m.RollAnswer.objects.get(member=member).machines == member.machines - 1
    assert not is_whole(member.roll_id)


def test_a_machines_answer_is_refused_late_forged_replayed_and_for_more_than_was_called(member: m.RollMember) -> None:
    now, later = clock.now(), member.roll.closes_at + timedelta(seconds=1)
    with refused(ReportForged):
        say(member, now, key="basalt")
    with refused(ReportForged, field="machine"):
        say(member, now, party="basalt")
    with refused(ReportForged, field="roll"):
        say(member, now, roll=str(member.node_class_id))
    with refused(ReportMalformed, called=member.machines):
        say(member, now, machines=member.machines + 1)
    with refused(ReportFromFuture):
        say(member, now, sent_at_ms=int((now + timedelta(seconds=3)).timestamp() * 1000))
    with refused(ReportLate):
        say(member, later)
    with refused(ReportLate):
        say(member, now, sent_at_ms=int((now - timedelta(minutes=1)).timestamp() * 1000))
    say(member, now)
    with refused(ReportReplayed):
        say(member, now, machines=member.machines - 1)


def test_a_verifiers_report_is_refused_late_forged_replayed_and_of_its_own_owners_machines(
    member: m.RollMember,
) -> None:
    now, later = clock.now(), member.roll.closes_at + timedelta(seconds=1)
    with refused(ReportForged):
        measured(member, now, "oak", signer="pine")
    with refused(ReportForged, named="pine"):
        measured(member, now, "oak", verifier="pine")
    with refused(WrongInstant):
        measured(member, now - timedelta(seconds=1), now=now)
    with refused(ReportLate):
        measured(member, now, now=later)
    with refused(ReportFromFuture):
        measured(member, now + timedelta(seconds=3), now=now)
    measured(member, now)
    with refused(ReportReplayed):
        measured(member, now, ops=WHOLE + 1)
    set_owner(party=world.party("pine"), parent=world.party("granite"), actor="foundation:ada", now=now)
    with refused(NotOnPanel):
        measured(member, now, "pine")
    assert [order.member.node_class.party.slug for order in roll_orders(verifier=world.party("pine"), now=now)] == []
    with refused(BadInput, field="party"):
        roll_orders(verifier=world.party("granite"), now=now)


def test_a_roll_is_told_to_its_own_machines_while_it_is_open(member: m.RollMember) -> None:
    opened, closes = member.roll.opened_at, member.roll.closes_at

    assert open_call_of(member.node_class, now=opened) == member
    assert open_call_of(member.node_class, now=opened - timedelta(seconds=1)) is None
    assert open_call_of(member.node_class, now=closes) is None
    assert open_call_of(world.node_class("basalt"), now=opened) is None


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def market_runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the market's time run on from where it stands."""

    def run() -> None:
        from_at, began = clock.now(), time.monotonic()
        monkeypatch.setattr(clock, "now", lambda: from_at + timedelta(seconds=time.monotonic() - began))
        cache.clear()

    return run


def key_for(slug: str) -> str:
    return issue_api_key(party=world.party(slug), label="roll", may_write=True, now=clock.now())[1]


@contextmanager
def serving(meter: Meter, home: Path) -> Iterator[EchoServer]:
    """The machine's two doors, as `meter` opens them."""
    door = CheckDoor(("127.0.0.1", 0), key=load_key(home), backend="float32", clock=meter.clock,
                     leases_of=meter.subjects, witnesses_of=meter.witnesses)  # fmt: skip
    echo = EchoServer(("127.0.0.1", 0), key=load_key(home), clock=meter.clock, devices_of=meter.devices, door=door)
    door.start()
    echo.start()
    try:
        yield echo
    finally:
        echo.stop()
        door.stop()


def test_a_meter_answers_its_roll_and_two_verifiers_measure_it_over_http(
    live: Live, site: Site, tmp_path: Path, market_runs: Callable[[], None]
) -> None:
    node_class, home = live.lease.node_class, tmp_path / "home"
    key = create_key(home)
    rotate_machine_key(statement=rotation_statement(machine_key("granite"), key), now=clock.now())
    homes.write_json(home, homes.AGENT_FILE, {"server": site.url, "machine": f"cls_{node_class.pk.hex}"})
    with behind_the_triggers():  # this machine is no H100
        m.ResourceClass.objects.filter(pk=node_class.resource_class_id).update(ops_per_sec=1)
    market_runs()
    meter = Meter(
        home, key=key, machine=f"cls_{node_class.pk.hex}", client=ApiClient(site.url, api_key=key_for("granite")),
        sensors=Sensors(units=node_class.units, check=None), addresses=Addresses(), clock=checker(tmp_path).clock,
        days_kept=7,
    )  # fmt: skip
    meter.fetch_time()
    meter.fetch_leases()
    assert not meter.answer_roll()  # nobody called
    roll = call_the_roll(party=world.party("granite"), now=clock.now())
    with serving(meter, home) as echo:
        meter._addresses = Addresses(f"tcp://127.0.0.1:{echo.server_address[1]}")
        meter.beat()
        verifiers = []
        for name in live.panel[:2]:
            (tmp_path / name).mkdir()
            one = checker(tmp_path / name, name, ApiClient(site.url, api_key=key_for(name)))
            one.clock.set_by(int(clock.now().timestamp() * 1000), asked_ns=time.monotonic_ns())
            verifiers.append(one)
        verifiers[0].fetch_rolls()
        for task in verifiers[0]._due():
            verifiers[0].do(task)
        assert verifiers[0].told["called"] == 0  # the machine does not know of it yet and lets nobody in
        assert meter.answer_roll()
        assert meter.answer_roll()  # the same answer
        for one in verifiers:
            one.fetch_rolls()
            for task in one._due():
                one.do(task)
            one.send()

    answer = m.RollAnswer.objects.get(member__roll=roll)
    assert (answer.machines, answer.benchmark) == (node_class.units, None)
    assert is_whole(roll.pk)
    assert [one.told["called"] for one in verifiers] == [1, 1]


def test_the_doors_of_a_roll_are_their_parties_own(live: Live, site: Site, member: m.RollMember) -> None:
    own = f"/api/v1/node-classes/cls_{member.node_class_id.hex}/roll"
    with ApiClient(site.url, api_key=key_for("granite")) as client:
        assert client.get(own)["roll"]["roll"] == str(member.roll_id)
        with pytest.raises(ServerRefused) as refusal:
            client.get("/api/v1/roll-orders")
        assert refusal.value.facts["problem_code"] == "bad_input"
    with ApiClient(site.url, api_key=key_for("basalt")) as client, pytest.raises(ServerRefused) as refusal:
        client.get(own)
    assert refusal.value.facts["status"] == 404
    with ApiClient(site.url, api_key=key_for("oak")) as client:
        assert [row["machine"] for row in client.get("/api/v1/roll-orders")["data"]] == [str(member.node_class_id)]
