"""The card rail: deposits, refunds, chargebacks, and card money on its way into escrow.

    open_deposit, ask_refund     step A: the intent, with its key, in the caller's transaction
    send                         step B: the processor is asked; again with the same key is harmless
                                 step C: its answer is written, in a commit of its own
    sync                         an object is read anew at the processor and the books follow its state

Who tells us of an object (a webhook, a webhook twice, an old one, the sweep) makes no difference: only what is read
counts, and each line of the processor's balance moves the books once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from ledger import card as books
from ledger import faults
from ledger.errors import InsufficientFunds, LedgerError
from ledger.ids import uuid7, uuid_from
from ledger.models import Account, CardIntent, ChainAddress, ChainIntent, Outbox
from ledger.posting import USDC6_LEDGER, lock_ledger
from ledger.rails import sender
from ledger.rails.errors import (
    CardCapReached,
    IntentReused,
    NotSettledYet,
    PaymentUnknown,
    ProcessorRefused,
    ProcessorUnreachable,
)
from ledger.rails.once import Work, ask_once
from ledger.rails.stripe import PAGE, Told, ask
from ledger.tasks import TRIES_MAX, enqueue, retry_job

log = logging.getLogger(__name__)
Kind, State = CardIntent.Kind, CardIntent.State
SEND_JOB, EXCHANGE_JOB, FLOAT_JOB = "card.send", "card.exchange", "card.float"
RISK_SPAN = timedelta(days=120)  # how long a cardholder may dispute a payment
SYNC_AT_ONCE = 100
EXCHANGE_KEY = "card-exchange:"
WALLET = uuid_from("wallet", "custody")
DEPOSIT_CENTS_MIN = 50  # what the processor takes at least


# -- step A ------------------------------------------------------------------------------------------------------------
@transaction.atomic
def open_deposit(*, key: str, party: UUID, cents: int, return_url: str, now: datetime) -> CardIntent:
    """Record in the caller's transaction that a party wants to deposit by card, and return the intent.

    The payment page exists a moment later, as the intent's `url`. The same key returns the same intent. Raises
    CardCapReached with the fact `room_cents`, IntentReused.
    """
    return _begin(
        CardIntent(id=uuid7(now), key=key, kind=Kind.DEPOSIT, party=party, cents=cents, return_url=return_url,
                   created_at=now),
        before=lambda: _require_room(party, cents, now),
    )  # fmt: skip


@transaction.atomic
def ask_refund(*, key: str, deposit: CardIntent, cents: int, now: datetime) -> CardIntent:
    """Record that part of a deposit shall go back to its card, and reserve the money.

    Raises InsufficientFunds when the party's card money does not cover it (what is in escrow does not), LedgerHalted.
    """
    intent = CardIntent(
        id=uuid7(now), key=key, kind=Kind.REFUND, party=deposit.party, cents=cents, parent=deposit, created_at=now
    )
    return _begin(
        intent,
        before=lambda: books.reserve_card_refund(id=intent.id, party=deposit.party, cents=cents, now=now),
    )


def _begin(intent: CardIntent, *, before: Callable[[], object]) -> CardIntent:
    lock_ledger(books.USD2_LEDGER)  # so that two at once are counted one after the other
    known = CardIntent.objects.filter(key=intent.key).first()
    if known is not None:
        facts = ("kind", "party", "cents", "parent_id")
        if any(getattr(known, name) != getattr(intent, name) for name in facts):
            raise IntentReused(f"The key {intent.key!r} was used for another act.", key=intent.key)
        return known
    before()
    intent.save(force_insert=True)
    enqueue_send(intent)
    return intent


def enqueue_send(intent: CardIntent) -> None:
    """Write the job that asks the processor, in the transaction of the intent."""
    enqueue(kind=SEND_JOB, payload={"intent": str(intent.pk)}, dedupe_key=f"{SEND_JOB}:{intent.pk}")


def at_risk_cents(party: UUID, now: datetime) -> int:
    """Return what a party has paid, or is about to pay, by card and could still take back by a dispute."""
    recent = CardIntent.objects.filter(party=party, created_at__gt=now - RISK_SPAN).exclude(state=State.FAILED)
    sums = dict(recent.exclude(kind=Kind.EXCHANGE).values_list("kind").annotate(Sum("cents")))
    refunded = recent.filter(kind=Kind.REFUND, state=State.DONE).aggregate(cents=Sum("cents"))["cents"] or 0
    return int(sums.get("deposit", 0)) - int(refunded)


def _require_room(party: UUID, cents: int, now: datetime) -> None:
    room = max(0, settings.CARD_CAP_CENTS - at_risk_cents(party, now))
    if cents > room:
        raise CardCapReached("By card a party may have only so much at a time.", room_cents=room,
                             cap_cents=settings.CARD_CAP_CENTS)  # fmt: skip


# -- steps B and C -----------------------------------------------------------------------------------------------------
def send(*, intent_id: UUID, now: datetime) -> None:
    """Ask the processor for what an intent means, and write down its answer. Again is harmless.

    Raises ProcessorUnreachable when nobody knows; a refusal ends the intent.
    """
    intent = CardIntent.objects.select_related("parent").get(pk=intent_id)
    if intent.state != State.QUEUED:
        return
    try:
        found = ask_once(intent, WORKS[Kind(intent.kind)], now)
    except ProcessorRefused as error:
        end(intent, State.FAILED, now, reason=str(error))
        return
    faults.point("card.sent")
    with transaction.atomic():
        row = CardIntent.objects.select_for_update().get(pk=intent.pk)
        if row.state == State.QUEUED:
            row.state, row.processor_id, row.url = State.OPEN, found.id, getattr(found, "url", None) or ""
            row.save(update_fields=["state", "processor_id", "url"])
    faults.point("card.confirmed")
    if intent.kind in OBJECT_OF:
        sync(told=Told(OBJECT_OF[Kind(intent.kind)], found.id), now=now)


def _ask_session(c: Any, intent: CardIntent, key: str) -> Any:
    name = {"name": "Deposit to Grove Exchange"}
    line = {"price_data": {"currency": "usd", "unit_amount": intent.cents, "product_data": name}, "quantity": 1}
    return c.checkout.sessions.create(
        params={
            "mode": "payment", "line_items": [line], "client_reference_id": str(intent.id),
            "metadata": {"intent": str(intent.id)}, "payment_intent_data": {"metadata": {"intent": str(intent.id)}},
            "success_url": intent.return_url, "cancel_url": intent.return_url,
        },
        options={"idempotency_key": key},
    )  # fmt: skip


def _look_for_session(intent: CardIntent) -> Any | None:
    # A page that is overlooked here is harmless: nobody ever learns its address, so nobody can pay there.
    recent = ask(lambda c: c.checkout.sessions.list(params={"limit": PAGE}))  # it was asked for moments ago
    return next((each for each in recent.data if each.client_reference_id == str(intent.id)), None)


def _ask_refund(c: Any, intent: CardIntent, key: str) -> Any:
    assert intent.parent is not None
    return c.refunds.create(
        params={
            "payment_intent": intent.parent.payment_id, "amount": intent.cents, "metadata": {"intent": str(intent.id)}
        },
        options={"idempotency_key": key},
    )  # fmt: skip


def _look_for_refund(intent: CardIntent) -> Any | None:
    assert intent.parent is not None
    payment = intent.parent.payment_id
    params = {"payment_intent": payment, "limit": PAGE}
    made = ask(lambda c: list(c.refunds.list(params=params).auto_paging_iter()))
    return next((each for each in made if named_in(each.metadata, Kind.REFUND) == intent), None)


# Each kind of intent that the processor is asked for; `ledger.rails.connect` adds its own to these tables.
WORKS: dict[CardIntent.Kind, Work[CardIntent]] = {
    Kind.DEPOSIT: Work(_ask_session, _look_for_session),
    Kind.REFUND: Work(_ask_refund, _look_for_refund),
}
OBJECT_OF: dict[CardIntent.Kind, str] = {Kind.REFUND: "refund"}  # what is read at once, because money left with it
RELEASES: dict[CardIntent.Kind, Callable[..., int]] = {Kind.REFUND: books.void_card_refund}


def end(intent: CardIntent, state: CardIntent.State, now: datetime, *, reason: str = "", **facts: Any) -> None:
    """Bring an intent to its end, and release what it had reserved when it failed."""
    with transaction.atomic():
        ended = CardIntent.objects.filter(pk=intent.pk, state__in=(State.QUEUED, State.OPEN)).update(
            state=state, reason=reason[:300], ended_at=now, **facts
        )
        if ended and state == State.FAILED and intent.kind in RELEASES:
            RELEASES[Kind(intent.kind)](hold_id=intent.pk, now=now)


# -- the books follow the processor ------------------------------------------------------------------------------------
def sync(*, told: Told, now: datetime) -> None:
    """Read one object at the processor and book its state; objects that move no money are passed over.

    Raises PaymentUnknown for money that no intent of ours explains, NotSettledYet when the processor has not written
    its balance line yet.
    """
    act = SYNCS.get(told.kind)
    if act is not None:
        act(told.id, now)


def _sync_session(id: str, now: datetime) -> None:
    session = ask(lambda c: c.checkout.sessions.retrieve(id))
    if session.payment_intent:
        _sync_payment(session.payment_intent, now)
    elif session.status == "expired":
        intent = CardIntent.objects.filter(processor_id=id).first()
        if intent is not None:
            end(intent, State.FAILED, now, reason="The payment page ran out of time.")


def _sync_payment(id: str, now: datetime) -> CardIntent | None:
    """Book a payment that succeeded; its deposit, or None while it has not."""
    payment = ask(lambda c: c.payment_intents.retrieve(id, params={"expand": ["latest_charge.balance_transaction"]}))
    if payment.status != "succeeded":
        return None
    intent = _intent_of(payment.metadata, id)
    line = payment.latest_charge.balance_transaction
    if line is None:
        raise NotSettledYet("The processor has not written this payment's balance line yet.", payment=id)
    if (payment.amount_received, payment.currency, line.amount) != (intent.cents, "usd", intent.cents):
        raise PaymentUnknown("This payment is not what was asked for.", payment=id, cents=payment.amount_received)
    with transaction.atomic():
        lock_ledger(books.USD2_LEDGER)
        books.book_card_deposit(party=intent.party, cents=intent.cents, line=line.id, now=now)
        faults.point("card.booked")
        end(intent, State.DONE, now, payment_id=id, processor_id=intent.processor_id or id)
        enqueue(
            kind=EXCHANGE_JOB, payload={"deposit": str(intent.pk)}, dedupe_key=f"{EXCHANGE_JOB}:{intent.pk}",
            run_at=now + timedelta(hours=settings.CARD_DELAY_HOURS),
        )  # fmt: skip
    book_fee(line, now)
    return CardIntent.objects.get(pk=intent.pk)


def _sync_charge(id: str, now: datetime) -> None:
    payment = ask(lambda c: c.charges.retrieve(id)).payment_intent
    if not payment:
        raise PaymentUnknown("This charge belongs to no payment of ours.", charge=id)
    _sync_payment(payment, now)


def _sync_refund(id: str, now: datetime) -> None:
    """Book where a refund stands: it left, it came back, or it was never made."""
    lines = ["balance_transaction", "failure_balance_transaction"]
    refund = ask(lambda c: c.refunds.retrieve(id, params={"expand": lines}))
    deposit = _deposit_of(refund.payment_intent, now)
    intent = named_in(refund.metadata, Kind.REFUND)
    left, back = refund.balance_transaction, getattr(refund, "failure_balance_transaction", None)
    with transaction.atomic():
        if left is not None:
            hold = intent.pk if intent is not None else None
            books.book_card_refund(hold_id=hold, party=deposit.party, cents=refund.amount, line=left.id, now=now)
        if back is not None:
            books.book_card_refund_failed(party=deposit.party, cents=refund.amount, line=back.id, now=now)
        if intent is not None and refund.status == "succeeded":
            end(intent, State.DONE, now, processor_id=id)
        if intent is not None and refund.status in ("failed", "canceled"):
            _end_returned(intent, id, now, was_made=left is not None)
    for line in filter(None, (left, back)):
        book_fee(line, now)


def _end_returned(intent: CardIntent, id: str, now: datetime, *, was_made: bool) -> None:
    """A refund that its bank sent back failed, also one that had counted as done."""
    if was_made:
        CardIntent.objects.filter(pk=intent.pk).update(
            state=State.FAILED, reason="The bank sent the money back.", processor_id=id, ended_at=now
        )
    else:
        end(intent, State.FAILED, now, reason="The processor could not make this refund.", processor_id=id)


def _sync_dispute(id: str, now: datetime) -> None:
    """Book what a dispute took, and what a won one brought back."""
    dispute = ask(lambda c: c.disputes.retrieve(id))
    deposit = _deposit_of(dispute.payment_intent, now)
    with transaction.atomic():
        for line in dispute.balance_transactions:
            book = books.book_chargeback if line.amount < 0 else books.book_chargeback_won
            book(party=deposit.party, cents=abs(line.amount), line=line.id, now=now)
    for line in dispute.balance_transactions:
        book_fee(line, now)


def _sync_own(id: str, now: datetime) -> None:
    """Book money of the Foundation's own that came from its bank or went there."""
    about = ask(lambda c: (c.topups if id.startswith("tu_") else c.payouts).retrieve(
        id, params={"expand": ["balance_transaction"]}))  # fmt: skip
    if about.balance_transaction is not None:
        line = about.balance_transaction
        books.book_card_capital(cents=line.amount, line=line.id, now=now)
        book_fee(line, now)


