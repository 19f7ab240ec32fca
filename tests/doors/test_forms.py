"""Forms: what is typed becomes integers, and a typed refusal stands beside its field with nothing written."""

from __future__ import annotations

import re

import pytest
from django import forms
from django.urls import reverse

from marketplace import models as m
from marketplace.doors import bytes_from_text, micros_from_text
from marketplace.errors import BadInput
from marketplace.escrow.selectors import money_of
from marketplace.templatetags.grove import usd
from tests.sealed import own_bid


def demand_of(market, **changes) -> dict:
    terms = {
        "window": market.collecting.pk, "reference": "FORM-1", "kind": "divisible", "accepted_classes": ["H100-80"],
        "quantity_units": "8", "start_slot": "0", "end_slot": "24", "price_limit_micros": "2.40", "zone_code": "EU",
        "control_zone_code": "", "tier_min": "1", "sla_code": "99.5", "vantage_code": "", "latency_ms_max": "",
        "minimum_units": "", "choice": "",
    }  # fmt: skip
    return terms | changes


def bid_of(market, window, **changes) -> dict:
    node_class = market.providers[0].node_classes.first()
    terms = {
        "window": window.pk, "node_class": node_class.pk, "reference": "FORM-B", "quantity_units": "4",
        "start_slot": "0", "end_slot": "24", "price_ask_micros": "1.20", "sla_code": "99.5",
    }  # fmt: skip
    return terms | changes


@pytest.mark.parametrize(
    ("text", "micros"), [("1.94", 1_940_000), ("$1,200.5", 1_200_500_000), (".5", 500_000), ("3", 3_000_000),
                        ("1,050", 1_050_000_000), ("1,234,567.89", 1_234_567_890_000), ("1,000.", 1_000_000_000)]
)
def test_dollars_become_integer_micro_usd(text, micros):
    assert micros_from_text(text) == micros


@pytest.mark.parametrize("text", ["", "1.2.3", "1e3", "-1", "1.0000001", "nan", "٣", "1" * 20])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(forms.ValidationError):
        micros_from_text(text)


@pytest.mark.parametrize("text", ["1,5", "10,50", "$1,5", "1.234,56", "1,2345", "1,23,456", ",5", "1,", "1,,000",
                                  "1234,567", "1 234,50", "0.1,000"])  # fmt: skip
def test_a_comma_that_parts_no_thousands_is_refused_and_never_dropped(text):
    with pytest.raises(forms.ValidationError, match="comma only parts thousands"):
        micros_from_text(text)
    with pytest.raises(BadInput, match="comma only parts thousands"):
        bytes_from_text(text.removeprefix("$"))


def test_less_than_a_cent_is_shown_whole():
    assert [usd(micros) for micros in (1, 500, 9_990, -1, 0, 10_000, 1_940_000)] == [
        "$0.000001", "$0.0005", "$0.00999", "-$0.000001", "$0.00", "$0.01", "$1.94"]  # fmt: skip


def test_a_block_in_one_site_and_a_minimum_are_posted_from_the_page(market, enter):
    client = enter("buyer")

    client.post(reverse("portal:demand_new"), demand_of(market, kind="block", is_one_site="on", choice="night or day"))
    client.post(reverse("portal:demand_new"), demand_of(market, reference="FORM-2", kind="window", minimum_units="3"))

    block, window = m.Demand.objects.get(reference="FORM-1"), m.Demand.objects.get(reference="FORM-2")
    assert (block.kind, block.is_one_site, block.choice) == ("block", True, "night or day")
    assert (window.kind, window.minimum_units, window.is_one_site) == ("window", 3, False)
    page = client.get(reverse("portal:demand", args=[block.pk])).content.decode()
    assert "all or nothing, in one site" in page
    assert "at most one of “night or day”" in page


@pytest.mark.parametrize(("change", "field"), [
    ({"minimum_units": "9", "kind": "window"}, "minimum_units"), ({"minimum_units": "2"}, "minimum_units"),
    ({"choice": "either"}, "choice"), ({"is_one_site": "on"}, "is_one_site"),
])  # fmt: skip
def test_a_whole_that_cannot_be_is_refused_beside_its_field(market, enter, change, field):
    reply = enter("buyer").post(reverse("portal:demand_new"), demand_of(market, **change))

    assert reply.status_code == 422
    assert field in reply.context["form"].errors
    assert not m.Demand.objects.filter(reference="FORM-1").exists()


def test_a_bid_with_a_minimum_is_sealed_from_the_page(market, enter):
    client = enter("provider")

    refused = client.post(reverse("onboarding:bid_new"), bid_of(market, market.bidding, minimum_units="5"))
    sealed = client.post(reverse("onboarding:bid_new"), bid_of(market, market.bidding, minimum_units="1"))

    assert refused.status_code == 422
    assert "minimum_units" in refused.context["form"].errors
    bids = m.Bid.objects.filter(party=market.providers[0], reference="FORM-B")
    if sealed.status_code == 302:
        assert own_bid(pk=bids.get().pk).minimum_units == 1
        assert "at least 1 or none" in client.get(reverse("onboarding:bids")).content.decode()


