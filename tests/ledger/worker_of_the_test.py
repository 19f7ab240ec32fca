"""A Celery worker of the product on a database, a queue and a clock of a test. Started, and killed, by that test."""

from __future__ import annotations

import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")
START = datetime(2027, 1, 4, 9, tzinfo=UTC)
SPEED = 20  # a lease of a minute is over in three seconds
KIND = "test.slow_count"


def now() -> datetime:
    """A clock that all processes of this machine share."""
    return START + timedelta(seconds=time.monotonic() * SPEED)


def queue_options(folder: str) -> dict[str, Any]:
    """Say where the messages and the routing tables of the queue lie."""
    return {
        "data_folder_in": f"{folder}/messages", "data_folder_out": f"{folder}/messages",
        "control_folder": f"{folder}/control", "polling_interval": 0.05,
    }  # fmt: skip


def slow_count(payload: dict[str, Any], *, now: datetime) -> None:
    """An effect that can be counted, and time before and after it in which a kill can come."""
    from ledger.models import Inbox

    time.sleep(random.uniform(0, 0.01))
    Inbox.objects.create(source="effect", event_id=str(uuid4()), body=str(payload["number"]).encode(), received_at=now)
    time.sleep(random.uniform(0, 0.01))


def main() -> None:
    database, folder, habits = sys.argv[1], sys.argv[2], sys.argv[3:]
    from django.conf import settings

    settings.DATABASES["default"]["NAME"] = database
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = queue_options(folder)
    django.setup()
    from ledger import tasks
    from marketplace.celery import app

    tasks.use_clock(now)
    tasks.handler(KIND)(slow_count)
    app.worker_main(["worker", *habits])


if __name__ == "__main__":
    main()
