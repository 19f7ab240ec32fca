"""Books and chain as they stood at one moment: played once, and gone back to by each test that begins there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from tests.owner import behind_the_triggers, tables_with_rows
from tests.rails.conftest import Clock, store_of


@dataclass(frozen=True)
class Kept:
    """Every row of the ledger's tables, the chain in memory, and the time."""

    rows: dict[str, bytes]
    chain: tuple[Any, ...]
    now: datetime


def keep(chain: Any, clock: Clock) -> Kept:
    """Copy what is committed."""
    rows = {}
    with connection.cursor() as cursor:
        for table in tables_with_rows(cursor):
            with cursor.copy(f"copy {table} to stdout (format binary)") as parts:
                rows[table] = b"".join(bytes(part) for part in parts)
    return Kept(rows, store_of(chain).snapshot(), clock.now)


def go_back(kept: Kept, chain: Any, clock: Clock) -> None:
    """Put everything back as it was kept; ids that were drawn since are not drawn again."""
    with behind_the_triggers() as cursor:
        for table in tables_with_rows(cursor):
            cursor.execute(f"delete from {table}")
        for table, rows in kept.rows.items():
            with cursor.copy(f"copy {table} from stdin (format binary)") as into:
                into.write(rows)
    store_of(chain).restore(kept.chain)
    clock.now = kept.now
