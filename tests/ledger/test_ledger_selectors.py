"""What the books show: balances, the trial balance, and a party's own lines."""

from __future__ import annotations

import pytest
from django.core.paginator import Paginator

from ledger.errors import NotInChart, SeqNotWritten
from ledger.models import Ledger
from ledger.money import USD2, USDC6, Money
from ledger.selectors import balance, halt_reason, spendable, statement, total, trial_balance
from ledger.services import (
    USDC6_LEDGER,
    book_paid_out,
    book_stake,
    halt_ledger,
    settle_postings,
    void_hold,
)


@pytest.fixture
def turn(books):
    """A buyer with a hold, a settled lease and a payout to its provider."""
    buyer, window, provider, node_class = (books.id() for _ in range(4))
    books.deposit(buyer, 1_000)
    books.lock(buyer, window, 400)
    books.forward(hours=1)
    books.post(
        *settle_postings(
            lease=books.id(), buyer=buyer, window=window, provider=provider, node_class=node_class, earned=300,
            holdback=50, fee=10, returned=40, credit=0,
        )
    )  # fmt: skip
    book_paid_out(provider=provider, node_class=node_class, amount=100, reference=books.reference(), now=books.now)
    return buyer, window, provider, node_class


def test_a_balance_is_on_the_normal_side_and_in_the_ledgers_asset(books, turn):
    buyer, window, provider, node_class = turn

    assert balance(code="buyer.available", party=buyer) == Money(640, USDC6)
    assert balance(code="buyer.held", party=buyer, scope=window) == Money(0, USDC6)
    assert balance(code="provider.payable", party=provider, scope=node_class) == Money(200, USDC6)
    assert balance(code="chain.escrow") == total("chain.escrow") == Money(900, USDC6)
    assert balance(code="card.clearing", ledger=2) == Money(0, USD2)


def test_what_is_left_open_is_summed_over(books, turn):
    buyer = turn[0]
    books.deposit(books.id(), 5)
    books.lock(buyer, books.id(), 30)
    books.lock(buyer, books.id(), 12)

    assert balance(code="buyer.held", party=buyer) == Money(42, USDC6)
    assert total("buyer.available") == Money(640 - 42 + 5, USDC6)


def test_a_code_outside_the_chart_has_no_balance(books):
    with pytest.raises(NotInChart):
        balance(code="buyer.avialable")


def test_the_trial_balance_has_equal_sums(books, turn):
    books.hold(turn[0], books.id(), 7)

    trial = trial_balance()

    assert trial.is_balanced
    assert (trial.debits_posted, trial.debits_pending) == (trial.credits_posted, 7)
    assert {row.code: row.balance for row in trial.rows if row.balance} == books.all_balances()
    assert [row.code for row in trial.rows][:2] == ["buyer.available", "buyer.held"]


def test_the_trial_balance_of_any_number_is_the_one_that_stood_then(books):
    buyer, window, stood = books.id(), books.id(), {}
    steps = (
        lambda: books.deposit(buyer, 1_000),
        lambda: books.hold(buyer, window, 400),
        lambda: void_hold(id=books.hold(buyer, books.id(), 15), now=books.now),
        lambda: books.lock(buyer, window, 90),
        lambda: books.deposit(books.id(), 5),
    )
    for step in steps:
        step()
        stood[Ledger.objects.get(pk=USDC6_LEDGER).next_seq - 1] = trial_balance()

    for seq, trial in stood.items():
        past = trial_balance(at_seq=seq)
        assert past.is_balanced
        assert _counters(past) == _counters(trial)


def _counters(trial):
    found = {row.code: (row.debits_posted, row.credits_posted, row.debits_pending, row.credits_pending)
             for row in trial.rows}
    return {code: counters for code, counters in found.items() if any(counters)}


@pytest.mark.parametrize("beyond", [0, -1, 10**6])
def test_a_number_that_is_not_in_the_books_has_no_balance(books, beyond):
    books.deposit(books.id(), 5)

    with pytest.raises(SeqNotWritten):
        trial_balance(at_seq=beyond)


def test_a_statement_shows_a_partys_lines_newest_first_with_running_balances(books, turn):
    buyer = turn[0]
    hold = books.hold(buyer, books.id(), 15)
    void_hold(id=hold, now=books.now)

    lines = [
        (line.account_code, line.kind, line.reason, line.change, line.reserved_change, line.balance_after)
        for line in statement(buyer)
    ]

    assert lines == [
        ("buyer.available", "void", "hold_released", 0, -15, 640),
        ("buyer.available", "pending", "hold", 0, 15, 640),
        ("buyer.available", "posted", "returned", 40, 0, 640),
        ("buyer.held", "posted", "returned", -40, 0, 0),
        ("buyer.held", "posted", "fee", -10, 0, 40),
        ("buyer.held", "posted", "held_back", -50, 0, 50),
        ("buyer.held", "posted", "earned", -300, 0, 100),
        ("buyer.available", "post", "hold", -400, -400, 600),
        ("buyer.held", "post", "hold", 400, 0, 400),
        ("buyer.available", "pending", "hold", 0, 400, 1000),
        ("buyer.available", "posted", "deposit", 1000, 0, 1000),
    ]


def test_a_statement_names_the_other_side_and_shows_nobody_elses_lines(books, turn):
    _, _, provider, node_class = turn
    book_stake(provider=provider, node_class=node_class, amount=9, reference=books.reference(), now=books.now)

    lines = [(line.account_code, line.other_code, line.change, line.scope) for line in statement(provider)]

    assert lines == [
        ("stake.mirror", "chain.stake", 9, node_class),
        ("provider.payable", "chain.escrow", -100, node_class),
        ("provider.holdback", "buyer.held", 50, node_class),
        ("provider.payable", "buyer.held", 300, node_class),
    ]
    assert list(statement(books.id())) == []


def test_a_statement_is_read_page_by_page(books, turn, django_assert_max_num_queries):
    lines = statement(turn[0])

    with django_assert_max_num_queries(3):
        page = Paginator(lines, 3).page(2)
        shown = list(page.object_list)

    assert shown == list(lines)[3:6]
    assert [lines[0], *lines[1:8], lines[-1]] == list(lines)
    assert (len(lines), bool(statement(books.id()))) == (9, False)
    with pytest.raises(IndexError):
        lines[9]
    with pytest.raises(ValueError, match="order"):
        lines[::2]


def test_spendable_money_is_what_no_hold_has_reserved(books, turn):
    books.hold(turn[0], books.id(), 40)

    assert spendable(code="buyer.available", party=turn[0]) == Money(600, USDC6)


def test_a_halt_says_why(books):
    assert halt_reason() == ""

    halt_ledger(ledger=USDC6_LEDGER, reason="books and chain differ")

    assert halt_reason() == "books and chain differ"
