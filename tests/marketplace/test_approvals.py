"""Approvals, budgets and pilots: nobody approves alone, and a limit is a limit (M-006, M-007, M-009)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.demand.approvals import approve_demand, refuse_demand, waiting_for
from marketplace.demand.pilots import convert_pilot, funnel_of_pilots
from marketplace.demand.services import amend_demand, fund_demand, post_demand, withdraw_demand
from marketplace.errors import (
    BadInput,
    DataRefused,
    NotFunded,
    NotYours,
    OverBudget,
    PastDate,
    PendingApproval,
    RoleForbidden,
    SamePerson,
    WindowClosed,
)
from marketplace.escrow.advances import ask_line
from marketplace.parties.services import make_seat
from marketplace.payout.banks import choose_wallet
from marketplace.spending.services import open_pilot, set_budget, set_spending_rule
from marketplace.supply.bids import withdraw_bid
from tests.journey import world
from tests.journey.refusals import refused
from tests.marketplace import limits

USD = 1_000_000


def seat(role: str, slug: str = "elm", who: str = "") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{who or role}@{slug}.example", password=None, role=role,
                     now=clock.now())  # fmt: skip


def order(reference: str = "big", units: int = 10, **other: object) -> m.Demand:
    """Units x 1 hour x 1 USD of elm's."""
    return post_demand(**{
        "party": world.party("elm"), "window": world.window(), "kind": "divisible", "accepted_classes": ["H100"],
        "reference": reference, "quantity_units": units, "start_slot": 0, "end_slot": 1, "price_limit_micros": USD,
        "sla_code": "99.0", "seat": seat("purchaser"), "now": clock.now(), **other,
    })  # type: ignore[arg-type]  # fmt: skip


def rule(threshold: int = 5 * USD, approvals: int = 1, needs_order: bool = False) -> None:
    set_spending_rule(seat=seat("owner"), threshold_micros=threshold, approvals_needed=approvals,
                      needs_purchase_order=needs_order, now=clock.now())  # fmt: skip


def limited(role: str, limit: int, who: str = "") -> m.Seat:
    return limits.limited(seat(role, who=who), limit, by=seat("owner"))


def approve(demand: m.Demand, by: m.Seat) -> m.Demand:
    return approve_demand(demand=demand, seat=by, reason="within plan", now=clock.now())


@pytest.mark.stage("collecting")
def test_a_demand_above_the_approvers_limit_stays_pending() -> None:
    rule()
    demand = order()
    small, large = limited("approver", 9 * USD, "small"), limited("approver", 10 * USD, "large")
    assert demand.state == "pending"
    assert list(waiting_for(small)) == [demand]

    with refused(RoleForbidden, limit_micros=9 * USD, needed_micros=10 * USD):
        approve(demand, small)
    with refused(PendingApproval):
        fund_demand(demand=demand, party=demand.party, now=clock.now())
    assert approve(demand, large).state == "posted"

    assert order("small", 5).state == "posted"  # at the threshold nobody is asked


@pytest.mark.stage("collecting")
def test_a_large_purchase_needs_several_people_and_none_of_them_its_poster() -> None:
    rule(approvals=2)
    owner = limited("owner", 100 * USD)
    demand = order(seat=owner)
    first, second = limited("approver", 100 * USD, "one"), limited("approver", 100 * USD, "two")
    clerk, stranger = seat("finance"), seat("owner", "alder")

    with refused(SamePerson):
        approve(demand, owner)
    with refused(RoleForbidden, role="finance"):
        approve(demand, clerk)
    with refused(NotYours):
        approve(demand, stranger)
    assert approve(demand, first).state == "pending"
    with refused(SamePerson):
        approve(demand, first)
    assert approve(demand, second).state == "posted"

    with refused(WindowClosed):
        amend_demand(demand=demand, party=demand.party, quantity_units=11, now=clock.now())
    with pytest.raises(IntegrityError, match="demand_over_the_threshold_is_approved"), transaction.atomic():
        m.Demand.objects.filter(pk=order("forced").pk).update(state="posted")


@pytest.mark.stage("collecting")
def test_one_no_ends_it() -> None:
    rule(approvals=2)
    demand, late = order(), limited("approver", 100 * USD, "late")

    refuse_demand(demand=demand, seat=limited("approver", 0), reason="not this year", now=clock.now())

    assert m.Demand.objects.get(pk=demand.pk).state == "refused"
    with refused(WindowClosed, state="refused"):
        approve(demand, late)
    assert withdraw_demand(demand=order("other"), party=world.party("elm"), now=clock.now()).state == "withdrawn"


@pytest.mark.stage("collecting")
def test_a_large_purchase_names_its_order() -> None:
    rule(needs_order=True)
    seat("purchaser")

    with refused(BadInput, field="purchase_order"):
        order()
    with refused(BadInput, field="purchase_order"):
        order(purchase_order="PO-4711")  # nobody has asked for it

    asked = ask_line(party=world.party("elm"), kind="purchase_order", number="PO-4711", limit_micros=100 * USD,
                     valid_until=clock.now() + timedelta(days=90), person="p@elm.example", now=clock.now())  # fmt: skip
    assert order(purchase_order="PO-4711").funding_line == asked
    assert order("small", 5).funding_line is None


