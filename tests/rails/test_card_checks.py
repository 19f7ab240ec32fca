"""`verify` over the card rail: each of its invariants is broken on purpose, behind the books' back, and seen."""

from __future__ import annotations

import pytest

from ledger.ids import uuid7
from ledger.models import BankAccount, CardIntent, CardTransaction
from ledger.rails import connect, stripe
from ledger.rails.card_checks import check_card_rail
from ledger.services import book_float, reserve_bank_payout
from tests.owner import as_owner, behind_the_triggers
from tests.rails.bank_desk import BankDesk
from tests.rails.test_connect import bank, earned, reverse  # noqa: F401  fixtures
from tests.rails.test_story import NODE_CLASS, PROVIDER


def broken(desk: BankDesk) -> dict[str, str]:
    return {found.invariant: found.detail for found in check_card_rail(now=desk.now) if not found.ok}


def raw(statement: str) -> None:
    with behind_the_triggers() as cursor:
        cursor.execute(statement)


@pytest.fixture
def paid(earned) -> BankDesk:  # noqa: F811
    """A market in which a buyer paid by card, got a part back, and a provider was paid to its bank."""
    earned.withdraw()
    earned.turn()
    connect.sweep(now=earned.now)
    deposit = earned.desk.paid(5_000)
    earned.desk.refund(deposit, 700)
    return earned


def test_an_intact_card_rail_holds_every_invariant(paid):
    found = check_card_rail(now=paid.now)

    assert [(each.invariant, each.ok, each.looked) for each in found] == [
        (f"C{number}", True, True) for number in (1, 2, 6, 3, 4, 5, 7)
    ]


@pytest.mark.parametrize("how", ["down", "not set"])
def test_what_cannot_be_asked_is_said_to_be_unseen(paid, settings, how):
    if how == "down":
        settings.STRIPE_SANDBOX_URL = "http://127.0.0.1:9"
    else:
        settings.DEMO = False

    found = {each.invariant: each for each in check_card_rail(now=paid.now)}

    assert {number for number, each in found.items() if not each.looked} == {"C1", "C2", "C6"}
    assert found["C1"].detail.startswith("not compared with the card processor: ")


def test_c1_and_c2_a_line_that_the_books_do_not_know_is_named(paid):
    assert broken(paid) == {}
    CardTransaction.objects.create(id="txn_planted", kind="charge", source="", amount_cents=5, fee_cents=0, net_cents=5,
                                   created_at=paid.now)  # fmt: skip
    assert list(broken(paid)) == ["C1"]
    assert "txn_planted" in broken(paid)["C1"]
    with as_owner():
        CardTransaction.objects.filter(id="txn_planted").delete()

    stripe.ask(lambda c: c.payment_intents.create(
        params={"amount": 900, "currency": "usd", "confirm": True, "payment_method": "pm_card_visa"}))  # fmt: skip

    assert set(broken(paid)) == {"C1", "C2"}


def test_c3_a_hold_that_nobody_waits_for_is_named(paid):
    twin = CardIntent.objects.create(
        id=uuid7(paid.now), key="twin", kind="payout", party=PROVIDER, scope=NODE_CLASS, cents=1, created_at=paid.now
    )
    assert str(twin.pk) in broken(paid)["C3"]
    with as_owner():
        twin.delete()

    reverse(paid.transfers()[0].id, 500)
    paid.desk.deliver()
    hold = uuid7(paid.now)
    reserve_bank_payout(id=hold, provider=PROVIDER, node_class=NODE_CLASS, cents=500, now=paid.now)

    assert broken(paid)["C3"].endswith(f"hold {hold} (state None, amount 500, cents None)")


def test_c4_a_payout_that_moved_another_amount_is_named(paid):
    CardIntent.objects.filter(kind="payout").update(cents=7)

    assert "moved 27300" in broken(paid)["C4"]


def test_c5_coins_that_are_not_worth_their_dollars_are_named(paid):
    added = "update ledger_transfer set amount = amount {} 1 where ledger = 1 and code = 715"
    raw(added.format("+"))

    assert "coins and dollars" in broken(paid)["C5"]
    raw(added.format("-"))


def test_c6_a_transfer_made_twice_is_named(paid):
    intent = CardIntent.objects.get(kind="payout")
    stripe.ask(lambda c: connect._ask_transfer(c, intent, "elsewhere"))

    assert broken(paid)["C6"] == f"2 objects for the payout {intent.pk}"


def test_c6_a_transfer_that_nobody_asked_us_for_is_named(paid):
    params = {"amount": 5, "currency": "usd", "destination": paid.account().processor_id}
    stray = stripe.ask(lambda c: c.transfers.create(params=params))

    assert broken(paid)["C6"] == f"payout {stray.id} names no intent"


def test_c7_a_wallet_that_holds_less_than_the_books_say_is_named(paid):
    book_float(wallet=connect.books.wallet_of(PROVIDER), micros=1, reference=b"nothing", now=paid.now)

    assert BankAccount.objects.get().wallet in broken(paid)["C7"]
