"""The register of signals, and the review of the gates that is held over it each quarter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.db import transaction

from ledger.ids import uuid7
from marketplace.errors import BadInput, NotYours, ReferenceReused, UnknownName
from marketplace.governance.phase_models import GateReview, Phase, Signal
from marketplace.governance.phases import Counts, gate_board, require_another
from marketplace.governance.services import record

# kind: which way it points, and the phase it freezes by itself. From the essays the project started from.
KINDS: dict[str, tuple[str, int | None]] = {
    "frontier_lab_invests": ("raises", None),
    "agent_memory_failure": ("raises", None),
    "residency_law": ("raises", None),
    "confidential_computing": ("raises", None),
    "managed_memory": ("lowers", None),
    "agents_late": ("lowers", None),
    "security_incident": ("lowers", 4),
    "no_organic_demand": ("lowers", None),
}


@transaction.atomic
def raise_signal(
    *, kind: str, title: str, owner: str, evidence_link: str, freezes: int | None = None, now: datetime
) -> Signal:
    """Enter a signal with its owner and a link to its evidence. One that lowers the case may freeze a phase.

    A security incident freezes phase 4 by itself. Raises UnknownName, BadInput.
    """
    if kind not in KINDS:
        raise UnknownName("There is no such kind of signal.", field="kind", known=sorted(KINDS))
    direction, by_itself = KINDS[kind]
    for field, text, longest in (("title", title, 200), ("owner", owner, 120)):
        if not isinstance(text, str) or not text.strip() or len(text) > longest or not text.isprintable():
            raise BadInput(f"Write 1 to {longest} printable characters.", field=field)
    try:
        URLValidator(schemes=["https", "http"])(evidence_link)
    except ValidationError as error:
        raise BadInput("Link the evidence by its address (https).", field="evidence_link") from error
    frozen = freezes if freezes is not None else by_itself
    if frozen is not None and direction == "raises":
        raise BadInput("Only a signal that lowers the case freezes a phase.", field="freezes")
    phase = Phase.objects.filter(pk=frozen).first() if frozen is not None else None
    if frozen is not None and phase is None:
        raise UnknownName("There is no such phase.", field="freezes", known=[1, 2, 3, 4])
    signal = Signal.objects.create(
        id=uuid7(now), kind=kind, title=title, direction=direction, freezes=phase, owner=owner,
        evidence_link=evidence_link, raised_at=now,
    )  # fmt: skip
    record(actor=owner, action="raise_signal", subject=signal.pk, reason=title, now=now, kind=kind, freezes=frozen)
    return signal


@transaction.atomic
def close_signal(*, signal_id: UUID, person: str, reason: str, now: datetime) -> Signal:
    """Close a signal with a reason, as another person than its owner. Closing twice is one act."""
    signal = Signal.objects.select_for_update().filter(pk=signal_id).first()
    if signal is None:
        raise NotYours("There is no such signal.")
    if signal.closed_at:
        return signal
    if not reason.strip() or len(reason) > 300 or not reason.isprintable():
        raise BadInput("Give a reason of at most 300 characters on one line.", field="reason")
    require_another(person, signal.owner)
    signal.closed_at, signal.closed_by, signal.closing_reason = now, person, reason
    signal.save(update_fields=["closed_at", "closed_by", "closing_reason"])
    record(actor=person, action="close_signal", subject=signal.pk, reason=reason, now=now, kind=signal.kind)
    return signal


def open_signals() -> list[Signal]:
    """Return every open signal, newest first."""
    return list(Signal.objects.filter(closed_at=None))


def quarter_of(moment: datetime) -> str:
    """The quarter of a moment (UTC), such as 2026-Q4."""
    day = moment.astimezone(UTC)
    return f"{day.year}-Q{(day.month + 2) // 3}"


@transaction.atomic
def hold_review(*, person: str, verdict: str, counts: Counts, now: datetime) -> GateReview:
    """Keep this quarter's review: every open signal, and each gate as it stands. Once a quarter, and never changed."""
    if not verdict.strip() or len(verdict) > 300 or not verdict.isprintable():
        raise BadInput("Give a verdict of at most 300 characters on one line.", field="verdict")
    quarter = quarter_of(now)
    if GateReview.objects.filter(quarter=quarter).exists():
        raise ReferenceReused("This quarter's review was held.", field="quarter", quarter=quarter)
    review = GateReview.objects.create(
        quarter=quarter, person=person, verdict=verdict, at=now,
        facts={"signals": [_told(signal) for signal in open_signals()],
               "gates": [{"phase": gate.phase.no, "is_open": gate.phase.is_open, "missing": gate.missing}
                         for gate in gate_board(counts)]},
    )  # fmt: skip
    record(actor=person, action="hold_review", subject=quarter, reason=verdict, now=now,
           open_signals=len(review.facts["signals"]))  # fmt: skip
    return review


def last_review() -> GateReview | None:
    """Return the newest review, or None."""
    return GateReview.objects.first()


def is_review_due(now: datetime) -> bool:
    """Say whether this quarter's review was not held yet."""
    return not GateReview.objects.filter(quarter=quarter_of(now)).exists()


def _told(signal: Signal) -> dict[str, Any]:
    return {
        "id": str(signal.pk), "kind": signal.kind, "title": signal.title, "direction": signal.direction,
        "owner": signal.owner, "evidence_link": signal.evidence_link, "freezes": signal.freezes_id,
    }  # fmt: skip
