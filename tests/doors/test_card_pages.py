"""The buyer's way to a payment page and back, and what it says on the way."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.urls import reverse

from ledger.models import CardIntent
from ledger.services import book_card_deposit, book_chargeback
from marketplace import clock
from marketplace.demand.services import fund_demand
from marketplace.errors import NotFunded
from marketplace.models import Demand

KEY = UUID(int=77)
PAGE = f"/portal/escrow/card/{KEY}/"


@pytest.fixture
def buyer(market, enter, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.STRIPE_API_KEY = ""
    return enter("buyer")


def deposit(buyer, amount: str = "50.00", key: UUID = KEY):
    return buyer.post(reverse("portal:card_deposit"), {"amount_micros": amount, "key": str(key)})


def intent() -> CardIntent:
    return CardIntent.objects.get(kind="deposit")


def test_the_escrow_page_offers_cards_and_says_sandbox(buyer):
    page = buyer.get(reverse("portal:escrow")).content.decode()

    assert 'id="by-card"' in page
    assert "no card is charged" in page


def test_outside_of_a_demo_no_card_is_taken_without_a_processor(buyer, settings):
    settings.DEMO = False

    assert 'id="by-card"' not in buyer.get(reverse("portal:escrow")).content.decode()
    assert deposit(buyer).status_code == 422
    assert not CardIntent.objects.exists()


def test_a_deposit_leads_to_its_own_page_which_waits_then_shows_the_way(buyer):
    answer = deposit(buyer)
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    waiting = buyer.get(PAGE).content.decode()
    assert "Waiting for the payment page" in waiting
    assert "sandbox" in waiting

    CardIntent.objects.update(state="open", processor_id="cs_1", url="http://127.0.0.1:1/pay/cs_1")

    steps = buyer.get(f"{PAGE}_steps/").content.decode()
    assert 'href="http://127.0.0.1:1/pay/cs_1"' in steps
    assert "hx-get" in steps


def test_a_page_that_has_ended_asks_no_more(buyer, market):
    deposit(buyer)
    CardIntent.objects.update(state="failed", reason="The payment page ran out of time.", ended_at=clock.now())

    steps = buyer.get(f"{PAGE}_steps/").content.decode()

    assert "Nothing was charged" in steps
    assert "hx-get" not in steps


def test_a_double_click_is_one_deposit(buyer):
    deposit(buyer)
    deposit(buyer)

    assert intent().cents == 5000
    assert deposit(buyer, "51.00").status_code == 422


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [("0.49", "50 cents"), ("1.005", "whole cents"), ("10000.01", "at most $10,000.00"), ("much", "such as 1.94")],
)
def test_what_cannot_be_paid_by_card_is_said_beside_the_field(buyer, amount, sentence):
    answer = deposit(buyer, amount)

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not CardIntent.objects.exists()


def test_the_page_of_another_buyer_is_no_page(buyer, enter):
    deposit(buyer)

    assert enter("other.buyer").get(PAGE).status_code == 404
    assert enter("other.buyer").post(f"{PAGE}return/").status_code == 404
    assert enter("provider").get(PAGE).status_code == 404


def test_what_is_not_in_escrow_yet_goes_back_to_the_card_once(buyer, market):
    deposit(buyer)
    party = market.buyers[0].pk
    book_card_deposit(party=party, cents=5000, line="txn_1", now=clock.now())
    CardIntent.objects.update(state="done", processor_id="cs_1", payment_id="pi_1", ended_at=clock.now())
    assert "Send $50.00 back" in buyer.get(PAGE).content.decode()

    for _ in range(2):
        assert buyer.post(f"{PAGE}return/", {"key": "k"}).status_code == 302

    assert CardIntent.objects.get(kind="refund").cents == 5000
    assert "Send $" not in buyer.get(PAGE).content.decode()


def test_a_debt_is_shown_and_blocks_funding_until_it_is_paid(buyer, market):
    party = market.buyers[0]
    book_chargeback(party=party.pk, cents=1200, line="txn_2", now=clock.now())
    assert "You owe <b>$12.00</b>" in buyer.get(reverse("portal:escrow")).content.decode()
    demand = Demand.objects.filter(party=party, state="posted", window__state="COLLECTING").first() or posted(market)

    with pytest.raises(NotFunded) as refused:
        fund_demand(demand=demand, party=party, now=clock.now())
    assert refused.value.facts["owed_cents"] == 1200

    book_card_deposit(party=party.pk, cents=1200, line="txn_3", now=clock.now())
    assert fund_demand(demand=demand, party=party, now=clock.now()).state == "funded"


def posted(market) -> Demand:
    demand = Demand.objects.filter(party=market.buyers[0], window=market.collecting).first()
    assert demand is not None
    Demand.objects.filter(pk=demand.pk).update(state="posted", hold_id=None, funded_at=None)
    demand.refresh_from_db()
    return demand
