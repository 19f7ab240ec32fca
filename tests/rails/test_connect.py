"""A provider's earnings to its bank: out of escrow, into dollars, and on to its account at the card processor."""

from __future__ import annotations

import json

import pytest

from ledger.connect import CUSTODY_WALLET, wallet_of
from ledger.errors import LedgerHalted, PendingResolved
from ledger.models import BankAccount, CardIntent, ChainIntent, Ledger, Outbox, Transfer
from ledger.rails import card, connect, indexer, sender, stripe
from ledger.rails.base import Chain
from ledger.rails.errors import PaymentUnknown, ProcessorUnreachable
from ledger.rails.signer import signer
from ledger.selectors import balance, reserved
from ledger.services import USD2_LEDGER, USDC6_LEDGER, halt_ledger, resume_ledger
from tests.rails.bank_desk import CAPITAL_CENTS, EARNED_MICROS, BankDesk, Earnings
from tests.rails.card_desk import Desk
from tests.rails.conftest import minor
from tests.rails.test_story import CLASS_ID, NODE_CLASS, PROVIDER, Market

CENTS, REST_MICROS = divmod(EARNED_MICROS, 10_000)


@pytest.fixture
def bank(rails: Chain, desk: Desk, earnings: Earnings) -> BankDesk:
    return BankDesk(Market(rails, desk.clock), desk, earnings)


@pytest.fixture
def earned(bank: BankDesk) -> BankDesk:
    """Earnings that are payable in escrow, an account that is ready, and dollars of the Foundation."""
    bank.earn()
    bank.top_up()
    bank.ready()
    return bank


def dollars(code: str) -> int:
    return balance(code=code, ledger=USD2_LEDGER).minor


# -- the account ------------------------------------------------------------------------------------------------------
def test_an_account_is_made_once_and_is_ready_when_its_holder_gave_the_details(bank):
    account = bank.choose()
    assert (account.state, account.is_chosen, bool(account.missing)) == ("open", True, True)
    assert account.link_url.startswith(bank.processor.url)

    assert bank.fill_in() == 303

    bank.choose()
    assert (bank.account().state, bank.account().missing) == ("ready", [])
    assert len(stripe.ask(lambda c: c.accounts.list()).data) == 1


def test_news_of_an_account_that_never_came_is_found_by_the_sweep(bank):
    bank.choose()
    bank.processor.request("POST", f"/_sandbox/accounts/{bank.account().processor_id}/enable")
    bank.processor.held()  # lost

    connect.sweep(now=bank.now)
    assert bank.account().state == "ready"
    disable(bank, reason="rejected.fraud")
    bank.processor.held()
    connect.sweep(now=bank.now)
    assert bank.account().state == "ready", "one that was read a moment ago is not asked for again"
    bank.desk.clock.forward(hours=2)
    connect.sweep(now=bank.now)

    assert (bank.account().state, bank.account().reason) == ("disabled", "rejected.fraud")


def test_a_country_that_the_processor_does_not_serve_is_refused_and_another_may_be_named(bank):
    refused = bank.choose(country="XX")
    assert (refused.state, "not currently supported" in refused.reason) == ("refused", True)

    assert bank.choose(country="DE").state == "open"


def test_a_new_link_is_made_when_it_is_asked_for(bank):
    first = bank.choose().link_url
    assert connect.live_link(bank.account(), bank.now) == first
    bank.desk.clock.forward(minutes=6)
    assert connect.live_link(bank.account(), bank.now) == ""

    connect.ask_link(account=bank.account(), now=bank.now)
    bank.desk.work()

    assert connect.live_link(bank.account(), bank.now)


@pytest.mark.parametrize("how", ["fail_after", "fail_before"])
def test_a_500_while_the_account_is_made_leaves_one_account(bank, how):
    bank.processor.behave(hold=1, **{how: 1})
    bank.choose()
    for _ in range(8):
        bank.desk.clock.forward(minutes=2)
        bank.desk.work()

    assert bank.account().state == "open"
    assert len(stripe.ask(lambda c: c.accounts.list()).data) == 1


