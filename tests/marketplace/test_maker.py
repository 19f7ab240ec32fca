"""The Foundation's own trade: limits of two people, the stop at the limit, what is published, and its gate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from ledger.ids import uuid7
from ledger.selectors import hold
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.books import build_book
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.demand.selectors import gates_of
from marketplace.demand.services import funded_figures
from marketplace.errors import BadInput, MakerLimit, MakerStopped, NotYours, RoleForbidden, SamePerson
from marketplace.maker import selectors, services
from marketplace.parties.seats import accept_invitation, invite
from marketplace.parties.services import make_seat
from marketplace.parties.two_people import ONE_PERSON_FOR
from tests.journey import world
from tests.journey.refusals import refused, untouched

WIDE: dict[str, Any] = {
    "resource_classes": ["H100"], "notional_max_micros": 200 * world.USD, "inventory_max_unit_hours": 60,
    "loss_max_micros": 150 * world.USD, "spread_max_ppm": 250_000, "reason": "a first season",
}  # fmt: skip


def in_force(**changes: Any) -> m.MakerLimits:
    limits = services.propose_limits(**WIDE | changes, person="ann", now=clock.now())
    return services.approve_limits(limits_id=limits.pk, person="ben", now=clock.now())


def limits_since(began: Any, **changes: Any) -> m.MakerLimits:
    """Limits that came into force earlier than now."""
    return m.MakerLimits.objects.create(
        id=uuid7(clock.now()), **WIDE | changes, proposed_by="ann", proposed_at=began, approved_by="ben",
        approved_at=began,
    )  # fmt: skip


def foundation() -> m.Party:
    """Alder's money and history in the Foundation's hands."""
    m.Party.objects.filter(slug="alder").update(kind="foundation")
    return world.party("alder")


def quote(**changes: Any) -> m.Demand:
    terms: dict[str, Any] = {
        "party": world.party("alder"), "window": world.window(), "reference": "own", "resource_class": "H100",
        "quantity_units": 1, "start_slot": 0, "end_slot": 5, "price_limit_micros": 2_000_000, "sla_code": "99.0",
        "person": "ann", "now": clock.now(),
    }  # fmt: skip
    return services.place_quote(**terms | changes)


def rich() -> m.Party:
    """The Foundation with the money that alder's own demands held."""
    from marketplace.demand.services import withdraw_demand

    alder = world.party("alder")
    for demand in world.window().demands.filter(party=alder, state="funded"):
        withdraw_demand(demand=demand, party=alder, now=clock.now())
    return foundation()


# --- two people -----------------------------------------------------------------------------------------------------
@pytest.mark.stage("collecting")
def test_limits_come_into_force_by_a_second_person_only() -> None:
    rich()
    limits = services.propose_limits(**WIDE, person="ann", now=clock.now())

    with refused(MakerStopped):
        quote()
    with refused(SamePerson, proposed_by="ann"):
        services.approve_limits(limits_id=limits.pk, person="ann", now=clock.now())
    with pytest.raises(IntegrityError, match="maker_limits_take_two_people"), transaction.atomic():
        m.MakerLimits.objects.filter(pk=limits.pk).update(approved_by="ann", approved_at=clock.now())

    assert services.approve_limits(limits_id=limits.pk, person="ben", now=clock.now()) == selectors.limits_in_force()
    with refused(NotYours):
        services.approve_limits(limits_id=limits.pk, person="cid", now=clock.now())
    assert quote().state == "funded"


@pytest.mark.stage("collecting")
def test_newer_limits_end_those_before_and_refused_ones_never_begin() -> None:
    first = in_force()
    second = in_force(loss_max_micros=1)
    third = services.propose_limits(**WIDE, person="ann", now=clock.now())
    services.refuse_limits(limits_id=third.pk, person="ben", reason="too wide", now=clock.now())

    first.refresh_from_db()
    assert (first.ended_at is not None, selectors.limits_in_force()) == (True, second)
    with refused(NotYours):
        services.approve_limits(limits_id=third.pk, person="ben", now=clock.now())


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "field"), [
    ({"notional_max_micros": 0}, "notional_max_micros"), ({"loss_max_micros": -1}, "loss_max_micros"),
    ({"inventory_max_unit_hours": 1.5}, "inventory_max_unit_hours"), ({"spread_max_ppm": 10**6 + 1}, "spread_max_ppm"),
    ({"resource_classes": []}, "accepted_classes"), ({"reason": ""}, "reason"), ({"notional_max_micros": True},
                                                                               "notional_max_micros"),
])  # fmt: skip
def test_bad_limits_are_refused_beside_their_field(changes: dict[str, Any], field: str) -> None:
    with refused(BadInput, field=field):
        services.propose_limits(**WIDE | changes, person="ann", now=clock.now())


