"""The recipes of grants: what a programme allocates, what vouchers hand out, what was spent of them and what lapsed.

Credits lie in a ledger of their own (GRANT), which knows no payout, no chain and no card: the only way out of a buyer's
credits is back to the programme or into what was spent, and every transfer is of origin `grant`. The coins that stand
for them are the Foundation's, advanced into escrow (`marketplace/escrow/vouchers.py`); `return_postings` are those by
which what is left of them comes out again, to the Foundation and to nobody else.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.chart import Code, Origin
from ledger.connect import free_minor
from ledger.ids import uuid_from
from ledger.posting import LEDGERS, USDC6_LEDGER, Posting, account, post_transfers
from ledger.recipes import post_hold_posting

GRANT_LEDGER = LEDGERS["GRANT"]


@transaction.atomic
def book_grant_budget(*, id: UUID, programme: UUID, micros: int, now: datetime) -> int:
    """Book what a programme allocates: bank.received -> programme.grant, in credits."""
    return _post(id, _account("bank.received"), _programme(programme), micros, Code.GRANT_BUDGET, now)


@transaction.atomic
def book_grant(*, id: UUID, programme: UUID, party: UUID, micros: int, now: datetime) -> int:
    """Book a redeemed voucher: programme.grant -> buyer.available, in credits. Raises InsufficientFunds."""
    return _post(id, _programme(programme), _credits(party), micros, Code.GRANTED, now)


@transaction.atomic
def book_grant_closed(
    *, id: UUID, programme: UUID, party: UUID, spent_micros: int, left_micros: int, now: datetime
) -> int:
    """Book the end of a voucher: buyer.available -> foundation.advanced for what was spent, -> programme.grant for the
    rest, as one group. Raises InsufficientFunds."""
    lines = (
        ("spent", spent_micros, _account("foundation.advanced"), Code.GRANT_SPENT),
        ("left", left_micros, _programme(programme), Code.GRANT_LAPSED),
    )
    moving = [line for line in lines if line[1]]
    link = uuid_from("grant closed", id) if len(moving) > 1 else None
    postings = [
        Posting(uuid_from("grant closed", id, name), _credits(party), target, micros, "posted", code, Origin.GRANT,
                link=link)
        for name, micros, target, code in moving
    ]  # fmt: skip
    return post_transfers(ledger=GRANT_LEDGER, postings=postings, now=now)


def return_postings(*, hold_id: UUID, party: UUID, scope: UUID, micros: int) -> list[Posting]:
    """Return the postings of a withdrawal that takes unspent coins of a voucher out of escrow, for a chain plan.

    The hold is posted, buyer.available -> buyer.held(scope), and leaves at once: buyer.held -> chain.escrow.
    """
    held = account(ledger=USDC6_LEDGER, code="buyer.held", party=party, scope=scope)
    escrow = account(ledger=USDC6_LEDGER, code="chain.escrow", party=None, scope=None)
    out = Posting(uuid_from("grant returned", hold_id), held, escrow, micros, "posted", Code.WITHDRAWAL, Origin.GRANT)
    return [post_hold_posting(hold_id=hold_id, party=party, window=scope, amount=micros, origin=Origin.GRANT), out]


def grant_credits_micros(party: UUID) -> int:
    """Return a buyer's credits, in micro-USD."""
    return free_minor(ledger=GRANT_LEDGER, code="buyer.available", party=party)


def programme_left_micros(programme: UUID) -> int:
    """Return what a programme has not handed out, in micro-USD."""
    return free_minor(ledger=GRANT_LEDGER, code="programme.grant", scope=programme)


def _post(id: UUID, debit: int, credit: int, micros: int, code: Code, now: datetime) -> int:
    posting = Posting(id, debit, credit, micros, "posted", code, Origin.GRANT)
    return post_transfers(ledger=GRANT_LEDGER, postings=[posting], now=now)


def _account(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    return account(ledger=GRANT_LEDGER, code=code, party=party, scope=scope)


def _programme(programme: UUID) -> int:
    return _account("programme.grant", scope=programme)


def _credits(party: UUID) -> int:
    return _account("buyer.available", party)