# -- the way of the money ---------------------------------------------------------------------------------------------
def test_a_payout_reaches_the_bank_and_what_is_below_a_cent_stays_the_providers(earned):
    earned.withdraw()

    assert (minor("provider.payable", PROVIDER, NODE_CLASS), earned.custody_micros()) == (0, REST_MICROS)
    assert (earned.payout().state, earned.payout().cents, earned.owed_cents()) == ("done", CENTS, 0)
    (transfer,) = earned.transfers()
    assert (transfer.amount, transfer.destination) == (CENTS, earned.account().processor_id)
    assert minor("foundation.capital") == CENTS * 10_000
    assert dollars("foundation.capital") == CAPITAL_CENTS - CENTS
    assert (earned.agreed(), earned.desk.reconcile()) == (True, [])


def test_the_coins_of_a_payout_come_to_our_own_wallet(earned):
    earned.withdraw()
    assert minor("chain.clearing") == CENTS * 10_000
    earned.turn()
    assert connect.sweep(now=earned.now) == 1

    own, theirs = signer().address("custody"), signer().address(f"provider:{PROVIDER}")
    assert minor("chain.wallet", scope=CUSTODY_WALLET) == CENTS * 10_000
    assert minor("chain.wallet", scope=wallet_of(PROVIDER)) == REST_MICROS
    assert earned.market.chain.call("token", "balanceOf", own) == CENTS * 10_000
    assert earned.market.chain.call("token", "balanceOf", theirs) == REST_MICROS
    assert (minor("chain.clearing"), earned.agreed()) == (0, True)
    assert CardIntent.objects.get(kind="takeover").state == "done"


def test_what_is_below_a_cent_meets_the_next_payout(earned):
    earned.withdraw()
    earned.desk.clock.forward(seconds=1)
    take_in(earned, 9_880, b"next")

    assert earned.custody_micros() == REST_MICROS + 9_880 == 10_000
    assert connect.sweep(now=earned.now) == 1
    earned.desk.work()

    assert (earned.custody_micros(), earned.payout().cents, earned.payout().state) == (0, 1, "done")


def take_in(bank: BankDesk, micros: int, reference: bytes) -> None:
    """Let escrow have earned and paid more, past the chain: only what follows is looked at."""
    from ledger.chart import Code
    from ledger.ids import uuid_from
    from ledger.services import Posting, account, book_taken_in, post_transfers

    ends = [account(ledger=USDC6_LEDGER, code="chain.escrow"),
            account(ledger=USDC6_LEDGER, code="provider.payable", party=PROVIDER, scope=NODE_CLASS)]  # fmt: skip
    posting = Posting(uuid_from(reference), *ends, micros, "posted", Code.CORRECTION, "organic")
    post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=bank.now)
    book_taken_in(provider=PROVIDER, node_class=NODE_CLASS, amount=micros, reference=reference, now=bank.now)


def test_without_the_choice_a_payout_stays_coin_in_the_wallet(bank):
    bank.earn()

    bank.withdraw()

    assert (bank.custody_micros(), minor("chain.wallet", scope=wallet_of(PROVIDER))) == (0, 0)
    assert bank.market.chain.call("token", "balanceOf", signer().address(bank.market.provider)) == EARNED_MICROS
    assert not CardIntent.objects.exists()


def test_a_payout_to_an_address_that_we_do_not_keep_is_no_money_of_ours(bank):
    bank.earn()
    bank.choose()
    BankAccount.objects.update(wallet="0x" + "9" * 40)

    bank.withdraw()

    assert bank.custody_micros() == 0
    assert bank.agreed()


def test_money_waits_as_coin_until_the_account_is_ready(bank):
    bank.earn()
    bank.top_up()
    bank.choose()
    bank.withdraw()
    assert (bank.custody_micros(), bank.transfers(), bank.agreed()) == (EARNED_MICROS, [], True)

    bank.fill_in()
    bank.desk.work()

    assert (bank.custody_micros(), bank.payout().state) == (REST_MICROS, "done")


def test_more_than_the_foundation_has_in_dollars_waits_as_coin(bank):
    bank.earn()
    bank.top_up(5_000)
    bank.ready()

    bank.withdraw()

    assert (bank.payout().cents, bank.custody_micros()) == (5_000, EARNED_MICROS - 5_000 * 10_000)
    bank.top_up(50_000)
    assert connect.sweep(now=bank.now) == 1
    bank.desk.work()
    assert (bank.custody_micros(), sum(t.amount for t in bank.transfers())) == (REST_MICROS, CENTS)
    assert bank.desk.reconcile() == []


