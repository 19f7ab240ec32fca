"""Transactions that are under way, or were replaced or cancelled, as the console shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q

from ledger.models import ChainAttempt, ChainIntent, KeyCoin
from marketplace.escrow.models import LockBatch
from marketplace.escrow.services import paused_locks
from marketplace.payout.refusals import waiting_calls
from marketplace.slashing import services as slashing

SHOWN = 100
OPEN = ("queued", "signed", "sent")
GWEI = 10**9


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One signed transaction; fees in gwei per gas, as text."""

    tx_hash: str
    kind: str
    max_fee_gwei: str
    tip_gwei: str
    refusal: str


@dataclass(frozen=True, slots=True)
class UnderWay:
    """One call: how it stands in a word, and all its signed transactions."""

    intent: ChainIntent
    attempts: list[AttemptLine]
    stands: str
    tone: str
    mined: str
    can_cancel: bool


def transactions_under_way() -> list[UnderWay]:
    """Return the open calls, those in trouble first, then the last that were replaced or cancelled."""
    counted = ChainIntent.objects.annotate(signed=Count("attempts")).defer("calldata", "plan")
    still_open = counted.filter(state__in=OPEN).order_by("-trouble_at", "created_at", "id")
    special = counted.filter(Q(signed__gt=1) | Q(cancel_asked_at__isnull=False)).exclude(state__in=OPEN)
    ended = special.order_by("-created_at", "-id")[:SHOWN]
    rows = [*sorted(still_open[:SHOWN], key=lambda row: not row.trouble), *ended]
    lines: dict[object, list[AttemptLine]] = {}
    for each in ChainAttempt.objects.filter(intent__in=rows).defer("raw").order_by("pk"):
        line = AttemptLine(each.tx_hash, each.kind, _gwei(each.max_fee), _gwei(each.tip), each.refusal)
        lines.setdefault(each.intent_id, []).append(line)
    return [_shown(row, lines.get(row.pk, [])) for row in rows]


@dataclass(frozen=True, slots=True)
class Wait:
    """A call that the contract refused and that goes on by itself: what for, until when if that is known."""

    what: str
    waits_for: str
    until: datetime | None
    sentence: str


def waits_for_time() -> list[Wait]:
    """Return the refused calls that nobody has to do anything about, settlements first."""
    waits = [
        Wait(f"Settlement of {call.settlement.window.name}, epoch {call.settlement.epoch}", str(call.healing),
             call.settlement.put_off_until, call.sentence)
        for call in waiting_calls()
    ]  # fmt: skip
    batches = LockBatch.objects.filter(window__state="CLEARED", chain_no=None).select_related("window")
    for batch, intent in paused_locks(batches):
        waits.append(Wait(f"Lock {batch.ordinal + 1} of {batch.window.name}", "the end of the pause, or its window",
                          batch.window.starts_at, intent.revert_reason))  # fmt: skip
    for case in slashing.paused_cases():
        waits.append(Wait(f"Slash of class {case.node_class.chain_class}", "the end of the pause", None,
                          slashing.PAUSED))  # fmt: skip
    return waits


def keys_for_gas() -> list[KeyCoin]:
    """Return what the keys with open calls held for gas when they were last looked at, those that are short first."""
    busy = ChainIntent.objects.filter(state__in=OPEN).values("role")
    return sorted(KeyCoin.objects.filter(role__in=busy), key=lambda row: (not row.is_short, row.role))


def _gwei(wei: int) -> str:
    return f"{wei / GWEI:.3f}".rstrip("0").rstrip(".")


def _shown(row: ChainIntent, attempts: list[AttemptLine]) -> UnderWay:
    is_open = row.state in OPEN
    if row.cancel_asked_at is not None:
        stands = "being cancelled" if is_open else "cancelled" if row.state == "reverted" else "cancel came too late"
        tone = "warn"
    elif row.trouble:
        stands, tone = "stuck", "bad"
    elif len(attempts) > 1:
        stands, tone = f"replaced, {row.state}", "warn"
    else:
        stands, tone = row.state, "ok"
    mined = row.tx_hash or "" if not is_open else ""
    return UnderWay(row, attempts, stands, tone, mined, is_open and row.cancel_asked_at is None)
