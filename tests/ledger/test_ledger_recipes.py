"""Each event of the market moves exactly the money it says, once, and the books stay balanced."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ledger.chart import Code
from ledger.errors import InsufficientFunds, LedgerHalted
from ledger.models import Transfer
from ledger.reconcile import check_books
from ledger.selectors import balance, trial_balance
from ledger.services import (
    USDC6_LEDGER,
    book_deposit,
    book_holdback_forfeited,
    book_holdback_released,
    book_paid_out,
    book_slash,
    book_stake,
    book_unstake,
    book_withdrawal,
    halt_ledger,
    post_hold_posting,
    reserve_hold,
    resume_ledger,
    settle_postings,
)


@pytest.fixture
def cast(books):
    """A buyer, a window, a provider and its node class."""
    return {"buyer": books.id(), "window": books.id(), "provider": books.id(), "node_class": books.id()}


@pytest.fixture(autouse=True)
def _books_stay_right(books):
    yield
    assert trial_balance().is_balanced
    assert [finding for finding in check_books(now=books.now) if not finding.ok] == []


def of_class(cast):
    return {"provider": cast["provider"], "node_class": cast["node_class"]}


def settle(books, cast, **amounts):
    amounts = {"earned": 0, "holdback": 0, "fee": 0, "returned": 0, "credit": 0} | amounts
    return settle_postings(lease=books.id(), **cast, **amounts)


def test_a_deposit_is_booked_once_for_each_event(books, cast):
    first, second = books.reference(), books.reference()

    written = [
        book_deposit(party=cast["buyer"], amount=70, reference=reference, now=books.now)
        for reference in (first, first, second)
    ]

    assert written == [1, 0, 1]
    assert books.all_balances() == {"buyer.available": 140, "chain.escrow": 140}
    assert bytes(Transfer.objects.first().reference) == first


def test_a_withdrawal_takes_back_what_is_free(books, cast):
    books.deposit(cast["buyer"], 100)

    reference = books.reference()
    written = [
        book_withdrawal(party=cast["buyer"], amount=30, reference=reference, now=books.now) for _ in range(2)
    ]

    assert written == [1, 0]
    assert books.all_balances() == {"buyer.available": 70, "chain.escrow": 70}
    with pytest.raises(InsufficientFunds):
        book_withdrawal(party=cast["buyer"], amount=71, reference=books.reference(), now=books.now)


def test_a_settlement_divides_held_money_in_one_linked_group(books, cast):
    books.deposit(cast["buyer"], 1_000)
    books.lock(cast["buyer"], cast["window"], 900)

    postings = settle(books, cast, earned=500, holdback=100, fee=25, returned=75, credit=50)
    assert [books.post(*postings) for _ in range(2)] == [5, 0]

    assert books.all_balances() == {
        "buyer.available": 225, "buyer.held": 150, "chain.escrow": 1_000, "foundation.fees": 25,
        "provider.holdback": 100, "provider.payable": 500,
    }  # fmt: skip
    rows = {Code(row.code): (row.amount, row.link) for row in Transfer.objects.filter(link__isnull=False)}
    assert {code: amount for code, (amount, _) in rows.items()} == {
        Code.EARNED: 500, Code.HELD_BACK: 100, Code.FEE: 25, Code.RETURNED: 75, Code.SLA_CREDIT: 50,
    }  # fmt: skip
    assert len({link for _, link in rows.values()}) == 1


def test_a_settlement_writes_no_line_of_zero(books, cast):
    books.deposit(cast["buyer"], 100)
    books.lock(cast["buyer"], cast["window"], 100)

    only_one = settle(books, cast, returned=40)
    assert settle(books, cast) == []
    assert books.post(*only_one) == 1

    assert only_one[0].link is None
    assert books.all_balances() == {"buyer.available": 40, "buyer.held": 60, "chain.escrow": 100}


def test_a_settlement_never_takes_more_than_is_held(books, cast):
    books.deposit(cast["buyer"], 100)
    books.lock(cast["buyer"], cast["window"], 60)

    with pytest.raises(InsufficientFunds):
        books.post(*settle(books, cast, earned=50, fee=11))

    assert books.all_balances() == {"buyer.available": 40, "buyer.held": 60, "chain.escrow": 100}


def test_the_periods_of_a_lease_are_settled_apart(books, cast):
    books.deposit(cast["buyer"], 100)
    books.lock(cast["buyer"], cast["window"], 100)
    lease, none = books.id(), {"holdback": 0, "fee": 0, "returned": 0, "credit": 0}

    for period in ("1", "2"):
        books.post(*settle_postings(lease=lease, **cast, earned=10, **none, period=period))

    assert balance(code="provider.payable", party=cast["provider"]).minor == 20


@pytest.fixture
def earned(books, cast):
    """A provider with 500 payable and 100 held back."""
    books.deposit(cast["buyer"], 600)
    books.lock(cast["buyer"], cast["window"], 600)
    books.post(*settle(books, cast, earned=500, holdback=100))
    return cast


def test_a_payout_leaves_the_escrow_contract(books, earned):
    reference = books.reference()

    written = [book_paid_out(**of_class(earned), amount=400, reference=reference, now=books.now) for _ in range(2)]

    assert written == [1, 0]
    assert books.all_balances() == {"chain.escrow": 200, "provider.holdback": 100, "provider.payable": 100}
    with pytest.raises(InsufficientFunds):
        book_paid_out(**of_class(earned), amount=101, reference=books.reference(), now=books.now)


def test_a_halted_ledger_pays_nobody_but_takes_deposits_holds_and_credits(books, earned):
    halt_ledger(ledger=USDC6_LEDGER, reason="books and chain differ")

    payout = {"amount": 400, "reference": books.reference(), "now": books.now}
    with pytest.raises(LedgerHalted):
        book_paid_out(**of_class(earned), **payout)
    books.deposit(earned["buyer"], 50)
    books.lock(earned["buyer"], earned["window"], 50)
    books.post(*settle(books, earned, earned=20, credit=30))

    assert balance(code="provider.payable", party=earned["provider"]).minor == 520
    resume_ledger(ledger=USDC6_LEDGER)
    assert book_paid_out(**of_class(earned), **payout) == 1


def test_a_proven_class_is_given_its_holdback(books, earned):
    facts = {"amount": 100, "reference": books.reference(), "now": books.now}

    assert [book_holdback_released(**of_class(earned), **facts) for _ in range(2)] == [1, 0]

    assert books.all_balances() == {"chain.escrow": 600, "provider.payable": 600}


def test_a_breach_while_unproven_gives_holdback_to_the_buyer(books, earned):
    facts = {"buyer": earned["buyer"], "amount": 60, "reference": books.reference(), "now": books.now}

    assert [book_holdback_forfeited(**of_class(earned), **facts) for _ in range(2)] == [1, 0]

    assert books.all_balances() == {
        "buyer.available": 60, "chain.escrow": 600, "provider.holdback": 40, "provider.payable": 500,
    }  # fmt: skip
    with pytest.raises(InsufficientFunds):
        book_holdback_forfeited(**of_class(earned), **facts | {"amount": 41, "reference": books.reference()})


def test_stake_goes_in_and_comes_back(books, cast):
    stake = {"amount": 300, "reference": books.reference(), "now": books.now}
    back = {"amount": 120, "reference": books.reference(), "now": books.now}

    assert [book_stake(**of_class(cast), **stake) for _ in range(2)] == [1, 0]
    assert books.all_balances() == {"chain.stake": 300, "stake.mirror": 300}
    assert [book_unstake(**of_class(cast), **back) for _ in range(2)] == [1, 0]

    assert books.all_balances() == {"chain.stake": 180, "stake.mirror": 180}


def test_a_slash_pays_the_buyer_first_and_moves_the_tokens_too(books, cast):
    book_stake(**of_class(cast), amount=300, reference=books.reference(), now=books.now)
    facts = {"buyer": cast["buyer"], "to_buyer": 70, "to_pool": 30, "reference": books.reference(), "now": books.now}

    assert [book_slash(**of_class(cast), **facts) for _ in range(2)] == [3, 0]

    assert books.all_balances() == {
        "buyer.available": 70, "chain.escrow": 100, "chain.stake": 200, "insurance.pool": 30, "stake.mirror": 200,
    }  # fmt: skip
    assert Transfer.objects.filter(link__isnull=False).values("link").distinct().count() == 1


def test_a_slash_without_a_rest_is_still_whole(books, cast):
    book_stake(**of_class(cast), amount=300, reference=books.reference(), now=books.now)
    facts = {"reference": books.reference(), "now": books.now, "buyer": cast["buyer"]}

    assert book_slash(**of_class(cast), to_buyer=70, to_pool=0, **facts) == 2
    with pytest.raises(InsufficientFunds):
        book_slash(**of_class(cast), to_buyer=200, to_pool=31, **facts | {"reference": books.reference()})

    assert books.all_balances()["stake.mirror"] == 230


def test_an_event_of_zero_moves_nothing(books, cast):
    facts = {"reference": books.reference(), "now": books.now}

    assert book_deposit(party=cast["buyer"], amount=0, **facts) == 0
    assert book_holdback_released(**of_class(cast), amount=0, **facts) == 0
    assert book_slash(**of_class(cast), buyer=cast["buyer"], to_buyer=0, to_pool=0, **facts) == 0
    assert Transfer.objects.count() == 0


def test_one_event_may_mean_several_different_things(books, earned):
    """The recipe is part of the id, so one reference used by two recipes is not mistaken for a twin."""
    reference = books.reference()

    book_holdback_released(**of_class(earned), amount=10, reference=reference, now=books.now)
    assert book_paid_out(**of_class(earned), amount=10, reference=reference, now=books.now) == 1


def test_granted_money_can_stay_granted_down_to_the_payout(books, cast):
    now, nothing = books.now, {"holdback": 0, "fee": 0, "returned": 0, "credit": 0}
    book_deposit(party=cast["buyer"], amount=99, reference=books.reference(), now=now, origin="grant")
    hold, window = books.id(), cast["window"]
    of_hold = {"party": cast["buyer"], "window": window, "amount": 99, "origin": "grant"}
    reserve_hold(id=hold, timeout_at=now + timedelta(hours=1), now=now, **of_hold)

    books.post(post_hold_posting(hold_id=hold, **of_hold))
    books.post(*settle_postings(lease=books.id(), **cast, earned=99, **nothing, origin="grant"))
    book_paid_out(**of_class(cast), amount=99, reference=books.reference(), now=now, origin="grant")

    assert set(Transfer.objects.values_list("origin", flat=True)) == {"grant"}