def test_back_to_the_wallet_leaves_what_lies_there_and_the_next_payout_with_the_provider(bank):
    bank.earn()
    bank.choose()
    bank.withdraw()
    assert bank.custody_micros() == EARNED_MICROS == minor("chain.wallet", scope=wallet_of(PROVIDER))

    connect.choose_wallet(party=PROVIDER, now=bank.now)
    connect.choose_wallet(party=PROVIDER, now=bank.now)

    assert (bank.custody_micros(), minor("chain.wallet", scope=wallet_of(PROVIDER))) == (0, 0)
    assert (bank.account().is_chosen, bank.agreed()) == (False, True)
    assert bank.market.chain.call("token", "balanceOf", signer().address(bank.market.provider)) == EARNED_MICROS
    assert connect.sweep(now=bank.now) == 0


def test_coins_that_did_not_move_stay_ours_and_the_bank_is_paid_all_the_same(earned):
    earned.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    sender.pump(now=earned.now)
    indexer.index(now=earned.now)
    earned.desk.work()
    (sent,) = earned.moves()
    sent.gas_limit = sender.least_gas(bytes(sent.calldata)) + 500
    sent.save()
    sender.pump(now=earned.now)

    connect.sweep(now=earned.now)

    takeover = CardIntent.objects.get(kind="takeover")
    assert (takeover.state, "did not move" in takeover.reason) == ("failed", True)
    assert minor("chain.wallet", scope=wallet_of(PROVIDER)) == EARNED_MICROS
    assert (minor("chain.clearing"), earned.payout().state, earned.agreed()) == (0, "done", True)
    assert connect.sweep(now=earned.now) == 0


# -- refused, reversed, halted ----------------------------------------------------------------------------------------
def disable(bank: BankDesk, **why: str) -> None:
    bank.processor.request("POST", f"/_sandbox/accounts/{bank.account().processor_id}/disable", why)


def test_a_refused_transfer_gives_the_dollars_back_and_is_tried_again_after_an_hour(earned):
    disable(earned)  # and its news is late
    earned.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    sender.pump(now=earned.now)
    indexer.index(now=earned.now)
    earned.desk.work()
    assert (earned.payout().state, "cannot receive transfers" in earned.payout().reason) == ("failed", True)
    assert (earned.owed_cents(), reserved(code="provider.payable", ledger=USD2_LEDGER).minor) == (CENTS, 0)

    earned.processor.request("POST", f"/_sandbox/accounts/{earned.account().processor_id}/enable")
    earned.processor.held()
    assert connect.sweep(now=earned.now) == 0
    earned.desk.clock.forward(minutes=61)
    earned.turn()
    assert connect.sweep(now=earned.now) >= 1
    earned.desk.work()

    assert (earned.payout().state, earned.owed_cents(), len(earned.transfers())) == ("done", 0, 1)
    assert earned.desk.reconcile() == []


@pytest.mark.parametrize("parts", [[CENTS], [1_000, 500]])
def test_a_reversal_brings_the_dollars_back_and_they_wait_to_be_asked_for(earned, parts):
    earned.withdraw()
    (transfer,) = earned.transfers()
    for cents in parts:
        reverse(transfer.id, cents)
        earned.desk.deliver()

    assert (earned.owed_cents(), earned.payout().reversed_cents) == (sum(parts), sum(parts))
    assert earned.desk.reconcile() == []
    earned.desk.clock.forward(hours=3)
    connect.sweep(now=earned.now)
    assert (len(earned.transfers()), earned.owed_cents()) == (1, sum(parts))

    connect.pay_out(provider=PROVIDER, node_class=NODE_CLASS, now=earned.now)
    earned.desk.work()
    assert (len(earned.transfers()), earned.owed_cents(), earned.desk.reconcile()) == (2, 0, [])


def reverse(transfer: str, cents: int) -> None:
    stripe.ask(lambda c: c.transfers.reversals.create(transfer, params={"amount": cents}))


