"""`manage.py cut_fonts`: prepare the small font that the pages serve."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from marketplace.portal.fonts import cut_fonts


class Command(BaseCommand):
    help = "Cut the font that the pages serve into the data folder. Running it again changes nothing."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        for path in cut_fonts():
            self.stdout.write(f"{path.stat().st_size:>8} bytes  {path.name}")
