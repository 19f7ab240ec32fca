"""The Django app of the books."""

from __future__ import annotations

from django.apps import AppConfig


class LedgerConfig(AppConfig):
    """Accounts, transfers, epochs, the outbox and the tables of the rails."""

    name = "ledger"
    label = "ledger"
    verbose_name = "Books"
