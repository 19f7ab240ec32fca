"""The rail to a provider's bank: its account at the processor, and payouts that are transferred there.

    choose_bank, ask_link     step A: the intent, with its key, in the caller's transaction
    open_account, card.send   steps B and C: the processor is asked and its answer written, in a commit of its own
    take_in                   escrow paid a class whose provider chose its bank; in the transaction of the indexer
    pay_out                   step A of a transfer: coins become dollars, the dollars are reserved
    card.sync                 an account or a transfer is read anew, and we follow its state

The address to which a provider's node classes are registered is a key of our signer. So escrow pays a payout into that
wallet whatever the provider chose; the choice only says whose the coins in it are from then on, and it can be changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from ledger import connect as books
from ledger import faults
from ledger.card import MICROS_PER_CENT, USD2_LEDGER
from ledger.errors import LedgerError
from ledger.ids import uuid7
from ledger.models import Account, BankAccount, CardIntent, ChainIntent
from ledger.posting import USDC6_LEDGER, lock_ledger
from ledger.rails import card, sender
from ledger.rails.errors import NotSettledYet, PaymentUnknown, ProcessorRefused
from ledger.rails.once import Work, ask_once
from ledger.rails.signer import signer
from ledger.rails.stripe import PAGE, ask
from ledger.tasks import enqueue

log = logging.getLogger(__name__)
Kind, State = CardIntent.Kind, CardIntent.State
ACCOUNT_JOB, PAY_JOB = "connect.account", "connect.pay"
TAKEOVER_KEY = "bank-takeover:"
READ_AGAIN = timedelta(hours=1)  # an account that is ready, in case its news was lost; the others at each sweep
TRY_AGAIN = timedelta(hours=1)  # after a refused transfer
LINK_SPARE = timedelta(seconds=30)  # a link that ends sooner is no longer shown
ACCOUNTS_AT_ONCE = 50


# -- the choice, and the account --------------------------------------------------------------------------------------
@transaction.atomic
def choose_bank(*, party: UUID, country: str, wallet: str, return_url: str, now: datetime) -> BankAccount:
    """Record that a provider's payouts go to its bank from now on, and ask for its account if it has none.

    `wallet` is the address that its node classes are registered to. Payouts that are final before do not change.
    """
    lock_ledger(USDC6_LEDGER)  # the indexer books under it: each payout falls before or after the choice
    row, _ = BankAccount.objects.get_or_create(
        party=party,
        defaults={"id": uuid7(now), "country": country, "wallet": wallet, "return_url": return_url, "created_at": now},
    )
    row.is_chosen, row.return_url = True, return_url
    if row.state == BankAccount.State.REFUSED:  # what was refused was not made: the next question has a key of its own
        row.state, row.reason, row.country, row.attempt = BankAccount.State.QUEUED, "", country, row.attempt + 1
        row.broken_since = None
    row.save()
    if row.state != BankAccount.State.READY:
        ask_link(account=row, now=now)
    return row


@transaction.atomic
def ask_link(*, account: BankAccount, now: datetime) -> None:
    """Ask for a link to the page on which the holder gives its details. Each is followed once: it is a new one."""
    row = BankAccount.objects.select_for_update().get(pk=account.pk)
    row.links_asked += 1
    row.link_url, row.link_expires_at = "", None
    row.save()
    job = {"account": str(row.pk), "link": row.links_asked}
    enqueue(kind=ACCOUNT_JOB, payload=job, dedupe_key=f"{ACCOUNT_JOB}:{row.pk}:{row.links_asked}")


def live_link(account: BankAccount, now: datetime) -> str:
    """Return the address of the page for the holder's details, or an empty text when there is none that is good."""
    ends = account.link_expires_at
    return account.link_url if ends is not None and ends - LINK_SPARE > now else ""


@transaction.atomic
def choose_wallet(*, party: UUID, now: datetime) -> BankAccount | None:
    """Record that a provider's payouts stay coins in its wallet from now on; what lies there already is left to it.

    What was turned into dollars before is paid to the bank still. Raises LedgerHalted.
    """
    lock_ledger(USDC6_LEDGER)
    row = BankAccount.objects.filter(party=party).first()
    if row is None or not row.is_chosen:
        return row
    for node_class in _scopes(party, USDC6_LEDGER, "provider.custody"):
        books.book_given_back(id=uuid7(now), provider=party, node_class=node_class, now=now)
    row.is_chosen = False
    row.save(update_fields=["is_chosen"])
    return row


def _scopes(party: UUID, ledger: int, code: str) -> list[UUID]:
    rows = Account.objects.filter(ledger_id=ledger, code=code, party=party, scope__isnull=False).order_by("id")
    return [UUID(str(row.scope)) for row in rows]


