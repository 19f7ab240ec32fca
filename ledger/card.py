"""The recipes of the card rail. Amounts are cents in the ledger of card money, unless a name says micros.

Every movement of `card.clearing` carries the processor's own balance line as its reference and takes its id from it:
one line moves the books once, however often and in whatever order it is told. What a movement takes or gives depends on
what the party has then, so a line that is booked is recognised first, and never split a second time.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from ledger.chart import Code, Origin
from ledger.errors import IdReused
from ledger.holds import post_of, release
from ledger.ids import uuid_from
from ledger.models import Account, Transfer
from ledger.posting import LEDGERS, USDC6_LEDGER, Posting, account, lock_ledger, post_transfers

USD2_LEDGER = LEDGERS["USD2"]
MICROS_PER_CENT = 10_000  # exactly; the other direction would round down
Part = tuple[str, int, int, int]  # name, debit, credit, amount


def card_reference(line: str) -> bytes:
    """Return what a transfer keeps of a line of the processor's balance."""
    return line.encode()


def _account(code: str, party: UUID | None = None) -> int:
    return account(ledger=USD2_LEDGER, code=code, party=party)


def _free(account_id: int) -> int:
    return Account.objects.get(pk=account_id).free_minor


def _is_booked(line: str, cents: int) -> bool:
    """Say whether this line moved the books before. Raises IdReused if it then moved another amount."""
    ids = [uuid_from("card", line, part) for part in ("available", "receivable", "capital")]
    booked = Transfer.objects.filter(ledger=USD2_LEDGER, id__in=ids).aggregate(cents=Sum("amount"))["cents"]
    if booked is not None and booked != cents:
        raise IdReused("This line was booked with another amount.", id=line, field="amount", booked_minor=booked)
    return booked is not None


def _post_parts(line: str, parts: list[Part], code: Code, now: datetime) -> int:
    moving = [part for part in parts if part[3]]
    link = uuid_from("card", line) if len(moving) > 1 else None
    postings = [
        Posting(
            uuid_from("card", line, name), debit, credit, amount, "posted", code, Origin.ORGANIC,
            link=link, reference=card_reference(line),
        )
        for name, debit, credit, amount in moving
    ]  # fmt: skip
    return post_transfers(ledger=USD2_LEDGER, postings=postings, now=now)


def _book_line(line: str, party: UUID, cents: int, code: Code, now: datetime, *, is_inward: bool) -> int:
    """Book money of a party that came to the processor, or left it unasked.

    Inward it pays what the party owes and the rest is available; outward it is taken from what is available and the
    rest is owed. So the first of the two accounts gives or takes what it has, and the second the rest.
    """
    clearing = _account("card.clearing")
    of_party = {"receivable": _account("buyer.receivable", party), "available": _account("buyer.available", party)}
    first, second = of_party if is_inward else reversed(of_party)
    lock_ledger(USD2_LEDGER)
    if _is_booked(line, cents):
        return 0
    covered = min(cents, _free(of_party[first]))
    parts: list[Part] = []
    for name, amount in ((first, covered), (second, cents - covered)):
        ends = (clearing, of_party[name]) if is_inward else (of_party[name], clearing)
        parts.append((name, *ends, amount))
    return _post_parts(line, parts, code, now)


@transaction.atomic
def book_card_deposit(*, party: UUID, cents: int, line: str, now: datetime) -> int:
    """Book a card payment that succeeded: card.clearing -> buyer.receivable (what is owed), buyer.available."""
    return _book_line(line, party, cents, Code.CARD_DEPOSIT, now, is_inward=True)


@transaction.atomic
def book_chargeback(*, party: UUID, cents: int, line: str, now: datetime) -> int:
    """Book that a cardholder took money back: buyer.available, then buyer.receivable -> card.clearing."""
    return _book_line(line, party, cents, Code.CHARGEBACK, now, is_inward=False)


@transaction.atomic
def book_chargeback_won(*, party: UUID, cents: int, line: str, now: datetime) -> int:
    """Book a won dispute: card.clearing -> buyer.receivable (what is still owed), buyer.available."""
    return _book_line(line, party, cents, Code.CHARGEBACK_WON, now, is_inward=True)


# -- refunds ----------------------------------------------------------------------------------------------------------


