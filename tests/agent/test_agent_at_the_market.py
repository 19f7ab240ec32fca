"""The agent as a process without Django, the market over HTTP on loopback: enrol, rotate, bid, status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from marketplace import models as m
from marketplace.agent.keys import KEY_FILE, NEXT_KEY_FILE, create_key, load_key, rotation_statement
from marketplace.parties.caps import Caps
from marketplace.parties.services import issue_api_key
from marketplace.supply.machine_keys import (
    decide_enrolment,
    make_enrolment_code,
    revoke_machine_key,
    rotate_machine_key,
)
from tests.agent.serving import agent, start, told_by
from tests.doors.factories import NOW

HERE = "http://127.0.0.1:1"  # nobody listens there


@pytest.fixture
def node_class(market) -> m.NodeClass:
    row = m.NodeClass.objects.filter(party=market.providers[0]).order_by("chain_class")[0]
    m.Bid.objects.filter(window=market.bidding, node_class=row).update(state="withdrawn")
    m.MachineKeyChange.objects.create(
        node_class=row, kind="enrolled", public_key=row.machine_key, actor="a", reason="r", at=NOW
    )
    return row


@pytest.fixture
def owner(market) -> m.Seat:
    from tests.doors.factories import seat

    return seat(market.providers[0], "machines@agent.example").seat


def api_key(market, **caps: Any) -> str:
    return issue_api_key(party=market.providers[0], label="agent", may_write=True, now=NOW, caps=Caps(**caps))[1]


def strategy(tmp_path: Path, node_class: m.NodeClass, **changes: object) -> Path:
    facts = {"name": "night", "node_class": f"cls_{node_class.pk.hex}", "sla": "99.5", "floor_usd": "1.25",
             "target_utilisation_percent": 50, "beyond_target_usd": "1.90", "units": 8} | changes  # fmt: skip
    file = tmp_path / "strategy.toml"
    lines = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in facts.items()]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_machine_enrols_by_code_and_person_rotates_its_key_and_sees_its_standing(
    market, site, node_class, owner, tmp_path
):
    home, key = tmp_path / "home", api_key(market)
    revoke_machine_key(seat=owner, node_class=node_class, reason="lost", now=NOW)
    _, code = make_enrolment_code(seat=owner, node_class=node_class, now=NOW)

    enrolled = agent("enrol", "--home", home, "--server", site.url, GROVE_ENROL_TOKEN=code)
    row = m.Enrolment.objects.get(is_for_a_unit=False)
    assert (enrolled["state"], enrolled["machine"]) == ("waiting", f"cls_{node_class.pk.hex}")
    assert enrolled["fingerprint"] == load_key(home).fingerprint
    decide_enrolment(seat=owner, enrolment=row, is_accepted=True, now=NOW)
    shown = agent("status", "--home", home, GROVE_API_KEY=key)
    assert (shown["enrolment"], shown["standing"]["is_our_key_in_use"]) == ("accepted", True)
    assert shown["standing"]["state"] == "SUSPENDED"  # revoked before: a proof is needed

    before = load_key(home).public_bytes
    rotated = agent("enrol", "--home", home, "--rotate")

    node_class.refresh_from_db()
    assert load_key(home).public_bytes == bytes(node_class.machine_key) != before
    assert rotated["fingerprint"] == load_key(home).fingerprint
    assert not (home / NEXT_KEY_FILE).exists()
    assert (home / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_a_rotation_that_was_cut_after_the_market_took_it_goes_on(market, site, node_class, owner, tmp_path):
    home = tmp_path / "home"
    revoke_machine_key(seat=owner, node_class=node_class, reason="lost", now=NOW)
    _, code = make_enrolment_code(seat=owner, node_class=node_class, now=NOW)
    agent("enrol", "--home", home, "--server", site.url, GROVE_ENROL_TOKEN=code)
    decide_enrolment(seat=owner, enrolment=m.Enrolment.objects.get(is_for_a_unit=False), is_accepted=True, now=NOW)
    old, new = load_key(home), create_key(home, name=NEXT_KEY_FILE)
    rotate_machine_key(statement=rotation_statement(old, new), now=NOW)  # and here it was killed

    agent("enrol", "--home", home, "--rotate")

    assert load_key(home).public_bytes == new.public_bytes
    assert m.MachineKeyChange.objects.filter(kind="rotated").count() == 1


def test_a_strategy_is_rehearsed_then_submitted_once(market, site, node_class, tmp_path):
    file, key = strategy(tmp_path, node_class), api_key(market)
    words = ("bid", file, "--server", site.url)

    told = agent(*words, "--dry-run", GROVE_API_KEY=key)
    assert (told["submitted"], len(told["bids"]), told["unit_hours"]) == (0, 2, 8 * 168)
    assert not m.Bid.objects.filter(reference__startswith="night.").exists()
    sent = [agent(*words, GROVE_API_KEY=key) for _ in range(2)]

    assert sent[0] == sent[1]
    assert sent[0]["submitted"] == 2
    placed = m.Bid.objects.filter(reference__startswith="night.").order_by("accepted_rank")
    assert [bid.reference for bid in placed] == ["night.2.0.0", "night.2.0.1"]
    changed = agent("bid", strategy(tmp_path, node_class, floor_usd="1.30"), "--server", site.url, status=1,
                    GROVE_API_KEY=key)  # fmt: skip
    assert (changed["problem_code"], changed["reference"]) == ("reference_reused", "night.2.0.0")
    assert "another name" in changed["help"]


def test_a_capped_key_bids_nothing_of_a_strategy_beyond_its_cap(market, site, node_class, tmp_path):
    first_step = 4 * 168 * 1_250_000
    key = api_key(market, notional_day_max_micros=first_step - 1)

    refusal = agent("bid", strategy(tmp_path, node_class), "--server", site.url, status=1, GROVE_API_KEY=key)

    assert (refusal["problem_code"], refusal["while"], refusal["bid"]) == ("key_capped", "rehearsing", 1)
    assert not m.Bid.objects.filter(reference__startswith="night.").exists()


def test_where_nobody_answers_the_status_is_3_and_the_own_folder_is_still_shown(market, node_class, tmp_path):
    home = tmp_path / "home"
    # Side by side: each asks again and again for seven seconds.
    bidding = start("bid", strategy(tmp_path, node_class), "--server", HERE, GROVE_API_KEY="gx_live_x")
    enrolling = start("enrol", "--home", home, "--server", HERE, "--token", "t")

    assert told_by(bidding, status=3)["code"] == "server_unreachable"
    assert told_by(enrolling, status=3)["code"] == "server_unreachable"
    shown = agent("status", "--home", home)
    assert shown["fingerprint"] == load_key(home).fingerprint
