"""Machine keys: enrolled by a code and a person, rotated with the standing kept, revoked with everything to prove."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.agent.keys import MachineKey, create_key, enrolment_statement, rotation_statement
from marketplace.agent.readings import ChainHead, sign_report
from marketplace.agent.statements import Beat, sign_statement
from marketplace.delivery.intake import take_heartbeats
from marketplace.delivery.services import SlotWitness, record_slots
from marketplace.demo.keys import machine_key
from marketplace.errors import (
    BadInput,
    DeviceTaken,
    EnrolmentRefused,
    NotYours,
    ProofRefused,
    ReportForged,
    RoleForbidden,
    WrongStanding,
)
from marketplace.parties.services import make_seat
from marketplace.supply.machine_keys import (
    claim_enrolment,
    decide_enrolment,
    make_enrolment_code,
    make_successor_code,
    make_unit_codes,
    retire_unit_prover,
    revoke_machine_key,
    rotate_machine_key,
    units_without_prover,
)
from marketplace.supply.services import Measured
from marketplace.supply.standing import advance_standing, readmit
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import refused
from tests.marketplace.test_supply import prove

pytestmark = pytest.mark.stage("bidding")


def seat(slug: str = "granite", role: str = "owner") -> m.Seat:
    return make_seat(
        party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now()
    )


def fresh(tmp_path: Path, name: str = "home") -> MachineKey:
    return create_key(tmp_path / name)


def standing(slug: str) -> str:
    return m.Standing.objects.get(node_class=world.node_class(slug)).state


def revoke(slug: str = "granite", reason: str = "the laptop was stolen") -> None:
    revoke_machine_key(seat=seat(slug), node_class=world.node_class(slug), reason=reason, now=clock.now())


def claim(key: MachineKey, slug: str = "granite") -> m.Enrolment:
    _, code = make_enrolment_code(seat=seat(slug), node_class=world.node_class(slug), now=clock.now())
    return claim_enrolment(statement=enrolment_statement(key, code), now=clock.now())


def accept(row: m.Enrolment, slug: str = "granite", is_accepted: bool = True) -> m.Enrolment:
    return decide_enrolment(seat=seat(slug), enrolment=row, is_accepted=is_accepted, now=clock.now())


def prove_at(slug: str, epoch: int, kind: int, finished_at: datetime) -> None:
    reference = world.node_class(slug).resource_class
    measured = Measured(
        ops_per_sec=reference.ops_per_sec, mem_bytes=reference.mem_bytes,
        mem_bytes_per_sec=reference.mem_bytes_per_sec, seed=bytes(32), params_hash=bytes(32),
        transcript_hash=bytes(32), started_at=finished_at, finished_at=finished_at,
        valid_until=finished_at + timedelta(days=60),
    )  # fmt: skip
    prove(slug, epoch, kind, measured=measured)


def test_a_code_is_claimed_by_a_key_and_a_person_lets_it_in(tmp_path: Path) -> None:
    revoke()
    key = fresh(tmp_path)

    row = claim(key)
    assert (row.state, world.node_class("granite").machine_key) == ("waiting", None)
    accept(row)

    assert bytes(world.node_class("granite").machine_key) == key.public_bytes
    kinds = m.MachineKeyChange.objects.filter(node_class=world.node_class("granite")).values_list("kind", flat=True)
    assert list(kinds) == ["enrolled", "revoked", "enrolled"]


def test_the_same_statement_again_is_the_same_claim_and_another_key_is_refused(tmp_path: Path) -> None:
    revoke()
    key, other = fresh(tmp_path), fresh(tmp_path, "other")
    _, code = make_enrolment_code(seat=seat(), node_class=world.node_class("granite"), now=clock.now())
    statement = enrolment_statement(key, code)
    row = claim_enrolment(statement=statement, now=clock.now())
    late = clock.now() + timedelta(hours=2)

    assert claim_enrolment(statement=statement, now=late).pk == row.pk
    with refused(EnrolmentRefused):
        claim_enrolment(statement=enrolment_statement(other, code), now=clock.now())


def test_a_code_that_is_unknown_or_an_hour_old_is_refused(tmp_path: Path) -> None:
    revoke()
    key = fresh(tmp_path)
    _, code = make_enrolment_code(seat=seat(), node_class=world.node_class("granite"), now=clock.now())

    with refused(EnrolmentRefused):
        claim_enrolment(statement=enrolment_statement(key, "guessed"), now=clock.now())
    with refused(EnrolmentRefused):
        claim_enrolment(statement=enrolment_statement(key, code), now=clock.now() + timedelta(hours=1))
    with refused(EnrolmentRefused, cause="statement_forged"):
        claim_enrolment(statement=enrolment_statement(key, code) | {"token": "x"}, now=clock.now())


def test_a_refused_key_is_not_in_use_and_is_not_decided_again(tmp_path: Path) -> None:
    revoke()
    row = claim(fresh(tmp_path))

    assert accept(row, is_accepted=False).state == "refused"
    assert world.node_class("granite").machine_key is None
    with refused(EnrolmentRefused):
        accept(row)


def test_only_who_operates_the_machines_changes_their_key(tmp_path: Path) -> None:
    finance, stranger, _ = seat(role="finance"), seat("harbour"), seat()
    with refused(RoleForbidden, role="finance"):
        revoke_machine_key(seat=finance, node_class=world.node_class("granite"), reason="r", now=clock.now())
    with refused(NotYours):
        revoke_machine_key(seat=stranger, node_class=world.node_class("granite"), reason="r", now=clock.now())
    with refused(BadInput, field="reason"):
        revoke(reason="")
    with refused(EnrolmentRefused):  # a key in use is rotated or revoked, never pushed aside
        make_enrolment_code(seat=seat(), node_class=world.node_class("granite"), now=clock.now())


def test_a_rotation_keeps_the_standing_and_happens_once(tmp_path: Path) -> None:
    old, new = machine_key("granite"), fresh(tmp_path)
    statement = rotation_statement(old, new)

    for _ in range(2):
        node_class = rotate_machine_key(statement=statement, now=clock.now())
        assert bytes(node_class.machine_key) == new.public_bytes
    assert standing("granite") == "PROVEN"
    assert m.MachineKeyChange.objects.filter(kind="rotated").count() == 1


def test_an_old_rotation_does_not_bring_its_key_back(tmp_path: Path) -> None:
    first, second, third = machine_key("granite"), fresh(tmp_path, "2"), fresh(tmp_path, "3")
    rotate_machine_key(statement=rotation_statement(first, second), now=clock.now())
    rotate_machine_key(statement=rotation_statement(second, third), now=clock.now())

    with refused(EnrolmentRefused):
        rotate_machine_key(statement=rotation_statement(first, second), now=clock.now())
    with refused(DeviceTaken, field="public_key"):
        rotate_machine_key(statement=rotation_statement(third, first), now=clock.now())


def test_a_stranger_rotates_nothing(tmp_path: Path) -> None:
    thief, new = fresh(tmp_path, "thief"), fresh(tmp_path)
    stolen = rotation_statement(thief, new) | {"old_key": machine_key("granite").public_bytes.hex()}

    with refused(EnrolmentRefused, cause="statement_forged"):
        rotate_machine_key(statement=stolen, now=clock.now())
    with refused(EnrolmentRefused):
        rotate_machine_key(statement=rotation_statement(thief, new), now=clock.now())


def test_a_revoked_proven_class_is_suspended_until_a_new_key_and_a_proof_made_after_it(tmp_path: Path) -> None:
    revoke()
    assert standing("granite") == "SUSPENDED"
    node_class, key = world.node_class("granite"), fresh(tmp_path)
    with refused(WrongStanding):
        readmit(node_class=node_class, actor="p", reason="found", now=clock.now())
    prove_at("granite", 20, 2, clock.now() + timedelta(minutes=1))  # by nobody knows which machine
    later = clock.now() + timedelta(hours=1)

    row = claim(key)
    decide_enrolment(seat=seat(), enrolment=row, is_accepted=True, now=later)
    with refused(ProofRefused, since=later.isoformat()):
        readmit(node_class=node_class, actor="p", reason="found", now=later)
    prove_at("granite", 21, 2, later + timedelta(minutes=1))

    assert readmit(node_class=node_class, actor="p", reason="found", now=later + timedelta(hours=1)) == "PROBATION"


def test_a_revoked_class_on_probation_starts_again_and_old_proofs_lift_it_no_more(tmp_path: Path) -> None:
    revoke("basalt")
    node_class = world.node_class("basalt")

    assert standing("basalt") == "REGISTERED"
    assert advance_standing(node_class=node_class, now=clock.now()) == "REGISTERED"
    accept(claim(fresh(tmp_path), "basalt"), "basalt")
    assert advance_standing(node_class=node_class, now=clock.now()) == "REGISTERED"
    prove_at("basalt", 30, 1, clock.now() + timedelta(minutes=1))
    assert advance_standing(node_class=node_class, now=clock.now() + timedelta(hours=1)) == "PROBATION"


@pytest.mark.stage("delivering")
def test_what_a_revoked_key_signs_is_void() -> None:
    node_class, lease = world.node_class("granite"), world.lease("genome")
    taken = m.ReportChain.objects.filter(node_class=node_class).first()
    signed, _ = sign_report(
        machine_key("granite"), lease=str(lease.pk), machine=str(node_class.pk), up_word=FULL_WORD,
        slot_start_at=int(lease.window.slot_at(lease.start_slot).timestamp()),
        head=ChainHead(taken.sequence, taken.head) if taken else ChainHead(0, "0" * 64),
    )  # fmt: skip
    report = SlotWitness(signed, (FULL_WORD,) * 3, (0, 0, 0))
    revoke()

    with refused(BadInput, field="signature"):
        record_slots(window=world.window(), node_class=world.node_class("granite"), witnesses=[report],
                     now=world.window().ends_at)  # fmt: skip


# --- one prover for each further unit --------------------------------------------------------------------------------


def free_units(slug: str, count: int) -> m.NodeClass:
    """That party's class, of whose units so many lost their prover."""
    node_class, now = world.node_class(slug), clock.now()
    for prover in node_class.unit_provers.filter(retired_at=None).order_by("-number")[:count]:
        retire_unit_prover(seat=seat(slug), prover=prover, reason="sold", now=now)
    return node_class


