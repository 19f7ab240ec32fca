"""The combining poster: every caller has the answer it would have had alone, and none before it is durable."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from ledger import faults
from ledger.errors import Busy, IdReused, InsufficientFunds, LedgerError, LedgerHalted, LinkBroken
from ledger.models import Transfer
from ledger.poster import Poster
from ledger.posting import post_run
from ledger.reconcile import check_books
from ledger.selectors import balance
from ledger.services import halt_ledger

PATIENCE_SECONDS = 300  # only ends what hangs


class Held:
    """A poster whose next run waits until told, so that everything sent meanwhile is combined."""

    def __init__(self, books: Any, waiting_max: int = 10_000) -> None:
        self.books, self.gate, self.runs = books, threading.Semaphore(0), 0
        self.poster = Poster(ledger=1, clock=self._now, waiting_max=waiting_max)
        self.pool = ThreadPoolExecutor(40)
        self.waiting: list[Any] = []

    def _now(self) -> Any:
        if not self.runs:
            assert self.gate.acquire(timeout=PATIENCE_SECONDS)
        self.runs += 1
        return self.books.now

    def send(self, *postings: Any) -> None:
        """Hand a group in from a thread of its own, behind those that were sent before."""
        before = self.poster.waiting
        self.waiting.append(self.pool.submit(self._answer, postings))
        while self.poster.waiting == before and not self.waiting[-1].done() and len(self.waiting) > 1:
            threading.Event().wait(0.001)

    def _answer(self, postings: Any) -> Any:
        try:
            return self.poster.post(postings)
        except LedgerError as refusal:
            return type(refusal)
        finally:
            connection.close()

    def answers(self) -> list[Any]:
        """Let the poster go on; the answers in the order in which the groups were sent."""
        self.gate.release()
        return [future.result(timeout=PATIENCE_SECONDS) for future in self.waiting]


@pytest.fixture
def held(committed_books: Any) -> Iterator[Callable[..., Held]]:
    made: list[Held] = []

    def make(**more: Any) -> Held:
        made.append(Held(committed_books, **more))
        card, suspense = committed_books.account("card.clearing"), committed_books.account("suspense")
        made[-1].send(committed_books.posting(card, suspense, 1))
        while made[-1].poster.waiting:  # the thread has taken it and waits
            threading.Event().wait(0.001)
        return made[-1]

    yield make
    for one in made:
        one.gate.release()
        one.poster.close()
        one.pool.shutdown()


def test_callers_who_wait_together_share_one_commit(committed_books, held):
    books, poster = committed_books, held()
    card, suspense = books.account("card.clearing"), books.account("suspense")
    for _ in range(30):
        poster.send(books.posting(card, suspense, 10))

    assert poster.answers() == [1] * 31
    assert poster.runs == 2
    assert books.counters(card)[0] == 301
    assert all(finding.ok for finding in check_books())


def test_a_bad_group_stands_alone_and_all_others_commit(committed_books, held):
    books, buyer = committed_books, committed_books.id()
    books.deposit(buyer, 105)
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")
    card, suspense = books.account("card.clearing"), books.account("suspense")
    poster = held()
    for number in range(20):
        if number == 7:
            poster.send(books.posting(available, escrow, 106))
        elif number == 13:
            poster.send(books.posting(card, suspense, 1, link=books.id()))
        else:
            poster.send(books.posting(card, suspense, 10), books.posting(available, escrow, 1))

    answers = poster.answers()

    assert Counter(answers) == {2: 18, 1: 1, InsufficientFunds: 1, LinkBroken: 1}
    assert (answers[8], answers[14]) == (InsufficientFunds, LinkBroken)
    assert balance(code="buyer.available", party=buyer).minor == 87


def test_exactly_the_affordable_number_of_combined_spends_succeeds(committed_books, held):
    books, buyer = committed_books, committed_books.id()
    books.deposit(buyer, 105)
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")
    poster = held()
    for _ in range(16):
        poster.send(books.posting(available, escrow, 10))

    assert poster.answers()[1:] == [1] * 10 + [InsufficientFunds] * 6


def test_two_who_have_nothing_cannot_pay_each_other_in_one_run(committed_books, held):
    books, one, other = committed_books, committed_books.id(), committed_books.id()
    first, second = books.account("buyer.available", one), books.account("buyer.available", other)
    poster = held()
    poster.send(books.posting(first, second, 10))
    poster.send(books.posting(second, first, 10))

    assert poster.answers()[1:] == [InsufficientFunds, InsufficientFunds]


def test_what_anothers_hold_releases_is_spent_by_nobody_in_the_same_run(committed_books, held):
    books, buyer, window = committed_books, committed_books.id(), committed_books.id()
    books.deposit(buyer, 10)
    hold = books.hold(buyer, window, 10)
    available, inside = books.account("buyer.available", buyer), books.account("buyer.held", buyer, window)
    poster = held()
    poster.send(books.posting(available, books.account("chain.escrow"), 10))
    poster.send(books.posting(available, inside, 10, kind="void", pending_id=hold))

    assert poster.answers()[1:] == [InsufficientFunds, 1]


def test_one_group_may_pass_on_what_it_received(committed_books, held):
    books, buyer = committed_books, committed_books.id()
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")
    poster = held()
    for _ in range(3):
        poster.send(books.posting(escrow, available, 10), books.posting(available, escrow, 10))

    assert poster.answers()[1:] == [2, 2, 2]
    assert poster.runs == 2


def test_two_lone_legs_of_one_link_do_not_become_a_group(committed_books, held):
    books, link = committed_books, committed_books.id()
    card, suspense = books.account("card.clearing"), books.account("suspense")
    poster = held()
    poster.send(books.posting(card, suspense, 1, link=link))
    poster.send(books.posting(card, suspense, 1, link=link))

    assert poster.answers()[1:] == [LinkBroken, LinkBroken]


def test_the_same_id_in_many_hands_is_new_to_one_and_another_body_is_refused(committed_books, held):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)
    poster = held()
    for amount in (10, 10, 11, 10):
        poster.send(replace(posting, amount=amount))

    assert poster.answers()[1:] == [1, 0, IdReused, 0]


def test_a_halted_ledger_takes_no_payout_from_the_poster(committed_books, held):
    books = committed_books
    card, suspense = books.account("card.clearing"), books.account("suspense")
    halt_ledger(ledger=1, reason="a difference")
    poster = held()
    poster.send(books.posting(card, suspense, 1, code=701))
    poster.send(books.posting(card, suspense, 1))

    assert poster.answers()[1:] == [LedgerHalted, 1]


def test_a_full_queue_says_busy_and_never_grows(committed_books, held):
    books, poster = committed_books, held(waiting_max=2)
    card, suspense = books.account("card.clearing"), books.account("suspense")
    for _ in range(3):
        poster.send(books.posting(card, suspense, 10))

    assert poster.answers() == [1, 1, 1, Busy]
    assert Transfer.objects.count() == 3


def test_a_closed_poster_answers_who_waits_and_takes_nobody_else(committed_books):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    with Poster(ledger=1, clock=lambda: books.now) as poster:
        assert (poster.post([posting]), poster.post([])) == (1, 0)

    with pytest.raises(Busy):
        poster.post([posting])


def test_inside_a_transaction_the_poster_refuses_to_commit_behind_the_callers_back(committed_books):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    with Poster(ledger=1, clock=lambda: books.now) as poster, transaction.atomic(), pytest.raises(RuntimeError):
        poster.post([posting])
    assert Transfer.objects.count() == 0


def test_a_run_is_durable_also_where_the_session_does_not_wait_for_the_disk(books):
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    with connection.cursor() as cursor:
        cursor.execute("set local synchronous_commit = off")
        post_run(ledger=1, groups=[[posting]], now=books.now)
        cursor.execute("show synchronous_commit")
        assert cursor.fetchone() == ("on",)


def test_nobody_is_told_before_the_commit_and_the_poster_outlives_a_lost_connection(committed_books):
    books = committed_books
    posting = books.posting(books.account("card.clearing"), books.account("suspense"), 10)

    def lose_it() -> None:
        with connection.cursor() as cursor:
            cursor.execute("set role none")  # the connection's own login ends it
            cursor.execute("select pg_terminate_backend(pg_backend_pid())")

    with Poster(ledger=1, clock=lambda: books.now) as poster:
        with faults.armed("ledger.poster.before", lose_it), pytest.raises(OperationalError):
            poster.post([posting])
        assert Transfer.objects.count() == 0
        assert poster.post([posting]) == 1
    assert Transfer.objects.count() == 1
