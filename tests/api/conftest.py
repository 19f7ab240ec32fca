"""The doors' market for the API's tests: made once, each test rolled back to it, time standing still."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client

from marketplace import clock
from marketplace import models as m
from marketplace.parties.services import issue_api_key
from tests.doors.factories import NOW, Market, make_market


@pytest.fixture(scope="package")
def market_once(django_db_setup: None, django_db_blocker: Any) -> Iterator[Market]:
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_market()
        transaction.set_rollback(True)


@pytest.fixture
def market(market_once: Market, db: None, monkeypatch: pytest.MonkeyPatch) -> Market:
    """The market, with the clock at its NOW; whatever the test writes is undone."""
    monkeypatch.setattr(clock, "now", lambda: NOW)
    cache.clear()
    return market_once


FRESH = count()  # of all callers together: the place in memory of one that is gone is soon another's


@dataclass
class Caller:
    """A program with a key, or a person with a session, that speaks JSON to the API."""

    client: Client
    headers: dict[str, str]

    def get(self, path: str, **query: str) -> Any:
        return self.client.get(f"/api/v1{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, *, key: str | None = "fresh", raw: bytes | None = None,
             content_type: str = "application/json") -> Any:  # fmt: skip
        """Post; `key="fresh"` takes a new Idempotency-Key, None sends none."""
        own = f"test-{next(FRESH)}" if key == "fresh" else key
        headers = self.headers | ({"Idempotency-Key": own} if own is not None else {})
        data = raw if raw is not None else (b"" if body is None else json.dumps(body).encode())
        return self.client.post(f"/api/v1{path}", data, content_type=content_type, headers=headers)


def caller(party: m.Party, *, may_write: bool = True, expires_at: datetime | None = None) -> Caller:
    """Return a program of `party` with a fresh key."""
    _, secret = issue_api_key(party=party, label="test", may_write=may_write, now=NOW, expires_at=expires_at)
    return Caller(Client(), {"Authorization": f"Bearer {secret}"})


@pytest.fixture
def buyer(market: Market) -> Caller:
    return caller(market.buyers[0])


@pytest.fixture
def other_buyer(market: Market) -> Caller:
    return caller(market.buyers[1])


@pytest.fixture
def provider(market: Market) -> Caller:
    return caller(market.providers[0])


@pytest.fixture
def other_provider(market: Market) -> Caller:
    return caller(market.providers[2])


@pytest.fixture
def anybody(market: Market) -> Caller:
    return Caller(Client(), {})


@pytest.fixture
def demand_body(market: Market) -> dict[str, Any]:
    assert market.collecting is not None
    return {
        "window": f"win_{market.collecting.pk.hex}", "reference": "T-1", "kind": "divisible",
        "accepted_classes": ["VCPU-8"], "quantity_units": 4, "start_slot": 0, "end_slot": 24,
        "price_limit_micros": "300000", "sla_code": "99.5",
    }  # fmt: skip


@pytest.fixture
def bid_body(market: Market) -> dict[str, Any]:
    """A bid of provider 0 that fits beside the ones it has: after all of them were taken back."""
    assert market.bidding is not None
    node_class = next(c for c in market.classes if c.party_id == market.providers[0].pk)
    m.Bid.objects.filter(window=market.bidding, node_class=node_class).update(state="withdrawn")
    return {
        "window": f"win_{market.bidding.pk.hex}", "node_class": f"cls_{node_class.pk.hex}", "reference": "B-1",
        "quantity_units": 4, "start_slot": 0, "end_slot": 24, "price_ask_micros": 1_500_000, "sla_code": "99.5",
    }  # fmt: skip


def table_counts() -> dict[str, int]:
    """Return the number of rows of every table but those that hold sessions."""
    with connection.cursor() as cursor:
        names = [n for n in connection.introspection.table_names(cursor) if n.startswith(("marketplace_", "ledger_"))]
        cursor.execute(" union all ".join(f"select '{n}', count(*) from {n}" for n in names))
        return dict(cursor.fetchall())


@pytest.fixture
def counts(market: Market) -> Any:
    return table_counts