@pytest.mark.stage("founded")
def test_limits_are_let_by_nobody_who_quotes_and_not_by_two_who_do() -> None:
    party = foundation()
    ann, ben, cid, eve = (
        make_seat(party=party, email=f"{who}@alder.example", password=None, role=role, now=clock.now()).user.email
        for who, role in (("ann", "market_maker"), ("ben", "market_maker"), ("cid", "operations"), ("eve", "auditor"))
    )
    with refused(RoleForbidden, role="auditor"):
        services.propose_limits(**WIDE, person=eve, now=clock.now())
    limits = services.propose_limits(**WIDE, person=ann, now=clock.now())

    for who, role in ((ben, "market_maker"), (eve, "auditor")):
        with refused(RoleForbidden, role=role):
            services.approve_limits(limits_id=limits.pk, person=who, now=clock.now())
        with refused(RoleForbidden, role=role):
            services.refuse_limits(limits_id=limits.pk, person=who, reason="r", now=clock.now())
    with pytest.raises(IntegrityError, match="maker_limits_are_let_by_another_role"), transaction.atomic():
        m.MakerLimits.objects.filter(pk=limits.pk).update(approved_by=ben, approved_at=clock.now())
    assert services.approve_limits(limits_id=limits.pk, person=cid, now=clock.now()) == selectors.limits_in_force()
    own = services.propose_limits(**WIDE, person=ann, now=clock.now())
    services.refuse_limits(limits_id=own.pk, person=ann, reason="mistyped", now=clock.now())  # one's own is taken back


# --- inside the limits, by service and by database --------------------------------------------------------------------
BREAKS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("products", {"resource_classes": ["A100"]}, {}, "maker_keeps_its_products"),
    ("spread", {"spread_max_ppm": 99_999}, {"price_limit_micros": 2_200_000}, "maker_keeps_its_spread"),
    ("notional", {"notional_max_micros": 10_000_000 - 1}, {}, "maker_keeps_its_notional"),
    ("inventory", {"inventory_max_unit_hours": 4}, {}, "maker_keeps_its_inventory"),
]


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("rule", "limits", "terms", "wall"), BREAKS, ids=[row[0] for row in BREAKS])
def test_a_quote_beyond_a_limit_is_refused_by_service_and_by_the_database(
    rule: str, limits: dict[str, Any], terms: dict[str, Any], wall: str
) -> None:
    rich()
    in_force(**limits)

    with refused(MakerLimit, rule=rule):
        quote(**terms)

    other = world.demand("climate")
    m.Party.objects.filter(pk=other.party_id).update(kind="foundation")  # a funded demand that never met the service
    m.Demand.objects.filter(party_id=other.party_id).exclude(pk=other.pk).update(state="withdrawn")
    m.Demand.objects.filter(pk=other.pk).update(
        state="posted", **{"quantity_units": 1, "start_slot": 0, "end_slot": 5, "price_limit_micros": 2_000_000} | terms
    )
    with pytest.raises(IntegrityError, match=wall), transaction.atomic():
        m.Demand.objects.filter(pk=other.pk).update(state="funded")


@pytest.mark.stage("collecting")
def test_exactly_at_the_limits_is_inside_them_and_one_more_is_not() -> None:
    rich()
    in_force(notional_max_micros=20 * world.USD, inventory_max_unit_hours=10, spread_max_ppm=100_000)

    assert quote().state == "funded"
    assert quote(reference="more").state == "funded"  # 10 unit-hours, 20 dollars
    with refused(MakerLimit, rule="notional"):
        quote(reference="one more", end_slot=1)
    with untouched():
        assert quote(reference="more").state == "funded"  # the same reference is one quote
    assert quote_use() == (20 * world.USD, 10)


def quote_use() -> tuple[int, int]:
    limits = selectors.limits_in_force()
    assert limits is not None
    use = selectors.use_of_limits(limits)
    return use.notional_micros, use.unit_hours


@pytest.mark.stage("collecting")
def test_a_quote_that_stands_is_not_made_larger_behind_its_limits() -> None:
    rich()
    in_force(notional_max_micros=10 * world.USD)
    own = quote()

    with pytest.raises(IntegrityError, match="maker_keeps_its_notional"), transaction.atomic():
        m.Demand.objects.filter(pk=own.pk).update(quantity_units=2)
    assert m.Demand.objects.filter(pk=own.pk).update(price_limit_micros=1_900_000) == 1


