"""A buyer sees how many providers could serve its demand and which rule keeps most out; counts, and no names."""

from __future__ import annotations

from django.urls import reverse

from marketplace import models as m
from marketplace.clearing.feasibility import RULES, feasibility_of


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
    from tests.doors.factories import seat

    client.force_login(seat(market.buyers[0], "who@doors.example"))
    demand = collected(market)
    found = feasibility_of(demand)

    page = client.get(reverse("portal:demand", args=[demand.pk])).content.decode()
    assert f"{found.proven} proven provider" in page
    assert "Evidence, not legal advice" in page
    old = m.Demand.objects.filter(party=market.buyers[0], window=market.settled).first()
    assert "Who could serve it" not in client.get(reverse("portal:demand", args=[old.pk])).content.decode()
