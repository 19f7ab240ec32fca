"""`manage.py bench NAME`: measure one promise of the product on this machine and write the figures down."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

# Each module has `HELP`, `add_arguments(parser)` and `run(options, tell) -> Report`. They live with the tests, since
# what they need besides the product is installed for developers only.
BENCHMARKS = {
    "clearing": "tests.benchmarks.clearing",
    "gas": "tests.benchmarks.gas",
    "ledger": "tests.benchmarks.ledger",
    "proof": "tests.benchmarks.proof",
    "sla": "tests.benchmarks.sla",
}


class Command(BaseCommand):
    """Run one benchmark; exit 1 when what it measured is wrong, never because it was slow."""

    help = "Measure the product on this machine: one benchmark by name, its figures as a table and as JSON."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        names = parser.add_subparsers(dest="benchmark", metavar="NAME", required=True)
        for name in BENCHMARKS:
            module = module_of(name)
            own = names.add_parser(name, help=module.HELP)
            own.add_argument("--json", type=Path, help="write the figures there")
            module.add_arguments(own)

    def handle(self, *args: Any, benchmark: str, json: Path | None, **options: Any) -> None:
        process = importlib.import_module("tests.benchmarks.process")
        try:
            report = module_of(benchmark).run(options, tell=self.tell)
        except process.Failed as error:
            raise CommandError(f"Nothing was measured: {error}") from error
        if json:
            write_whole(json, report.figures)
        for row in report.rows:
            self.stdout.write(row)
        if report.faults:
            raise CommandError("; ".join(report.faults), returncode=1)

    def tell(self, sentence: str) -> None:
        """Say what is under way; standard output is for the table."""
        self.stderr.write(sentence)
        self.stderr.flush()


def module_of(name: str) -> Any:
    """Return the module of a benchmark. Raises CommandError in an installation without the tests."""
    try:
        return importlib.import_module(BENCHMARKS[name])
    except ModuleNotFoundError as error:
        raise CommandError(f"Benchmarks need the checkout with its tests: {error.name} is missing.") from error


def write_whole(path: Path, figures: dict[str, Any]) -> None:
    """Write the figures as JSON: the whole file or none of it, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
