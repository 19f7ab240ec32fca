"""The recipes of payouts to a bank: what escrow paid for a provider becomes dollars that the card processor transfers.

Three steps, each whole by itself, so that no step has to wait for the next one's money:

    taken in     escrow's coins came to the wallet we keep for the provider; they are the provider's, to the micro-USD
    taken over   whole cents of them become the Foundation's coins, and the provider is owed as many dollars
    paid out     the dollars are reserved, transferred, and gone when the processor's balance line says so

The rest below a cent stays in `provider.custody` and meets the next payout there.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.card import MICROS_PER_CENT, USD2_LEDGER, card_reference
from ledger.chart import Code, Origin
from ledger.holds import post_of, release
from ledger.ids import uuid_from
from ledger.models import Account
from ledger.posting import USDC6_LEDGER, Posting, account, lock_ledger, post_transfers

CUSTODY_WALLET = uuid_from("wallet", "custody")


def wallet_of(provider: UUID) -> UUID:
    """Return the scope of the wallet that we keep for a provider: the address its node classes are registered to."""
    return uuid_from("wallet", f"provider:{provider}")


def free_minor(*, ledger: int, code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    """Return what an account has and nothing has reserved; 0 for one that was never opened."""
    row = Account.objects.filter(ledger_id=ledger, code=code, party=party, scope=scope).first()
    return row.free_minor if row is not None else 0


def _coin(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    return account(ledger=USDC6_LEDGER, code=code, party=party, scope=scope)


def _dollar(code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
    return account(ledger=USD2_LEDGER, code=code, party=party, scope=scope)


# -- taken in, or given back ------------------------------------------------------------------------------------------
@transaction.atomic
def book_taken_in(*, provider: UUID, node_class: UUID, amount: int, reference: bytes, now: datetime) -> int:
    """Book that escrow paid a class into the wallet kept for its provider, as one group.

    provider.payable -> provider.custody, chain.wallet -> chain.escrow, in micro-USD. Raises InsufficientFunds.
    """
    link = uuid_from("taken in", reference)
    lines = (
        ("claim", _coin("provider.payable", provider, node_class), _coin("provider.custody", provider, node_class)),
        ("coin", _coin("chain.wallet", scope=wallet_of(provider)), _coin("chain.escrow")),
    )
    postings = [
        Posting(uuid_from("taken in", reference, name), debit, credit, amount, "posted", Code.TAKEN_IN, Origin.ORGANIC,
                link=link, reference=reference)
        for name, debit, credit in lines
    ]  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=postings, now=now)


@transaction.atomic
def book_given_back(
    *, id: UUID, provider: UUID, node_class: UUID, amount: int | None = None, now: datetime
) -> int:
    """Leave a provider coins that lie in its wallet already, all that nothing reserves unless `amount` says how many.

    provider.custody -> chain.wallet, micro-USD. Refused while halted: they count as paid out then.
    """
    lock_ledger(USDC6_LEDGER)
    if amount is None:
        amount = free_minor(ledger=USDC6_LEDGER, code="provider.custody", party=provider, scope=node_class)
    if amount == 0:
        return 0
    posting = Posting(
        id, _coin("provider.custody", provider, node_class), _coin("chain.wallet", scope=wallet_of(provider)), amount,
        "posted", Code.GIVEN_BACK, Origin.ORGANIC,
    )  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


# -- taken over -------------------------------------------------------------------------------------------------------
@transaction.atomic
def book_takeover(*, id: UUID, provider: UUID, node_class: UUID, cents: int, now: datetime) -> int:
    """Book that a provider's coins become the Foundation's and that it is owed dollars instead: 1 cent, 10,000 micros.

    USDC6, linked: provider.custody -> foundation.capital, chain.clearing -> chain.wallet (the coins set out for our own
    wallet). USD2: foundation.capital -> provider.payable. Raises LedgerHalted, InsufficientFunds.
    """
    lock_ledger(USDC6_LEDGER)
    lock_ledger(USD2_LEDGER)
    micros, link = cents * MICROS_PER_CENT, uuid_from("takeover", id)
    claim = Posting(
        uuid_from("takeover", id, "coin"), _coin("provider.custody", provider, node_class),
        _coin("foundation.capital"), micros, "posted", Code.TAKEOVER, Origin.ORGANIC, link=link,
    )  # fmt: skip
    owed = Posting(
        uuid_from("takeover", id, "dollar"), _dollar("foundation.capital"),
        _dollar("provider.payable", provider, node_class), cents, "posted", Code.TAKEOVER, Origin.ORGANIC,
    )  # fmt: skip
    sent = _coins_sent(id, provider, cents)
    return post_transfers(ledger=USDC6_LEDGER, postings=[claim, sent], now=now) + post_transfers(
        ledger=USD2_LEDGER, postings=[owed], now=now
    )


@transaction.atomic
def book_takeover_final(*, id: UUID, provider: UUID, cents: int, reference: bytes, now: datetime) -> int:
    """Book that the coins of a takeover are finally in our own wallet: chain.wallet -> chain.clearing."""
    sent = _coins_sent(id, provider, cents)
    posting = replace(
        sent, id=uuid_from("takeover", id, "final"), debit=_coin("chain.wallet", scope=CUSTODY_WALLET),
        credit=sent.debit, code=Code.TAKEOVER_FINAL, link=None, reference=reference,
    )  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


@transaction.atomic
def book_takeover_failed(*, id: UUID, provider: UUID, cents: int, now: datetime) -> int:
    """Book that the coins of a takeover did not move: chain.wallet (the provider's) -> chain.clearing.

    They stay the Foundation's, and the provider is owed its dollars all the same.
    """
    sent = _coins_sent(id, provider, cents)
    posting = replace(
        sent, id=uuid_from("takeover", id, "failed"), debit=sent.credit, credit=sent.debit, code=Code.TAKEOVER_FAILED,
        link=None,
    )  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


def _coins_sent(id: UUID, provider: UUID, cents: int) -> Posting:
    return Posting(
        uuid_from("takeover", id, "sent"), _coin("chain.clearing"), _coin("chain.wallet", scope=wallet_of(provider)),
        cents * MICROS_PER_CENT, "posted", Code.TAKEOVER, Origin.ORGANIC, link=uuid_from("takeover", id),
    )  # fmt: skip


# -- paid out ---------------------------------------------------------------------------------------------------------
@transaction.atomic
def reserve_bank_payout(*, id: UUID, provider: UUID, node_class: UUID, cents: int, now: datetime) -> int:
    """Reserve dollars that shall be transferred: PENDING provider.payable -> card.clearing. Refused while halted.

    Raises InsufficientFunds, LedgerHalted.
    """
    posting = _payout(id, provider, node_class, cents)
    return post_transfers(ledger=USD2_LEDGER, postings=[posting], now=now)


@transaction.atomic
def book_bank_payout(
    *, hold_id: UUID, provider: UUID, node_class: UUID, cents: int, line: str, now: datetime
) -> int:
    """Book that a transfer left the processor: post of its hold, by the balance line that says so."""
    posting = post_of(
        _payout(hold_id, provider, node_class, cents), id=uuid_from("card", line, "payable"), code=Code.PAYOUT_SENT,
        reference=card_reference(line),
    )  # fmt: skip
    return post_transfers(ledger=USD2_LEDGER, postings=[posting], now=now)


@transaction.atomic
def void_bank_payout(*, hold_id: UUID, now: datetime) -> int:
    """Release the hold of a transfer that was never made; 0 if it was released or posted before."""
    return release(USD2_LEDGER, hold_id, Code.PAYOUT_RELEASED, now)


@transaction.atomic
def book_payout_reversed(*, provider: UUID, node_class: UUID, cents: int, line: str, now: datetime) -> int:
    """Book that a transfer, or a part of it, was taken back: card.clearing -> provider.payable."""
    posting = Posting(
        uuid_from("card", line, "payable"), _dollar("card.clearing"), _dollar("provider.payable", provider, node_class),
        cents, "posted", Code.PAYOUT_REVERSED, Origin.ORGANIC, reference=card_reference(line),
    )  # fmt: skip
    return post_transfers(ledger=USD2_LEDGER, postings=[posting], now=now)


def _payout(id: UUID, provider: UUID, node_class: UUID, cents: int) -> Posting:
    return Posting(
        id, _dollar("provider.payable", provider, node_class), _dollar("card.clearing"), cents, "pending",
        Code.BANK_PAYOUT, Origin.ORGANIC,
    )  # fmt: skip
