"""What to do about a transaction that does not come through: its nonce again with higher fees, or spent on nothing.

Nodes take a replacement only if both fees rise by a tenth or more; an eighth is what all of them ask at most. Above the
ceiling nothing is sent: the intent carries its trouble, which the console shows, until a person or the market helps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from eth_utils.hexadecimal import encode_hex

from ledger import faults
from ledger.models import ChainAttempt, ChainIntent
from ledger.rails.base import Chain, Sent
from ledger.rails.errors import CancelTooLate, KeyLimitReached, SignerRefused
from ledger.rails.signer import signer

log = logging.getLogger(__name__)

Kind = ChainAttempt.Kind
State = ChainIntent.State
GWEI = 10**9
TRANSFER_GAS = 21_000
TROUBLE_CHARACTERS_MAX = 300
STUCK = "stuck: "


def capped(fees: Mapping[str, int]) -> dict[str, int]:
    """Fees, neither of them above the ceiling, in wei per gas."""
    return {name: min(fee, _ceiling()) for name, fee in fees.items()}


def _ceiling() -> int:
    return int(settings.CHAIN_FEE_CEILING_GWEI) * GWEI


def sign(
    here: Chain, row: ChainIntent, fees: Mapping[str, int], now: datetime, kind: str = Kind.CALL
) -> ChainAttempt:
    """Sign the call of `row`, or its cancel, under its nonce. The attempt is not stored yet."""
    assert row.nonce is not None, "a nonce is chosen before anything is signed"
    own = signer().address(row.role)
    what: dict[str, Any] = (
        {"to": own, "data": b"", "gas": TRANSFER_GAS, "value": 0}
        if kind == Kind.CANCEL
        else {"to": row.to_address, "data": bytes(row.calldata), "gas": row.gas_limit, "value": row.value_gwei * GWEI}
    )
    fields = {"chainId": here.chain_id, "nonce": row.nonce, **what, **fees}
    signed = signer().sign_transaction(row.role, fields)
    return ChainAttempt(
        intent=row, nonce=row.nonce, raw=signed.raw, tx_hash=encode_hex(signed.tx_hash), kind=kind,
        max_fee=fees["maxFeePerGas"], tip=fees["maxPriorityFeePerGas"], created_at=now,
    )  # fmt: skip


def newest_attempts(rows: Iterable[ChainIntent]) -> dict[Any, ChainAttempt]:
    """The transaction that is to go out for each intent, by the intent's id."""
    return {attempt.intent_id: attempt for attempt in ChainAttempt.objects.filter(intent__in=rows).order_by("pk")}


def note(row: ChainIntent, trouble: str, now: datetime) -> None:
    """Keep why an intent does not come through, and since when; nothing is saved here."""
    trouble = trouble[:TROUBLE_CHARACTERS_MAX]
    if trouble != row.trouble:
        row.trouble, row.trouble_at = trouble, now if trouble else None


def lasting(trouble: str) -> str:
    """Return what a node's "yes" to the same bytes does not cure: they are known to pay too little."""
    return trouble if trouble.startswith(STUCK) else ""


def keep_refusals(newest: Mapping[Any, ChainAttempt], answers: Sequence[Sent]) -> None:
    """Store with each transaction what the node last said to it."""
    said = {answer.tx_hash: answer.refusal or "" for answer in answers}
    changed = [attempt for attempt in newest.values() if said.get(attempt.tx_hash, attempt.refusal) != attempt.refusal]
    for attempt in changed:
        attempt.refusal = said[attempt.tx_hash][:TROUBLE_CHARACTERS_MAX]
    if changed:
        ChainAttempt.objects.bulk_update(changed, ["refusal"])


