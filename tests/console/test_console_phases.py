"""The gate board: what is missing with its evidence, signed by two people, frozen by a signal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from marketplace import models as m
from marketplace.governance.phases import Count
from marketplace.payout.taxes import tax_rule_of
from tests.doors.factories import NOW, seat, stand_in_phase

PATH = "/console/phases/"
MET = {code: Count(9, "test") for code in ("funded_enterprises", "needs_recorded", "price_curves")}


@pytest.fixture(autouse=True)
def _in_phase_one(market) -> None:
    """These tests begin where a market begins."""
    stand_in_phase(1)


@pytest.fixture
def second(market) -> Client:
    client = Client()
    client.force_login(seat(m.Party.objects.get(slug="foundation"), "judge@console.example", "judge", is_staff=True))
    return client


def said(answer) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def act(client: Client, name: str, **fields) -> str:
    return said(client.post(PATH, {"act": name} | fields, follow=True))


def test_the_board_says_what_is_missing_and_where_it_is_seen(market, staff):
    page = staff.get(PATH).content.decode()

    assert "Phase 2: University consortium" in page
    assert "demands funded, by last owner" in page
    assert "proven_universities" in page
    assert "An earlier phase comes first." in page
    assert "Review of" in page
    assert not m.PhaseEvidence.objects.exists()  # looking writes nothing


def test_a_phase_with_a_missing_condition_is_not_signed(market, staff):
    assert "gate_not_ready" in act(staff, "sign", phase="2")
    assert "state_skipped" in act(staff, "open", phase="3")
    assert not m.PhaseSignOff.objects.exists()


def test_two_people_open_a_phase_and_one_does_not(market, staff, second, monkeypatch):
    monkeypatch.setattr("marketplace.console.phases.phase_counts", lambda: MET)

    assert "You signed phase 2" in act(staff, "sign", phase="2")
    assert "gate_not_ready" in act(staff, "open", phase="2")
    act(staff, "sign", phase="2")
    assert m.PhaseSignOff.objects.count() == 1
    assert "You signed phase 2" in act(second, "sign", phase="2")
    assert "is open" in act(second, "open", phase="2")
    assert m.Phase.objects.get(no=2).is_open


def test_a_signal_freezes_and_another_person_closes_it(market, staff, second):
    told = {"kind": "security_incident", "title": "A break-in", "evidence_link": "https://example.org/a"}
    assert "lowers the case" in act(staff, "raise", **told)
    signal = m.Signal.objects.get()
    page = staff.get(PATH).content.decode()
    assert "Frozen by" in page
    assert "A break-in" in page

    assert "same_person" in act(staff, "close", signal=signal.pk, reason="over")
    assert "is closed" in act(second, "close", signal=signal.pk, reason="mended")
    assert "bad_input" in act(staff, "raise", **(told | {"evidence_link": "the wiki"}))
    assert staff.post(PATH, {"act": "delete"}).status_code == 404
    assert staff.post(PATH, {"act": "sign", "phase": "9"}).status_code == 404
    assert staff.post(PATH, {"act": "close", "signal": "x"}).status_code == 404


def test_the_review_of_the_quarter_is_held_once(market, staff):
    assert "is kept" in act(staff, "review", verdict="We stay.")
    assert "reference_reused" in act(staff, "review", verdict="Again.")
    assert m.GateReview.objects.get().person == "staff@console.example"


def test_an_order_is_decided_by_another_person_with_a_reason(market, staff):
    line = m.FundingLine.objects.create(
        id=market.buyers[0].pk, party=market.buyers[0], kind="purchase_order", number="PO 1", limit_micros=10**9,
        valid_until=NOW + timedelta(days=365), asked_by="cfo@buyer.example", asked_at=NOW,
    )
    own = m.FundingLine.objects.create(
        id=market.buyers[1].pk, party=market.buyers[1], kind="grant", number="G 1", limit_micros=10**9,
        valid_until=NOW + timedelta(days=365), asked_by="staff@console.example", asked_at=NOW,
    )
    path = "/console/funding-lines/"
    assert "Approve and advance $1,000.00" in staff.get(path).content.decode()

    def decide(row, **fields) -> str:
        return said(staff.post(path, {"line": row.pk, "act": "refuse", "reason": "no credit"} | fields, follow=True))

    assert "bad_input" in decide(line, reason="")
    assert "same_person" in decide(own)
    assert "is refused" in decide(line)
    assert "no credit" in staff.get(path).content.decode()
    assert "line_not_decided" in decide(line, act="approve")
    assert staff.post(path, {"line": line.pk, "act": "burn"}).status_code == 404


def test_a_tax_rule_is_proposed_by_one_person_and_approved_by_another(market, staff, second):
    page, begins = "/console/funding-lines/", NOW + timedelta(days=3)
    told = {"act": "propose_tax", "tax-country": "DE", "tax-rate_ppm": "190000", "tax-words": "VAT 19 %",
            "tax-valid_from": f"{begins:%Y-%m-%d %H:%M}"}  # fmt: skip
    wrong = staff.post(page, told | {"tax-rate_ppm": "1000001"}, follow=True).content.decode()
    assert "rate_ppm" in wrong
    assert not m.TaxRule.objects.exists()
    assert "comes into force on its day" in staff.post(page, told, follow=True).content.decode()
    rule = m.TaxRule.objects.get()
    approve = {"act": "approve_tax", "tax_rule": str(rule.pk)}
    assert "(same_person)" in staff.post(page, approve, follow=True).content.decode()
    assert tax_rule_of("DE", begins) is None

    assert "(role_forbidden)" in second.post(page, approve, follow=True).content.decode()  # a judge
    other = Client()
    foundation = m.Party.objects.get(slug="foundation")
    other.force_login(seat(foundation, "other@console.example", "operations", is_staff=True))
    assert "is approved" in other.post(page, approve, follow=True).content.decode()
    assert tax_rule_of("DE", begins) == rule
