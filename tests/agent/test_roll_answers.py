"""A real machine answers a roll call over HTTP: its meter signs that it is there, and verifiers measure it then."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock, Thread
from typing import ClassVar
from uuid import UUID

import pytest
from django.core.cache import cache

from marketplace import clock
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent import rechecks
from marketplace.agent.client import ApiClient
from marketplace.agent.clock import MarketClock
from marketplace.agent.echo import EchoServer
from marketplace.agent.errors import ServerRefused
from marketplace.agent.keys import MachineKey, create_key, enrolment_statement, load_key, rotation_statement
from marketplace.agent.meter import Meter
from marketplace.agent.presence import Addresses
from marketplace.agent.rechecks import CheckDoor
from marketplace.agent.resting import RestingProver
from marketplace.agent.sensors import Sensors
from marketplace.agent.stand import Stand
from marketplace.agent.statements import Beat, RollMeasured, RollPresence, sign_statement
from marketplace.delivery import rolls
from marketplace.delivery.intake import take_heartbeats
from marketplace.delivery.rolls import (
    last_call,
    open_call_of,
    open_call_of_unit,
    roll_orders,
    take_measured,
    take_presences,
)
from marketplace.demo.keys import machine_key
from marketplace.errors import (
    BadInput,
    ClockSkewed,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportReplayed,
    WrongInstant,
)
from marketplace.parties.services import issue_api_key, make_seat, register_party, set_owner
from marketplace.supply.machine_keys import (
    claim_enrolment,
    decide_enrolment,
    make_enrolment_code,
    retire_unit_prover,
    rotate_machine_key,
)
from marketplace.supply.rolls import call_the_roll, called_machines, is_whole
from pricing.proof import Commitment, Preset
from tests.agent.serving import Site, served
from tests.agent.test_rechecks import checker
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import VERIFIERS, Live, enrol, go_live, key_of
from tests.owner import behind_the_triggers

pytestmark = pytest.mark.stage("delivering")
WHOLE = 10**18
SECOND = timedelta(seconds=1)


@pytest.fixture
def live() -> Live:
    return go_live()


def sells(slug: str, units: int) -> m.NodeClass:
    """That party's class, which sells so many units from now on; each but the first lost its prover."""
    node_class = world.node_class(slug)
    with behind_the_triggers():
        m.NodeClass.objects.filter(pk=node_class.pk).update(units=units)
        node_class.unit_provers.update(retired_at=clock.now() - SECOND, retired_for="sold")
    return world.node_class(slug)


@pytest.fixture
def member(live: Live) -> m.RollMember:
    """Granite's one machine, called now."""
    return call_of(sells("granite", 1))


def call_of(node_class: m.NodeClass) -> m.RollMember:
    roll = call_the_roll(party=node_class.party, now=clock.now())
    return roll.members.select_related("node_class__resource_class", "node_class__party").get(node_class=node_class)


def presence(member: m.RollMember, at: datetime, **changes: object) -> RollPresence:
    facts = {"machine": str(member.node_class_id), "roll": str(member.roll_id),
             "sent_at_ms": int(at.timestamp() * 1000)}  # fmt: skip
    return RollPresence(**facts | changes)


def say(member: m.RollMember, at: datetime, *, key: str = "granite", party: str = "granite", **changes: object) -> int:
    signed = sign_statement(machine_key(key), presence(member, at, **changes))
    return take_presences(party=world.party(party), signed=[signed], now=at)


def measured(
    member: m.RollMember, at: datetime, name: str = "oak", *, now: datetime | None = None, signer: str = "",
    **changes: object,
) -> int:  # fmt: skip
    facts = {"verifier": name, "machine": str(member.node_class_id), "roll": str(member.roll_id), "ops": WHOLE,
             "measured_at_ms": int(at.timestamp() * 1000), "ended_at_ms": int(at.timestamp() * 1000),
             "transcript": "ab" * 32}  # fmt: skip
    signed = sign_statement(key_of(signer or name), RollMeasured(**facts | changes))
    return take_measured(party=world.party(name), signed=[signed], now=now or at)


def test_a_machine_that_says_so_and_two_verifiers_that_saw_it_are_an_answer(member: m.RollMember) -> None:
    now = clock.now()
    assert say(member, now) == 1
    assert measured(member, now, "oak") == 1
    assert not m.RollAnswer.objects.filter(member=member).exists()

    assert measured(member, now, "pine") == 1

    answer = m.RollAnswer.objects.get(member=member)
    assert answer.machines == member.machines == 1
    assert is_whole(member.roll_id)
    with untouched():
        assert say(member, now) == measured(member, now, "oak") == 0
    assert measured(member, now, "yew") == 1  # one more changes nothing
    assert m.RollAnswer.objects.get(member=member) == answer