def open_account(*, account_id: UUID, link: int, now: datetime) -> None:
    """Make the account at the processor if it is not there, and a link for its holder. Again is harmless."""
    row = BankAccount.objects.get(pk=account_id)
    if row.state == BankAccount.State.QUEUED:
        try:
            made = ask_once(row, ACCOUNT_WORK, now)
        except ProcessorRefused as error:
            BankAccount.objects.filter(pk=row.pk, state=BankAccount.State.QUEUED).update(
                state=BankAccount.State.REFUSED, reason=str(error)[:300]
            )
            return
        faults.point("connect.account.made")
        BankAccount.objects.filter(pk=row.pk, state=BankAccount.State.QUEUED).update(
            state=BankAccount.State.OPEN, processor_id=made.id
        )
        sync_account(made.id, now)
        row.refresh_from_db()
    if row.links_asked != link or row.link_url:
        return  # another link was asked for since, or this one is there
    _make_link(row, now)


def _make_link(row: BankAccount, now: datetime) -> None:
    params = {
        "account": row.processor_id, "type": "account_onboarding", "return_url": row.return_url,
        "refresh_url": row.return_url,
    }  # fmt: skip
    options = {"idempotency_key": f"{row.pk}:link:{row.links_asked}"}
    made = ask(lambda c: c.account_links.create(params=params, options=options))
    lasts = timedelta(seconds=made.expires_at - made.created)  # by our clock, which may not be the processor's
    BankAccount.objects.filter(pk=row.pk, links_asked=row.links_asked).update(
        link_url=made.url, link_expires_at=now + lasts
    )


def _ask_account(c: Any, row: BankAccount, key: str) -> Any:
    params = {
        "type": "express", "country": row.country, "capabilities": {"transfers": {"requested": True}},
        "metadata": {"intent": str(row.pk), "party": str(row.party)},
    }  # fmt: skip
    return c.accounts.create(params=params, options={"idempotency_key": key})


def _look_for_account(row: BankAccount) -> Any | None:
    # An account that is overlooked here is harmless: nobody has a link to it, so nothing is ever paid to it.
    recent = ask(lambda c: c.accounts.list(params={"limit": PAGE}))
    return next((each for each in recent.data if card.id_in(each.metadata) == row.pk), None)


ACCOUNT_WORK: Work[BankAccount] = Work(_ask_account, _look_for_account)


def sync_account(id: str, now: datetime) -> None:
    """Read an account at the processor and follow its state; one that became ready is paid what waits for it."""
    about = ask(lambda c: c.accounts.retrieve(id))
    state, reason = _state_of(about)
    missing = sorted(about.requirements.currently_due or [])
    known = BankAccount.objects.filter(processor_id=id)
    known.update(state=state, reason=reason, missing=missing, read_at=now)
    faults.point("connect.account.read")
    row = known.first()
    if row is not None and state == BankAccount.State.READY:
        _pay_what_waits([row], now)


def _state_of(about: Any) -> tuple[BankAccount.State, str]:
    why = about.requirements.disabled_reason or ""
    if about.payouts_enabled and about.capabilities.transfers == "active":
        return BankAccount.State.READY, ""
    if about.details_submitted and why not in ("", "requirements.pending_verification", "under_review"):
        return BankAccount.State.DISABLED, why
    return BankAccount.State.OPEN, why if about.details_submitted else ""


# -- out of escrow ----------------------------------------------------------------------------------------------------
_sharers: list[Callable[..., bool]] = []


def share_by(share: Callable[..., bool]) -> None:
    """Name who is asked first whether a payout is shared among several; the market does when it starts.

    It gets the arguments of `take_in`, books and sends the parts, and returns False for a payout that nobody shares.
    """
    _sharers[:] = [share]


def take_in(
    *, provider: UUID, node_class: UUID, payee: str, amount: int, reference: bytes, now: datetime
) -> bool:
    """Book a payout of escrow that goes on from its wallet, in the indexer's transaction; False if it stays there.

    It goes on to a bank, or to those who share it. It is the payee's coin too when escrow paid another address than
    the wallet that we keep.
    """
    lock_ledger(USDC6_LEDGER)
    whose: dict[str, Any] = {"provider": provider, "node_class": node_class, "reference": reference, "now": now}
    if any(share(payee=payee, amount=amount, **whose) for share in _sharers):
        return True
    if not pays_bank(provider, payee):
        return False
    books.book_taken_in(amount=amount, **whose)
    ask_pay_out(provider=provider, node_class=node_class, key=reference.hex())
    return True


def ask_pay_out(*, provider: UUID, node_class: UUID, key: str) -> None:
    """Ask, in the caller's transaction, for a look at what can be paid to a provider's bank; once per `key`."""
    job = {"provider": str(provider), "node_class": str(node_class)}
    enqueue(kind=PAY_JOB, payload=job, dedupe_key=f"{PAY_JOB}:{key}")


