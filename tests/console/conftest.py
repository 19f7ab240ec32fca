"""The doors' market for the console's tests, with a seat of the Foundation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from marketplace import clock
from marketplace import models as m
from tests.doors.factories import NOW, Market, make_market, seat


@pytest.fixture(scope="package")
def console_market(django_db_setup: None, django_db_blocker: Any) -> Iterator[Market]:
    with django_db_blocker.unblock(), transaction.atomic():
        market = make_market()
        foundation = m.Party.objects.get(slug="foundation")
        seat(foundation, "staff@console.example", role="operations", is_staff=True)
        seat(market.buyers[0], "buyer@console.example")
        yield market
        transaction.set_rollback(True)


@pytest.fixture
def market(console_market: Market, db: None, monkeypatch: pytest.MonkeyPatch) -> Market:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    return console_market


@pytest.fixture
def staff(market: Market) -> Client:
    client = Client()
    client.force_login(m.User.objects.get(email="staff@console.example"))
    return client