# --- a prover for each unit ------------------------------------------------------------------------------------------


@pytest.fixture
def pair(live: Live) -> m.RollMember:
    """Granite sells two units: the machine that meters, and one with a prover of its own. Both are called now."""
    node_class = sells("granite", 2)
    let_in(node_class, "second")
    return call_of(node_class)


def let_in(node_class: m.NodeClass, name: str, *, key: MachineKey | None = None) -> m.UnitProver:
    """One more unit's prover, by code, claim and a person, as on the page."""
    seat = make_seat(party=node_class.party, email=f"{name}@granite.example", password=None, role="owner",
                     now=clock.now())  # fmt: skip
    row, code = make_enrolment_code(seat=seat, node_class=node_class, is_for_a_unit=True, now=clock.now())
    claim_enrolment(statement=enrolment_statement(key or machine_key(name), code), now=clock.now())
    decide_enrolment(seat=seat, enrolment=row, is_accepted=True, now=clock.now())
    return m.UnitProver.objects.get(pk=row.pk)


def second(member: m.RollMember) -> str:
    """The id in statements of the second unit."""
    return str(member.node_class.unit_provers.get(retired_at=None).pk)


def why_not(node_class: m.NodeClass) -> dict[int, str]:
    """Why each machine did not answer the last roll call, by number."""
    call = last_call(node_class)
    assert call is not None
    return call.why_not


def spans(member: m.RollMember, name: str, *, from_ms: int, until_ms: int, **changes: object) -> int:
    opened_ms = int(member.roll.opened_at.timestamp() * 1000)
    later = member.roll.opened_at + timedelta(minutes=5)
    return measured(member, later, name, measured_at_ms=opened_ms + from_ms, ended_at_ms=opened_ms + until_ms,
                    **changes)  # fmt: skip


def test_a_class_of_two_units_answers_when_both_signed_and_both_were_seen_at_work_together(pair: m.RollMember) -> None:
    other = second(pair)
    say(pair, clock.now())
    say(pair, clock.now(), key="second", machine=other)
    for place, name in enumerate(("oak", "pine")):
        spans(pair, name, from_ms=1_000 + 5_000 * place, until_ms=2_000 + 5_000 * place)
        assert not m.RollAnswer.objects.filter(member=pair).exists()
        spans(pair, name, from_ms=1_000 + 5_000 * place, until_ms=2_000 + 5_000 * place, machine=other)

    assert m.RollAnswer.objects.get(member=pair).machines == 2
    assert why_not(pair.node_class) == {1: "", 2: ""}


def test_two_units_seen_one_after_the_other_may_be_one_machine_and_the_page_says_so(pair: m.RollMember) -> None:
    other = second(pair)
    say(pair, clock.now())
    say(pair, clock.now(), key="second", machine=other)
    for place, name in enumerate(("oak", "pine", "yew")):
        spans(pair, name, from_ms=1_000 + 5_000 * place, until_ms=2_000 + 5_000 * place)
        spans(pair, name, from_ms=2_000 + 5_000 * place, until_ms=3_000 + 5_000 * place, machine=other)

    assert not m.RollAnswer.objects.filter(member=pair).exists()
    assert not is_whole(pair.roll_id)
    assert all("one machine may be both" in why for why in why_not(pair.node_class).values())


def test_two_machines_do_not_stand_for_three_by_falling_silent_in_turn(live: Live) -> None:
    """Any two of the three names were seen together at some instant; never all three."""
    node_class = sells("granite", 3)
    names = {"granite": str(node_class.pk)} | {each: str(let_in(node_class, each).pk) for each in ("second", "third")}
    trio = call_of(node_class)
    for key, machine in names.items():
        say(trio, clock.now(), key=key, machine=machine)
    for place, (name, silent) in enumerate(zip(VERIFIERS, names, strict=True)):
        for key, machine in names.items():
            if key != silent:
                spans(trio, name, from_ms=1_000 + 5_000 * place, until_ms=2_000 + 5_000 * place, machine=machine)

    assert not m.RollAnswer.objects.filter(member=trio).exists()
    assert all("was missing at 1 of 3 instants" in why for why in why_not(node_class).values())

    for place, (name, silent) in enumerate(zip(VERIFIERS, names, strict=True)):
        assert not is_whole(trio.roll_id) or place == 2
        spans(trio, name, from_ms=1_000 + 5_000 * place, until_ms=2_000 + 5_000 * place, machine=names[silent])
    assert m.RollAnswer.objects.get(member=trio).machines == 3


