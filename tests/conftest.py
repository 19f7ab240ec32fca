"""Set-up of a test session: the embedded PostgreSQL runs, and databases of dead sessions are gone."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.rooms import in_memory

HERE = Path(__file__).parent
pytest_plugins = ("tests.journey.stages",)

# A crash of the server may lose the last 200 ms of a test, never of the product: it is asked for by this process only.
os.environ.setdefault("PGOPTIONS", "-c synchronous_commit=off")
os.environ["DATABASE_POOL_MAX"] = "0"  # a pool's threads outlive a test database
# Each run tries the same examples, however fast the machine is: what nobody changed does not turn red. Tests that are
# marked nightly draw seeds of their own, and `--hypothesis-profile default` looks further everywhere.
settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True,
                          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
settings.load_profile("suite")
gc.disable()  # until everything is loaded
gc.set_threshold(50_000, 10, 10)


# Begun first, in this order: a file that takes a minute and comes last leaves the other worker idle. The second needs
# no database: one worker makes the migrated one while the other checks types. The others keep the order of their
# folders, so that a market that a folder's tests share is made once a worker.
DEAR = (
    "rails/test_books_and_chain_machine.py", "architecture/test_style.py", "marketplace/test_trailing.py",
    "house/test_up.py", "marketplace/test_backups.py", "rails/test_connect.py",
    "properties/test_books_machine_function.py", "properties/test_books_machine.py", "house/test_postgres.py",
    "properties/test_escrow_machine.py", "browser/test_look.py", "crash/test_crash.py",
    "marketplace/test_partial_settlement.py", "rails/test_card_sequences.py", "console/test_console_seal.py",
    "marketplace/test_refused_three_times.py", "marketplace/test_reconciliation.py", "ledger/test_ledger_kills.py",
    "marketplace/test_egress_money.py", "properties/test_escrow_machine_second.py", "crash/test_card_crash.py",
    "crash/test_side_by_side.py", "crash/test_verify.py", "ledger/test_ledger_outbox_workers.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the dear files first; every worker must come to the same order."""
    places = {str(HERE / name): place for place, name in enumerate(DEAR)}
    items.sort(key=lambda item: places.get(str(item.path), len(DEAR)))


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every later search for garbage: it lives until the end, and going through its
    million objects again and again took a sixth of the suite's time.
    """
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    from django.conf import settings

    from marketplace import postgres

    # Hundreds of seats are made here, and no password of theirs is worth a second of hashing.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]
    _look_through_static_files_once()
    postgres.ensure_running()
    if not hasattr(session.config, "workerinput"):
        postgres.drop_leftovers()
        if in_memory():
            _spare_whole_pages()


def _look_through_static_files_once() -> None:
    """Each test's client builds the middleware anew; looking through every static file was a third of a page's cost.

    They do not change in a session; a process that serves builds its middleware once.
    """
    from marketplace.security import StaticFilesMiddleware

    look, found = StaticFilesMiddleware.add_files_from_finders, dict[str, Any]()

    def add(self: StaticFilesMiddleware) -> None:
        if not found:
            others, self.files = self.files, {}
            look(self)
            found.update(self.files)
            self.files = others
        self.files.update(found)

    StaticFilesMiddleware.add_files_from_finders = add


def _spare_whole_pages() -> None:
    """Write no whole pages to the log: they mend what a power cut tears, and memory does not outlive one."""
    import psycopg

    from marketplace import postgres

    with psycopg.connect(**postgres.maintenance_fields(None), autocommit=True) as server:
        server.execute("ALTER SYSTEM SET full_page_writes = off")
        server.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, empty_database: str) -> Iterator[None]:
    """Test databases are made and dropped by the owner, whose connection this is from here on.

    They are copies of one migrated database: each worker would spend ten seconds on migrations of its own.
    """
    from django.db import connection

    from marketplace import postgres

    before = {key: connection.settings_dict[key] for key in postgres.LOGIN}
    owner = postgres.django_database(role="owner")
    connection.settings_dict.update({key: owner[key] for key in postgres.LOGIN})
    connection.settings_dict["TEST"]["TEMPLATE"] = empty_database
    yield
    connection.settings_dict.update(before)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The test databases, in which every test works with the rights of the product's role and no more.

    A copy has the tables and their rights, and not the rights on the database itself: they are taken away anew.
    As the owner each wall that the roles are would be out of sight. `tests.owner.as_owner` steps out of the role. At
    the end the embedded chain's own connections are closed, because the databases are dropped.
    """
    from django.db import connection

    from marketplace import postgres

    _let_tests_be_flushed()
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(f'revoke temporary on database "{connection.settings_dict["NAME"]}" from public')
    options = connection.settings_dict["OPTIONS"]
    words = f"{os.environ.get('PGOPTIONS', '')} {options.get('options', '')} -c role={postgres.PRODUCT}"
    connection.close()
    connection.settings_dict["OPTIONS"] = options | {"options": words.strip()}
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options
    rails = sys.modules.get("ledger.rails.evm")
    if rails is not None:
        rails.close_all()


def _let_tests_be_flushed() -> None:
    """Empty the tables after a transactional test although append-only ones refuse TRUNCATE: their triggers rest."""
    from django.db import connection

    from ledger.services import open_ledgers
    from tests.owner import behind_the_triggers

    def execute_sql_flush(statements: list[str]) -> None:
        assert connection.settings_dict["NAME"].startswith("test_"), "only a test database is ever emptied"
        with behind_the_triggers() as cursor:
            for statement in statements:
                cursor.execute(statement)
            open_ledgers()
            cursor.execute(import_module("marketplace.migrations.0016_walls_of_demand_first").PHASES)
            cursor.execute(import_module("marketplace.migrations.0047_unused_quota_lapses").RULE)
            cursor.execute(import_module("marketplace.migrations.0048_reports_and_quotes").RULE)
            cursor.execute(import_module("marketplace.migrations.0066_first_leases").RULE)
            cursor.execute(import_module("marketplace.migrations.0029_phase_effects").ROWS)

    connection.ops.execute_sql_flush = execute_sql_flush  # type: ignore[method-assign]
