"""Random lives of card payments and bank payouts, told doubled, out of order, late or never: books equal sandbox."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from ledger.errors import InsufficientFunds
from ledger.ids import uuid7, uuid_from
from ledger.models import BankAccount, CardIntent, Outbox, Transfer
from ledger.rails import card, connect, stripe
from ledger.selectors import balance, reserved, spendable
from ledger.services import USD2_LEDGER, Posting, account, post_transfers
from tests.rails.card_desk import Desk, spend
from tests.rails.processor import DECLINED, DISPUTED, GOOD

RECONCILED_EVERY = 50


@dataclass
class Life:
    """What happens to one buyer, drawn from one seed, and what the sandbox says the buyer is then worth."""

    desk: Desk
    rng: random.Random
    deposits: list[CardIntent] = field(default_factory=list)
    spent: int = 0
    earned: int = 0

    def live(self) -> None:
        for _ in range(self.rng.randint(1, 2)):
            self.begin()
        acts = [self.refund, self.dispute, self.answer, self.bank, self.tell, self.spend, self.earn, self.earn,
                self.disable, self.reverse]  # fmt: skip
        for _ in range(self.rng.randint(2, 7)):
            self.rng.choice(acts)()
        self.tell()

    def begin(self) -> None:
        deposit = self.desk.deposit(self.rng.randint(50, 4000))
        self.deposits.append(deposit)
        if not deposit.url or self.rng.random() < 0.1:
            return  # nobody pays
        if self.rng.random() < 0.2:
            self.desk.processor.pay(deposit.url, DECLINED)
        if self.rng.random() < 0.25:
            self.misbehave(fail_after=1)
        self.desk.processor.pay(deposit.url, self.rng.choice([GOOD, GOOD, GOOD, DISPUTED]))
        self.misbehave()

    def misbehave(self, **how: int) -> None:
        self.desk.processor.behave(hold=1, refunds_wait=self.rng.randint(0, 1), duplicate=self.rng.randint(0, 2), **how)

    def refund(self) -> None:
        deposit = self.rng.choice(self.deposits)
        deposit.refresh_from_db()
        if deposit.payment_id is None:
            return
        if self.rng.random() < 0.3:
            self.misbehave(fail_after=1)
        with suppress(InsufficientFunds):
            self.desk.refund(deposit, self.rng.randint(1, deposit.cents))
        self.misbehave()

    def dispute(self) -> None:
        charges = [c for c in self.theirs("charges") if c["paid"] and not c["disputed"]]
        if charges:
            charge = self.rng.choice(charges)
            room = charge["amount"] - charge["amount_refunded"]
            if room:
                self.desk.processor.dispute(charge["id"], self.rng.randint(1, room))

    def answer(self) -> None:
        for dispute in self.theirs("disputes"):
            if dispute["status"] == "needs_response":
                words = self.rng.choice(["winning_evidence", "losing_evidence"])
                form = {"evidence[uncategorized_text]": words}
                self.desk.processor.request("POST", f"/v1/disputes/{dispute['id']}", form)

    def spend(self) -> None:
        free = spendable(code="buyer.available", party=self.desk.party, ledger=USD2_LEDGER).minor
        if free:
            cents = self.rng.randint(1, free)
            spend(self.desk, cents)
            self.spent += cents

    def bank(self) -> None:
        for refund in self.theirs("refunds"):
            self.desk.processor.end_refund(refund["id"], self.rng.choice(["arrive", "fail"]))

    # -- the same party as a provider that is paid to its bank
    def earn(self) -> None:
        """Be owed dollars and have their transfer asked for; sometimes the processor breaks, or does not want to."""
        self.open()
        free = spendable(code="foundation.capital", ledger=USD2_LEDGER).minor
        if free < 1:
            return
        cents = self.rng.randint(1, min(free, 3000))
        self.owe(cents)
        self.earned += cents
        if self.rng.random() < 0.4:
            self.misbehave(**{self.rng.choice(["fail_after", "fail_before"]): 1})
        connect.pay_out(provider=self.desk.party, node_class=self.scope, now=self.desk.clock.now)
        self.desk.work()
        self.misbehave()

    def owe(self, cents: int) -> None:
        """Let the party be owed dollars as a takeover leaves it, without a chain."""
        owed = account(ledger=USD2_LEDGER, code="provider.payable", party=self.desk.party, scope=self.scope)
        ends = account(ledger=USD2_LEDGER, code="foundation.capital"), owed
        posting = Posting(uuid7(self.desk.clock.now), *ends, cents, "posted", 650, "organic")
        post_transfers(ledger=USD2_LEDGER, postings=[posting], now=self.desk.clock.now)

    @property
    def scope(self) -> UUID:
        return uuid_from("class", self.desk.party)

    def open(self) -> None:
        """Have an account that is ready, however the news of it goes."""
        row = BankAccount.objects.filter(party=self.desk.party).first()
        if row is None:
            connect.choose_bank(party=self.desk.party, country="DE", wallet="0x1", return_url="http://x/",
                                now=self.desk.clock.now)  # fmt: skip
            self.desk.work()
            row = BankAccount.objects.get(party=self.desk.party)
        if row.processor_id:
            self.desk.processor.request("POST", f"/_sandbox/accounts/{row.processor_id}/enable")
            connect.sync_account(row.processor_id, self.desk.clock.now)

    def disable(self) -> None:
        """The processor stops the account, and we may not hear of it before the next transfer."""
        row = BankAccount.objects.filter(party=self.desk.party).exclude(processor_id=None).first()
        if row is not None:
            self.desk.processor.request("POST", f"/_sandbox/accounts/{row.processor_id}/disable")
            if self.rng.random() < 0.5:
                self.owed_under_a_hold()

    def owed_under_a_hold(self) -> None:
        """A transfer that the account can no longer take: asked for and refused."""
        free = spendable(code="foundation.capital", ledger=USD2_LEDGER).minor
        if free >= 100:
            self.owe(100)
            self.earned += 100
            connect.pay_out(provider=self.desk.party, node_class=self.scope, now=self.desk.clock.now)
            self.desk.work()

    def transfers(self) -> list[dict]:
        row = BankAccount.objects.filter(party=self.desk.party).exclude(processor_id=None).first()
        listed = f"/v1/transfers?limit=100&destination={row.processor_id}" if row is not None else ""
        return self.desk.processor.request("GET", listed)[1]["data"] if listed else []

    def reverse(self) -> None:
        for transfer in self.transfers():
            room = transfer["amount"] - transfer["amount_reversed"]
            if room:
                form = {"amount": self.rng.randint(1, room)}
                self.desk.processor.request("POST", f"/v1/transfers/{transfer['id']}/reversals", form)

    def tell(self) -> None:
        """Deliver what the sandbox has to say as badly as a network can."""
        webhooks = self.desk.processor.held()
        kept = [webhook for webhook in webhooks for _ in range(self.rng.choice([0, 1, 1, 2, 5]))]
        self.rng.shuffle(kept)
        self.desk.receive(kept)
        self.desk.work()

    def theirs(self, kind: str) -> list[dict]:
        """What the sandbox has of this buyer's payments."""
        found = []
        for deposit in self.deposits:
            session = self.desk.processor.request("GET", f"/v1/checkout/sessions/{deposit.processor_id}")[1]
            if session.get("payment_intent"):
                listed = f"/v1/{kind}?limit=100&payment_intent={session['payment_intent']}"
                found += self.desk.processor.request("GET", listed)[1]["data"]
        return found


