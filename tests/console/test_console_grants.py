"""Grant programmes, vouchers and undertakings in the console: each step by another person, a code shown once."""

from __future__ import annotations

import re
from datetime import timedelta

from django.test import Client

from marketplace import models as m
from marketplace.compliance.papers import Paper
from marketplace.supply.entry import give_undertaking
from tests.doors.factories import NOW, Market, seat
from tests.owner import unseen

PAGE = "/console/vouchers/"
PROGRAMME = {
    "act": "propose_programme", "programme-code": "nairr", "programme-name": "NAIRR pilot", "programme-funder": "NSF",
    "programme-budget_micros": "10,000", "programme-voucher_max_micros": "5,000", "programme-party_max_micros": "8000",
}  # fmt: skip


def second_person(market: Market) -> Client:
    seat(m.Party.objects.get(slug="foundation"), "second@console.example", role="operations", is_staff=True)
    client = Client()
    client.force_login(m.User.objects.get(email="second@console.example"))
    return client


def test_a_programme_and_a_voucher_pass_through_two_people_and_the_code_is_shown_once(market, staff) -> None:
    second = second_person(market)
    wrong = staff.post(PAGE, PROGRAMME | {"programme-voucher_max_micros": "x"}, follow=True).content.decode()
    assert "Most of one voucher, dollars: Write an amount" in wrong
    staff.post(PAGE, PROGRAMME)
    programme = m.GrantProgramme.objects.get(code="nairr")
    assert "another person approves" in staff.get(PAGE).content.decode()
    refused = staff.post(PAGE, {"act": "approve_programme", "id": str(programme.pk)}, follow=True).content.decode()
    assert "same_person" in refused
    second.post(PAGE, {"act": "approve_programme", "id": str(programme.pk)})

    staff.post(PAGE, {"act": "propose_voucher", "voucher-programme": str(programme.pk), "voucher-amount_micros": "1000",
                      "voucher-valid_until": f"{NOW + timedelta(days=30):%Y-%m-%d}"})  # fmt: skip
    voucher = m.Voucher.objects.get()
    assert voucher.amount_micros == 1_000_000_000
    shown = second.post(PAGE, {"act": "issue", "id": str(voucher.pk)})
    code = re.search(r'gx-mono">([0-9a-f]{30})<', shown.content.decode())
    assert code is not None
    assert "no-store" in shown.headers["Cache-Control"]
    assert code[1] not in second.get(PAGE).content.decode()
    staff.post(PAGE, {"act": "withdraw", "id": str(voucher.pk), "reason": "sent astray"})
    voucher.refresh_from_db()
    assert voucher.state == "WITHDRAWN"
    assert staff.post(PAGE, {"act": "issue", "id": "x"}).status_code == 404


def test_an_undertaking_is_read_and_decided_by_a_person_of_the_foundation(market, staff) -> None:
    party, page = market.providers[0], "/console/undertakings/"
    unseen(m.Party.objects.filter(pk=party.pk), kind="university")
    owner = seat(party, "rector@console.example")
    paper = Paper("u.pdf", b"we answer", NOW, NOW + timedelta(days=90))
    row = give_undertaking(seat=m.Seat.objects.get(user=owner), node_class=party.node_classes.first(), paper=paper,
                           amount_micros=10**9, signatory="Rector", now=NOW)  # fmt: skip

    assert "Rector" in staff.get(page).content.decode()
    assert staff.get(page, {"document": str(row.pk)}).content == b"we answer"
    assert m.AuditLine.objects.filter(action="saw_undertaking").exists()
    staff.post(page, {"act": "accept", "id": str(row.pk), "reason": ""})
    assert not m.UndertakingReview.objects.exists()
    staff.post(page, {"act": "accept", "id": str(row.pk), "reason": "read and called"})
    assert m.UndertakingReview.objects.get(undertaking=row).is_accepted
    staff.post(page, {"act": "end", "id": str(row.pk), "reason": "revoked"})
    assert m.UndertakingEnd.objects.filter(undertaking=row).exists()


def test_every_field_of_the_consoles_forms_has_a_label_and_a_hint(market, staff) -> None:
    for page in (PAGE, "/console/rules/", "/console/round-trips/", "/console/market-maker/", "/console/funding-lines/"):
        body = staff.get(page).content.decode()
        labels = re.findall(r'<label for="id_[^"]*">\s*([^<]+?):?\s*</label>', body)
        assert labels, page
        for label in labels:
            assert not re.search(r"\b(micros|ppm|code|max)\b", label.lower().replace("micro-usd", "")) or label in (
                "Code",), label  # fmt: skip
