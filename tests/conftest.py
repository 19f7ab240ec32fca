"""Set-up of a test session: the embedded PostgreSQL runs, and databases of dead sessions are gone."""

from __future__ import annotations

import os

import pytest

# A crash of the server may lose the last 200 ms of a test, never of the product: it is asked for by this process only.
os.environ.setdefault("PGOPTIONS", "-c synchronous_commit=off")
os.environ["DATABASE_POOL_MAX"] = "0"  # a pool's threads outlive a test database


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    from marketplace import postgres

    postgres.ensure_running()
    if not hasattr(session.config, "workerinput"):
        postgres.drop_leftovers()
