"""Card money of buyers: paid on the processor's page, then brought into escrow by us out of the Foundation's float."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from ledger.errors import InsufficientFunds
from ledger.models import Account, CardIntent, ChainIntent
from ledger.rails import card, sender
from ledger.rails.errors import CardCapReached, IntentReused
from ledger.rails.evm import chain
from ledger.rails.signer import signer
from ledger.rails.stripe import is_offered
from ledger.selectors import spendable
from ledger.services import USD2_LEDGER
from ledger.tasks import enqueue
from marketplace.catalogue.limits import require_whole
from marketplace.errors import BadInput, NotFunded, PhaseClosed, ReferenceReused
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.onchain import ensure_address

MICROS_PER_CENT = 10_000
FLOAT_MICROS = 10**11  # the demo's float: a hundred thousand test dollars
CARD_MIN_MICROS = card.DEPOSIT_CENTS_MIN * MICROS_PER_CENT
SHOWN = 5


@transaction.atomic
def start_card_deposit(
    *, party: Party, amount_micros: int, key: str, return_url: str, seat: Seat | None = None, now: datetime
) -> CardIntent:
    """Ask for a payment page on which a buyer pays by card; `key` makes it one act.

    The money is the buyer's when the processor says that the payment succeeded. Raises BadInput with the room that is
    left under the party's cap, ReferenceReused.
    """
    require_seat(seat, party, "fund", "deposit money")
    if not is_offered():
        raise PhaseClosed("Cards are not taken here; deposit your own stablecoin into the escrow contract.")
    if not party.is_buyer:
        raise BadInput("Only buyers deposit into escrow.", field="party")
    if require_whole(amount_micros, field="amount_micros") % MICROS_PER_CENT:
        raise BadInput("A card is charged whole cents.", field="amount_micros")
    if amount_micros < CARD_MIN_MICROS:
        raise BadInput("A card is charged 50 cents at least.", field="amount_micros", least_micros=CARD_MIN_MICROS)
    ensure_address(party=party)
    intent_key = _key(party, key)
    is_new = not CardIntent.objects.filter(key=intent_key).exists()
    try:
        intent = card.open_deposit(
            key=intent_key, party=party.pk, cents=amount_micros // MICROS_PER_CENT, return_url=return_url, now=now
        )
    except CardCapReached as error:
        room_micros = error.facts["room_cents"] * MICROS_PER_CENT
        raise BadInput(
            f"By card you may have at most ${settings.CARD_CAP_CENTS / 100:,.2f} that could still be disputed; "
            f"${room_micros / 1_000_000:,.2f} is left.", field="amount_micros", most_micros=room_micros,
        ) from error  # fmt: skip
    except IntentReused as error:
        raise ReferenceReused("This key names another deposit of yours.", field="key") from error
    if is_new:
        record(actor=party.slug, action="card_deposit", subject=party.slug, reason="deposit by card", now=now,
               amount_micros=amount_micros)  # fmt: skip
    return intent


@transaction.atomic
def return_to_card(
    *, party: Party, deposit: CardIntent, key: str, seat: Seat | None = None, now: datetime
) -> CardIntent:
    """Send what is left of a card deposit back to its card; money that is in escrow already stays there.

    Raises NotFunded when nothing is left.
    """
    require_seat(seat, party, "fund", "send money back to a card")
    intent_key = _key(party, key)
    known = CardIntent.objects.filter(key=intent_key).first()
    if known is not None:
        return known
    cents = refundable_cents(party, deposit)
    try:
        if cents < 1:
            raise NotFunded("Nothing of this deposit is left to send back.", available_micros=0)
        intent = card.ask_refund(key=intent_key, deposit=deposit, cents=cents, now=now)
    except InsufficientFunds as error:
        raise NotFunded("Nothing of this deposit is left to send back.", available_micros=0) from error
    record(actor=party.slug, action="card_refund", subject=party.slug, reason="back to the card", now=now,
           amount_micros=cents * MICROS_PER_CENT)  # fmt: skip
    return intent


def refundable_cents(party: Party, deposit: CardIntent) -> int:
    """Return how much of a paid deposit can go back to its card."""
    if deposit.kind != "deposit" or deposit.state != "done" or deposit.party != party.pk:
        return 0
    refunds = deposit.children.filter(kind="refund").exclude(state="failed")
    returned = refunds.aggregate(cents=Sum("cents"))["cents"] or 0
    free = spendable(code="buyer.available", party=party.pk, ledger=USD2_LEDGER).minor
    return max(0, min(deposit.cents - returned, free))


@dataclass(frozen=True)
class CardMoney:
    """A buyer's card money in micro-USD: paid and not in escrow yet, and owed after a dispute; the last deposits."""

    waiting_micros: int
    owed_micros: int
    deposits: list[tuple[CardIntent, str]]


