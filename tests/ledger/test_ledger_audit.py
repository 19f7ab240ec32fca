"""The audit reads each transfer once and finds what the SQL of `check_books` finds, each on its own."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from eth_hash.auto import keccak

from ledger import audit
from ledger.epochs import close_epoch, leaf_hash, merkle_root
from ledger.keccak import keccak_many
from ledger.keccak import merkle_root as many_root
from ledger.leaves import leaf_hashes
from ledger.models import Transfer
from ledger.money import INT64_MAX
from ledger.recipes import expire_holds
from ledger.reconcile import check_books
from tests.ledger.test_ledger_reconcile import turn  # noqa: F401
from tests.owner import behind_the_triggers


@pytest.fixture
def sealed(books, turn, monkeypatch):  # noqa: F811
    """Books with every kind of movement, two epochs and a tail that is read in small pieces."""
    monkeypatch.setattr(audit, "READ_AT_ONCE", 3)
    programme = books.account("programme.grant", scope=books.id())
    capital, card = books.account("foundation.capital"), books.account("card.clearing")
    books.post(books.posting(card, programme, 50, origin="grant"))
    close_epoch(1, books.now)
    books.forward(minutes=1)
    books.post(books.posting(programme, capital, 20, origin="grant", reference=b"odd"), books.posting(card, capital, 1))
    gone = books.hold(turn["buyer"], turn["window"], 5, minutes=1)
    books.forward(minutes=2)
    expire_holds(now=books.now)
    close_epoch(1, books.now)
    books.forward(minutes=1)
    books.post(books.posting(card, capital, 3, link=(link := books.id())), books.posting(card, capital, 4, link=link))
    books.deposit(turn["buyer"], 7)
    return {**turn, "gone": gone, "programme": programme}


def wrong(look=audit.audit_ledger):
    return {finding.invariant: finding.detail for finding in look(1) if not finding.ok}


@pytest.mark.parametrize("length", [0, 1, 36, 65, 135, 136, 137, 149, 300])
def test_the_hash_of_many_is_the_hash_of_each(length):
    messages = np.random.default_rng(length).integers(0, 256, (300, length), np.uint8)

    assert [row.tobytes() for row in keccak_many(messages)] == [keccak(row.tobytes()) for row in messages]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 600, 601])
def test_the_tree_of_many_is_the_tree_of_the_epochs(count):
    leaves = np.random.default_rng(count).integers(0, 256, (count, 32), np.uint8)

    assert many_root(leaves) == merkle_root([row.tobytes() for row in leaves])


def test_the_leaves_of_many_are_the_leaves_of_each(books, sealed):
    transfers = list(Transfer.objects.filter(ledger=1).order_by("seq"))

    leaves = leaf_hashes(1, 1, len(transfers))

    assert [leaf.tobytes() for leaf in leaves] == [leaf_hash(transfer) for transfer in transfers]


def test_books_that_nobody_touched_pass_and_empty_ones_too(books, sealed):
    assert wrong() == {}
    assert [finding.ok for finding in audit.audit_ledger(2)] == [True] * len(audit._LOOKS)


def test_a_sum_that_just_fits_64_bits_is_no_fault(books):
    card, suspense, capital = (books.account(code) for code in ("card.clearing", "suspense", "foundation.capital"))
    books.post(books.posting(card, suspense, INT64_MAX - 1), books.posting(card, capital, 1))

    assert wrong() == {}


DAMAGES = {
    "sides": ("update ledger_account set credits_posted = credits_posted + 1 where code = 'foundation.fees'", "L1"),
    "counters": ("update ledger_account set debits_pending = debits_pending + 1 where code = 'buyer.available'", "L2"),
    "amount": ("update ledger_transfer set amount = amount + 1 where seq = 1", "L2"),
    "other account": ("update ledger_transfer set debit = 12345 where seq = 1", "L6"),
    "lone leg": ("update ledger_transfer set link = null where code = 301", None),
    "late leg": ("update ledger_transfer set posted_at = posted_at + interval '1 s' where code = 301", "L6"),
    "dearer end": ("update ledger_transfer set amount = amount + 1000 where kind = 'post'", "L7"),
    "wrong end": ("update ledger_transfer set kind = 'void' where kind = 'expire'", "L7"),
    "gap": ("update ledger_transfer set seq = 900 where seq = 2", "L8"),
    "reference": ("update ledger_transfer set reference = 'x' where seq = 1", "L8"),
    "business time": ("update ledger_transfer set effective_at = effective_at + interval '1 us' where seq = 2", "L8"),
    "a root": ("update ledger_epoch set root = set_byte(root, 3, get_byte(root, 3) # 1) where no = 1", "L8"),
    "totals": ("update ledger_epoch set totals_hash = root where no = 2", "L8"),
    "a missing epoch": ("delete from ledger_epoch where no = 1", "L8"),
    "origin": ("update ledger_transfer set origin = 'organic' where origin = 'grant'", "L13"),
    "origin of a hold": ("update ledger_transfer set origin = 'grant' where kind = 'post'", "L13"),
    "the next number": ("update ledger_ledger set next_seq = next_seq + 1 where id = 1", "L8"),
    "a number too many": ("update ledger_ledger set next_seq = next_seq - 1 where id = 1", "L8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_by_the_audit_and_by_sql(books, sealed, damage):
    statement, invariant = DAMAGES[damage]
    with behind_the_triggers() as cursor:
        cursor.execute(statement)

    by_sql = wrong(lambda _: check_books())
    if invariant is not None:
        assert invariant in wrong()
    assert by_sql.keys() <= wrong().keys()


def test_a_floor_broken_in_the_past_is_named_although_the_balance_is_fine_now(books, sealed):
    deposit, spent = Transfer.objects.get(seq=1), Transfer.objects.get(seq=2)
    with behind_the_triggers() as cursor:
        swap = "update ledger_transfer set seq = %s, posted_at = %s where seq = %s"
        cursor.execute(swap, [9_999, spent.posted_at, deposit.seq])
        cursor.execute(swap, [deposit.seq, deposit.posted_at, spent.seq])
        cursor.execute(swap, [spent.seq, spent.posted_at, 9_999])

    assert "transfer 1 on account" in wrong()["L3"]
    assert "transfer 1 on account" in wrong(lambda _: check_books())["L3"]


def test_a_call_may_net_out_inside_also_where_it_is_read_in_pieces(books, sealed):
    buyer, escrow = books.account("buyer.available", books.id()), books.account("chain.escrow")
    books.forward(minutes=1)
    out = books.posting(buyer, escrow, 10)

    books.post(out, *(books.posting(escrow, buyer, 1) for _ in range(9)), replace(books.posting(escrow, buyer, 1)))

    assert wrong() == {}


def test_a_doubled_id_and_a_hold_ended_twice_are_found_without_their_keys(books, sealed):
    with behind_the_triggers() as cursor:
        cursor.execute("alter table ledger_transfer drop constraint ledger_transfer_pkey")
        cursor.execute("drop index transfer_pending_is_resolved_once")
        cursor.execute(
            "update ledger_transfer t set id = o.id, kind = 'post', pending_id = o.pending_id from ledger_transfer o "
            "where o.kind = 'post' and t.seq = (select max(seq) from ledger_transfer)"
        )

    assert {"L4", "L7"} <= set(wrong())


def test_the_command_names_what_is_wrong_and_says_so_by_its_status(books, sealed):
    told = io.StringIO()
    call_command("verify", "ledger", stdout=told)
    assert "0 broken" in told.getvalue()

    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_account set credits_posted = credits_posted + 1 where code = 'foundation.fees'")
    with pytest.raises(CommandError):
        call_command("verify", "ledger", stdout=told)
    assert "BROKEN  L2: ledger 1: not so that every counter" in told.getvalue()
