"""A provider's choice where payouts go: coins in its wallet, or dollars to its bank through the card processor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from ledger.errors import LedgerHalted
from ledger.models import Account, BankAccount, CardIntent
from ledger.rails import connect
from ledger.rails.stripe import is_offered
from ledger.selectors import balance
from ledger.services import USD2_LEDGER
from marketplace.errors import BadInput, PhaseClosed, TooLate
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.models import NodeClass
from marketplace.supply.onchain import ensure_address

MICROS_PER_CENT = 10_000
SHOWN = 20
LOOKS_ON = timedelta(minutes=10)  # so long after its link ended the page asks by itself how the account stands
STANDING = "Payouts stand still until a difference in the books is cleared. Try again then."


@transaction.atomic
def choose_bank(*, party: Party, return_url: str, seat: Seat | None = None, now: datetime) -> BankAccount:
    """Send a provider's future payouts to its bank, and ask for a link to the page for its details.

    Again asks for a new link. Raises PhaseClosed where no card processor is set, BadInput when the provider's node
    classes are registered to an address that we do not keep: what escrow pays there could not be paid on.
    """
    require_seat(seat, party, "money", "choose where payouts go")
    if not is_offered():
        raise PhaseClosed("Payouts to a bank are not offered here; payouts go to your wallet.")
    if not party.is_provider:
        raise BadInput("Only providers are paid out.", field="party")
    kept = ensure_address(party=party)
    if party.chain_address != kept:
        raise BadInput(
            "Your node classes are registered to a wallet of your own. Escrow pays there and nowhere else, so these "
            "payouts cannot go to a bank.", field="party",
        )  # fmt: skip
    before = BankAccount.objects.filter(party=party.pk).first()
    account = connect.choose_bank(party=party.pk, country=party.country, wallet=kept, return_url=return_url, now=now)
    if before is None or not before.is_chosen:
        record(actor=party.slug, action="payout_to_bank", subject=party.slug, reason="chosen by the provider", now=now,
               account=account.pk, wallet=kept)  # fmt: skip
    return account


@transaction.atomic
def choose_wallet(*, party: Party, seat: Seat | None = None, now: datetime) -> None:
    """Leave a provider's future payouts in its wallet; also what lies there and is not turned into dollars yet.

    Raises PhaseClosed while payouts stand still.
    """
    require_seat(seat, party, "money", "choose where payouts go")
    account = BankAccount.objects.filter(party=party.pk, is_chosen=True).first()
    if account is None:
        return
    left_micros = balance(code="provider.custody", party=party.pk).minor
    try:
        connect.choose_wallet(party=party.pk, now=now)
    except LedgerHalted as halted:
        raise PhaseClosed(STANDING) from halted
    record(actor=party.slug, action="payout_to_wallet", subject=party.slug, reason="chosen by the provider", now=now,
           account=account.pk, left_in_wallet_micros=left_micros)  # fmt: skip


@transaction.atomic
def pay_now(*, party: Party, seat: Seat | None = None, now: datetime) -> int:
    """Transfer the dollars that wait, after a refusal or a reversal; returns how many transfers were begun.

    Raises TooLate when nothing can be paid now, PhaseClosed while payouts stand still.
    """
    require_seat(seat, party, "money", "ask for transfers")
    account = BankAccount.objects.filter(party=party.pk).first()
    if account is None or account.state != BankAccount.State.READY:
        raise TooLate("Your bank account is not ready at the card processor; its state is shown here.")
    try:
        begun = [connect.pay_out(provider=party.pk, node_class=row, now=now) for row in _classes_with_money(party)]
    except LedgerHalted as halted:
        raise PhaseClosed(STANDING) from halted
    made = [intent for intent in begun if intent is not None]
    if not made:
        raise TooLate("Nothing waits for a transfer now, or it waits for dollars of the Foundation.")
    record(actor=party.slug, action="payout_now", subject=party.slug, reason="asked for by the provider", now=now,
           transfers=len(made), cents=sum(intent.cents for intent in made))  # fmt: skip
    return len(made)


def _classes_with_money(party: Party) -> list[UUID]:
    waiting = Account.objects.filter(party=party.pk).filter(code__in=("provider.custody", "provider.payable"))
    scopes = {row.scope for row in waiting if row.code == "provider.custody" or row.ledger_id == USD2_LEDGER}
    return sorted(scope for scope in scopes if scope is not None)


def waits_for_bank(party_ids: list[UUID]) -> set[UUID]:
    """Return which of these providers chose a bank whose account is not ready: their payouts stay in escrow."""
    waiting = BankAccount.objects.filter(party__in=party_ids, is_chosen=True).exclude(state=BankAccount.State.READY)
    return set(waiting.values_list("party", flat=True))


# -- what the pages show -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BankPayout:
    """One transfer as its provider sees it: `state` is asked, sent, refused, reversed or part_reversed."""

    intent: CardIntent
    node_class: NodeClass | None

    @property
    def amount_micros(self) -> int:
        return self.intent.cents * MICROS_PER_CENT

    @property
    def reversed_micros(self) -> int:
        return self.intent.reversed_cents * MICROS_PER_CENT

    @property
    def state(self) -> str:
        if self.intent.reversed_cents:
            return "reversed" if self.intent.reversed_cents == self.intent.cents else "part_reversed"
        return {"queued": "asked", "open": "asked", "done": "sent", "failed": "refused"}[self.intent.state]


@dataclass(frozen=True)
class BankPage:
    """Where a provider's payouts go, how its account stands, and its transfers. `step` is the account's state."""

    account: BankAccount | None
    link: str
    payouts: list[BankPayout]
    coins_micros: int
    dollars_micros: int
    now: datetime

    @property
    def is_chosen(self) -> bool:
        return self.account is not None and self.account.is_chosen

    @property
    def step(self) -> str:
        return str(self.account.state) if self.account is not None else "none"

    @property
    def is_link_coming(self) -> bool:
        return self.account is not None and self.account.link_expires_at is None and self.step in ("queued", "open")

    @property
    def is_moving(self) -> bool:
        """Say whether the page has to look again by itself: something is asked for, or the holder was away."""
        ends = self.account.link_expires_at if self.account is not None and self.step == "open" else None
        return self.is_link_coming or (ends is not None and self.now < ends + LOOKS_ON)

    @property
    def reason(self) -> str:
        return REASONS.get(self.account.reason, self.account.reason) if self.account is not None else ""

    @property
    def missing(self) -> list[str]:
        names = self.account.missing if self.account is not None else []
        return [name.replace("_", " ").replace(".", ", ") for name in names]


# The processor's codes in words; one that is not here is shown as it is.
REASONS = {
    "requirements.past_due": "details that the processor asked for are overdue",
    "requirements.pending_verification": "the processor is checking the details",
    "under_review": "the processor is looking at the account",
    "listed": "the processor is checking a name against lists of prohibited persons",
    "rejected.fraud": "the processor rejected the account on suspicion of fraud",
    "rejected.terms_of_service": "the processor rejected the account under its terms of service",
    "rejected.listed": "the processor rejected the account: a name is on a list of prohibited persons",
    "rejected.other": "the processor rejected the account",
    "platform_paused": "the account was paused by the market",
}


def bank_page_of(party: Party, now: datetime) -> BankPage:
    """Return what a provider's page of payouts shows."""
    account = BankAccount.objects.filter(party=party.pk).first()
    rows = CardIntent.objects.filter(party=party.pk, kind="payout").order_by("-created_at", "-id")[:SHOWN]
    classes = {row.pk: row for row in NodeClass.objects.filter(party=party)}
    return BankPage(
        account=account, link=connect.live_link(account, now) if account is not None else "",
        payouts=[BankPayout(row, classes.get(row.scope)) for row in rows],
        coins_micros=balance(code="provider.custody", party=party.pk).minor,
        dollars_micros=balance(code="provider.payable", party=party.pk, ledger=USD2_LEDGER).minor * MICROS_PER_CENT,
        now=now,
    )  # fmt: skip
