"""The walls of the books can be taken back and put up again, and posting works before and after."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from ledger.models import Transfer
from ledger.reconcile import check_books
from tests.owner import as_owner


def functions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("select proname from pg_proc where pronamespace = 'public'::regnamespace")
        return {row[0] for row in cursor.fetchall()}


def parts() -> set[tuple[str, str]]:
    """What hangs on the table of transfers: constraints, indexes and triggers, each as PostgreSQL writes it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select conname, pg_get_constraintdef(oid) from pg_constraint
                where conrelid = 'ledger_transfer'::regclass and contype <> 'n'
               union all
               select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
                where indrelid = 'ledger_transfer'::regclass
               union all
               select tgname, pg_get_triggerdef(oid) from pg_trigger
                where tgrelid = 'ledger_transfer'::regclass and not tgisinternal"""
        )
        return set(cursor.fetchall())


@pytest.mark.slow  # the whole market comes down with it: the PR suite takes the market's own walls down
def test_the_walls_come_down_and_go_up_again(books):
    card, suspense = books.account("card.clearing"), books.account("suspense")
    books.post(*(books.posting(card, suspense, amount, reference=bytes([amount])) for amount in range(1, 9)))
    before = functions(), parts(), list(Transfer.objects.order_by("seq").values())

    with connection.cursor() as cursor:  # a table with a check still to come is not altered
        cursor.execute("set constraints all immediate")
    with as_owner():
        MigrationExecutor(connection).migrate([("ledger", "0003_card_rail")])
        assert {"apply_transfers", "seal_epoch", "next_number"} & functions() == set()
        assert "post_transfers" in functions()

        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())
    assert (functions(), parts(), list(Transfer.objects.order_by("seq").values())) == before
    assert books.post(books.posting(card, suspense, 1)) == 1
    assert all(finding.ok for finding in check_books())
