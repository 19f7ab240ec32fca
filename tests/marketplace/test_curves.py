"""A demand's price curve: steps of units and price that are posted, funded, cleared and withdrawn as one (M-002)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.demand.legs import fund_whole, post_curve, post_split, withdraw_whole
from marketplace.errors import BadInput, NotFunded, PriceOffTick, QuantityOutOfRange
from tests.journey import world
from tests.journey.refusals import refused, untouched

USD = world.USD


def curve(**changes: Any) -> list[m.Demand]:
    terms = {"party": world.party("alder"), "window": world.window(), "reference": "curve", "kind": "divisible",
             "accepted_classes": ["H100"], "quantity_units": 2, "price_limit_micros": 2 * USD, "start_slot": 0,
             "end_slot": 10, "sla_code": "99.0", "zone_code": "EU", "now": clock.now(),
             "further_steps": [(3, USD), (4, USD // 2)]}  # fmt: skip
    return post_curve(**terms | changes)


@pytest.mark.stage("collecting")
def test_a_curve_is_one_order_whose_steps_are_funded_and_withdrawn_together() -> None:
    steps = curve()
    alder = world.party("alder")

    assert [(row.quantity_units, row.price_limit_micros) for row in steps] == [
        (2, 2 * USD), (3, USD), (4, USD // 2)]  # fmt: skip
    assert {leg.order for leg in m.DemandLeg.objects.filter(demand__in=steps)} == {steps[0].leg.order}
    with untouched():
        assert curve() == steps
    fund_whole(demand=steps[1], party=alder, now=clock.now())
    assert set(m.Demand.objects.filter(pk__in=[row.pk for row in steps]).values_list("state", flat=True)) == {"funded"}
    withdraw_whole(demand=steps[2], party=alder, now=clock.now())
    states = m.Demand.objects.filter(pk__in=[row.pk for row in steps]).values_list("state", flat=True)
    assert set(states) == {"withdrawn"}


@pytest.mark.stage("collecting")
def test_a_curve_that_is_not_covered_whole_is_not_funded_at_all() -> None:
    steps = curve(party=world.party("elm"), further_steps=[(1_000_000, 1_999_900)])
    with refused(NotFunded):
        fund_whole(demand=steps[0], party=world.party("elm"), now=clock.now())


@pytest.mark.stage("collecting")
def test_steps_that_do_not_fall_or_bind_all_units_are_refused() -> None:
    for further in ([(3, 2 * USD)], [(3, USD), (4, USD)], [], [(1, 2 * USD - 100 * n) for n in range(1, 9)]):
        with refused(BadInput, field="further_steps"):
            curve(further_steps=further)
    with refused(BadInput, field="kind"):
        curve(kind="window")
    for name, value in (("minimum_units", 1), ("is_one_site", True), ("choice", "a")):
        with refused(BadInput, field=name):
            curve(**{name: value})
    with refused(PriceOffTick):
        curve(further_steps=[(3, USD + 1)])
    with refused(QuantityOutOfRange):
        curve(further_steps=[(0, USD)])
    with refused(BadInput, field="provider_share_max_ppm"):
        post_split(party=world.party("alder"), window=world.window(), further_steps=[(1, USD)], insensitive_units=1)


def test_the_market_serves_the_dear_step_and_leaves_the_cheap_one(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    steps = curve(reference="two steps", price_limit_micros=3_000_000, further_steps=[(3, 100)])
    fund_whole(demand=steps[0], party=world.party("alder"), now=clock.now())
    for act in ("bidding", "cleared"):
        world.play(act)

    for row in steps:
        row.refresh_from_db()
    assert [row.state for row in steps] == ["awarded", "lost"]
    assert m.LineReason.objects.get(demand=steps[1]).code == "priced_out"