def let_in(node_class: m.NodeClass, key: MachineKey) -> m.Enrolment:
    owner = seat(node_class.party.slug)
    row, code = make_enrolment_code(seat=owner, node_class=node_class, is_for_a_unit=True, now=clock.now())
    claim_enrolment(statement=enrolment_statement(key, code), now=clock.now())
    return decide_enrolment(seat=owner, enrolment=row, is_accepted=True, now=clock.now())


def test_a_units_prover_is_let_in_by_a_code_and_takes_the_number_that_is_free(tmp_path: Path) -> None:
    node_class = world.node_class("granite")
    third = node_class.unit_provers.get(number=3)
    retire_unit_prover(seat=seat(), prover=third, reason="burnt", now=clock.now())
    assert units_without_prover(node_class) == 1

    prover = let_in(node_class, fresh(tmp_path)).unit_prover

    assert (prover.number, prover.node_class) == (3, node_class)
    assert units_without_prover(node_class) == 0
    assert world.node_class("granite").machine_key == node_class.machine_key  # the meter's stays what it was
    lines = m.AuditLine.objects.filter(action="retire_unit_prover")
    assert [line.reason for line in lines] == ["burnt"]


def test_retiring_twice_is_one_act_and_needs_a_reason_and_the_right_seat() -> None:
    prover = world.node_class("granite").unit_provers.get(number=2)
    owner, stranger, clerk = seat(), seat("basalt"), seat(role="finance")
    with refused(BadInput, field="reason"):
        retire_unit_prover(seat=owner, prover=prover, reason=" ", now=clock.now())
    with refused(NotYours):
        retire_unit_prover(seat=stranger, prover=prover, reason="mine", now=clock.now())
    with refused(RoleForbidden):
        retire_unit_prover(seat=clerk, prover=prover, reason="sold", now=clock.now())
    retired = retire_unit_prover(seat=owner, prover=prover, reason="sold", now=clock.now())
    again = retire_unit_prover(seat=owner, prover=prover, reason="other words", now=clock.now())
    assert (again.retired_at, again.retired_for) == (retired.retired_at, "sold")


