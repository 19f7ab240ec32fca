"""The exported trail is checked by an outsider's Python alone, and one altered line is found (M-068)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.environment import CHECKOUT
from marketplace.errors import RoleForbidden
from marketplace.governance.offline import first_fault
from marketplace.oversight.audit_export import export_audit
from marketplace.parties.services import make_seat
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused


def export(path: Path) -> list[bytes]:
    path.write_bytes(export_audit(seat=reviewer_seat(clock.now()), now=clock.now()))
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.stage("closed")
def test_an_export_holds_the_whole_trail_and_verifies_without_us(tmp_path: Path) -> None:
    written = m.AuditLine.objects.count()
    lines = export(tmp_path / "trail.jsonl")

    assert len(lines) == 1 + written
    assert m.AuditLine.objects.latest("no").action == "export_audit"
    alone = subprocess.run(
        [sys.executable, "-I", CHECKOUT / "marketplace/governance/offline.py", tmp_path / "trail.jsonl"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (alone.returncode, alone.stderr) == (0, "")
    call_command("verify", "audit", str(tmp_path / "trail.jsonl"), stdout=sys.stderr)


@pytest.mark.stage("closed")
@pytest.mark.parametrize("how", ["reason", "actor", "facts", "dropped", "cut", "added", "swapped", "header"])
def test_each_way_of_altering_it_is_found(tmp_path: Path, how: str) -> None:
    path = tmp_path / "trail.jsonl"
    lines = export(path)
    rows = [json.loads(line) for line in lines]
    if how in ("reason", "actor"):
        rows[5][how] += "x"
    elif how == "facts":
        rows[5]["facts"] = {**rows[5]["facts"], "amount_micros": 1}
    elif how == "header":
        rows[0]["lines"] += 1
    else:
        changed = {"dropped": [*rows[:5], *rows[6:]], "cut": rows[:-1], "added": [*rows, rows[-1]],
                   "swapped": [*rows[:5], rows[6], rows[5], *rows[7:]]}  # fmt: skip
        rows = changed[how]
    assert first_fault(path) is None

    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert first_fault(path) is not None
    with pytest.raises(CommandError, match="broken"):
        call_command("verify", "audit", str(path))


@pytest.mark.stage("bidding")
def test_an_export_while_bids_are_sealed_does_not_tell_whether_there_are_any(tmp_path: Path) -> None:
    lines = export(tmp_path / "trail.jsonl")
    rows = [json.loads(line) for line in lines[1:]]
    sealed = {str(pk) for pk in m.Bid.objects.filter(state="sealed").values_list("pk", flat=True)}

    assert sealed
    assert not sealed & {row["subject"] for row in rows}
    assert (rows[-1]["action"], rows[-1]["facts"]["to_state"]) == ("move_window", "BIDDING")
    assert first_fault(tmp_path / "trail.jsonl") is None
    place_bid(party=world.party("granite"), node_class=world.node_class("granite"), window=world.window(),
              reference="one more", quantity_units=1, start_slot=0, end_slot=1, price_ask_micros=1_500_000,
              sla_code="99.0", now=clock.now())  # fmt: skip
    assert export(tmp_path / "trail.jsonl")[1:] == lines[1:]


@pytest.mark.stage("closed")
def test_only_who_may_export_exports() -> None:
    quoting = make_seat(party=world.party("foundation"), email="mm@grove.example", password=None, role="market_maker",
                        now=clock.now())  # fmt: skip

    with refused(RoleForbidden):
        export_audit(seat=quoting, now=clock.now())


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    for text in ("", "{}\n", "no json\n", '{"format":"grove-audit","lines":1,"head":"00"}\n{}\n'):
        (tmp_path / "x").write_text(text)
        assert first_fault(tmp_path / "x") is not None
