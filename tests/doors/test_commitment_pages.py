"""The waitlist of a provider, and what a buyer commits: typed in pages, said by the services."""

from __future__ import annotations

from datetime import date, timedelta

from django.urls import reverse

from ledger.ids import uuid7
from marketplace import models as m
from marketplace.payout.invoices import issue_invoices
from marketplace.payout.taxes import approve_tax, propose_tax
from marketplace.supply.admissions import delivery_month
from tests.doors.factories import NOW, USD
from tests.owner import behind_the_triggers


def ask(client, node_class, month: date, unit_hours: int):
    return client.post(reverse("onboarding:waitlist"), {
        "node_class": node_class.pk, "month": f"{month}", "unit_hours": unit_hours})  # fmt: skip


def waiting(market) -> m.Admission:
    return m.Admission.objects.get(node_class__party=market.providers[5], state="WAITLIST")


def a_month_without_demand() -> date:
    return (NOW.date().replace(day=1) + timedelta(days=190)).replace(day=1)


def test_an_empty_waitlist_names_the_next_act(market, enter):
    page = enter("fresh").get(reverse("onboarding:waitlist")).content.decode()

    assert "You wait for no demand yet" in page
    assert "Join the waitlist" in page


def test_a_newcomer_waits_and_sees_its_place_and_the_demand_that_waits(market, enter):
    client, node_class = enter("fresh"), market.providers[5].node_classes.first()
    page = ask(client, node_class, delivery_month(market.collecting), 100)
    assert page.status_code == 302
    page = client.get(reverse("onboarding:waitlist")).content.decode()

    assert "place 1 of 1" in page
    assert "Funded demand that waits" in page
    refused = client.post(reverse("onboarding:waitlist_enter", args=[waiting(market).pk]), follow=True)
    assert "Pass the challenge first" in refused.content.decode()


def test_without_funded_demand_nobody_goes_in_and_the_page_says_so(market, enter):
    client, node_class = enter("fresh"), market.providers[5].node_classes.first()
    ask(client, node_class, a_month_without_demand(), 100)

    refused = client.post(reverse("onboarding:waitlist_enter", args=[waiting(market).pk]), follow=True)
    page = refused.content.decode()
    assert "Capacity follows funded demand" in page
    assert "benchmarks are free meanwhile" in page
    client.post(reverse("onboarding:waitlist_leave", args=[waiting(market).pk]))
    assert m.Admission.objects.get(node_class__party=market.providers[5]).state == "WITHDRAWN"


def test_a_bad_request_stands_beside_its_field_and_a_strangers_is_missing(market, enter):
    client, node_class = enter("fresh"), market.providers[5].node_classes.first()
    refused = ask(client, node_class, a_month_without_demand(), 32 * 744 + 1)
    assert refused.status_code == 422
    assert "at most all units in all hours of a month" in refused.content.decode()
    assert not m.Admission.objects.filter(node_class__party=market.providers[5]).exists()
    ask(client, node_class, a_month_without_demand(), 5)

    for act in ("enter", "leave"):
        path = reverse(f"onboarding:waitlist_{act}", args=[waiting(market).pk])
        assert enter("provider").post(path).status_code == 404
        assert enter("buyer").post(path).status_code == 404
    assert waiting(market).unit_hours == 5


def commit(client, act: str, **fields):
    return client.post(reverse("portal:commitments"), {"act": act} | fields)


def test_what_hurts_and_an_order_are_kept_from_their_pages(market, enter):
    client = enter("buyer")
    empty = client.get(reverse("portal:commitments")).content.decode()
    assert all(words in empty for words in ("Nothing stands", "No order and no grant", "No window between two"))

    needs = reverse("portal:needs")
    client.post(needs, {"segment": "enterprise", "pain": "Queues of a week.", "present_usd_per_year": "1440000",
                        "incumbent": "A hyperscaler"})  # fmt: skip
    commit(client, "line", kind="purchase_order", number="PO 9", limit_micros="5000", valid_until="2099-01-01")

    said, line = m.DemandStatement.objects.get(demand=None), m.FundingLine.objects.get()
    assert (said.party, said.present_usd_per_year) == (market.buyers[0], 1_440_000)
    assert (line.limit_micros, line.state) == (5_000 * USD, "PENDING")
    assert line.asked_by == "buyer@doors.example"
    assert "Queues of a week." in client.get(needs).content.decode()
    assert "Queues of a week." not in enter("other.buyer").get(needs).content.decode()
    assert client.post(needs, {"segment": "enterprise", "pain": ""}).status_code == 422
    page = client.get(reverse("portal:commitments")).content.decode()
    assert "$5,000.00 of $5,000.00 left" in page


