"""What only the owner of the tables can do, for a test that breaks or empties them on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from ledger.services import open_ledgers


@contextmanager
def as_owner() -> Iterator[CursorWrapper]:
    """Be the owner inside the same transaction, if there is one, and afterwards whoever was here before.

    The tests' connection logs in as the owner and takes the product's role, so both see what is not committed.
    """
    is_local = connection.in_atomic_block  # an error then takes the change back with the rest of the block
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('role'), set_config('role', 'none', %s)", [is_local])
        before, _ = cursor.fetchone()
        try:
            yield cursor
        except BaseException:
            if not is_local:
                cursor.execute("select set_config('role', %s, false)", [before])
            raise
        cursor.execute("select set_config('role', %s, %s)", [before, is_local])


@contextmanager
def behind_the_triggers() -> Iterator[CursorWrapper]:
    """Be somebody with all of the database's rights: what the block writes meets no trigger and no foreign key."""
    with transaction.atomic(), as_owner() as cursor:
        cursor.execute("set local session_replication_role = replica")
        yield cursor
        cursor.execute("set local session_replication_role = origin")


def unseen(rows: Any, **values: Any) -> int:
    """Update rows past every trigger: what only somebody with all of the database's rights can do."""
    with behind_the_triggers():
        return int(rows.update(**values))


def empty_the_books() -> None:
    """Take every row out of the ledger's tables, as after a test whose transactions really committed.

    A DELETE where there is something: TRUNCATE gives each of twenty tables and their indexes new files, for some rows.
    """
    assert connection.settings_dict["NAME"].startswith("test_"), "only a test database is ever emptied"
    with behind_the_triggers() as cursor:
        for name in tables_with_rows(cursor):
            cursor.execute(f"delete from {name}")
        open_ledgers()


def tables_with_rows(cursor: CursorWrapper) -> list[str]:
    """The ledger's tables in which there is something."""
    tables = [name for name in connection.introspection.table_names(cursor) if name.startswith("ledger_")]
    cursor.execute(" union all ".join(f"select '{name}' where exists (select from {name})" for name in tables))
    return [name for (name,) in cursor.fetchall()]
