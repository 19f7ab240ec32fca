"""The worker knows every task the beat asks for and every kind of job that may be written."""

from __future__ import annotations

import re

from ledger import tasks
from marketplace.celery import app
from marketplace.environment import CHECKOUT

HANDLER = re.compile(r"^@(?:tasks\.)?handler\(\s*\"([a-z_.]+)\"", re.MULTILINE)


def test_every_beat_has_a_task_in_the_worker() -> None:
    app.loader.import_default_modules()

    asked = {entry["task"] for entry in app.conf.beat_schedule.values()}

    assert asked - set(app.tasks) == set()


def test_every_kind_of_job_has_its_handler_in_the_worker() -> None:
    app.loader.import_default_modules()
    sources = [path for package in ("ledger", "marketplace") for path in (CHECKOUT / package).rglob("*.py")]

    written = {kind for path in sources for kind in HANDLER.findall(path.read_text())}

    assert written
    assert written - set(tasks._handlers) == set()


def test_a_beat_nobody_took_in_time_expires() -> None:
    assert all(entry["options"]["expires"] >= 5 for entry in app.conf.beat_schedule.values())
