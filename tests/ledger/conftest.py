"""Books of one's own per test, and short words to move money in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections

from ledger import recipes, tasks
from ledger.chart import Code
from ledger.ids import uuid7
from ledger.models import Account
from ledger.services import USDC6_LEDGER, Posting, account, post_transfers
from tests.owner import empty_the_books

START = datetime(2027, 1, 4, 9, tzinfo=UTC)


@dataclass
class Books:
    """The ledger of the stablecoin, with a clock that moves when told to."""

    now: datetime = START
    references: int = field(default=0)

    def id(self) -> UUID:
        return uuid7(self.now)

    def reference(self) -> bytes:
        self.references += 1
        return self.references.to_bytes(36, "big")

    def forward(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now

    def account(self, code: str, party: UUID | None = None, scope: UUID | None = None) -> int:
        return account(ledger=USDC6_LEDGER, code=code, party=party, scope=scope)

    def posting(self, debit: int, credit: int, amount: int, **more: Any) -> Posting:
        facts = {"id": self.id(), "kind": "posted", "code": Code.CORRECTION, "origin": "organic"} | more
        return Posting(debit=debit, credit=credit, amount=amount, **facts)

    def post(self, *postings: Posting) -> int:
        return post_transfers(ledger=USDC6_LEDGER, postings=postings, now=self.now)

    def deposit(self, party: UUID, amount: int) -> int:
        return recipes.book_deposit(party=party, amount=amount, reference=self.reference(), now=self.now)

    def hold(self, party: UUID, window: UUID, amount: int, minutes: int = 60) -> UUID:
        id = self.id()
        recipes.reserve_hold(
            id=id, party=party, window=window, amount=amount, timeout_at=self.now + timedelta(minutes=minutes),
            now=self.now,
        )  # fmt: skip
        return id

    def lock(self, party: UUID, window: UUID, amount: int) -> None:
        """Bring money into buyer.held, as a final lock on chain does."""
        hold = self.hold(party, window, amount)
        self.post(recipes.post_hold_posting(hold_id=hold, party=party, window=window, amount=amount))

    def counters(self, account_id: int) -> tuple[int, int, int, int]:
        """Debits posted, credits posted, debits pending, credits pending."""
        row = Account.objects.get(pk=account_id)
        return row.debits_posted, row.credits_posted, row.debits_pending, row.credits_pending

    def all_balances(self) -> dict[str, int]:
        """Every account that is not empty: its code and its balance on the normal side, summed by code."""
        sums: dict[str, int] = {}
        for row in Account.objects.all():
            sums[row.code] = sums.get(row.code, 0) + row.balance_minor
        return {code: amount for code, amount in sorted(sums.items()) if amount}


@pytest.fixture
def books(db: None) -> Books:
    return Books()


@pytest.fixture
def transactional_db(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A database in which the code under test really commits; the books are emptied afterwards."""
    with django_db_blocker.unblock():
        assert connection.settings_dict["NAME"].startswith("test_"), "only a test database is ever emptied"
        yield
        empty_the_books()
        connections.close_all()


@pytest.fixture
def committed_books(transactional_db: None) -> Books:
    """Books whose transactions really commit, for threads and processes."""
    return Books()


@pytest.fixture
def outbox_clock(books: Books) -> Iterator[Books]:
    """The outbox by the clock of the test."""
    before = tasks._clock
    tasks.use_clock(lambda: books.now)
    yield books
    tasks.use_clock(before)