SYNCS: dict[str, Callable[[str, datetime], object]] = {
    "checkout.session": _sync_session, "payment_intent": _sync_payment, "charge": _sync_charge,
    "refund": _sync_refund, "dispute": _sync_dispute, "topup": _sync_own, "payout": _sync_own,
}  # fmt: skip
KIND_OF_SOURCE = {"ch": "charge", "py": "charge", "re": "refund", "pyr": "refund", "du": "dispute", "dp": "dispute",
                  "tu": "topup", "po": "payout", "tr": "transfer", "trr": "transfer_reversal"}  # fmt: skip


def book_fee(line: Any, now: datetime) -> None:
    """Book what a line cost. When the Foundation has no card money left, the reconciler shows it as a difference."""
    try:
        books.book_card_fee(cents=line.fee, line=line.id, now=now)
    except InsufficientFunds:
        return


def _deposit_of(payment: str | None, now: datetime) -> CardIntent:
    """Return the deposit that a refund or dispute is about; it is booked first, should its own news be late."""
    deposit = CardIntent.objects.filter(payment_id=payment).first() if payment else None
    if deposit is None and payment:
        deposit = _sync_payment(payment, now)
    if deposit is None:
        raise PaymentUnknown("No deposit of ours was paid by this payment.", payment=payment)
    return deposit


