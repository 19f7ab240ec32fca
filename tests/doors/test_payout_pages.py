"""Where a provider chooses its bank, and what the page says on the way."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse

from ledger.ids import uuid7
from ledger.models import BankAccount, CardIntent, ChainContract, Outbox
from ledger.services import (
    USD2_LEDGER,
    USDC6_LEDGER,
    Posting,
    account,
    book_card_capital,
    book_taken_in,
    halt_ledger,
    post_transfers,
)
from marketplace import clock
from marketplace import models as m
from marketplace.insights.onboarding import provider_money
from marketplace.payout import banks
from marketplace.supply.onchain import ensure_address

PAGE = "/onboarding/payouts/"
FRAGMENT = "/onboarding/payouts/_account/"


@pytest.fixture
def provider(market, enter, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.STRIPE_API_KEY = ""
    m.Party.objects.filter(pk=market.providers[0].pk).update(chain_address=None)
    market.providers[0].refresh_from_db()
    ensure_address(party=market.providers[0])
    return enter("provider")


def act(provider, name: str) -> str:
    """Press a button; returns what the page then says."""
    return provider.post(reverse(f"onboarding:payouts_{name}"), follow=True).content.decode()


def account_row(**facts) -> BankAccount:
    BankAccount.objects.update(**facts)
    return BankAccount.objects.get()


def earn(party: m.Party, micros: int = 20_005_000) -> UUID:
    """Let escrow have paid a class of the provider into its wallet."""
    node_class = m.NodeClass.objects.filter(party=party).first().pk
    ends = [account(ledger=USDC6_LEDGER, code="chain.escrow"),
            account(ledger=USDC6_LEDGER, code="provider.payable", party=party.pk, scope=node_class)]  # fmt: skip
    posting = Posting(uuid7(clock.now()), *ends, micros, "posted", 650, "organic")
    post_transfers(ledger=USDC6_LEDGER, postings=[posting], now=clock.now())
    book_taken_in(provider=party.pk, node_class=node_class, amount=micros, reference=b"r" * 36, now=clock.now())
    return node_class


def test_the_choice_is_offered_and_says_sandbox(provider):
    page = provider.get(PAGE).content.decode()

    assert "Pay to a bank account" in page
    assert "not begun" in page
    assert "Sandbox: no bank is paid" in page


def test_outside_of_a_demo_no_bank_is_offered_without_a_processor(provider, settings):
    settings.DEMO = False

    assert "Payouts to a bank are not offered here" in provider.get(PAGE).content.decode()
    assert "not offered here" in act(provider, "to_bank")
    assert not BankAccount.objects.exists()


def test_choosing_the_bank_asks_for_an_account_and_is_in_the_trail(provider, market):
    page = act(provider, "to_bank")

    assert "being made" in page
    assert "hx-get" in page
    row = BankAccount.objects.get()
    assert (row.party, row.country, row.return_url) == (market.providers[0].pk, "DE", f"http://testserver{PAGE}")
    assert Outbox.objects.filter(kind="connect.account").count() == 1
    assert m.AuditLine.objects.filter(action="payout_to_bank", actor=market.providers[0].slug).count() == 1
    act(provider, "to_bank")
    assert m.AuditLine.objects.filter(action="payout_to_bank").count() == 1
    assert BankAccount.objects.count() == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "open", "missing": ["individual.verification.document"]}, "individual, verification, document"),
        ({"state": "open", "reason": "requirements.pending_verification"}, "being checked"),
        ({"state": "ready"}, "The card processor can pay your bank"),
        ({"state": "disabled", "reason": "rejected.fraud"}, "suspicion of fraud"),
        ({"state": "disabled", "reason": "a.new.code"}, "a.new.code"),
        ({"state": "refused", "reason": "XX is not supported.", "processor_id": None}, "XX is not supported."),
    ],
)
def test_each_state_of_the_account_is_told(provider, facts, words):
    act(provider, "to_bank")
    account_row(**{"processor_id": "acct_1"} | facts)

    page = provider.get(PAGE).content.decode()

    assert words in page
    assert ("Get a new link" in page) == (facts["state"] in ("open", "disabled"))


def test_the_link_is_shown_while_it_is_good_and_the_page_asks_on_for_a_while(provider):
    act(provider, "to_bank")
    ends = clock.now() + timedelta(minutes=5)
    url = "http://127.0.0.1:1/c"
    account_row(state="open", processor_id="acct_1", missing=["x"], link_url=url, link_expires_at=ends)
    fragment = provider.get(FRAGMENT).content.decode()
    assert f'href="{url}"' in fragment
    assert "hx-get" in fragment

    account_row(link_expires_at=clock.now() - timedelta(minutes=11))

    fragment = provider.get(FRAGMENT).content.decode()
    assert url not in fragment
    assert "hx-get" not in fragment


def test_a_provider_whose_wallet_we_do_not_keep_is_told_why_it_cannot(provider, market):
    m.Party.objects.filter(pk=market.providers[0].pk).update(chain_address="0x" + "9" * 40)

    assert "registered to a wallet of your own" in act(provider, "to_bank")
    assert not BankAccount.objects.exists()


def test_back_to_the_wallet_for_future_payouts(provider, market):
    act(provider, "to_bank")
    earn(market.providers[0])
    account_row(state="ready", processor_id="acct_1")

    page = act(provider, "to_wallet")

    assert "From now on payouts stay in your wallet" in page
    assert not BankAccount.objects.get().is_chosen
    line = m.AuditLine.objects.get(action="payout_to_wallet")
    assert line.facts["left_in_wallet_micros"] == 20_005_000
    act(provider, "to_wallet")
    assert m.AuditLine.objects.filter(action="payout_to_wallet").count() == 1


def test_the_choice_waits_while_payouts_stand(provider, market):
    act(provider, "to_bank")
    earn(market.providers[0])
    halt_ledger(ledger=USDC6_LEDGER, reason="a test")

    assert "Payouts stand still" in act(provider, "to_wallet")
    assert BankAccount.objects.get().is_chosen


def test_what_waits_is_transferred_when_the_provider_asks(provider, market, settings):
    act(provider, "to_bank")
    assert "not ready" in act(provider, "now")
    account_row(state="ready", processor_id="acct_1")
    assert "Nothing waits" in act(provider, "now")
    earn(market.providers[0])
    book_card_capital(cents=100_000, line="txn_top", now=clock.now())
    ChainContract.objects.create(name="token", address="0x" + "7" * 40, chain_id=settings.CHAIN_ID, abi_hash="")

    assert "is asked to transfer what waits" in act(provider, "now")

    assert CardIntent.objects.get(kind="payout").cents == 2_000
    page = provider.get(PAGE).content.decode()
    assert "$0.005000" in page
    assert "on its way" in page
    assert m.AuditLine.objects.get(action="payout_now").facts == {"transfers": 1, "cents": 2_000}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "done"}, "transferred"),
        ({"state": "failed", "reason": "The account is closed."}, "The account is closed."),
        ({"state": "done", "reversed_cents": 2_000}, "taken back"),
        ({"state": "done", "reversed_cents": 500}, "part taken back"),
    ],
)
def test_each_transfer_is_shown_with_its_state_and_amounts(provider, market, facts, words):
    act(provider, "to_bank")
    scope = m.NodeClass.objects.filter(party=market.providers[0]).first().pk
    row = {"id": uuid7(clock.now()), "key": "k", "kind": "payout", "party": market.providers[0].pk, "scope": scope,
           "cents": 2_000, "processor_id": "tr_1", "created_at": clock.now(), "ended_at": clock.now()}  # fmt: skip
    CardIntent.objects.create(**row | facts)

    page = provider.get(PAGE).content.decode()

    assert words in page
    assert "$20.00" in page


def test_dollars_are_not_counted_as_micros(provider, market):
    party = market.providers[0]
    before = provider_money(party).payable_micros
    scope = m.NodeClass.objects.filter(party=party).first().pk
    book_card_capital(cents=500, line="txn_top", now=clock.now())
    ends = [account(ledger=USD2_LEDGER, code="foundation.capital"),
            account(ledger=USD2_LEDGER, code="provider.payable", party=party.pk, scope=scope)]  # fmt: skip
    posting = Posting(uuid7(clock.now()), *ends, 300, "posted", 650, "organic")
    post_transfers(ledger=USD2_LEDGER, postings=[posting], now=clock.now())

    assert provider_money(party).payable_micros == before
    assert banks.bank_page_of(party, clock.now()).dollars_micros == 3_000_000


def test_the_pages_are_a_providers_only(provider, enter, market):
    for name in ("payouts", "payouts_account", "claims_file"):
        assert enter("buyer").get(reverse(f"onboarding:{name}")).status_code == 404
    for name in ("to_bank", "to_wallet", "now"):
        assert enter("buyer").post(reverse(f"onboarding:payouts_{name}")).status_code == 404
        assert provider.get(reverse(f"onboarding:payouts_{name}")).status_code == 405
    assert not BankAccount.objects.exists()


def test_without_a_root_on_chain_the_page_says_why_there_is_no_proof_to_download(provider):
    answer = provider.get(reverse("onboarding:claims_file"), follow=True)
    page = answer.content.decode()

    assert answer.redirect_chain == [(PAGE, 302)], "a sentence on the page in place of a file"
    assert "escrow" in page
    assert "Download your proofs" in page