def pays_bank(party: UUID, wallet: str) -> bool:
    """Say whether coins that come to this wallet of a provider go on to its bank."""
    return BankAccount.objects.filter(party=party, wallet=wallet, is_chosen=True).exists()


@transaction.atomic
def pay_out(*, provider: UUID, node_class: UUID, now: datetime) -> CardIntent | None:
    """Turn a class's coins into dollars and ask for their transfer; None when nothing can be paid now.

    That is so before the account is ready, below one cent, and while the Foundation has no dollars to give. Raises
    LedgerHalted.
    """
    lock_ledger(USDC6_LEDGER)
    lock_ledger(USD2_LEDGER)
    account = BankAccount.objects.filter(party=provider, state=BankAccount.State.READY).first()
    if account is None:
        return None
    if account.is_chosen:
        _take_over(provider, node_class, now)
    cents = books.free_minor(ledger=USD2_LEDGER, code="provider.payable", party=provider, scope=node_class)
    if cents < 1:
        return None
    id = uuid7(now)
    books.reserve_bank_payout(id=id, provider=provider, node_class=node_class, cents=cents, now=now)
    intent = CardIntent.objects.create(
        id=id, key=f"bank-payout:{id}", kind=Kind.PAYOUT, party=provider, scope=node_class, cents=cents, created_at=now
    )
    card.enqueue_send(intent)
    faults.point("connect.reserved")
    return intent