def test_one_verifier_that_vouches_for_two_units_at_once_is_not_enough(pair: m.RollMember) -> None:
    """By the honest one they were measured one after the other: one machine, and a friend among the verifiers."""
    other = second(pair)
    say(pair, clock.now())
    say(pair, clock.now(), key="second", machine=other)
    spans(pair, "oak", from_ms=1_000, until_ms=2_000)
    spans(pair, "oak", from_ms=2_000, until_ms=3_000, machine=other)
    for machine in (str(pair.node_class_id), other):
        spans(pair, "pine", from_ms=1_000, until_ms=2_500, machine=machine)

    assert not m.RollAnswer.objects.filter(member=pair).exists()

    for machine in (str(pair.node_class_id), other):
        spans(pair, "yew", from_ms=9_000, until_ms=10_000, machine=machine)
    assert m.RollAnswer.objects.get(member=pair).machines == 2


def test_two_verifiers_of_one_owner_are_one_and_one_that_was_not_drawn_is_none(
    member: m.RollMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    say(member, now)
    set_owner(party=world.party("pine"), parent=world.party("oak"), actor="foundation:ada", now=now)
    drawn, left_out = sorted(("oak", "pine"), key=lambda name: not roll_orders(verifier=world.party(name), now=now))
    assert measured(member, now, drawn) == 1
    with refused(NotOnPanel):
        measured(member, now, left_out)
    assert not m.RollAnswer.objects.filter(member=member).exists()
    monkeypatch.setattr(rolls, "INSTANTS_MAX", 1)
    others = [name for name in VERIFIERS if not roll_orders(verifier=world.party(name), now=now)]
    assert len(others) == 2
    for name in {*others} - {drawn}:  # whose word from before may be said again
        with refused(NotOnPanel):
            measured(member, now, name)


def test_more_machines_than_one_verifier_can_measure_are_shared_and_two_instants_have_other_verifiers(
    pair: m.RollMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        name, now = f"elm{number}", clock.now()
        party = register_party(slug=name, name=name, kind="verifier", country="DE", parent_country="DE", now=now)
        enrol(party, pair.roll.opened_at - SECOND)
    monkeypatch.setattr(rolls, "CALLS_MAX", 1)
    orders = {name: roll_orders(verifier=world.party(name), now=clock.now()) for name in (*VERIFIERS, "elm0", "elm1")}

    at: dict[datetime, list[UUID]] = {}
    for each in orders.values():
        assert len(each) <= 1
        for order in each:
            at.setdefault(order.measure_at, []).append(order.machine.machine_id)
    assert [sorted(there) for there in at.values()] == [sorted([pair.node_class_id, UUID(second(pair))])] * 2


def test_an_answer_does_not_count_with_a_prover_that_was_retired_meanwhile(pair: m.RollMember) -> None:
    other = pair.node_class.unit_provers.get(retired_at=None)
    say(pair, clock.now())
    say(pair, clock.now(), key="second", machine=str(other.pk))
    owner = m.Seat.objects.filter(party=pair.node_class.party, role="owner").first()
    assert owner is not None
    clock.move_to(clock.now() + SECOND)
    retire_unit_prover(seat=owner, prover=other, reason="key stolen", now=clock.now())
    for name in VERIFIERS:
        spans(pair, name, from_ms=1_000, until_ms=2_000)
        spans(pair, name, from_ms=1_000, until_ms=2_000, machine=str(other.pk))

    assert not m.RollAnswer.objects.filter(member=pair).exists()
    assert why_not(pair.node_class)[2] == "its prover was retired meanwhile"


def test_one_unit_that_does_not_answer_leaves_the_class_without_an_answer_and_is_named(pair: m.RollMember) -> None:
    say(pair, clock.now())
    for name in ("oak", "pine"):
        spans(pair, name, from_ms=1_000, until_ms=2_000)
        spans(pair, name, from_ms=1_000, until_ms=2_000, machine=second(pair))
    assert why_not(pair.node_class) == {1: "", 2: "did not answer"}
    assert not m.RollAnswer.objects.filter(member=pair).exists()

    say(pair, clock.now(), key="second", machine=second(pair))

    assert m.RollAnswer.objects.get(member=pair).machines == 2


def test_a_unit_measured_below_its_class_is_named_and_one_that_a_single_verifier_saw(pair: m.RollMember) -> None:
    other, row = second(pair), pair.node_class.resource_class.ops_per_sec
    say(pair, clock.now())
    say(pair, clock.now(), key="second", machine=other)
    spans(pair, "oak", from_ms=1_000, until_ms=2_000)
    for name in ("oak", "pine"):
        spans(pair, name, from_ms=1_000, until_ms=2_000, machine=other, ops=row // 2)

    assert why_not(pair.node_class) == {
        1: "measured by 1 of the 2 verifiers it takes", 2: "measured below its class",
    }  # fmt: skip


def test_the_number_of_units_is_not_the_word_of_the_machine_that_meters(live: Live) -> None:
    """Until each unit had a prover, the one that meters answered for all."""
    member = call_of(sells("granite", 2))
    say(member, clock.now())
    for name in VERIFIERS:
        spans(member, name, from_ms=1_000, until_ms=2_000)

    assert not m.RollAnswer.objects.filter(member=member).exists()
    assert not is_whole(member.roll_id)


def test_a_prover_that_came_after_the_call_or_was_retired_before_it_is_not_called(live: Live) -> None:
    node_class = sells("granite", 3)
    gone, stays = let_in(node_class, "gone"), let_in(node_class, "stays")
    owner = m.Seat.objects.filter(party=node_class.party, role="owner").first()
    assert owner is not None
    retire_unit_prover(seat=owner, prover=gone, reason="sold", now=clock.now())
    now = clock.move_to(clock.now() + SECOND)
    member = call_of(node_class)
    clock.move_to(now + SECOND)
    late = let_in(node_class, "late")

    assert [each.machine_id for each in called_machines([member])] == [node_class.pk, stays.pk]
    for prover, key in ((gone, "gone"), (late, "late")):
        with refused(ReportForged):
            say(member, clock.now(), key=key, machine=str(prover.pk))
        with refused(ReportForged, field="roll"):
            measured(member, clock.now(), machine=str(prover.pk))
    assert say(member, clock.now(), key="stays", machine=str(stays.pk)) == 1
    assert open_call_of_unit(stays, now=clock.now()) == member
    assert open_call_of_unit(late, now=clock.now()) is None


def test_no_unit_answers_with_anothers_key_or_for_another_party(pair: m.RollMember) -> None:
    other = second(pair)
    with refused(ReportForged):
        say(pair, clock.now(), key="granite", machine=other)
    with refused(ReportForged):
        say(pair, clock.now(), key="second")
    with refused(ReportForged, field="machine"):
        say(pair, clock.now(), key="second", machine=other, party="basalt")
    assert say(pair, clock.now(), key="second", machine=other) == 1
    with refused(ReportReplayed):
        say(pair, clock.now() + SECOND, key="second", machine=other)


def test_at_one_instant_every_unit_is_measured_by_one_verifier_and_at_the_next_by_another(pair: m.RollMember) -> None:
    orders = {name: roll_orders(verifier=world.party(name), now=clock.now()) for name in VERIFIERS}

    for each in orders.values():
        assert {order.machine.machine_id for order in each} == {pair.node_class_id, UUID(second(pair))}
        assert len({order.measure_at for order in each}) == 1
    assert len({order.measure_at for each in orders.values() for order in each}) == len(VERIFIERS)


def test_a_units_heartbeat_tells_verifiers_where_its_prover_opens(pair: m.RollMember) -> None:
    other, now = second(pair), clock.now()

    def beat(sequence: int, at: datetime = now, **changes: object) -> int:
        facts = {"machine": other, "sequence": sequence, "sent_at_ms": int(at.timestamp() * 1000), "devices": {},
                 "probe_address": "tcp://10.0.0.2:8711", "workload_address": ""}  # fmt: skip
        signed = sign_statement(machine_key("second"), Beat(**facts | changes))
        return take_heartbeats(party=world.party("granite"), signed=[signed], now=now)

    assert beat(1) == 1
    assert beat(1) == 0
    assert beat(3) == 1
    with refused(ReportReplayed, taken=3):
        beat(2)
    with refused(ReportForged, field="devices"):
        beat(4, workload_address="10.0.0.2:80")
    with refused(ClockSkewed):
        beat(4, at=now + timedelta(seconds=3))
    with refused(ReportLate):
        beat(4, at=now - timedelta(minutes=6))
    orders = roll_orders(verifier=world.party("oak"), now=now)
    told = {order.machine.machine_id: order.probe_address for order in orders}
    assert told[UUID(other)] == "tcp://10.0.0.2:8711"


def test_no_verifier_alone_lets_a_machine_answer_and_a_third_one_decides_between_two(member: m.RollMember) -> None:
    now, low = clock.now(), member.node_class.resource_class.ops_per_sec * 84 // 100
    say(member, now)
    measured(member, now, "oak")
    measured(member, now, "pine", ops=low)
    assert not m.RollAnswer.objects.filter(member=member).exists()

    measured(member, now, "yew", ops=member.node_class.resource_class.ops_per_sec * 85 // 100 + 1)

    assert m.RollAnswer.objects.filter(member=member).exists()


@pytest.fixture
def siblings(live: Live) -> list[m.RollMember]:
    """Granite's one machine and its sibling's, called together."""
    for slug in ("granite", "harbour"):
        sells(slug, 1)
    set_owner(party=world.party("harbour"), parent=world.party("granite"), actor="foundation:ada", now=clock.now())
    roll = call_the_roll(party=world.party("granite"), now=clock.now())
    rows = roll.members.select_related("node_class__party", "node_class__resource_class")
    return sorted(rows, key=lambda row: row.node_class.party.slug)


def answered(members: list[m.RollMember]) -> list[bool]:
    return [m.RollAnswer.objects.filter(member=each).exists() for each in members]


def test_two_classes_measured_one_after_the_other_do_not_answer_until_they_were_at_work_together(
    siblings: list[m.RollMember],
) -> None:
    one, other = siblings
    for each in siblings:
        say(each, clock.now(), key=each.node_class.party.slug, party=each.node_class.party.slug)
    for name in ("oak", "pine"):
        spans(one, name, from_ms=1_000, until_ms=2_000)
        spans(other, name, from_ms=2_000, until_ms=3_000)
    assert answered(siblings) == [False, False]


def test_two_classes_answer_when_two_verifiers_saw_them_at_work_together(siblings: list[m.RollMember]) -> None:
    one, other = siblings
    for each in siblings:
        say(each, clock.now(), key=each.node_class.party.slug, party=each.node_class.party.slug)
    for place, name in enumerate(("oak", "yew")):
        spans(one, name, from_ms=5_000 + 4_000 * place, until_ms=6_000 + 4_000 * place)
        assert answered(siblings) == [False, False]
        spans(other, name, from_ms=5_699 + 4_000 * place, until_ms=6_699 + 4_000 * place)

    assert answered(siblings) == [True, True]


def test_a_moment_of_three_tenths_is_not_enough_nor_one_in_which_the_other_was_slow(
    siblings: list[m.RollMember],
) -> None:
    one, other = siblings
    for each in siblings:
        say(each, clock.now(), key=each.node_class.party.slug, party=each.node_class.party.slug)
    need = one.node_class.resource_class.ops_per_sec * 85 // 100
    spans(one, "oak", from_ms=1_000, until_ms=2_000)
    spans(other, "oak", from_ms=1_700, until_ms=2_700)  # 0.3 of 1 second each: one machine could have done both
    spans(one, "pine", from_ms=4_000, until_ms=5_000)
    spans(other, "pine", from_ms=4_000, until_ms=5_000, ops=need - 1)
    spans(one, "yew", from_ms=7_000, until_ms=8_000)
    spans(other, "yew", from_ms=8_000, until_ms=9_000)

    assert answered(siblings) == [False, False]


def test_a_class_is_held_to_what_it_was_proven_to_do(member: m.RollMember) -> None:
    now, row = clock.now(), member.node_class.resource_class.ops_per_sec
    with behind_the_triggers():
        m.Standing.objects.filter(node_class=member.node_class).update(proven_ops_per_sec=2 * row)
    say(member, now)
    for name in ("oak", "pine"):
        measured(member, now, name, ops=row)

    assert not m.RollAnswer.objects.filter(member=member).exists()


def test_at_every_instant_each_class_is_measured_by_the_same_verifier(siblings: list[m.RollMember]) -> None:
    now = siblings[0].roll.opened_at
    orders = {name: roll_orders(verifier=world.party(name), now=now) for name in VERIFIERS}

    assert all(len(each) == len(siblings) for each in orders.values())
    assert all(len({order.measure_at for order in each}) == 1 for each in orders.values())
    instants = {order.measure_at for each in orders.values() for order in each}
    assert len(instants) == len(VERIFIERS)
    assert max(instants) + timedelta(seconds=100) < siblings[0].roll.closes_at


def test_what_verifiers_saw_is_no_answer_without_the_machines_own_word(member: m.RollMember) -> None:
    now = clock.now()
    for name in VERIFIERS:
        measured(member, now, name)
    assert not m.RollAnswer.objects.filter(member=member).exists()

    say(member, now)

    assert is_whole(member.roll_id)


def test_a_machines_answer_is_refused_late_forged_replayed_and_for_more_than_was_called(member: m.RollMember) -> None:
    now, later = clock.now(), member.roll.closes_at + timedelta(seconds=1)
    with refused(ReportForged):
        say(member, now, key="basalt")
    with refused(ReportForged, field="machine"):
        say(member, now, party="basalt")
    with refused(ReportForged, field="roll"):
        say(member, now, roll=str(member.node_class_id))
    with refused(ReportFromFuture):
        say(member, now, sent_at_ms=int((now + timedelta(seconds=3)).timestamp() * 1000))
    with refused(ReportLate):
        say(member, later)
    with refused(ReportLate):
        say(member, now, sent_at_ms=int((now - timedelta(minutes=1)).timestamp() * 1000))
    say(member, now)
    with refused(ReportReplayed):
        say(member, now, sent_at_ms=int(now.timestamp() * 1000) + 1)


def test_a_verifiers_report_is_refused_late_forged_replayed_and_of_its_own_owners_machines(
    member: m.RollMember,
) -> None:
    now, later = clock.now(), member.roll.closes_at + timedelta(seconds=1)
    with refused(ReportForged):
        measured(member, now, "oak", signer="pine")
    with refused(ReportForged, named="pine"):
        measured(member, now, "oak", verifier="pine")
    with refused(WrongInstant):
        measured(member, member.roll.opened_at - timedelta(seconds=1), now=now)
    with refused(ReportLate):
        measured(member, now, now=later)
    with refused(ReportFromFuture):
        measured(member, now + timedelta(seconds=3), now=now)
    measured(member, now)
    with refused(ReportReplayed):
        measured(member, now, ops=WHOLE + 1)
    set_owner(party=world.party("pine"), parent=world.party("granite"), actor="foundation:ada", now=now)
    with refused(NotOnPanel):
        measured(member, now, "pine")
    assert [order.machine.machine_id for order in roll_orders(verifier=world.party("pine"), now=now)] == []
    with refused(BadInput, field="party"):
        roll_orders(verifier=world.party("granite"), now=now)


def test_a_roll_is_told_to_its_own_machines_while_it_is_open(member: m.RollMember) -> None:
    opened, closes = member.roll.opened_at, member.roll.closes_at

    assert open_call_of(member.node_class, now=opened) == member
    assert open_call_of(member.node_class, now=opened - timedelta(seconds=1)) is None
    assert open_call_of(member.node_class, now=closes) is None
    assert open_call_of(world.node_class("basalt"), now=opened) is None


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


def key_for(slug: str) -> str:
    return issue_api_key(party=world.party(slug), label="roll", may_write=True, now=clock.now())[1]


@contextmanager
def serving(meter: Meter | Stand, home: Path) -> Iterator[EchoServer]:
    """The machine's two doors, as `meter` opens them."""
    door = CheckDoor(("127.0.0.1", 0), key=load_key(home), backend="float32", clock=meter.clock,
                     leases_of=meter.subjects, witnesses_of=meter.witnesses)  # fmt: skip
    echo = EchoServer(("127.0.0.1", 0), key=load_key(home), clock=meter.clock, devices_of=meter.devices, door=door)
    door.start()
    echo.start()
    try:
        yield echo
    finally:
        echo.stop()
        door.stop()


FAST = 10  # market seconds a second: an instant comes within seconds
RATE = 20_000_000_000  # operations per second of the machines below, whatever runs beside the test


class Paced(RestingProver):
    """A machine of one speed. Whoever shares its turn is the same machine under another name."""

    turns: ClassVar[dict[bytes, Lock]] = {}

    def start(self, preset: Preset, seed: bytes) -> None:
        super().start(preset, seed)
        self._seconds = preset.operations / preset.blocks / RATE

    def commit_block(self, nonce: bytes) -> Commitment:
        with self.turns[self.machine_key]:
            began = time.monotonic()
            made = super().commit_block(nonce)
            time.sleep(max(0.0, self._seconds - (time.monotonic() - began)))
        return made


class Machine:
    """A called class whose meter and two doors run here, under a key of its own."""

    def __init__(self, node_class: m.NodeClass, site: Site, home: Path, *, turn: Lock) -> None:
        self.node_class, name, party = node_class, f"cls_{node_class.pk.hex}", node_class.party.slug
        key = create_key(home)
        rotate_machine_key(statement=rotation_statement(machine_key(party), key), now=clock.now())
        homes.write_json(home, homes.AGENT_FILE, {"server": site.url, "machine": name})
        Paced.turns[key.public_bytes] = turn
        self.meter = Meter(
            home, key=key, machine=name, client=ApiClient(site.url, api_key=key_for(party)), days_kept=7,
            sensors=Sensors(units=node_class.units, check=None), addresses=Addresses(), clock=MarketClock(FAST),
        )  # fmt: skip
        self.meter.fetch_time()
        self.meter.fetch_leases()
        self.serving = serving(self.meter, home)

    def open(self) -> None:
        echo = self.serving.__enter__()
        self.meter._addresses = Addresses(f"tcp://127.0.0.1:{echo.server_address[1]}")
        for _ in range(20):  # in fast time half a round trip of a busy site is a clock too far ahead
            self.meter.fetch_time()
            self.meter.beat()
            if m.Pulse.objects.filter(node_class=self.node_class).exists():
                return
        raise AssertionError("no heartbeat was taken")

    def close(self) -> None:
        self.serving.__exit__(None, None, None)


class Further:
    """One more unit of a called class, whose prover stands here under a key of its own."""

    def __init__(self, node_class: m.NodeClass, site: Site, home: Path, *, turn: Lock) -> None:
        key = create_key(home)
        self.prover, party = let_in(node_class, home.name, key=key), node_class.party.slug
        Paced.turns[key.public_bytes] = turn
        self.meter = Stand(
            home, key=key, machine=f"unt_{self.prover.pk.hex}", client=ApiClient(site.url, api_key=key_for(party)),
            address="", clock=MarketClock(FAST),
        )  # fmt: skip
        self.serving = serving(self.meter, home)

    def open(self) -> None:
        echo = self.serving.__enter__()
        self.meter._addresses = Addresses(f"tcp://127.0.0.1:{echo.server_address[1]}")
        for _ in range(20):
            self.meter.presence.fetch_time()
            self.meter.beat()
            self.prover.refresh_from_db()
            if self.prover.seen_at:
                return
        raise AssertionError("no heartbeat was taken")

    def close(self) -> None:
        self.serving.__exit__(None, None, None)


def called_over_http(
    machines: Sequence[Machine | Further], names: tuple[str, ...], site: Site, tmp_path: Path, *, reports_min: int
) -> m.RollCall:
    """Call granite's roll and let these verifiers measure its machines, each in a thread, through all its instants."""
    roll = call_the_roll(party=world.party("granite"), now=clock.now())
    verifiers = []
    for name in names:
        (tmp_path / name).mkdir()
        one = checker(tmp_path / name, name, ApiClient(site.url, api_key=key_for(name)))
        one.clock = MarketClock(FAST)
        verifiers.append(one)
    for machine in machines:
        machine.open()
        assert machine.meter.answer_roll()
        assert machine.meter.answer_roll()  # the same answer
    threads = [Thread(target=one.run, daemon=True) for one in verifiers]
    for thread in threads:
        thread.start()
    until, wanted = time.monotonic() + 55, len(machines) * len(names)
    while time.monotonic() < until and m.RollReport.objects.filter(member__roll=roll).count() < wanted:
        time.sleep(0.2)
    for one in verifiers:
        one.stop.set()
    for thread in threads:
        thread.join(timeout=20)
    for machine in machines:
        machine.close()
    assert m.RollReport.objects.filter(member__roll=roll).count() >= reports_min, [one.told for one in verifiers]
    return roll


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The market's time runs on, fast; machines keep to one speed; the class asks for what one of them does."""
    from_at, began = clock.now(), time.monotonic()
    monkeypatch.setattr(clock, "now", lambda: from_at + timedelta(seconds=FAST * (time.monotonic() - began)))
    monkeypatch.setattr(rechecks, "RestingProver", Paced)
    cache.clear()
    ask_for(RATE)


def ask_for(ops_per_second: int) -> None:
    """Let the class ask for so much."""
    with behind_the_triggers():
        m.ResourceClass.objects.filter(pk="H100").update(ops_per_sec=ops_per_second)
        m.Standing.objects.all().update(proven_ops_per_sec=ops_per_second)


@pytest.mark.slow  # machines that measure at one instant ask for one with nothing else to do
def test_machines_of_one_owner_answer_together_over_http(
    live: Live, site: Site, tmp_path: Path, fast: None
) -> None:
    set_owner(party=world.party("harbour"), parent=world.party("granite"), actor="foundation:ada", now=clock.now())
    ask_for(RATE // 4)  # what runs beside the tests slows these machines down
    classes = [sells("granite", 1), sells("harbour", 1)]
    machines = [
        Machine(each, site, tmp_path / each.party.slug, turn=Lock()) for each in classes
    ]

    roll = called_over_http(machines, VERIFIERS, site, tmp_path, reports_min=4)

    assert m.RollAnswer.objects.filter(member__roll=roll).count() == 2
    assert is_whole(roll.pk)


@pytest.mark.slow  # as above
def test_one_machine_under_two_names_answers_for_neither(
    live: Live, site: Site, tmp_path: Path, fast: None
) -> None:
    set_owner(party=world.party("harbour"), parent=world.party("granite"), actor="foundation:ada", now=clock.now())
    one_machine = Lock()
    machines = [
        Machine(each, site, tmp_path / each.party.slug, turn=one_machine)
        for each in (sells("granite", 1), sells("harbour", 1))
    ]

    roll = called_over_http(machines, VERIFIERS, site, tmp_path, reports_min=3)

    assert not m.RollAnswer.objects.filter(member__roll=roll).exists()


@pytest.mark.slow  # as above
def test_two_units_of_a_class_answer_together_over_http(live: Live, site: Site, tmp_path: Path, fast: None) -> None:
    ask_for(RATE // 4)
    node_class = sells("granite", 2)
    machines = [
        Machine(node_class, site, tmp_path / "first", turn=Lock()),
        Further(node_class, site, tmp_path / "second", turn=Lock()),
    ]

    roll = called_over_http(machines, VERIFIERS, site, tmp_path, reports_min=4)

    assert m.RollAnswer.objects.get(member__roll=roll).machines == 2
    assert is_whole(roll.pk)


@pytest.mark.slow  # as above
def test_one_machine_that_stands_for_two_units_leaves_the_class_without_an_answer(
    live: Live, site: Site, tmp_path: Path, fast: None
) -> None:
    node_class, one_machine = sells("granite", 2), Lock()
    machines = [
        Machine(node_class, site, tmp_path / "first", turn=one_machine),
        Further(node_class, site, tmp_path / "second", turn=one_machine),
    ]

    roll = called_over_http(machines, VERIFIERS, site, tmp_path, reports_min=3)

    assert not m.RollAnswer.objects.filter(member__roll=roll).exists()
    assert any(why_not(node_class).values())


def test_a_machine_that_does_not_know_of_its_roll_lets_nobody_in(
    live: Live, site: Site, tmp_path: Path, fast: None
) -> None:
    machine = Machine(live.lease.node_class, site, tmp_path / "granite", turn=Lock())
    assert not machine.meter.answer_roll()  # nobody called
    call_the_roll(party=world.party("granite"), now=clock.now())
    machine.open()
    (tmp_path / "oak").mkdir()
    one = checker(tmp_path / "oak", "oak", ApiClient(site.url, api_key=key_for("oak")))
    one.clock = MarketClock(FAST)
    one.clock.set_by(int(clock.now().timestamp() * 1000), asked_ns=time.monotonic_ns())
    one.fetch_rolls()
    for task in one._due():
        one.do(task)
    machine.close()

    assert one.told["called"] == 0


def test_the_doors_of_a_roll_are_their_parties_own(live: Live, site: Site, member: m.RollMember) -> None:
    own = f"/api/v1/node-classes/cls_{member.node_class_id.hex}/roll"
    with ApiClient(site.url, api_key=key_for("granite")) as client:
        assert client.get(own)["roll"]["roll"] == str(member.roll_id)
        with pytest.raises(ServerRefused) as refusal:
            client.get("/api/v1/roll-orders")
        assert refusal.value.facts["problem_code"] == "bad_input"
    with ApiClient(site.url, api_key=key_for("basalt")) as client, pytest.raises(ServerRefused) as refusal:
        client.get(own)
    assert refusal.value.facts["status"] == 404
    with ApiClient(site.url, api_key=key_for("oak")) as client:
        assert [row["machine"] for row in client.get("/api/v1/roll-orders")["data"]] == [str(member.node_class_id)]
