"""Settle calls that the contract refused: taken back and tried again, from the third on only by two people.

A refused call keeps its epoch until it is taken back, and as long as it does nothing is settled: the contract would
refuse every later epoch too. After the third refusal somebody has to find out why, so nothing goes on by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.models import ChainIntent
from marketplace.catalogue.limits import require_name
from marketplace.errors import NotYours, SamePerson
from marketplace.escrow.backup_models import StepIn
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.payout.models import Settlement
from marketplace.sla.models import EarlyCredit

ATTEMPTS_MAX = 3  # at one epoch; then people look at it


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A settle call that the contract refused, what it said, and how often it has refused this epoch."""

    settlement: Settlement
    sentence: str
    attempts: int

    @property
    def needs_people(self) -> bool:
        """Whether it is not taken back by itself any more."""
        return self.attempts >= ATTEMPTS_MAX


def refused_calls() -> list[RefusedCall]:
    """Return the settle calls that were refused and are not taken back, lowest epoch first."""
    return _refused_among(Settlement.objects.filter(final_at=None, refused_at=None))


def blocking_calls() -> list[RefusedCall]:
    """Return those of them that wait for people; while there is one nothing is settled."""
    return [call for call in refused_calls() if call.needs_people]


@transaction.atomic
def take_back_refused(*, now: datetime) -> int:
    """Free the leases and credits of settle calls that the chain refused, to be settled anew; returns how many calls.

    A class that claims while a call is signed makes it too old (E4): what was claimed has to be covered first. Nothing
    is taken back while a call is under way, because the next epoch is not known until it has ended.
    """
    waiting = list(Settlement.objects.select_for_update().filter(final_at=None, refused_at=None).order_by("epoch"))
    keys = [row.intent_key for row in waiting]
    if ChainIntent.objects.filter(key__in=keys).exclude(state__in=("final", "reverted")).exists():
        return 0
    refused = [call for call in _refused_among(waiting) if not call.needs_people]
    for call in refused:
        _take_back(call, actor="chain", now=now)
    return len(refused)


@transaction.atomic
def ask_retry(*, settlement_id: UUID, seat: Seat, reason: str, now: datetime) -> Settlement:
    """Ask that a settlement which was refused three times is taken back, saying what was found and done.

    Nothing changes until another person lets it. Asked again, the newer reason and person count. Raises NotYours,
    BadInput, RoleForbidden.
    """
    require_act(seat, "operate", "ask for a refused settlement to be tried again")
    settlement = _blocking(settlement_id).settlement
    settlement.retry_reason = require_name(reason, field="reason", longest=300)
    settlement.retry_asked_by, settlement.retry_asked_at = seat.user.email, now
    settlement.save(update_fields=["retry_reason", "retry_asked_by", "retry_asked_at"])
    record(actor=seat.user.email, action="ask_settle_retry", subject=settlement.window.name, reason=reason, now=now,
           epoch=settlement.epoch, settlement=str(settlement.pk))  # fmt: skip
    return settlement


@transaction.atomic
def let_retry(*, settlement_id: UUID, seat: Seat, now: datetime) -> Settlement:
    """Take a settlement back that was refused three times: its leases are settled anew, once, by the next turn.

    Another refusal of the epoch waits for people again. Raises NotYours where nobody has asked, SamePerson, and
    RoleForbidden.
    """
    require_act(seat, "operate", "let a refused settlement be tried again")
    call = _blocking(settlement_id)
    settlement, person = call.settlement, seat.user.email
    if settlement.retry_asked_at is None:
        raise NotYours("Nobody has asked for this settlement to be tried again.")
    if settlement.retry_asked_by == person:
        raise SamePerson("A settlement is let by another person than asked for it.", asked_by=settlement.retry_asked_by)
    settlement.retry_let_by = person
    _take_back(call, actor=person, now=now)
    return settlement


def _blocking(settlement_id: UUID) -> RefusedCall:
    rows = Settlement.objects.select_for_update(of=("self",)).select_related("window")
    calls = _refused_among(rows.filter(pk=settlement_id, final_at=None, refused_at=None))
    if not calls or not calls[0].needs_people:
        raise NotYours("No such settlement waits for people.")
    return calls[0]


def _refused_among(rows: object) -> list[RefusedCall]:
    waiting = list(rows)  # type: ignore[call-overload]
    said = dict(
        ChainIntent.objects.filter(key__in=[row.intent_key for row in waiting], state="reverted")
        .values_list("key", "revert_reason")
    )  # fmt: skip
    return [
        RefusedCall(row, said[row.intent_key], Settlement.objects.filter(epoch=row.epoch).count())
        for row in sorted(waiting, key=lambda row: row.epoch) if row.intent_key in said
    ]  # fmt: skip


def _take_back(call: RefusedCall, *, actor: str, now: datetime) -> None:
    settlement = call.settlement
    lines = list(settlement.lines.order_by("lease"))
    facts = {"asked_by": settlement.retry_asked_by, "asked_for": settlement.retry_reason} if actor != "chain" else {}
    record(
        actor=actor, action="settle_refused" if actor == "chain" else "let_settle_retry",
        subject=settlement.window.name, reason=call.sentence or "refused without a sentence", now=now,
        epoch=settlement.epoch, attempts=call.attempts, **facts, lines=[
            [str(line.lease_id), line.earned_micros, line.covered_micros, line.payable_micros, line.holdback_micros]
            for line in lines
        ],
    )  # fmt: skip
    settlement.lines.all().delete()
    EarlyCredit.objects.filter(intent_key=settlement.intent_key).update(intent_key="")
    StepIn.objects.filter(return_key=settlement.intent_key).update(return_key="")
    settlement.refused_at, settlement.refusal = now, call.sentence[:200]
    settlement.save(update_fields=["refused_at", "refusal", "retry_let_by"])
