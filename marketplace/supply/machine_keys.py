"""The machine key of a node class: enrolled by a one-time code and a person, rotated by itself, revoked by a seat.

    open code -> claimed by a key -> accepted -> in use -> rotated: new key, same standing
                                 \\-> refused            \\-> revoked: signatures void, standing lost, enrol anew

The key of one more unit's prover is let in the same way, and a new one of it too: the old one ends at that instant.

The key signs readings, heartbeats and proofs. It moves no money, so none of these acts needs more than one person.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count

from django.db import transaction

from ledger.ids import uuid7
from marketplace.agent.errors import StatementForged
from marketplace.agent.keys import check_enrolment, check_rotation, fingerprint_of
from marketplace.catalogue.limits import require_name
from marketplace.errors import BadInput, DeviceTaken, EnrolmentRefused, NotYours
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.supply.key_models import Enrolment, MachineKeyChange, UnitProver
from marketplace.supply.models import NodeClass, Standing
from marketplace.supply.standing import restart, suspend

CODE_BYTES = 15
CODE_LIFE = timedelta(hours=1)
CODE_LENGTH_MAX = 100
CODES_MAX = 64  # that are made at once


@transaction.atomic
def make_enrolment_code(
    *, seat: Seat, node_class: NodeClass, is_for_a_unit: bool = False, now: datetime
) -> tuple[Enrolment, str]:
    """A one-time code for an agent, good for an hour; it is returned once and kept as a hash.

    Either for the machine that meters, or for the prover of one more unit. Raises EnrolmentRefused for a class whose
    key is in use (rotate it, or revoke it first), and for more provers than it has units.
    """
    locked = _own(seat, node_class)
    _require_room(locked, is_for_a_unit)
    reason = "one more unit's prover" if is_for_a_unit else "asked for"
    return _make_code(seat, locked, reason, now, is_for_a_unit=is_for_a_unit)


@transaction.atomic
def make_successor_code(*, seat: Seat, prover: UnitProver, now: datetime) -> str:
    """A one-time code for a new key of a unit whose key is lost, stolen or old; the old one ends when it is accepted.

    Raises EnrolmentRefused for a prover that is retired.
    """
    locked = _own(seat, prover.node_class)
    _require_standing(prover)
    reason = f"a new key for unit {prover.number}"
    return _make_code(seat, locked, reason, now, is_for_a_unit=True, replaces=prover)[1]


def _make_code(
    seat: Seat, node_class: NodeClass, reason: str, now: datetime, **columns: bool | UnitProver
) -> tuple[Enrolment, str]:
    code = secrets.token_hex(CODE_BYTES)  # no dash in front, which a command line would take for an option
    row = Enrolment.objects.create(
        id=uuid7(now), node_class=node_class, code_sha256=_digest(code), made_by=seat.user.email, made_at=now,
        expires_at=now + CODE_LIFE, **columns,
    )  # fmt: skip
    record(actor=seat.user.email, action="make_enrolment_code", subject=node_class.pk, reason=reason, now=now)
    return row, code


@transaction.atomic
def make_unit_codes(*, seat: Seat, node_class: NodeClass, codes: int, now: datetime) -> list[str]:
    """One-time codes for the provers of so many further units, all or none. Raises BadInput, EnrolmentRefused."""
    room = min(CODES_MAX, units_without_prover(node_class))
    if room and not 1 <= codes <= room:
        raise BadInput(f"Ask for 1 to {room} codes.", field="codes")
    asked = range(max(1, codes))  # without room the first one says why
    made = [make_enrolment_code(seat=seat, node_class=node_class, is_for_a_unit=True, now=now) for _ in asked]
    return [code for _, code in made]


def units_without_prover(node_class: NodeClass) -> int:
    """How many units of a class nothing answers for in a roll call: the machine that meters answers for one."""
    return max(0, node_class.units - 1 - node_class.unit_provers.filter(retired_at=None).count())


@transaction.atomic
def claim_enrolment(*, statement: Mapping[str, str], now: datetime) -> Enrolment:
    """Take the statement of a machine: its public key, signed together with the code. A person decides then.

    The same statement again is the same claim, also after the code has expired. Raises EnrolmentRefused for a forged
    statement and for a code that is unknown, expired or claimed by another key alike; DeviceTaken for a key that is
    or was in use.
    """
    try:
        public_key = check_enrolment(dict(statement))
    except StatementForged as error:
        raise EnrolmentRefused(str(error), cause=error.code) from error
    row = Enrolment.objects.select_for_update().filter(code_sha256=_digest(statement["token"])).first()
    if row is not None and row.public_key is not None and bytes(row.public_key) == public_key:
        return row
    if row is None or row.claimed_at or row.expires_at <= now:
        raise EnrolmentRefused("This code is unknown, used or older than an hour: make a new one on the page.")
    _require_unused(public_key)
    row.public_key, row.claimed_at = public_key, now
    row.save(update_fields=["public_key", "claimed_at"])
    record(actor="agent", action="claim_enrolment", subject=row.node_class_id, reason="code claimed", now=now,
           fingerprint=fingerprint_of(public_key))  # fmt: skip
    return row


@transaction.atomic
def decide_enrolment(*, seat: Seat, enrolment: Enrolment, is_accepted: bool, now: datetime) -> Enrolment:
    """Accept a claimed key, after comparing fingerprints, or refuse it. Deciding the same again changes nothing."""
    locked = _own(seat, enrolment.node_class)
    row = Enrolment.objects.select_for_update().get(pk=enrolment.pk)
    if row.decided_at is not None and row.is_accepted == is_accepted:
        return row
    if row.public_key is None or row.decided_at is not None:
        raise EnrolmentRefused("There is no key to decide on, or it is decided already.")
    public_key = bytes(row.public_key)
    if is_accepted and row.replaces is not None:
        _require_standing(row.replaces)
        _require_unused(public_key)
    elif is_accepted:
        _require_room(locked, row.is_for_a_unit)
        _require_unused(public_key)
    row.is_accepted, row.decided_by, row.decided_at = is_accepted, seat.user.email, now
    row.save(update_fields=["is_accepted", "decided_by", "decided_at"])
    if is_accepted and row.is_for_a_unit:
        if row.replaces is not None:  # no instant has two keys of one unit, and none has neither
            _retire(row.replaces, seat, f"a new key: {fingerprint_of(public_key)}", now)
        number = row.replaces.number if row.replaces else _first_free_unit(locked)
        UnitProver.objects.create(
            enrolment=row, node_class=locked, number=number, public_key=public_key, enrolled_at=now
        )
    elif is_accepted:
        _change(locked, "enrolled", public_key, seat.user.email, "fingerprint compared", now)
    record(
        actor=seat.user.email, action="decide_enrolment", subject=locked.pk, now=now,
        reason="accepted" if is_accepted else "refused", fingerprint=fingerprint_of(public_key),
    )  # fmt: skip
    return row


@transaction.atomic
def rotate_machine_key(*, statement: Mapping[str, str], now: datetime) -> NodeClass:
    """Let a new key follow the one in use, which signed for it; standing and proofs stay. Twice is one act.

    Raises EnrolmentRefused for a forged statement or an old key that is not in use, DeviceTaken for a used new key.
    """
    try:
        old, new = check_rotation(statement)
    except StatementForged as error:
        raise EnrolmentRefused(str(error), cause=error.code) from error
    node_class = NodeClass.objects.select_for_update(of=("self",)).filter(machine_key__in=(old, new)).first()
    if node_class is None:
        raise EnrolmentRefused("The old key is not in use: enrol again.")
    if bytes(node_class.machine_key or b"") == new:
        if MachineKeyChange.objects.filter(node_class=node_class, public_key=new, previous=old).exists():
            return node_class
        raise EnrolmentRefused("The new key is in use, but not as the successor of the old one.")
    _require_unused(new)
    _change(node_class, "rotated", new, node_class.party.slug, "signed by the key before it", now, previous=old)
    record(actor=node_class.party.slug, action="rotate_machine_key", subject=node_class.pk, reason="by its own key",
           now=now, fingerprint=fingerprint_of(new))  # fmt: skip
    return node_class


@transaction.atomic
def revoke_machine_key(*, seat: Seat, node_class: NodeClass, reason: str, now: datetime) -> NodeClass:
    """End a lost or stolen key at once: nothing it signs counts from now on, and what was proven with it is not kept.

    A class on probation or only registered starts again; a proven one is suspended. Both need a new enrolment and a
    full proof made after it. Leases run on, and their minutes count as the probes see them.
    """
    locked = _own(seat, node_class)
    require_name(reason, field="reason", longest=300)
    if locked.machine_key is None:
        raise EnrolmentRefused("These machines have no key in use.")
    ended = bytes(locked.machine_key)
    _change(locked, "revoked", ended, seat.user.email, reason, now)
    state = Standing.objects.select_for_update().get(node_class=locked).state
    facts = {"actor": seat.user.email, "reason": "machine key revoked", "evidence": hashlib.sha256(ended).digest()}
    if state in ("REGISTERED", "PROBATION"):
        restart(node_class=locked, now=now, **facts)
    elif state in ("PROVEN", "DEGRADED"):
        suspend(node_class=locked, now=now, **facts)
    record(actor=seat.user.email, action="revoke_machine_key", subject=locked.pk, reason=reason, now=now,
           fingerprint=fingerprint_of(ended))  # fmt: skip
    return locked


@transaction.atomic
def retire_unit_prover(*, seat: Seat, prover: UnitProver, reason: str, now: datetime) -> UnitProver:
    """Take one unit's prover out: its machine is sold or broken, or its key is lost. Twice is one act.

    The class answers no roll whole until each of its units has one again.
    """
    _own(seat, prover.node_class)
    require_name(reason, field="reason", longest=300)
    return _retire(prover, seat, reason, now)


def _retire(prover: UnitProver, seat: Seat, reason: str, now: datetime) -> UnitProver:
    row = UnitProver.objects.select_for_update(no_key=True).get(pk=prover.pk)
    if row.retired_at is not None:
        return row
    row.retired_at, row.retired_for = now, reason
    row.save(update_fields=["retired_at", "retired_for"])
    record(actor=seat.user.email, action="retire_unit_prover", subject=row.node_class_id, reason=reason, now=now,
           unit=row.number, fingerprint=fingerprint_of(bytes(row.public_key)))  # fmt: skip
    return row


def _require_standing(prover: UnitProver) -> None:
    """Raises EnrolmentRefused."""
    if not UnitProver.objects.filter(pk=prover.pk, retired_at=None).exists():
        raise EnrolmentRefused("This prover is retired: enrol another one for its unit.", unit=prover.number)


def _first_free_unit(node_class: NodeClass) -> int:
    taken = set(node_class.unit_provers.filter(retired_at=None).values_list("number", flat=True))
    return next(number for number in count(2) if number not in taken)


def _require_room(node_class: NodeClass, is_for_a_unit: bool) -> None:
    """Raises EnrolmentRefused."""
    if not is_for_a_unit:
        if node_class.machine_key is not None:
            raise EnrolmentRefused("These machines have a key: rotate it from the agent, or revoke it first.")
        return
    if node_class.machine_key is None:
        raise EnrolmentRefused("The machine that meters comes first: enrol it, and then one prover for each more unit.")
    if not units_without_prover(node_class):
        raise EnrolmentRefused(
            "Each unit of this class has its prover already: retire one first.", units=node_class.units
        )


def _change(
    node_class: NodeClass, kind: str, key: bytes, actor: str, reason: str, now: datetime, previous: bytes | None = None
) -> None:
    """The line first: the database lets no key change without one."""
    MachineKeyChange.objects.create(
        node_class=node_class, kind=kind, public_key=key, previous=previous, actor=actor, reason=reason, at=now
    )
    node_class.machine_key = None if kind == "revoked" else key
    node_class.save(update_fields=["machine_key"])


def _require_unused(public_key: bytes) -> None:
    used = (
        MachineKeyChange.objects.filter(public_key=public_key), NodeClass.objects.filter(machine_key=public_key),
        UnitProver.objects.filter(public_key=public_key),
    )  # fmt: skip
    if any(rows.exists() for rows in used):
        raise DeviceTaken("This key is or was in use: make a new one.", field="public_key")


def _own(seat: Seat, node_class: NodeClass) -> NodeClass:
    require_act(seat, "operate", "change machine keys")
    locked = (
        NodeClass.objects.select_for_update(of=("self",)).filter(pk=node_class.pk, party=seat.party).first()
    )  # fmt: skip
    if locked is None:
        raise NotYours("There is no such node class.")
    return locked


def _digest(code: str) -> bytes:
    return hashlib.sha256(code[:CODE_LENGTH_MAX].encode()).digest()
