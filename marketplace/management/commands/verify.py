"""`manage.py verify`: every invariant over the live books, chain and certificates. Exits 1 when one is broken."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from ledger.rails import evm
from marketplace import clock
from marketplace.management.commands.demo import use_demo_database


class Command(BaseCommand):
    """Check everything, or one published bundle."""

    help = "Check every invariant of books, chain and certificates; exit 1 on a break."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", nargs="?", choices=("clearing",), help="check only a bundle: clearing PATH")
        parser.add_argument("path", nargs="?", type=Path, help="folder of the bundle")
        parser.add_argument("--demo", action="store_true", help="of the last demo instead of the live market")

    def handle(self, *args: Any, what: str | None, path: Path | None, demo: bool, **options: Any) -> None:
        if what == "clearing":
            self.check_bundle(path)
            return
        if demo:
            use_demo_database(fresh=False)
        if "marketplace_window" not in connection.introspection.table_names():
            raise CommandError("There is no market here yet; `manage.py up` or `manage.py demo` makes one.")
        from marketplace.invariants import check_everything

        findings = check_everything(now=clock.now())
        evm.close_all()
        for found in findings:
            self.stdout.write(f"{'ok    ' if found.ok else 'BROKEN'}  {found.name}: {found.detail}")
        broken = sum(not found.ok for found in findings)
        self.stdout.write(f"{len(findings)} invariants checked, {broken} broken")
        if broken:
            raise CommandError("At least one invariant is broken.", returncode=1)

    def check_bundle(self, path: Path | None) -> None:
        """Check one public bundle as an outsider would."""
        from pricing.verify import verify_bundle

        if path is None or not path.is_dir():
            raise CommandError("Name the folder of a bundle: manage.py verify clearing PATH")
        report = verify_bundle({file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file()})
        for check in report.checks:
            self.stdout.write(f"{'ok    ' if check.ok else 'BROKEN'}  {check.name}: {check.detail}")
        if not report.ok:
            raise CommandError("The bundle does not hold.", returncode=1)