@pytest.mark.stage("collecting")
def test_a_quote_taken_back_frees_its_money_and_its_room() -> None:
    rich()
    in_force()
    own = quote()

    services.withdraw_quote(demand=own, person="ann", now=clock.now())

    assert (hold(own.hold_id).state, quote_use()) == ("void", (0, 0))


@pytest.mark.stage("collecting")
def test_only_the_foundation_is_market_maker_and_it_opens_no_gate() -> None:
    in_force()
    with refused(BadInput, field="party"):
        quote(party=world.party("birch"))

    rich()
    before = funded_figures(window=world.window()), gates_of([world.window()])
    quote()
    assert (funded_figures(window=world.window()), gates_of([world.window()])) == before


# --- the stop ---------------------------------------------------------------------------------------------------------
@pytest.mark.stage("closed")
def test_at_the_loss_limit_trade_stops_by_itself_and_open_quotes_are_taken_back() -> None:
    foundation()
    lost = selectors.daily_results()
    assert len(lost) == 2  # alder's leases of both windows
    total = -sum(day.result_micros for day in lost)
    limits = limits_since(world.day(0), loss_max_micros=total + 1, inventory_max_unit_hours=10**6)
    assert selectors.loss_micros(limits) == total > 0
    window = world._open("Next", world.day(60), gate_unit_hours=1, gate_parties=1)
    own = quote(window=window)
    assert services.watch_limits(now=clock.now()) == 0  # one micro-dollar of room is left
    with transaction.atomic():
        assert m.Demand.objects.filter(pk=own.pk).update(quantity_units=2) == 1  # and the database sees it too
        transaction.set_rollback(True)

    m.MakerLimits.objects.filter(pk=limits.pk).update(ended_at=clock.now())
    at_limit = limits_since(world.day(0), loss_max_micros=total, inventory_max_unit_hours=10**6)
    with refused(MakerLimit, rule="loss"):
        quote(window=window, reference="late")
    with pytest.raises(IntegrityError, match="maker_keeps_its_loss"), transaction.atomic():
        m.Demand.objects.filter(pk=own.pk).update(quantity_units=2)
    assert dict(cycle.MARKET_STEPS)["watch the market-maker"] is services.watch_limits  # every turn looks
    assert services.watch_limits(now=clock.now()) == 1
    stop = m.MakerStop.objects.get(limits=at_limit)
    assert (stop.rule, stop.loss_micros, stop.stopped_by) == ("loss", total, "market")
    own.refresh_from_db()
    assert (own.state, hold(own.hold_id).state) == ("withdrawn", "void")
    with refused(MakerStopped):
        quote(window=window, reference="later")
    with untouched():
        assert services.watch_limits(now=clock.now()) == 0  # it stops once


@pytest.mark.stage("collecting")
def test_a_person_stops_trade_and_only_new_limits_of_two_people_start_it_again() -> None:
    rich()
    in_force()
    own = quote()

    assert services.stop_trading(rule="person", person="cid", reason="a rumour", now=clock.now()) == 1

    own.refresh_from_db()
    assert own.state == "withdrawn"
    with refused(MakerStopped):
        quote(reference="again")
    in_force()
    assert quote(reference="again").state == "funded"


# --- what is published ------------------------------------------------------------------------------------------------
@pytest.mark.stage("collecting")
def test_its_lines_are_flagged_in_the_bundle_and_on_the_public_page() -> None:
    rich()
    in_force()
    quote(zone_code="EU", end_slot=20)
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    world._bid(world.window(), world.OFFERS)
    close_bidding(window=world.window(), now=clock.move_to(world.window().bidding_closes_at))
    clearing = clear_window(window=world.window(), now=clock.now())

    lines = bytes(clearing.files.get(name="demands.jsonl").body).decode().splitlines()
    assert sum('"is_foundation":true' in line for line in lines) == 1
    own = selectors.own_trade(clearing)
    assert own is not None
    assert (own.lines, own.unit_hours) == (1, 20)
    assert own.micros == sum(a.amount_micros for a in clearing.awards.filter(demand__reference="own"))
    page = Client().get("/market/").content.decode()
    assert "1 of its own lines, 20 unit-hours bought for" in page


@pytest.mark.stage("closed")
def test_the_daily_result_on_the_public_page_is_that_of_the_books() -> None:
    assert "Nothing of its own was settled yet" in Client().get("/market/").content.decode()
    foundation()
    days = selectors.daily_results()
    page = Client().get("/market/").content.decode()

    lines = m.SettlementLine.objects.filter(lease__buyer__kind="foundation")
    assert sum(day.paid_micros for day in days) == sum(line.earned_micros for line in lines) > 0
    assert all(f"{day.day:%Y-%m-%d}" in page for day in days)


