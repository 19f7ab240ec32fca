"""Settle calls that the contract refused: taken back and tried again, from the third on only by two people.

A refused call keeps its epoch until it is taken back, and as long as it does nothing is settled: the contract would
refuse every later epoch too. After the third refusal somebody has to find out why, so nothing goes on by itself.

What only time heals is no try. A call beyond what the contract credits within an hour waits until that hour is over;
one that met a claim waits until the claim is final; one that was refused because an earlier epoch was, goes with that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from ledger.models import ChainEvent, ChainIntent
from ledger.rails.evm import chain
from marketplace.catalogue.limits import require_name
from marketplace.errors import NotYours, SamePerson
from marketplace.escrow.backup_models import StepIn
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.payout import claims
from marketplace.payout.models import Settlement
from marketplace.sla.models import EarlyCredit

ATTEMPTS_MAX = 3  # at one epoch; then people look at it
HOUR_IS_FULL = "escrow: hourly limit exceeded"  # the contract's words
NOT_THE_NEXT = "escrow: epoch is not the next"
SECONDS_COUNTED = 3600  # the contract's hour
LEAST_WAIT = timedelta(minutes=1)  # a node's blocks may lag behind the clock


class Healing(StrEnum):
    """What has to pass before a refused call can go through; nothing has where trying it again would be a try."""

    NOTHING = ""
    HOUR = "the hour in which the contract has credited as much as it may"
    CLAIM = "a claim that is on the chain and not final yet"
    EARLIER = "an earlier epoch that was refused"


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """A settle call that the contract refused, what it said, how many tries this epoch has used, what is waited for."""

    settlement: Settlement
    sentence: str
    attempts: int
    healing: Healing = Healing.NOTHING

    @property
    def needs_people(self) -> bool:
        """Whether it is not taken back by itself any more."""
        return self.healing == Healing.NOTHING and self.attempts >= ATTEMPTS_MAX


def refused_calls() -> list[RefusedCall]:
    """Return the settle calls that were refused and are not taken back, lowest epoch first."""
    return _refused_among(Settlement.objects.filter(final_at=None, refused_at=None))


def blocking_calls() -> list[RefusedCall]:
    """Return those of them that wait for people; while there is one nothing is settled."""
    return [call for call in refused_calls() if call.needs_people]


def waiting_calls() -> list[RefusedCall]:
    """Return those of them that wait for time to pass; they are taken back by themselves."""
    return [call for call in refused_calls() if call.healing != Healing.NOTHING]


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
    refused = [call for call in _refused_among(waiting) if not call.needs_people and _is_healed(call, now)]
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
    refused = sorted((row for row in waiting if row.intent_key in said), key=lambda row: row.epoch)
    calls = []
    for row in refused:
        tries = Settlement.objects.filter(epoch=row.epoch, put_off_until=None).exclude(pk=row.pk).count()
        healing = _healing(row, said[row.intent_key], tries, lowest=refused[0].epoch)
        calls.append(RefusedCall(row, said[row.intent_key], tries + (healing == Healing.NOTHING), healing))
    return calls


def _healing(settlement: Settlement, sentence: str, tries: int, *, lowest: int) -> Healing:
    """What has to pass before this call can go through. A call that no hour has room for is not healed by any.

    Once it waits for people it goes on doing so, also when the limit was raised meanwhile: they say when.
    """
    is_with_people = settlement.put_off_until is None and tries >= ATTEMPTS_MAX - 1
    if HOUR_IS_FULL in sentence and not is_with_people:
        return Healing.HOUR if gross_micros(settlement) <= chain().call("escrow", "settle_limit") else Healing.NOTHING
    if NOT_THE_NEXT in sentence and settlement.epoch > lowest:
        return Healing.EARLIER
    if NOT_THE_NEXT in sentence and claims.generation_on_chain() > settlement.epoch >> claims.GENERATION_AT:
        return Healing.CLAIM
    return Healing.NOTHING


def gross_micros(settlement: Settlement) -> int:
    """What a settle call credits to classes, which is what the contract counts by the hour."""
    covered = settlement.lines.aggregate(sum=Sum("covered_micros"))["sum"] or 0
    return settlement.earned_micros - int(covered)


def _is_healed(call: RefusedCall, now: datetime) -> bool:
    """Whether a refused call may be taken back now. One that waits keeps until when, so that it is no try."""
    settlement = call.settlement
    if call.healing == Healing.NOTHING:
        return True
    if call.healing == Healing.CLAIM and claims.generation() < claims.generation_on_chain():
        return False
    if settlement.put_off_until is None:
        is_hour = call.healing == Healing.HOUR
        settlement.put_off_until = max(hour_is_over_at() or now, now) + LEAST_WAIT if is_hour else now
        settlement.save(update_fields=["put_off_until"])
    return now >= settlement.put_off_until


def hour_is_over_at() -> datetime | None:
    """Return when the hour is over whose credits the contract counts now, None before the first settlement.

    The contract does not tell it: an hour begins with the first settlement after the hour before. So it is counted
    again, from the last pause between two settlements that was longer than an hour.
    """
    settled = ChainEvent.objects.filter(contract="escrow", name="Settled", final=True)
    times: list[int] = []
    for number in settled.order_by("-block_number").values_list("block_number", flat=True).distinct():
        block = chain().block(number)
        if block is None or (times and times[-1] - block.timestamp >= SECONDS_COUNTED):
            break
        times.append(block.timestamp)
    if not times:
        return None
    began = times[-1]
    for at in reversed(times):
        began = at if at >= began + SECONDS_COUNTED else began
    return datetime.fromtimestamp(began + SECONDS_COUNTED, UTC)


def _take_back(call: RefusedCall, *, actor: str, now: datetime) -> None:
    settlement = call.settlement
    lines = list(settlement.lines.order_by("lease"))
    facts = {"asked_by": settlement.retry_asked_by, "asked_for": settlement.retry_reason} if actor != "chain" else {}
    if call.healing:
        facts = {"waited_for": str(call.healing)}
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