def test_a_demand_stands_from_the_page_and_is_withdrawn_there(market, enter):
    client = enter("buyer")
    commit(
        client, "stand", reference="lasts", kind="divisible", accepted_classes=["H100-80"], quantity_units="2",
        price_limit_micros="2.40", cap_percent="7", zone_code="EU", tier_min="1", sla_code="99.5",
        starts_at=f"{NOW:%Y-%m-%d}", ends_at="2099-01-01", funding="escrow", number="",
        target_latency_p95_ms_max="20", target_repair_minutes_max="",
    )
    row = m.StandingDemand.objects.get()
    assert row.terms["sla_targets"] == {"latency_p95_ms_max": 20}
    assert "Latency, 95 % of the minutes: at most 20 ms" in client.get(reverse("portal:commitments")).content.decode()
    assert (row.price_limit_micros, row.renewal_cap_ppm, row.state) == (2_400_000, 70_000, "active")

    path = reverse("portal:standing_withdraw", args=[row.pk])
    assert enter("other.buyer").post(path).status_code == 404
    assert m.StandingDemand.objects.get().state == "active"
    client.post(path)
    assert m.StandingDemand.objects.get().state == "withdrawn"


def test_a_window_between_two_is_seen_by_those_two_alone(market, enter):
    client, provider = enter("buyer"), market.providers[0]
    commit(client, "pair", name="Us two", provider_slug=provider.slug, slots="24",
           starts_at=f"{NOW + timedelta(days=9):%Y-%m-%d}")  # fmt: skip
    window = m.Window.objects.get(kind="bilateral")
    path = reverse("portal:window", args=[window.pk])

    assert client.get(path).status_code == 200
    assert enter("other.buyer").get(path).status_code == 404
    for who, name, seen in (("buyer", "portal:windows", True), ("other.buyer", "portal:windows", False),
                            ("provider", "onboarding:bids", True), ("newcomer", "onboarding:bids", False),
                            (None, "market", False)):  # fmt: skip
        assert ("Us two" in enter(who).get(reverse(name)).content.decode()) == seen, (who, name)


def test_bad_commitments_write_nothing_and_stand_beside_their_field(market, enter):
    client = enter("buyer")
    bad = commit(client, "stand", reference="lasts", kind="divisible", accepted_classes=["H100-80"],
                 quantity_units="2", price_limit_micros="2.40", cap_percent="7", tier_min="1", sla_code="99.5",
                 starts_at="2099-01-02", ends_at="2099-01-01", funding="escrow")  # fmt: skip

    assert bad.status_code == 422
    assert "ends later than it starts" in bad.content.decode()
    contrary = commit(client, "stand", reference="lasts", kind="divisible", accepted_classes=["H100-80"],
                      quantity_units="2", price_limit_micros="2.40", cap_percent="7", tier_min="1", sla_code="99.5",
                      starts_at=f"{NOW:%Y-%m-%d}", ends_at="2099-01-01", funding="escrow",
                      target_latency_p50_ms_max="50", target_latency_p95_ms_max="20")  # fmt: skip
    assert contrary.status_code == 422
    assert list(contrary.context["form"].errors) == ["target_latency_p95_ms_max"]
    late = commit(client, "pair", name="Late", provider_slug=market.providers[0].slug, slots="24",
                  starts_at=f"{NOW:%Y-%m-%d}")  # fmt: skip
    assert late.status_code == 422
    for day in ("0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"):
        never = commit(client, "pair", name="Never", provider_slug=market.providers[0].slug, slots="24", starts_at=day)
        assert (never.status_code, "years 2000 to 2199" in never.content.decode()) == (422, True), day
    assert commit(client, "unknown").status_code == 404
    assert not m.StandingDemand.objects.exists()
    assert not m.Window.objects.filter(kind="bilateral").exists()