@pytest.mark.stage("collecting")
def test_a_conflict_of_interest_is_kept_for_ever() -> None:
    row = services.record_conflict(person="ann", about="granite", what="sits on its board", recorded_by="ben",
                                   now=clock.now())  # fmt: skip
    with refused(BadInput, field="about"):
        services.record_conflict(person="ann", about="", what="x", recorded_by="ben", now=clock.now())

    assert m.AuditLine.objects.get(action="record_conflict").subject == "ann"
    with pytest.raises(Exception, match="permission denied"), transaction.atomic():
        m.Conflict.objects.filter(pk=row.pk).update(what="nothing")


@pytest.mark.stage("collecting")
def test_limits_are_let_by_nobody_whom_the_first_person_let_in_and_by_whom_the_operator_did() -> None:
    admin = make_seat(party=foundation(), email="zoe@alder.example", password=None, role="admin", now=clock.now())

    def let_in(name: str, by: m.Seat | None) -> str:
        _, secret = invite(party=admin.party, by=by, email=f"{name}@alder.example", role="operations", now=clock.now())
        accept_invitation(secret=secret, name="Noa Neu", password="a long enough password", now=clock.now())
        return f"{name}@alder.example"

    second, third, other = let_in("second", admin), let_in("third", admin), let_in("other", None)
    for first, name in ((admin.user.email, second), (second, admin.user.email), (second, third)):
        row = services.propose_limits(**WIDE, person=first, now=clock.now())
        with refused(SamePerson):
            services.approve_limits(limits_id=row.pk, person=name, now=clock.now())
    assert services.approve_limits(limits_id=row.pk, person=other, now=clock.now()).approved_by == other
    row = services.propose_limits(**WIDE, person=second, now=clock.now())
    later = clock.now() + ONE_PERSON_FOR + timedelta(minutes=1)
    assert services.approve_limits(limits_id=row.pk, person=third, now=later).approved_by == third


# --- the door ---------------------------------------------------------------------------------------------------------
@pytest.mark.stage("collecting")
def test_the_console_sets_limits_by_two_people_and_places_and_stops_quotes() -> None:
    party = rich()
    ann, ben = staff(party, "ann@foundation.example"), staff(party, "ben@foundation.example", role="operations")
    fay = staff(party, "fay@foundation.example", role="market_maker")
    path = "/console/market-maker/"
    typed = WIDE | {"notional_max_micros": "$200", "loss_max_micros": "150.000001"}
    limits = {f"limits-{name}": value for name, value in typed.items()}

    for wrong, why in (("200.0000001", "At most six decimals"), ("-200", "Write an amount in dollars")):
        page = ann.post(path, {"act": "propose", **limits, "limits-notional_max_micros": wrong}, follow=True)
        assert f"Most at stake, dollars: {why}" in page.content.decode()
    assert not m.MakerLimits.objects.exists()
    ann.post(path, {"act": "propose", **limits})
    proposed = m.MakerLimits.objects.get()
    assert (proposed.notional_max_micros, proposed.loss_max_micros) == (200_000_000, 150_000_001)
    assert "another person approves" in ann.get(path).content.decode()
    assert "role_forbidden" in ann.post(path, {"act": "approve", "id": proposed.pk}, follow=True).content.decode()
    assert "a person approves who does not quote" in fay.get(path).content.decode()
    assert "role_forbidden" in fay.post(path, {"act": "approve", "id": proposed.pk}, follow=True).content.decode()
    ben.post(path, {"act": "approve", "id": proposed.pk})
    own = {"window": world.window().pk, "reference": "own", "resource_class": "H100", "quantity_units": 1,
           "start_slot": 0, "end_slot": 5, "price_limit_micros": "2.00", "sla_code": "99.0",
           "target_start_by_minutes_max": 15}  # fmt: skip
    ann.post(path, {"act": "quote", **{f"quote-{name}": value for name, value in own.items()}})
    placed = m.MakerQuote.objects.get()
    assert placed.demand.price_limit_micros == 2_000_000
    assert (placed.placed_by, placed.demand.sla_targets) == ("ann@foundation.example", {"start_by_minutes_max": 15})
    contrary = own | {"reference": "contrary", "target_latency_p50_ms_max": 50, "target_latency_p95_ms_max": 20}
    ann.post(path, {"act": "quote", **{f"quote-{name}": value for name, value in contrary.items()}})
    assert not m.Demand.objects.filter(reference="contrary").exists()
    big = own | {"reference": "big", "quantity_units": 1000}
    page = ann.post(path, {"act": "quote", **{f"quote-{n}": v for n, v in big.items()}}, follow=True).content.decode()
    assert "maker_limit" in page
    assert not m.Demand.objects.filter(reference="big").exists()
    ben.post(path, {"act": "stop", "reason": "enough for today"})
    assert "enough for today" in ann.get(path).content.decode()
    ann.post(path, {"act": "conflict", "conflict-person": "ann", "conflict-about": "x", "conflict-what": "y"})
    assert m.Conflict.objects.get().recorded_by == "ann@foundation.example"
    assert ann.post(path, {"act": "dance"}).status_code == 404


