"""`manage.py migrate`, as the owner of the tables. The rest of the product works as a role that owns none."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate as of_django

from marketplace import postgres
from marketplace.migrating import QuickExecutor

of_django.MigrationExecutor = QuickExecutor  # type: ignore[misc]  # the command asks its module for one


class Command(of_django.Command):
    """Django's own, on the owner's connection."""

    def handle(self, *args: Any, **options: Any) -> None:
        with postgres.as_owner():
            super().handle(*args, **options)
