"""Transfers: written once, whole or not at all, numbered without a gap, and within 64 bits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, transaction

from ledger import posting as posting_module
from ledger.errors import (
    AmountOutOfRange,
    IdReused,
    InsufficientFunds,
    LedgerHalted,
    LinkBroken,
    NotInChart,
    OriginMismatch,
    PostingRefused,
    UnknownAccount,
    UnknownLedger,
)
from ledger.models import Account, Ledger, Transfer
from ledger.money import INT64_MAX
from ledger.services import (
    USDC6_LEDGER,
    Posting,
    account,
    halt_ledger,
    post_transfers,
    refuse_if_halted,
    resume_ledger,
)


@pytest.fixture
def accounts(books):
    """Two accounts without a floor, so that a test may move anything between them."""
    return books.account("card.clearing"), books.account("suspense")


def test_a_transfer_moves_one_amount_from_debit_to_credit(books, accounts):
    card, suspense = accounts

    assert books.post(books.posting(card, suspense, 60)) == 1

    assert books.counters(card) == (60, 0, 0, 0)
    assert books.counters(suspense) == (0, 60, 0, 0)


def test_the_same_id_moves_money_once(books, accounts):
    posting = books.posting(*accounts, 60)
    books.post(posting)

    books.forward(hours=1)
    assert books.post(posting) == 0
    assert books.post(posting, posting, books.posting(*accounts, 1)) == 1

    assert books.counters(accounts[0]) == (61, 0, 0, 0)


def test_no_posting_at_all_is_no_work(books):
    assert books.post() == 0


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("amount", 61),
        ("code", 101),
        ("origin", "grant"),
        ("reference", b"\x02"),
        ("effective_at", "later"),
        ("kind", "pending"),
    ],
)
def test_the_same_id_with_another_body_is_an_error_that_names_the_field(books, accounts, field, other):
    first = books.posting(*accounts, 60, reference=b"\x01", effective_at=books.now)
    books.post(first)

    other = books.now + timedelta(1) if other == "later" else other
    with pytest.raises(IdReused) as refusal:
        books.post(replace(first, **{field: other}))
    assert refusal.value.facts == {"id": str(first.id), "field": field, "seq": 1}


def test_the_same_id_between_other_accounts_is_an_error(books, accounts):
    card, suspense = accounts
    first = books.posting(card, suspense, 60)
    books.post(first)

    for field, posting in (
        ("debit", replace(first, debit=books.account("chain.clearing"))),
        ("credit", replace(first, credit=books.account("chain.clearing"))),
    ):
        with pytest.raises(IdReused) as refusal:
            books.post(posting)
        assert refusal.value.facts["field"] == field


def test_two_bodies_under_one_id_in_one_call_are_refused(books, accounts):
    first = books.posting(*accounts, 60)

    with pytest.raises(IdReused):
        books.post(first, replace(first, amount=61))
    assert Transfer.objects.count() == 0


def test_one_bad_posting_keeps_all_others_out(books, accounts):
    buyer = books.account("buyer.available", books.id())

    with pytest.raises(InsufficientFunds):
        books.post(books.posting(*accounts, 5), books.posting(buyer, accounts[1], 1))

    assert Transfer.objects.count() == 0
    assert books.counters(accounts[0]) == (0, 0, 0, 0)
    assert Ledger.objects.get(pk=USDC6_LEDGER).next_seq == 1


def test_a_refusal_leaves_the_callers_transaction_usable(books, accounts):
    with transaction.atomic():
        books.post(books.posting(*accounts, 5))
        with pytest.raises(UnknownAccount):
            books.post(books.posting(accounts[0], 12345, 5))
        books.post(books.posting(*accounts, 7))

    assert books.counters(accounts[0])[0] == 12


def test_transfers_are_numbered_without_a_gap(books, accounts):
    for _ in range(3):
        books.post(books.posting(*accounts, 1), books.posting(*accounts, 2))
        with pytest.raises(IdReused):
            books.post(books.posting(*accounts, 1), books.posting(*accounts, 9, id=Transfer.objects.first().id))

    assert list(Transfer.objects.order_by("seq").values_list("seq", flat=True)) == [1, 2, 3, 4, 5, 6]
    assert Ledger.objects.get(pk=USDC6_LEDGER).next_seq == 7


def test_an_account_is_never_overdrawn_and_the_refusal_says_by_how_much(books):
    buyer = books.id()
    books.deposit(buyer, 100)
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")
    books.post(books.posting(available, escrow, 40))

    with pytest.raises(InsufficientFunds) as refusal:
        books.post(books.posting(available, escrow, 61))
    assert refusal.value.facts == {
        "account": available,
        "account_code": "buyer.available",
        "party": str(buyer),
        "needed_minor": 61,
        "available_minor": 60,
    }
    assert books.post(books.posting(available, escrow, 60)) == 1


def test_an_asset_account_never_gives_more_than_it_took(books):
    escrow, suspense = books.account("chain.escrow"), books.account("suspense")
    books.post(books.posting(escrow, suspense, 10))

    with pytest.raises(InsufficientFunds) as refusal:
        books.post(books.posting(suspense, escrow, 11))
    assert (refusal.value.facts["account_code"], refusal.value.facts["available_minor"]) == ("chain.escrow", 10)
    assert books.post(books.posting(suspense, escrow, 10)) == 1


def test_floors_are_judged_after_the_whole_call(books):
    buyer = books.id()
    available, escrow = books.account("buyer.available", buyer), books.account("chain.escrow")

    out_then_in = books.posting(available, escrow, 5), books.posting(escrow, available, 5)
    assert books.post(*out_then_in) == 2


def test_an_account_of_another_ledger_is_unknown_here(books, accounts):
    foreign = account(ledger=2, code="suspense")

    with pytest.raises(UnknownAccount) as refusal:
        books.post(books.posting(accounts[0], foreign, 1))
    assert refusal.value.facts == {"ledger": USDC6_LEDGER, "account": foreign}


def test_a_ledger_that_does_not_exist_is_refused(books, accounts):
    with pytest.raises(UnknownLedger):
        post_transfers(ledger=99, postings=[books.posting(*accounts, 1)], now=books.now)
    with pytest.raises(UnknownLedger):
        account(ledger=99, code="suspense")


@pytest.mark.parametrize("amount", [0, -1])
def test_an_amount_is_positive(books, accounts, amount):
    with pytest.raises(PostingRefused) as refusal:
        books.post(books.posting(*accounts, amount))
    assert refusal.value.facts == {"constraint": "transfer_moves_a_positive_amount"}


def test_an_amount_fits_64_bits(books, accounts):
    assert books.post(books.posting(*accounts, INT64_MAX)) == 1

    with pytest.raises(AmountOutOfRange):
        books.posting(*accounts, INT64_MAX + 1)
    with pytest.raises(TypeError):
        books.posting(*accounts, 1.0)


def test_a_sum_beyond_64_bits_is_an_error_and_nothing_moves(books, accounts):
    books.post(books.posting(*accounts, INT64_MAX))

    with pytest.raises(AmountOutOfRange):
        books.post(books.posting(*accounts, 1))
    with pytest.raises(AmountOutOfRange):  # the sum of one call alone
        books.post(*(books.posting(*reversed(accounts), INT64_MAX) for _ in range(2)))
    assert books.counters(accounts[0]) == (INT64_MAX, 0, 0, 0)


# -- linked groups ---------------------------------------------------------------------------------------------------


def test_too_little_money_is_never_called_too_large_an_amount(books):
    """What is spent and what is reserved may together leave 64 bits where each of them fits."""
    buyer, window = books.id(), books.id()
    books.deposit(buyer, 60)
    available, held = books.account("buyer.available", buyer), books.account("buyer.held", buyer, window)
    books.post(books.posting(available, books.account("suspense"), 50))

    with pytest.raises(InsufficientFunds):
        books.post(books.posting(available, held, INT64_MAX, kind="pending"))


def test_a_linked_group_arrives_whole(books, accounts):
    link = books.id()
    group = [books.posting(*accounts, amount, link=link) for amount in (1, 2, 3)]

    assert books.post(*group) == 3
    assert books.post(*group) == 0


def test_a_lone_leg_is_refused(books, accounts):
    with pytest.raises(LinkBroken) as refusal:
        books.post(books.posting(*accounts, 1, link=books.id()))
    assert refusal.value.facts["members"] == 1
    assert Transfer.objects.count() == 0


def test_nothing_joins_a_group_later(books, accounts):
    link = books.id()
    books.post(*(books.posting(*accounts, amount, link=link) for amount in (1, 2)))

    with pytest.raises(LinkBroken) as refusal:
        books.post(*(books.posting(*accounts, amount, link=link) for amount in (3, 4)))
    assert refusal.value.facts["joins_older"] is True
    assert Transfer.objects.count() == 2


def test_one_bad_leg_keeps_its_group_out(books, accounts):
    link, poor = books.id(), books.account("buyer.available", books.id())

    with pytest.raises(InsufficientFunds):
        books.post(books.posting(*accounts, 1, link=link), books.posting(poor, accounts[1], 1, link=link))
    assert Transfer.objects.count() == 0


# -- origin and halt -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "origin"), [("programme.incentive", "incentive"), ("programme.grant", "grant")])
def test_money_of_a_programme_keeps_its_origin(books, accounts, code, origin):
    programme = books.account(code, scope=books.id())
    books.post(books.posting(accounts[0], programme, 100))

    with pytest.raises(OriginMismatch) as refusal:
        books.post(books.posting(programme, accounts[1], 1, origin="organic"))
    assert refusal.value.facts["origin"] == "organic"
    assert books.post(books.posting(programme, accounts[1], 1, origin=origin)) == 1


def test_an_origin_is_one_of_four_words(books, accounts):
    with pytest.raises(PostingRefused) as refusal:
        books.post(books.posting(*accounts, 1, origin="magic"))
    assert refusal.value.facts == {"constraint": "transfer_origin_is_known"}


@pytest.mark.parametrize("code", [700, 701, 799])
def test_a_halted_ledger_writes_no_payout(books, accounts, code):
    before = books.posting(*accounts, 1, code=code)
    books.post(before)
    halt_ledger(ledger=USDC6_LEDGER, reason="books and chain differ")
    halt_ledger(ledger=USDC6_LEDGER, reason="something later")

    with pytest.raises(LedgerHalted) as refusal:
        books.post(books.posting(*accounts, 1, code=code))
    assert refusal.value.facts == {"ledger": USDC6_LEDGER, "reason": "books and chain differ"}
    with pytest.raises(LedgerHalted):
        refuse_if_halted()
    assert books.post(before) == 0  # it was paid before
    assert books.post(books.posting(*accounts, 1, code=699), books.posting(*accounts, 1, code=800)) == 2

    resume_ledger(ledger=USDC6_LEDGER)
    refuse_if_halted()
    assert books.post(books.posting(*accounts, 1, code=code)) == 1


def test_raw_sql_cannot_pay_from_a_halted_ledger_either(books, accounts):
    halt_ledger(ledger=USDC6_LEDGER, reason="stopped")

    posting = books.posting(*accounts, 1, code=701)
    columns = [[getattr(posting, name)] for name in Posting.__slots__]
    order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    with pytest.raises(Exception, match="stand still"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(posting_module._POST, [USDC6_LEDGER, books.now, *(columns[place] for place in order)])


# -- accounts and ledgers --------------------------------------------------------------------------------------------


def test_an_account_is_opened_once_and_found_again(books):
    party, scope = books.id(), books.id()

    first = books.account("buyer.held", party, scope)

    assert books.account("buyer.held", party, scope) == first
    assert books.account("buyer.held", party, books.id()) != first
    assert Account.objects.get(pk=first).floor == "credit"


def test_the_number_of_an_account_carries_its_ledger(books):
    here, there = account(ledger=1, code="suspense"), account(ledger=2, code="suspense")

    assert (here >> 40, there >> 40) == (1, 2)
    assert account(ledger=2, code="card.clearing") == there + 1


@pytest.mark.parametrize(
    ("code", "has_party", "has_scope"),
    [("buyer.avialable", True, False), ("buyer.available", False, False), ("suspense", True, False),
     ("buyer.held", True, False), ("programme.grant", True, True)],
)  # fmt: skip
def test_only_the_chart_has_accounts(books, code, has_party, has_scope):
    party, scope = books.id() if has_party else None, books.id() if has_scope else None
    with pytest.raises(NotInChart):
        books.account(code, party, scope)


def test_opening_the_ledgers_again_changes_nothing(books):
    halt_ledger(ledger=USDC6_LEDGER, reason="stopped")

    assert list(Ledger.objects.order_by("pk").values_list("pk", "asset", "halted")) == [
        (1, "USDC6", True), (2, "USD2", False), (3, "GRANT", False), (4, "PLAY", False),
    ]  # fmt: skip


def test_a_posting_survives_a_journey_through_json(books, accounts):
    posting = books.posting(
        *accounts, 5, kind="pending", link=books.id(), timeout_at=books.now, reference=b"\x01", effective_at=books.now
    )

    assert Posting.from_json(posting.as_json()) == posting
    assert Posting.from_json(books.posting(*accounts, 5).as_json()).reference is None
    assert posting.with_reference(b"\x09").reference == b"\x09"


def test_a_batch_of_thousands_is_one_call(books, accounts):
    postings = [books.posting(*accounts, amount) for amount in range(1, 2_001)]

    assert books.post(*postings) == 2_000
    assert books.post(*postings) == 0

    assert books.counters(accounts[0])[0] == 2_000 * 2_001 // 2
