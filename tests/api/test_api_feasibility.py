"""A buyer sees how many providers could serve its demand and which rule keeps most out; counts, and no names."""

from __future__ import annotations

import pytest
from django.urls import reverse

from marketplace import models as m
from marketplace.clearing.feasibility import RULES, feasibility_of
from tests.doors.factories import seat
from tests.owner import behind_the_triggers


def collected(market) -> m.Demand:
    return m.Demand.objects.filter(party=market.buyers[0], window=market.collecting).exclude(state="withdrawn")[0]


def test_the_api_tells_counts_and_a_stranger_nothing(market, buyer, other_buyer):
    demand = collected(market)
    path = f"/demands/dem_{demand.pk.hex}/feasibility"

    reply = buyer.get(path)

    found = feasibility_of(demand)
    assert reply.json() == {"proven": found.proven, "waiting": found.waiting, "rule": found.rule,
                            "removes": found.removes, "failing": found.failing}  # fmt: skip
    assert found.proven + found.waiting <= len(market.providers)
    assert set(found.failing) <= set(RULES)
    assert not [party.name for party in market.providers if party.name.encode() in reply.content]
    assert other_buyer.get(path).status_code == 404
    assert buyer.get(path, more="1").status_code == 400


def test_a_dry_run_tells_it_before_anything_is_posted(market, buyer, demand_body, counts):
    before = counts()
    foreseen = buyer.post("/demands?dry_run=true", demand_body).json()["would_be"]["feasibility"]
    assert counts() == before

    posted = buyer.post("/demands", demand_body).json()
    assert "feasibility" not in posted
    assert buyer.get(f"/demands/{posted['id']}/feasibility").json() == foreseen


def demand_form(market, **changes):
    return {
        "window": str(market.collecting.pk), "reference": "Look first", "kind": "divisible",
        "accepted_classes": ["H100-80"], "quantity_units": "16", "start_slot": "0", "end_slot": "24",
        "price_limit_micros": "2.40", "tier_min": "0", "sla_code": "99.0", **changes,
    }  # fmt: skip


def test_the_form_shows_it_before_posting_and_writes_nothing(market, client, counts):
    client.force_login(seat(market.buyers[0], "who@doors.example"))
    path = reverse("portal:demand_new")
    client.get(path)
    before = counts()

    looked = client.post(path, demand_form(market, act="look"))
    page = looked.content.decode()
    two = client.post(path, demand_form(market, act="look", insensitive_units="4", zone_code="EU")).content.decode()
    assert counts() == before
    posted = client.post(path, demand_form(market))
    demand = m.Demand.objects.get(reference="Look first")
    found = feasibility_of(demand)

    assert (looked.status_code, posted.status_code) == (200, 302)
    assert f"{found.proven} proven provider" in page
    assert 'value="Look first"' in page  # what was typed stays
    assert two.count("Who could serve it") == 2
    assert "Demand 2" in two


@pytest.mark.parametrize("act", ["look", "post"])
def test_rules_that_contradict_each_other_are_told_beside_their_field_at_entry(market, client, counts, act):
    client.force_login(seat(market.buyers[0], "who@doors.example"))
    with behind_the_triggers():
        m.DataClass.objects.filter(pk="restricted").update(zone="CH")
    before = counts()
    form = demand_form(market, act=act, zone_code="EU", data_class="restricted")

    page = client.post(reverse("portal:demand_new"), form)

    assert page.status_code == 422
    assert "contradictory_rules" in page.content.decode()
    assert counts() == before


def test_taking_the_named_rule_away_lets_in_as_many_as_it_said(market):
    demand = collected(market)
    demand.accepted_classes, demand.tier_min = [row.resource_class_id for row in market.classes], 3

    before = feasibility_of(demand)
    assert (before.rule, before.removes > 0) == ("tier", True)
    demand.tier_min = 0
    after = feasibility_of(demand)

    assert after.proven + after.waiting == before.proven + before.waiting + before.removes
    assert after.rule != "tier"


def test_the_demands_page_shows_it_while_demand_is_collected(market, buyer, client):
    client.force_login(seat(market.buyers[0], "who@doors.example"))
    demand = collected(market)
    found = feasibility_of(demand)

    page = client.get(reverse("portal:demand", args=[demand.pk])).content.decode()
    assert f"{found.proven} proven provider" in page
    assert "Evidence, not legal advice" in page
    old = m.Demand.objects.filter(party=market.buyers[0], window=market.settled).first()
    assert "Who could serve it" not in client.get(reverse("portal:demand", args=[old.pk])).content.decode()
