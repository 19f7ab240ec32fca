"""The doors' market for the agent's tests, made once; and the site that serves it on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction

from marketplace import clock
from marketplace.agent import checking, echo, rechecks
from pricing import residency
from tests.agent.serving import Site, served
from tests.doors.factories import NOW, Market, make_market


@pytest.fixture(scope="module")  # no longer: its transaction would lie under the small world of other modules
def market_once(django_db_setup: None, django_db_blocker: Any) -> Iterator[Market]:
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_market()
        transaction.set_rollback(True)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read of hundreds that waits its turn on a busy machine would be no proof, one line of a verifier that comes
    a second late no question, and a re-check of more than 40 seconds no session; lateness is tried elsewhere.
    """
    monkeypatch.setattr(residency, "READ_MARGIN_NS", 30 * 10**9)
    monkeypatch.setattr(echo._Handler, "timeout", 30)
    monkeypatch.setattr(checking, "ANSWER_SECONDS", 30)
    monkeypatch.setattr(rechecks, "SESSION_SECONDS", 300)


@pytest.fixture
def market(market_once: Market, db: None, monkeypatch: pytest.MonkeyPatch) -> Market:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    cache.clear()
    return market_once


@pytest.fixture
def site(market: Market) -> Iterator[Site]:
    with served() as site:
        yield site
