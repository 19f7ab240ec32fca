"""Books as they are often written with an ORM: what ours are measured beside. Two legs a transfer, balances in rows.

`post_one_by_one` is a transaction for each transfer, as a view does it: lock both accounts, look at the balance, write
a transaction and two legs, save both accounts. `post_batched` is the most that `bulk_create` gives: both legs of a
whole batch in one transaction, and no balance is kept at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection, models, transaction


class NaiveAccount(models.Model):
    id = models.BigIntegerField(primary_key=True)
    balance = models.BigIntegerField(default=0)

    class Meta:
        app_label = "naive_books"


class NaiveTransaction(models.Model):
    id = models.UUIDField(primary_key=True)
    at = models.DateTimeField()

    class Meta:
        app_label = "naive_books"


class NaiveLeg(models.Model):
    transaction = models.ForeignKey(NaiveTransaction, on_delete=models.PROTECT)
    account = models.ForeignKey(NaiveAccount, on_delete=models.PROTECT)
    amount = models.BigIntegerField()

    class Meta:
        app_label = "naive_books"


def create_tables(accounts: int) -> None:
    """Make the tables, and accounts with something to spend."""
    with connection.schema_editor() as editor:
        for model in (NaiveAccount, NaiveTransaction, NaiveLeg):
            editor.create_model(model)
    NaiveAccount.objects.bulk_create(
        NaiveAccount(id=(1 << 40) + place, balance=10**12) for place in range(1, accounts + 1)
    )


def post_one_by_one(postings: Sequence[Any]) -> None:
    """One transaction each."""
    for posting in postings:
        with transaction.atomic():
            both = [posting.debit, posting.credit]
            rows = {row.pk: row for row in NaiveAccount.objects.select_for_update().filter(pk__in=both).order_by("pk")}
            payer, payee = rows[posting.credit], rows[posting.debit]
            if payer.balance < posting.amount:
                raise ValueError("not enough money")
            entry = NaiveTransaction.objects.create(id=posting.id, at=_now(posting))
            NaiveLeg.objects.create(transaction=entry, account=payer, amount=-posting.amount)
            NaiveLeg.objects.create(transaction=entry, account=payee, amount=posting.amount)
            payer.balance -= posting.amount
            payee.balance += posting.amount
            payer.save(update_fields=["balance"])
            payee.save(update_fields=["balance"])


def post_batched(postings: Sequence[Any]) -> None:
    """The whole batch at once, without balances."""
    with transaction.atomic():
        NaiveTransaction.objects.bulk_create([NaiveTransaction(id=one.id, at=_now(one)) for one in postings])
        NaiveLeg.objects.bulk_create(
            [
                NaiveLeg(transaction_id=one.id, account_id=account, amount=amount)
                for one in postings
                for account, amount in ((one.credit, -one.amount), (one.debit, one.amount))
            ]
        )


def _now(posting: Any) -> Any:
    from tests.benchmarks.ledger_run import START

    return START
