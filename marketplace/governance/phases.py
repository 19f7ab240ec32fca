"""Phases: each is opened by two people over figures that meet every condition, in order, and never by time.

The figures are handed in by whoever can count them (a gate knows no stage). They are kept as evidence under their
hash; a sign-off is for that evidence and no other, so a figure that changes voids what was signed. An open signal that
lowers the case freezes the phase it names. The database keeps each of these rules again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from marketplace.errors import GateNotReady, NotEligible, SamePerson, StateSkipped, UnknownName
from marketplace.governance.models import Flag
from marketplace.governance.phase_models import Phase, PhaseEvidence, PhaseSignOff, Signal
from marketplace.governance.services import record

SIGN_OFFS_NEEDED = 2


@dataclass(frozen=True, slots=True)
class Count:
    """What there is of one condition, and where it can be seen."""

    have: int
    where: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a gate beside what there is."""

    code: str
    sentence: str
    needed: int
    have: int
    where: str

    @property
    def missing(self) -> int:
        return max(0, self.needed - self.have)


@dataclass(frozen=True, slots=True)
class Gate:
    """A phase as the board shows it: what it waits for, who signed, and what freezes it."""

    phase: Phase
    conditions: list[Condition]
    evidence: PhaseEvidence | None
    signed_by: list[str]
    frozen_by: list[Signal]
    is_next: bool
    effects: list[Flag]

    @property
    def missing(self) -> dict[str, int]:
        return {each.code: each.missing for each in self.conditions if each.missing}

    @property
    def signatures_missing(self) -> int:
        return max(0, SIGN_OFFS_NEEDED - len(self.signed_by))

    @property
    def can_be_signed(self) -> bool:
        return self.is_next and not self.missing and not self.frozen_by


Counts = Mapping[str, Count]


def gate_board(counts: Counts) -> list[Gate]:
    """Return every phase with its conditions at these counts; reads only."""
    phases = list(Phase.objects.prefetch_related("conditions"))
    reached = max((phase.no for phase in phases if phase.is_open), default=0)
    return [_gate(phase, counts, is_next=phase.no == reached + 1) for phase in phases]


@transaction.atomic
def keep_evidence(*, no: int, counts: Counts, now: datetime) -> PhaseEvidence:
    """Keep the figures of a phase's conditions as they are now; unchanged figures are the evidence that stands."""
    phase = _phase(no)
    figures = {
        each.code: {"needed": each.needed, "have": each.have, "where": each.where}
        for each in _conditions(phase, counts)
    }
    digest = hashlib.sha256(json.dumps([no, figures], sort_keys=True, separators=(",", ":")).encode()).digest()
    last = phase.evidence.first()
    if last is not None and bytes(last.hash) == digest:
        return last
    is_complete = bool(figures) and all(figure["have"] >= figure["needed"] for figure in figures.values())
    evidence = PhaseEvidence.objects.create(phase=phase, hash=digest, figures=figures, is_complete=is_complete, at=now)
    record(actor="foundation", action="keep_evidence", subject=str(phase)[:120], reason="the figures changed", now=now,
           hash=digest.hex(), is_complete=is_complete)  # fmt: skip
    return evidence


@transaction.atomic
def sign_phase(*, no: int, evidence_hash: bytes, counts: Counts, person: str, now: datetime) -> PhaseSignOff:
    """Say yes to opening a phase on the evidence of this hash. The same person twice is one yes.

    Raises StateSkipped when an earlier phase is closed, GateNotReady when a condition is missing, a signal freezes it
    or the figures have changed since they were looked at, NotEligible for a seat that may not sign, SamePerson for one
    that may be another signer under a second name.
    """
    phase = _lock(no)
    evidence = keep_evidence(no=no, counts=counts, now=now)
    _require_ready(phase, counts)
    if bytes(evidence.hash) != evidence_hash:
        raise GateNotReady(
            "The figures changed since you looked: look again, then sign.", rule="evidence", phase=no,
            evidence=bytes(evidence.hash).hex(),
        )  # fmt: skip
    if not _may_sign(person):
        raise NotEligible("This seat may not sign off a phase.", rule="seat", person=person)
    for other in _signed_by(evidence):
        if other != person:
            require_apart(person, other, now)
    sign_off, is_new = PhaseSignOff.objects.get_or_create(evidence=evidence, person=person, defaults={"at": now})
    if is_new:
        record(actor=person, action="sign_phase", subject=str(phase)[:120], reason="signed on its evidence", now=now,
               hash=evidence_hash.hex())  # fmt: skip
    return sign_off