def worth_cents(life: Life) -> int:
    """What the balance lines of this buyer's payments come to, read at the sandbox alone."""
    sources = [row["id"] for kind in ("charges", "refunds", "disputes") for row in life.theirs(kind)]
    return sum(
        line["net"]
        for source in sources
        for line in life.desk.processor.request("GET", f"/v1/balance_transactions?limit=100&source={source}")[1]["data"]
    )


def received_cents(life: Life) -> int:
    """What a provider's bank got and kept, read at the sandbox alone."""
    return sum(each["amount"] - each["amount_reversed"] for each in life.transfers())


def run_sequences(desk: Desk, seeds: range) -> dict[str, int]:
    """Live every seed's life; afterwards the books are compared, per party and in total."""
    params = {"amount": 1_000 * len(seeds), "currency": "usd", "description": "float", "statement_descriptor": "x"}
    stripe.ask(lambda c: c.topups.create(params=params))
    desk.deliver()
    lives = []
    for seed in seeds:
        life = Life(replace(desk, party=UUID(int=10_000 + seed)), random.Random(seed))
        life.live()
        lives.append(life)
        if len(lives) % RECONCILED_EVERY == 0:
            settle(desk)
    settle(desk)
    for life, seed in zip(lives, seeds, strict=True):
        books = life.desk.has() - life.desk.has("buyer.receivable") + life.spent
        assert books == worth_cents(life), f"seed {seed}"
        owed = balance(code="provider.payable", party=life.desk.party, ledger=USD2_LEDGER).minor
        assert life.earned == owed + received_cents(life), f"seed {seed}"
    return verdict(desk)


