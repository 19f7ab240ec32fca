"""Holds: reserved once, resolved at most once, and only in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ledger import recipes
from ledger.errors import (
    IdReused,
    InsufficientFunds,
    PendingMismatch,
    PendingNotFound,
    PendingNotTimedOut,
    PendingResolved,
    PendingTimedOut,
    PostingRefused,
)
from ledger.models import Transfer
from ledger.selectors import balance, hold, reserved, spendable
from ledger.services import expire_holds, post_hold_posting, reserve_hold, void_hold


@pytest.fixture
def buyer(books):
    party = books.id()
    books.deposit(party, 100)
    return party


@pytest.fixture
def window(books):
    return books.id()


def money(party):
    facts = {"code": "buyer.available", "party": party}
    return balance(**facts).minor, reserved(**facts).minor, balance(code="buyer.held", party=party).minor


def test_a_hold_reserves_without_moving(books, buyer, window):
    id = books.hold(buyer, window, 60)

    assert money(buyer) == (100, 60, 0)
    assert spendable(code="buyer.available", party=buyer).minor == 40
    assert hold(id).state == "open"


def test_reserved_money_cannot_be_reserved_or_spent_again(books, buyer, window):
    books.hold(buyer, window, 60)

    with pytest.raises(InsufficientFunds) as refusal:
        books.hold(buyer, window, 41)
    assert (refusal.value.facts["needed_minor"], refusal.value.facts["available_minor"]) == (41, 40)
    with pytest.raises(InsufficientFunds):
        recipes.book_withdrawal(party=buyer, amount=41, reference=books.reference(), now=books.now)
    books.hold(buyer, window, 40)


def test_the_same_hold_is_reserved_once_even_after_it_ended(books, buyer, window):
    facts = {"party": buyer, "window": window, "timeout_at": books.now + timedelta(hours=1), "now": books.now}
    id = books.id()
    assert [reserve_hold(id=id, amount=60, **facts) for _ in range(2)] == [1, 0]
    void_hold(id=id, now=books.now)

    assert reserve_hold(id=id, amount=60, **facts) == 0
    with pytest.raises(IdReused):
        reserve_hold(id=id, amount=61, **facts)
    assert money(buyer) == (100, 0, 0)


def test_posting_takes_a_part_and_releases_the_rest(books, buyer, window):
    id = books.hold(buyer, window, 60)

    posting = post_hold_posting(hold_id=id, party=buyer, window=window, amount=45)
    assert [books.post(posting) for _ in range(2)] == [1, 0]

    assert money(buyer) == (55, 0, 45)
    assert (hold(id).state, hold(id).posted_minor, hold(id).amount_minor) == ("posted", 45, 60)


def test_more_than_was_reserved_is_not_posted(books, buyer, window):
    id = books.hold(buyer, window, 60)

    with pytest.raises(PendingMismatch) as refusal:
        books.post(post_hold_posting(hold_id=id, party=buyer, window=window, amount=61))
    assert (refusal.value.facts["amount"], refusal.value.facts["reserved"]) == (61, 60)
    assert money(buyer) == (100, 60, 0)


def test_a_hold_is_posted_between_its_own_accounts_only(books, buyer, window):
    id = books.hold(buyer, window, 60)

    with pytest.raises(PendingMismatch):
        books.post(post_hold_posting(hold_id=id, party=buyer, window=books.id(), amount=60))


def test_a_void_gives_everything_back_once(books, buyer, window):
    id = books.hold(buyer, window, 60)

    assert [void_hold(id=id, now=books.now) for _ in range(2)] == [1, 0]

    assert money(buyer) == (100, 0, 0)
    assert hold(id).state == "void"


def test_a_void_is_for_the_whole_hold(books, buyer, window):
    id = books.hold(buyer, window, 60)
    release = recipes._release(Transfer.objects.get(id=id), recipes.Kind.VOID)

    with pytest.raises(PendingMismatch):
        books.post(replace(release, amount=59))


def test_a_hold_ends_once(books, buyer, window):
    posted, voided = books.hold(buyer, window, 30), books.hold(buyer, window, 30)
    books.post(post_hold_posting(hold_id=posted, party=buyer, window=window, amount=30))
    void_hold(id=voided, now=books.now)

    with pytest.raises(PendingResolved):
        void_hold(id=posted, now=books.now)
    with pytest.raises(PendingResolved) as refusal:
        books.post(post_hold_posting(hold_id=voided, party=buyer, window=window, amount=30))
    assert refusal.value.facts["pending_id"] == str(voided)
    assert money(buyer) == (70, 0, 30)


def test_a_hold_that_nobody_made_cannot_end(books, buyer, window):
    with pytest.raises(PendingNotFound):
        void_hold(id=books.id(), now=books.now)
    with pytest.raises(PendingNotFound):
        books.post(post_hold_posting(hold_id=books.id(), party=buyer, window=window, amount=1))
    deposit = Transfer.objects.get()  # a plain transfer is no hold
    with pytest.raises(PendingNotFound):
        books.post(books.posting(deposit.debit, deposit.credit, 1, kind="post", pending_id=deposit.id))
    with pytest.raises(PendingNotFound):
        hold(deposit.id)


def test_a_hold_made_and_posted_in_one_call_counts_in_that_order(books, buyer, window):
    reserve = books.posting(
        books.account("buyer.available", buyer), books.account("buyer.held", buyer, window), 60, kind="pending"
    )
    post = post_hold_posting(hold_id=reserve.id, party=buyer, window=window, amount=50)

    with pytest.raises(PendingNotFound):
        books.post(post, reserve)
    assert books.post(reserve, post) == 2
    assert money(buyer) == (50, 0, 50)


def test_after_its_time_a_hold_can_only_expire(books, buyer, window):
    id = books.hold(buyer, window, 60, minutes=60)
    post = post_hold_posting(hold_id=id, party=buyer, window=window, amount=60)

    books.forward(minutes=60)
    with pytest.raises(PendingTimedOut):
        books.post(post)
    with pytest.raises(PendingTimedOut):
        books.post(recipes._release(Transfer.objects.get(id=id), recipes.Kind.VOID))
    assert expire_holds(now=books.now) == 1

    assert money(buyer) == (100, 0, 0)
    assert hold(id).state == "expire"


def test_releasing_a_hold_that_is_over_is_written_as_an_expiry(books, buyer, window):
    id = books.hold(buyer, window, 60, minutes=60)

    books.forward(minutes=61)
    assert [void_hold(id=id, now=books.now) for _ in range(2)] == [1, 0]

    assert hold(id).state == "expire"


def test_before_its_time_a_hold_cannot_expire(books, buyer, window):
    id = books.hold(buyer, window, 60, minutes=60)
    unending = books.posting(
        books.account("buyer.available", buyer), books.account("buyer.held", buyer, window), 1, kind="pending"
    )
    books.post(unending)

    books.forward(minutes=59)
    assert expire_holds(now=books.now) == 0
    for early in (id, unending.id):
        with pytest.raises(PendingNotTimedOut):
            books.post(recipes._release(Transfer.objects.get(id=early), recipes.Kind.EXPIRE))


def test_only_what_is_overdue_and_open_expires(books, buyer, window, monkeypatch):
    monkeypatch.setattr(recipes, "EXPIRE_AT_ONCE", 2)
    overdue = [books.hold(buyer, window, 10, minutes=5) for _ in range(5)]
    done, later = books.hold(buyer, window, 10, minutes=5), books.hold(buyer, window, 10, minutes=50)
    void_hold(id=done, now=books.now)

    books.forward(minutes=10)
    assert [expire_holds(now=books.now) for _ in range(2)] == [5, 0]

    assert {hold(id).state for id in overdue} == {"expire"}
    assert (hold(done).state, hold(later).state) == ("void", "open")


def test_a_hold_that_is_already_over_reserves_nothing(books, buyer, window):
    with pytest.raises(PendingTimedOut):
        books.hold(buyer, window, 10, minutes=0)
    books.hold(buyer, window, 10, minutes=1)


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"kind": "post"}, "transfer_resolution_names_its_pending"),
        ({"kind": "posted", "pending_id": True}, "transfer_resolution_names_its_pending"),
        ({"kind": "posted", "timeout_at": True}, "transfer_only_a_pending_times_out"),
    ],
)
def test_a_transfer_says_clearly_what_it_is(books, buyer, window, facts, constraint):
    values = {"pending_id": books.id(), "timeout_at": books.now}
    facts = {name: values.get(name, value) for name, value in facts.items()}

    with pytest.raises(PostingRefused) as refusal:
        books.post(books.posting(books.account("card.clearing"), books.account("suspense"), 1, **facts))
    assert refusal.value.facts["constraint"] == constraint
