"""kill -9 at each fault point of the card rail: jobs run again, books equal processor and chain, nothing is doubled.

A forked child works with the same database and the same sandbox process and is killed at the first place; minutes
later the next one takes over and is killed at the next place, and so on until nothing is left to be killed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from ledger import faults, tasks
from ledger.models import BankAccount, CardIntent, ChainAddress, ChainContract, ChainIntent
from ledger.rails import card, connect, deploy, evm, indexer, sender, stripe
from ledger.rails.signer import signer
from ledger.reconcile import check_books
from ledger.selectors import balance, reserved
from ledger.services import USD2_LEDGER
from tests.crash.test_crash import in_a_child
from tests.rails.bank_desk import CAPITAL_CENTS, EARNED_MICROS, BankDesk
from tests.rails.card_desk import BUYER, Desk
from tests.rails.conftest import (  # noqa: F401  fixtures
    clock,
    desk,
    keys,
    keys_home,
    minor,
    processor,
    sandbox_process,
    shared_chain,
    transactional_db,
)
from tests.rails.test_story import CLASS_ID, PROVIDER, Market

CENT = 10_000
CENTS, REST_MICROS = divmod(EARNED_MICROS, CENT)
FLOAT = 8_000 * CENT
# In the order in which the work comes to them.
ASKING = ("card.sent", "card.confirmed", "outbox.run.before_commit", "outbox.run.after_commit")
BOOKING = ("ledger.post.before", "ledger.post.after", "card.booked", "outbox.run.before_commit",
           "outbox.run.after_commit")  # fmt: skip
SENDING = ("sender.before_commit", "sender.signed", "sender.looked_up")


def killed_at_each(points: tuple[str, ...], work: Callable[[], object], at: Desk) -> None:
    """Let one child after the other work until it reaches its point, and die there; then let the work be finished."""
    for point in points:

        def die(point: str = point) -> None:
            with faults.armed(point, "kill"):
                work()

        stripe._open.clear()  # parent and child must not speak over one connection
        assert in_a_child(die) == -signal.SIGKILL, f"{point} was never reached"
        assert [found for found in check_books() if not found.ok] == [], point  # whole between any two moments
        at.clock.forward(minutes=11)  # the dead worker's lease runs out
    for _ in range(3):
        work()
        at.clock.forward(minutes=11)


def look_after(at: Desk) -> None:
    """What workers and the beat do, without a chain. News that a dead worker had taken in hand is lost."""
    at.deliver()
    card.sweep(now=at.clock.now)
    connect.sweep(now=at.clock.now)
    at.work()


def turn(at: Desk) -> None:
    """The same with a chain."""
    indexer.index(now=at.clock.now)
    look_after(at)
    sender.pump(now=at.clock.now)
    indexer.index(now=at.clock.now)


# -- without a chain --------------------------------------------------------------------------------------------------
def test_a_deposit_killed_everywhere_is_credited_once(desk: Desk) -> None:  # noqa: F811
    card.open_deposit(key="k", party=BUYER, cents=5000, return_url="http://x/", now=desk.clock.now)
    killed_at_each(ASKING, desk.work, desk)
    intent = CardIntent.objects.get()
    assert len(stripe.ask(lambda c: c.checkout.sessions.list()).data) == 1
    desk.processor.pay(intent.url)
    desk.receive(desk.processor.held())

    killed_at_each(BOOKING, desk.work, desk)

    intent.refresh_from_db()
    assert (intent.state, desk.has(), desk.clearing(), desk.reconcile()) == ("done", 5000, 5000, [])


def test_a_refund_killed_everywhere_goes_back_once(desk: Desk) -> None:  # noqa: F811
    deposit = desk.paid(5000)
    card.ask_refund(key="r", deposit=deposit, cents=2000, now=desk.clock.now)

    killed_at_each(ASKING[:2], lambda: desk.work(), desk)
    another = card.ask_refund(key="s", deposit=deposit, cents=500, now=desk.clock.now)
    points = ("card.sent", "ledger.post.before", "ledger.post.after", *ASKING[2:])
    killed_at_each(points, lambda: look_after(desk), desk)

    assert set(CardIntent.objects.filter(kind="refund").values_list("state", flat=True)) == {"done"}
    assert (desk.has(), desk.clearing(), desk.reconcile()) == (2500, 2500, [])
    made = stripe.ask(lambda c: c.refunds.list()).data
    assert sorted(refund.amount for refund in made) == [another.cents, 2000]
    assert reserved(code="buyer.available", ledger=USD2_LEDGER).minor == 0


def test_a_worker_killed_before_its_further_key_is_kept_refunds_once(desk: Desk) -> None:  # noqa: F811
    deposit = desk.paid(5000)
    desk.processor.behave(hold=1, fail_before=1)
    card.ask_refund(key="r", deposit=deposit, cents=2000, now=desk.clock.now)
    desk.work()
    desk.clock.forward(minutes=2)

    killed_at_each(("card.proven_not_made",), desk.work, desk)

    assert (CardIntent.objects.get(kind="refund").attempt, desk.has(), desk.reconcile()) == (1, 3000, [])
    assert len(stripe.ask(lambda c: c.refunds.list()).data) == 1


def test_an_account_killed_everywhere_is_made_once(desk: Desk, keys) -> None:  # noqa: F811
    connect.choose_bank(party=PROVIDER, country="DE", wallet="0x1", return_url="http://x/", now=desk.clock.now)

    points = ("connect.account.made", "connect.account.read", "outbox.run.before_commit", "outbox.run.after_commit")
    killed_at_each(points, desk.work, desk)

    assert len(stripe.ask(lambda c: c.accounts.list()).data) == 1
    row = BankAccount.objects.get()
    assert (row.state, bool(row.link_url)) == ("open", True)


# -- with a chain that the children share -----------------------------------------------------------------------------
@pytest.fixture
def with_chain(desk: Desk, shared_chain) -> Iterator[Desk]:  # noqa: F811
    deploy.ensure_deployed(desk.clock.now)
    yield desk
    evm.close_all()


def test_an_exchange_killed_everywhere_moves_the_money_once(with_chain: Desk, settings) -> None:
    settings.CARD_DELAY_HOURS = 0
    lend(with_chain)
    intent = with_chain.deposit(5000)
    with_chain.processor.pay(intent.url)
    with_chain.receive(with_chain.processor.held())

    points = (
        *BOOKING, *SENDING, "sender.broadcast", "indexer.kept", "ledger.post.after", "indexer.before_commit",
        "sender.before_resolve",
    )  # fmt: skip
    killed_at_each(points, lambda: turn(with_chain), with_chain)

    assert (with_chain.has(), minor("buyer.available", BUYER)) == (0, 5000 * CENT)
    assert (minor("chain.clearing"), minor("chain.escrow"), minor("foundation.capital")) == (
        0, 5000 * CENT, FLOAT - 5000 * CENT)  # fmt: skip
    assert ChainIntent.objects.filter(key__startswith=card.EXCHANGE_KEY).count() == 1
    assert with_chain.reconcile() == []


def lend(at: Desk) -> None:
    """Give the Foundation coins to lend to card buyers, and the buyer an address."""
    ChainAddress.objects.create(address=signer().address(f"buyer:{BUYER}"), party=BUYER, role="buyer")
    escrow, now = ChainContract.objects.get(name="escrow").address, at.clock.now
    mint = sender.submit(key="float", role="faucet", contract="token", function="mint",
                         args=[signer().address("custody"), FLOAT], now=now)  # fmt: skip
    sender.submit(key="approve", role="custody", contract="token", function="approve", args=[escrow, 2**255], now=now)
    turn(at)
    tasks.enqueue(kind="card.float", payload={"intent_key": mint.key, "micros": FLOAT}, dedupe_key="float")
    at.work()
    assert minor("foundation.capital") == FLOAT


def test_a_payout_killed_everywhere_reaches_the_bank_once(with_chain: Desk, shared_chain) -> None:  # noqa: F811
    bank = BankDesk(Market(shared_chain, with_chain.clock), with_chain)
    bank.earn()
    bank.top_up()
    bank.ready()
    bank.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    sender.pump(now=bank.now)

    points = (
        "indexer.kept", "indexer.before_commit", "ledger.post.before", "ledger.post.after", "connect.reserved",
        "outbox.run.before_commit", "outbox.run.after_commit", "card.sent", "card.confirmed", "connect.booked",
        *SENDING, "sender.marked_sent", "sender.before_resolve",
    )  # fmt: skip
    killed_at_each(points, lambda: turn(with_chain), with_chain)

    assert [transfer.amount for transfer in bank.transfers()] == [CENTS]
    assert (bank.payout().state, bank.owed_cents(), bank.custody_micros()) == ("done", 0, REST_MICROS)
    assert (minor("chain.clearing"), minor("chain.wallet", scope=connect.books.CUSTODY_WALLET)) == (0, CENTS * CENT)
    assert list(CardIntent.objects.filter(kind="takeover").values_list("cents", "state")) == [(CENTS, "done")]
    assert reserved(code="provider.payable", ledger=USD2_LEDGER).minor == 0
    assert balance(code="foundation.capital", ledger=USD2_LEDGER).minor == CAPITAL_CENTS - CENTS
    assert (bank.agreed(), bank.desk.reconcile()) == (True, [])
