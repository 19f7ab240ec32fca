"""Who could serve a demand, worked out by hand for six providers: each rule keeps out exactly whom it should."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.clearing.feasibility import Feasibility, feasibility_of, foresee_order
from marketplace.compliance.agreements import propose_agreement, sign_agreement
from marketplace.compliance.incidents import open_incident
from marketplace.compliance.papers import Paper
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import PriceOffTick
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")
OPEN = {
    "accepted_classes": ["A100", "H100"], "zone": None, "control_zone": None, "tier_min": 0, "required_controls": [],
    "data_class": None, "purpose": None, "vantage": None, "latency_ms_max": None,
}  # fmt: skip
ALL = 6  # granite, basalt, harbour, prairie, fjord and sprout


def found(buyer: str = "birch", **rules: Any) -> Feasibility:
    """What is told of a demand with these rules and no others; nothing of it is kept."""
    reference = {"birch": "climate", "alder": "genome"}[buyer]
    demand = world.demand(reference)
    for name, value in {**OPEN, **rules}.items():
        setattr(demand, name, value)
    return feasibility_of(demand)


def proven() -> int:
    return m.Standing.objects.filter(state="PROVEN").count()


def test_without_a_rule_everybody_can_and_the_unproven_wait() -> None:
    assert 0 < proven() < ALL
    assert found() == Feasibility(proven(), ALL - proven(), "", 0, {})


@pytest.mark.parametrize(("rules", "failing"), [
    ({"accepted_classes": ["A100"]}, {"class": 5}), ({"accepted_classes": ["H100"]}, {"class": 1}),
    ({"tier_min": 1}, {}), ({"tier_min": 2}, {"tier": 4}), ({"tier_min": 3}, {"tier": 6}),
    ({"required_controls": ["no-such-control"]}, {"controls": 6}),
])  # fmt: skip
def test_a_rule_keeps_out_whom_it_should_and_is_named(rules: dict[str, Any], failing: dict[str, int]) -> None:
    told = found(**rules)

    assert told.failing == failing
    assert told.proven + told.waiting == ALL - sum(failing.values())
    rule, removes = next(iter(failing.items()), ("", 0))
    assert (told.rule, told.removes) == (rule, removes)
    assert bool(told.rule_words) is bool(rule)
    assert len(told.failing_words) == len(failing)


def test_a_zone_is_where_machines_stand_on_the_first_day_of_the_window() -> None:
    eu = m.Zone.objects.get(pk="EU")
    assert found(zone=eu).failing == {"zone": 1}
    m.ZoneMember.objects.create(zone=eu, country="US", valid_from=world.window().starts_at.date())
    assert found(zone=eu).failing == {}


def test_control_is_where_owner_operator_and_keys_sit_and_is_shown_by_evidence() -> None:
    eu = m.Zone.objects.get(pk="EU")
    assert found(control_zone=eu).failing == {"control_zone": 1}
    sites = m.Site.objects.filter(party__slug__in=("granite", "harbour"))
    with behind_the_triggers():
        sites.filter(party__slug="granite").update(keys_country="US")
        sites.filter(party__slug="harbour").update(operator_country="US")
        m.Party.objects.filter(slug="fjord").update(parent_country="US")
    assert found(control_zone=eu).failing == {"control_zone": 4, "control_evidence": 3}
    assert found().failing == {}
    with behind_the_triggers():
        sites.update(keys_country="FR", operator_country="FR")
    assert found(control_zone=eu).failing["control_evidence"] >= 2  # one of them is German by its papers


def test_papers_hold_through_the_whole_window() -> None:
    window = world.window()
    with behind_the_triggers():
        m.Evidence.objects.filter(party__slug="granite").update(valid_until=window.ends_at - timedelta(hours=1))
    assert found(tier_min=2).failing == {"tier": 5}
    with behind_the_triggers():
        m.Evidence.objects.filter(party__slug="granite").update(valid_until=window.ends_at)
    assert found(tier_min=2).failing == {"tier": 4}


def test_data_asks_for_its_further_controls_and_for_an_agreement_of_that_purpose() -> None:
    health = m.DataClass.objects.get(pk="regulated-health")
    health.controls = ["no-such-control"]
    assert found("alder", data_class=health, purpose="research").failing == {"controls": 6, "agreement": 6}
    health.controls = []
    assert found("alder", data_class=health, purpose="research").failing == {"agreement": 6}
    now = clock.now()
    seats = [make_seat(party=world.party(slug), email=f"o@{slug}.example", password=None, role="owner", now=now)
             for slug in ("alder", "granite")]  # fmt: skip
    row = propose_agreement(seat=seats[0], other=world.party("granite"), control_code="baa", purposes=["research"],
                            paper=Paper("baa.pdf", b"%PDF", now, world.day(300)), now=now)  # fmt: skip
    for each in seats:
        sign_agreement(agreement=row, seat=each, title="Director", now=now)

    assert found("alder", data_class=health, purpose="research").failing == {"agreement": 5}
    assert found("alder", data_class=health, purpose="training").failing == {"agreement": 6}
    assert found("birch", data_class=health, purpose="research").failing == {"agreement": 6}


def test_a_round_trip_is_that_from_the_named_vantage_and_one_that_nobody_measured_is_too_long() -> None:
    ams = m.Vantage.objects.get(pk="ams")
    far = m.Vantage.objects.create(code="far", city="Far", country="US", lat=0, lon=0)
    for site in m.Site.objects.order_by("pk"):
        m.SiteLatency.objects.create(site=site, vantage=far, rtt_ms_p95=1, method="bounded")
    assert found(vantage=ams, latency_ms_max=12).failing == {"latency": 4}
    m.SiteLatency.objects.filter(vantage=ams, site__party__slug="granite").delete()
    assert found(vantage=ams, latency_ms_max=12).failing == {"latency": 5}
    assert found(vantage=far, latency_ms_max=12).failing == {}


def test_nobody_serves_its_own_owner_and_who_is_frozen_serves_nobody() -> None:
    demand = world.demand("climate")
    for name, value in OPEN.items():
        setattr(demand, name, value)
    demand.party = world.party("harbour")
    assert feasibility_of(demand).failing == {"owner": 1}
    now = clock.now()
    open_incident(seat=reviewer_seat(now), title="Keys were seen elsewhere", party=world.party("granite"), freeze=True,
                  discovered_at=now - timedelta(hours=1), reason="to be looked into", now=now)  # fmt: skip
    assert found().failing == {"incident": 1}


def test_a_rule_gains_only_those_that_it_alone_keeps_out() -> None:
    """Granite and prairie break the class alone, fjord the tier alone, and the other three both."""
    told = found(accepted_classes=["A100"], tier_min=2)

    assert told.failing == {"class": 5, "tier": 4}
    assert (told.rule, told.removes) == ("class", 2)


def test_what_left_service_is_not_counted() -> None:
    with behind_the_triggers():
        m.NodeClass.objects.filter(party__slug="harbour").update(retired_at=clock.now())
        m.Site.objects.filter(party__slug="fjord").update(retired_at=clock.now())

    told = found()
    assert told.proven + told.waiting == ALL - 2


def give_second_class(slug: str, number: int) -> m.NodeClass:
    """A class of A100 beside the one of H100: enrolled for tier 2, and proven by nobody."""
    own = world.node_class(slug)
    standing, old = own.standing, own.pk
    with behind_the_triggers():
        own.pk = own.id = uuid7(clock.now())
        own.resource_class_id, own.tier, own.chain_class, own.machine_key = "A100", 2, 10**9 + number, None
        own.save(force_insert=True)
        standing.pk, standing.node_class, standing.state = own.pk, own, "REGISTERED"
        standing.save(force_insert=True)
    return m.NodeClass.objects.get(pk=old)


def test_of_several_classes_one_is_enough_and_each_rule_is_judged_over_all_of_them() -> None:
    """Of harbour's two classes the one breaks the class alone, the other the tier alone."""
    first = give_second_class("harbour", 1)
    with behind_the_triggers():
        m.NodeClass.objects.filter(pk=first.pk).update(tier=0)

    assert found().waiting == ALL - proven()  # its proven class decides
    told = found(accepted_classes=["H100"], tier_min=1)
    assert told.failing == {"class": 1}  # fjord; of harbour one class keeps the class rule and one the tier
    assert (told.rule, told.removes) == ("class", 2)


