"""`manage.py turn`: carry the live market as far as it can go now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ledger.rails import evm
from marketplace import clock, cycle


class Command(BaseCommand):
    """One market turn over the live database."""

    help = "Carry every window of the live market as far as it can go at this moment."

    def handle(self, *args: Any, **options: Any) -> None:
        reports = cycle.advance_until_quiet(now=clock.now())
        for report in reports:
            self.stdout.write(f"{report.name}: {report.rows}")
        if not reports:
            self.stdout.write("Nothing to do: every window waits for its time or for people.")
        evm.close_all()