def successor(owner: m.Seat, prover: m.UnitProver, key: MachineKey) -> m.Enrolment:
    """The claim of a new key for a unit."""
    code = make_successor_code(seat=owner, prover=prover, now=clock.now())
    return claim_enrolment(statement=enrolment_statement(key, code), now=clock.now())


def test_a_units_key_is_replaced_at_one_instant_and_what_the_old_one_signs_is_refused(tmp_path: Path) -> None:
    old, owner, key = world.node_class("granite").unit_provers.get(number=3), seat(), fresh(tmp_path)
    row, late = successor(owner, old, key), successor(owner, old, fresh(tmp_path, "late"))

    new = decide_enrolment(seat=owner, enrolment=row, is_accepted=True, now=clock.now()).unit_prover

    old.refresh_from_db()
    assert (new.number, new.enrolled_at) == (3, old.retired_at)
    assert old.retired_for.startswith("a new key: ")
    assert units_without_prover(old.node_class) == 0
    assert [line.reason for line in m.AuditLine.objects.filter(action="retire_unit_prover")] == [old.retired_for]
    assert beat(new, key) == 1
    with refused(ReportForged, field="machine"):
        beat(old, machine_key("granite unit 3"))
    with refused(EnrolmentRefused, unit=3):  # the second claim came too late
        decide_enrolment(seat=owner, enrolment=late, is_accepted=True, now=clock.now())
    with refused(EnrolmentRefused, unit=3):
        make_successor_code(seat=owner, prover=old, now=clock.now())