def test_who_can_serve_already_or_waits_is_no_gain_of_a_rule() -> None:
    for number, slug in enumerate(("harbour", "sprout"), 1):  # the one is proven, the other waits
        give_second_class(slug, number)

    told = found(accepted_classes=["H100"])
    assert (told.proven, told.waiting) == (proven() - 1, ALL - proven())
    assert (told.rule, told.removes) == ("class", 1)  # fjord alone


def test_an_order_is_foreseen_demand_by_demand_and_nothing_of_it_is_kept() -> None:
    party = world.party("birch")
    seat = make_seat(party=party, email="o@birch.example", password=None, role="owner", now=clock.now())
    terms: dict[str, Any] = {
        "party": party, "window": world.window(), "reference": "look", "kind": "divisible", "quantity_units": 8,
        "accepted_classes": ["H100"], "start_slot": 0, "end_slot": 10, "price_limit_micros": 1_000_000,
        "sla_code": "99.0", "zone_code": "EU", "seat": seat, "now": clock.now(),
    }  # fmt: skip
    with untouched():
        ((role, whole),) = foresee_order(**terms)
        two = foresee_order(**terms, insensitive_units=3)
    assert (role, whole.failing) == ("", {"class": 1, "zone": 1})
    assert [(bool(role), told.failing) for role, told in two] == [(True, {"class": 1, "zone": 1}), (True, {"class": 1})]
    with refused(PriceOffTick):
        foresee_order(**terms | {"price_limit_micros": 1_000_050})
