"""How a real machine answers a roll call: it signs that it is there, and verifiers measure it while the roll is open.

    market      opens the roll of an owner at a moment that nobody knew; every machine of it has ten minutes
    machine     its meter, or the prover of one more unit, learns of it within a minute, signs that it is up, and opens
    verifiers   learn of it by their orders, each with the instant at which to measure which machine
    market      two instants at which every machine of the roll was at work at its class's rate, and each machine's own
                answer, are machines that answered; all machines of a class are a class that did

At an instant every machine is measured, and at the next one by other verifiers: one alone, or more where the machines
are more than one measures side by side. Whoever lacks a machine can choose who falls silent at an instant, so an
instant at which one is missing shows nothing; and no verifier alone is believed, so it takes two of them.
`pricing.overlap` says how much spans must share. What is said is taken once, inside the span.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils.crypto import salted_hmac

from marketplace.agent.checking import CALLS_MAX
from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import RollMeasured, RollPresence, accept_statement, read_statement
from marketplace.delivery import evidence_models as rows
from marketplace.delivery.intake import SKEW, moment, own_unit, parse_uuid, typed
from marketplace.delivery.probing import witness_key
from marketplace.delivery.roll_models import RollReply, RollReport
from marketplace.errors import (
    BadInput,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportReplayed,
    WrongInstant,
)
from marketplace.parties.models import Party
from marketplace.parties.owners import last_owners
from marketplace.supply.key_models import UnitProver
from marketplace.supply.models import NodeClass
from marketplace.supply.proof_models import RollCall, RollMember
from marketplace.supply.rolls import CalledMachine, called_machines, count_called, is_called, note_answer
from pricing.overlap import Span, all_together, are_two
from pricing.transcript import OPS_SHARE_BPS

VERIFIERS_MIN = 2  # of different owners, each at an instant of its own
# Its meter has heard of the roll by then, and a session is over before the next: four fit into the ten minutes.
FIRST_INSTANT, BETWEEN_INSTANTS = timedelta(seconds=150), timedelta(seconds=100)
INSTANTS_MAX = 4


@dataclass(frozen=True, slots=True)
class RollOrder:
    """A machine that is called now, for a verifier to measure."""

    machine: CalledMachine
    probe_address: str  # empty until its first heartbeat
    measure_at: datetime  # all machines of the roll are measured then


def open_call_of(node_class: NodeClass, *, now: datetime) -> RollMember | None:
    """Return the open roll call of a node class, or None. Nobody is told of one before it opens."""
    return _open(now).filter(node_class=node_class).order_by("-roll__opened_at").first()


def open_call_of_unit(prover: UnitProver, *, now: datetime) -> RollMember | None:
    """Return the open roll call in which one unit's prover is called, or None."""
    member = open_call_of(prover.node_class, now=now)
    return member if member and is_called(member, prover) else None