def settle(desk: Desk) -> None:
    """What a quiet hour brings: put-off jobs, the sweep, the reconciler."""
    for _ in range(8):  # a 500 of which nothing came takes a minute's proof and a further key
        desk.clock.forward(minutes=11)
        desk.work()
    card.sweep(now=desk.clock.now)
    connect.sweep(now=desk.clock.now)
    desk.work()
    assert desk.reconcile() == []


def verdict(desk: Desk) -> dict[str, int]:
    lines = desk.lines()
    moved = Transfer.objects.filter(ledger=USD2_LEDGER, kind__in=["posted", "post"])
    credited = CardIntent.objects.filter(kind="deposit", state="done").count()
    succeeded = sum(line.type == "charge" for line in lines)
    events = len(stripe.ask(lambda c: list(c.events.list(params={"limit": 100}).auto_paging_iter())))
    named = {bytes(row.reference).decode() for row in moved if row.reference is not None}
    assert named == {line.id for line in lines}
    assert sum(line.net for line in lines) == desk.clearing()
    assert not Outbox.objects.filter(tries__gte=8).exists()
    for code in ("buyer.available", "provider.payable"):
        assert reserved(code=code, ledger=USD2_LEDGER).minor == 0
    paid = CardIntent.objects.filter(kind="payout", state="done").count()
    made = sum(line.type == "transfer" for line in lines)
    return {"lines": len(lines), "events": events, "payments": succeeded, "double_credits": credited - succeeded,
            "transfers": made, "double_transfers": made - paid,
            "reversals": sum(line.type == "transfer_refund" for line in lines),
            "refused": CardIntent.objects.filter(kind="payout", state="failed").count(),
            "further_keys": CardIntent.objects.filter(attempt__gte=1).count(),
            "owed_cents": balance(code="buyer.receivable", ledger=USD2_LEDGER).minor}  # fmt: skip


def test_twenty_random_lives_end_with_books_equal_to_the_sandbox(desk):
    found = run_sequences(desk, range(20, 40))  # in these, all that is asked for below happens

    print(found)
    assert (found["double_credits"], found["double_transfers"]) == (0, 0)
    assert min(found["transfers"], found["reversals"], found["refused"], found["further_keys"]) > 0


@pytest.mark.slow
def test_a_thousand_random_lives_end_with_books_equal_to_the_sandbox(desk):
    found = run_sequences(desk, range(1_000))

    print(found)
    assert (found["double_credits"], found["double_transfers"]) == (0, 0)
    assert min(found["transfers"], found["reversals"], found["refused"], found["further_keys"]) > 0
