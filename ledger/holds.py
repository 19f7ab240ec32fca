"""How a hold ends, the same on every rail: what it reserved is posted or given back, in minor units of its ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from ledger.chart import Code
from ledger.ids import uuid_from
from ledger.models import Transfer
from ledger.posting import Posting, lock_ledger, post_transfers


def post_of(
    hold: Posting, *, id: UUID, code: Code, reference: bytes | None = None, link: UUID | None = None
) -> Posting:
    """Return the posting that takes the whole of a hold; `id` comes from what made it final."""
    return replace(hold, id=id, kind="post", code=code, pending_id=hold.id, reference=reference, link=link)


def release(ledger: int, hold_id: UUID, code: Code, now: datetime) -> int:
    """Give back what a hold reserved; 0 if it was released or posted before. Call it inside a transaction.

    A caller that moves two ledgers has locked both, in their order.
    """
    lock_ledger(ledger)
    hold = Transfer.objects.get(ledger=ledger, id=hold_id)
    if Transfer.objects.filter(ledger=ledger, pending_id=hold_id).exists():
        return 0
    posting = Posting(
        uuid_from("void", hold_id), hold.debit, hold.credit, hold.amount, "void", code, hold.origin, pending_id=hold_id
    )
    return post_transfers(ledger=ledger, postings=[posting], now=now)