def test_a_demand_is_funded_by_what_the_page_names(market, enter):
    client = enter("buyer")
    demand = m.Demand.objects.filter(party=market.buyers[0], state="posted").first()
    path = reverse("portal:demand_fund", args=[demand.pk])

    refused = client.post(path, {"funding": "purchase_order", "number": "PO 1"}, follow=True)
    assert "no such purchase order or grant" in refused.content.decode()
    client.post(path, {"funding": "escrow", "number": ""})
    assert m.Demand.objects.get(pk=demand.pk).funding_kind == "escrow"


def demand_form(market, **changes):
    return {
        "window": market.collecting.pk, "reference": "legs", "kind": "divisible", "accepted_classes": ["H100-80"],
        "quantity_units": "6", "start_slot": "0", "end_slot": "24", "price_limit_micros": "2.40", "tier_min": "0",
        "sla_code": "99.0",
    } | changes  # fmt: skip


def test_an_order_is_spread_and_another_parted_on_the_form_and_each_leg_is_told_on_its_page(market, enter):
    client, path = enter("buyer"), reverse("portal:demand_new")

    spread = client.post(path, demand_form(market, share_percent="50"))
    assert [d.quantity_units for d in m.Demand.objects.filter(leg__role="spread")] == [3, 3]
    page = client.get(spread.headers["Location"]).content.decode()
    assert page.count("spread</span>") == 2
    client.post(path, demand_form(market, reference="parted", zone_code="EU", insensitive_units="2",
                                  fallback_venue="Central cloud"))  # fmt: skip
    legs = {d.leg.role: d for d in m.Demand.objects.filter(leg__role__endswith="sensitive").select_related("leg")}
    assert (legs["sensitive"].zone_id, legs["insensitive"].zone_id) == ("EU", None)
    page = client.get(reverse("portal:demand", args=[legs["sensitive"].pk])).content.decode()
    assert "Central cloud" in page
    assert "nowhere: it is not served" in page

    for wrong, field in (({"share_percent": "10"}, "share_percent"), ({"fallback_venue": "x"}, "share_percent"),
                         ({"insensitive_units": "6"}, "insensitive_units")):  # fmt: skip
        refused = client.post(path, demand_form(market, reference="wrong", **wrong))
        assert (refused.status_code, list(refused.context["form"].errors)) == (422, [field])
    assert not m.Demand.objects.filter(reference__startswith="wrong").exists()


def test_one_step_of_a_price_curve_is_changed_on_its_page_in_dollars(market, enter):
    client = enter("buyer")
    client.post(reverse("portal:demand_new"), demand_form(market, reference="steps", steps="3 1.80\n2 1.20"))
    middle = m.Demand.objects.get(reference="steps 2/3")
    path, page = reverse("portal:demand_step", args=[middle.pk]), reverse("portal:demand", args=[middle.pk])
    assert 'value="$1.80' in client.get(page).content.decode()

    client.post(path, {"quantity_units": "4", "price_limit_micros": "1.9001"})
    middle.refresh_from_db()
    assert (middle.quantity_units, middle.price_limit_micros) == (4, 1_900_100)
    for typed, why in (("2.40", "between those of its neighbours"), ("1.90011", "tick"),
                       ("1.9000001", "At most six decimals"), ("", "Price limit: ")):  # fmt: skip
        told = client.post(path, {"quantity_units": "4", "price_limit_micros": typed}, follow=True)
        assert why in told.content.decode()
    middle.refresh_from_db()
    assert middle.price_limit_micros == 1_900_100
    alone = m.Demand.objects.filter(party=market.buyers[0], state="posted", leg=None).first()
    assert "Change this step" not in client.get(reverse("portal:demand", args=[alone.pk])).content.decode()
    stranger = enter("provider").post(path, {"quantity_units": "1", "price_limit_micros": "1.90"})
    assert stranger.status_code in (403, 404)