def _intent_of(metadata: Any, payment: str) -> CardIntent:
    intent = named_in(metadata, Kind.DEPOSIT)
    if intent is None or intent.payment_id not in (None, payment):
        raise PaymentUnknown("No deposit of ours was paid by this payment.", payment=payment)
    return intent


def named_in(metadata: Any, kind: CardIntent.Kind) -> CardIntent | None:
    """Return the intent of this kind whose id an object at the processor bears, or None."""
    id = id_in(metadata)
    return CardIntent.objects.filter(kind=kind, pk=id).first() if id is not None else None


def id_in(metadata: Any) -> UUID | None:
    """Return the id of an intent that an object at the processor bears, or None."""
    try:
        return UUID(metadata["intent"])
    except (KeyError, TypeError, ValueError):
        return None


def sweep(*, now: datetime) -> int:
    """Read every open intent anew, in case its webhook was lost, and see to exchanges whose transaction failed.

    Returns how many came to an end.
    """
    revive(SEND_JOB, now)
    asked_there = CardIntent.objects.filter(state=State.OPEN).exclude(kind__in=(Kind.EXCHANGE, Kind.TAKEOVER))
    waiting = list(asked_there.order_by("-created_at", "-id")[:SYNC_AT_ONCE])
    for intent in waiting:
        kind = OBJECT_OF.get(Kind(intent.kind), "checkout.session")
        try:
            sync(told=Told(kind, str(intent.processor_id)), now=now)
        except LedgerError as error:  # one that cannot be read holds up no other
            log.warning("card intent %s was not read: %s", intent.pk, error)
    ended = CardIntent.objects.filter(pk__in=[each.pk for each in waiting]).exclude(state=State.OPEN).count()
    return ended + release_failed_exchanges(now=now)


