"""The small world, stopped after each act: one PostgreSQL database per stage, and a test inside a copy of one.

`@pytest.mark.stage("cleared")` puts a test into the market as it stood after that act. Whatever the test does there is
rolled back. The world is played once per session, on demand, also when several workers share the session.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stage(name): run inside the small world as it stood after that act")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop every database of this session's world; those of a killed session go at the next start."""
    import sys

    if hasattr(session.config, "workerinput") or "marketplace.postgres" not in sys.modules:
        return
    from marketplace import postgres

    for name in databases():
        if name.startswith((f"test_grove_{os.getpid()}_world", f"test_grove_{os.getpid()}_empty")):
            postgres.drop_database(name)


class Stages:
    """Databases of one session: `live` is played, each stage is a copy of it that nobody ever opens, and each worker
    works in a copy of that."""

    def __init__(self, home: Path, worker: str, empty: str) -> None:
        self.home = home
        self.empty = empty
        self.live = f"test_grove_{session_number(worker)}_world"
        self.worker = worker
        self._mine: dict[str, str] = {}

    def copy_of(self, stage: str) -> str:
        """This worker's database of a stage; tests leave it as they found it."""
        if stage not in self._mine:
            self._mine[stage] = self.fresh_copy(stage, f"{self.live}_{stage}_{self.worker}")
        return self._mine[stage]

    def has(self, stage: str) -> bool:
        return stage in self._mine

    def fresh_copy(self, stage: str, name: str) -> str:
        """A database of one's own that stands at a stage and may be changed for good."""
        with only_one(self.home):
            template = self._reach(stage)
            copy_database(template, name)
        return name

    def _reach(self, stage: str) -> str:
        from tests.journey.world import ACTS, play

        template = f"{self.live}_{stage}"
        if exists(template):
            return template
        if not exists(self.live):
            copy_database(self.empty, self.live)
        names = list(ACTS)
        for each in names[: names.index(stage) + 1]:
            if not exists(f"{self.live}_{each}"):
                with inside(self.live, self.home):
                    play(each)
                copy_database(self.live, f"{self.live}_{each}")
        return template


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock under which one worker makes what all workers of a session copy."""
    with open(home / "world.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def session_number(worker: str) -> int:
    """The process that names a session's databases: the one that started the workers, or this one."""
    return os.getpid() if worker == "alone" else os.getppid()


@contextmanager
def inside(name: str, home: Path) -> Iterator[None]:
    """Let this process work on another database, with keys of the tests' own."""
    from django.db import connection
    from django.test import override_settings

    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        with override_settings(DATA_DIR=home, CHAIN_URL=""):
            yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def make_empty(name: str) -> None:
    """A migrated database without a row."""
    from django.core.management import call_command

    from marketplace import postgres

    postgres.drop_database(name)
    postgres.create_database(name)
    with inside(name, Path("/")):
        call_command("migrate", interactive=False, verbosity=0)


def copy_database(template: str, name: str) -> None:
    """Copy a whole database, books and chain together.

    In memory its files are copied, eight times cheaper than to write each page to the log; on a disk the server would
    wait for every one of 1,450 files.
    """
    import psycopg
    from psycopg import sql

    from ledger.rails import evm
    from marketplace import postgres
    from tests.rooms import in_memory

    evm.close_all()  # PostgreSQL copies a database that nobody is connected to
    postgres.drop_database(name)
    with psycopg.connect(**postgres.maintenance_fields(None), autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.SQL("FILE_COPY" if in_memory() else "WAL_LOG")
            )
        )


def rename_database(before: str, after: str) -> None:
    """Give a database its name once it is whole."""
    import psycopg
    from psycopg import sql

    from marketplace import postgres

    with psycopg.connect(**postgres.maintenance_fields(None), autocommit=True) as server:
        server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(before), sql.Identifier(after)))


def exists(name: str) -> bool:
    return name in databases()


def databases() -> list[str]:
    """The databases of the server that the tests use."""
    import psycopg

    from marketplace import postgres

    with psycopg.connect(**postgres.maintenance_fields(None), autocommit=True) as server:
        return [row[0] for row in server.execute("SELECT datname FROM pg_database")]


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    """This process's name among the workers of a session."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "alone"))


@pytest.fixture(scope="session")
def shared_home(worker: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of a session share."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker == "alone" else base.parent) / "small-world"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


@pytest.fixture(scope="session")
def empty_database(worker: str, shared_home: Path, django_db_blocker: Any) -> str:
    """A migrated database that nobody ever opens: migrating takes ten seconds, a copy of it a fraction of one."""
    name = f"test_grove_{session_number(worker)}_empty"
    with django_db_blocker.unblock(), only_one(shared_home):
        if not exists(name):
            make_empty(f"{name}_unfinished")
            rename_database(f"{name}_unfinished", name)
    return name


@pytest.fixture(scope="session")
def stages(django_db_setup: None, worker: str, shared_home: Path, empty_database: str) -> Iterator[Stages]:
    yield Stages(shared_home, worker, empty_database)
    _seat.leave()  # the databases are dropped by way of the same connection


class _Seat:
    """Which stage this process sits in. Tests of one stage that follow each other keep one connection: the caches of a
    new one cost more than most of these tests.
    """

    def __init__(self) -> None:
        self._name = ""
        self._left = ExitStack()

    def take(self, name: str, home: Path) -> None:
        if name != self._name:
            self.leave()
            self._left.enter_context(inside(name, home))
            self._name = name

    def leave(self) -> None:
        self._left.close()
        self._name = ""


_seat = _Seat()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whoever works elsewhere finds the connection as it was."""
    if item.get_closest_marker("stage") is None:
        _seat.leave()


@pytest.fixture(autouse=True)
def _in_its_stage(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("stage")
    if marker is None:
        yield
        return
    from django.db import transaction

    from ledger.rails import evm

    stages: Stages = request.getfixturevalue("stages")
    blocker = request.getfixturevalue("django_db_blocker")
    with blocker.unblock():
        if not stages.has(marker.args[0]):
            _seat.leave()  # the next lines may build the stage, which other connections read
        name = stages.copy_of(marker.args[0])
        evm.use_chain(None)
        _seat.take(name, stages.home)
        with transaction.atomic():
            yield
            transaction.set_rollback(True)


@pytest.fixture
def own_world(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`own_world(stage)` makes a database that really commits and lets the rest of the test work in it."""
    from ledger.rails import evm
    from marketplace import postgres

    stages: Stages = request.getfixturevalue("stages")
    blocker = request.getfixturevalue("django_db_blocker")
    made: list[str] = []
    with blocker.unblock(), ExitStack() as stack:

        def make(stage: str) -> str:
            name = stages.fresh_copy(stage, f"{stages.live}_own_{stages.worker}")
            made.append(name)
            stack.enter_context(inside(name, stages.home))
            evm.use_chain(None)
            return name

        yield make
    with blocker.unblock():
        evm.close_all()
        for name in made:
            postgres.drop_database(name)


@pytest.fixture
def figures_at_the_end(stages: Stages, django_db_blocker: Any) -> dict[str, Any]:
    """The figures of the world that was played step by step, without a crash."""
    from tests.journey.world import figures

    with django_db_blocker.unblock(), inside(stages.copy_of("closed"), stages.home):
        return figures()