def test_rules_that_no_country_meets_are_told_with_the_one_that_removes_most(market, enter):
    with behind_the_triggers():
        m.DataClass.objects.filter(pk="restricted").update(zone="CH")
    refused = enter("buyer").post(reverse("portal:demand_new"), demand_form(
        market, zone_code="EU", data_class="restricted"))  # fmt: skip

    assert refused.status_code == 422
    assert "No country meets these rules together; data class restricted, which stays in CH removes most" in (
        refused.content.decode())  # fmt: skip
    assert list(refused.context["form"].errors) == ["data_class"]
    assert not m.Demand.objects.filter(reference="legs").exists()


def test_invoices_and_prices_are_read_by_their_buyer_alone(market, enter):
    client = enter("buyer")
    assert "No invoice yet" in client.get(reverse("portal:invoices")).content.decode()
    assert m.Lease.objects.filter(buyer=market.buyers[0]).first().demand.reference in (
        client.get(reverse("portal:prices")).content.decode())  # fmt: skip
    issue_invoices(window=market.settled, now=NOW)
    mine = m.Invoice.objects.filter(party=market.buyers[0]).first()

    assert mine.number in client.get(reverse("portal:invoices")).content.decode()
    page = client.get(reverse("portal:invoice", args=[mine.pk]))
    assert "a charge that is no award is refused" in page.content.decode()
    assert enter("other.buyer").get(reverse("portal:invoice", args=[mine.pk])).status_code == 404
    assert mine.number not in enter("other.buyer").get(reverse("portal:invoices")).content.decode()


def test_an_invoice_of_an_order_shows_its_terms_and_its_tax(market, enter):
    buyer = market.buyers[0]
    began = NOW - timedelta(days=2)
    rule = propose_tax(country=buyer.country, rate_ppm=190_000, words="VAT of a fifth", valid_from=began, person="ann",
                       now=began - timedelta(days=1))  # fmt: skip
    approve_tax(rule_id=rule.pk, person="ben", now=began - timedelta(days=1))
    order = m.FundingLine.objects.create(
        id=uuid7(NOW), party=buyer, kind="purchase_order", number="PO 77", limit_micros=10**12, asked_by="a",
        asked_at=NOW, valid_until=NOW + timedelta(days=300))  # fmt: skip
    with behind_the_triggers():
        m.Demand.objects.filter(party=buyer, window=market.settled).update(
            funding_kind="purchase_order", funding_line=order)
    issue_invoices(window=market.settled, now=NOW)
    mine = m.Invoice.objects.get(party=buyer, window=market.settled)
    net = mine.amount_micros - mine.lines.get(kind="tax").amount_micros

    page = enter("buyer").get(reverse("portal:invoice", args=[mine.pk])).content.decode()
    assert mine.lines.get(kind="tax").amount_micros == (net * 19 + 50) // 100 > 0
    for words in ("PO 77", "30 days net", "VAT of a fifth", f"Name {mine.number} with your payment", "19.000 %"):
        assert words in page, words
    assert "its rated hours" in page


def test_the_fees_that_are_published_are_those_that_are_taken(market, enter):
    line = m.SettlementLine.objects.filter(fee_micros__gt=0, covered_micros=0).first()
    page = enter(None).get("/market/fees/").content.decode()

    assert "2.500 %" in page
    assert line.earned_micros * 250 // 10_000 - line.fee_micros in (-1, 0, 1)
    assert "30 days after it was issued" in page


def test_a_lease_shows_its_clauses_and_its_residency_is_taken_as_a_file(market, enter):
    client = enter("buyer")
    lease = m.Lease.objects.filter(buyer=market.buyers[0], window=market.settled, demand__zone="EU").first()
    page = client.get(reverse("portal:lease", args=[lease.pk])).content.decode()
    assert "Portability" in page
    assert "without egress fee" in page

    path = reverse("portal:lease_residency", args=[lease.pk])
    assert enter("other.buyer").post(path).status_code == 404
    answer = client.post(path)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.json()["rules"]["zone"]["code"] == "EU"
    assert client.get(path).status_code == 405