@pytest.mark.stage("collecting")
def test_a_budget_that_blocks_refuses_and_one_that_notifies_tells() -> None:
    now, party = clock.now(), world.party("birch")
    owner = seat("owner", "birch")
    times = {"from_at": now, "until_at": now + timedelta(days=90), "now": now}
    hard = set_budget(seat=owner, name="team", limit_micros=1, action="block", **times)
    demand = m.Demand.objects.get(reference="climate")
    withdraw_demand(demand=demand, party=party, now=now)  # its money is free again
    base = {"party": party, "seat": owner, "units": 1, "price_limit_micros": 100}

    blocked = order("blocked", budget=hard, **base)
    with refused(OverBudget, budget="team"):
        fund_demand(demand=blocked, party=party, now=now)
    set_budget(seat=owner, name="team", limit_micros=100, action="block", **times)
    assert fund_demand(demand=blocked, party=party, now=now).state == "funded"

    soft = set_budget(seat=owner, name="soft", limit_micros=1, action="notify", **times)
    assert fund_demand(demand=order("told", budget=soft, **base), party=party, now=now).state == "funded"
    assert m.Notice.objects.filter(code="budget_passed", party=party).count() == 1
    with refused(PastDate, field="until_at"):
        set_budget(seat=owner, name="old", limit_micros=1, action="block", from_at=now - timedelta(days=2),
                   until_at=now - timedelta(days=1), now=now)  # fmt: skip


@pytest.mark.stage("collecting")
def test_a_pilot_is_small_light_and_short_and_becomes_the_real_thing_in_one_act() -> None:
    now = clock.now()
    pilot = open_pilot(seat=seat("purchaser"), name="trial", cap_micros=10 * USD, ends_at=world.window().ends_at,
                       now=now)  # fmt: skip

    with refused(DataRefused, field="data_class"):
        order(pilot=pilot, data_class="payment-card")
    with refused(OverBudget, cap_micros=10 * USD):
        order(units=11, pilot=pilot)
    trial = order(units=6, pilot=pilot, data_class="internal")
    with refused(OverBudget, used_micros=6 * USD):
        order("more", units=5, pilot=pilot)
    with refused(PastDate, field="ends_at"):
        open_pilot(seat=seat("purchaser"), name="late", cap_micros=1, ends_at=now, now=now)

    later = open_window(
        name="Later", slots=30, starts_at=now + timedelta(days=90), demand_closes_at=now + timedelta(days=80),
        no_cancel_from=now + timedelta(days=81), bidding_closes_at=now + timedelta(days=82), gate_unit_hours=1,
        gate_parties=1, now=now,
    )  # fmt: skip
    with refused(PastDate, field="window"):
        order("long", units=1, pilot=pilot, window=later)
    real = convert_pilot(demand=trial, seat=seat("purchaser"), window=later, reference="real", now=now)

    assert (real.pilot, real.converted_from, real.window, real.state) == (None, trial, later, "posted")
    assert (real.quantity_units, real.price_limit_micros, real.data_class_id) == (6, USD, "internal")
    assert convert_pilot(demand=trial, seat=seat("purchaser"), window=later, reference="real", now=now) == real
    assert funnel_of_pilots() == {"opened": 1, "tried": 1, "converted": 1}
    assert m.AuditLine.objects.filter(action="convert_pilot", subject=str(real.pk)).count() == 1
    with refused(BadInput, field="demand"):
        convert_pilot(demand=real, seat=seat("purchaser"), window=later, reference="again", now=now)


@pytest.mark.stage("collecting")
def test_roles_draft_approve_and_set_rules_apart() -> None:
    for role in ("purchaser", "approver", "finance", "compliance"):
        made = seat(role)
        with refused(RoleForbidden, role=role):
            set_spending_rule(seat=made, threshold_micros=1, approvals_needed=1, needs_purchase_order=False,
                              now=clock.now())  # fmt: skip
    for role in ("approver", "finance", "compliance"):
        made = seat(role)
        with refused(RoleForbidden, role=role):
            order(seat=made)


@pytest.mark.stage("collecting")
def test_funding_bids_and_banks_belong_to_their_roles() -> None:
    """Surfaces, section 8: who drafts does not fund, and an operator changes no bank account."""
    demand, purchaser, finance = order(units=1), seat("purchaser"), seat("finance")
    operator, clerk = seat("operator", "harbour"), seat("finance", "harbour")

    with refused(RoleForbidden, role="purchaser"):
        fund_demand(demand=demand, party=demand.party, seat=purchaser, now=clock.now())
    with refused(RoleForbidden, role="finance"):
        withdraw_demand(demand=demand, party=demand.party, seat=finance, now=clock.now())
    with refused(NotYours):
        withdraw_demand(demand=demand, party=demand.party, seat=operator, now=clock.now())
    with refused(RoleForbidden, role="operator"):
        choose_wallet(party=world.party("harbour"), seat=operator, now=clock.now())
    with refused(RoleForbidden, role="finance"):
        withdraw_bid(bid=world.bid("harbour", world.EARLY), party=world.party("harbour"), seat=clerk, now=clock.now())

    choose_wallet(party=world.party("harbour"), seat=clerk, now=clock.now())
    with refused(NotFunded):  # the role may; elm has no money yet
        fund_demand(demand=demand, party=demand.party, seat=finance, now=clock.now())
    assert withdraw_demand(demand=demand, party=demand.party, seat=purchaser, now=clock.now()).state == "withdrawn"
