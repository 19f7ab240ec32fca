"""Every constraint that is declared is broken here on purpose: one that nobody tried to break may not exist."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, transaction

from ledger.ids import uuid7
from ledger.models import (
    Account,
    BankAccount,
    CardIntent,
    CardTransaction,
    ChainAddress,
    ChainAttempt,
    ChainClass,
    ChainEvent,
    ChainIntent,
    Epoch,
    Inbox,
    KeyCoin,
    Ledger,
    Outbox,
    Transfer,
)
from ledger.services import USDC6_LEDGER, account
from tests.owner import as_owner, behind_the_triggers

START = datetime(2027, 1, 4, 9, tzinfo=UTC)
PARTY, WINDOW = UUID(int=1), UUID(int=2)


def an_account(**facts: Any) -> Account:
    row = {"id": (USDC6_LEDGER << 40) + 900, "ledger_id": USDC6_LEDGER, "code": "suspense", "floor": "none"}
    return Account.objects.create(**row | facts)


def a_transfer(**facts: Any) -> Transfer:
    row = {
        "ledger": USDC6_LEDGER, "id": uuid7(START), "seq": 1, "debit": 1, "credit": 2, "amount": 1, "kind": "posted",
        "code": 650, "origin": "organic", "effective_at": START, "posted_at": START,
    }  # fmt: skip
    with behind_the_triggers():  # the keys are looked at here; the trigger that comes after them rests
        return Transfer.objects.create(**row | facts)


def an_epoch(**facts: Any) -> Epoch:
    row = {
        "ledger": USDC6_LEDGER, "no": 1, "from_seq": 1, "to_seq": 2, "n": 2, "root": b"", "prev_root": b"",
        "totals_hash": b"", "closed_at": START,
    }  # fmt: skip
    return Epoch.objects.create(**row | facts)


def a_job(**facts: Any) -> Outbox:
    row = {"id": uuid7(START), "kind": "test", "payload": {}, "dedupe_key": "key", "run_at": START}
    return Outbox.objects.create(**row | facts)


def an_event(**facts: Any) -> ChainEvent:
    row = {"block_number": 1, "block_hash": "0x1", "log_index": 0, "tx_hash": "0x2", "contract": "escrow", "name": "A"}
    return ChainEvent.objects.create(args={}, **row | facts)


def an_intent(**facts: Any) -> ChainIntent:
    row = {
        "id": uuid7(START), "key": "key", "role": "operator", "contract": "escrow", "function": "lock",
        "to_address": "0x1", "calldata": b"", "created_at": START,
    }  # fmt: skip
    return ChainIntent.objects.create(**row | facts)


def an_attempt(**facts: Any) -> ChainAttempt:
    row = {"intent": an_intent(nonce=1), "nonce": 1, "raw": b"", "tx_hash": "0x1", "created_at": START}
    return ChainAttempt.objects.create(**row | facts)


def a_card_intent(**facts: Any) -> CardIntent:
    row = {"id": uuid7(START), "key": "key", "kind": "deposit", "party": PARTY, "cents": 5000, "created_at": START}
    return CardIntent.objects.create(**row | facts)


def a_bank_account(**facts: Any) -> BankAccount:
    row = {"id": uuid7(START), "party": PARTY, "country": "DE", "wallet": "0x1", "return_url": "/", "created_at": START}
    return BankAccount.objects.create(**row | facts)


def a_card_line(**facts: Any) -> CardTransaction:
    row = {
        "id": "txn_1", "kind": "charge", "source": "ch_1", "amount_cents": 500, "fee_cents": 30, "net_cents": 470,
        "created_at": START,
    }  # fmt: skip
    return CardTransaction.objects.create(**row | facts)


def twice(make: Callable[..., object], **facts: Any) -> None:
    make(**facts)
    make(**facts)


def overdraw(code: str, column: str, party: UUID | None = None) -> None:
    id = account(ledger=USDC6_LEDGER, code=code, party=party)
    Account.objects.filter(pk=id).update(**{column: 1})


BREAKS: dict[str, Callable[[], object]] = {
    "ledger_numbers_from_one": lambda: Ledger.objects.create(id=9, asset="X", next_seq=0),
    "ledger_halt_has_a_reason": lambda: Ledger.objects.filter(pk=USDC6_LEDGER).update(halted=True),
    "account_exists_once": lambda: [an_account(id=(1 << 40) + place) for place in (900, 901)],
    "account_never_spends_more_than_it_holds": lambda: overdraw("buyer.available", "debits_posted", PARTY),
    "account_never_gives_more_than_it_took": lambda: overdraw("chain.escrow", "credits_pending"),
    "account_counters_are_never_negative": lambda: an_account(credits_pending=-1),
    "account_floor_follows_the_chart": lambda: an_account(code="market_maker", floor="none"),
    "account_party_follows_the_chart": lambda: an_account(party=PARTY),
    "account_scope_follows_the_chart": lambda: an_account(scope=WINDOW),
    "transfer_seq_is_taken_once": lambda: [a_transfer(id=UUID(int=place)) for place in (1, 2)],
    "transfer_pending_is_resolved_once": lambda: [
        a_transfer(id=UUID(int=seq), seq=seq, kind="void", pending_id=PARTY) for seq in (1, 2)
    ],
    "transfer_moves_a_positive_amount": lambda: a_transfer(amount=0),
    "transfer_numbers_from_one": lambda: a_transfer(seq=0),
    "transfer_has_two_different_accounts": lambda: a_transfer(debit=2),
    "transfer_kind_is_known": lambda: a_transfer(kind="maybe"),
    "transfer_origin_is_known": lambda: a_transfer(origin="magic"),
    "transfer_resolution_names_its_pending": lambda: a_transfer(kind="post"),
    "transfer_only_a_pending_times_out": lambda: a_transfer(timeout_at=START),
    "epoch_starts_once": lambda: [an_epoch(no=no) for no in (1, 2)],
    "epoch_numbers_from_one": lambda: an_epoch(no=0),
    "epoch_counts_its_transfers": lambda: an_epoch(n=3),
    "outbox_tries_are_never_negative": lambda: a_job(tries=-1),
    "inbox_keeps_an_event_once": lambda: twice(
        Inbox.objects.create, source="stripe", event_id="evt_1", body=b"", received_at=START
    ),
    "card_intent_key_is_used_once": lambda: [a_card_intent(id=uuid7(START)) for _ in range(2)],
    "card_object_belongs_to_one_intent": lambda: [a_card_intent(key=key, processor_id="cs_1") for key in "ab"],
    "card_payment_belongs_to_one_intent": lambda: [a_card_intent(key=key, payment_id="pi_1") for key in "ab"],
    "card_intent_kind_is_known": lambda: a_card_intent(kind="gift", parent=a_card_intent(key="parent")),
    "card_intent_reverses_no_more_than_it_moved": lambda: a_card_intent(reversed_cents=5001),
    "card_intent_attempts_count_up": lambda: a_card_intent(attempt=-1),
    "card_intent_state_is_known": lambda: a_card_intent(state="lost", processor_id="cs_1"),
    "card_intent_moves_some_money": lambda: a_card_intent(cents=0),
    "card_intent_stands_where_its_kind_says": lambda: a_card_intent(kind="refund"),
    "card_intent_under_way_is_known_there": lambda: a_card_intent(state="open"),
    "card_intent_ends_at_a_time": lambda: a_card_intent(state="failed"),
    "bank_account_is_one_per_party": lambda: [a_bank_account(id=uuid7(START)) for _ in range(2)],
    "bank_account_object_belongs_to_one_party": lambda: [
        a_bank_account(id=uuid7(START), party=party, processor_id="acct_1") for party in (PARTY, WINDOW)
    ],
    "bank_account_state_is_known": lambda: a_bank_account(state="lost", processor_id="acct_1"),
    "bank_account_in_use_is_known_there": lambda: a_bank_account(state="ready"),
    "bank_account_that_cannot_be_paid_says_why": lambda: a_bank_account(state="refused"),
    "bank_account_counters_are_never_negative": lambda: a_bank_account(links_asked=-1),
    "card_transaction_net_is_amount_less_fee": lambda: a_card_line(net_cents=500),
    "chain_address_buys_or_provides": lambda: ChainAddress.objects.create(address="0x1", party=PARTY, role="thief"),
    "chain_class_numbers_are_never_negative": lambda: ChainClass.objects.create(
        class_id=-1, provider=PARTY, node_class=WINDOW
    ),
    "chain_intent_state_is_known": lambda: an_intent(state="lost", nonce=1),
    "chain_intent_is_signed_with_a_nonce": lambda: an_intent(state="signed"),
    "chain_intent_ends_in_a_block": lambda: an_intent(state="final", nonce=1),
    "chain_intent_carries_coin_to_a_key_only": lambda: an_intent(value_gwei=1),
    "key_coin_is_never_negative": lambda: KeyCoin.objects.create(
        role="operator", address="0x1", held_gwei=-1, needed_gwei=0, looked_at=START
    ),
    "chain_attempt_nonce_is_never_negative": lambda: ChainAttempt.objects.create(
        intent=an_intent(), nonce=-1, raw=b"", tx_hash="0x1", created_at=START
    ),
    "chain_nonce_belongs_to_one_intent": lambda: [an_intent(key=key, id=uuid7(START), nonce=1) for key in "ab"],
    "chain_cancel_names_its_person": lambda: an_intent(cancel_asked_at=START),
    "chain_attempt_kind_is_known": lambda: an_attempt(kind="gift"),
    "chain_attempt_tip_lies_within_its_fee": lambda: an_attempt(max_fee=1, tip=2),
    "chain_event_is_booked_when_it_is_final": lambda: an_event(final=False, booked=True),
    "chain_event_is_kept_once": lambda: twice(an_event),
}
# Keys and unique columns have names that Django or PostgreSQL gave them.
UNNAMED_BREAKS: dict[str, Callable[[], object]] = {
    "ledger_transfer_pkey": lambda: [a_transfer(id=PARTY, seq=seq) for seq in (1, 2)],
    "ledger_epoch_pkey": lambda: [an_epoch(from_seq=first, to_seq=first + 1) for first in (1, 3)],
    "ledger_ledger_asset": lambda: Ledger.objects.create(id=9, asset="USDC6"),
    "ledger_outbox_dedupe_key": lambda: [a_job(id=uuid7(START)) for _ in range(2)],
    "chain_attempt_keeps_the_nonce_of_its_intent": lambda: an_attempt(nonce=2),
    "ledger_chainintent_key": lambda: [an_intent(id=uuid7(START)) for _ in range(2)],
    "ledger_chainclass_node_class": lambda: [
        ChainClass.objects.create(class_id=id, provider=PARTY, node_class=WINDOW) for id in (1, 2)
    ],
}


def declared() -> set[str]:
    tables = apps.get_app_config("ledger").get_models()
    return {constraint.name for table in tables for constraint in table._meta.constraints}


def test_every_declared_constraint_has_a_way_to_break_it():
    assert declared() == set(BREAKS)


@pytest.mark.parametrize("name", BREAKS | UNNAMED_BREAKS)
def test_the_database_refuses_each_break(db, name):
    with pytest.raises(IntegrityError, match=name), transaction.atomic(), as_owner():  # whom no missing right stops
        (BREAKS | UNNAMED_BREAKS)[name]()


def test_what_is_not_broken_is_accepted(db):
    with as_owner():
        an_account(), a_transfer(), an_epoch(), a_job(), an_event(), an_attempt(), a_card_intent(), a_card_line()
        a_bank_account(), a_card_intent(key="payout", kind="payout", scope=WINDOW, reversed_cents=5000)
        ChainAddress.objects.create(address="0x1", party=PARTY, role="buyer")


def test_a_name_fits_what_postgresql_keeps_of_it():
    assert all(len(name) <= 63 for name in declared())


# -- append-only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["ledger_transfer", "ledger_epoch", "ledger_epochanchor"])
@pytest.mark.parametrize(
    "statement", ["update {} set ledger = 1", "update {} set ledger = 1 where false", "delete from {}", "truncate {}"]
)
def test_history_is_never_changed_not_even_by_raw_sql(db, table, statement):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), as_owner() as cursor:
        cursor.execute(statement.format(table))


def test_history_is_never_changed_through_the_classes_either(db):
    transfer = a_transfer()

    for change in (Transfer.objects.all().delete, lambda: Transfer.objects.update(amount=2), transfer.delete):
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            change()
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), as_owner():
            change()
    assert Transfer.objects.get().amount == 1
