"""One market for all tests of the doors, rolled back when they are over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import Client

from tests.doors.factories import Market, make_market, seat


@pytest.fixture(scope="package")
def shared_market(django_db_setup: None, django_db_blocker) -> Iterator[Market]:
    with django_db_blocker.unblock(), transaction.atomic():
        market = make_market()
        seat(market.buyers[0], "buyer@doors.example")
        seat(market.buyers[1], "other.buyer@doors.example")
        seat(market.providers[0], "provider@doors.example")
        seat(market.providers[1], "newcomer@doors.example")
        seat(market.providers[5], "fresh@doors.example")
        yield market
        transaction.set_rollback(True)


@pytest.fixture
def market(shared_market: Market, db: None) -> Market:
    return shared_market


@pytest.fixture
def enter(market: Market):
    """Return a client that is signed in as somebody; `enter(None)` is a stranger."""
    from marketplace.models import User

    def entered(name: str | None) -> Client:
        client = Client()
        if name:
            client.force_login(User.objects.get(email=f"{name}@doors.example"))
        return client

    return entered
