"""A limit of a seat's own orders, and changes of rules that ask less than before: nobody lets those alone (M-007)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import clock
from marketplace import models as m
from marketplace.demand.approvals import approve_demand
from marketplace.demand.legs import amend_step, post_curve
from marketplace.demand.services import fund_demand, post_demand
from marketplace.errors import BadInput, NotYours, PendingApproval, RoleForbidden, SamePerson, WindowClosed
from marketplace.parties.passwords import reset_path
from marketplace.parties.seats import accept_invitation, change_role, invite, switch_off, switch_on
from marketplace.parties.services import issue_api_key, make_seat
from marketplace.parties.two_people import ONE_PERSON_FOR
from marketplace.spending.services import (
    decide_change,
    set_order_limit,
    set_seat_limit,
    set_spending_rule,
    waiting_changes,
)
from tests.journey import world
from tests.journey.refusals import refused
from tests.marketplace.limits import limited

pytestmark = pytest.mark.stage("collecting")
USD = world.USD


def seat(role: str, slug: str = "elm", who: str = "") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{who or role}@{slug}.example", password=None, role=role,
                     now=clock.now())  # fmt: skip


def order(reference: str = "big", units: int = 10, **other: Any) -> m.Demand:
    """Units x 1 hour x 1 USD of elm's, by its purchaser unless told otherwise."""
    return post_demand(**{
        "party": world.party("elm"), "window": world.window(), "kind": "divisible", "accepted_classes": ["H100"],
        "reference": reference, "quantity_units": units, "start_slot": 0, "end_slot": 1, "price_limit_micros": USD,
        "sla_code": "99.0", "seat": seat("purchaser"), "now": clock.now(), **other,
    })  # fmt: skip


def approver(who: str = "") -> m.Seat:
    return limited(seat("approver", who=who), 1000 * USD, by=seat("owner"))


def limit(micros: int | None, of: m.Seat | None = None, by: m.Seat | None = None) -> m.SpendingChange | None:
    return set_order_limit(seat=by or seat("owner"), of=of or seat("purchaser"), order_max_micros=micros,
                           now=clock.now())  # fmt: skip


def rule(threshold: int = 5 * USD, approvals: int = 1, needs_order: bool = False, by: m.Seat | None = None) -> Any:
    return set_spending_rule(seat=by or seat("owner"), threshold_micros=threshold, approvals_needed=approvals,
                             needs_purchase_order=needs_order, now=clock.now())  # fmt: skip


def decide(change: m.SpendingChange | None, by: m.Seat, is_let: bool = True) -> m.SpendingChange:
    assert change is not None
    return decide_change(change=change, seat=by, is_let=is_let, reason="agreed", now=clock.now())


# --- a seat's own limit ----------------------------------------------------------------------------------------------
def test_beyond_its_own_limit_a_seat_s_demand_waits_for_a_colleague_and_up_to_it_it_does_not() -> None:
    limit(9 * USD)
    assert order("small", 9).state == "posted"
    big = order()
    assert big.state == "pending"
    with refused(PendingApproval):
        fund_demand(demand=big, party=big.party, now=clock.now())
    with refused(RoleForbidden, role="purchaser"):
        approve_demand(demand=big, seat=seat("purchaser"), reason="mine", now=clock.now())

    assert approve_demand(demand=big, seat=approver(), reason="within plan", now=clock.now()).state == "posted"
    assert order("by another", seat=seat("owner")).state == "posted"  # the limit is the purchaser's alone


def test_the_database_posts_nothing_beyond_the_limit_of_its_seat() -> None:
    limit(9 * USD)
    with pytest.raises(IntegrityError, match="demand_over_its_seats_limit_is_approved"), transaction.atomic():
        m.Demand.objects.filter(pk=order().pk).update(state="posted")


def test_a_program_orders_up_to_the_limit_of_who_issued_its_key() -> None:
    owner, second = seat("owner"), seat("owner", who="second")
    key, _ = issue_api_key(party=owner.party, label="bot", may_write=True, seat=second, now=clock.now())
    limit(9 * USD, of=second)

    assert order("small", 9, seat=None, key=key).state == "posted"
    assert order(seat=None, key=key).state == "pending"


