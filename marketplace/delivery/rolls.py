"""How a real machine answers a roll call: it signs that it is there, and verifiers measure it while the roll is open.

    market      opens the roll of an owner at a moment that nobody knew; every class of it has ten minutes
    machine     its meter learns of it within a minute, signs how many machines are up, and opens its prover
    verifiers   learn of it by their orders, measure the class at its prover and sign what they saw
    market      two verifiers whose median reaches the class, and the machine's own answer, are a class that answered

A machine that is listed twice is asked for twice in the same ten minutes. What is said is taken once, inside the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import RollMeasured, RollPresence, accept_statement, read_statement
from marketplace.delivery import evidence_models as rows
from marketplace.delivery.intake import SKEW, moment, own_machine, parse_uuid, typed
from marketplace.delivery.probing import witness_key
from marketplace.delivery.roll_models import RollReply, RollReport
from marketplace.errors import (
    BadInput,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportMalformed,
    ReportReplayed,
    WrongInstant,
)
from marketplace.parties.models import Party
from marketplace.parties.owners import last_owners
from marketplace.supply.models import NodeClass
from marketplace.supply.proof_models import RollMember
from marketplace.supply.rolls import note_answer
from pricing.transcript import OPS_SHARE_BPS

VERIFIERS_MIN = 2


@dataclass(frozen=True, slots=True)
class RollOrder:
    """A class that is called now, for a verifier to measure."""

    member: RollMember
    pulse: rows.Pulse | None


def open_call_of(node_class: NodeClass, *, now: datetime) -> RollMember | None:
    """Return the open roll call of a node class, or None. Nobody is told of one before it opens."""
    return _open(now).filter(node_class=node_class).order_by("-roll__opened_at").first()


def roll_orders(*, verifier: Party, now: datetime) -> list[RollOrder]:
    """Return what is called now and not of the verifier's own owner, by class. Raises BadInput for others."""
    if verifier.kind != "verifier":
        raise BadInput("Only verifiers are ordered to measure.", field="party")
    called = list(_open(now).order_by("node_class__chain_class"))
    told = rows.Pulse.objects.filter(node_class__in={member.node_class_id for member in called})
    pulses = {row.node_class_id: row for row in told}
    owners = last_owners({verifier.pk, *(member.node_class.party_id for member in called)})
    return [
        RollOrder(member, pulses.get(member.node_class_id)) for member in called
        if owners[member.node_class.party_id] != owners[verifier.pk]
    ]  # fmt: skip


@transaction.atomic
def take_presences(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take machines' answers to their roll calls; returns how many were new.

    Raises ReportForged, ReportMalformed for more machines than were called, ReportFromFuture, ReportLate outside the
    span, and ReportReplayed for a second answer of another body.
    """
    taken = 0
    for item, each in enumerate(signed):
        with typed(item):
            taken += _take_presence(party, each, now)
    return taken


def _take_presence(party: Party, signed: SignedReport, now: datetime) -> bool:
    node_class = own_machine(party, read_statement(RollPresence, signed.body).machine)
    said = accept_statement(RollPresence, signed, public_key=bytes(node_class.machine_key or b""))
    member = _member(said.roll, node_class.pk)
    standing = RollReply.objects.filter(member=member).first()
    if standing is not None:
        return _again(standing.body, signed)
    _require_inside(member, said.sent_at_ms, now)
    if said.machines > member.machines:
        raise ReportMalformed("No more machines answer than were called.", field="machines", called=member.machines)
    RollReply.objects.create(
        member=member, machines=said.machines, received_at=now, body=signed.body, signature=signed.signature
    )
    _settle(member, now)
    return True


@transaction.atomic
def take_measured(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take what a verifier measured in open roll calls; returns how many were new.

    Raises ReportForged, NotOnPanel for machines of the verifier's own owner, WrongInstant for a measurement outside the
    span, ReportFromFuture, ReportLate, and ReportReplayed for a second report with another body.
    """
    key, taken = witness_key(party), 0
    for item, each in enumerate(signed):
        with typed(item):
            taken += _take_measured(party, key, each, now)
    return taken


def _take_measured(party: Party, key: bytes, signed: SignedReport, now: datetime) -> bool:
    said = accept_statement(RollMeasured, signed, public_key=key)
    if said.verifier != party.slug or party.kind != "verifier":
        raise ReportForged("The report speaks for another verifier.", named=said.verifier)
    member = _member(said.roll, parse_uuid(said.machine))
    owners = last_owners([party.pk, member.node_class.party_id])
    if owners[party.pk] == owners[member.node_class.party_id]:
        raise NotOnPanel("A verifier of the provider's own owner measures none of its machines.")
    standing = RollReport.objects.filter(member=member, verifier=party).first()
    if standing is not None:
        return _again(standing.body, signed)
    measured_at = moment(said.measured_at_ms)
    if not member.roll.opened_at <= measured_at <= member.roll.closes_at:
        raise WrongInstant("A roll is measured inside its span.", closes_at=member.roll.closes_at.isoformat())
    _require_inside(member, said.measured_at_ms, now)
    RollReport.objects.create(
        member=member, verifier=party, measured_at=measured_at, ops=said.ops, received_at=now, body=signed.body,
        signature=signed.signature,
    )  # fmt: skip
    _settle(member, now)
    return True


def _settle(member: RollMember, now: datetime) -> None:
    """Count the class as one that answered once it says so and two verifiers saw it reach its class."""
    reply = RollReply.objects.filter(member=member).first()
    ops = sorted(RollReport.objects.filter(member=member).values_list("ops", flat=True))
    if reply is None or len(ops) < VERIFIERS_MIN:
        return
    agreed = ops[(len(ops) - 1) // 2]  # of two the lower one: no verifier alone lets a machine answer
    if agreed * 10_000 >= member.node_class.resource_class.ops_per_sec * OPS_SHARE_BPS:
        note_answer(member=member, machines=reply.machines, benchmark=None, now=now)


def _open(now: datetime) -> QuerySet[RollMember]:
    related = ("roll", "node_class__party", "node_class__resource_class")
    return RollMember.objects.filter(roll__opened_at__lte=now, roll__closes_at__gt=now).select_related(*related)


def _member(roll: str, node_class_id: UUID) -> RollMember:
    """The call. Its class is locked, so that two reports that arrive together are counted together."""
    called = RollMember.objects.filter(roll_id=parse_uuid(roll), node_class_id=node_class_id)
    found = called.select_related("roll", "node_class__resource_class").first()
    if found is None:
        raise ReportForged("This class was not called in that roll.", field="roll")
    NodeClass.objects.select_for_update(of=("self",)).get(pk=node_class_id)
    return found


def _again(body: bytes | memoryview, signed: SignedReport) -> bool:
    if bytes(body) != signed.body:
        raise ReportReplayed("Another answer to this roll was taken before.")
    return False


def _require_inside(member: RollMember, at_ms: int, now: datetime) -> None:
    if moment(at_ms) > now + SKEW:
        raise ReportFromFuture("That moment is not over.", market_time_ms=int(now.timestamp() * 1000))
    if not member.roll.opened_at <= now <= member.roll.closes_at or moment(at_ms) < member.roll.opened_at - SKEW:
        raise ReportLate("A roll is answered inside its span.", closes_at=member.roll.closes_at.isoformat())
