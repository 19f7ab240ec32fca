"""Card money: from the payment page into the books and into escrow, back to the card, and taken back by a dispute."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from ledger.errors import InsufficientFunds, LedgerHalted
from ledger.models import CardIntent, CardReconciliation, CardTransaction, Inbox, Ledger, Outbox, Transfer
from ledger.rails import card, card_books, card_jobs, stripe  # noqa: F401  the jobs register themselves
from ledger.rails.errors import (
    CardCapReached,
    InsideTransaction,
    IntentReused,
    PaymentUnknown,
    ProcessorRefused,
    ProcessorUnreachable,
    SignatureInvalid,
)
from ledger.selectors import balance, reserved, spendable
from ledger.services import USD2_LEDGER, halt_ledger
from tests.rails.card_desk import BUYER, Desk, spend
from tests.rails.processor import DECLINED, DISPUTED


def charge_of(deposit: CardIntent) -> str:
    return str(stripe.ask(lambda c: c.payment_intents.retrieve(deposit.payment_id)).latest_charge)


# -- deposits ---------------------------------------------------------------------------------------------------------
def test_a_card_payment_is_credited_once_it_has_succeeded(desk):
    intent = desk.deposit(5000)
    assert (intent.state, intent.url.startswith(desk.processor.url), desk.has()) == ("open", True, 0)

    desk.processor.pay(intent.url)
    desk.deliver()

    intent.refresh_from_db()
    assert (intent.state, desk.has(), desk.clearing()) == ("done", 5000, 5000)
    assert desk.reconcile() == []


def test_a_declined_card_credits_nothing_and_another_may_be_tried(desk):
    intent = desk.deposit()
    desk.processor.pay(intent.url, DECLINED)
    desk.deliver()
    assert (CardIntent.objects.get().state, desk.has()) == ("open", 0)

    desk.processor.pay(intent.url)
    desk.deliver()
    assert desk.has() == 5000


def test_the_same_key_is_one_deposit_and_another_amount_under_it_is_refused(desk):
    first = desk.deposit(5000, key="k")

    assert desk.deposit(5000, key="k").pk == first.pk
    with pytest.raises(IntentReused):
        desk.deposit(5001, key="k")
    assert len(stripe.ask(lambda c: c.checkout.sessions.list()).data) == 1


def test_a_page_that_ran_out_ends_its_deposit(desk):
    intent = desk.deposit()
    stripe.ask(lambda c: c.checkout.sessions.expire(intent.processor_id))

    desk.deliver()

    intent.refresh_from_db()
    assert (intent.state, bool(intent.reason), desk.has()) == ("failed", True, 0)


def test_a_party_keeps_within_its_cap_and_a_refund_makes_room(desk, settings):
    settings.CARD_CAP_CENTS = 8000
    deposit = desk.paid(5000)
    with pytest.raises(CardCapReached) as refused:
        desk.deposit(3001)
    assert refused.value.facts["room_cents"] == 3000

    desk.refund(deposit, 1000)

    assert desk.deposit(4000).state == "open"


def test_a_payment_that_no_intent_explains_is_refused_and_stands_as_a_difference(desk):
    params = {"amount": 900, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}
    stranger = stripe.ask(lambda c: c.payment_intents.create(params=params))
    with pytest.raises(PaymentUnknown):
        card.sync(told=stripe.Told("payment_intent", stranger.id), now=desk.clock.now)

    (line, total) = desk.reconcile()

    assert (line.source, line.books_cents, line.processor_cents) == (stranger.latest_charge, 0, 900)
    assert (total.line, total.processor_cents) == ("balance", 900)
    assert "differ in 2 lines" in Ledger.objects.get(pk=USD2_LEDGER).halted_reason


# -- webhooks ---------------------------------------------------------------------------------------------------------
def test_a_webhook_is_stored_raw_before_it_is_answered_and_worked_on_once(desk):
    intent = desk.deposit()
    desk.processor.pay(intent.url)
    webhooks = desk.processor.held()

    for _ in range(3):
        desk.receive(webhooks)

    heard = [json.loads(body)["id"] for body, _ in webhooks if json.loads(body)["type"] in stripe.HEARD]
    assert (Inbox.objects.count(), len(heard)) == (len(webhooks), 2)
    jobs = Outbox.objects.filter(kind="card.event").values_list("payload__event", flat=True)
    assert sorted(jobs) == sorted(heard)
    assert {bytes(row.body) for row in Inbox.objects.all()} == {body for body, _ in webhooks}
    assert desk.has() == 0
    desk.work()
    assert desk.has() == 5000


@pytest.mark.parametrize("wrong", ["body", "signature", "nothing", "old", "another secret", "no secret"])
def test_a_webhook_that_the_processor_did_not_sign_is_refused(desk, settings, wrong):
    from ledger.rails.stripe_sandbox.webhooks import signature_header

    desk.deposit()
    desk.processor.pay(CardIntent.objects.get().url)
    body, signature = desk.processor.held()[-1]
    text, secret = body.decode(), settings.STRIPE_WEBHOOK_SECRET
    forged = {
        "body": (body.replace(b"5000", b"9000"), signature),
        "signature": (body, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        "nothing": (body, ""),
        "old": (body, signature_header(text, secret, 1_700_000_000)),
        "another secret": (body, signature_header(text, "whsec_x", int(signature[2:12]))),
        "no secret": (body, signature_header(text, "", int(signature[2:12]))),
    }[wrong]
    if wrong == "no secret":
        settings.STRIPE_WEBHOOK_SECRET = ""

    with pytest.raises(SignatureInvalid):
        stripe.receive(body=forged[0], signature=forged[1], now=desk.clock.now)
    assert not Inbox.objects.exists()


def test_news_that_never_came_is_found_by_the_sweep(desk):
    intent = desk.deposit()
    desk.processor.pay(intent.url)
    desk.processor.held()  # lost

    assert card.sweep(now=desk.clock.now) == 1
    assert desk.has() == 5000
    assert card.sweep(now=desk.clock.now) == 0


def test_news_that_never_came_is_found_by_the_reconciler_too(desk):
    deposit = desk.paid()
    desk.processor.dispute(charge_of(deposit), 1200)
    desk.processor.held()  # lost

    assert desk.reconcile() == []
    assert desk.has() == 3800


# -- refunds ----------------------------------------------------------------------------------------------------------
def test_a_refund_is_reserved_then_posted_when_it_left(desk):
    deposit = desk.paid()
    desk.processor.behave(hold=1, refunds_wait=1)
    intent = card.ask_refund(key="r", deposit=deposit, cents=2000, now=desk.clock.now)
    assert (desk.has(), spendable(code="buyer.available", party=BUYER, ledger=USD2_LEDGER).minor) == (5000, 3000)

    desk.work()

    intent.refresh_from_db()
    assert (intent.state, desk.has(), desk.clearing()) == ("open", 3000, 3000)
    desk.processor.end_refund(intent.processor_id, "arrive")
    desk.deliver()
    intent.refresh_from_db()
    assert (intent.state, desk.has()) == ("done", 3000)
    assert desk.reconcile() == []


def test_a_refund_that_the_bank_sends_back_is_money_of_the_buyer_again(desk):
    deposit = desk.paid()
    refund = desk.refund(deposit, 2000)
    assert (refund.state, desk.has()) == ("done", 3000)

    desk.processor.end_refund(refund.processor_id, "fail")
    desk.deliver()

    refund.refresh_from_db()
    assert (refund.state, desk.has(), desk.reconcile()) == ("failed", 5000, [])


def test_a_refund_that_the_processor_refuses_releases_its_money(desk):
    deposit = desk.paid()
    desk.paid()
    refund = desk.refund(deposit, 5001)

    assert (refund.state, "greater" in refund.reason) == ("failed", True)
    assert reserved(code="buyer.available", party=BUYER, ledger=USD2_LEDGER).minor == 0


def test_no_more_than_there_is_goes_back_and_nothing_while_payouts_stand(desk):
    deposit = desk.paid()
    with pytest.raises(InsufficientFunds):
        desk.refund(deposit, 5001)
    under_way = card.ask_refund(key="r", deposit=deposit, cents=100, now=desk.clock.now)

    halt_ledger(ledger=USD2_LEDGER, reason="a test")

    with pytest.raises(LedgerHalted):
        desk.refund(deposit, 100)
    desk.work()  # what was asked for before is booked when it happens: the books must not deny a fact
    under_way.refresh_from_db()
    assert (under_way.state, desk.has()) == ("done", 4900)


def test_a_refund_made_at_the_processor_itself_is_the_buyers_too(desk):
    deposit = desk.paid()
    stripe.ask(lambda c: c.refunds.create(params={"payment_intent": deposit.payment_id, "amount": 700}))

    desk.deliver()

    assert (desk.has(), desk.reconcile()) == (4300, [])


# -- disputes ---------------------------------------------------------------------------------------------------------
def test_a_chargeback_of_spent_money_is_owed_and_the_next_deposit_pays_it_first(desk):
    deposit = desk.paid(5000)
    spend(desk, 4000)
    desk.processor.dispute(charge_of(deposit), 5000)
    desk.deliver()
    assert (desk.has(), desk.has("buyer.receivable"), desk.clearing()) == (0, 4000, 0)

    desk.paid(6000)

    assert (desk.has(), desk.has("buyer.receivable"), desk.reconcile()) == (2000, 0, [])


@pytest.mark.parametrize("repaid_cents", [0, 1500])
def test_a_won_dispute_is_the_reverse_even_when_part_was_repaid(desk, repaid_cents):
    deposit = desk.paid(5000)
    spend(desk, 4000)
    dispute = desk.processor.dispute(charge_of(deposit), 5000)
    desk.deliver()
    if repaid_cents:
        desk.paid(repaid_cents)

    evidence = {"evidence": {"uncategorized_text": "winning_evidence"}}
    stripe.ask(lambda c: c.disputes.update(dispute, params=evidence))
    desk.deliver()

    assert (desk.has(), desk.has("buyer.receivable")) == (1000 + repaid_cents, 0)
    assert desk.reconcile() == []


def test_a_card_that_disputes_at_once_credits_and_takes_back(desk):
    desk.paid(with_card=DISPUTED)

    assert (desk.has(), desk.has("buyer.receivable"), desk.clearing(), desk.reconcile()) == (0, 0, 0, [])


# -- fees and capital -------------------------------------------------------------------------------------------------
def test_fees_are_paid_by_the_foundation_and_shown_while_it_cannot(desk):
    desk.processor.behave(hold=1, fees=1)
    desk.paid(5000)
    (line, _) = desk.reconcile()
    assert (desk.has(), line.books_cents, line.processor_cents) == (5000, 5000, 5000 - 175)

    stripe.ask(lambda c: c.topups.create(params={"amount": 10_000, "currency": "usd", "description": "float",
                                                 "statement_descriptor": "float"}))  # fmt: skip
    desk.deliver()

    assert desk.reconcile() == []
    assert balance(code="foundation.capital", ledger=USD2_LEDGER).minor == 10_000 - 175
    stripe.ask(lambda c: c.payouts.create(params={"amount": 4_000, "currency": "usd"}))
    assert desk.reconcile() == []
    assert balance(code="foundation.capital", ledger=USD2_LEDGER).minor == 6_000 - 175


def test_a_difference_is_kept_line_by_line_and_halts_payouts(desk):
    desk.paid()
    spoil = CardTransaction(
        id="txn_planted", kind="charge", source="", amount_cents=5, fee_cents=0, net_cents=5, created_at=desk.clock.now
    )
    desk.reconcile()
    spoil.save(force_insert=True)

    (found,) = desk.reconcile()

    kept = CardReconciliation.objects.latest("pk")
    assert (found.line, found.books_cents, found.processor_cents) == ("txn_planted", 0, 5)
    assert (kept.differences[0]["line"], kept.books_cents, kept.processor_cents) == ("txn_planted", 5000, 5000)
    assert Ledger.objects.get(pk=USD2_LEDGER).halted


# -- 500s, kills, transactions ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["fail_after", "fail_before"])
def test_a_500_makes_one_refund_or_none_and_never_two(desk, how):
    deposit = desk.paid()
    desk.processor.behave(hold=1, **{how: 1})
    refund = desk.refund(deposit, 2000)

    made = stripe.ask(lambda c: c.refunds.list(params={"payment_intent": deposit.payment_id})).data

    assert len(made) == (how == "fail_after")
    assert refund.state == ("done" if made else "queued")
    assert desk.has() == (3000 if made else 5000)


def test_the_payment_page_breaks_after_charging_and_the_money_is_there(desk):
    intent = desk.deposit()
    desk.processor.behave(hold=1, fail_after=1)

    assert desk.processor.pay(intent.url) == 500
    desk.deliver()

    assert (desk.has(), desk.reconcile()) == (5000, [])


def again(desk: Desk) -> None:
    """Let every put-off job have its turn."""
    for _ in range(4):
        desk.clock.forward(minutes=11)
        desk.deliver()


def test_the_processor_is_never_asked_while_a_transaction_is_open(desk):
    with transaction.atomic(), pytest.raises(InsideTransaction):
        stripe.ask(lambda c: c.balance.retrieve())


def test_the_sandbox_is_never_asked_nor_believed_outside_of_a_demo(desk, settings):
    intent = desk.deposit()
    desk.processor.pay(intent.url)
    settings.DEMO = False

    with pytest.raises(ProcessorRefused):
        stripe.ask(lambda c: c.balance.retrieve())
    with pytest.raises(SignatureInvalid):
        desk.deliver()
    assert not Inbox.objects.exists()


def test_an_intent_is_older_than_its_effect(desk, settings):
    settings.STRIPE_SANDBOX_URL = "http://127.0.0.1:9"
    intent = desk.deposit()
    assert (intent.state, intent.url) == ("queued", "")
    with pytest.raises(ProcessorUnreachable):
        card.send(intent_id=intent.pk, now=desk.clock.now)

    settings.STRIPE_SANDBOX_URL = desk.processor.url
    again(desk)

    intent.refresh_from_db()
    assert intent.state == "open"
    made = desk.processor.request("GET", f"/v1/checkout/sessions/{intent.processor_id}")[1]
    assert json.loads(json.dumps(made))["client_reference_id"] == str(intent.pk)


def test_every_line_of_the_balance_has_its_transfers(desk):
    deposit = desk.paid()
    desk.refund(deposit, 500)
    desk.processor.dispute(charge_of(desk.paid()), 900)
    desk.deliver()

    named = {bytes(row.reference).decode() for row in Transfer.objects.filter(ledger=USD2_LEDGER) if row.reference}

    assert named == {line.id for line in desk.lines()}


# -- the door for webhooks --------------------------------------------------------------------------------------------
def test_the_door_takes_what_is_signed_and_nothing_else(desk, client):
    intent = desk.deposit()
    desk.processor.pay(intent.url)

    def knock(body: bytes, signature: str) -> int:
        return client.post(
            "/webhooks/stripe/", body, content_type="application/json", headers={"Stripe-Signature": signature}
        ).status_code

    webhooks = desk.processor.held()
    assert [knock(body + b" ", signature) for body, signature in webhooks] == [400] * len(webhooks)
    assert not Inbox.objects.exists()
    assert [knock(*webhook) for webhook in webhooks + webhooks] == [200] * 2 * len(webhooks)
    assert client.get("/webhooks/stripe/").status_code == 405
    desk.work()
    assert desk.has() == 5000
