"""The books against their history, and against the chain. Each invariant is broken behind the books' back once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from ledger.errors import IdReused, InsufficientFunds, LedgerHalted, StaleWords
from ledger.models import ChainClass, ChainMark, Ledger, Reconciliation, Transfer
from ledger.reconcile import check_books, compare_when_still, compare_with_chain
from ledger.selectors import balance, total
from ledger.services import (
    USDC6_LEDGER,
    book_invoice,
    book_invoice_paid,
    book_paid_out,
    book_slash,
    book_stake,
    post_hold_posting,
    settle_postings,
)
from ledger.words import BOOKED_MARK, ChainWords
from tests.owner import as_owner, behind_the_triggers

CLASS_ID = 7


@pytest.fixture
def turn(books):
    """Books that have seen every kind of movement, and who took part."""
    buyer, window, provider, node_class = (books.id() for _ in range(4))
    ChainClass.objects.create(class_id=CLASS_ID, provider=provider, node_class=node_class)
    books.deposit(buyer, 1_000)
    books.forward(minutes=1)
    books.lock(buyer, window, 400)
    books.hold(buyer, window, 25)
    books.forward(minutes=1)
    books.post(
        *settle_postings(
            lease=books.id(), buyer=buyer, window=window, provider=provider, node_class=node_class, earned=300,
            holdback=50, fee=10, returned=40, credit=0,
        )
    )  # fmt: skip
    books.forward(minutes=1)
    of_class = {"provider": provider, "node_class": node_class}
    book_stake(**of_class, amount=90, reference=books.reference(), now=books.now)
    book_slash(**of_class, buyer=buyer, to_buyer=6, to_pool=4, reference=books.reference(), now=books.now)
    book_paid_out(**of_class, amount=100, reference=books.reference(), now=books.now)
    return {"buyer": buyer, "window": window, **of_class}


def wrong(now=None):
    return {finding.invariant: finding.detail for finding in check_books(now=now) if not finding.ok}


def test_books_that_nobody_touched_are_right(books, turn):
    findings = check_books(now=books.now)

    assert wrong(books.now) == {}
    assert {finding.invariant for finding in findings} >= {"L1", "L2", "L3", "L4", "L6", "L7", "L8", "L9", "L13", "L16"}
    assert all("ledger" in finding.detail for finding in findings)


def test_l1_one_sided_counters_are_found(books, turn):
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_account set credits_posted = credits_posted + 1 where code = 'foundation.fees'")

    assert "ledger 1" in wrong()["L1"]


def test_l2_a_counter_that_is_not_its_history_is_named(books, turn):
    fees = books.account("foundation.fees")
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_account set credits_posted = 11 where id = %s", [fees])

    assert f"account {fees} foundation.fees" in wrong()["L2"]
    assert "credits_posted 11, history_credits 10" in wrong()["L2"]


def test_l2_an_altered_amount_is_found(books, turn):
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_transfer set amount = amount + 1 where seq = 1")

    assert "history" in wrong()["L2"]


def test_l3_a_floor_that_was_broken_in_the_past_is_found_although_the_balance_is_fine_now(books, turn):
    deposit, spent = Transfer.objects.get(seq=1), Transfer.objects.get(seq=2)
    with behind_the_triggers() as cursor:
        swap = "update ledger_transfer set seq = %s, posted_at = %s where seq = %s"
        cursor.execute(swap, [9_999, spent.posted_at, deposit.seq])
        cursor.execute(swap, [deposit.seq, deposit.posted_at, spent.seq])
        cursor.execute(swap, [spent.seq, spent.posted_at, 9_999])

    assert "transfer 1 on account" in wrong()["L3"]
    assert set(wrong()) == {"L3"}


def test_l4_l7_l8_what_the_unique_keys_forbid_is_found_without_them(books, turn):
    with as_owner() as cursor:
        cursor.execute("alter table ledger_transfer drop constraint ledger_transfer_pkey")
        cursor.execute("alter table ledger_transfer drop constraint transfer_seq_is_taken_once")
        cursor.execute("drop index transfer_pending_is_resolved_once")
    with behind_the_triggers() as cursor:
        cursor.execute("insert into ledger_transfer select * from ledger_transfer where kind = 'post'")

    found = wrong()
    assert "transfer id" in found["L4"]
    assert "hold" in found["L7"]
    assert "number" in found["L8"]


def test_l6_a_transfer_between_ledgers_is_named(books, turn):
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_transfer set debit = 12345 where seq = 1")

    assert "transfer 1 " in wrong()["L6"]


def test_l6_a_group_without_a_leg_is_found(books, turn):
    link = Transfer.objects.get(code=301).link
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_transfer set link = null where link = %s and code <> 301", [link])

    assert str(link) in wrong()["L6"]


@pytest.fixture
def invoices(books):
    """Two invoices of one buyer, one of them paid."""
    buyer, paid, unpaid = (books.id() for _ in range(3))
    for invoice in (paid, unpaid):
        book_invoice(invoice=invoice, party=buyer, net=100, tax=19, now=books.now)
    book_invoice_paid(invoice=paid, party=buyer, amount=119, now=books.now)
    return {"party": buyer, "paid": paid, "unpaid": unpaid}


def test_l16_what_is_open_on_an_invoice_is_what_was_invoiced_and_not_paid(books, invoices):
    party = invoices["party"]
    open_on = {name: balance(code="invoice.receivable", party=party, scope=invoices[name]).minor
               for name in ("paid", "unpaid")}  # fmt: skip

    assert open_on == {"paid": 0, "unpaid": 119}
    assert [total(code).minor for code in ("foundation.advanced", "tax.payable", "bank.received")] == [200, 38, 119]
    again = {"party": party, "now": books.now}
    assert book_invoice(invoice=invoices["unpaid"], net=100, tax=19, **again) == 0
    assert book_invoice_paid(invoice=invoices["paid"], amount=119, **again) == 0
    with pytest.raises(IdReused):
        book_invoice(invoice=invoices["unpaid"], net=101, tax=19, **again)
    with pytest.raises(InsufficientFunds):
        book_invoice_paid(invoice=invoices["unpaid"], amount=120, **again)
    assert wrong() == {}


def test_l16_an_invoice_that_is_paid_in_part_or_moved_by_something_else_is_named(books, invoices):
    open_one = books.account("invoice.receivable", invoices["party"], invoices["unpaid"])
    book_invoice_paid(invoice=invoices["unpaid"], party=invoices["party"], amount=118, now=books.now)
    assert "invoiced 119, paid 118" in wrong()["L16"]
    assert str(invoices["unpaid"]) in wrong()["L16"]

    book_other = books.posting(books.account("bank.received"), open_one, 1)  # a correction makes it no better
    books.post(book_other)
    assert f"account {open_one} invoice.receivable" in wrong()["L16"]


def test_l16_advances_that_nobody_was_invoiced_for_are_found(books, invoices):
    books.deposit(invoices["party"], 5)
    books.post(books.posting(books.account("buyer.available", invoices["party"]), books.account("tax.payable"), 5))

    assert "owed_and_paid 238, advanced_and_tax 243" in wrong()["L16"]


@pytest.mark.parametrize(
    "change", ["amount = amount + 1", "debit = debit + 2", "posted_at = posted_at + interval '1 year'", "kind = 'void'",
               "kind = 'expire'", "pending_id = '00000000-0000-0000-0000-000000000001'"]
)  # fmt: skip
def test_l7_a_hold_that_ended_otherwise_than_it_may_is_named(books, turn, change):
    hold = books.hold(turn["buyer"], turn["window"], 10)
    books.post(post_hold_posting(hold_id=hold, party=turn["buyer"], window=turn["window"], amount=9))
    seq = Transfer.objects.get(pending_id=hold).seq
    with behind_the_triggers() as cursor:
        cursor.execute(f"update ledger_transfer set {change} where seq = {seq}")
        cursor.execute(f"update ledger_transfer set amount = 11 where seq = {seq} and amount = 10")

    assert f"transfer {seq} " in wrong()["L7"]


def test_l8_a_missing_transfer_is_named(books, turn):
    with behind_the_triggers() as cursor:
        cursor.execute("delete from ledger_transfer where seq = 3")

    assert "number 3" in wrong()["L8"]


def test_l8_a_missing_end_is_found(books, turn):
    with as_owner():
        Ledger.objects.filter(pk=USDC6_LEDGER).update(next_seq=999)

    assert "next_seq 999" in wrong()["L8"]


def test_l9_money_left_lying_in_clearing_is_found_after_its_deadline(books, turn):
    books.post(books.posting(books.account("chain.clearing"), books.account("suspense"), 5))

    assert wrong(books.now + timedelta(days=3)) == {}
    assert "chain.clearing" in wrong(books.now + timedelta(days=3, seconds=1))["L9"]


def test_l13_programme_money_that_became_organic_is_named(books, turn):
    programme = books.account("programme.grant", scope=books.id())
    card = books.account("card.clearing")
    books.post(books.posting(card, programme, 5))
    books.post(books.posting(programme, books.account("suspense"), 5, origin="grant"))
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_transfer set origin = 'organic' where origin = 'grant'")

    assert "programme.grant" in wrong()["L13"]


# -- against the chain -----------------------------------------------------------------------------------------------


def words_of(turn) -> ChainWords:
    """What the contracts say after `turn`."""
    return ChainWords(
        block_number=5, block_hash="0xaa", escrow_balance=910, stake_balance=80, buyers={turn["buyer"]: (646, 0)},
        classes={CLASS_ID: (0, 200, 50)}, stakes={CLASS_ID: 80}, fees=10, pool=4,
    )  # fmt: skip


def test_books_that_agree_with_the_chain_go_on(books, turn):
    assert compare_with_chain(words_of(turn), now=books.now) == []

    row = Reconciliation.objects.get()
    assert (row.block_number, row.differences, Ledger.objects.get(pk=USDC6_LEDGER).halted) == (5, [], False)
    assert {figure["figure"] for figure in row.figures} == {
        "escrow balance", "stake balance", "fees", "pool", "free", "locked", "payable", "holdback", "stake",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "figure"),
    [
        ({"escrow_balance": 909}, "escrow balance"), ({"stake_balance": 79}, "stake balance"), ({"fees": 11}, "fees"),
        ({"pool": 3}, "pool"), ({"classes": {CLASS_ID: (0, 201, 50)}}, "payable"),
        ({"classes": {CLASS_ID: (0, 200, 49)}}, "holdback"), ({"stakes": {CLASS_ID: 79}}, "stake"),
        ({"stakes": {CLASS_ID: 80, 8: 1}}, "stake"), ({"classes": {}}, "holdback"), ({"buyers": {}}, "free"),
    ],
)  # fmt: skip
def test_any_difference_stops_payouts(books, turn, change, figure):
    differences = compare_with_chain(replace(words_of(turn), **change), now=books.now)

    assert figure in {difference.figure for difference in differences}
    assert all(difference.books != difference.chain for difference in differences)
    assert "books and chain differ" in Ledger.objects.get(pk=USDC6_LEDGER).halted_reason
    assert len(Reconciliation.objects.get().differences) == len(differences)
    with pytest.raises(LedgerHalted):
        book_paid_out(
            provider=turn["provider"], node_class=turn["node_class"], amount=1, reference=books.reference(),
            now=books.now,
        )  # fmt: skip
    books.deposit(turn["buyer"], 1)


def test_tokens_sent_to_a_contract_unasked_stop_no_payout(books, turn):
    words = replace(words_of(turn), escrow_balance=911, stake_balance=81)

    assert compare_with_chain(words, now=books.now) == []
    assert not Ledger.objects.get(pk=USDC6_LEDGER).halted


def test_free_and_locked_are_compared_for_each_party(books, turn):
    stranger = UUID(int=9)
    words = replace(words_of(turn), buyers={turn["buyer"]: (640, 6), stranger: (0, 2)})

    differences = compare_with_chain(words, now=books.now)

    assert {(row.figure, row.subject, row.books, row.chain) for row in differences} == {
        ("free", str(turn["buyer"]), 646, 640), ("locked", str(turn["buyer"]), 0, 6), ("locked", str(stranger), 0, 2),
    }  # fmt: skip


def test_what_is_only_reserved_is_not_locked_on_chain_yet(books, turn):
    books.hold(turn["buyer"], turn["window"], 100)

    assert compare_with_chain(words_of(turn), now=books.now) == []


def test_words_of_another_block_are_not_compared(books, turn):
    ChainMark.objects.create(name=BOOKED_MARK, block_number=6, block_hash="0xbb")

    with pytest.raises(StaleWords):
        compare_with_chain(replace(words_of(turn), pool=0), now=books.now)
    assert not Ledger.objects.get(pk=USDC6_LEDGER).halted

    fresh = iter([words_of(turn), replace(words_of(turn), block_number=6, block_hash="0xbb")])
    assert compare_when_still(lambda: next(fresh), now=books.now) == []
    assert Reconciliation.objects.get().block_number == 6


def test_the_indexers_mark_has_the_name_that_is_compared():
    from ledger.rails import indexer

    assert indexer.MARK == BOOKED_MARK