def revive(kind: str, now: datetime) -> int:
    """Let jobs that ask the processor try again although they failed often: it may have been down for an hour.

    Asking is harmless, and money stays reserved until there is an answer. Returns how many were revived.
    """
    dead = Outbox.objects.filter(kind=kind, done_at=None, tries__gte=TRIES_MAX, run_at__lte=now,
                                 last_error__startswith=ProcessorUnreachable.__name__)  # fmt: skip
    return sum(retry_job(id=id, now=now) for id in list(dead.values_list("pk", flat=True)))


# -- into escrow -------------------------------------------------------------------------------------------------------
@transaction.atomic
def exchange(*, deposit_id: UUID, now: datetime) -> CardIntent | None:
    """Ask the sender to bring a paid deposit's money into escrow, out of the Foundation's float; None if none is left.

    Raises InsufficientFunds when the float does not cover it, LedgerHalted.
    """
    deposit = CardIntent.objects.get(pk=deposit_id)
    key = f"{EXCHANGE_KEY}{deposit.pk}"
    known = CardIntent.objects.filter(key=key).first()
    if known is not None:
        return known
    lock_ledger(USDC6_LEDGER)
    lock_ledger(books.USD2_LEDGER)
    row = Account.objects.filter(ledger_id=books.USD2_LEDGER, code="buyer.available", party=deposit.party).first()
    cents = min(deposit.cents, row.free_minor if row else 0)
    if cents <= 0:
        return None
    address = ChainAddress.objects.get(party=deposit.party, role="buyer").address
    intent = CardIntent.objects.create(
        id=uuid7(now), key=key, kind=Kind.EXCHANGE, party=deposit.party, cents=cents, parent=deposit, state=State.OPEN,
        created_at=now,
    )  # fmt: skip
    books.reserve_exchange(id=intent.pk, party=intent.party, wallet=WALLET, cents=cents, now=now)
    sender.submit(
        key=f"{EXCHANGE_KEY}{intent.pk}", role="custody", contract="escrow", function="deposit",
        args=[address, cents * books.MICROS_PER_CENT], now=now,
    )  # fmt: skip
    return intent


