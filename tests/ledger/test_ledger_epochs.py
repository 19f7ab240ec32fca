"""Epochs tile the history, chain their roots, and notice any change to what they sealed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import epochs
from ledger.epochs import (
    NO_ROOT,
    check_epochs,
    close_epoch,
    leaf_hash,
    merkle_root,
    prove_transfer,
    record_anchor,
    totals_hash,
    unanchored_epochs,
)
from ledger.errors import UnknownLedger
from ledger.models import Epoch, EpochAnchor, Transfer
from ledger.reconcile import check_books
from ledger.services import USDC6_LEDGER
from ledger.tasks import close_epoch_task
from tests.owner import as_owner, behind_the_triggers


@pytest.fixture
def history(books):
    """Seven transfers, a hold among them."""
    buyer, window = books.id(), books.id()
    for amount in range(10, 15):
        books.deposit(buyer, amount)
    books.lock(buyer, window, 20)
    return buyer, window


def behind_the_books(statement):
    with behind_the_triggers() as cursor:
        cursor.execute(statement)


def verdicts():
    return list(check_epochs(USDC6_LEDGER))


def test_an_epoch_seals_what_came_since_the_last(books, history):
    first = close_epoch(USDC6_LEDGER, books.now)
    books.deposit(history[0], 1)
    second = close_epoch(USDC6_LEDGER, books.forward(hours=1))

    assert [(row.no, row.from_seq, row.to_seq, row.n) for row in (first, second)] == [(1, 1, 7, 7), (2, 8, 8, 1)]
    assert bytes(first.prev_root) == NO_ROOT
    assert bytes(second.prev_root) == bytes(first.root) != bytes(second.root)
    assert verdicts() == [(True, "2 epochs tile the numbers, chain their roots and agree with the transfers")]


def test_nothing_new_is_no_epoch(books, history):
    close_epoch(USDC6_LEDGER, books.now)

    assert close_epoch(USDC6_LEDGER, books.now) is None
    assert close_epoch(2, books.now) is None
    with pytest.raises(UnknownLedger):
        close_epoch(99, books.now)


def test_a_long_history_is_sealed_in_parts(books, history, monkeypatch):
    monkeypatch.setattr(epochs, "EPOCH_LENGTH_MAX", 3)

    closed = [close_epoch(USDC6_LEDGER, books.now) for _ in range(4)]

    assert [epoch and (epoch.from_seq, epoch.to_seq) for epoch in closed] == [(1, 3), (4, 6), (7, 7), None]
    assert verdicts()[0][0]


def test_the_job_seals_every_ledger(outbox_clock, history):
    assert [close_epoch_task(), close_epoch_task()] == [1, 0]
    assert Epoch.objects.get().closed_at == outbox_clock.now


@pytest.mark.parametrize(
    "column",
    ["id = gen_random_uuid()", "debit = 99", "credit = 99", "amount = 99", "kind = 'void'", "code = 99",
     "origin = 'grant'", "pending_id = gen_random_uuid()", "link = gen_random_uuid()", "timeout_at = '2027-01-01'",
     "reference = null", "reference = ''", "effective_at = '2027-01-01'", "posted_at = '2027-01-01'"],
)  # fmt: skip
def test_a_change_to_any_column_gives_another_root(books, history, column):
    close_epoch(USDC6_LEDGER, books.now)
    with as_owner() as cursor:
        for name in ("transfer_resolution_names_its_pending", "transfer_only_a_pending_times_out"):
            cursor.execute(f"alter table ledger_transfer drop constraint {name}")

    behind_the_books(f"update ledger_transfer set {column} where seq = 3")

    (ok, detail), = verdicts()
    assert not ok
    assert "another root" in detail


def test_a_leaf_covers_the_number_and_the_ledger_too(books, history):
    row = Transfer.objects.get(seq=1)
    leaves = {leaf_hash(row)}
    for name, value in (("seq", 2), ("ledger", 2)):
        changed = Transfer.objects.get(seq=1)
        setattr(changed, name, value)
        leaves.add(leaf_hash(changed))

    assert len(leaves) == 3


def test_a_missing_transfer_and_a_missing_epoch_are_named(books, history, monkeypatch):
    monkeypatch.setattr(epochs, "EPOCH_LENGTH_MAX", 3)
    for _ in range(3):
        close_epoch(USDC6_LEDGER, books.now)

    behind_the_books("delete from ledger_transfer where seq = 2")
    assert verdicts()[0] == (
        False, "epoch 1 (1 to 3): has 2 transfers, not 3; its balances give another hash",
    )  # fmt: skip

    behind_the_books("delete from ledger_epoch where no = 2")
    problem = "epoch 2 is missing; starts at 7, not at 4; does not carry the root before it"
    assert any(problem in detail for _, detail in verdicts())
    assert any(finding.invariant == "L8" and not finding.ok for finding in check_books())


def test_totals_are_those_at_the_end_of_the_epoch_not_of_today(books, history):
    epoch = close_epoch(USDC6_LEDGER, books.now)

    books.deposit(history[0], 1_000)

    assert totals_hash(USDC6_LEDGER, epoch.to_seq) == bytes(epoch.totals_hash)
    assert totals_hash(USDC6_LEDGER, epoch.to_seq + 1) != bytes(epoch.totals_hash)


def test_an_anchor_is_kept_once_and_the_rest_waits_in_order(books, history, monkeypatch):
    monkeypatch.setattr(epochs, "EPOCH_LENGTH_MAX", 4)
    for _ in range(2):
        close_epoch(USDC6_LEDGER, books.now)
    assert [epoch.no for epoch in unanchored_epochs(USDC6_LEDGER)] == [1, 2]

    for tx_hash in ("0x1", "0x2"):
        record_anchor(ledger=USDC6_LEDGER, no=1, tx_hash=tx_hash, block_number=5, now=books.now)

    assert [epoch.no for epoch in unanchored_epochs(USDC6_LEDGER)] == [2]
    assert EpochAnchor.objects.get().tx_hash == "0x1"


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
def test_every_transfer_can_prove_that_it_was_sealed(books, history, monkeypatch, length):
    monkeypatch.setattr(epochs, "EPOCH_LENGTH_MAX", length)
    while close_epoch(USDC6_LEDGER, books.now + timedelta(hours=1)):
        pass

    for seq in range(1, 8):
        proof = prove_transfer(ledger=USDC6_LEDGER, seq=seq)
        assert proof is not None
        assert proof.root() == bytes(Epoch.objects.get(ledger=USDC6_LEDGER, no=proof.epoch).root)
    assert prove_transfer(ledger=USDC6_LEDGER, seq=8) is None


def test_an_odd_leaf_is_promoted_and_never_doubled():
    a, b, c = (bytes([number]) * 32 for number in range(3))

    assert merkle_root([]) == NO_ROOT
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == merkle_root([merkle_root([a, b]), c]) != merkle_root([a, b, c, c])


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=20), st.data())
def test_another_order_or_another_leaf_is_another_root(leaves, data):
    place = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[place] = data.draw(st.binary(min_size=32, max_size=32))

    assert (merkle_root(changed) == merkle_root(leaves)) == (changed == leaves)
    assert (merkle_root(leaves[::-1]) == merkle_root(leaves)) == (leaves[::-1] == leaves)