@transaction.atomic
def reserve_card_refund(*, id: UUID, party: UUID, cents: int, now: datetime) -> int:
    """Reserve a refund that shall be asked for: PENDING buyer.available -> card.clearing. Refused while halted.

    Raises InsufficientFunds, LedgerHalted.
    """
    return post_transfers(ledger=USD2_LEDGER, postings=[_refund(id, party, cents)], now=now)


@transaction.atomic
def book_card_refund(*, hold_id: UUID | None, party: UUID, cents: int, line: str, now: datetime) -> int:
    """Book that a refund left the processor: post of its hold. One nobody asked us for is taken like a chargeback."""
    if hold_id is None:
        return _book_line(line, party, cents, Code.CARD_REFUNDED, now, is_inward=False)
    posting = post_of(
        _refund(hold_id, party, cents), id=uuid_from("card", line, "available"), code=Code.CARD_REFUNDED,
        reference=card_reference(line),
    )  # fmt: skip
    return post_transfers(ledger=USD2_LEDGER, postings=[posting], now=now)


@transaction.atomic
def void_card_refund(*, hold_id: UUID, now: datetime) -> int:
    """Release the hold of a refund that was never made; 0 if it was released or posted before."""
    return release(USD2_LEDGER, hold_id, Code.CARD_REFUND_RELEASED, now)


@transaction.atomic
def book_card_refund_failed(*, party: UUID, cents: int, line: str, now: datetime) -> int:
    """Book that a refund came back from the bank: card.clearing -> buyer.receivable, buyer.available."""
    return _book_line(line, party, cents, Code.CARD_REFUND_FAILED, now, is_inward=True)


def _refund(id: UUID, party: UUID, cents: int) -> Posting:
    return Posting(
        id, _account("buyer.available", party), _account("card.clearing"), cents, "pending", Code.CARD_REFUND,
        Origin.ORGANIC,
    )  # fmt: skip


# -- what the processor takes, and our own money ----------------------------------------------------------------------


@transaction.atomic
def book_card_fee(*, cents: int, line: str, now: datetime) -> int:
    """Book the processor's fee on a line: foundation.capital -> card.clearing; below zero it was given back.

    Raises InsufficientFunds when the Foundation has no card money: the line then stays a difference.
    """
    ends = _account("foundation.capital"), _account("card.clearing")
    if cents == 0:
        return 0
    debit, credit = ends if cents > 0 else ends[::-1]
    posting = Posting(
        uuid_from("card", line, "fee"), debit, credit, abs(cents), "posted", Code.CARD_FEE, Origin.ORGANIC,
        reference=card_reference(line),
    )  # fmt: skip
    return post_transfers(ledger=USD2_LEDGER, postings=[posting], now=now)


@transaction.atomic
def book_card_capital(*, cents: int, line: str, now: datetime) -> int:
    """Book the Foundation's own money at the processor: a top-up in, or below zero a payout to its bank.

    card.clearing -> foundation.capital, and back. Raises InsufficientFunds.
    """
    clearing, capital = _account("card.clearing"), _account("foundation.capital")
    ends, code = ((clearing, capital), Code.CAPITAL_IN) if cents > 0 else ((capital, clearing), Code.CAPITAL_OUT)
    lock_ledger(USD2_LEDGER)
    if _is_booked(line, abs(cents)):
        return 0
    return _post_parts(line, [("capital", *ends, abs(cents))], code, now)


@transaction.atomic
def book_float(*, wallet: UUID, micros: int, reference: bytes, now: datetime) -> int:
    """Book stablecoin of the Foundation in a wallet of ours: chain.wallet -> foundation.capital, in micro-USD.

    It is what card buyers are lent until their card money is at the bank; its floor bounds that loan.
    """
    debit = account(ledger=USDC6_LEDGER, code="chain.wallet", scope=wallet)
    credit = account(ledger=USDC6_LEDGER, code="foundation.capital")
    posting = Posting(
        uuid_from("float", reference), debit, credit, micros, "posted", Code.CAPITAL_IN, Origin.ORGANIC,
        reference=reference,
    )  # fmt: skip
    return post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=now)


# -- card money into escrow -------------------------------------------------------------------------------------------
# Two ledgers, one transaction, locks in ledger order. What is on its way to the chain is reserved on both sides.


