"""Capacity follows funded demand: the waitlist, the boundary to the unit, the race at it, and the database's own no."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from ledger.ids import uuid7
from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.errors import BadInput, DemandFirst, NotEligible, NotYours, WindowClosed
from marketplace.supply.admissions import (
    admit,
    admit_waiting,
    ask_admission,
    delivery_month,
    free_unit_hours,
    leave_waitlist,
    places_of,
)
from marketplace.supply.bids import place_bid
from marketplace.supply.services import enrol_node_class
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("collecting")

FAR = 70  # days: a month in which nothing else is demanded
FUNDED = 40  # unit-hours of `fund`, in a product of its own: 40 funded let in 80


def far_day() -> datetime:
    return world.day(FAR).replace(day=15)


def far_window(name: str = "Far window", **changes: Any) -> m.Window:
    starts_at = far_day()
    terms: dict[str, Any] = {
        "name": name, "slots": 24, "starts_at": starts_at, "demand_closes_at": starts_at - timedelta(days=3),
        "no_cancel_from": starts_at - timedelta(days=2), "bidding_closes_at": starts_at - timedelta(days=1),
        "gate_unit_hours": 1, "gate_parties": 1, "now": clock.now(),
    }  # fmt: skip
    return open_window(**terms | changes)


def fund(into: m.Window, reference: str = "far", units: int = 4, by: str = "birch", **rules: Any) -> m.Demand:
    """A funded demand of ten hours; harbour (H100, France, T1) could serve it."""
    for held in m.Demand.objects.filter(window=world.window(), party__slug=by, state="funded"):
        withdraw_demand(demand=held, party=held.party, now=clock.now())
    terms = {"zone_code": "EU", "accepted_classes": ["H100"]} | rules
    row = post_demand(
        party=world.party(by), window=into, reference=reference, kind="divisible", quantity_units=units,
        start_slot=0, end_slot=10, price_limit_micros=1_000_000, sla_code="99.0", now=clock.now(), **terms,
    )  # fmt: skip
    return fund_demand(demand=row, party=row.party, now=clock.now())


def ask(provider: str, unit_hours: int, month: date | None = None) -> m.Admission:
    row = world.node_class(provider)
    month = month or far_day().date().replace(day=1)
    return ask_admission(party=row.party, node_class=row, month=month, unit_hours=unit_hours, now=clock.now())


def bid(provider: str, into: m.Window, units: int, hours: int = 10, reference: str = "far bid") -> m.Bid:
    row = world.node_class(provider)
    return place_bid(
        party=row.party, node_class=row, window=into, reference=reference, quantity_units=units, start_slot=0,
        end_slot=hours, price_ask_micros=500_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def opened(into: m.Window) -> m.Window:
    m.Window.objects.filter(pk=into.pk).update(state="BIDDING")
    return m.Window.objects.get(pk=into.pk)


def test_without_funded_demand_admission_and_bid_are_refused() -> None:
    into, asked = opened(far_window()), ask("harbour", 1)
    with refused(DemandFirst, asked_unit_hours=1, covered_unit_hours=0, admitted_unit_hours=0) as refusal:
        admit(admission=asked, now=clock.now())
    with refused(DemandFirst, rule="admission", admitted_unit_hours=0):
        bid("harbour", into, 1)

    assert refusal.value.code == "demand_first"
    assert m.Admission.objects.get(node_class__party__slug="harbour", state="WAITLIST").unit_hours == 1


# cover ratio in ppm, already admitted, asked: is it let in? 40 unit-hours are funded.
BOUNDARY = [
    (2_000_000, 0, 80, True), (2_000_000, 0, 81, False), (2_000_000, 50, 30, True), (2_000_000, 50, 31, False),
    (2_000_000, 80, 1, False), (1_000_000, 0, 40, True), (1_000_000, 0, 41, False), (500_000, 0, 20, True),
    (500_000, 0, 21, False), (1_012_500, 0, 40, True), (1_012_500, 0, 41, False), (1_025_000, 0, 41, True),
    (1, 0, 1, False),
]  # fmt: skip


@pytest.mark.parametrize(("cover_ppm", "admitted", "asked", "fits"), BOUNDARY)
def test_admission_reaches_the_ratio_and_one_unit_more_fails(
    cover_ppm: int, admitted: int, asked: int, fits: bool
) -> None:
    fund(far_window(cover_ppm=cover_ppm))
    if admitted:
        admit(admission=ask("basalt", admitted), now=clock.now())

    if fits:
        assert admit(admission=ask("harbour", asked), now=clock.now()).state == "ADMITTED"
    else:
        row = ask("harbour", asked)
        with refused(DemandFirst, asked_unit_hours=asked, admitted_unit_hours=admitted):
            admit(admission=row, now=clock.now())


UNSERVED = [
    {"accepted_classes": ["A100"]}, {"zone_code": "US"}, {"tier_min": 2}, {"accepted_classes": ["A100"], "tier_min": 1},
]  # fmt: skip


@pytest.mark.parametrize("rules", UNSERVED, ids=str)
def test_demand_for_another_product_lets_nobody_in(rules: dict[str, Any]) -> None:
    fund(far_window(), **rules)

    asked = ask("harbour", 1)
    with refused(DemandFirst, covered_unit_hours=0):
        admit(admission=asked, now=clock.now())


def test_only_funded_demand_of_that_month_counts() -> None:
    into = far_window()
    demand = fund(into)
    later = (delivery_month(into) + timedelta(days=40)).replace(day=1)
    post_demand(
        party=world.party("elm"), window=into, reference="interest", kind="divisible", accepted_classes=["H100"],
        quantity_units=100, start_slot=0, end_slot=10, price_limit_micros=1_000_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip

    asked = ask("harbour", 1, month=later)
    with refused(DemandFirst, covered_unit_hours=0):
        admit(admission=asked, now=clock.now())
    asked = ask("harbour", 81)
    with refused(DemandFirst, covered_unit_hours=80):
        admit(admission=asked, now=clock.now())
    withdraw_demand(demand=demand, party=demand.party, now=clock.now())
    asked = ask("harbour", 80)
    with refused(DemandFirst, covered_unit_hours=0):
        admit(admission=asked, now=clock.now())


def test_a_failed_window_covers_nobody() -> None:
    into = far_window()
    fund(into)
    m.Window.objects.filter(pk=into.pk).update(state="FAILED")

    asked = ask("harbour", 1)
    with refused(DemandFirst, covered_unit_hours=0):
        admit(admission=asked, now=clock.now())


def test_the_database_itself_lets_nobody_in_beyond_the_ratio() -> None:
    fund(far_window())
    asked = ask("harbour", 81)

    with pytest.raises(IntegrityError, match="admission_is_covered_by_funded_demand"), transaction.atomic():
        m.Admission.objects.filter(pk=asked.pk).update(state="ADMITTED", decided_at=clock.now())
    m.Admission.objects.filter(pk=asked.pk).update(unit_hours=80)

    assert m.Admission.objects.filter(pk=asked.pk).update(state="ADMITTED", decided_at=clock.now()) == 1


def give_to_the_foundation(how: str, demand: m.Demand) -> None:
    """Put the Foundation behind a funded demand: as its buyer, or two owners above it."""
    base = {"kind": "enterprise_buyer", "country": "DE", "parent_country": "DE", "registered_at": clock.now()}
    if how == "its own":
        m.Party.objects.filter(pk=demand.party_id).update(kind="foundation")
        return
    kind = "enterprise_buyer" if how == "a stranger's" else "foundation"
    top = m.Party.objects.create(id=uuid7(clock.now()), slug="the-top", name="T", **base | {"kind": kind})
    middle = m.Party.objects.create(id=uuid7(clock.now()), slug="the-holding", name="H", parent=top, **base)
    m.Party.objects.filter(pk=demand.party_id).update(parent=middle)


# whose demand: what it covers of 40 funded unit-hours at a ratio of two
OWNERS = [("its own", 0), ("a company's below it", 0), ("a stranger's", 80)]


@pytest.mark.parametrize(("whose", "covered"), OWNERS, ids=[row[0] for row in OWNERS])
def test_what_the_foundation_demands_covers_nobody(whose: str, covered: int) -> None:
    into = far_window()
    demand = fund(into)
    give_to_the_foundation(whose, demand)
    over = ask("harbour", covered + 1)

    with refused(DemandFirst, covered_unit_hours=covered, asked_unit_hours=covered + 1):
        admit(admission=over, now=clock.now())
    assert places_of(over.node_class.party, clock.now())[-1].funded_unit_hours == covered // 2
    with pytest.raises(IntegrityError, match="admission_is_covered_by_funded_demand"), transaction.atomic():
        decide_by_sql(over)
    if covered:
        m.Admission.objects.filter(pk=over.pk).update(unit_hours=covered)
        assert decide_by_sql(over) == 1


def test_a_quote_beside_a_buyers_demand_adds_nothing_to_what_it_covers() -> None:
    into = far_window()
    bought = fund(into, units=2)
    give_to_the_foundation("its own", fund(into, reference="quote", units=2, by="cedar"))

    assert bought.unit_hours == 20
    over = ask("harbour", 41)
    with refused(DemandFirst, covered_unit_hours=40):
        admit(admission=over, now=clock.now())
    assert admit(admission=ask("harbour", 40), now=clock.now()).state == "ADMITTED"


def decide_by_sql(asked: m.Admission) -> int:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE marketplace_admission SET state = 'ADMITTED', decided_at = now() WHERE id = %s",
                       [asked.pk])  # fmt: skip
        return cursor.rowcount


def test_a_bid_keeps_within_what_was_let_in_whoever_writes_it() -> None:
    into = far_window()
    fund(into)
    admit(admission=ask("harbour", 50), now=clock.now())
    opened(into)

    with refused(DemandFirst, rule="admission", admitted_unit_hours=50, free_unit_hours=50, asked_unit_hours=60):
        bid("harbour", into, 6)
    first = bid("harbour", into, 4)
    with refused(DemandFirst, rule="admission", free_unit_hours=10, asked_unit_hours=20):
        bid("harbour", into, 2, reference="second")
    assert bid("harbour", into, 1, reference="second").state == "sealed"
    assert free_unit_hours(node_class=first.node_class, month=delivery_month(into)) == 0
    with behind_the_triggers():  # the wall looks at the terms where they are written: when bidding is over
        m.Window.objects.filter(pk=into.pk).update(state="CLEARING")
    terms = {"start_slot": 0, "end_slot": 10, "price_ask_micros": 1_000_000, "minimum_units": 0, "sla_id": "99.0",
             "state": "opened"}  # fmt: skip
    with pytest.raises(IntegrityError, match="bid_stays_within_its_admission"), transaction.atomic():
        m.Bid.objects.filter(pk=first.pk).update(quantity_units=6, **terms)
    assert m.Bid.objects.filter(pk=first.pk).update(quantity_units=4, **terms) == 1


def test_a_withdrawn_bid_gives_its_unit_hours_back_and_does_not_return_over_the_limit() -> None:
    into = far_window()
    fund(into)
    admit(admission=ask("harbour", 50), now=clock.now())
    opened(into)
    first = bid("harbour", into, 5)
    m.Bid.objects.filter(pk=first.pk).update(state="withdrawn")

    assert bid("harbour", into, 5, reference="again").state == "sealed"
    with refused(DemandFirst, rule="admission", free_unit_hours=0, asked_unit_hours=10):
        bid("harbour", into, 1, reference="one more")


def test_whoever_waits_enrols_proves_and_is_let_in_when_demand_is_funded() -> None:
    into, fjord = far_window(), world.node_class("fjord")
    late = enrol_node_class(party=fjord.party, site=fjord.site, resource_class_code="H100", units=2, tier=1,
                            claimed_name="late", now=clock.now())  # fmt: skip
    assert late.standing.state == "REGISTERED"
    waiting = [ask("sprout", 10), ask("harbour", 100), ask("basalt", 30)]
    assert [places_of(row.node_class.party, clock.now())[-1].place for row in waiting] == [1, 2, 3]

    fund(into)
    place = places_of(waiting[1].node_class.party, clock.now())[-1]
    assert (place.place, place.waiting, place.funded_unit_hours, place.cover.room_unit_hours) == (2, 3, 40, 80)
    # sprout has proven nothing and harbour asks for more than there is room: basalt passes both.
    assert admit_waiting(now=clock.now()) == 1
    with refused(NotEligible, rule="standing", standing="REGISTERED"):
        admit(admission=waiting[0], now=clock.now())
    states = {row.node_class.party.slug: m.Admission.objects.get(pk=row.pk).state for row in waiting}

    assert states == {"sprout": "WAITLIST", "harbour": "WAITLIST", "basalt": "ADMITTED"}


def test_asking_again_changes_the_amount_and_asking_the_same_changes_nothing() -> None:
    first = ask("harbour", 10)
    with untouched():
        assert ask("harbour", 10) == first
    later = clock.now() + timedelta(minutes=5)
    row = world.node_class("harbour")
    month = first.month

    less = ask_admission(party=row.party, node_class=row, month=month, unit_hours=5, now=later)
    assert (less.pk, less.unit_hours, less.asked_at) == (first.pk, 5, first.asked_at)
    more = ask_admission(party=row.party, node_class=row, month=month, unit_hours=500, now=later)
    assert (more.pk, more.asked_at) == (first.pk, later)


@pytest.mark.parametrize("hours", [0, -1, 16 * 744 + 1, 2**63, 1.5, True, "10"])
def test_a_bad_amount_is_refused(hours: Any) -> None:
    with refused(BadInput, field="unit_hours"):
        ask("harbour", hours)


def test_a_month_that_is_over_or_no_month_is_refused() -> None:
    over = (clock.now().date().replace(day=1) - timedelta(days=1)).replace(day=1)
    for month in (over, date(2030, 1, 2), "2030-01"):
        with refused(BadInput, field="month"):
            ask("harbour", 1, month=month)


def test_a_stranger_neither_asks_for_another_nor_takes_its_request_back() -> None:
    row, asked = world.node_class("harbour"), ask("harbour", 5)
    with refused(NotYours):
        ask_admission(party=world.party("basalt"), node_class=row, month=asked.month, unit_hours=5, now=clock.now())
    with refused(NotYours):
        leave_waitlist(admission=asked, party=world.party("basalt"), now=clock.now())

    assert leave_waitlist(admission=asked, party=row.party, now=clock.now()).state == "WITHDRAWN"
    with refused(WindowClosed, state="WITHDRAWN"):
        admit(admission=asked, now=clock.now())