def finish_exchange(*, intent_key: str, reference: bytes, now: datetime) -> bool:
    """Book a final deposit that the sender made for card money; False if its transaction was for something else."""
    if not intent_key.startswith(EXCHANGE_KEY):
        return False
    intent = CardIntent.objects.get(pk=UUID(intent_key.removeprefix(EXCHANGE_KEY)))
    books.book_exchange(
        id=intent.pk, party=intent.party, wallet=WALLET, cents=intent.cents, reference=reference, now=now
    )
    end(intent, State.DONE, now)
    return True


def release_failed_exchanges(*, now: datetime) -> int:
    """Give back what was reserved for exchanges whose transaction failed, and return how many there were."""
    failed = ChainIntent.objects.filter(key__startswith=EXCHANGE_KEY, state=ChainIntent.State.REVERTED)
    ids = [UUID(key.removeprefix(EXCHANGE_KEY)) for key in failed.values_list("key", flat=True)]
    open_ones = list(CardIntent.objects.filter(pk__in=ids, state=State.OPEN))
    for intent in open_ones:
        with transaction.atomic():
            books.void_exchange(id=intent.pk, party=intent.party, wallet=WALLET, cents=intent.cents, now=now)
            end(intent, State.FAILED, now, reason="The chain refused the deposit into escrow.")
    return len(open_ones)


def book_arrived_float(*, intent_key: str, micros: int, now: datetime) -> None:
    """Book test coins that were minted to our wallet, once they are final. Raises NotSettledYet before."""
    intent = ChainIntent.objects.get(key=intent_key)
    if intent.state != ChainIntent.State.FINAL:
        raise NotSettledYet("The minted coins are not final yet.", state=intent.state)
    books.book_float(wallet=WALLET, micros=micros, reference=bytes.fromhex(str(intent.tx_hash)[2:]), now=now)