@transaction.atomic
def open_phase(*, no: int, counts: Counts, person: str, now: datetime) -> Phase:
    """Open the next phase and switch on the flags that open with it; an open phase stays as it is.

    Raises StateSkipped, GateNotReady (fact `rule`: conditions, signal, sign_offs) and then opens nothing.
    """
    phase = _lock(no)
    if phase.is_open:
        return phase
    evidence = keep_evidence(no=no, counts=counts, now=now)
    _require_ready(phase, counts)
    signed_by = _signed_by(evidence)
    if len(signed_by) < SIGN_OFFS_NEEDED:
        raise GateNotReady("Two people have to sign these figures.", rule="sign_offs", phase=no, signed_by=signed_by)
    if not _may_sign(person):
        raise NotEligible("This seat may not open a phase.", rule="seat", person=person)
    phase.is_open, phase.opened_at, phase.evidence_hash = True, now, bytes(evidence.hash)
    phase.save(update_fields=["is_open", "opened_at", "evidence_hash"])
    flags = list(Flag.objects.filter(opens_in_phase=no, is_on=False))
    for flag in flags:
        flag.is_on, flag.reason = True, f"{phase} was opened"[:300]
        flag.save(update_fields=["is_on", "reason"])
    record(
        actor=person, action="open_phase", subject=str(phase)[:120], reason="conditions met and signed by two", now=now,
        signed_by=signed_by, hash=bytes(evidence.hash).hex(), flags=[flag.name for flag in flags],
    )  # fmt: skip
    return phase


def current_phase() -> int:
    """The number of the highest open phase; 0 where none was laid out."""
    return max(Phase.objects.filter(is_open=True).values_list("no", flat=True), default=0)


def _gate(phase: Phase, counts: Counts, *, is_next: bool) -> Gate:
    evidence = phase.evidence.first()
    return Gate(
        phase=phase, conditions=_conditions(phase, counts), evidence=evidence,
        signed_by=_signed_by(evidence) if evidence else [], frozen_by=_freezing(phase), is_next=is_next,
        effects=list(Flag.objects.filter(opens_in_phase=phase.no).order_by("name")),
    )  # fmt: skip


def _conditions(phase: Phase, counts: Counts) -> list[Condition]:
    nothing = Count(0, "")
    return [
        Condition(row.code, row.sentence, row.needed, counts.get(row.code, nothing).have,
                  counts.get(row.code, nothing).where)
        for row in phase.conditions.all()
    ]  # fmt: skip


def _signed_by(evidence: PhaseEvidence) -> list[str]:
    return list(evidence.sign_offs.values_list("person", flat=True))


def _freezing(phase: Phase) -> list[Signal]:
    return list(phase.signals.filter(closed_at=None))


def _phase(no: int) -> Phase:
    phase = Phase.objects.filter(pk=no).first()
    if phase is None:
        raise UnknownName("There is no such phase.", field="phase", known=[1, 2, 3, 4])
    return phase


def _lock(no: int) -> Phase:
    _phase(no)
    return Phase.objects.select_for_update().get(pk=no)


def _require_ready(phase: Phase, counts: Counts) -> None:
    if phase.no > 1 and not Phase.objects.filter(pk=phase.no - 1, is_open=True).exists():
        raise StateSkipped("Phases open in order.", phase=phase.no, open_phase=current_phase())
    missing = {each.code: each.missing for each in _conditions(phase, counts) if each.missing}
    if missing:
        raise GateNotReady("A condition is not met yet.", rule="conditions", phase=phase.no, missing=missing)
    if frozen := _freezing(phase):
        raise GateNotReady(
            "A signal freezes this phase until it is closed.", rule="signal", phase=phase.no,
            signals=[signal.title for signal in frozen],
        )  # fmt: skip


def _may_sign(person: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_may_sign(%s)", [person])
        return bool(cursor.fetchone()[0])


def require_apart(person: str, other: str, now: datetime) -> None:
    """Refuse a person of the Foundation who may be the other one under a second name: one of the two let the other in
    during the last 30 days, or a third let in both. Whom the operator's command let in stands apart at once.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_people_may_be_one(%s, %s, %s)", [person, other, now])
        if cursor.fetchone()[0]:
            raise SamePerson("For 30 days whoever let a seat in counts as one person with it: somebody else does this.",
                             person=person, other=other)  # fmt: skip


def require_another(person: str, first: str) -> None:
    """Refuse when the second person is the first one."""
    if person == first:
        raise SamePerson("Another person is asked for than the one before.", person=person)
