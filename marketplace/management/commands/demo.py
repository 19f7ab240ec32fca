"""`manage.py demo`: one market turn in a database of its own, from nothing to paid and slashed."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections

from ledger.rails import evm
from marketplace import postgres
from marketplace.management.worked import Worked

DATABASE = "grove_demo"


class Command(BaseCommand):
    """Play the demo's story, print its figures and end."""

    help = "Run one market turn on real data in a database of its own and print what it came to."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=7, help="which world is drawn (default 7)")
        parser.add_argument("--json", type=Path, help="write the figures there")
        parser.add_argument("--keep", action="store_true", help="go on with the last demo instead of starting anew")

    def handle(self, *args: Any, seed: int, json: Path | None, keep: bool, **options: Any) -> None:
        if seed < 0:
            raise CommandError("A seed is a whole number from 0.")
        began = time.monotonic()
        use_demo_database(fresh=not keep)
        call_command("migrate", interactive=False, verbosity=0)
        from marketplace.demo import report, story

        with Worked(self.stdout, total=len(story.STEPS)) as worked:
            tale = story.begin(seed=seed)
            story.play(tale, tell=lambda no, step: worked.tell(no, step.sentence))
            worked.tell(len(story.STEPS), "Every invariant over books, chain and certificates")
        figures = report.report(tale, seconds=time.monotonic() - began)
        if json:
            json.write_text(report.as_json(figures), encoding="utf-8")
        self.stdout.write(report.as_json(figures))
        evm.close_all()
        if missing := report.is_good(figures):
            raise CommandError("The demo did not show: " + "; ".join(missing))


def use_demo_database(*, fresh: bool) -> None:
    """Point this process at the demo's database, made anew when `fresh`. What `up` serves is never touched."""
    connections.close_all()
    evm.close_all()
    if fresh:
        postgres.drop_database(DATABASE)
    postgres.create_database(DATABASE)
    connection.settings_dict["NAME"] = DATABASE
