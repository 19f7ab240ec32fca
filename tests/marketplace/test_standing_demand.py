"""A demand that lasts enters each following window on its terms, funded window by window, under its renewal cap."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from ledger import faults
from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.compliance.agreements import propose_agreement, sign_agreement
from marketplace.compliance.papers import Paper
from marketplace.demand.approvals import approve_demand
from marketplace.demand.services import amend_demand, unfund_demand, withdraw_demand
from marketplace.errors import BadInput, NotYours, ReferenceReused, RenewalAboveCap, UnknownName, WindowClosed
from marketplace.escrow.advances import ask_line
from marketplace.escrow.services import lock_window
from marketplace.escrow.standing import (
    enter_windows,
    fund_waiting,
    last_paid_micros,
    renewal_cap_micros,
    reprice,
    stand,
    withdraw_standing,
)
from marketplace.oversight.winddowns import watch_papers
from marketplace.parties.services import make_seat
from marketplace.spending.services import set_seat_limit, set_spending_rule
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers, unseen

pytestmark = pytest.mark.stage("collecting")


def lasting(**changes: Any) -> m.StandingDemand:
    terms: dict[str, Any] = {
        "party": world.party("birch"), "reference": "lasts", "kind": "divisible", "accepted_classes": ["H100"],
        "quantity_units": 2, "price_limit_micros": 2_000_000, "renewal_cap_ppm": 100_000, "sla_code": "99.0",
        "zone_code": "EU", "starts_at": world.day(20), "ends_at": world.day(120), "now": clock.now(),
    }  # fmt: skip
    return stand(**terms | changes)


def another(name: str, days: int, **changes: Any) -> m.Window:
    starts_at = world.day(days)
    terms: dict[str, Any] = {
        "name": name, "slots": 10, "starts_at": starts_at, "demand_closes_at": starts_at - timedelta(days=3),
        "no_cancel_from": starts_at - timedelta(days=2), "bidding_closes_at": starts_at - timedelta(days=1),
        "gate_unit_hours": 1, "gate_parties": 1, "now": clock.now(),
    }  # fmt: skip
    return open_window(**terms | changes)


def entries(standing: m.StandingDemand) -> dict[str, tuple[str, int, str]]:
    """Window name -> state of its demand, limit, refusal."""
    rows = standing.entries.select_related("window", "demand")
    return {row.window.name: (row.demand.state, row.limit_micros, row.refusal) for row in rows}


def paid_before(limit_micros: int = 2_500_000, cap_ppm: int = 100_000) -> m.StandingDemand:
    """A standing demand whose last entry is `climate`, which was cleared, leased and paid."""
    standing = lasting(price_limit_micros=limit_micros, renewal_cap_ppm=cap_ppm)
    climate = world.demand("climate")
    m.StandingEntry.objects.create(standing=standing, window=climate.window, demand=climate, cap_ppm=cap_ppm,
                                   limit_micros=climate.price_limit_micros, at=clock.now())  # fmt: skip
    return standing


def test_it_enters_each_window_of_its_time_and_is_funded_there() -> None:
    climate = world.demand("climate")
    withdraw_demand(demand=climate, party=climate.party, now=clock.now())
    for name, days, kind in (("one", 40, "market"), ("two", 50, "market"), ("pair", 55, "bilateral"),
                             ("beyond", 120, "market")):  # fmt: skip
        another(name, days, kind=kind)
    standing = lasting()

    assert enter_windows(now=clock.now()) == 3
    assert entries(standing) == {
        "Main window": ("funded", 2_000_000, ""), "one": ("funded", 2_000_000, ""), "two": ("funded", 2_000_000, ""),
    }
    with untouched():
        assert enter_windows(now=clock.now()) == 0
    demand = m.Demand.objects.get(standing_entry__window__name="one")
    assert (demand.unit_hours, demand.zone_id, demand.funding_kind) == (20, "EU", "escrow")


def test_without_money_it_enters_as_interest_and_stands_on() -> None:
    another("one", 40)
    standing = lasting(party=world.party("elm"))

    assert enter_windows(now=clock.now()) == 2
    assert entries(standing) == {
        "Main window": ("posted", 2_000_000, "not_funded"), "one": ("posted", 2_000_000, "not_funded"),
    }
    assert m.StandingDemand.objects.get(pk=standing.pk).state == "active"


def test_it_ends_at_its_end_and_at_its_withdrawal() -> None:
    ended, withdrawn = lasting(party=world.party("elm"), reference="ended", ends_at=world.day(39)), lasting()
    withdraw_standing(standing=withdrawn, party=withdrawn.party, now=clock.now())
    another("one", 40)

    assert enter_windows(now=clock.now()) == 1  # the main window, by the one that has not ended yet
    enter_windows(now=world.day(39))

    states = dict(m.StandingDemand.objects.values_list("reference", "state"))
    assert states == {"ended": "ended", "lasts": "withdrawn"}
    assert list(entries(ended)) == ["Main window"]
    assert entries(withdrawn) == {}
    with refused(WindowClosed, state="withdrawn"):
        reprice(standing=withdrawn, party=withdrawn.party, price_limit_micros=1_000_000, now=clock.now())


def test_a_kill_between_demand_and_entry_leaves_neither() -> None:
    lasting(party=world.party("elm"))
    with untouched(), faults.armed("demand.standing.before_entry"), pytest.raises(faults.FaultInjected):
        enter_windows(now=clock.now())

    assert enter_windows(now=clock.now()) == 1


@pytest.mark.stage("closed")
def test_a_renewal_enters_at_its_limit_or_under_its_cap_whichever_is_less() -> None:
    standing = paid_before()
    lease = m.Lease.objects.get(demand__reference="climate")
    paid = lease.fee_micros // lease.unit_hours
    cap = (paid + paid // 10) // 100 * 100
    assert (last_paid_micros(standing), renewal_cap_micros(standing)) == (paid, cap)
    another("next", 60)

    assert enter_windows(now=clock.now()) == 1

    entry = standing.entries.get(window__name="next")
    assert (entry.limit_micros, entry.paid_micros) == (min(2_500_000, cap), paid)
    assert entry.demand.price_limit_micros == entry.limit_micros


@pytest.mark.stage("closed")
@pytest.mark.parametrize(("over", "fits"), [(0, True), (100, False), (10_000_000, False)])
def test_a_renewal_above_its_cap_is_refused(over: int, fits: bool) -> None:
    standing = paid_before(cap_ppm=50_000)
    cap = renewal_cap_micros(standing)
    assert cap is not None

    if fits:
        assert reprice(standing=standing, party=standing.party, price_limit_micros=cap + over,
                       now=clock.now()).price_limit_micros == cap  # fmt: skip
    else:
        with refused(RenewalAboveCap, cap_micros=cap):
            reprice(standing=standing, party=standing.party, price_limit_micros=cap + over, now=clock.now())


@pytest.mark.stage("closed")
def test_the_database_lets_no_renewal_around_its_cap() -> None:
    """Neither by a row that names another price than was paid, or none, nor by raising the demand afterwards."""
    standing = paid_before(cap_ppm=50_000, limit_micros=1_000_000)
    another("next", 60)
    enter_windows(now=clock.now())
    renewed = standing.entries.get(window__name="next")
    cap, paid = renewal_cap_micros(standing), renewed.paid_micros
    assert cap is not None
    assert paid is not None
    with behind_the_triggers():
        m.StandingEntry.objects.filter(pk=renewed.pk).delete()
        m.Demand.objects.filter(pk=renewed.demand_id).update(price_limit_micros=cap + 100)

    def enter(limit: int, paid_micros: int | None) -> str:
        row = {"standing": standing, "window": renewed.window, "demand": renewed.demand, "cap_ppm": 50_000,
               "limit_micros": limit, "paid_micros": paid_micros, "at": clock.now()}  # fmt: skip
        return broken_by(lambda: m.StandingEntry.objects.create(**row))

    assert enter(cap + 100, paid) == "renewal_stays_under_its_cap"
    assert enter(cap + 100, None) == "renewal_is_capped_by_what_was_paid"
    assert enter(cap + 100, 2 * paid) == "renewal_is_capped_by_what_was_paid"
    with behind_the_triggers():
        m.Demand.objects.filter(pk=renewed.demand_id).update(price_limit_micros=cap)
    assert enter(cap, paid) == ""
    later = m.Demand.objects.filter(pk=renewed.demand_id)
    assert broken_by(lambda: later.update(price_limit_micros=cap + 100)) == "renewed_demand_stays_under_its_cap"
    unfund_demand(demand=renewed.demand, party=standing.party, now=clock.now())
    with refused(RenewalAboveCap, field="price_limit_micros"):
        amend_demand(demand=renewed.demand, party=standing.party, price_limit_micros=cap + 100, now=clock.now())
    assert amend_demand(demand=renewed.demand, party=standing.party, price_limit_micros=cap - 100,
                        now=clock.now()).price_limit_micros == cap - 100  # fmt: skip


def broken_by(attempt: Callable[[], object]) -> str:
    """The name under which the database refuses, or "" when it takes it."""
    try:
        with transaction.atomic():
            attempt()
    except IntegrityError as refusal:
        return str(refusal.__cause__.diag.constraint_name)  # type: ignore[union-attr]
    return ""


# --- data under an agreement ------------------------------------------------------------------------------------------
SLUGS = ("alder", "granite")


def sign_until(until: datetime, since: datetime | None = None) -> None:
    now = clock.now()
    seats = [make_seat(party=world.party(slug), email=f"o@{slug}.example", password=None, role="owner", now=now)
             for slug in SLUGS]  # fmt: skip
    row = propose_agreement(seat=seats[0], other=world.party("granite"), control_code="baa", purposes=["research"],
                            paper=Paper("baa.pdf", b"%PDF", since or now, until), now=now)  # fmt: skip
    for seat in seats:
        sign_agreement(agreement=row, seat=seat, title="Director", now=now)


def trade(window: m.Window) -> m.Clearing:
    """Granite bids, the window clears and its leases run; that the chain has locked their money is taken as done."""
    judge_gate(window=window, now=clock.move_to(window.demand_closes_at))
    world.let_in("granite", window, window.slots)
    place_bid(party=world.party("granite"), node_class=world.node_class("granite"), window=window,
              reference=f"granite {window.name}", quantity_units=1, start_slot=0, end_slot=window.slots,
              price_ask_micros=1_500_000, sla_code="99.0", now=clock.now())  # fmt: skip
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    clearing = clear_window(window=window, now=clock.now())
    lock_window(window=window, now=clock.now())
    unseen(m.Lease.objects.filter(window=window), state="locked")
    return clearing


@pytest.mark.parametrize("is_signed_again", [False, True])
def test_health_data_is_not_renewed_beyond_its_agreement_and_is_wound_down(is_signed_again: bool) -> None:
    """The whole way of a standing demand: awarded while the agreement holds, in the window after it only if there is
    another; else the running lease is wound down as soon as that is known, and both are told."""
    main = world.window()
    genome, buyer = world.demand("genome"), world.party("alder")
    withdraw_demand(demand=genome, party=buyer, now=clock.now())
    sign_until(main.ends_at)
    standing = lasting(party=buyer, reference="ward", kind="window", data_class="regulated-health", tier_min=2,
                       purpose="research", price_limit_micros=3_000_000, quantity_units=1)  # fmt: skip
    following = another("next", 24, starts_at=main.ends_at, demand_closes_at=main.starts_at + timedelta(hours=2),
                        no_cancel_from=main.starts_at + timedelta(hours=3),
                        bidding_closes_at=main.starts_at + timedelta(hours=4))  # fmt: skip
    assert enter_windows(now=clock.now()) == 2
    assert set(states_of(standing).values()) == {"funded"}
    first = m.Demand.objects.get(standing_entry__window=main)
    m.Window.objects.filter(pk=main.pk).update(gate_unit_hours=1, gate_parties=1)

    assert trade(main).awards.get(demand=first).bid.party.slug == "granite"

    lease = m.Lease.objects.get(demand=first)
    if is_signed_again:
        sign_until(following.ends_at, since=following.starts_at)
    now = clock.move_to(main.starts_at + timedelta(hours=1))
    with untouched():
        assert watch_papers(now=now) == 0
    second = m.Demand.objects.get(standing_entry__window=following)
    clearing = trade(following)

    if is_signed_again:
        assert clearing.awards.filter(demand=second).exists()
        with untouched():
            assert watch_papers(now=clock.now()) == 0
        return
    assert not clearing.awards.filter(demand=second).exists()
    assert clearing.reasons.get(demand=second).detail["rule"] == "papers"
    assert watch_papers(now=clock.now()) == 1
    assert watch_papers(now=clock.now()) == 0
    found = m.WindDown.objects.get()
    assert (found.lease, found.cause) == (lease, "agreement")
    assert "next: take the data home; it is not renewed" in found.sentence
    told = m.Notice.objects.filter(code="wind_down").values_list("party__slug", flat=True)
    assert sorted(told) == sorted(SLUGS)


def states_of(standing: m.StandingDemand) -> dict[str, str]:
    return {name: state for name, (state, _, _) in entries(standing).items()}


@pytest.mark.parametrize(("changes", "kind", "field"), [
    ({"party": "harbour"}, BadInput, "party"), ({"reference": ""}, BadInput, "reference"),
    ({"reference": "x" * 41}, BadInput, "reference"), ({"renewal_cap_ppm": -1}, BadInput, "renewal_cap_ppm"),
    ({"renewal_cap_ppm": 10**6 + 1}, BadInput, "renewal_cap_ppm"), ({"renewal_cap_ppm": 0.1}, BadInput,
                                                                      "renewal_cap_ppm"),
    ({"ends_at": 20}, BadInput, "ends_at"), ({"starts_at": 0, "ends_at": 1}, BadInput, "ends_at"),
    ({"funding": "hope"}, BadInput, "funding"), ({"funding": "grant"}, BadInput, "number"),
    ({"number": "PO 1"}, BadInput, "number"), ({"choice": "x"}, BadInput, "choice"),
    ({"accepted_classes": ["TPU"]}, UnknownName, "accepted_classes"), ({"zone_code": "XX"}, UnknownName, "zone_code"),
    ({"start_slot": 0}, BadInput, "start_slot"),
])  # fmt: skip
def test_bad_terms_are_refused_at_entry(changes: dict[str, Any], kind: type[Exception], field: str) -> None:
    told = {name: world.day(value) if name.endswith("_at") else value for name, value in changes.items()}
    if "party" in told:
        told["party"] = world.party(told["party"])
    with refused(kind, field=field):
        lasting(**told)


def test_the_same_reference_is_one_and_a_strangers_is_none() -> None:
    standing = lasting()
    with untouched():
        assert lasting() == standing
    with refused(ReferenceReused, field="reference"):
        lasting(quantity_units=3)
    with refused(NotYours):
        withdraw_standing(standing=standing, party=world.party("alder"), now=clock.now())


def free_climate() -> None:
    climate = world.demand("climate")
    withdraw_demand(demand=climate, party=climate.party, now=clock.now())


def test_one_above_the_threshold_is_funded_once_it_is_approved() -> None:
    free_climate()
    birch = world.party("birch")
    owner, approver = (make_seat(party=birch, email=f"{role}@birch.example", password=None, role=role, now=clock.now())
                       for role in ("owner", "approver"))  # fmt: skip
    set_spending_rule(seat=owner, threshold_micros=1, approvals_needed=1, needs_purchase_order=False, now=clock.now())
    set_seat_limit(seat=owner, of=approver, limit_micros=10**12, now=clock.now())
    another("one", 40)
    standing = lasting()
    enter_windows(now=clock.now())
    assert entries(standing)["one"] == ("pending", 2_000_000, "pending_approval")
    with untouched():
        assert fund_waiting(now=clock.now()) == 0
    demand = m.Demand.objects.get(standing_entry__window__name="one")

    approve_demand(demand=demand, seat=approver, reason="as planned", now=clock.now())

    assert fund_waiting(now=clock.now()) == 1
    assert entries(standing)["one"][0] == "funded"
    with untouched():
        assert fund_waiting(now=clock.now()) == 0


def test_what_is_withdrawn_or_too_late_is_not_funded_later() -> None:
    another("one", 40)
    standing = lasting(funding="purchase_order", number="PO 1", party=world.party("elm"))
    ask_line(party=world.party("elm"), kind="purchase_order", number="PO 1", limit_micros=10**9,
             valid_until=world.day(300), person="a@elm.example", now=clock.now())  # fmt: skip
    assert enter_windows(now=clock.now()) == 2
    assert entries(standing)["one"] == ("posted", 2_000_000, "line_not_decided")
    late = m.Window.objects.get(name="one").demand_closes_at
    assert fund_waiting(now=late) == 0

    withdraw_standing(standing=standing, party=standing.party, now=clock.now())

    assert fund_waiting(now=clock.now()) == 0
    assert entries(standing)["one"][0] == "posted"
