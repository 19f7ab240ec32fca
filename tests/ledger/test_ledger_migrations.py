"""The walls of the books can be taken back and put up again, and posting works before and after."""

from __future__ import annotations

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def functions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("select proname from pg_proc where pronamespace = 'public'::regnamespace")
        return {row[0] for row in cursor.fetchall()}


def test_the_walls_come_down_and_go_up_again(books):
    before = functions()

    MigrationExecutor(connection).migrate([("ledger", "0003_card_rail")])
    assert {"apply_transfers", "seal_epoch", "next_number"} & functions() == set()
    assert "post_transfers" in functions()

    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert functions() == before
    assert books.post(books.posting(books.account("card.clearing"), books.account("suspense"), 1)) == 1
