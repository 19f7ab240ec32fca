"""The waitlist of a provider, and what a buyer commits: typed in pages, said by the services."""

from __future__ import annotations

from datetime import date, timedelta

from django.urls import reverse

from marketplace import models as m
from marketplace.supply.admissions import delivery_month
from tests.doors.factories import NOW, USD


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


def test_a_need_and_an_order_are_kept_from_the_page(market, enter):
    client = enter("buyer")
    empty = client.get(reverse("portal:commitments")).content.decode()
    assert all(words in empty for words in ("Nothing stands", "No order and no grant", "No window between two"))

    commit(client, "need", pain="Queues of a week.", spend_micros="120,000", supplier="A hyperscaler")
    commit(client, "line", kind="purchase_order", number="PO 9", limit_micros="5000", valid_until="2099-01-01")

    need, line = m.Need.objects.get(), m.FundingLine.objects.get()
    assert (need.spend_micros, line.limit_micros, line.state) == (120_000 * USD, 5_000 * USD, "PENDING")
    assert line.asked_by == "buyer@doors.example"
    page = client.get(reverse("portal:commitments")).content.decode()
    assert "Queues of a week." in page
    assert "$5,000.00 of $5,000.00 left" in page


def test_a_demand_stands_from_the_page_and_is_withdrawn_there(market, enter):
    client = enter("buyer")
    commit(
        client, "stand", reference="lasts", kind="divisible", accepted_classes=["H100-80"], quantity_units="2",
        price_limit_micros="2.40", cap_percent="7", zone_code="EU", tier_min="1", sla_code="99.5",
        starts_at=f"{NOW:%Y-%m-%d}", ends_at="2099-01-01", funding="escrow", number="",
    )
    row = m.StandingDemand.objects.get()
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
    late = commit(client, "pair", name="Late", provider_slug=market.providers[0].slug, slots="24",
                  starts_at=f"{NOW:%Y-%m-%d}")  # fmt: skip
    assert late.status_code == 422
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