def roll_orders(*, verifier: Party, now: datetime) -> list[RollOrder]:
    """Return what this verifier measures of the open rolls, and when. Raises BadInput for others.

    Nothing of its own owner's, and nothing where others were drawn.
    """
    if verifier.kind != "verifier":
        raise BadInput("Only verifiers are ordered to measure.", field="party")
    called = called_machines(list(_open(now).order_by("roll", "node_class__chain_class")))
    told = rows.Pulse.objects.filter(node_class__in={each.member.node_class_id for each in called})
    addresses = dict(told.values_list("node_class", "probe_address"))
    by_roll = defaultdict[RollCall, list[CalledMachine]](list)
    for each in called:
        by_roll[each.member.roll].append(each)
    orders = []
    for roll, machines in by_roll.items():
        place = _place_of(verifier, _teams_of(roll, len(machines)))
        if place is None:
            continue
        at = roll.opened_at + FIRST_INSTANT + (place.instant - 1) * BETWEEN_INSTANTS
        for each in machines[place.share :: place.shares]:
            address = each.prover.probe_address if each.prover else addresses.get(each.member.node_class_id, "")
            orders.append(RollOrder(each, address, at))
    return orders


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a verifier stands in a roll: its instant, from 1, and which of so many shares of the machines is its."""

    instant: int
    share: int
    shares: int


def _place_of(verifier: Party, teams: Sequence[Sequence[UUID]]) -> _Place | None:
    """None where others were drawn."""
    for number, team in enumerate(teams, start=1):
        if verifier.pk in team:
            return _Place(number, team.index(verifier.pk), len(team))
    return None


def _teams_of(roll: RollCall, machines: int) -> list[list[UUID]]:
    """The verifiers of each instant of a roll, as only this server can work them out: together they measure all of it.

    One of each owner and none of the machines' own. One verifier is enough for an instant, unless it could not measure
    so many side by side; two instants have a verifier each at least.
    """
    keys = rows.WitnessKey.objects.filter(party__kind="verifier", enrolled_at__lte=roll.opened_at)
    live = keys.filter(Q(revoked_at=None) | Q(revoked_at__gt=roll.opened_at))
    parties = set(live.values_list("party_id", flat=True))
    owners = last_owners({roll.owner_id, *parties})

    def rank(party: UUID) -> bytes:
        return salted_hmac("grove roll panel", f"{roll.pk} {party}", algorithm="sha256").digest()

    drawn: dict[UUID, UUID] = {}
    for party in sorted(parties, key=rank):
        if owners[party] != owners[roll.owner_id]:
            drawn.setdefault(owners[party], party)
    free = list(drawn.values())
    size = max(1, min(-(-machines // CALLS_MAX), len(free) // VERIFIERS_MIN))
    return [free[at : at + size] for at in range(0, len(free) - size + 1, size)][:INSTANTS_MAX]


@transaction.atomic
def take_presences(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take machines' answers to their roll calls, each for itself; returns how many were new.

    Raises ReportForged, also for a machine that was not called, ReportFromFuture, ReportLate outside the span, and
    ReportReplayed for a second answer of another body.
    """
    heard = []
    for item, each in enumerate(signed):
        with typed(item):
            heard.append(_take_presence(party, each, now))
    return _settle_all(heard, now)


def _take_presence(party: Party, signed: SignedReport, now: datetime) -> UUID | None:
    """The roll that it is new to, if any."""
    node_class, prover, public_key = own_unit(party, read_statement(RollPresence, signed.body).machine)
    said = accept_statement(RollPresence, signed, public_key=public_key)
    member = _member(said.roll, node_class.pk, prover)
    standing = RollReply.objects.filter(member=member, prover=prover).first()
    if standing is not None:
        _again(standing.body, signed)
        return None
    _require_inside(member, said.sent_at_ms, now)
    RollReply.objects.create(
        member=member, prover=prover, received_at=now, body=signed.body, signature=signed.signature
    )
    return member.roll_id


