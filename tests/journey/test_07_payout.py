"""One netted settlement: providers get what they delivered less the fee, buyers the rest, and the unproven wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db.models import Sum

from ledger.models import BankAccount, ChainEvent, ChainIntent
from ledger.rails.evm import chain
from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from ledger.selectors import balance, total
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.payout import banks
from marketplace.payout.services import confirm_payouts, confirm_settlements, pay_window, settle_window
from tests.journey import world
from tests.journey.refusals import untouched


def lines() -> dict[str, m.SettlementLine]:
    rows = m.SettlementLine.objects.filter(settlement__window=world.window()).select_related("lease__demand")
    return {row.lease.demand.reference: row for row in rows}


@pytest.mark.stage("paid")
def test_every_lease_is_split_to_the_last_micro() -> None:
    assert len(lines()) == 6
    for row in lines().values():
        assert row.earned_micros == row.payable_micros + row.holdback_micros + row.fee_micros
        assert row.earned_micros + row.returned_micros + row.credit_micros == row.lease.fee_micros


@pytest.mark.stage("paid")
def test_the_fee_is_a_fortieth_of_what_was_earned_and_the_same_on_the_chain() -> None:
    fees = sum(row.fee_micros for row in m.SettlementLine.objects.all())

    assert read_words().fees == total("foundation.fees").minor == fees
    for row in lines().values():
        assert abs(row.fee_micros * 40 - row.earned_micros) < 40 * 3  # one floor per class, shared out exactly


@pytest.mark.stage("paid")
def test_the_broken_lease_returns_its_lost_hour_and_its_credit_to_the_buyer() -> None:
    genome = lines()["genome"]
    verdict = world.lease("genome").verdict

    assert genome.returned_micros == verdict.unpaid_micros
    assert genome.credit_micros == verdict.credit.amount_micros
    assert genome.earned_micros == verdict.earned_micros - genome.credit_micros
    assert verdict.credit.posted_at is not None


@pytest.mark.stage("paid")
def test_the_unproven_provider_is_paid_into_its_holdback() -> None:
    imaging, basalt = lines()["imaging"], world.node_class("basalt")

    assert (imaging.payable_micros, imaging.credit_micros) == (0, 0)
    assert balance(code="provider.holdback", party=basalt.party_id, scope=basalt.pk).minor == imaging.holdback_micros
    assert read_words().classes[basalt.chain_class][2] == imaging.holdback_micros
    assert not m.Payout.objects.filter(node_class=basalt).exists()


@pytest.mark.stage("paid")
def test_payouts_are_the_same_in_books_and_on_the_chain() -> None:
    paid = m.Payout.objects.filter(window=world.window())
    events = ChainEvent.objects.filter(name="PaidOut")

    assert set(paid.values_list("node_class__party__slug", flat=True)) == {"granite", "harbour", "prairie"}
    assert not paid.filter(final_at=None).exists()
    assert m.Payout.objects.aggregate(total=Sum("amount_micros"))["total"] == sum(
        int(event.args["amount"]) for event in events
    )
    for code in ("granite", "harbour", "prairie"):
        owner = world.party(code)
        received = sum(m.Payout.objects.filter(node_class__party=owner).values_list("amount_micros", flat=True))
        assert chain().call("token", "balanceOf", owner.chain_address) == received
        assert balance(code="provider.payable", party=owner.pk, scope=world.node_class(code).pk).minor == 0


@pytest.mark.stage("paid")
def test_nothing_of_the_window_is_still_locked() -> None:
    window = world.window()

    assert window.state == "SETTLED"
    assert all(locked == 0 for _, locked in read_words().buyers.values())
    assert all(
        balance(code="buyer.held", party=world.party(code).pk, scope=window.pk).minor == 0 for code in world.BUYERS
    )


@pytest.mark.stage("paid")
def test_settling_and_paying_again_moves_nothing() -> None:
    window = world.window()

    with untouched():
        assert settle_window(window=window, now=clock.now()) == 0
        assert confirm_settlements(window=window, now=clock.now()) == 0
        assert pay_window(window=window, now=clock.now()) == 0


def test_earnings_wait_in_escrow_until_the_bank_account_that_was_chosen_is_ready(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    window, harbour = world.window(), world.party("harbour")
    settle_window(window=window, now=clock.now())
    cycle.run_chain(now=clock.now())
    confirm_settlements(window=window, now=clock.now())
    owner = harbour.pk
    banks.choose_bank(party=harbour, return_url="http://x/", now=clock.now())

    assert pay_window(window=window, now=clock.now()) > 0
    assert not m.Payout.objects.filter(window=window, node_class__party=owner).exists()
    assert pay_window(window=window, now=clock.now()) == 0
    BankAccount.objects.update(state="ready", processor_id="acct_1")
    assert pay_window(window=window, now=clock.now()) == 1
    cycle.run_chain(now=clock.now())
    confirm_payouts(now=clock.now())

    payout = m.Payout.objects.get(window=window, node_class__party=owner)
    assert payout.final_at is not None
    assert balance(code="provider.custody", party=owner).minor == payout.amount_micros
    assert compare_when_still(read_words, now=clock.now()) == []


@pytest.mark.stage("paid")
def test_a_payout_whose_money_went_with_an_earlier_one_counts_as_paid() -> None:
    payout = m.Payout.objects.filter(window=world.window()).first()
    assert payout is not None
    m.Payout.objects.filter(pk=payout.pk).update(final_at=None)
    sent = ChainIntent.objects.filter(key=payout.intent_key)

    sent.update(state="reverted", revert_reason="escrow: paused")
    assert confirm_payouts(now=clock.now()) == 0
    sent.update(revert_reason="escrow: nothing is payable")
    assert confirm_payouts(now=clock.now()) == 1
