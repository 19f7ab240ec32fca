"""The roll calls of the demo's providers: recorded, as its benchmarks are, but signed machine by machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from ledger.ids import uuid7
from marketplace.agent.keys import MachineKey
from marketplace.agent.statements import RollMeasured, RollPresence, sign_statement
from marketplace.delivery.roll_models import RollReply, RollReport
from marketplace.delivery.rolls import BETWEEN_INSTANTS, FIRST_INSTANT, VERIFIERS_MIN, settle_roll
from marketplace.demo.keys import machine_key
from marketplace.parties.models import Party
from marketplace.supply.key_models import Enrolment, UnitProver
from marketplace.supply.models import NodeClass
from marketplace.supply.proof_models import RollCall, RollMember
from marketplace.supply.rolls import CalledMachine, called_machines

CHAIN = timedelta(seconds=1)  # how long a chain is said to have lasted


def enrol_unit_provers(node_class: NodeClass, *, code: str, now: datetime) -> None:
    """Let in a prover for each further unit of a class, each under a key of its own. Twice is one act."""
    if node_class.unit_provers.exists():
        return
    numbers = range(2, node_class.units + 1)
    keys = {number: unit_key(code, number).public_bytes for number in numbers}
    codes = Enrolment.objects.bulk_create(
        Enrolment(
            id=uuid7(now), node_class=node_class, is_for_a_unit=True, public_key=keys[number], made_at=now,
            code_sha256=hashlib.sha256(keys[number]).digest(), made_by=node_class.party.slug, claimed_at=now,
            expires_at=now + timedelta(hours=1), is_accepted=True, decided_by=node_class.party.slug, decided_at=now,
        )
        for number in numbers
    )  # fmt: skip
    UnitProver.objects.bulk_create(
        UnitProver(
            enrolment=code, node_class=node_class, number=number, public_key=keys[number], enrolled_at=now, seen_at=now
        )
        for number, code in zip(numbers, codes, strict=True)
    )


def unit_key(code: str, number: int) -> MachineKey:
    """The key of one unit's prover of a simulated class; 1 is the machine that meters."""
    return machine_key(code if number == 1 else f"{code} unit {number}")


def answer_for_all(roll: RollCall, *, codes: dict[UUID, str], verifiers: Sequence[Party], at: datetime) -> None:
    """Let every machine of a roll sign that it is there, and two verifiers say that they saw all at work together.

    `codes` names the class of each node class, by which its machines' keys are derived.
    """
    members = list(RollMember.objects.filter(roll=roll).select_related("roll", "node_class__resource_class"))
    called = called_machines(members)
    RollReply.objects.bulk_create(_replies(called, codes, at))
    RollReport.objects.bulk_create(_reports(called, verifiers[:VERIFIERS_MIN], at))
    settle_roll(roll.pk, at)


def _replies(called: Sequence[CalledMachine], codes: dict[UUID, str], at: datetime) -> Iterator[RollReply]:
    for each in called:
        said = RollPresence(str(each.machine_id), str(each.member.roll_id), _ms(at))
        signed = sign_statement(unit_key(codes[each.member.node_class_id], each.number), said)
        yield RollReply(
            member=each.member, prover=each.prover, received_at=at, body=signed.body, signature=signed.signature
        )


def _reports(called: Sequence[CalledMachine], verifiers: Sequence[Party], at: datetime) -> Iterator[RollReport]:
    for place, verifier in enumerate(verifiers):
        key = machine_key(f"witness {verifier.slug}")
        for each in called:
            begins = each.member.roll.opened_at + FIRST_INSTANT + place * BETWEEN_INSTANTS
            ops = each.member.node_class.resource_class.ops_per_sec
            said = RollMeasured(
                verifier.slug, str(each.machine_id), str(each.member.roll_id), _ms(begins), _ms(begins + CHAIN), ops,
                hashlib.sha256(f"simulated {each.machine_id} {place}".encode()).hexdigest(),
            )  # fmt: skip
            signed = sign_statement(key, said)
            yield RollReport(
                member=each.member, prover=each.prover, verifier=verifier, measured_at=begins, ended_at=begins + CHAIN,
                ops=ops, instant=place + 1, received_at=at, body=signed.body, signature=signed.signature,
            )  # fmt: skip


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