def beat(prover: m.UnitProver, key: MachineKey) -> int:
    said = Beat(str(prover.pk), 1, int(clock.now().timestamp() * 1000), {}, "tcp://10.0.0.2:8711", "")
    return take_heartbeats(party=world.party("granite"), signed=[sign_statement(key, said)], now=clock.now())


def test_a_new_key_of_a_unit_is_refused_by_a_person_and_for_a_stranger(tmp_path: Path) -> None:
    prover, owner = world.node_class("granite").unit_provers.get(number=2), seat()
    stranger = seat("basalt")
    with refused(NotYours):
        make_successor_code(seat=stranger, prover=prover, now=clock.now())
    row = successor(owner, prover, fresh(tmp_path))

    decide_enrolment(seat=owner, enrolment=row, is_accepted=False, now=clock.now())

    prover.refresh_from_db()
    assert prover.retired_at is None
    assert not m.UnitProver.objects.filter(pk=row.pk).exists()


def test_no_class_has_more_provers_than_units_nor_one_before_the_machine_that_meters(tmp_path: Path) -> None:
    node_class, owner = world.node_class("granite"), seat()
    with refused(EnrolmentRefused, units=node_class.units):
        make_enrolment_code(seat=owner, node_class=node_class, is_for_a_unit=True, now=clock.now())
    free_units("granite", 1)
    one, other = (
        make_enrolment_code(seat=owner, node_class=node_class, is_for_a_unit=True, now=clock.now()) for _ in range(2)
    )
    for (_, code), name in ((one, "one"), (other, "other")):
        claim_enrolment(statement=enrolment_statement(fresh(tmp_path, name), code), now=clock.now())
    decide_enrolment(seat=owner, enrolment=one[0], is_accepted=True, now=clock.now())
    with refused(EnrolmentRefused, units=node_class.units):  # the last place is taken meanwhile
        decide_enrolment(seat=owner, enrolment=other[0], is_accepted=True, now=clock.now())

    free_units("granite", 1)
    revoke()
    with refused(EnrolmentRefused):
        make_enrolment_code(seat=owner, node_class=node_class, is_for_a_unit=True, now=clock.now())


def test_a_key_that_meters_or_metered_proves_no_other_unit_nor_the_other_way_round(tmp_path: Path) -> None:
    node_class = free_units("granite", 2)
    let_in(node_class, key := fresh(tmp_path))
    _, code = make_enrolment_code(seat=seat(), node_class=node_class, is_for_a_unit=True, now=clock.now())
    for used in (key, machine_key("granite"), machine_key("basalt")):
        with refused(DeviceTaken, field="public_key"):
            claim_enrolment(statement=enrolment_statement(used, code), now=clock.now())
    with refused(DeviceTaken, field="public_key"):
        rotate_machine_key(statement=rotation_statement(machine_key("granite"), key), now=clock.now())


def test_codes_for_units_are_made_together_all_or_none() -> None:
    node_class, owner = free_units("granite", 3), seat()
    for asked in (0, 4, -1):
        with refused(BadInput, field="codes"):
            make_unit_codes(seat=owner, node_class=node_class, codes=asked, now=clock.now())

    codes = make_unit_codes(seat=owner, node_class=node_class, codes=3, now=clock.now())

    open_ones = m.Enrolment.objects.filter(node_class=node_class, is_for_a_unit=True, claimed_at=None)
    assert len(set(codes)) == open_ones.count() == 3


def test_what_a_retired_prover_signs_is_void() -> None:
    prover, key = world.node_class("granite").unit_provers.get(number=2), machine_key("granite unit 2")
    assert beat(prover, key) == 1
    retire_unit_prover(seat=seat(), prover=prover, reason="sold", now=clock.now())

    with refused(ReportForged, field="machine"):
        beat(prover, key)