def card_money_of(party: Party) -> CardMoney:
    """Return what a buyer has and owes by card, and the last deposits with the key of their pages."""
    prefix = _key(party, "")
    rows = CardIntent.objects.filter(party=party.pk, kind="deposit").order_by("-created_at", "-id")[:SHOWN]
    accounts = Account.objects.filter(ledger_id=USD2_LEDGER, party=party.pk)
    cents = {account.code: account.balance_minor for account in accounts}
    return CardMoney(
        waiting_micros=cents.get("buyer.available", 0) * MICROS_PER_CENT,
        owed_micros=cents.get("buyer.receivable", 0) * MICROS_PER_CENT,
        deposits=[(row, row.key.removeprefix(prefix)) for row in rows],
    )  # fmt: skip


@dataclass(frozen=True)
class CardDeposit:
    """One deposit as its page shows it. `step` counts from 0: asked for, page ready, paid, in escrow."""

    intent: CardIntent
    exchange: CardIntent | None
    refunds: list[CardIntent]
    refundable_micros: int

    @property
    def amount_micros(self) -> int:
        return self.intent.cents * MICROS_PER_CENT

    @property
    def step(self) -> int:
        if self.exchange is not None and self.exchange.state == "done":
            return 3
        return {"queued": 0, "open": 1, "done": 2, "failed": 0}[self.intent.state]

    @property
    def is_moving(self) -> bool:
        """Say whether the page has to look again by itself."""
        return self.intent.state in ("queued", "open") or (self.intent.state == "done" and self.step < 3)


def find_card_deposit(party: Party, key: UUID) -> CardDeposit | None:
    """Return a buyer's own card deposit, or None."""
    intent = CardIntent.objects.filter(key=_key(party, str(key)), party=party.pk, kind="deposit").first()
    if intent is None:
        return None
    children = list(intent.children.order_by("created_at", "id"))
    return CardDeposit(
        intent=intent, exchange=next((each for each in children if each.kind == "exchange"), None),
        refunds=[each for each in children if each.kind == "refund"],
        refundable_micros=refundable_cents(party, intent) * MICROS_PER_CENT,
    )  # fmt: skip


@transaction.atomic
def ensure_float(*, now: datetime) -> ChainIntent:
    """Give the demo's Foundation test coins to lend to card buyers; again does nothing."""
    intent = sender.submit(
        key="float:1:mint", role="faucet", contract="token", function="mint",
        args=[signer().address("custody"), FLOAT_MICROS], now=now,
    )  # fmt: skip
    sender.submit(
        key="custody:approve:escrow", role="custody", contract="token", function="approve",
        args=[chain().address("escrow"), 2**256 - 1], now=now,
    )  # fmt: skip
    enqueue(kind=card.FLOAT_JOB, payload={"intent_key": intent.key, "micros": FLOAT_MICROS}, dedupe_key="card.float:1")
    return intent


def _key(party: Party, key: str) -> str:
    return f"card:{party.slug}:{key}"
