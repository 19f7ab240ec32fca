"""`manage.py migrate`, as the owner of the tables. The rest of the product works as a role that owns none."""

from __future__ import annotations

from typing import Any

from django.core.management.commands.migrate import Command as Migrate

from marketplace import postgres


class Command(Migrate):
    """Django's own, on the owner's connection."""

    def handle(self, *args: Any, **options: Any) -> None:
        with postgres.as_owner():
            super().handle(*args, **options)
