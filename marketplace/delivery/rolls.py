"""How a real machine answers a roll call: it signs that it is there, and verifiers measure it while the roll is open.

    market      opens the roll of an owner at a moment that nobody knew; every class of it has ten minutes
    machine     its meter learns of it within a minute, signs how many machines are up, and opens its prover
    verifiers   learn of it by their orders, each with the instant at which to measure which class
    market      two verifiers whose median reaches the class, the machine's own answer, and a moment shared with every
                other class of the roll are a class that answered

There are as many instants as verifiers, up to four; at each of them every class is measured, by another verifier each
time. So two classes are one machine's work only where they never were at work together: `pricing.overlap` says how much
they must share. What is said is taken once, inside the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.crypto import salted_hmac

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
from marketplace.supply.proof_models import RollCall, RollMember
from marketplace.supply.rolls import note_answer
from pricing.overlap import Span, are_two
from pricing.transcript import OPS_SHARE_BPS

VERIFIERS_MIN = 2
# Its meter has heard of the roll by then, and a session is over before the next: four fit into the ten minutes.
FIRST_INSTANT, BETWEEN_INSTANTS = timedelta(seconds=150), timedelta(seconds=100)
INSTANTS_MAX = 4


@dataclass(frozen=True, slots=True)
class RollOrder:
    """A class that is called now, for a verifier to measure."""

    member: RollMember
    pulse: rows.Pulse | None
    measure_at: datetime  # all classes of the roll are measured then, each by one verifier


def open_call_of(node_class: NodeClass, *, now: datetime) -> RollMember | None:
    """Return the open roll call of a node class, or None. Nobody is told of one before it opens."""
    return _open(now).filter(node_class=node_class).order_by("-roll__opened_at").first()


def roll_orders(*, verifier: Party, now: datetime) -> list[RollOrder]:
    """Return what this verifier measures of the open rolls, and when; by class. Raises BadInput for others.

    Nothing of its own owner's, and nothing where others were drawn.
    """
    if verifier.kind != "verifier":
        raise BadInput("Only verifiers are ordered to measure.", field="party")
    called = list(_open(now).order_by("node_class__chain_class"))
    told = rows.Pulse.objects.filter(node_class__in={member.node_class_id for member in called})
    pulses = {row.node_class_id: row for row in told}
    orders, places = [], dict[UUID, list[UUID]]()
    for member in called:
        places.setdefault(member.roll_id, []).append(member.node_class_id)
    for member in called:
        panel = _panel_of(member.roll)
        if verifier.pk in panel:
            turn = (panel.index(verifier.pk) + places[member.roll_id].index(member.node_class_id)) % len(panel)
            at = member.roll.opened_at + FIRST_INSTANT + turn * BETWEEN_INSTANTS
            orders.append(RollOrder(member, pulses.get(member.node_class_id), at))
    return orders


def _panel_of(roll: RollCall) -> list[UUID]:
    """The verifiers of a roll, in an order that only this server can work out: none of the machines' own owner."""
    keys = rows.WitnessKey.objects.filter(party__kind="verifier", enrolled_at__lte=roll.opened_at)
    live = keys.filter(Q(revoked_at=None) | Q(revoked_at__gt=roll.opened_at))
    parties = set(live.values_list("party_id", flat=True))
    owners = last_owners({roll.owner_id, *parties})
    free = [party for party in parties if owners[party] != owners[roll.owner_id]]

    def rank(party: UUID) -> bytes:
        return salted_hmac("grove roll panel", f"{roll.pk} {party}", algorithm="sha256").digest()

    return sorted(free, key=rank)[:INSTANTS_MAX]


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
    _require_inside(member, said.ended_at_ms, now)
    RollReport.objects.create(
        member=member, verifier=party, measured_at=measured_at, ended_at=moment(said.ended_at_ms), ops=said.ops,
        received_at=now, body=signed.body, signature=signed.signature,
    )  # fmt: skip
    _settle(member, now)
    return True


def _settle(member: RollMember, now: datetime) -> None:
    """Count every class of the roll that answered by now: one report may be what another class waited for."""
    related = ("node_class__resource_class", "node_class__standing")
    members = list(RollMember.objects.filter(roll=member.roll_id).select_related(*related))
    spans = {each.pk: _spans_in_time(each) for each in members}
    for each in members:
        reply = RollReply.objects.filter(member=each).first()
        others = [spans[other.pk] for other in members if other.pk != each.pk]
        if reply is None or not _reaches(each):
            continue
        if all(any(are_two(one, two) for one in spans[each.pk] for two in other) for other in others):
            note_answer(member=each, machines=reply.machines, benchmark=None, now=now)


def _reaches(member: RollMember) -> bool:
    ops = sorted(RollReport.objects.filter(member=member).values_list("ops", flat=True))
    # Of two the lower one: no verifier alone lets a machine answer.
    return len(ops) >= VERIFIERS_MIN and ops[(len(ops) - 1) // 2] >= _ops_needed(member)


def _ops_needed(member: RollMember) -> int:
    """85 % of the class's row, or of what was proven if that is more: who dawdles over one has time for another."""
    node_class = member.node_class
    most = max(node_class.resource_class.ops_per_sec, node_class.standing.proven_ops_per_sec)
    return -(-most * OPS_SHARE_BPS // 10_000)


def _spans_in_time(member: RollMember) -> list[Span]:
    """When this class was seen at work at its rate, in milliseconds."""
    fast = RollReport.objects.filter(member=member, ops__gte=_ops_needed(member)).exclude(ended_at=None)
    return [
        (int(row.measured_at.timestamp() * 1000), int(row.ended_at.timestamp() * 1000))
        for row in fast if row.ended_at is not None
    ]  # fmt: skip


def _open(now: datetime) -> QuerySet[RollMember]:
    related = ("roll", "node_class__party", "node_class__resource_class")
    return RollMember.objects.filter(roll__opened_at__lte=now, roll__closes_at__gt=now).select_related(*related)


def _member(roll: str, node_class_id: UUID) -> RollMember:
    """The call. The roll is locked by its owner, so that two reports that arrive together are counted together."""
    called = RollMember.objects.filter(roll_id=parse_uuid(roll), node_class_id=node_class_id)
    found = called.select_related("roll", "node_class__resource_class").first()
    if found is None:
        raise ReportForged("This class was not called in that roll.", field="roll")
    Party.objects.select_for_update().get(pk=found.roll.owner_id)
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