@transaction.atomic
def take_measured(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take what a verifier measured in open roll calls; returns how many were new.

    Raises ReportForged, NotOnPanel where others were drawn and for machines of the verifier's own owner, WrongInstant
    for a measurement outside the span, ReportFromFuture, ReportLate, and ReportReplayed for a second report with
    another body.
    """
    key, heard = witness_key(party), []
    for item, each in enumerate(signed):
        with typed(item):
            heard.append(_take_measured(party, key, each, now))
    return _settle_all(heard, now)


def _take_measured(party: Party, key: bytes, signed: SignedReport, now: datetime) -> UUID | None:
    said = accept_statement(RollMeasured, signed, public_key=key)
    if said.verifier != party.slug or party.kind != "verifier":
        raise ReportForged("The report speaks for another verifier.", named=said.verifier)
    machine_id = parse_uuid(said.machine)
    prover = UnitProver.objects.filter(pk=machine_id).first()
    member = _member(said.roll, prover.node_class_id if prover else machine_id, prover)
    owners = last_owners([party.pk, member.node_class.party_id])
    if owners[party.pk] == owners[member.node_class.party_id]:
        raise NotOnPanel("A verifier of the provider's own owner measures none of its machines.")
    standing = RollReport.objects.filter(member=member, prover=prover, verifier=party).first()
    if standing is not None:
        _again(standing.body, signed)
        return None
    place = _place_of(party, _teams_of(member.roll, count_called(member.roll)))
    if place is None:
        raise NotOnPanel("Other verifiers were drawn for this roll.")
    measured_at = moment(said.measured_at_ms)
    if not member.roll.opened_at <= measured_at <= member.roll.closes_at:
        raise WrongInstant("A roll is measured inside its span.", closes_at=member.roll.closes_at.isoformat())
    _require_inside(member, said.ended_at_ms, now)
    RollReport.objects.create(
        member=member, prover=prover, verifier=party, measured_at=measured_at, ended_at=moment(said.ended_at_ms),
        ops=said.ops, instant=place.instant, received_at=now, body=signed.body, signature=signed.signature,
    )  # fmt: skip
    return member.roll_id


def _settle_all(heard: Sequence[UUID | None], now: datetime) -> int:
    """Count the rolls of which something new was heard; returns how many statements were new."""
    fresh = [roll_id for roll_id in heard if roll_id is not None]
    for roll_id in sorted(set(fresh)):
        settle_roll(roll_id, now)
    return len(fresh)


def settle_roll(roll_id: UUID, now: datetime) -> None:
    """Count every class of the roll that answered by now: one report may be what another class waited for."""
    members = _members_of(roll_id)
    called = called_machines(members)
    reports = RollReport.objects.filter(member__roll=roll_id).order_by().values("instant").annotate(count=Count("pk"))
    if sum(row["count"] >= len(called) for row in reports) < VERIFIERS_MIN:
        return  # at too few instants each was measured, so there is nothing to read
    if all(hasattr(each, "answer") for each in members):
        return
    found = _outcomes(called)
    if len(_whole_instants(found)) < VERIFIERS_MIN:
        return
    mine = defaultdict[RollMember, list[Outcome]](list)
    for each in found:
        mine[each.machine.member].append(each)
    for member, machines in mine.items():
        if len(machines) == member.machines and all(each.has_signed and each.stands for each in machines):
            note_answer(member=member, now=now)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one called machine so far."""

    machine: CalledMachine
    has_signed: bool
    verifiers: int  # that measured it
    spans: dict[int, Span]  # by instant, when it was seen at work at its class's rate, in milliseconds

    @property
    def stands(self) -> bool:
        """Whether its prover was not retired since it was called."""
        return self.machine.prover is None or self.machine.prover.retired_at is None


def _whole_instants(found: Sequence[Outcome]) -> list[int]:
    """The instants at which every machine of a roll was at work at its class's rate, and none stood for two."""
    whole = []
    for instant in set[int]().union(*(each.spans for each in found)):
        together = [each.spans[instant] for each in found if instant in each.spans]
        if len(together) == len(found) and all_together(together):
            whole.append(instant)
    return whole


def outcomes(roll_id: UUID) -> list[Outcome]:
    """Return what came of each machine that a roll called, in the roll's order."""
    return _outcomes(called_machines(_members_of(roll_id)))


def _members_of(roll_id: UUID) -> list[RollMember]:
    related = ("roll", "node_class__party", "node_class__resource_class", "node_class__standing", "answer")
    called = RollMember.objects.filter(roll=roll_id).select_related(*related)
    return list(called.order_by("node_class__chain_class"))


def _outcomes(called: Sequence[CalledMachine]) -> list[Outcome]:
    members = {machine.member.pk for machine in called}
    signed = set(RollReply.objects.filter(member__in=members).values_list("member_id", "prover_id"))
    told = defaultdict[tuple[int, UUID | None], list[RollReport]](list)
    facts = ("member_id", "prover_id", "measured_at", "ended_at", "ops", "instant")
    for row in RollReport.objects.filter(member__in=members).only(*facts).order_by("id"):
        told[row.member_id, row.prover_id].append(row)
    found = []
    for machine in called:
        place = (machine.member.pk, machine.prover.pk if machine.prover else None)
        needed = _ops_needed(machine.member)
        spans = {row.instant: _span(row) for row in told[place] if row.instant and row.ended_at and row.ops >= needed}
        found.append(Outcome(machine, place in signed, len(told[place]), spans))
    return found


@dataclass(frozen=True, slots=True)
class LastCall:
    """A class's last roll call: until when it is open, and why each machine did not answer, by number; "" if it did."""

    closes_at: datetime
    why_not: dict[int, str]


def last_call(node_class: NodeClass) -> LastCall | None:
    """Return what came of a class's last roll call, machine by machine; None where it was never called."""
    called = RollMember.objects.filter(node_class=node_class).select_related("roll", "answer")
    member = called.order_by("-roll__opened_at", "-id").first()
    if member is None:
        return None
    if hasattr(member, "answer"):  # counted then, all of them together
        return LastCall(member.roll.closes_at, {each.number: "" for each in called_machines([member])})
    found = outcomes(member.roll_id)
    outer, is_seen = _outermost(found), len(_whole_instants(found)) >= VERIFIERS_MIN
    mine = [each for each in found if each.machine.member == member]
    return LastCall(member.roll.closes_at, {each.machine.number: _why_not(each, outer, is_seen) for each in mine})


def _why_not(outcome: Outcome, outer: dict[int, list[Outcome]], is_seen: bool) -> str:
    """`outer` is what `_outermost` returns, `is_seen` whether all of the roll were seen together often enough."""
    if not outcome.has_signed:
        return "did not answer"
    if not outcome.stands:
        return "its prover was retired meanwhile"
    if outcome.verifiers < VERIFIERS_MIN:
        return f"measured by {outcome.verifiers} of the {VERIFIERS_MIN} verifiers it takes"
    if len(outcome.spans) < VERIFIERS_MIN:
        return "measured below its class"
    if is_seen:
        return ""
    missing = len(outer) - len(outcome.spans)
    if missing:
        return f"was missing at {missing} of {len(outer)} instants"
    apart = [
        other for instant, span in outcome.spans.items() for other in outer[instant]
        if other is not outcome and not are_two(span, other.spans[instant])
    ]  # fmt: skip
    if apart:
        name = f"unit {apart[0].machine.number} of {apart[0].machine.member.node_class}"
        return f"was not at work together with {name}: one machine may be both"
    return ""


def _outermost(found: Sequence[Outcome]) -> dict[int, list[Outcome]]:
    """Of each instant the machine that began last and the one that was done first: who was with both was with all.

    Both are weighed by the share of their spans that two machines must have in common (`pricing.overlap`).
    """
    outer = {}
    for instant in set[int]().union(*(each.spans for each in found)):
        there = [each for each in found if instant in each.spans]

        def latest(each: Outcome, instant: int = instant) -> int:
            begins, ends = each.spans[instant]
            return begins * 100 + (ends - begins) * 15

        def soonest(each: Outcome, instant: int = instant) -> int:
            begins, ends = each.spans[instant]
            return ends * 100 - (ends - begins) * 15

        outer[instant] = [max(there, key=latest), min(there, key=soonest)]
    return outer


def _span(row: RollReport) -> Span:
    assert row.ended_at is not None
    return int(row.measured_at.timestamp() * 1000), int(row.ended_at.timestamp() * 1000)


def _ops_needed(member: RollMember) -> int:
    """85 % of the class's row, or of what was proven if that is more: who dawdles over one has time for another."""
    node_class = member.node_class
    most = max(node_class.resource_class.ops_per_sec, node_class.standing.proven_ops_per_sec)
    return -(-most * OPS_SHARE_BPS // 10_000)


def _open(now: datetime) -> QuerySet[RollMember]:
    related = ("roll", "node_class__party", "node_class__resource_class")
    return RollMember.objects.filter(roll__opened_at__lte=now, roll__closes_at__gt=now).select_related(*related)


def _member(roll: str, node_class_id: UUID, prover: UnitProver | None) -> RollMember:
    """The call. The roll is locked by its owner, so that two reports that arrive together are counted together."""
    called = RollMember.objects.filter(roll_id=parse_uuid(roll), node_class_id=node_class_id)
    found = called.select_related("roll", "node_class__resource_class").first()
    if found is None or not is_called(found, prover):
        raise ReportForged("This machine was not called in that roll.", field="roll")
    Party.objects.select_for_update(no_key=True).get(pk=found.roll.owner_id)  # rows that name it need not wait
    return found


def _again(body: bytes | memoryview, signed: SignedReport) -> None:
    if bytes(body) != signed.body:
        raise ReportReplayed("Another answer to this roll was taken before.")


def _require_inside(member: RollMember, at_ms: int, now: datetime) -> None:
    if moment(at_ms) > now + SKEW:
        raise ReportFromFuture("That moment is not over.", market_time_ms=int(now.timestamp() * 1000))
    if not member.roll.opened_at <= now <= member.roll.closes_at or moment(at_ms) < member.roll.opened_at - SKEW:
        raise ReportLate("A roll is answered inside its span.", closes_at=member.roll.closes_at.isoformat())
