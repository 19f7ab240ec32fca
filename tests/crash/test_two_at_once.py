"""Two people act at the same moment: the second waits for the first, and then acts on what has become of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError

from marketplace import clock
from marketplace import models as m
from marketplace.clearing.services import close_bidding, judge_gate
from marketplace.demand.approvals import approve_demand
from marketplace.demand.services import post_demand, withdraw_demand
from marketplace.errors import LastOwner, SamePerson, WindowClosed
from marketplace.parties.seats import switch_off
from marketplace.parties.services import make_seat
from marketplace.spending.services import set_spending_rule
from marketplace.supply.bids import place_bid
from tests.agent.test_roll_answers import call_of, let_in, say, second, sells, spans
from tests.behind import one_behind_another
from tests.journey import world
from tests.live import go_live
from tests.marketplace.limits import limited

USD = world.USD


@pytest.fixture
def collecting(own_world: Callable[[str], str]) -> None:
    own_world("collecting")


def seat(role: str, who: str = "") -> m.Seat:
    return make_seat(party=world.party("elm"), email=f"{who or role}@elm.example", password=None, role=role,
                     now=clock.now())  # fmt: skip


def fresh(row: m.Seat) -> m.Seat:
    """The row as a request of its own reads it."""
    return m.Seat.objects.select_related("user", "party").get(pk=row.pk)


# --- two owners ------------------------------------------------------------------------------------------------------
def test_of_two_owners_who_switch_each_other_off_one_stays(collecting: None) -> None:
    first, second = seat("owner"), seat("owner", "second")

    done, refusal = one_behind_another(
        lambda: switch_off(seat=second, by=fresh(first), now=clock.now()),
        lambda: switch_off(seat=first, by=fresh(second), now=clock.now()),
    )

    assert (done, type(refusal)) == (second, LastOwner)
    assert [row.pk for row in m.Seat.objects.filter(party__slug="elm", user__is_active=True)] == [first.pk]


def test_of_two_owners_whom_the_database_alone_guards_one_stays(collecting: None) -> None:
    first, second = seat("owner"), seat("owner", "second")

    def off(of: m.Seat) -> int:
        return m.User.objects.filter(pk=of.user_id).update(is_active=False, switched_off_at=clock.now())

    done, refusal = one_behind_another(lambda: off(second), lambda: off(first))

    assert (done, type(refusal)) == (1, IntegrityError)
    assert "the_last_owner_stays" in str(refusal)
    assert [row.pk for row in m.Seat.objects.filter(party__slug="elm", user__is_active=True)] == [first.pk]


# --- one order -------------------------------------------------------------------------------------------------------
def waiting(approvals: int) -> m.Demand:
    """Ten dollars of elm's purchaser that wait for so many approvals."""
    set_spending_rule(seat=seat("owner"), threshold_micros=USD, approvals_needed=approvals, needs_purchase_order=False,
                      now=clock.now())  # fmt: skip
    return post_demand(
        party=world.party("elm"), window=world.window(), kind="divisible", accepted_classes=["H100"], reference="big",
        quantity_units=10, start_slot=0, end_slot=1, price_limit_micros=USD, sla_code="99.0", seat=seat("purchaser"),
        now=clock.now(),
    )  # fmt: skip


def approve(demand: m.Demand, by: m.Seat) -> Callable[[], Any]:
    return lambda: approve_demand(demand=demand, seat=fresh(by), reason="within plan", now=clock.now()).state


def test_an_order_that_two_approve_at_once_is_approved_once(collecting: None) -> None:
    one, two = (limited(seat("approver", who), 100 * USD, by=seat("owner")) for who in ("one", "two"))
    demand = waiting(1)

    state, refusal = one_behind_another(approve(demand, one), approve(demand, two))

    assert (state, type(refusal)) == ("posted", WindowClosed)
    assert [row.seat_id for row in m.DemandApproval.objects.filter(demand=demand)] == [one.pk]


def test_one_person_who_approves_twice_at_once_is_one_of_two_that_are_needed(collecting: None) -> None:
    one, two = (limited(seat("approver", who), 100 * USD, by=seat("owner")) for who in ("one", "two"))
    demand = waiting(2)

    state, refusal = one_behind_another(approve(demand, one), approve(demand, one))

    assert (state, type(refusal)) == ("pending", SamePerson)
    assert approve(demand, two)() == "posted"


# --- one window ------------------------------------------------------------------------------------------------------
def test_a_withdrawal_while_the_demand_is_locked_in_its_window_comes_too_late(collecting: None) -> None:
    demand, window = world.demand("genome"), world.window()
    before, now = clock.now(), clock.move_to(window.demand_closes_at)
    m.Window.objects.filter(pk=window.pk).update(gate_parties=1, gate_unit_hours=1)

    state, refusal = one_behind_another(
        lambda: judge_gate(window=window, now=now),
        lambda: withdraw_demand(demand=demand, party=demand.party, now=before),
    )

    assert (state, type(refusal)) == ("BIDDING", WindowClosed)
    assert world.demand("genome").state == "funded"


def test_a_withdrawal_that_came_first_is_not_counted_by_the_gate(collecting: None) -> None:
    demand, window = world.demand("genome"), world.window()
    before, now = clock.now(), clock.move_to(window.demand_closes_at)
    m.Window.objects.filter(pk=window.pk).update(gate_parties=1, gate_unit_hours=1)

    _, state = one_behind_another(
        lambda: withdraw_demand(demand=demand, party=demand.party, now=before),
        lambda: judge_gate(window=window, now=now),
    )

    assert (state, world.demand("genome").state) == ("BIDDING", "withdrawn")
    moved = m.WindowTransition.objects.get(window=window, to_state="BIDDING")
    assert moved.facts["funded_unit_hours"] == sum(
        row.unit_hours for row in m.Demand.objects.filter(window=window, state="funded"))  # fmt: skip


def test_a_bid_while_its_window_closes_comes_too_late(own_world: Callable[[str], str]) -> None:
    own_world("bidding")
    window, before = world.window(), clock.now()
    now = clock.move_to(window.bidding_closes_at)

    def bid() -> m.Bid:
        return place_bid(
            party=world.party("prairie"), node_class=world.node_class("prairie"), window=world.window(),
            reference="late", quantity_units=1, start_slot=0, end_slot=1, price_ask_micros=400_000, sla_code="99.0",
            now=before,
        )  # fmt: skip

    state, refusal = one_behind_another(lambda: close_bidding(window=window, now=now), bid)

    assert (state, type(refusal)) == ("CLEARING", WindowClosed)
    assert not m.Bid.objects.filter(reference="late").exists()


# --- one roll call ---------------------------------------------------------------------------------------------------
def test_a_verifiers_report_and_the_answer_of_the_machine_it_is_about_never_wait_for_each_other(
    own_world: Callable[[str], str]
) -> None:
    own_world("delivering")
    go_live()
    node_class = sells("granite", 2)
    let_in(node_class, "second")
    call, now = call_of(node_class), clock.now()
    unit = second(call)

    reported, answered = one_behind_another(
        lambda: m.Party.objects.select_for_update(no_key=True).get(pk=call.roll.owner_id),  # as whoever reports begins
        lambda: say(call, now, key="second", machine=unit),
        then=lambda: spans(call, "oak", from_ms=1_000, until_ms=2_000, machine=unit),
    )

    assert (reported, answered) == (1, 1)
