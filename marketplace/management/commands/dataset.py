"""`manage.py dataset FOLDER`: write the public data set of every cleared window, the same bytes from the same data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace.insights.dataset import public_dataset


class Command(BaseCommand):
    help = "write the public, anonymised data set of every cleared window"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="a folder that is empty or not there yet")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CommandError(f"{folder} is there already and not empty; nothing was written.")
        files = public_dataset()
        folder.mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
            self.stdout.write(f"{hashlib.sha256(body).hexdigest()}  {name}")
