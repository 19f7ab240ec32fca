"""One buyer at the card rail, with the sandbox behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ledger import tasks
from ledger.chart import Code
from ledger.ids import uuid7
from ledger.models import CardIntent
from ledger.rails import card, card_books, card_jobs, stripe  # noqa: F401  the jobs register themselves
from ledger.selectors import balance
from ledger.services import USD2_LEDGER, Posting, account, post_transfers
from tests.rails.processor import GOOD, Processor

if TYPE_CHECKING:
    from tests.rails.conftest import Clock

BUYER = UUID(int=7)
BACK = "http://127.0.0.1/portal/card/"


@dataclass
class Desk:
    """One buyer at the rail, with the sandbox behind it."""

    processor: Processor
    clock: Clock
    party: UUID = BUYER
    keys: int = field(default=0)

    def key(self) -> str:
        self.keys += 1
        return f"{self.party}:{self.keys}"

    def deposit(self, cents: int = 5000, key: str = "") -> CardIntent:
        """Ask for a payment page and wait until it is there."""
        intent = card.open_deposit(
            key=key or self.key(), party=self.party, cents=cents, return_url=BACK, now=self.clock.now
        )
        self.work()
        return CardIntent.objects.get(pk=intent.pk)

    def paid(self, cents: int = 5000, with_card: str = GOOD) -> CardIntent:
        """Deposit, pay, and let every webhook arrive."""
        intent = self.deposit(cents)
        assert self.processor.pay(intent.url, with_card) == 303
        self.deliver()
        return CardIntent.objects.get(pk=intent.pk)

    def refund(self, deposit: CardIntent, cents: int, key: str = "") -> CardIntent:
        intent = card.ask_refund(key=key or self.key(), deposit=deposit, cents=cents, now=self.clock.now)
        self.work()
        return CardIntent.objects.get(pk=intent.pk)

    def receive(self, webhooks: list[tuple[bytes, str]]) -> None:
        for body, signature in webhooks:
            stripe.receive(body=body, signature=signature, now=self.clock.now)

    def deliver(self) -> None:
        self.receive(self.processor.held())
        self.work()

    def work(self) -> None:
        tasks.drain(self.clock.now)

    def reconcile(self) -> list[card_books.CardDifference]:
        return card_books.reconcile(now=self.clock.now)

    def has(self, code: str = "buyer.available") -> int:
        return balance(code=code, party=self.party, ledger=USD2_LEDGER).minor

    def clearing(self) -> int:
        return balance(code="card.clearing", ledger=USD2_LEDGER).minor

    def lines(self) -> list[Any]:
        return list(stripe.ask(lambda c: list(c.balance_transactions.list().auto_paging_iter())))


def spend(desk: Desk, cents: int) -> None:
    """Let card money leave the party as it does into escrow, without a chain."""
    ends = [account(ledger=USD2_LEDGER, code=code, party=party)
            for code, party in (("buyer.available", desk.party), ("foundation.capital", None))]  # fmt: skip
    posting = Posting(uuid7(desk.clock.now), *ends, cents, "posted", Code.CORRECTION, "organic")
    post_transfers(ledger=USD2_LEDGER, postings=[posting], now=desk.clock.now)
