"""Transactions that are under way, or were replaced or cancelled, as the console shows them."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q

from ledger.models import ChainAttempt, ChainIntent

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
    still_open = counted.filter(state__in=OPEN).order_by("-trouble_at", "created_at")
    special = counted.filter(Q(signed__gt=1) | Q(cancel_asked_at__isnull=False)).exclude(state__in=OPEN)
    rows = [*sorted(still_open[:SHOWN], key=lambda row: not row.trouble), *special.order_by("-created_at")[:SHOWN]]
    lines: dict[object, list[AttemptLine]] = {}
    for each in ChainAttempt.objects.filter(intent__in=rows).defer("raw").order_by("pk"):
        line = AttemptLine(each.tx_hash, each.kind, _gwei(each.max_fee), _gwei(each.tip), each.refusal)
        lines.setdefault(each.intent_id, []).append(line)
    return [_shown(row, lines.get(row.pk, [])) for row in rows]


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