@transaction.atomic
def reserve_exchange(*, id: UUID, party: UUID, wallet: UUID, cents: int, now: datetime) -> int:
    """Reserve card money that shall go into escrow, and the stablecoin that is sent for it.

    USD2: PENDING buyer.available -> foundation.capital. USDC6, linked: PENDING foundation.capital -> buyer.available,
    chain.clearing -> chain.wallet. Raises InsufficientFunds (the party's money, the float or the wallet), LedgerHalted.
    """
    lock_ledger(USDC6_LEDGER)
    lock_ledger(USD2_LEDGER)
    sent, coin, card = _exchange(id, party, wallet, cents)
    return post_transfers(ledger=USDC6_LEDGER, postings=[coin, sent], now=now) + post_transfers(
        ledger=USD2_LEDGER, postings=[card], now=now
    )


@transaction.atomic
def book_exchange(*, id: UUID, party: UUID, wallet: UUID, cents: int, reference: bytes, now: datetime) -> int:
    """Book that the stablecoin of an exchange is finally in escrow: both reservations are posted.

    USDC6, linked: post foundation.capital -> buyer.available, chain.escrow -> chain.clearing. USD2: post
    buyer.available -> foundation.capital.
    """
    lock_ledger(USDC6_LEDGER)
    lock_ledger(USD2_LEDGER)
    sent, coin, card = _exchange(id, party, wallet, cents)
    link = uuid_from("exchange", id, "final")
    final = Posting(
        uuid_from("exchange", id, "final"), account(ledger=USDC6_LEDGER, code="chain.escrow"), sent.debit, sent.amount,
        "posted", Code.EXCHANGE_FINAL, Origin.ORGANIC, link=link, reference=reference,
    )  # fmt: skip
    coin_post = post_of(
        coin, id=uuid_from("post", coin.id), code=Code.EXCHANGED, link=link, reference=reference
    )
    card_post = post_of(card, id=uuid_from("post", card.id), code=Code.EXCHANGED, reference=reference)
    return post_transfers(ledger=USDC6_LEDGER, postings=[coin_post, final], now=now) + post_transfers(
        ledger=USD2_LEDGER, postings=[card_post], now=now
    )


@transaction.atomic
def void_exchange(*, id: UUID, party: UUID, wallet: UUID, cents: int, now: datetime) -> int:
    """Release both reservations of an exchange whose transaction failed: chain.wallet -> chain.clearing in USDC6."""
    lock_ledger(USDC6_LEDGER)
    lock_ledger(USD2_LEDGER)
    sent, coin, card = _exchange(id, party, wallet, cents)
    released = release(USDC6_LEDGER, coin.id, Code.EXCHANGE_RELEASED, now)
    if released:
        back = replace(
            sent, id=uuid_from("exchange", id, "back"), debit=sent.credit, credit=sent.debit, link=None,
            code=Code.EXCHANGE_RELEASED,
        )  # fmt: skip
        released += post_transfers(ledger=USDC6_LEDGER, postings=[back], now=now)
    return released + release(USD2_LEDGER, card.id, Code.EXCHANGE_RELEASED, now)


def _exchange(id: UUID, party: UUID, wallet: UUID, cents: int) -> tuple[Posting, Posting, Posting]:
    """Return what an exchange begins with: coins sent, coins reserved for the party, card money reserved."""
    link, micros = uuid_from("exchange", id), cents * MICROS_PER_CENT
    sent = Posting(
        uuid_from("exchange", id, "sent"), account(ledger=USDC6_LEDGER, code="chain.clearing"),
        account(ledger=USDC6_LEDGER, code="chain.wallet", scope=wallet), micros, "posted", Code.EXCHANGE_SENT,
        Origin.ORGANIC, link=link,
    )  # fmt: skip
    coin = Posting(
        uuid_from("exchange", id, "coin"), account(ledger=USDC6_LEDGER, code="foundation.capital"),
        account(ledger=USDC6_LEDGER, code="buyer.available", party=party), micros, "pending", Code.EXCHANGED,
        Origin.ORGANIC, link=link,
    )  # fmt: skip
    card = Posting(
        uuid_from("exchange", id, "card"), _account("buyer.available", party), _account("foundation.capital"), cents,
        "pending", Code.CARD_EXCHANGE, Origin.ORGANIC,
    )  # fmt: skip
    return sent, coin, card
