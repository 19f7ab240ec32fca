"""`manage.py make_world`: rebuild the bundled base world from real data, or print what it draws (`--check`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace.demo.generate import world_for
from marketplace.demo.shape import describe, shape_of
from marketplace.demo.sources import make_fixture


class Command(BaseCommand):
    help = "Make the demo's base world from a folder of real data, or check the shape of the worlds drawn from it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--source", type=Path, help="folder of real data; leave out to check only")
        parser.add_argument("--seed", type=int, default=7, help="seed of the base world's sizes and latencies")
        parser.add_argument("--out", type=Path, default=Path("fixtures/demo"))
        parser.add_argument("--check", action="store_true", help="print the shape of the worlds of seeds 1-5 and 7")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["source"] is None and not options["check"]:
            raise CommandError("Give --source DIR to make the base world, or --check to look at it.")
        if options["source"] is not None:
            for file in make_fixture(options["source"], seed=options["seed"], out=options["out"]):
                self.stdout.write(f"{file.stat().st_size:>8} bytes  {file}")
        if options["check"]:
            self.stdout.write(describe([shape_of(world_for(seed, options["out"])) for seed in (1, 2, 3, 4, 5, 7)]))
