"""Many connections at once: money is spent once, numbers have no gap, nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from django.db import connection, transaction

from ledger.errors import IdReused, InsufficientFunds, LedgerError, PendingResolved
from ledger.models import Account, Transfer
from ledger.reconcile import check_books
from ledger.selectors import balance, hold
from ledger.services import account, post_hold_posting, void_hold

THREADS = 16
PATIENCE_SECONDS = 300  # only ends what hangs


def race(work: Callable[[int], Any], racers: int = THREADS) -> list[Any]:
    """Run `work` in as many threads, all let go at once; a refusal is returned as its class."""
    gate = threading.Barrier(racers)

    def run(number: int) -> Any:
        try:
            gate.wait(timeout=PATIENCE_SECONDS)
            return work(number)
        except LedgerError as refusal:
            return type(refusal)
        finally:
            connection.close()

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(run, range(racers)))


def test_exactly_the_affordable_number_of_racing_spends_succeeds(committed_books):
    books, buyer = committed_books, committed_books.id()
    books.deposit(buyer, 105)
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")

    outcomes = Counter(race(lambda _: books.post(books.posting(available, escrow, 10))))

    assert outcomes == {1: 10, InsufficientFunds: 6}
    assert balance(code="buyer.available", party=buyer).minor == 5


def test_exactly_the_affordable_number_of_racing_holds_succeeds(committed_books):
    books, buyer, window = committed_books, committed_books.id(), committed_books.id()
    books.deposit(buyer, 70)

    outcomes = race(lambda _: str(books.hold(buyer, window, 10)))  # the held account is opened in the race too

    assert outcomes.count(InsufficientFunds) == 9
    assert Account.objects.filter(code="buyer.held", party=buyer).count() == 1
    assert all(finding.ok for finding in check_books())


def test_the_same_id_in_sixteen_hands_moves_money_once(committed_books):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    assert sorted(race(lambda _: books.post(posting))) == [0] * 15 + [1]
    assert Transfer.objects.count() == 1


def test_two_bodies_under_one_id_cannot_both_win(committed_books):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    outcomes = race(lambda number: books.post(replace(posting, amount=1 + number)))

    assert Counter(outcomes) == {1: 1, IdReused: 15}


def test_a_hold_posted_and_released_at_once_ends_once(committed_books):
    books, buyer, window = committed_books, committed_books.id(), committed_books.id()
    books.deposit(buyer, 50)
    id = books.hold(buyer, window, 50)
    post = post_hold_posting(hold_id=id, party=buyer, window=window, amount=50)

    outcomes = race(lambda number: books.post(post) if number % 2 else void_hold(id=id, now=books.now))

    assert outcomes.count(1) == 1
    assert (PendingResolved in outcomes) == (hold(id).state in ("posted", "void"))
    assert balance(code="buyer.available", party=buyer).minor in (0, 50)
    assert all(finding.ok for finding in check_books())


def test_transactions_that_post_several_times_never_lock_each_other_out(committed_books):
    books = committed_books
    accounts = [books.account("suspense"), books.account("card.clearing"), books.account("chain.clearing")]
    accounts += [account(ledger=1, code="chain.wallet", scope=books.id()) for _ in range(6)]
    books.post(*(books.posting(wallet, accounts[0], 1_000) for wallet in accounts[3:]))

    def work(number: int) -> int:
        dice = random.Random(number)
        written = 0
        for _ in range(4):
            with transaction.atomic():
                for _ in range(3):
                    if number % 4 == 0:
                        books.account("buyer.held", books.id(), books.id())  # opening an account takes the same lock
                    debit, credit = dice.sample(accounts, 2)
                    written += books.post(books.posting(debit, credit, 1), books.posting(debit, credit, 2))
        return written

    assert race(work) == [24] * THREADS

    numbers = list(Transfer.objects.order_by("seq").values_list("seq", flat=True))
    assert numbers == list(range(1, 24 * THREADS + 7))
    assert all(finding.ok for finding in check_books())


def test_an_account_opened_in_sixteen_threads_exists_once(committed_books):
    books, party, scope = committed_books, committed_books.id(), committed_books.id()

    ids = race(lambda _: books.account("provider.payable", party, scope))

    assert len(set(ids)) == 1
    assert Account.objects.count() == 1


def test_a_transaction_that_rolls_back_leaves_no_gap(committed_books):
    books = committed_books
    card, suspense = books.account("card.clearing"), books.account("suspense")

    def work(number: int) -> int:
        with transaction.atomic():
            books.post(books.posting(card, suspense, 1))
            if number % 2:
                transaction.set_rollback(True)
        return number

    race(work)

    assert list(Transfer.objects.order_by("seq").values_list("seq", flat=True)) == list(range(1, 9))
    assert books.counters(card)[0] == 8
