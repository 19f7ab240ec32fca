"""What is for sale: carve-outs, funding, calendars, devices, consortia (M-022, M-023, M-024, M-076)."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import clock
from marketplace import models as m
from marketplace.capacity.services import (
    Sellable,
    Times,
    add_calendar_rule,
    add_funding_source,
    assign_sub_site,
    enrol_device,
    parts_of,
    retire_device,
    set_carve_out,
    set_revenue_split,
    split_in_force,
    tag_funding,
)
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import (
    BadInput,
    CapacityPromised,
    CapacityReserved,
    DeviceTaken,
    NotYours,
    Overlapping,
    PastDate,
    PriceOutOfRange,
    RoleForbidden,
    SharesDoNotSum,
)
from marketplace.parties.services import make_seat
from marketplace.supply.bids import place_bid
from marketplace.supply.services import enrol_node_class
from tests.journey import world
from tests.journey.refusals import refused


def seat(slug: str = "harbour", role: str = "owner") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def whole_window() -> Times:
    window = world.window()
    return Times(window.starts_at, window.ends_at)


def carve(units: int, times: Times | None = None, slug: str = "harbour") -> m.CarveOut:
    return set_carve_out(seat=seat(slug), node_class=world.node_class(slug), units=units, purpose="own researchers",
                         times=times or whole_window(), now=clock.now())  # fmt: skip


def open_bidding() -> m.Window:
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    world.let_in("harbour", world.window(), 2_000)
    return world.window()


def bid(units: int, ask: int = 1_600_000, slots: tuple[int, int] = (0, 30)) -> m.Bid:
    return place_bid(
        party=world.party("harbour"), node_class=world.node_class("harbour"), window=world.window(), reference="b",
        quantity_units=units, start_slot=slots[0], end_slot=slots[1], price_ask_micros=ask, sla_code="99.0",
        now=clock.now(),
    )  # fmt: skip


def clear() -> m.Clearing:
    window = world.window()
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    return clear_window(window=window, now=clock.now())


@pytest.mark.stage("collecting")
def test_what_is_carved_out_is_never_sold() -> None:
    carve(14)
    open_bidding()

    with refused(CapacityReserved, sellable_units=2):
        bid(3)
    bid(2)
    clearing = clear()

    sold = clearing.awards.filter(bid__party__slug="harbour")
    assert sold
    by_slot = [sum(a.units for a in sold if a.start_slot <= slot < a.end_slot) for slot in range(30)]
    assert max(by_slot) == 2


@pytest.mark.stage("bidding")
def test_a_promise_is_kept_before_a_plan() -> None:
    """Harbour offers all of its 16 units in the whole window."""
    seat()
    with refused(CapacityPromised, promised_units=16):
        carve(1)
    with refused(CapacityPromised):
        add_calendar_rule(seat=seat(), node_class=world.node_class("harbour"), kind="closed", times=whole_window(),
                          now=clock.now())  # fmt: skip

    after = Times(world.window().ends_at, world.window().ends_at + timedelta(days=9))
    assert carve(1, after).units == 1


@pytest.mark.stage("collecting")
def test_carve_outs_do_not_overlap_and_lie_ahead() -> None:
    times, stranger = whole_window(), seat("granite")
    carve(2, times)

    with refused(Overlapping, field="from_at"):
        carve(1, Times(times.until_at - timedelta(hours=1), times.until_at + timedelta(days=1)))
    with refused(PastDate, field="from_at"):
        carve(1, Times(clock.now() - timedelta(days=9), clock.now() - timedelta(days=8)))
    with refused(PastDate, field="until_at"):
        carve(1, Times(times.until_at, times.until_at))
    with refused(BadInput, field="units"):
        carve(17, Times(times.until_at, times.until_at + timedelta(days=1)))
    with refused(NotYours):
        set_carve_out(seat=stranger, node_class=world.node_class("harbour"), units=1, times=times, purpose="p",
                      now=clock.now())  # fmt: skip
    assert carve(1, Times(times.until_at, times.until_at + timedelta(days=1))).units == 1


@pytest.mark.stage("collecting")
def test_units_of_a_grant_that_forbids_it_are_not_sold_and_cost_recovery_has_its_prices() -> None:
    now, node_class = clock.now(), world.node_class("harbour")
    for code, policy in (("closed-grant", "forbidden"), ("cost-grant", "cost_recovery")):
        add_funding_source(seat=reviewer_seat(now), code=code, name=code, policy=policy, source="the call", now=now)
    tag = {"seat": seat(), "node_class": node_class, "times": whole_window(), "now": now}

    with refused(BadInput, field="floor_micros"):
        tag_funding(source_code="cost-grant", units=4, **tag)
    with refused(PriceOutOfRange, field="floor_micros"):
        tag_funding(source_code="cost-grant", units=4, floor_micros=2, ceiling_micros=1, **tag)
    tag_funding(source_code="closed-grant", units=10, **tag)
    tag_funding(source_code="cost-grant", units=4, floor_micros=1_500_000, ceiling_micros=1_700_000, **tag)
    open_bidding()

    with refused(CapacityReserved, sellable_units=6):
        bid(7)
    for ask in (1_499_900, 1_700_100):
        with refused(PriceOutOfRange, floor_micros=1_500_000, ceiling_micros=1_700_000):
            bid(6, ask)
    bid(6)
    assert clear().awards.filter(bid__party__slug="harbour").exists()
    with refused(RoleForbidden):
        add_funding_source(seat=seat(), code="mine", name="m", policy="free", source="s", now=clock.now())


@pytest.mark.stage("collecting")
def test_hours_outside_the_calendar_are_not_sold() -> None:
    window = world.window()
    nights = {"weekdays": 127, "from_hour": 0, "until_hour": 6}
    add_calendar_rule(seat=seat(), node_class=world.node_class("harbour"), kind="open", times=whole_window(),
                      now=clock.now(), **nights)  # fmt: skip
    open_bidding()
    is_night = [window.slot_at(slot).hour < 6 for slot in range(window.slots)]
    first_day = next(slot for slot, night in enumerate(is_night) if not night)
    first_night = next(slot for slot in range(window.slots) if is_night[slot])

    with refused(CapacityReserved, sellable_units=0):
        bid(1, slots=(first_day, first_day + 1))
    assert bid(1, slots=(first_night, first_night + 1)).quantity_units == 1

    known = Sellable(world.node_class("harbour"))
    assert [known.units(window.slot_at(slot)) for slot in range(window.slots)] == [16 if n else 0 for n in is_night]


@pytest.mark.stage("collecting")
def test_firm_demand_never_lands_on_interruptible_supply() -> None:
    add_calendar_rule(seat=seat(), node_class=world.node_class("harbour"), kind="open", times=whole_window(),
                      is_firm=False, now=clock.now())  # fmt: skip
    m.Demand.objects.filter(reference="climate").update(accepts_interruptible=True)
    open_bidding()
    bid(16)

    served = set(clear().awards.filter(bid__party__slug="harbour").values_list("demand__reference", flat=True))

    assert served == {"climate"}


@pytest.mark.stage("collecting")
def test_the_same_hardware_is_not_listed_twice() -> None:
    key, now = b"k" * 32, clock.now()
    one = enrol_device(seat=seat("harbour"), node_class=world.node_class("harbour"), device_key=key, label="a", now=now)
    owner = seat("granite")

    with refused(DeviceTaken, field="device_key"):
        enrol_device(seat=owner, node_class=world.node_class("granite"), device_key=key, label="b", now=now)
    with pytest.raises(IntegrityError, match="a_device_is_enrolled_once"), transaction.atomic():
        m.Device.objects.create(id=one.pk.__class__(int=7), node_class=world.node_class("granite"), label="b",
                                key_sha256=one.key_sha256, enrolled_at=now)  # fmt: skip
    with refused(DeviceTaken, field="machine_key"):
        enrol_node_class(
            party=world.party("granite"), site=world.node_class("granite").site, resource_class_code="A100", units=1,
            tier=0, claimed_name="c", machine_key=bytes(world.node_class("harbour").machine_key), now=now,
        )  # fmt: skip

    retire_device(seat=seat("harbour"), device=one, reason="sold", now=now)
    again = enrol_device(seat=owner, node_class=world.node_class("granite"), device_key=key, label="b", now=now)
    assert again.node_class.party.slug == "granite"


@pytest.mark.stage("collecting")
@pytest.mark.parametrize("shares", [(333_333, 333_333, 333_334), (1, 1, 999_998), (500_000, 250_000, 250_000)])
def test_the_split_in_force_divides_to_the_last_micro(shares: tuple[int, int, int]) -> None:
    members = [world.party(slug) for slug in ("basalt", "fjord", "harbour")]
    now, paid_micros = clock.now(), 100_000_007
    assign_sub_site(seat=seat(), site=world.node_class("harbour").site, member=members[0], now=now)
    set_revenue_split(seat=seat(), shares_ppm=dict(zip(members, shares, strict=True)), from_at=now, now=now)
    assert split_in_force(members[2].pk, now - timedelta(seconds=1)) is None

    split = split_in_force(members[2].pk, now)
    assert split is not None
    parts = parts_of(split, paid_micros)

    assert sum(parts.values()) == paid_micros
    for member, share in zip(members, shares, strict=True):
        assert abs(parts[member] * 10**6 - paid_micros * share) < 10**6


@pytest.mark.stage("collecting")
def test_a_split_makes_a_whole_and_lies_ahead() -> None:
    now, owner = clock.now(), seat()
    harbour, fjord = world.party("harbour"), world.party("fjord")

    for parts in ({harbour: 999_999}, {harbour: 600_000, fjord: 400_001}, {harbour: 10**6, fjord: 0}, {}):
        with refused(SharesDoNotSum, field="shares_ppm"):
            set_revenue_split(seat=owner, shares_ppm=parts, from_at=now, now=now)
    with refused(PastDate, field="from_at"):
        set_revenue_split(seat=owner, shares_ppm={harbour: 10**6}, from_at=now - timedelta(days=1), now=now)
    with refused(BadInput, field="shares_ppm"):
        set_revenue_split(seat=owner, shares_ppm={world.party("alder"): 10**6}, from_at=now, now=now)
    set_revenue_split(seat=owner, shares_ppm={harbour: 600_000, fjord: 400_000}, from_at=now, now=now)
    with refused(Overlapping, field="from_at"):
        set_revenue_split(seat=owner, shares_ppm={harbour: 10**6}, from_at=now, now=now)


@pytest.mark.stage("collecting")
@pytest.mark.parametrize("seed", range(5))
def test_the_service_and_the_database_call_the_same_hours_sellable(seed: int) -> None:
    """Random rules over two weeks, asked hour by hour of both."""
    rng, window, owner = random.Random(seed), world.window(), seat()
    node_class, now = world.node_class("harbour"), clock.now()
    base = window.starts_at
    source = m.FundingSource.objects.create(code="closed", name="n", policy="forbidden", source="s")
    for n in range(3):
        first = base + timedelta(hours=rng.randrange(10) + 110 * n)
        set_carve_out(seat=owner, node_class=node_class, units=rng.randint(1, 6), purpose="p", now=now,
                      times=Times(first, first + timedelta(hours=rng.randint(1, 100))))  # fmt: skip
        tag_funding(seat=owner, node_class=node_class, source_code=source.pk, units=rng.randint(1, 6), now=now,
                    times=Times(first, first + timedelta(hours=rng.randint(1, 200))))  # fmt: skip
        hours = sorted(rng.sample(range(25), 2))
        add_calendar_rule(
            seat=owner, node_class=node_class, kind=rng.choice(("open", "open", "closed")),
            weekdays=rng.randint(1, 127), from_hour=hours[0], until_hour=hours[1], is_firm=rng.random() < 0.5, now=now,
            times=Times(first, first + timedelta(hours=rng.randint(24, 300))),
        )  # fmt: skip
    known = Sellable(node_class)
    asked = [base + timedelta(hours=hour) for hour in range(14 * 24)]

    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_sellable_units(%s, h) FROM unnest(%s::timestamptz[]) AS h",
                       [node_class.pk, asked])  # fmt: skip
        told = [row[0] for row in cursor.fetchall()]

    assert told == [known.units(hour) for hour in asked]
    assert len(set(told)) > 1  # the rules bite, whatever weekday the world begins on