def staff(party: m.Party, email: str, role: str = "market_maker") -> Client:
    user = m.User.objects.create_user(email, "correct horse battery", is_staff=True)
    m.Seat.objects.create(id=uuid7(clock.now()), user=user, party=party, role=role)
    client = Client()
    client.force_login(user)
    return client


# --- what the Foundation owns ---------------------------------------------------------------------------------------
def owned(slug: str) -> m.Party:
    """A company below a company below the Foundation."""
    base = {"kind": "enterprise_buyer", "country": "DE", "parent_country": "DE", "registered_at": clock.now()}
    own = base | {"kind": "foundation"}
    top = m.Party.objects.create(id=uuid7(clock.now()), slug="the-foundation", name="F", **own)
    middle = m.Party.objects.create(id=uuid7(clock.now()), slug="the-holding", name="H", parent=top, **base)
    m.Party.objects.filter(slug=slug).update(parent=middle)
    return world.party(slug)


@pytest.mark.stage("collecting")
def test_a_company_of_the_foundation_funds_demand_inside_the_foundations_limits_only() -> None:
    from marketplace.demand.services import fund_demand, post_demand, withdraw_demand

    alder, gate = world.party("alder"), funded_figures(window=world.window())
    for demand in world.window().demands.filter(party=alder, state="funded"):
        withdraw_demand(demand=demand, party=alder, now=clock.now())
    company = owned("alder")
    row = post_demand(
        party=company, window=world.window(), reference="by the back door", kind="divisible", accepted_classes=["H100"],
        quantity_units=1, start_slot=0, end_slot=5, price_limit_micros=2_000_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip

    with refused(MakerLimit, rule="maker_has_limits_of_two_people"):
        fund_demand(demand=row, party=company, now=clock.now())
    in_force(notional_max_micros=9 * world.USD)
    with refused(MakerLimit, rule="maker_keeps_its_notional"):
        fund_demand(demand=row, party=company, now=clock.now())
    in_force(notional_max_micros=10 * world.USD)
    fund_demand(demand=row, party=company, now=clock.now())

    assert selectors.use_of_limits(selectors.limits_in_force()).notional_micros == 10 * world.USD
    after = funded_figures(window=world.window())
    assert after["funded_parties"] == gate["funded_parties"] - 1  # nobody opens its own market
    assert gates_of([world.window()])[world.window().pk].parties == after["funded_parties"]
    book, lines = build_book(window=world.window())
    flags = {lines.demands[name].reference: flag for name, flag in zip(book.demands.ids, book.demands.is_foundation,
                                                                       strict=True)}  # fmt: skip
    assert flags["by the back door"]
    assert not flags["climate"]


@pytest.mark.stage("bidding")
def test_nothing_that_the_foundation_owns_bids_under_its_seal() -> None:
    from marketplace.errors import NotEligible
    from marketplace.supply.bids import place_bid

    company = owned("granite")
    offer: dict[str, Any] = {
        "party": company, "node_class": world.node_class("granite"), "window": world.window(), "quantity_units": 1,
        "reference": "own", "start_slot": 0, "end_slot": 1, "price_ask_micros": 1_600_000, "sla_code": "99.0",
    }  # fmt: skip

    with refused(NotEligible, rule="foundation"):
        place_bid(**offer, now=clock.now())
    with pytest.raises(IntegrityError, match="bid_is_not_of_the_foundation"), transaction.atomic():
        m.Bid.objects.create(
            id=uuid7(clock.now()), window=world.window(), party=company, accepted_rank=10**6, reference="own",
            node_class=world.node_class("granite"), placed_at=clock.now(),
        )  # fmt: skip
    m.Party.objects.filter(slug="granite").update(parent=None)
    assert place_bid(**offer | {"party": world.party("granite")}, now=clock.now()).quantity_units == 1
