"""The meter at a market over HTTP: what it counts arrives once and in order, whatever network and process do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.egress import sign_egress
from marketplace.agent.errors import HomeBusy, ServerRefused, ServerUnreachable, UsageWrong
from marketplace.agent.keys import MachineKey, create_key, load_key, rotation_statement
from marketplace.agent.meter import LEASES_FILE, Meter, flush
from marketplace.agent.outflow import Outflow, interface_of
from marketplace.agent.presence import Addresses
from marketplace.agent.sensors import Sensors, share_out
from marketplace.agent.spool import Spool
from marketplace.demo.keys import machine_key
from marketplace.oversight.egress import watch_egress
from marketplace.parties.caps import Caps
from marketplace.parties.services import issue_api_key
from marketplace.supply.machine_keys import rotate_machine_key
from pricing.metering import FULL_WORD
from tests.agent.serving import Site, agent, served, start
from tests.journey import world
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("delivering")


class SetClock(MarketClock):
    """Market time that a test sets."""

    def __init__(self, at: datetime) -> None:
        super().__init__(rate=1)
        self.at = at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)


@pytest.fixture
def market_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the market's time; with a rate it runs on, so many market seconds in a second."""

    def set_to(at: datetime, rate: float = 0) -> None:
        began = time.monotonic()
        monkeypatch.setattr(clock, "now", lambda: at + timedelta(seconds=(time.monotonic() - began) * rate))

    cache.clear()
    return set_to


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def home(tmp_path: Path, site: Site) -> Path:
    """The agent's folder of granite's machines, with a key of its own."""
    node_class, key = world.node_class("granite"), create_key(tmp_path / "home")
    rotate_machine_key(statement=rotation_statement(machine_key("granite"), key), now=clock.now())
    homes.write_json(tmp_path / "home", homes.AGENT_FILE, {"server": site.url, "machine": f"cls_{node_class.pk.hex}"})
    return tmp_path / "home"


def api_key() -> str:
    """A key that may place no order at all: statements are none."""
    return issue_api_key(
        party=world.party("granite"), label="meter", may_write=True, caps=Caps(notional_day_max_micros=1),
        now=clock.now(),
    )[1]  # fmt: skip


def meter_of(
    home: Path, site: Site, at: datetime, units: int = 8, outflow: Outflow | None = None, key: MachineKey | None = None
) -> Meter:
    return Meter(
        home, key=key or load_key(home), machine=homes.enrolled_at(home)["machine"],
        client=ApiClient(site.url, api_key=api_key(), attempts=1), sensors=Sensors(units=units, check=None),
        addresses=Addresses("tcp://127.0.0.1:9", "127.0.0.1:9"), clock=SetClock(at), days_kept=7,
        outflow=outflow,
    )  # fmt: skip


def count_hours(meter: Meter, hours: int, minutes_from: datetime) -> None:
    for minute in range(60 * hours + 1):
        meter.clock.at = minutes_from + timedelta(minutes=minute, seconds=5)
        meter.count()


def reports() -> list[tuple[int, int, int]]:
    """Slot, place in the chain from 1, and minutes up of each report that was taken; the chain is older than these."""
    rows = list(m.SlotReport.objects.filter(source="provider", lease=world.lease("genome")).order_by("sequence"))
    return [(row.slot, row.sequence - rows[0].sequence + 1, row.up_word.bit_count()) for row in rows]


