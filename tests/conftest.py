"""Set-up of a test session: the embedded PostgreSQL runs, and databases of dead sessions are gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

pytest_plugins = ("tests.journey.stages",)

# A crash of the server may lose the last 200 ms of a test, never of the product: it is asked for by this process only.
os.environ.setdefault("PGOPTIONS", "-c synchronous_commit=off")
os.environ["DATABASE_POOL_MAX"] = "0"  # a pool's threads outlive a test database


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    from marketplace import postgres

    postgres.ensure_running()
    if not hasattr(session.config, "workerinput"):
        postgres.drop_leftovers()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """The test databases; the embedded chain's own connections are closed before they are dropped."""
    _let_tests_be_flushed()
    yield
    rails = sys.modules.get("ledger.rails.evm")
    if rails is not None:
        rails.close_all()


def _let_tests_be_flushed() -> None:
    """Empty the tables after a transactional test although append-only ones refuse TRUNCATE: their triggers rest."""
    from django.db import connection, transaction

    def execute_sql_flush(statements: list[str]) -> None:
        assert connection.settings_dict["NAME"].startswith("test_"), "only a test database is ever emptied"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                cursor.execute(statement)

    connection.ops.execute_sql_flush = execute_sql_flush  # type: ignore[method-assign]
