"""A bidder's receipt is borne out by the exported trail alone, and whoever reads opened bids leaves a line (M-068)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.demo.papers import reviewer_seat
from marketplace.environment import CHECKOUT
from marketplace.errors import NotYours
from marketplace.oversight.audit_export import export_audit
from marketplace.supply.receipts import note_viewing, receipt_of
from tests.journey import world
from tests.journey.refusals import refused

OFFLINE = CHECKOUT / "marketplace/governance/offline.py"


def check(folder: Path, receipt: dict[str, str]) -> tuple[int, str]:
    """What a stranger's Python says of a receipt beside the exported trail."""
    (folder / "receipt.json").write_text(json.dumps(receipt))
    trail = folder / "trail.jsonl"
    if not trail.exists():
        trail.write_bytes(export_audit(seat=reviewer_seat(clock.now()), now=clock.now()))
    alone = subprocess.run([sys.executable, "-I", OFFLINE, trail, folder / "receipt.json"], capture_output=True,
                           text=True, check=False, cwd=folder)  # fmt: skip
    assert alone.stderr == ""
    return alone.returncode, alone.stdout


@pytest.mark.stage("cleared")
def test_the_trail_bears_a_receipt_out_and_no_other_terms(tmp_path: Path) -> None:
    bid = world.bid("harbour")
    receipt = receipt_of(bid=bid, party=bid.party)
    other = receipt_of(bid=world.bid("granite"), party=world.party("granite"))

    assert json.loads(receipt["text"])["price_ask_micros"] == 1_600_000
    assert hashlib.sha256(receipt["text"].encode()).hexdigest() == receipt["commitment"]
    assert check(tmp_path, receipt)[0] == 0

    cheaper = receipt["text"].replace("1600000", "1500000")
    for forged in (
        {"text": cheaper}, {"text": cheaper, "commitment": hashlib.sha256(cheaper.encode()).hexdigest()},
        {"bid": other["bid"]}, {"line_hash": "ab" * 32}, {"line_hash": other["line_hash"]}, {"window": "w"},
    ):  # fmt: skip
        code, said = check(tmp_path, receipt | forged)
        assert (code, said.startswith("BROKEN")) == (1, True), forged


@pytest.mark.stage("bidding")
def test_a_receipt_stands_before_close_for_its_bidder_alone_and_counts_nothing() -> None:
    bid = world.bid("harbour")

    receipt = receipt_of(bid=bid, party=bid.party)

    line = m.AuditLine.objects.get(subject=str(bid.pk))
    assert str(line.no) not in {str(value) for value in receipt.values()}
    assert bytes(line.prev_hash).hex() not in json.dumps(receipt)
    with refused(NotYours):
        receipt_of(bid=bid, party=world.party("granite"))


@pytest.mark.stage("cleared")
def test_whoever_reads_opened_bids_leaves_one_line_a_day_with_what_was_seen() -> None:
    reader = reviewer_seat(clock.now()).user
    client = Client()
    client.force_login(reader)

    for _ in range(2):
        assert client.get("/console/opened-bids/", {"window": world.MAIN}).status_code == 200

    line = m.AuditLine.objects.get(action="view_opened_bids")
    assert (line.actor, line.subject) == (reader.email, world.MAIN)
    assert set(line.facts["ids"]) == {str(bid.pk) for bid in world.window().bids.filter(state__in=("awarded", "lost"))}

    note_viewing(person="somebody@else.example", window=world.window(), bids=world.window().bids.all(),
                 now=clock.now())  # fmt: skip
    assert m.AuditLine.objects.filter(action="view_opened_bids").count() == 2
