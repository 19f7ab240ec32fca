"""The meter at a market over HTTP: what it counts arrives once and in order, whatever network and process do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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
from marketplace.agent.errors import HomeBusy, UsageWrong
from marketplace.agent.keys import create_key, load_key, rotation_statement
from marketplace.agent.meter import Addresses, Meter, flush
from marketplace.agent.sensors import Sensors, share_out
from marketplace.agent.spool import Spool
from marketplace.demo.machines import machine_key
from marketplace.parties.caps import Caps
from marketplace.parties.services import issue_api_key
from marketplace.supply.machine_keys import rotate_machine_key
from pricing.metering import FULL_WORD
from tests.agent.serving import Site, agent, served, start
from tests.journey import world

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


def meter_of(home: Path, site: Site, at: datetime, units: int = 8) -> Meter:
    return Meter(
        home, key=load_key(home), machine=homes.enrolled_at(home)["machine"],
        client=ApiClient(site.url, api_key=api_key(), attempts=1), sensors=Sensors(units=units, check=None),
        addresses=Addresses("tcp://127.0.0.1:9", "127.0.0.1:9"), clock=SetClock(at), days_kept=7,
    )  # fmt: skip


def count_hours(meter: Meter, hours: int, minutes_from: datetime) -> None:
    for minute in range(60 * hours + 1):
        meter.clock.at = minutes_from + timedelta(minutes=minute, seconds=5)
        meter.count()


def reports() -> list[tuple[int, int, int]]:
    """Slot, sequence and minutes up of each report that was taken, in the order of the chain."""
    rows = m.SlotReport.objects.filter(source="provider", lease=world.lease("genome")).order_by("sequence")
    return [(row.slot, row.sequence, row.up_word.bit_count()) for row in rows]


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

    assert flush(meter) == {"sent": 1, "waiting": 0}


# --- as a process ----------------------------------------------------------------------------------------------------
RATE = 60  # market seconds in a second


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
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


def test_a_meter_that_is_cut_off_and_killed_backfills_once_and_ends_on_sigterm(home, site, market_at):
    window, key = world.window(), api_key()
    market_at(window.starts_at + timedelta(minutes=50), RATE)
    first = metering(home, key)
    try:
        until(lambda: lines(home) >= 2 and m.Pulse.objects.exists())
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
        out, err = second.communicate(timeout=20)
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