def test_neither_pieces_nor_another_price_pass_the_limit() -> None:
    limit(9 * USD)
    buyer = seat("purchaser")
    terms: dict[str, Any] = {
        "party": buyer.party, "window": world.window(), "reference": "curve", "kind": "divisible", "seat": buyer,
        "accepted_classes": ["H100"], "start_slot": 0, "end_slot": 1, "sla_code": "99.0", "now": clock.now(),
        "price_limit_micros": USD,
    }  # fmt: skip
    with refused(BadInput, field="quantity_units"):
        post_curve(**terms, quantity_units=8, further_steps=[(8, USD // 2)])
    first, _ = post_curve(**terms, quantity_units=4, further_steps=[(4, USD // 2)])
    assert first.state == "posted"

    with refused(BadInput, field="quantity_units"):
        amend_step(demand=first, party=buyer.party, seat=buyer, quantity_units=9, now=clock.now())
    assert amend_step(demand=first, party=buyer.party, seat=buyer, quantity_units=5, now=clock.now()).state == "posted"


def test_a_limit_that_came_after_the_demand_stops_its_funding() -> None:
    demand = order()
    limit(9 * USD)

    with refused(PendingApproval):
        fund_demand(demand=demand, party=demand.party, now=clock.now())


def test_nobody_sets_the_own_limit_and_who_sets_no_rules_sets_none() -> None:
    owner, stranger, buyer = seat("owner"), seat("owner", "alder"), seat("purchaser")
    others = [seat(role, who=f"by-{role}") for role in ("purchaser", "approver", "finance", "compliance", "counsel")]
    with refused(SamePerson):
        limit(5 * USD, of=owner)
    for other in others:
        with refused(RoleForbidden, role=other.role):
            limit(5 * USD, of=buyer, by=other)
    with refused(NotYours):
        limit(5 * USD, of=buyer, by=stranger)
    with refused(BadInput, field="order_max_micros"):
        limit(-1, of=buyer)

    assert limit(5 * USD, of=owner, by=seat("owner", who="second")) is None
    assert m.SeatLimit.objects.get(seat=owner).order_max_micros == 5 * USD


# --- asking less than before -----------------------------------------------------------------------------------------
LESS: dict[str, dict[str, Any]] = {
    "a higher threshold": {"threshold": 6 * USD}, "fewer approvals": {"approvals": 1},
    "no order": {"needs_order": False},
}  # fmt: skip


@pytest.mark.parametrize("less", LESS)
def test_a_rule_that_asks_less_waits_for_a_second_person_and_one_that_asks_more_does_not(less: str) -> None:
    second, terms = approver(), {"threshold": 5 * USD, "approvals": 2, "needs_order": True}
    assert rule(**terms) is None

    change, clerk, stranger = rule(**terms | LESS[less]), seat("finance"), seat("owner", "alder")

    standing = m.SpendingRule.objects.get()
    assert (standing.threshold_micros, standing.approvals_needed, standing.needs_purchase_order) == (5 * USD, 2, True)
    with refused(SamePerson):
        decide(change, seat("owner"))
    with refused(RoleForbidden, role="finance"):
        decide(change, clerk)
    with refused(NotYours):
        decide(change, stranger)
    decide(change, second)
    standing.refresh_from_db()
    assert {"threshold": standing.threshold_micros, "approvals": standing.approvals_needed,
            "needs_order": standing.needs_purchase_order} == terms | LESS[less]  # fmt: skip
    with refused(WindowClosed):
        decide(change, second)
    assert rule(threshold=0, approvals=5, needs_order=True) is None  # more than before: at once


def test_an_owner_does_not_raise_the_threshold_post_and_lower_it_again() -> None:
    approver()
    owner = seat("owner")
    rule()

    rule(threshold=100 * USD)

    assert order(seat=owner).state == "pending"
    with pytest.raises(IntegrityError, match="spending_rule_is_loosened_by_two"), transaction.atomic():
        m.SpendingRule.objects.update(threshold_micros=100 * USD)


def test_a_refused_change_and_one_that_a_later_word_replaced_change_nothing() -> None:
    second = approver()
    rule()
    replaced = rule(threshold=100 * USD)
    change = rule(threshold=50 * USD)
    assert list(waiting_changes(world.party("elm"))) == [change]

    with refused(WindowClosed):
        decide(replaced, second)
    decide(change, second, is_let=False)

    assert m.SpendingRule.objects.get().threshold_micros == 5 * USD
    assert not waiting_changes(world.party("elm")).exists()


def test_an_owner_who_has_long_been_alone_raises_the_threshold_and_it_stands_on_the_trail() -> None:
    rule()
    second = approver()
    assert rule(threshold=6 * USD) is not None
    switch_off(seat=second, by=seat("owner"), now=clock.now() - ONE_PERSON_FOR)

    assert rule(threshold=100 * USD) is None

    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD
    line = m.AuditLine.objects.filter(action="set_spending_rule").order_by("no").last()
    assert line is not None
    assert (line.facts["alone"], line.facts["threshold_micros"], line.facts["withdrawn"]) == (True, 100 * USD, 1)


TAKEN_AWAY: dict[str, Callable[[m.Seat, m.Seat], object]] = {
    "switched off": lambda of, by: switch_off(seat=of, by=by, now=clock.now()),
    "given another role": lambda of, by: change_role(seat=of, by=by, role="finance", now=clock.now()),
}


@pytest.mark.parametrize("how", TAKEN_AWAY)
def test_an_owner_does_not_become_alone_by_taking_the_approver_away(how: str) -> None:
    second, owner, buyer = approver(), seat("owner"), seat("purchaser")
    rule()
    limit(5 * USD)
    TAKEN_AWAY[how](second, owner)

    changes = [rule(threshold=100 * USD), limit(None), set_seat_limit(seat=owner, of=owner, limit_micros=1,
                                                                      now=clock.now())]  # fmt: skip

    assert list(waiting_changes(owner.party)) == changes
    assert m.SpendingRule.objects.get().threshold_micros == 5 * USD
    assert m.SeatLimit.objects.get(seat=buyer).order_max_micros == 5 * USD
    for rows, columns, wall in (
        (m.SpendingRule.objects.all(), {"threshold_micros": 100 * USD, "set_at": clock.now()}, "spending_rule_is_loos"),
        (m.SeatLimit.objects.filter(seat=buyer), {"order_max_micros": None, "set_at": clock.now()}, "order_limit_is_l"),
        (m.SeatLimit.objects.filter(seat=buyer), {"limit_micros": 1, "set_at": clock.now()}, "approving_limit_is_rai"),
    ):
        with pytest.raises(IntegrityError, match=wall), transaction.atomic():
            rows.update(**columns)
    switch_on(seat=second, by=owner, now=clock.now())
    change_role(seat=second, by=owner, role="approver", now=clock.now())
    decide(changes[0], second)  # and comes back as the one who is asked
    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD


def test_a_change_for_which_nobody_is_left_waits_thirty_days_and_no_longer() -> None:
    second, now = approver(), clock.now()
    rule()
    switch_off(seat=second, by=seat("owner"), now=now)
    terms: dict[str, Any] = {"seat": seat("owner"), "threshold_micros": 100 * USD, "approvals_needed": 1,
                             "needs_purchase_order": False}  # fmt: skip

    assert set_spending_rule(**terms, now=now + ONE_PERSON_FOR - timedelta(seconds=1)) is not None
    assert set_spending_rule(**terms, now=now + ONE_PERSON_FOR) is None


# --- one person under two names --------------------------------------------------------------------------------------
def let_in(by: m.Seat, who: str, role: str = "approver", at: datetime | None = None) -> m.Seat:
    """A seat that takes the invitation of another."""
    at = at or clock.now()
    _, secret = invite(party=by.party, by=by, email=f"{who}@elm.example", role=role, now=at)
    return accept_invitation(secret=secret, name="Noa Neu", password="a long enough password", now=at)


def test_whoever_an_owner_let_in_is_not_the_second_person_beside_it_for_thirty_days() -> None:
    first, owner, now = approver(), seat("owner"), clock.now()
    rule()
    second_name = let_in(owner, "second")
    third_name = let_in(let_in(owner, "helper", "owner"), "third")
    change = rule(threshold=100 * USD)

    for name in (second_name, third_name):
        with refused(SamePerson, days=30):
            decide(change, name)
        with pytest.raises(IntegrityError, match="spending_change_is_let_by_someone_apart"), transaction.atomic():
            m.SpendingChange.objects.filter(pk=change.pk).update(
                decided_by=name, decided_at=now, is_let=True, reason="r"
            )
    back = rule(threshold=100 * USD, by=seat("owner", who="helper"))  # nor the other way round
    with refused(SamePerson, days=30):
        decide(back, owner)
    with refused(SamePerson, days=30):
        decide(back, second_name)  # two whom the same one let in
    decide(back, first)
    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD


def test_after_thirty_days_a_colleague_is_a_person_of_its_own() -> None:
    approver()
    rule()
    at = clock.now() - ONE_PERSON_FOR
    change = rule(threshold=100 * USD)

    decide(change, let_in(seat("owner"), "second", at=at))

    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD


def test_a_colleague_whom_another_or_the_operator_let_in_is_asked_at_once() -> None:
    first = seat("owner", who="first")
    rule()
    decide(rule(threshold=100 * USD), let_in(first, "second"))
    _, secret = invite(party=first.party, by=None, email="third@elm.example", role="approver", now=clock.now())
    third = accept_invitation(secret=secret, name="Tea Tri", password="a long enough password", now=clock.now())

    decide(rule(threshold=200 * USD), third)

    assert m.SpendingRule.objects.get().threshold_micros == 200 * USD


def test_a_party_of_two_works_on_the_day_on_which_it_signs_up() -> None:
    owner = seat("owner")
    second = let_in(owner, "second")
    assert set_seat_limit(seat=owner, of=second, limit_micros=1000 * USD, now=clock.now()) is None
    rule()
    big = order(seat=owner)
    assert approve_demand(demand=big, seat=second, reason="within plan", now=clock.now()).state == "posted"

    change = rule(threshold=100 * USD)  # it waits: somebody is there to be asked
    decide(change, second)

    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD


def test_a_second_name_that_came_when_the_approver_went_lets_nothing() -> None:
    first, owner = approver(), seat("owner")
    rule()
    switch_off(seat=first, by=owner, now=clock.now())

    change, second = rule(threshold=100 * USD), let_in(owner, "second")

    with refused(SamePerson, days=30):
        decide(change, second)
    decide(change, let_in(owner, "another"), is_let=False)  # saying no takes nothing from anybody
    assert m.SpendingRule.objects.get().threshold_micros == 5 * USD


def test_whoever_made_a_link_for_a_colleague_s_password_does_not_decide_in_its_name() -> None:
    first, owner, third = approver(), seat("owner"), seat("owner", who="third")
    rule()
    reset_path(seat=first, by=owner, root="/", now=clock.now())
    change = rule(threshold=100 * USD)
    with refused(SamePerson, days=30):
        decide(change, first)
    back = rule(threshold=100 * USD, by=third)

    decide(back, first)

    assert m.SpendingRule.objects.get().threshold_micros == 100 * USD


def test_a_link_does_not_make_an_owner_alone() -> None:
    first = approver()
    rule()
    reset_path(seat=first, by=seat("owner"), root="/", now=clock.now())

    change, second = rule(threshold=100 * USD), let_in(seat("owner"), "second")

    for name in (first, second):
        with refused(SamePerson, days=30):
            decide(change, name)


# --- what a seat approves --------------------------------------------------------------------------------------------
def test_what_a_seat_approves_is_raised_by_two_and_lowered_at_once() -> None:
    owner, first, second = seat("owner"), seat("approver"), seat("approver", who="second")

    def set_limit(micros: int, of: m.Seat = second) -> m.SpendingChange | None:
        return set_seat_limit(seat=owner, of=of, limit_micros=micros, now=clock.now())

    change = set_limit(10 * USD)
    assert not m.SeatLimit.objects.exists()  # nothing yet: a seat without a limit approves nothing
    for who in (owner, second):
        with refused(SamePerson):
            decide(change, who)
    decide(change, first)
    assert m.SeatLimit.objects.get(seat=second).limit_micros == 10 * USD
    refusal = set_limit(20 * USD)
    decide(refusal, first, is_let=False)
    assert m.SeatLimit.objects.get(seat=second).limit_micros == 10 * USD
    with pytest.raises(IntegrityError, match="approving_limit_is_raised_by_two"), transaction.atomic():
        m.SeatLimit.objects.filter(seat=second).update(limit_micros=20 * USD, set_at=clock.now())

    assert set_limit(5 * USD) is None
    assert m.SeatLimit.objects.get(seat=second).limit_micros == 5 * USD
    assert set_limit(1, of=owner) is not None  # nor does an owner say alone what he approves himself
    with refused(BadInput, field="limit_micros"):
        set_limit(-1)


def test_an_owner_who_is_alone_says_what_a_seat_approves() -> None:
    buyer, owner = seat("purchaser"), seat("owner")

    assert set_seat_limit(seat=owner, of=buyer, limit_micros=USD, now=clock.now()) is None

    assert m.AuditLine.objects.get(action="set_seat_limit").facts["alone"] is True


def test_the_database_and_the_words_mean_the_same_span() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_one_person_for()")
        assert cursor.fetchone()[0] == ONE_PERSON_FOR


def test_a_higher_limit_of_a_seat_is_let_by_neither_who_asks_nor_whose_it_is() -> None:
    second = seat("owner", who="second")
    limit(5 * USD, of=second)
    assert limit(6 * USD, of=second) is None  # the only other person is the one whose limit it is
    third = approver("third")

    change = limit(None, of=second)

    for who in (seat("owner"), second):
        with refused(SamePerson):
            decide(change, who)
    assert m.SeatLimit.objects.get(seat=second).order_max_micros == 6 * USD
    decide(change, third)
    assert m.SeatLimit.objects.get(seat=second).order_max_micros is None
    assert limit(1, of=second) is None  # lower: at once
