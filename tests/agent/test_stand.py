"""The prover of one more unit as a program: enrolled by a code of its own, there, and answering its roll call."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent.keys import create_key
from marketplace.agent.stand import UNIT
from marketplace.parties.services import issue_api_key, make_seat
from marketplace.supply.machine_keys import decide_enrolment, make_enrolment_code, retire_unit_prover
from marketplace.supply.rolls import call_the_roll
from tests.agent.serving import Site, agent, served, start
from tests.journey import world
from tests.live import go_live

pytestmark = pytest.mark.stage("delivering")
RATE = 10  # market seconds in a second; faster, half a round trip of a busy site is a clock that is ahead


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site, and a market time that runs on."""
    from_at, began = clock.now(), time.monotonic()
    monkeypatch.setattr(clock, "now", lambda: from_at + timedelta(seconds=RATE * (time.monotonic() - began)))
    cache.clear()
    go_live()
    with served() as site:
        yield site


def until(holds: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_a_further_unit_enrols_stands_answers_its_roll_call_and_ends_on_sigterm(site: Site, tmp_path: Path) -> None:
    node_class, home = world.node_class("granite"), tmp_path / "unit"
    owner = make_seat(party=node_class.party, email="o@granite.example", password=None, role="owner", now=clock.now())
    old = node_class.unit_provers.get(number=2)
    retire_unit_prover(seat=owner, prover=old, reason="a new machine", now=clock.now())
    row, code = make_enrolment_code(seat=owner, node_class=node_class, is_for_a_unit=True, now=clock.now())
    told = agent("enrol", "--home", home, "--server", site.url, GROVE_ENROL_TOKEN=code)
    assert told["machine"] == f"{UNIT}{row.pk.hex}"
    row.refresh_from_db()
    decide_enrolment(seat=owner, enrolment=row, is_accepted=True, now=clock.now())
    prover = m.UnitProver.objects.get(pk=row.pk)
    key = issue_api_key(party=node_class.party, label="unit", may_write=True, now=clock.now())[1]

    assert "stand" in agent("meter", "--home", home, "--units", 1, status=2, GROVE_API_KEY=key)["title"]
    process = start("stand", "--home", home, "--listen", "127.0.0.1:0", GROVE_API_KEY=key, GROVE_CLOCK_RATE=str(RATE))
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["standing"] == told["machine"]
        until(lambda: site.done.count("POST /api/v1/heartbeats") >= 3)
        site.cut()  # this test's transaction is the site's, one of them works at a time
        roll = call_the_roll(party=node_class.party, now=clock.now())
        site.up()
        until(lambda: "POST /api/v1/roll-answers" in site.done)  # a clock that is ahead is refused, and asks again
        process.terminate()
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()

    shown = agent("status", "--home", home, GROVE_API_KEY=key)

    assert (process.returncode, err) == (0, "")
    assert m.UnitProver.objects.get(pk=prover.pk).seen_at
    assert m.RollReply.objects.filter(member__roll=roll, prover=prover).exists()
    assert shown["standing"] == {"state": "prover of one more unit", "is_called_now": True}
    assert shown["meter"]["trouble"] is None


def test_who_listens_everywhere_says_where_it_is_reached(tmp_path: Path) -> None:
    home = tmp_path / "unit"
    create_key(home)
    homes.write_json(home, homes.AGENT_FILE, {"server": "http://127.0.0.1:9", "machine": UNIT + "0" * 32})

    refusal = agent("stand", "--home", home, "--listen", "0.0.0.0:8711", status=2, GROVE_API_KEY="gx_live_none")

    assert "--advertise" in refusal["title"]
