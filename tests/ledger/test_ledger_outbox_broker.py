"""Workers of the product killed, and their queue wiped, at random while jobs run: none is lost, none is done twice."""

from __future__ import annotations

import random
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery, current_app
from django.db import connection

import marketplace.celery  # noqa: F401  puts our transport in place
from ledger import tasks
from ledger.models import Inbox, Outbox
from marketplace.environment import CHECKOUT
from marketplace.management.commands.up import WORKER_HABITS
from tests.ledger.worker_of_the_test import KIND, now, queue_options

WORKERS, JOBS, KILLS, WIPES = 2, 800, 6, 12
SECONDS_MAX = 500.0


class Workers:
    """Processes that are started again when they were killed."""

    def __init__(self, queue: Path) -> None:
        self.queue = queue
        self.log = (queue / "workers.log").open("ab")
        self.running = [self.start() for _ in range(WORKERS)]

    def start(self) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "tests.ledger.worker_of_the_test", connection.settings_dict["NAME"]]
        return subprocess.Popen([*program, str(self.queue), *WORKER_HABITS], cwd=CHECKOUT, stdout=self.log, stderr=2)

    def kill(self, place: int) -> None:
        """Kill -9, and start another in its place."""
        self.end(self.running[place])
        self.running[place] = self.start()

    def end(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait(timeout=60)


@pytest.fixture
def queue(tmp_path: Path, committed_books: object) -> Iterator[Path]:
    """A folder for the queue, and an outbox that publishes to it by the clock of the workers."""
    product, clock = current_app._get_current_object(), tasks._clock
    app = Celery("tests", broker="filesystem://localhost")
    app.conf.broker_transport_options = queue_options(str(tmp_path))
    app.set_current()
    tasks.use_clock(now)
    yield tmp_path
    tasks.use_clock(clock)
    product.set_current()


@pytest.fixture
def workers(queue: Path) -> Iterator[Workers]:
    started = Workers(queue)
    yield started
    for worker in started.running:
        started.end(worker)
    started.log.close()


def open_jobs() -> int:
    return Outbox.objects.filter(done_at=None).count()


@pytest.mark.slow
def test_kills_and_wipes_at_random_lose_and_double_nothing(queue: Path, workers: Workers) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}", flush=True)
    dice = random.Random(seed)
    # a trouble comes when so many jobs are done, so that each meets a queue at work
    troubles = sorted((dice.randrange(JOBS * 3 // 4), what) for what in ["kill"] * KILLS + ["wipe"] * WIPES)
    wiped = interrupted = written = 0
    ends_at = time.monotonic() + SECONDS_MAX

    while written < JOBS or open_jobs():
        assert time.monotonic() < ends_at, f"{open_jobs()} jobs are still open"
        for _ in range(min(dice.randrange(1, 40), JOBS - written)):
            tasks.enqueue(kind=KIND, payload={"number": written}, dedupe_key=str(written))
            written += 1
        tasks.pump(now())  # as the beat does
        done = Inbox.objects.filter(source="effect").count()
        while troubles and troubles[0][0] <= done:
            _, what = troubles.pop(0)
            if what == "kill":
                workers.kill(dice.randrange(WORKERS))
                interrupted += 1
            else:
                wiped += len(list((queue / "messages").glob("*.msg")))
                shutil.rmtree(queue / "messages", ignore_errors=True)
                shutil.rmtree(queue / "control", ignore_errors=True)
        time.sleep(dice.uniform(0, 0.2))

    bodies = Inbox.objects.filter(source="effect").values_list("body", flat=True)
    effects = Counter(bytes(body).decode() for body in bodies)
    lost = JOBS - len(effects)
    doubled = sum(count > 1 for count in effects.values())
    troubled = f"{interrupted} workers killed, {WIPES} wipes of {wiped} messages"
    print(f"{JOBS} jobs, {troubled}: {lost} lost, {doubled} doubled")
    assert (interrupted, troubles) == (KILLS, [])
    assert wiped > 0
    assert (lost, doubled) == (0, 0)
