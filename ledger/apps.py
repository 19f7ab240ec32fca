"""The Django app of the books."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class LedgerConfig(AppConfig):
    """Accounts, transfers, epochs, the outbox and the tables of the rails."""

    name = "ledger"
    label = "ledger"
    verbose_name = "Books"

    def ready(self) -> None:
        """Keep the ledgers that exist present after every migration, and after the flush of a test."""
        post_migrate.connect(_open_ledgers, sender=self, dispatch_uid="ledger.open_ledgers")


def _open_ledgers(**_: Any) -> None:
    from django.db import connection

    from ledger.models import Ledger
    from ledger.services import open_ledgers

    if Ledger._meta.db_table in connection.introspection.table_names():  # not when migrated back to nothing
        open_ledgers()