def test_a_reversal_that_nobody_told_of_is_found_by_the_reconciler(earned):
    earned.withdraw()
    reverse(earned.transfers()[0].id, 700)
    earned.processor.held()  # lost

    assert earned.desk.reconcile() == []
    assert earned.owed_cents() == 700


def test_a_transfer_that_nobody_asked_us_for_is_refused_and_stands_as_a_difference(earned):
    params = {"amount": 900, "currency": "usd", "destination": earned.account().processor_id}
    stranger = stripe.ask(lambda c: c.transfers.create(params=params))
    with pytest.raises(PaymentUnknown):
        card.sync(told=stripe.Told("transfer", stranger.id), now=earned.now)

    (line, total) = earned.desk.reconcile()

    assert (line.source, line.processor_cents, total.line) == (stranger.id, -900, "balance")
    assert Ledger.objects.get(pk=USD2_LEDGER).halted


def test_a_transfer_of_another_amount_than_was_asked_for_is_never_booked(earned):
    earned.withdraw()
    CardIntent.objects.filter(kind="payout").update(cents=CENTS - 1)

    with pytest.raises(PaymentUnknown):
        card.sync(told=stripe.Told("transfer", earned.transfers()[0].id), now=earned.now)


@pytest.mark.parametrize("ledger", [USD2_LEDGER, USDC6_LEDGER])
def test_no_payout_is_begun_while_either_ledger_stands_and_all_of_it_goes_on_later(earned, ledger):
    halt_ledger(ledger=ledger, reason="a test")

    earned.withdraw()

    assert (earned.custody_micros(), earned.transfers()) == (EARNED_MICROS, [])
    with pytest.raises(LedgerHalted):
        connect.pay_out(provider=PROVIDER, node_class=NODE_CLASS, now=earned.now)
    assert connect.sweep(now=earned.now) == 0
    assert not Outbox.objects.filter(kind="connect.pay", done_at=None).exists()
    if ledger == USDC6_LEDGER:
        with pytest.raises(LedgerHalted):
            connect.choose_wallet(party=PROVIDER, now=earned.now)
        assert earned.account().is_chosen

    resume_ledger(ledger=ledger)
    assert connect.sweep(now=earned.now) == 1
    earned.desk.work()
    assert (earned.payout().state, earned.custody_micros()) == ("done", REST_MICROS)


def test_a_transfer_that_was_asked_for_before_the_halt_is_booked_when_it_happens(earned):
    earned.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    sender.pump(now=earned.now)
    indexer.index(now=earned.now)
    connect.pay_out(provider=PROVIDER, node_class=NODE_CLASS, now=earned.now)
    halt_ledger(ledger=USD2_LEDGER, reason="a test")

    earned.desk.work()

    assert (earned.payout().state, earned.owed_cents()) == ("done", 0)


# -- once, whatever happens -------------------------------------------------------------------------------------------
def test_news_doubled_and_out_of_order_pays_once(earned):
    earned.withdraw()
    reverse(earned.transfers()[0].id, 700)
    webhooks = earned.processor.held()
    for _ in range(3):
        earned.desk.receive(list(reversed(webhooks)))
        earned.desk.work()
    for kind, id in (("transfer", earned.transfers()[0].id), ("account", earned.account().processor_id)):
        card.sync(told=stripe.Told(kind, id), now=earned.now)

    assert (earned.owed_cents(), dollars("card.clearing")) == (700, CAPITAL_CENTS - CENTS + 700)
    named = {bytes(row.reference).decode() for row in Transfer.objects.filter(ledger=USD2_LEDGER) if row.reference}
    assert named == {line.id for line in earned.desk.lines()}


# -- a 500 of which nobody knows what it means ------------------------------------------------------------------------
def begun(bank: BankDesk) -> CardIntent:
    bank.market.submit("operator", "escrow", "withdraw_for", CLASS_ID)
    sender.pump(now=bank.now)
    indexer.index(now=bank.now)
    intent = connect.pay_out(provider=PROVIDER, node_class=NODE_CLASS, now=bank.now)
    assert intent is not None
    return intent


def tried(bank: BankDesk, intent: CardIntent) -> CardIntent:
    with pytest.raises(ProcessorUnreachable):
        card.send(intent_id=intent.pk, now=bank.now)
    intent.refresh_from_db()
    return intent