def test_a_demand_is_posted_funded_and_withdrawn_from_the_pages(market, enter):
    client, before = enter("buyer"), money_of(market.buyers[0])

    reply = client.post(reverse("portal:demand_new"), demand_of(market))
    demand = m.Demand.objects.get(party=market.buyers[0], reference="FORM-1")
    assert reply.headers["Location"] == reverse("portal:demand", args=[demand.pk])
    assert (demand.price_limit_micros, demand.zone_id, demand.tier_min) == (2_400_000, "EU", 1)

    for _ in range(2):  # a double click is one hold
        client.post(reverse("portal:demand_fund", args=[demand.pk]))
    assert money_of(market.buyers[0]).available_micros == before.available_micros - demand.hold_micros

    client.post(reverse("portal:demand_withdraw", args=[demand.pk]))
    assert money_of(market.buyers[0]) == before


def test_the_same_form_twice_is_one_demand(market, enter):
    client = enter("buyer")

    first = client.post(reverse("portal:demand_new"), demand_of(market))
    again = client.post(reverse("portal:demand_new"), demand_of(market))

    assert first.headers["Location"] == again.headers["Location"]
    other = client.post(reverse("portal:demand_new"), demand_of(market, quantity_units="9"))
    assert other.status_code == 422
    assert "reference_reused" in other.content.decode()
    assert m.Demand.objects.filter(party=market.buyers[0], reference="FORM-1").count() == 1


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"price_limit_micros": "2.40005"}, "id_price_limit_micros", "price_off_tick"),
        ({"price_limit_micros": "5000"}, "id_price_limit_micros", "price_out_of_range"),
        ({"quantity_units": str(2**21)}, "id_quantity_units", "quantity_out_of_range"),
        ({"end_slot": "900"}, "id_end_slot", "bad_slots"),
        ({"start_slot": "30"}, "id_end_slot", "bad_slots"),
        ({"latency_ms_max": "20"}, "id_vantage_code", "bad_input"),
    ],
)
def test_a_refusal_stands_beside_its_field_and_nothing_is_written(changes, field, code, market, enter):
    reply = enter("buyer").post(reverse("portal:demand_new"), demand_of(market, **changes))

    body = reply.content.decode()
    assert reply.status_code == 422
    assert f'id="{field}_error"' in body
    assert f'href="#{field}"' in body
    assert code in body.split(f'id="{field}_error"')[1].split("</div>")[0]
    assert not m.Demand.objects.filter(reference="FORM-1").exists()


def test_a_missing_answer_is_named_in_the_summary_that_takes_focus(market, enter):
    body = enter("buyer").post(reverse("portal:demand_new"), {}).content.decode()

    assert 'role="alert" tabindex="-1" autofocus' in body
    assert "This field is required" in body


def test_demand_without_money_is_not_funded(market, enter):
    terms = demand_of(market, quantity_units="90000", end_slot="168")
    client = enter("buyer")
    reply = client.post(reverse("portal:demand_new"), terms)

    page = client.post(reply.headers["Location"] + "fund/", follow=True).content.decode()

    assert "not_funded" in page
    assert "short" in page
    assert m.Demand.objects.get(reference="FORM-1").state == "posted"


def test_a_bid_before_funded_demand_is_refused_with_the_sentence(market, enter):
    client = enter("provider")
    early = client.post(reverse("onboarding:bid_new"), bid_of(market, market.collecting))
    assert early.status_code == 422
    assert "demand_first" in early.content.decode()
    assert not m.Bid.objects.filter(reference="FORM-B").exists()

    assert client.post(reverse("onboarding:bid_new"), bid_of(market, market.bidding)).status_code == 302

    bid = m.Bid.objects.get(reference="FORM-B")
    assert (bid.state, bid.price_ask_micros, own_bid(pk=bid.pk).price_ask_micros) == ("sealed", None, 1_200_000)
    client.post(reverse("onboarding:bid_withdraw", args=[bid.pk]))
    bid.refresh_from_db()
    assert bid.state == "withdrawn"


def test_a_foreign_node_class_cannot_be_offered(market, enter):
    foreign = market.providers[2].node_classes.first()

    reply = enter("provider").post(reverse("onboarding:bid_new"), bid_of(market, market.bidding, node_class=foreign.pk))

    assert reply.status_code == 422
    assert not m.Bid.objects.filter(reference="FORM-B").exists()


def test_a_form_without_its_token_is_refused(market):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(m.User.objects.get(email="buyer@doors.example"))

    assert client.post(reverse("portal:demand_new"), demand_of(market)).status_code == 403
    assert not m.Demand.objects.filter(reference="FORM-1").exists()


def test_a_box_to_tick_looks_like_one_wherever_it_stands(enter):
    provider, buyer = enter("provider"), enter("buyer")
    for page in (provider.get(reverse("onboarding:capacity")), buyer.get(reverse("portal:demand_new")),
                 buyer.get(reverse("portal:keys")), buyer.get(reverse("portal:approvals"))):  # fmt: skip
        boxes = re.findall(r'<label for="[^"]+"><input type="checkbox"[^>]*>', page.content.decode())

        assert boxes
        assert len(boxes) == page.content.count(b'type="checkbox"')
        assert not [box for box in boxes if "form-control" in box]
