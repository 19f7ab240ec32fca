"""The sandbox answers Stripe's own client as Stripe does, and misbehaves when it is told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from tests.rails.processor import DECLINED, DISPUTED, GOOD, Processor

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def sdk(processor: Processor) -> Any:
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": processor.url}, max_network_retries=0)
    return client.v1


def session(sdk: Any, cents: int = 5000, key: str | None = None, **more: Any) -> Any:
    line = {"price_data": {"currency": "usd", "unit_amount": cents, "product_data": {"name": "x"}}, "quantity": 1}
    params = {"mode": "payment", "line_items": [line], "success_url": "http://127.0.0.1/done"} | more
    return sdk.checkout.sessions.create(params=params, options={"idempotency_key": key} if key else {})


def paid(sdk: Any, processor: Processor, cents: int = 5000, card: str = GOOD) -> Any:
    made = session(sdk, cents)
    assert processor.pay(made.url, card) == 303
    return sdk.payment_intents.retrieve(sdk.checkout.sessions.retrieve(made.id).payment_intent)


def balance(sdk: Any) -> int:
    return sum(each.amount for each in sdk.balance.retrieve().available)


def lines(sdk: Any) -> list[tuple[str, int]]:
    return [(line.type, line.net) for line in sdk.balance_transactions.list().auto_paging_iter()][::-1]


def test_a_session_is_paid_on_its_page_and_the_money_is_in_the_balance(sdk, processor):
    made = session(sdk, metadata={"intent": "7"}, payment_intent_data={"metadata": {"intent": "7"}})
    status, page = processor.request("GET", made.url.removeprefix(processor.url))
    assert (status, made.status, "Sandbox." in page, "$50.00" in page) == (200, "open", True, True)

    assert processor.pay(made.url) == 303

    ended = sdk.checkout.sessions.retrieve(made.id, params={"expand": ["payment_intent.latest_charge"]})
    assert (ended.status, ended.payment_intent.status) == ("complete", "succeeded")
    assert ended.payment_intent.metadata["intent"] == "7"
    assert ended.payment_intent.latest_charge.amount == 5000
    assert (balance(sdk), lines(sdk)) == (5000, [("charge", 5000)])


def test_a_declined_card_charges_nothing_and_the_page_stays_open(sdk, processor):
    made = session(sdk)

    assert processor.pay(made.url, DECLINED) == 402
    assert processor.pay(made.url, "1234") == 402
    assert (balance(sdk), sdk.checkout.sessions.retrieve(made.id).status) == (0, "open")

    assert processor.pay(made.url) == 303
    assert balance(sdk) == 5000


def test_a_payment_intent_is_confirmed_declined_or_canceled(sdk):
    amount = {"amount": 900, "currency": "usd"}
    good = sdk.payment_intents.create(params=amount | {"confirm": True, "payment_method": "pm_card_visa"})
    with pytest.raises(stripe.CardError, match="declined"):
        sdk.payment_intents.create(params=amount | {"confirm": True, "payment_method": "pm_card_chargeDeclined"})
    left = sdk.payment_intents.cancel(sdk.payment_intents.create(params=amount).id)

    assert (good.status, left.status, balance(sdk)) == ("succeeded", "canceled", 900)


def test_a_refund_takes_no_more_than_was_paid_and_comes_back_when_the_bank_refuses(sdk, processor):
    payment = paid(sdk, processor)
    first = sdk.refunds.create(params={"payment_intent": payment.id, "amount": 2000})
    with pytest.raises(stripe.InvalidRequestError, match="greater"):
        sdk.refunds.create(params={"payment_intent": payment.id, "amount": 3001})

    assert (first.status, balance(sdk)) == ("succeeded", 3000)
    assert processor.end_refund(first.id, "fail") == 200
    assert (sdk.refunds.retrieve(first.id).status, balance(sdk)) == ("failed", 5000)


def test_a_dispute_takes_the_money_at_once_and_a_won_one_brings_it_back(sdk, processor):
    processor.behave(hold=1, fees=1)
    paid(sdk, processor, card=DISPUTED)
    (dispute,) = sdk.disputes.list().data
    assert lines(sdk) == [("charge", 5000 - 175), ("adjustment", -5000 - 1500)]

    won = sdk.disputes.update(dispute.id, params={"evidence": {"uncategorized_text": "winning_evidence"}})

    assert (won.status, lines(sdk)[-1]) == ("won", ("adjustment", 5000))
    with pytest.raises(stripe.InvalidRequestError):
        sdk.disputes.close(dispute.id)


def test_a_connected_account_is_paid_after_its_holder_gave_details(sdk, processor):
    paid(sdk, processor)
    account = sdk.accounts.create(params={"type": "express", "country": "DE"})
    transfer = {"amount": 1200, "currency": "usd", "destination": account.id}
    with pytest.raises(stripe.InvalidRequestError, match="cannot receive"):
        sdk.transfers.create(params=transfer)
    link = sdk.account_links.create(params={
        "account": account.id, "type": "account_onboarding", "return_url": "http://127.0.0.1/back",
        "refresh_url": "http://127.0.0.1/back",
    })  # fmt: skip
    assert processor.request("POST", link.url.removeprefix(processor.url))[0] == 303

    made = sdk.transfers.create(params=transfer)
    assert balance(sdk) == 3800
    sdk.transfers.reversals.create(made.id, params={"amount": 200})
    sdk.payouts.create(params={"amount": 1000, "currency": "usd"})
    sdk.topups.create(params={"amount": 77, "currency": "usd", "description": "x", "statement_descriptor": "x"})

    assert balance(sdk) == 3077
    assert [kind for kind, _ in lines(sdk)] == ["charge", "transfer", "transfer_refund", "payout", "topup"]
    with pytest.raises(stripe.InvalidRequestError, match="insufficient"):
        sdk.payouts.create(params={"amount": 3078, "currency": "usd"})


def test_the_same_key_gets_the_first_answer_and_another_body_is_refused(sdk):
    first = session(sdk, key="k1")

    assert session(sdk, key="k1").id == first.id
    with pytest.raises(stripe.IdempotencyError):
        session(sdk, 5001, key="k1")
    assert len(sdk.checkout.sessions.list().data) == 1


@pytest.mark.parametrize(("how", "charged"), [("fail_after", 700), ("fail_before", 0)])
def test_a_500_is_kept_under_its_key_whether_or_not_it_charged(sdk, processor, how, charged):
    processor.behave(hold=1, **{how: 1})
    params = {"amount": 700, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}

    for _ in range(3):
        with pytest.raises(stripe.APIError):
            sdk.payment_intents.create(params=params, options={"idempotency_key": f"k-{how}"})

    assert balance(sdk) == charged


def test_a_webhook_is_signed_as_stripes_client_expects(sdk, processor, settings):
    sdk.customers.create(params={"email": "a@example.org"})
    ((body, signature),) = processor.held()

    event = stripe.Webhook.construct_event(body, signature, settings.STRIPE_WEBHOOK_SECRET)

    assert (event.type, event.data.object.email) == ("customer.created", "a@example.org")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + b" ", signature, settings.STRIPE_WEBHOOK_SECRET)


def test_webhooks_are_doubled_and_dropped_as_told(sdk, processor):
    processor.behave(hold=1, duplicate=2)
    sdk.customers.create(params={})
    assert len(processor.held()) == 3

    processor.behave(hold=1, drop_every=1)
    sdk.customers.create(params={})
    assert processor.held() == []
    assert len(sdk.events.list().data) == 2


def test_a_list_is_read_page_by_page(sdk):
    made = [sdk.customers.create(params={"email": f"{n}@example.org"}).id for n in range(5)]

    assert [c.id for c in sdk.customers.list(params={"limit": 2}).auto_paging_iter()] == made[::-1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer sk_live_1"}, 401),
        ({"Authorization": ""}, 401),
        ({"Stripe-Version": "yesterday"}, 400),
        ({"Stripe-Version": "2024-06-20"}, 200),
    ],
)
def test_a_key_and_a_version_are_looked_at(processor, headers, status):
    found, body = processor.request("POST", "/v1/customers", {"email": "a"}, **headers)

    assert (found, "error" in body) == (status, status != 200), json.dumps(body)
