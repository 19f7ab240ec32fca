"""Evidence, capacity and approvals through their pages: what is typed becomes a row, what is refused says why."""

from __future__ import annotations

from datetime import timedelta

from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from marketplace import models as m
from marketplace.parties.services import make_seat
from marketplace.spending.services import set_seat_limit, set_spending_rule
from tests.doors.factories import NOW


def day(days: int) -> str:
    return (NOW + timedelta(days=days)).date().isoformat()


def document(**changes):
    file = SimpleUploadedFile("iso.pdf", b"%PDF")
    return {"control_code": "pci-scope", "site": "", "country": "", "issuer": "An auditor", "valid_from": day(-1),
            "valid_until": day(90), "file": file, **changes}  # fmt: skip


def test_a_provider_hands_evidence_in_and_sees_what_the_next_tier_asks_for(market, enter):
    client, url = enter("provider"), reverse("onboarding:evidence")

    reply = client.post(url, document())

    row = m.Evidence.objects.get(control_id="pci-scope")
    assert (reply.status_code, bytes(row.body), row.file_name) == (302, b"%PDF", "iso.pdf")
    page = client.get(url).content.decode()
    assert "waits for review" in page
    assert "Keys held by the buyer" in page  # what T3 still asks for
    assert "not legal advice" in page


def test_evidence_that_has_run_out_is_refused_beside_its_field(market, enter):
    reply = enter("provider").post(reverse("onboarding:evidence"), document(valid_until=day(-1), valid_from=day(-9)))

    assert reply.status_code == 422
    assert "expired_evidence" in reply.content.decode()
    assert not m.Evidence.objects.filter(control_id="pci-scope").exists()


def test_a_provider_carves_units_out_and_a_rule_about_the_past_is_refused(market, enter):
    client, url = enter("provider"), reverse("onboarding:capacity")
    node_class = m.NodeClass.objects.filter(party=market.providers[0]).first()
    rule = {"node_class": node_class.pk, "kind": "carve_out", "units": 1, "purpose": "own work",
            "valid_from": day(300), "valid_until": day(301)}  # fmt: skip

    assert client.post(url, rule | {"valid_from": day(-3)}).status_code == 422
    assert not m.CarveOut.objects.exists()
    assert client.post(url, rule).status_code == 302

    assert "own work" in client.get(url).content.decode()


def test_a_demand_above_the_threshold_waits_on_the_page_until_another_person_approves(market, enter):
    buyer = market.buyers[0]
    poster = m.Seat.objects.filter(party=buyer, role="owner").select_related("user", "party").first()
    approver = make_seat(party=buyer, email="approver@buyer.example", password=None, role="approver", now=NOW)
    set_spending_rule(seat=poster, threshold_micros=0, approvals_needed=1, needs_purchase_order=False, now=NOW)
    set_seat_limit(seat=poster, of=approver, limit_micros=10**15, now=NOW)
    client = enter("buyer")
    client.post(reverse("portal:demand_new"), {
        "window": market.collecting.pk, "reference": "waits", "kind": "divisible", "accepted_classes": ["H100-80"],
        "quantity_units": 1, "start_slot": 0, "end_slot": 1, "price_limit_micros": "1.00", "tier_min": 0,
        "sla_code": m.SlaPreset.objects.first().pk,
    })  # fmt: skip
    demand = m.Demand.objects.get(reference="waits")
    url = reverse("portal:approve", args=[demand.pk])
    assert demand.state == "pending"
    assert "waits" in client.get(reverse("portal:approvals")).content.decode()

    client.post(url, {"act": "approve", "reason": "mine"})
    assert m.Demand.objects.get(pk=demand.pk).state == "pending"  # whoever posted it does not approve it
    client.force_login(approver.user)
    client.post(url, {"act": "approve", "reason": "within plan"})

    assert m.Demand.objects.get(pk=demand.pk).state == "posted"


def test_a_stranger_finds_neither_document_nor_demand(market, enter):
    enter("provider").post(reverse("onboarding:evidence"), document())
    row = m.Evidence.objects.get(control_id="pci-scope")
    demand = m.Demand.objects.exclude(party=market.buyers[0]).first()

    assert enter("newcomer").post(reverse("onboarding:evidence_end", args=[row.pk])).status_code == 404
    assert enter("buyer").post(reverse("portal:approve", args=[demand.pk])).status_code == 404
    assert not m.EvidenceEnd.objects.exists()


def test_a_buyer_proposes_an_agreement_and_both_sign_on_their_pages(market, enter):
    buyer, provider, url = enter("buyer"), enter("provider"), reverse("portal:agreements")
    form = {"provider": market.providers[0].slug, "control_code": "baa", "purposes": "research payment",
            "valid_from": day(-1), "valid_until": day(90)}  # fmt: skip

    wrong = form | {"purposes": "Two_Words", "file": SimpleUploadedFile("b.pdf", b"x")}
    assert buyer.post(url, wrong).status_code == 422
    assert buyer.post(url, form | {"file": SimpleUploadedFile("b.pdf", b"x")}).status_code == 302
    row = m.Agreement.objects.get()
    buyer.post(reverse("portal:agreement_act", args=[row.pk]), {"act": "sign", "words": "Director"})
    provider.post(reverse("onboarding:agreement_sign", args=[row.pk]), {"title": "Director"})

    assert set(row.signatures.values_list("party__slug", flat=True)) == {
        market.buyers[0].slug, market.providers[0].slug}  # fmt: skip
    assert enter("newcomer").post(reverse("onboarding:agreement_sign", args=[row.pk])).status_code == 404
    buyer.post(reverse("portal:agreement_act", args=[row.pk]), {"act": "end", "words": "moved"})
    assert "ended" in buyer.get(url).content.decode()


def test_a_pilot_is_opened_used_and_converted_on_its_page(market, enter):
    client, url = enter("buyer"), reverse("portal:pilots")

    assert client.post(url, {"name": "trial", "cap_micros": "50", "ends_on": day(-1)}).status_code == 422
    assert client.post(url, {"name": "trial", "cap_micros": "50", "ends_on": day(200)}).status_code == 302
    pilot = m.Pilot.objects.get()
    client.post(reverse("portal:demand_new"), {
        "window": market.collecting.pk, "reference": "trial-1", "kind": "divisible", "accepted_classes": ["H100-80"],
        "quantity_units": 1, "start_slot": 0, "end_slot": 1, "price_limit_micros": "1.00", "tier_min": 0,
        "sla_code": m.SlaPreset.objects.first().pk, "pilot": pilot.pk,
    })  # fmt: skip
    trial = m.Demand.objects.get(reference="trial-1")
    assert trial.pilot == pilot
    client.post(reverse("portal:pilot_convert", args=[trial.pk]), {"window": market.collecting.pk, "reference": "real"})

    assert m.Demand.objects.get(reference="real").converted_from == trial
    assert "real" in client.get(url).content.decode()
