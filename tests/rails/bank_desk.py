"""A provider that is paid to its bank: the story's market with a card desk and the sandbox behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ledger.models import BankAccount, CardIntent, ChainIntent, Outbox
from ledger.posting import USDC6_LEDGER
from ledger.rails import connect, indexer, mirror, sender, stripe
from ledger.rails.signer import signer
from ledger.reconcile import compare_when_still
from ledger.selectors import balance
from ledger.services import USD2_LEDGER
from tests.rails.card_desk import BACK, Desk
from tests.rails.conftest import START
from tests.rails.kept import Kept, go_back, keep
from tests.rails.test_story import CLASS_ID, NODE_CLASS, PROVIDER, USD, Market

CAPITAL_CENTS = 100_000
EARNING_STEPS = 12  # calls of the market
EARNED_MICROS = 273_000_120  # of gross less the fee; 120 micro-USD are less than a cent


@dataclass
class Earnings:
    """What `earn` leaves behind where nothing was before it, once a test has needed it."""

    kept: Kept | None = None


@dataclass
class BankDesk:
    """The provider, its market and the desk. Money in micro-USD or cents, as the names say."""

    market: Market
    desk: Desk
    earnings: Earnings | None = None  # None: on a chain that is not in memory nothing is kept

    @property
    def processor(self) -> Any:
        return self.desk.processor

    @property
    def now(self) -> Any:
        return self.desk.clock.now

    def earn(self) -> None:
        """Bring a provider's settled earnings into escrow, payable. From the beginning it is played once for all."""
        market, clock = self.market, self.desk.clock
        is_first = clock.now == START and not (market.steps or BankAccount.objects.exists() or Outbox.objects.exists())
        if not is_first or self.earnings is None:
            self._play()
        elif self.earnings.kept is None:
            self._play()
            assert market.steps == EARNING_STEPS
            self.earnings.kept = keep(market.chain, clock)
        else:
            go_back(self.earnings.kept, market.chain, clock)
            market.steps = EARNING_STEPS

    def _play(self) -> None:
        market = self.market
        market.fund()
        market.attest()
        market.prove(1, epoch=1)
        market.stake()
        market.turn()
        self.desk.clock.forward(days=15)
        market.prove(2, epoch=2)
        market.turn()
        market.lock()
        market.turn()
        self.desk.clock.forward(hours=2)
        market.settle(gross=280_000_123, returned=300 * USD - 280_000_123)
        market.turn()

    def top_up(self, cents: int = CAPITAL_CENTS) -> None:
        """Give the Foundation dollars at the processor."""
        params = {"amount": cents, "currency": "usd", "description": "float", "statement_descriptor": "float"}
        stripe.ask(lambda c: c.topups.create(params=params))
        self.desk.deliver()

    def choose(self, country: str = "DE") -> BankAccount:
        connect.choose_bank(
            party=PROVIDER, country=country, wallet=signer().address(f"provider:{PROVIDER}"), return_url=BACK,
            now=self.now,
        )  # fmt: skip
        self.desk.work()
        return self.account()

    def account(self) -> BankAccount:
        return BankAccount.objects.get()

    def fill_in(self) -> int:
        """Follow the link and confirm the details there; the status of what the browser sees."""
        link = urlsplit(self.account().link_url)
        status: int = self.processor.request("POST", f"{link.path}?{link.query}", {})[0]
        self.desk.deliver()
        return status

    def ready(self) -> None:
        """Choose the bank and see the account through."""
        self.choose()
        self.fill_in()
        assert self.account().state == "ready"

    def withdraw(self) -> None:
        """Escrow pays the class, and what follows from it is worked on."""
        self.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
        self.turn()

    def turn(self) -> None:
        self.desk.work()
        sender.pump(now=self.now)
        indexer.index(now=self.now)
        self.desk.deliver()

    def payout(self) -> CardIntent:
        return CardIntent.objects.filter(kind="payout").latest("created_at")

    def owed_cents(self) -> int:
        return balance(code="provider.payable", party=PROVIDER, ledger=USD2_LEDGER).minor

    def custody_micros(self) -> int:
        return balance(code="provider.custody", party=PROVIDER, scope=NODE_CLASS, ledger=USDC6_LEDGER).minor

    def transfers(self) -> list[Any]:
        return list(stripe.ask(lambda c: c.transfers.list()).data)

    def agreed(self) -> bool:
        return compare_when_still(mirror.read_words, now=self.now) == []

    def moves(self) -> list[ChainIntent]:
        return list(ChainIntent.objects.filter(key__startswith=connect.TAKEOVER_KEY))
