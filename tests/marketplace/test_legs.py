"""One order as several demands: the buyer's cap on one provider holds in the awards, and no sensitive leg leaves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace import clock
from marketplace import models as m
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.demand.legs import leg_sizes, legs_with, post_parted, post_spread
from marketplace.demand.services import fund_demand, withdraw_demand
from marketplace.errors import BadInput, QuantityOutOfRange
from marketplace.insights.legs import legs_report
from marketplace.parties.services import make_seat
from marketplace.spending.services import set_spending_rule
from pricing.verify import verify_bundle
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")


def spread(**changes: Any) -> list[m.Demand]:
    terms: dict[str, Any] = {
        "party": world.party("birch"), "window": world.window(), "reference": "spread", "kind": "divisible",
        "accepted_classes": ["H100"], "quantity_units": 6, "start_slot": 0, "end_slot": 10,
        "price_limit_micros": 2_500_000, "sla_code": "99.0", "provider_share_max_ppm": 500_000, "now": clock.now(),
    }  # fmt: skip
    return post_spread(**terms | changes)


def part(**changes: Any) -> list[m.Demand]:
    terms: dict[str, Any] = {
        "party": world.party("birch"), "window": world.window(), "reference": "parted", "kind": "divisible",
        "accepted_classes": ["H100"], "quantity_units": 6, "insensitive_units": 2, "start_slot": 0, "end_slot": 10,
        "price_limit_micros": 2_500_000, "sla_code": "99.0", "zone_code": "EU", "tier_min": 1,
        "fallback_venue": "Central cloud, any region", "now": clock.now(),
    }  # fmt: skip
    return post_parted(**terms | changes)


def fund(legs: list[m.Demand]) -> None:
    climate = world.demand("climate")
    if climate.state == "funded":
        withdraw_demand(demand=climate, party=climate.party, now=clock.now())
    for leg in legs:
        fund_demand(demand=leg, party=leg.party, now=clock.now())


def clear() -> m.Clearing:
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    world._bid(world.window(), world.OFFERS)
    close_bidding(window=world.window(), now=clock.move_to(world.window().bidding_closes_at))
    return clear_window(window=world.window(), now=clock.now())


def served(legs: list[m.Demand]) -> dict[str, int]:
    """Unit-hours by the last owner of whoever serves any leg."""
    found: dict[str, int] = {}
    for award in m.Award.objects.filter(demand__in=legs).select_related("bid__party__parent"):
        hours = award.units * (award.end_slot - award.start_slot)
        found[award.bid.party.owner_key] = found.get(award.bid.party.owner_key, 0) + hours
    return found


@given(st.integers(1, 2**20), st.integers(1, 999_999))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_no_leg_is_larger_than_the_cap_and_together_they_are_the_order(quantity: int, share_ppm: int) -> None:
    most = quantity * share_ppm // 1_000_000
    if most < 1 or -(-quantity // most) > 20:
        with pytest.raises(QuantityOutOfRange):
            leg_sizes(quantity, share_ppm)
        return
    sizes = leg_sizes(quantity, share_ppm)

    assert sum(sizes) == quantity
    assert max(sizes) * 1_000_000 <= quantity * share_ppm
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == 1 or (len(sizes) - 1) * most < quantity  # no leg too many


def test_the_cap_holds_in_the_awards_and_the_published_script_sees_it() -> None:
    legs = spread()
    fund(legs)
    clearing = clear()

    found, asked = served(legs), sum(leg.unit_hours for leg in legs)
    assert found
    assert max(found.values()) * 2 <= asked
    files = {row.name: bytes(row.body) for row in clearing.files.all()}
    assert verify_bundle(files).ok
    assert files["requirements.jsonl"].count(b'"s-') == len(legs)  # each leg asks for the owners dealt to it
    with untouched():
        assert spread_again() == legs


def spread_again() -> list[m.Demand]:
    return [leg.demand for leg in legs_with(m.Demand.objects.get(reference="spread 1/2"))]


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 6))])
def test_whatever_the_order_no_owner_serves_more_than_its_share(seed: int) -> None:
    """Random quantities, caps and owners, sybil children under one parent among them."""
    draw = random.Random(seed)
    quantity, share = draw.randint(2, 12), draw.choice([200_000, 250_000, 334_000, 500_000, 700_000])
    if quantity * share < 1_000_000:
        quantity = -(-1_000_000 // share)
    children = draw.sample(["granite", "basalt", "harbour", "prairie"], draw.randint(0, 3))
    if children:
        with behind_the_triggers():
            m.Party.objects.filter(slug__in=children[1:]).update(parent=world.party(children[0]))
    legs = spread(quantity_units=quantity, provider_share_max_ppm=share, price_limit_micros=2_500_000,
                  end_slot=draw.randint(1, 10), reference=f"spread {seed}")  # fmt: skip
    fund(legs)
    clearing = clear()

    asked = sum(leg.unit_hours for leg in legs)
    assert all(hours * 1_000_000 <= share * asked for hours in served(legs).values())
    assert verify_bundle({row.name: bytes(row.body) for row in clearing.files.all()}).ok


def test_the_database_lets_no_owner_serve_two_legs() -> None:
    legs = spread()
    fund(legs)
    clear()
    award = m.Award.objects.filter(demand__in=legs).first()
    assert award is not None
    other = next(leg for leg in legs if leg.pk != award.demand_id)
    mine = award.demand

    award.pk, award.demand = other.pk, other
    with pytest.raises(IntegrityError, match="award_keeps_the_cap_on_one_provider"), transaction.atomic():
        award.save(force_insert=True)
    award.demand, award.pk = mine, mine.pk
    with behind_the_triggers():
        m.Backup.objects.filter(award__demand=mine).delete()
        m.Award.objects.filter(demand=mine, bid=award.bid).delete()
    with transaction.atomic():
        award.save(force_insert=True)


@pytest.mark.parametrize(("changes", "kind", "field"), [
    ({"provider_share_max_ppm": 0}, BadInput, "provider_share_max_ppm"),
    ({"provider_share_max_ppm": 1_000_000}, BadInput, "provider_share_max_ppm"),
    ({"provider_share_max_ppm": 0.5}, BadInput, "provider_share_max_ppm"),
    ({"provider_share_max_ppm": 100_000}, QuantityOutOfRange, "provider_share_max_ppm"),
    ({"kind": "block"}, BadInput, "kind"), ({"kind": "window", "minimum_units": 2}, BadInput, "minimum_units"),
    ({"kind": "window", "is_one_site": True}, BadInput, "is_one_site"), ({"reference": ""}, BadInput, "reference"),
])  # fmt: skip
def test_what_cannot_be_spread_is_refused_with_its_field(changes: dict, kind: type[Exception], field: str) -> None:
    with refused(kind, field=field):
        spread(**changes)


def test_an_order_is_not_cut_below_the_threshold_of_approval() -> None:
    birch = world.party("birch")
    owner = make_seat(party=birch, email="owner@birch.example", password=None, role="owner", now=clock.now())
    hold = 6 * 10 * 2_500_000
    set_spending_rule(seat=owner, threshold_micros=hold - 1, approvals_needed=1, needs_purchase_order=False,
                      now=clock.now())  # fmt: skip
    with refused(BadInput, field="quantity_units", hold_micros=hold):
        spread()
    set_spending_rule(seat=owner, threshold_micros=1, approvals_needed=1, needs_purchase_order=False, now=clock.now())

    assert [leg.state for leg in spread()] == ["pending", "pending"]


def test_each_leg_went_where_it_may_and_no_sensitive_one_left() -> None:
    legs = part()
    sensitive, insensitive = legs
    assert (sensitive.zone_id, sensitive.tier_min, insensitive.zone_id, insensitive.tier_min) == ("EU", 1, None, 0)
    fund(legs)
    clear()

    report = {each.leg.role: each for each in legs_report(sensitive)}

    assert list(report) == ["sensitive", "insensitive"]
    assert all(each.stayed for each in report.values())
    assert {place.country for place in report["sensitive"].places} <= {"DE", "FR", "IT"}
    assert {place.country for place in report["insensitive"].places} == {"US"}  # the cheapest by far
    assert [each.rest for each in report.values()] == [
        leg.unit_hours - sum(a.units * (a.end_slot - a.start_slot) for a in leg.awards.all()) for leg in legs
    ]  # fmt: skip


def test_what_is_not_served_goes_to_the_fallback_and_of_a_sensitive_leg_nowhere() -> None:
    legs = part(price_limit_micros=100)  # nobody sells for that
    fund(legs)
    clear()

    sensitive, insensitive = legs_report(legs[0])

    assert (sensitive.rest, sensitive.rest_goes_to) == (40, "nowhere: it is not served")
    assert (insensitive.rest, insensitive.rest_goes_to) == (20, "Central cloud, any region")
    with pytest.raises(IntegrityError, match="only_an_insensitive_leg_has_a_fallback"), transaction.atomic():
        m.DemandLeg.objects.create(demand=world.demand("hope"), order=legs[0].pk, role="sensitive", no=3, of=3,
                                   fallback_venue="elsewhere")  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "field"), [
    ({"insensitive_units": 0}, QuantityOutOfRange, "insensitive_units"),
    ({"insensitive_units": 6}, QuantityOutOfRange, "insensitive_units"),
    ({"zone_code": None}, BadInput, "zone_code"), ({"fallback_venue": "a\nb"}, BadInput, "fallback_venue"),
])  # fmt: skip
def test_what_cannot_be_parted_is_refused_with_its_field(changes: dict, kind: type[Exception], field: str) -> None:
    with refused(kind, field=field):
        part(**changes)