def test_six_hours_without_the_network_arrive_once_and_in_order(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    site.cut()

    count_hours(meter, 6, start_at)
    assert (meter.waiting, len(Spool(home / "spool", is_reader=True).lines)) == (6, 360)
    market_at(meter.clock.at)
    site.up()

    assert meter.send_what_waits() == 6
    assert reports() == [(slot, slot + 1, 60) for slot in range(6)]
    assert meter.send_what_waits() == 0
    assert meter_of(home, site, meter.clock.at).send_what_waits() == 0  # also after a start


def test_an_answer_that_was_lost_is_asked_for_again_and_counts_once(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    count_hours(meter, 2, start_at)
    market_at(meter.clock.at)
    meter._head()
    site.loses_answers = True
    with pytest.raises(Exception, match="502"):
        meter.send_what_waits()
    site.loses_answers = False
    assert len(reports()) == 2  # taken, and nobody heard of it

    later = meter_of(home, site, meter.clock.at)
    assert later.send_what_waits() == 2
    assert reports() == [(0, 1, 60), (1, 2, 60)]
    assert later.waiting == 0


def test_a_folder_that_forgot_how_far_it_was_gives_up_what_stands_and_goes_on(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    count_hours(meter, 1, start_at)
    market_at(meter.clock.at)
    meter.send_what_waits()
    (home / "spool" / "taken.json").unlink()
    again = meter_of(home, site, meter.clock.at)
    count_hours(again, 1, start_at + timedelta(hours=1))
    market_at(again.clock.at)

    again.send_what_waits()

    assert reports() == [(0, 1, 60), (1, 2, 60)]
    assert again.waiting == 0


def test_an_hour_that_the_market_no_longer_hears_is_given_up_and_the_next_ones_follow(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    count_hours(meter, 2, start_at)
    meter.clock.at = start_at + timedelta(hours=73, minutes=30)
    market_at(meter.clock.at)

    meter.send_what_waits()

    assert reports() == [(1, 1, 60)]
    assert meter.waiting == 0


def test_a_minute_is_up_when_every_count_of_it_found_all_leased_units(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    counts = iter([8] * 4 + [3] + [8] * 200)
    meter._sensors.units_up = lambda: next(counts)
    for minute in range(61):
        for second in (1, 31):
            meter.clock.at = start_at + timedelta(minutes=minute, seconds=second)
            meter.count()
    market_at(meter.clock.at)
    meter.send_what_waits()

    row = m.SlotReport.objects.get(source="provider", lease=world.lease("genome"))
    assert row.up_word == FULL_WORD & ~(1 << 2)  # the fifth count lies in minute 2; genome leases 4 units


def test_a_heartbeat_tells_devices_and_sets_the_clock(home, site, market_at):
    start_at = world.window().starts_at + timedelta(minutes=3)
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    meter.beat()

    pulse = m.Pulse.objects.get(node_class=world.node_class("granite"))
    assert pulse.devices == {str(world.lease("genome").pk): 4}
    assert (pulse.probe_address, pulse.workload_address) == ("tcp://127.0.0.1:9", "127.0.0.1:9")
    before = pulse.sequence
    meter.beat()
    pulse.refresh_from_db()
    assert pulse.sequence > before


def test_a_clock_that_is_off_is_told_and_a_beat_by_it_is_not_taken(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at + timedelta(minutes=10))

    meter.beat()  # refused for its time: the meter asks for the market's

    assert not m.Pulse.objects.exists()
    assert "GET /api/v1/time" in site.requests
    assert meter.clock.skew_ms is not None
    assert "off the market's" in meter._skewed()


def test_flush_sends_what_waits_and_ends(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    meter = meter_of(home, site, start_at)
    meter.fetch_leases()
    count_hours(meter, 1, start_at)
    market_at(meter.clock.at)

    assert flush(meter) == {"sent": 1, "waiting": 0, "egress_sent": 0, "egress_waiting": 0}


# --- data that is pinned ---------------------------------------------------------------------------------------------
class Flows(Outflow):
    """A source whose count a test sets."""

    def __init__(self) -> None:
        super().__init__(command="true")
        self.sent = 5_000

    def counters(self, leases: Iterable[str] = ()) -> dict[str, int]:
        return {"out_bytes": self.sent, "out_source": 1}


def pin(lease: m.Lease, limit_bytes: int = 0) -> None:
    with behind_the_triggers():
        m.EgressPin.objects.create(demand=lease.demand, limit_bytes=limit_bytes, at=clock.now())


def metered() -> list[tuple[int, int]]:
    """Slot and bytes of each hour of the egress meter that was taken."""
    return list(m.EgressReading.objects.filter(lease=world.lease("genome")).values_list("slot", "egress_bytes"))


@pytest.fixture
def pinned(home: Path, site: Site, market_at: Callable[..., None]) -> Meter:
    """The meter of a lease whose data is pinned, with a source of what leaves, one minute before the lease begins."""
    start_at = world.window().starts_at
    pin(world.lease("genome"))
    market_at(start_at)
    meter = meter_of(home, site, start_at, outflow=Flows())
    meter.fetch_leases()
    for second in (-65, -5):
        meter.clock.at = start_at + timedelta(seconds=second)
        meter.count()
    return meter


def test_what_left_in_each_hour_of_pinned_data_arrives_signed_once_after_hours_without_the_network(
    pinned, home, site, market_at
):
    start_at = world.window().starts_at
    site.cut()
    count_hours(pinned, 1, start_at)
    pinned._outflow.sent += 7
    count_hours(pinned, 1, start_at + timedelta(hours=1))
    market_at(pinned.clock.at)
    with pytest.raises(ServerUnreachable):
        pinned.send_egress()
    assert len(pinned.egress_waiting) == 2
    site.up()

    assert flush(pinned) == {"sent": 2, "waiting": 0, "egress_sent": 2, "egress_waiting": 0}

    assert metered() == [(0, 0), (1, 7)]
    assert meter_of(home, site, pinned.clock.at).send_egress() == 0  # also after a start
    assert watch_egress(now=clock.now()) >= 1
    assert m.WindDown.objects.get(lease=world.lease("genome")).cause == "egress"


def test_two_leases_on_one_machine_are_told_apart_or_the_meter_says_that_it_cannot(pinned, market_at):
    start_at, genome = world.window().starts_at, str(world.lease("genome").pk)
    assert pinned._unmetered() is None
    pinned._leases.units["another"] = pinned._leases.units[genome]  # not pinned, and it may send what it likes
    count_hours(pinned, 1, start_at)
    pinned._outflow.sent += 7
    count_hours(pinned, 1, start_at + timedelta(hours=1))
    market_at(pinned.clock.at)

    assert "counted for 2 leases together" in pinned._unmetered()
    pinned.send_egress()
    assert metered() == [(0, 0)]  # nothing left in the first hour; whose the 7 bytes were nobody can say

    pinned._outflow = Outflow(by_lease=True)
    count_hours(pinned, 1, start_at + timedelta(hours=2))
    assert f"it has no interface {interface_of(genome)}" in pinned._unmetered()


def test_a_report_whose_answer_was_lost_counts_once_and_another_one_of_that_hour_is_refused(
    pinned, home, site, market_at
):
    start_at = world.window().starts_at
    count_hours(pinned, 1, start_at)
    market_at(pinned.clock.at)
    site.loses_answers = True
    with pytest.raises(ServerRefused, match="502"):
        pinned.send_egress()
    site.loses_answers = False
    assert metered() == [(0, 0)]

    again = meter_of(home, site, pinned.clock.at)
    assert again.send_egress() == 1
    assert metered() == [(0, 0)]
    row = m.EgressReading.objects.get(lease=world.lease("genome"))
    first_at = int(start_at.timestamp())
    other = sign_egress(load_key(home), lease=str(row.lease_id), slot_start_at=first_at, egress_bytes=9)
    body = {"report": other.body.decode(), "signature": other.signature.hex()}
    with pytest.raises(ServerRefused) as refusal:
        again._client.post(f"/api/v1/leases/lea_{row.lease_id.hex}/egress", body)
    assert refusal.value.facts["problem_code"] == "reference_reused"
    (home / "spool" / "egress.json").unlink()
    again._key = create_key(home.parent / "other")  # nobody's
    assert again.send_egress() == 0
    assert (again._told["given_up"], again.egress_waiting, metered()) == (1, [], [(0, 0)])


def test_an_hour_that_is_not_over_at_the_market_waits_and_one_that_was_judged_is_given_up(pinned, market_at):
    start_at, lease = world.window().starts_at, world.lease("genome")
    count_hours(pinned, 2, start_at)
    market_at(start_at + timedelta(minutes=59))
    with pytest.raises(ServerRefused) as refusal:
        pinned.send_egress()
    assert refusal.value.facts["problem_code"] == "report_from_future"
    assert len(pinned.egress_waiting) == 2

    market_at(start_at + timedelta(hours=1))
    with pytest.raises(ServerRefused):
        pinned.send_egress()
    assert metered() == [(0, 0)]
    market_at(pinned.clock.at)
    with behind_the_triggers():
        m.Lease.objects.filter(pk=lease.pk).update(state="judged")
    assert pinned.send_egress() == 0
    assert (pinned._told["given_up"], pinned.egress_waiting, metered()) == (1, [], [(0, 0)])


def test_nothing_is_reported_of_data_that_is_not_pinned_and_a_pin_without_a_source_is_told(home, site, market_at):
    start_at = world.window().starts_at
    market_at(start_at)
    counting = meter_of(home, site, start_at, outflow=Flows())
    counting.fetch_leases()
    count_hours(counting, 1, start_at)
    assert (counting.egress_waiting, counting._unmetered()) == ([], None)
    pin(world.lease("genome"), limit_bytes=9)

    blind = meter_of(home, site, counting.clock.at)
    blind.fetch_leases()
    count_hours(blind, 1, start_at + timedelta(hours=1))

    assert blind._leases.limits == {str(world.lease("genome").pk): 9}
    assert blind.egress_waiting == []
    assert "--egress-interface" in blind._unmetered()


# --- as a process ----------------------------------------------------------------------------------------------------
RATE = 60  # market seconds in a second


def until(holds: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def metering(home: Path, key: str) -> subprocess.Popen[str]:
    process = start("meter", "--home", home, "--units", 8, "--listen", "127.0.0.1:0", GROVE_API_KEY=key,
                    GROVE_CLOCK_RATE=str(RATE))  # fmt: skip
    assert process.stdout is not None
    assert '"metering"' in process.stdout.readline()
    return process


def lines(home: Path) -> int:
    return len(Spool(home / "spool", is_reader=True).lines)


@pytest.mark.slow  # half a minute of waiting on real processes
def test_a_meter_that_is_cut_off_and_killed_backfills_once_and_ends_on_sigterm(home, site, market_at):
    window, key = world.window(), api_key()
    market_at(window.starts_at + timedelta(minutes=45), RATE)
    first = metering(home, key)
    try:
        until(lambda: lines(home) >= 2 and (home / LEASES_FILE).exists() and m.Pulse.objects.exists())
        site.cut()
        until(lambda: lines(home) >= 4)
        os.kill(first.pid, signal.SIGKILL)  # in the middle of whatever it does
    finally:
        first.kill()
        first.communicate()
    before = lines(home)
    second = metering(home, key)  # the network is still away: its leases are on the disk
    try:
        with pytest.raises(HomeBusy), homes.sole_writer(home):
            pass
        until(lambda: clock.now() > window.starts_at + timedelta(minutes=61) and lines(home) >= before + 2)
        assert reports() == []
        site.up()
        until(lambda: reports())
        shown = agent("status", "--home", home)
        second.terminate()
        out, err = second.communicate(timeout=120)
    finally:
        second.kill()
        second.communicate()

    assert (second.returncode, err) == (0, "")
    assert '"waiting": 0' in out
    ((slot, sequence, minutes),) = reports()
    assert (slot, sequence) == (0, 1)
    assert minutes == sum(reading.minute_at < window.slot_at(1).timestamp() and bool(reading.owed)
                          for reading in Spool(home / "spool", is_reader=True).lines)  # fmt: skip
    assert shown["is_metering"] is True
    assert shown["meter"]["last"]["owed"] == {str(world.lease("genome").pk): 4}
    assert shown["readings"]["last"]


# --- sensors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("command", "units"), [
    ("echo 7", 7), ("echo seven", 0), ("sh -c 'echo 7; exit 1'", 0), ("no-such-command", 0), ("echo -1", 0),
])  # fmt: skip
def test_units_are_counted_by_a_command_and_what_it_cannot_say_is_none(command, units):
    assert Sensors(units=None, check=command).units_up() == units


def test_missing_units_are_missing_at_somebody_and_never_twice():
    assert share_out(8, {"a": 4, "b": 4}) == {"a": 4, "b": 4}
    assert share_out(5, {"a": 4, "b": 4}) == {"a": 4, "b": 1}
    assert share_out(0, {"a": 4}) == {"a": 0}


def test_a_meter_that_cannot_know_its_units_is_refused():
    with pytest.raises(UsageWrong, match="--units"):
        Sensors(units=None, check=None)
