"""The recipes of rewards: a pool that the Foundation fills and lost deposits swell, and fixed sums that leave it.

The pool is a programme of incentives, so what leaves it never counts as organic money. Its coins lie in our own wallet.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.chart import Code, Origin
from ledger.connect import CUSTODY_WALLET, free_minor
from ledger.ids import uuid_from
from ledger.posting import USDC6_LEDGER, Posting, account, post_transfers
from ledger.recipes import post_hold_posting

REWARD_POOL = uuid_from("programme", "rewards of reports")


def reward_pool_micros() -> int:
    """Return what the pool can pay, in micro-USD."""
    return free_minor(ledger=USDC6_LEDGER, code="programme.incentive", scope=REWARD_POOL)


@transaction.atomic
def book_reward_pool(*, id: UUID, micros: int, now: datetime) -> int:
    """Book that capital is set aside for rewards: foundation.capital -> programme.incentive. Raises InsufficientFunds.
    """
    return _post(id, _account("foundation.capital"), _pool(), micros, Code.REWARD_POOL_IN, Origin.ORGANIC, now)


@transaction.atomic
def book_lost_deposit(*, id: UUID, micros: int, reference: bytes, now: datetime) -> int:
    """Book that a lost deposit came to our own wallet and is the pool's: chain.wallet -> programme.incentive."""
    return _post(id, _wallet(), _pool(), micros, Code.REWARD_POOL_IN, Origin.ORGANIC, now, reference)


def lost_deposit_postings(*, hold_id: UUID, party: UUID, scope: UUID, micros: int) -> list[Posting]:
    """Return the postings of a withdrawal that takes a held deposit out of escrow, for a chain plan.

    The hold is posted, buyer.available -> buyer.held(scope), and leaves at once: buyer.held -> chain.escrow.
    """
    held = account(ledger=USDC6_LEDGER, code="buyer.held", party=party, scope=scope)
    out = Posting(
        uuid_from("lost deposit", hold_id), held, _account("chain.escrow"), micros, "posted", Code.WITHDRAWAL,
        Origin.ORGANIC,
    )  # fmt: skip
    return [post_hold_posting(hold_id=hold_id, party=party, window=scope, amount=micros), out]


@transaction.atomic
def book_reward_sent(*, id: UUID, micros: int, now: datetime) -> int:
    """Book that a reward sets out to a party's escrow: programme.incentive -> chain.wallet. Refused while halted.

    The deposit there is booked by its own event. Raises InsufficientFunds, LedgerHalted.
    """
    return _post(id, _pool(), _wallet(), micros, Code.REWARD_SENT, Origin.INCENTIVE, now)


@transaction.atomic
def book_reward_failed(*, id: UUID, micros: int, now: datetime) -> int:
    """Book that a reward's coins did not move: chain.wallet -> programme.incentive."""
    return _post(uuid_from(id, "failed"), _wallet(), _pool(), micros, Code.REWARD_FAILED, Origin.INCENTIVE, now)


def _post(
    id: UUID, debit: int, credit: int, micros: int, code: Code, origin: str, now: datetime,
    reference: bytes | None = None,
) -> int:  # fmt: skip
    posting = Posting(id, debit, credit, micros, "posted", code, origin, reference=reference)
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


def _account(code: str, scope: UUID | None = None) -> int:
    return account(ledger=USDC6_LEDGER, code=code, party=None, scope=scope)


def _pool() -> int:
    return _account("programme.incentive", REWARD_POOL)


def _wallet() -> int:
    return _account("chain.wallet", CUSTODY_WALLET)
