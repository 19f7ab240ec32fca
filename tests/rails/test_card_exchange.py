"""Card money into escrow: two ledgers and the chain, together or not at all."""

from __future__ import annotations

import pytest

from ledger import faults, tasks
from ledger.errors import InsufficientFunds, LedgerHalted
from ledger.models import CardIntent, ChainAddress, ChainContract, ChainIntent
from ledger.rails import card, indexer, mirror, sender, stripe
from ledger.rails.signer import signer
from ledger.reconcile import compare_when_still
from ledger.selectors import balance, reserved, statement
from ledger.services import USD2_LEDGER, USDC6_LEDGER, book_exchange, book_float, halt_ledger
from tests.rails.card_desk import BUYER, Desk
from tests.rails.conftest import minor

CENT = 10_000
FLOAT = 8_000 * CENT


@pytest.fixture
def exchanging(rails, desk: Desk, settings) -> Desk:
    """A desk whose card money goes into escrow at once, with a float of 80 dollars."""
    settings.CARD_DELAY_HOURS = 0
    ChainAddress.objects.create(address=signer().address(f"buyer:{BUYER}"), party=BUYER, role="buyer")
    escrow = ChainContract.objects.get(name="escrow").address
    mint = sender.submit(key="float", role="faucet", contract="token", function="mint",
                         args=[signer().address("custody"), FLOAT], now=desk.clock.now)  # fmt: skip
    sender.submit(key="approve", role="custody", contract="token", function="approve",
                  args=[escrow, 2**256 - 1], now=desk.clock.now)  # fmt: skip
    job = {"intent_key": mint.key, "micros": FLOAT}
    tasks.enqueue(kind="card.float", payload=job, dedupe_key="float")
    desk.work()
    turn(desk)
    assert minor("foundation.capital") == 0, "nothing is booked before the coins are final"
    desk.clock.forward(seconds=10)
    desk.work()
    assert minor("foundation.capital") == FLOAT == minor("chain.wallet", scope=card.WALLET)
    return desk


def turn(desk: Desk) -> None:
    sender.pump(now=desk.clock.now)
    indexer.index(now=desk.clock.now)


def agreed(desk: Desk) -> bool:
    return compare_when_still(mirror.read_words, now=desk.clock.now) == []


def test_card_money_is_in_escrow_when_the_chain_says_so(exchanging):
    exchanging.paid(5000)
    assert (exchanging.has(), reserved(code="buyer.available", party=BUYER, ledger=USD2_LEDGER).minor) == (5000, 5000)
    assert (minor("buyer.available", BUYER), minor("chain.clearing")) == (0, 5000 * CENT)
    assert agreed(exchanging)

    turn(exchanging)

    assert (exchanging.has(), minor("buyer.available", BUYER)) == (0, 5000 * CENT)
    assert (minor("chain.clearing"), minor("chain.escrow"), minor("foundation.capital")) == (
        0, 5000 * CENT, FLOAT - 5000 * CENT)  # fmt: skip
    assert balance(code="foundation.capital", ledger=USD2_LEDGER).minor == 5000
    assert CardIntent.objects.get(kind="exchange").state == "done"
    assert [line.reason for line in statement(BUYER)] == ["exchanged"]
    assert agreed(exchanging)
    assert exchanging.reconcile() == []


def test_a_deposit_by_the_buyers_own_coin_is_no_exchange(exchanging):
    address = signer().address(f"buyer:{BUYER}")
    sender.submit(key="own", role="faucet", contract="token", function="mint",
                  args=[signer().address("custody"), 7], now=exchanging.clock.now)  # fmt: skip
    sender.submit(key="own:deposit", role="custody", contract="escrow", function="deposit", args=[address, 7],
                  now=exchanging.clock.now)  # fmt: skip

    turn(exchanging)

    assert (minor("buyer.available", BUYER), exchanging.has(), agreed(exchanging)) == (7, 0, True)


def test_more_than_the_float_waits_until_the_float_grows(exchanging):
    deposit = exchanging.paid(9000)
    assert not CardIntent.objects.filter(kind="exchange").exists()
    with pytest.raises(InsufficientFunds):
        card.exchange(deposit_id=deposit.pk, now=exchanging.clock.now)

    sender.submit(key="more", role="faucet", contract="token", function="mint",
                  args=[signer().address("custody"), 1000 * CENT], now=exchanging.clock.now)  # fmt: skip
    book_float(wallet=card.WALLET, micros=1000 * CENT, reference=b"more", now=exchanging.clock.now)
    exchanging.clock.forward(minutes=11)
    exchanging.work()
    turn(exchanging)

    assert (minor("buyer.available", BUYER), exchanging.has(), agreed(exchanging)) == (9000 * CENT, 0, True)


def test_a_transaction_that_the_chain_refuses_gives_both_sides_back(exchanging):
    exchanging.paid(5000)
    sent = ChainIntent.objects.get(key__startswith=card.EXCHANGE_KEY)
    sent.gas_limit = sender.least_gas(bytes(sent.calldata)) + 5_000
    sent.save()
    turn(exchanging)
    sent.refresh_from_db()
    assert sent.state == "reverted"

    assert card.sweep(now=exchanging.clock.now) == 1
    assert card.sweep(now=exchanging.clock.now) == 0

    assert (exchanging.has(), reserved(code="buyer.available", party=BUYER, ledger=USD2_LEDGER).minor) == (5000, 0)
    assert (minor("chain.clearing"), minor("foundation.capital"), agreed(exchanging)) == (0, FLOAT, True)
    assert CardIntent.objects.get(kind="exchange").state == "failed"


def test_a_dispute_while_money_is_on_its_way_is_owed(exchanging):
    deposit = exchanging.paid(5000)
    charge = stripe.ask(lambda c: c.payment_intents.retrieve(deposit.payment_id)).latest_charge
    exchanging.processor.dispute(charge, 5000)
    exchanging.deliver()

    turn(exchanging)

    assert (minor("buyer.available", BUYER), exchanging.has(), exchanging.has("buyer.receivable")) == (
        5000 * CENT, 0, 5000)  # fmt: skip
    assert (agreed(exchanging), exchanging.reconcile()) == (True, [])


@pytest.mark.parametrize("ledger", [USD2_LEDGER, USDC6_LEDGER])
def test_nothing_goes_into_escrow_while_payouts_of_either_ledger_stand(exchanging, ledger):
    halt_ledger(ledger=ledger, reason="a test")

    deposit = exchanging.paid(5000)

    assert exchanging.has() == 5000
    with pytest.raises(LedgerHalted):
        card.exchange(deposit_id=deposit.pk, now=exchanging.clock.now)
    assert not ChainIntent.objects.filter(key__startswith=card.EXCHANGE_KEY).exists()


def test_a_stop_between_the_ledgers_leaves_neither_moved(exchanging):
    posts = iter((None, faults._raise))  # the first ledger is written, the second is not

    def second() -> None:
        act = next(posts, None)
        if act is not None:
            act()

    exchanging.paid(5000)
    facts = {"party": BUYER, "wallet": card.WALLET, "cents": 5000, "reference": b"x", "now": exchanging.clock.now}
    id = CardIntent.objects.get(kind="exchange").pk
    with faults.armed("ledger.post.before", second), pytest.raises(faults.FaultInjected):
        book_exchange(id=id, **facts)

    assert (exchanging.has(), minor("buyer.available", BUYER)) == (5000, 0)
    turn(exchanging)
    assert (exchanging.has(), minor("buyer.available", BUYER)) == (0, 5000 * CENT)