def test_work_that_is_proven_not_made_is_asked_for_with_a_further_key(earned):
    intent = begun(earned)
    earned.processor.behave(hold=1, fail_before=1)
    assert tried(earned, intent).attempt == 0
    assert tried(earned, intent).attempt == 0, "a moment later nothing is proven"
    earned.desk.clock.forward(minutes=1)
    assert tried(earned, intent).attempt == 1, "two answers a minute apart, and no work"

    card.send(intent_id=intent.pk, now=earned.now)

    intent.refresh_from_db()
    assert (intent.state, len(earned.transfers()), earned.desk.reconcile()) == ("done", 1, [])


def test_no_answer_at_all_proves_nothing_and_keeps_the_key(earned, settings):
    intent = begun(earned)
    settings.STRIPE_SANDBOX_URL = "http://127.0.0.1:9"
    for _ in range(3):
        assert (tried(earned, intent).attempt, intent.broken_since) == (0, None)
        earned.desk.clock.forward(hours=1)

    settings.STRIPE_SANDBOX_URL = earned.processor.url
    card.send(intent_id=intent.pk, now=earned.now)
    assert len(earned.transfers()) == 1


def test_work_that_was_made_after_all_is_found_before_a_further_key_is_used(earned):
    intent = begun(earned)
    made = stripe.ask(lambda c: connect._ask_transfer(c, intent, "elsewhere"))
    CardIntent.objects.filter(pk=intent.pk).update(attempt=1)

    card.send(intent_id=intent.pk, now=earned.now)

    intent.refresh_from_db()
    assert (intent.processor_id, len(earned.transfers())) == (made.id, 1)


def test_a_key_that_the_processor_may_have_forgotten_is_not_trusted(earned):
    intent = begun(earned)
    made = stripe.ask(lambda c: connect._ask_transfer(c, intent, "elsewhere"))
    earned.desk.clock.forward(hours=21)

    card.send(intent_id=intent.pk, now=earned.now)

    intent.refresh_from_db()
    assert (intent.processor_id, len(earned.transfers())) == (made.id, 1)


def test_a_processor_that_is_down_longer_than_the_tries_last_is_asked_again_by_the_sweep(earned):
    intent = begun(earned)
    earned.processor.behave(hold=1, fail_before=50)
    for _ in range(9):
        earned.desk.clock.forward(minutes=11)
        earned.desk.work()
    (job,) = Outbox.objects.filter(kind="card.send", done_at=None)
    assert job.tries == 8
    earned.processor.behave(hold=1)

    card.sweep(now=earned.desk.clock.forward(minutes=11))
    for _ in range(3):
        earned.desk.work()
        earned.desk.clock.forward(minutes=11)

    intent.refresh_from_db()
    assert (intent.state, len(earned.transfers()), earned.desk.reconcile()) == ("done", 1, [])


def test_a_second_transfer_for_one_payout_is_never_booked_and_stops_payouts(earned):
    earned.withdraw()
    stripe.ask(lambda c: connect._ask_transfer(c, earned.payout(), "elsewhere"))

    assert {found.processor_cents for found in earned.desk.reconcile()} >= {-CENTS}
    assert Ledger.objects.get(pk=USD2_LEDGER).halted


def test_a_refused_payout_that_was_made_all_the_same_is_loud(earned):
    intent = begun(earned)
    card.end(intent, CardIntent.State.FAILED, earned.now, reason="a test")
    made = stripe.ask(lambda c: connect._ask_transfer(c, intent, "elsewhere"))

    with pytest.raises(PendingResolved):
        card.sync(told=stripe.Told("transfer", made.id), now=earned.now)
    assert len(earned.desk.reconcile()) == 2


def test_an_intent_is_older_than_its_transfer_and_its_coins(earned):
    earned.withdraw()
    transfer = earned.transfers()[0]

    assert transfer.metadata["intent"] == str(earned.payout().pk) == transfer.transfer_group
    takeover = CardIntent.objects.get(kind="takeover")
    assert ChainIntent.objects.filter(key=f"{connect.TAKEOVER_KEY}{takeover.pk}").exists()
    assert json.dumps(earned.account().missing) == "[]"
