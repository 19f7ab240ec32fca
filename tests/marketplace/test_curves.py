"""A demand's price curve: steps of units and price that are posted, funded, cleared and withdrawn as one (M-002)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from ledger.models import Transfer
from marketplace import clock
from marketplace import models as m
from marketplace.demand.legs import amend_step, fund_whole, post_curve, post_split, withdraw_whole
from marketplace.demand.services import amend_demand
from marketplace.errors import BadInput, NotFunded, NotYours, PriceOffTick, QuantityOutOfRange, WindowClosed
from marketplace.escrow.selectors import money_of
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


def held(reference: str = "curve") -> list[tuple[str, int, int]]:
    """State, units and price of each step, and that each hold is what its step can cost."""
    rows = m.Demand.objects.filter(reference__startswith=reference).order_by("leg__no")
    assert all(Transfer.objects.get(id=row.hold_id).amount == row.hold_micros for row in rows if row.hold_id)
    return [(row.state, row.quantity_units, row.price_limit_micros) for row in rows]


@pytest.mark.stage("collecting")
def test_one_step_of_a_curve_changes_and_the_others_stay() -> None:
    steps, alder = curve(), world.party("alder")
    fund_whole(demand=steps[0], party=alder, now=clock.now())
    before = money_of(alder)

    amend_step(demand=steps[1], party=alder, quantity_units=5, price_limit_micros=USD + 100, now=clock.now())

    assert held() == [("funded", 2, 2 * USD), ("funded", 5, USD + 100), ("funded", 4, USD // 2)]
    after = money_of(alder)
    more = 10 * (5 * (USD + 100) - 3 * USD)
    assert (after.held_micros - before.held_micros, before.available_micros - after.available_micros) == (more, more)
    amend_step(demand=steps[2], party=alder, quantity_units=1, now=clock.now())
    amend_step(demand=steps[1], party=alder, price_limit_micros=2 * USD - 100, now=clock.now())
    assert held() == [("funded", 2, 2 * USD), ("funded", 5, 2 * USD - 100), ("funded", 1, USD // 2)]
    actions = m.AuditLine.objects.filter(subject=str(steps[1].pk)).values_list("action", flat=True)
    assert list(actions.order_by("pk"))[-3:] == ["unfund_demand", "amend_demand", "fund_demand"]


@pytest.mark.stage("collecting")
def test_a_change_of_a_step_that_cannot_be_leaves_the_whole_curve_as_it_was() -> None:
    steps, alder = curve(), world.party("alder")
    fund_whole(demand=steps[0], party=alder, now=clock.now())

    def change(**changes: Any) -> None:
        amend_step(**{"demand": steps[1], "party": alder, "now": clock.now()} | changes)

    for price in (2 * USD, 3 * USD, USD // 2, 100):
        with refused(BadInput, field="price_limit_micros"):
            change(price_limit_micros=price)
    with refused(BadInput, field="quantity_units"):
        change()
    with refused(QuantityOutOfRange):
        change(quantity_units=0)
    with refused(PriceOffTick):
        change(price_limit_micros=USD + 1)
    with refused(NotFunded):
        change(quantity_units=2**20)
    with refused(NotYours):
        change(party=world.party("birch"), quantity_units=4)
    with refused(BadInput, field="demand"):
        change(demand=world.demand("genome"), party=world.demand("genome").party, quantity_units=4)
    with refused(BadInput, field="end_slot"):
        amend_demand(demand=steps[1], party=alder, end_slot=9, now=clock.now())
    with refused(WindowClosed):
        change(quantity_units=4, now=world.window().demand_closes_at)
    assert held() == [("funded", 2, 2 * USD), ("funded", 3, USD), ("funded", 4, USD // 2)]


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("no", "price"), [(0, USD), (0, USD - 100), (1, 2 * USD), (1, USD // 2), (2, USD)])
def test_the_database_keeps_each_step_between_its_neighbours(no: int, price: int) -> None:
    steps = curve()

    with pytest.raises(IntegrityError, match="a_step_stays_between_its_neighbours"), transaction.atomic():
        m.Demand.objects.filter(pk=steps[no].pk).update(price_limit_micros=price)
    assert m.Demand.objects.filter(pk=steps[1].pk).update(price_limit_micros=2 * USD - 100) == 1


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