def _take_over(provider: UUID, node_class: UUID, now: datetime) -> None:
    """Turn as many whole cents of a class's coins into dollars as the Foundation has dollars."""
    micros = books.free_minor(ledger=USDC6_LEDGER, code="provider.custody", party=provider, scope=node_class)
    cents = min(micros // MICROS_PER_CENT, books.free_minor(ledger=USD2_LEDGER, code="foundation.capital"))
    if cents < 1:
        return
    id = uuid7(now)
    books.book_takeover(id=id, provider=provider, node_class=node_class, cents=cents, now=now)
    CardIntent.objects.create(
        id=id, key=f"{TAKEOVER_KEY}{id}", kind=Kind.TAKEOVER, party=provider, scope=node_class, cents=cents,
        state=State.OPEN, created_at=now,
    )  # fmt: skip
    sender.submit(
        key=f"{TAKEOVER_KEY}{id}", role=f"provider:{provider}", contract="token", function="transfer",
        args=[signer().address("custody"), cents * MICROS_PER_CENT], now=now,
    )  # fmt: skip


def finish_takeovers(*, now: datetime) -> int:
    """Book what became of the coins of each takeover, and return how many came to an end."""
    waiting = CardIntent.objects.filter(kind=Kind.TAKEOVER, state=State.OPEN)
    open_ones = {f"{TAKEOVER_KEY}{row.pk}": row for row in waiting}
    ended = ChainIntent.objects.filter(key__in=list(open_ones), state__in=("final", "reverted"))
    for sent in ended.order_by("created_at", "id"):
        row = open_ones[sent.key]
        with transaction.atomic():
            if sent.state == ChainIntent.State.FINAL:
                books.book_takeover_final(
                    id=row.pk, provider=row.party, cents=row.cents, now=now,
                    reference=bytes.fromhex(str(sent.tx_hash).removeprefix("0x")),
                )  # fmt: skip
                card.end(row, State.DONE, now)
            else:
                books.book_takeover_failed(id=row.pk, provider=row.party, cents=row.cents, now=now)
                card.end(row, State.FAILED, now, reason=f"The coins did not move: {sent.revert_reason}")
    return len(ended)


# -- transfers --------------------------------------------------------------------------------------------------------
def _ask_transfer(c: Any, intent: CardIntent, key: str) -> Any:
    account = BankAccount.objects.get(party=intent.party)
    params = {
        "amount": intent.cents, "currency": "usd", "destination": account.processor_id,
        "transfer_group": str(intent.pk), "metadata": {"intent": str(intent.pk)},
    }  # fmt: skip
    return c.transfers.create(params=params, options={"idempotency_key": key})


def _look_for_transfer(intent: CardIntent) -> Any | None:
    made = ask(lambda c: c.transfers.list(params={"transfer_group": str(intent.pk), "limit": PAGE}))
    return next(iter(made.data), None)


def sync_transfer(id: str, now: datetime) -> None:
    """Book that a transfer left, and what was taken back of it."""
    transfer = ask(lambda c: c.transfers.retrieve(id, params={"expand": ["balance_transaction"]}))
    params = {"limit": PAGE, "expand": ["data.balance_transaction"]}
    reversals = ask(lambda c: list(c.transfers.reversals.list(id, params=params).auto_paging_iter()))
    intent, line = _payout_of(transfer), transfer.balance_transaction
    if line is None or any(each.balance_transaction is None for each in reversals):
        raise NotSettledYet("The processor has not written this transfer's balance line yet.", transfer=id)
    assert intent.scope is not None, "a payout is of a node class"
    whose: dict[str, Any] = {"provider": intent.party, "node_class": intent.scope, "now": now}
    with transaction.atomic():
        lock_ledger(USD2_LEDGER)
        books.book_bank_payout(hold_id=intent.pk, cents=transfer.amount, line=line.id, **whose)
        for each in reversals:
            books.book_payout_reversed(cents=each.amount, line=each.balance_transaction.id, **whose)
        faults.point("connect.booked")
        CardIntent.objects.filter(pk=intent.pk).update(reversed_cents=sum(each.amount for each in reversals))
        card.end(intent, State.DONE, now, processor_id=id)
    for each in (line, *(each.balance_transaction for each in reversals)):
        card.book_fee(each, now)


def _payout_of(transfer: Any) -> CardIntent:
    """Return the intent of a transfer. Raises PaymentUnknown for one that is none of ours or not what was asked."""
    intent = card.named_in(transfer.metadata, Kind.PAYOUT)
    if intent is None or intent.processor_id not in (None, transfer.id):
        raise PaymentUnknown("No payout of ours asked for this transfer.", transfer=transfer.id)
    account = BankAccount.objects.get(party=intent.party).processor_id
    if (transfer.amount, transfer.currency, transfer.destination) != (intent.cents, "usd", account):
        raise PaymentUnknown("This transfer is not what was asked for.", transfer=transfer.id, cents=transfer.amount)
    return intent


def sync_reversal(id: str, now: datetime) -> None:
    """Book a reversal that only its balance line told us of."""
    params = {"source": id, "expand": ["data.source"]}
    lines = ask(lambda c: c.balance_transactions.list(params=params))
    for line in lines.data:
        sync_transfer(str(line.source.transfer), now)


card.WORKS[Kind.PAYOUT] = Work(_ask_transfer, _look_for_transfer)
card.OBJECT_OF[Kind.PAYOUT] = "transfer"
card.RELEASES[Kind.PAYOUT] = books.void_bank_payout
card.SYNCS |= {"account": sync_account, "transfer": sync_transfer, "transfer_reversal": sync_reversal}


# -- what webhooks and jobs may have missed ---------------------------------------------------------------------------
def sweep(*, now: datetime) -> int:
    """Read accounts anew, see to coins on their way, and pay what waits. Returns how much came to an end or set out.

    Nothing here is needed while webhooks arrive and jobs succeed.
    """
    card.revive(ACCOUNT_JOB, now)
    old = Q(read_at=None) | Q(read_at__lte=now - READ_AGAIN) | ~Q(state=BankAccount.State.READY)
    known = BankAccount.objects.filter(old, processor_id__isnull=False)
    for row in known.order_by(F("read_at").asc(nulls_first=True), "id")[:ACCOUNTS_AT_ONCE]:
        try:
            sync_account(str(row.processor_id), now)
        except LedgerError as error:  # one that cannot be read holds up no other
            log.warning("account %s was not read: %s", row.processor_id, error)
    ready = BankAccount.objects.filter(state=BankAccount.State.READY)
    return finish_takeovers(now=now) + _pay_what_waits(ready, now)


def _pay_what_waits(accounts: Iterable[BankAccount], now: datetime) -> int:
    """Pay coins that were never turned into dollars, and dollars whose last transfer was refused a while ago.

    Dollars that came back by a reversal wait for the next payout, or until their provider asks: somebody took them
    back on purpose.
    """
    begun = 0
    for account in accounts:
        for node_class in _waiting(account, now):
            try:
                begun += pay_out(provider=account.party, node_class=node_class, now=now) is not None
            except LedgerError as error:
                log.warning("the payout of class %s waits: %s", node_class, error)
    return begun


def _waiting(account: BankAccount, now: datetime) -> list[UUID]:
    party, found = account.party, []
    if account.is_chosen:
        found = [
            scope for scope in _scopes(party, USDC6_LEDGER, "provider.custody")
            if books.free_minor(ledger=USDC6_LEDGER, code="provider.custody", party=party, scope=scope)
            >= MICROS_PER_CENT
        ]  # fmt: skip
    for scope in _scopes(party, USD2_LEDGER, "provider.payable"):
        tried = CardIntent.objects.filter(kind=Kind.PAYOUT, party=party, scope=scope)
        last = tried.order_by("-created_at", "-id").first()
        if last is None or last.state != State.FAILED or last.ended_at is None:
            continue
        if last.ended_at <= now - TRY_AGAIN and scope not in found:
            found.append(scope)
    return found
