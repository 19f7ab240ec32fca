"""Comparator quotes have a source and a date, and no figure of use stands for the whole network (M-083, M-096)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.clearing import selectors as clearings
from marketplace.errors import BadInput, PriceOutOfRange, RoleForbidden
from marketplace.insights.quotes import add_quote, current_quotes
from marketplace.parties.services import make_seat, register_party
from tests.doors.factories import NOW, Market

TERMS = {
    "resource_class": "H100-80GB", "provider": "A cloud", "place": "edge-fra-1", "country": "DE", "is_edge": True,
    "price_micros": 3_100_000, "source": "price page, snapshot", "quoted_on": date(2026, 1, 5),
}  # fmt: skip


def operations() -> m.Seat:
    party = register_party(slug="the-market", name="The market", kind="foundation", country="CH", parent_country="CH",
                           now=NOW)  # fmt: skip
    return make_seat(party=party, email="ops@doors.example", password=None, role="operations", now=NOW)


def test_each_quote_has_source_and_date_and_the_newest_is_shown(market: Market, enter) -> None:
    seat, code = operations(), m.ResourceClass.objects.first().pk
    terms = TERMS | {"resource_class": code, "seat": seat, "now": clock.now()}
    tomorrow = clock.now().date() + timedelta(days=1)
    for error, changes in (
        (BadInput, {"source": " "}), (BadInput, {"quoted_on": tomorrow}), (BadInput, {"country": "Germany"}),
        (PriceOutOfRange, {"price_micros": 0}), (RoleForbidden, {"seat": market.providers[0].seats.first()}),
    ):  # fmt: skip
        with pytest.raises(error):
            add_quote(**terms | changes)
    assert not m.ComparatorQuote.objects.exists()

    add_quote(**terms)
    add_quote(**terms)
    newer = add_quote(**terms | {"quoted_on": date(2026, 3, 1), "price_micros": 2_900_000})

    assert m.ComparatorQuote.objects.count() == 2
    assert list(current_quotes()) == [newer]
    body = enter(None).get("/market/quotes/").content.decode()
    assert all(text in body for text in ("$2.9000", "1 Mar 2026", "price page, snapshot", "edge zone"))
    assert "$3.1000" not in body


def test_only_the_foundation_enters_quotes_from_the_page(market: Market, enter) -> None:
    operations()
    form = {**TERMS, "resource_class": m.ResourceClass.objects.first().pk, "price_micros": "3.10",
            "quoted_on": "2026-01-05"}  # fmt: skip

    assert enter("buyer").post("/market/quotes/", form).status_code == 404
    assert enter("ops").post("/market/quotes/", form | {"source": ""}).status_code == 422
    assert enter("ops").post("/market/quotes/", form).status_code == 302
    assert m.ComparatorQuote.objects.get().price_micros == 3_100_000


@pytest.mark.parametrize("path", ["/market/", "/market/coverage/", "/market/claims/", "/market/demand/",
                                  "/api/v1/market/prices"])  # fmt: skip
def test_no_figure_of_use_stands_for_the_whole_network(market: Market, enter, path: str) -> None:
    """Sold over proven and available is told class by class: neither the sums over all classes nor their share."""
    clearing = clearings.last_clearing()
    assert clearing is not None
    rows = clearings.sold_and_proven(clearing)
    assert len(rows) >= 2
    sold, proven = sum(row[1] for row in rows), sum(row[2] for row in rows)
    share = f"{1000 * sold // proven / 10:.1f} %"
    own = {f"{1000 * row[1] // row[2] / 10:.1f} %" for row in rows if row[2]}
    assert share not in own

    body = enter(None).get(path).content.decode()

    assert not any(text in body for text in (share, f"{proven:,} unit-hours", f"of {proven:,}"))
    assert "utilisation of the network" not in body.lower()
