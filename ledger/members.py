"""The recipes of a consortium's payouts: what escrow paid to its leader's wallet goes on to the members' wallets.

    reserved    a member's part of the leader's coins is reserved for it, and the coins count as on their way
    final       the chain says that they arrived: the part is the member's, and its wallet has the coins
    failed      the coins did not move: both are the leader's again, until the next attempt

While coins are on their way no wallet has them in the books, so a wallet never has less on chain than in the books.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.chart import Code, Origin
from ledger.connect import wallet_of
from ledger.holds import post_of, release
from ledger.ids import uuid_from
from ledger.posting import USDC6_LEDGER, Posting, account, lock_ledger, post_transfers


@transaction.atomic
def reserve_member_share(
    *, id: UUID, lead: UUID, member: UUID, node_class: UUID, amount: int, now: datetime
) -> int:
    """Reserve a member's part, in micro-USD, and take its coins out of the leader's wallet. Refused while halted.

    PENDING provider.custody (the leader's) -> provider.custody (the member's), chain.clearing -> chain.wallet. Raises
    InsufficientFunds, LedgerHalted.
    """
    return post_transfers(
        ledger=USDC6_LEDGER, postings=[_claim(id, lead, member, node_class, amount), _sent(id, lead, amount)], now=now
    )


@transaction.atomic
def book_member_share(
    *, id: UUID, lead: UUID, member: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime
) -> int:
    """Book that a member's coins arrived: post of the hold, chain.wallet (the member's) -> chain.clearing."""
    claim = post_of(
        _claim(id, lead, member, node_class, amount), id=uuid_from("member share", id, "final"),
        code=Code.MEMBER_SHARE_FINAL, reference=reference,
    )  # fmt: skip
    came = Posting(
        uuid_from("member share", id, "came"), _account("chain.wallet", scope=wallet_of(member)),
        _account("chain.clearing"), amount, "posted", Code.MEMBER_SHARE_FINAL, Origin.ORGANIC, reference=reference,
    )  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[claim, came], now=now)


@transaction.atomic
def void_member_share(*, id: UUID, lead: UUID, amount: int, now: datetime) -> int:
    """Book that a member's coins did not move: release of the hold, chain.wallet (the leader's) -> chain.clearing."""
    lock_ledger(USDC6_LEDGER)
    back = Posting(
        uuid_from("member share", id, "back"), _account("chain.wallet", scope=wallet_of(lead)),
        _account("chain.clearing"), amount, "posted", Code.MEMBER_SHARE_FAILED, Origin.ORGANIC,
    )  # fmt: skip
    return release(USDC6_LEDGER, id, Code.MEMBER_SHARE_FAILED, now) + post_transfers(
        ledger=USDC6_LEDGER, postings=[back], now=now
    )


def _claim(id: UUID, lead: UUID, member: UUID, node_class: UUID, amount: int) -> Posting:
    return Posting(
        id, _account("provider.custody", lead, node_class), _account("provider.custody", member, node_class), amount,
        "pending", Code.MEMBER_SHARE, Origin.ORGANIC,
    )  # fmt: skip


def _sent(id: UUID, lead: UUID, amount: int) -> Posting:
    return Posting(
        uuid_from("member share", id, "sent"), _account("chain.clearing"),
        _account("chain.wallet", scope=wallet_of(lead)), amount, "posted", Code.MEMBER_SHARE, Origin.ORGANIC,
    )  # fmt: skip


def _account(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    return account(ledger=USDC6_LEDGER, code=code, party=party, scope=scope)