# -- higher fees -----------------------------------------------------------------------------------------------------
@transaction.atomic
def renew(here: Chain, rows: Sequence[ChainIntent], now: datetime) -> int:
    """Store a new transaction for what is stuck or shall be cancelled, and return how many; committed on return.

    Of each key only the lowest nonce can be stuck: all others wait for it, whatever they pay.
    """
    newest = newest_attempts(rows)
    cancelling = {row.pk for row in ChainIntent.objects.filter(pk__in=newest).exclude(cancel_asked_at=None)}
    lowest: dict[str, int] = {}
    for row in rows:
        lowest[row.role] = min(row.nonce or 0, lowest.get(row.role, row.nonce or 0))
    made = []
    for row in rows:
        last = newest[row.pk]
        kind = Kind.CANCEL if row.pk in cancelling else last.kind
        is_stuck = here.embedded is None and row.nonce == lowest[row.role] and _waited_long(last, now)
        if kind == last.kind and not is_stuck:
            continue
        fees = _raised(here, last)
        if fees is None:
            note(row, f"{STUCK}a replacement would pay more than CHAIN_FEE_CEILING_GWEI={_ceiling() // GWEI}", now)
            log.error("Transaction %s of %s: %s", last.tx_hash, row.key, row.trouble)
            continue
        log.warning("Transaction %s of %s is replaced (%s), %s wei per gas", last.tx_hash, row.key, kind, fees)
        note(row, "", now)
        try:
            made.append(sign(here, row, fees, now, kind))
        except (KeyLimitReached, SignerRefused) as refusal:
            note(row, f"{STUCK}{refusal}", now)
    ChainAttempt.objects.bulk_create(made)
    faults.point("stuck.before_commit")
    return len(made)


def _waited_long(last: ChainAttempt, now: datetime) -> bool:
    if "underpriced" in last.refusal.lower():
        return True
    return now - last.created_at >= timedelta(seconds=settings.CHAIN_STUCK_SECONDS)


def _raised(here: Chain, last: ChainAttempt) -> dict[str, int] | None:
    """Both fees an eighth higher, or what the market asks if that is more; None above the ceiling."""
    market = here.fees()
    if here.embedded is not None:
        return market  # there is no pool, so nothing is outbid
    fees = {
        "maxFeePerGas": max(market["maxFeePerGas"], _eighth_more(last.max_fee)),
        "maxPriorityFeePerGas": max(market["maxPriorityFeePerGas"], _eighth_more(last.tip)),
    }
    fees["maxPriorityFeePerGas"] = min(fees["maxPriorityFeePerGas"], fees["maxFeePerGas"])
    if fees["maxFeePerGas"] <= _ceiling():
        return fees
    # What the market asks may lie above the ceiling while an eighth more still lies below it.
    least = {"maxFeePerGas": _eighth_more(last.max_fee), "maxPriorityFeePerGas": _eighth_more(last.tip)}
    return least if least["maxFeePerGas"] <= _ceiling() else None


def _eighth_more(fee: int) -> int:
    return fee + max((fee + 7) // 8, 1)


# -- cancel ----------------------------------------------------------------------------------------------------------
def ask_cancel(*, key: str, person: str, now: datetime) -> ChainIntent:
    """Ask that an intent shall not take effect. Business code sees it end as reverted, if the cancel wins.

    Nothing was signed: it ends at once. Else its nonce is spent on nothing by the next pump; a call that is in a block
    already goes its way. Raises `CancelTooLate` for what has ended.
    """
    reason = f"cancelled by {person}"
    asked = Q(key=key, cancel_asked_at=None)
    facts = {"cancel_asked_at": now, "cancel_asked_by": person}
    ChainIntent.objects.filter(asked, state=State.QUEUED).update(
        state=State.REVERTED, revert_reason=reason, final_at=now, **facts
    ) or ChainIntent.objects.filter(asked, state__in=(State.SIGNED, State.SENT)).update(**facts)
    row = ChainIntent.objects.filter(key=key).first()
    if row is None or row.cancel_asked_at is None:
        raise CancelTooLate(f"The transaction {key!r} has ended or does not exist: nothing to cancel.", key=key)
    return row


def cancelled_by(row: ChainIntent) -> str:
    """Why an intent ended whose cancel went through."""
    person = ChainIntent.objects.values_list("cancel_asked_by", flat=True).get(pk=row.pk)
    return f"cancelled by {person}"
