"""Evidence, incidents, zone lists and the exported trail in the console, through its pages."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from marketplace import models as m
from marketplace.compliance.evidence import submit_evidence
from marketplace.compliance.papers import Paper
from marketplace.governance.offline import first_fault
from marketplace.parties.services import make_seat
from tests.doors.factories import NOW

PAGES = ("/console/evidence/", "/console/incidents/", "/console/zone-lists/")


@pytest.fixture
def waiting(market) -> m.Evidence:
    party = market.providers[0]
    seat = make_seat(party=party, email="hands@in.example", password=None, role="compliance", now=NOW)
    paper = Paper("soc2 <b>.pdf", b"%PDF", NOW, NOW + timedelta(days=90))
    return submit_evidence(seat=seat, control_code="pci-scope", paper=paper, issuer="An auditor", now=NOW)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_shows_itself_to_staff_and_to_nobody_else(market, staff, client, path):
    assert staff.get(path).status_code == 200
    assert client.get(path).status_code == 302


def test_evidence_is_seen_accepted_and_revoked_and_the_trail_says_who(market, staff, waiting):
    page = staff.get("/console/evidence/").content.decode()
    assert "not legal advice" in page
    assert "soc2 &lt;b&gt;.pdf" in page

    file = staff.get(f"/console/evidence/{waiting.pk}/document/")
    assert (file.content, file.headers["Content-Disposition"]) == (b"%PDF", 'attachment; filename="soc2__b_.pdf"')
    staff.post(f"/console/evidence/{waiting.pk}/review/", {"act": "accept", "reason": "looked at"})
    assert m.EvidenceReview.objects.get(evidence=waiting).is_accepted
    staff.post(f"/console/evidence/{waiting.pk}/review/", {"act": "revoke", "reason": "forged"})

    assert m.EvidenceEnd.objects.get(evidence=waiting).reason == "forged"
    lines = m.AuditLine.objects.filter(subject=str(waiting.pk)).order_by("no").values_list("actor", "action")
    assert [action for actor, action in lines if actor == "staff@console.example"] == [
        "saw_evidence", "review_evidence", "end_evidence"]  # fmt: skip


def test_a_refusal_is_shown_with_its_code_and_nothing_is_written(market, staff, waiting):
    reply = staff.post(f"/console/evidence/{waiting.pk}/review/", {"act": "accept", "reason": ""}, follow=True)

    assert "bad_input" in reply.content.decode()
    assert not m.EvidenceReview.objects.filter(evidence=waiting).exists()


def test_an_incident_is_opened_frozen_and_thawed(market, staff):
    form = {"title": "Keys seen elsewhere", "party": market.providers[0].slug, "freeze": "1", "reason": "look"}

    staff.post("/console/incidents/new/", form)
    row = m.Incident.objects.get()
    assert (row.is_frozen, row.party) == (True, market.providers[0])
    assert "hours to the notice" in staff.get("/console/incidents/").content.decode()
    staff.post(f"/console/incidents/{row.pk}/", {"act": "thaw", "reason": "changed"})

    assert not m.Incident.objects.get().is_frozen
    assert "bad_input" in staff.post("/console/incidents/new/", form | {"party": ""}, follow=True).content.decode()
    assert m.Incident.objects.count() == 1


def test_a_zone_list_is_adopted_and_its_report_stands_on_the_page(market, staff):
    form = {"zone": "EU", "members": "DE, FR, NL SE", "source": "Official Journal", "reason": "r",
            "valid_from": (NOW + timedelta(days=2)).date().isoformat()}  # fmt: skip

    staff.post("/console/zone-lists/change/", form)

    page = staff.get("/console/zone-lists/").content.decode()
    assert "EU version 2" in page
    assert "Removed FI" in page
    told = staff.post("/console/zone-lists/change/", form | {"valid_from": "2001-01-01"}, follow=True)
    assert "past_date" in told.content.decode()


def test_the_trail_is_taken_home_by_a_post_and_holds(market, staff, tmp_path: Path):
    reply = staff.post("/console/audit-file/")
    (tmp_path / "trail.jsonl").write_bytes(reply.content)

    assert first_fault(tmp_path / "trail.jsonl") is None
    assert json.loads(reply.content.splitlines()[0])["lines"] >= 0
    assert staff.get("/console/audit-file/").status_code == 405
