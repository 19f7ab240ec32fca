"""One buyer and one university, no market: funded demand, the midpoint, the same escrow, SLA and proof, to payout."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from ledger.chart import Origin
from ledger.ids import uuid_from
from ledger.models import Transfer
from ledger.rails.mirror import read_words
from ledger.reconcile import check_books, compare_when_still
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import judge_gate
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.demo.minutes import report_window
from marketplace.errors import BadInput, DemandFirst, NotYours, ReferenceReused, UnknownName
from marketplace.escrow.advances import approve_line, ask_line
from marketplace.parties.services import issue_api_key
from marketplace.supply.bids import place_bid
from marketplace.supply.bilateral import open_bilateral
from pricing.penalties import quality_bps
from tests.journey import world
from tests.journey.refusals import refused, untouched

LIMIT, ASK, UNITS, HOURS = 3_000_000, 1_600_000, 4, 24


def open_one(**changes: Any) -> m.Window:
    terms: dict[str, Any] = {
        "buyer": world.party("alder"), "provider_slug": "harbour", "name": "Alder and Harbour", "slots": HOURS,
        "starts_at": world.day(26), "now": clock.now(),
    }  # fmt: skip
    return open_bilateral(**terms | changes)


def order(into: m.Window, party: str = "alder") -> m.Demand:
    return post_demand(
        party=world.party(party), window=into, reference=f"{party} alone", kind="block", accepted_classes=["H100"],
        quantity_units=UNITS, start_slot=0, end_slot=HOURS, price_limit_micros=LIMIT, sla_code="99.0", zone_code="EU",
        now=clock.now(),
    )  # fmt: skip


def offer(into: m.Window, provider: str = "harbour") -> m.Bid:
    row = world.node_class(provider)
    return place_bid(
        party=row.party, node_class=row, window=into, reference=f"{provider} alone", quantity_units=UNITS,
        start_slot=0, end_slot=HOURS, price_ask_micros=ASK, sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def free_money() -> None:
    withdraw_demand(demand=world.demand("genome"), party=world.party("alder"), now=clock.now())


def deliver(window: m.Window) -> None:
    now = clock.move_to(window.ends_at + timedelta(hours=1))
    codes = {world.node_class(each.code).pk: each.code for each in world.MACHINES}
    report_window(window=m.Window.objects.get(pk=window.pk), outages=(), codes=codes, seed=1, now=now)
    cycle.advance_until_quiet(now=now)


def delivered_ask() -> int:
    """What harbour asks per hour that it really delivers, as every book counts it: ask over quality, on the tick."""
    standing = world.node_class("harbour").standing
    return -(-ASK * 10_000 // (quality_bps(standing.good_hours, standing.bad_hours) * 100)) * 100


def check_the_end(window: m.Window, ask: int) -> None:
    """It was paid at the midpoint between limit and ask, like any other lease."""
    lease = m.Lease.objects.select_related("verdict").get(window=window)
    line, payout = lease.settlement_line, m.Payout.objects.get(window=window)
    price = lease.fee_micros // lease.unit_hours
    assert m.Window.objects.get(pk=window.pk).state == "SETTLED"
    assert lease.unit_hours == UNITS * HOURS
    assert abs(2 * price - (LIMIT + ask)) < 200  # on the tick
    assert (lease.state, lease.is_armed, lease.verdict.is_breach) == ("settled", True, False)
    assert line.payable_micros + line.fee_micros == line.earned_micros == lease.fee_micros
    assert (payout.amount_micros, payout.final_at is not None) == (line.payable_micros, True)
    assert [found for found in check_books(now=clock.now()) if not found.ok] == []
    assert compare_when_still(read_words, now=clock.now()) == []


def test_from_a_grant_to_payout_by_services(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    line = ask_line(party=world.party("alder"), kind="grant", number="G 1", limit_micros=400 * world.USD,
                    valid_until=world.day(300), person="cfo@alder.example", now=clock.now())  # fmt: skip
    approve_line(line=line, person="ops@grove.example", reason="the programme pays", now=clock.now())
    cycle.run_chain(now=clock.now())
    window = open_one()
    demand = fund_demand(demand=order(window), party=world.party("alder"), funding="grant", number="G 1",
                         now=clock.now())  # fmt: skip
    with pytest.raises(DemandFirst):
        offer(window)
    cycle.advance(now=clock.move_to(window.demand_closes_at))
    with pytest.raises(NotYours):
        offer(window, "granite")
    offer(window)
    ask = delivered_ask()
    cycle.advance_until_quiet(now=clock.move_to(window.bidding_closes_at))
    deliver(window)

    check_the_end(window, ask)
    lease = m.Lease.objects.get(demand=demand)
    moved = Transfer.objects.filter(id__in=[uuid_from("settle", lease.pk, "", name) for name in ("earned", "fee")])
    assert [row.origin for row in moved] == [Origin.GRANT] * 2  # and so no organic revenue


def test_from_funded_demand_to_payout_by_api_and_pages(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    free_money()
    cache.clear()
    buyer, provider, stranger = (Program(slug) for slug in ("alder", "harbour", "birch"))
    made = buyer.post("/bilateral-windows", 201, provider="harbour", name="Two", slots=HOURS,
                      starts_at=world.day(26).isoformat())  # fmt: skip
    window = m.Window.objects.get(name="Two")
    demand = buyer.post(
        "/demands", 201, window=made["id"], reference="by API", kind="block", accepted_classes=["H100"],
        quantity_units=UNITS, start_slot=0, end_slot=HOURS, price_limit_micros=LIMIT, sla_code="99.0", zone_code="EU",
    )  # fmt: skip
    assert buyer.post(f"/demands/{demand['id']}/funding", 200)["funding_kind"] == "escrow"
    assert stranger.get(f"/windows/{made['id']}", 404)["code"] == "not_found"
    assert provider.get(f"/windows/{made['id']}", 200)["kind"] == "bilateral"
    cycle.advance(now=clock.move_to(window.demand_closes_at))
    cls = f"cls_{world.node_class('harbour').pk.hex}"
    provider.post("/bids", 201, window=made["id"], node_class=cls, reference="by API", quantity_units=UNITS,
                  start_slot=0, end_slot=HOURS, price_ask_micros=ASK, sla_code="99.0")  # fmt: skip
    ask = delivered_ask()
    cycle.advance_until_quiet(now=clock.move_to(window.bidding_closes_at))
    deliver(window)

    check_the_end(window, ask)
    [lease] = [row for row in provider.get("/leases", 200)["data"] if row["window"] == made["id"]]
    assert lease["state"] == "settled"


@pytest.mark.stage("collecting")
def test_nobody_else_trades_there_and_unfunded_demand_opens_nothing() -> None:
    window = open_one()
    with refused(NotYours):
        order(window, "birch")
    order(window)

    assert judge_gate(window=window, now=window.demand_closes_at) == "FAILED"


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "kind", "field"), [
    ({"provider_slug": "nobody"}, UnknownName, "provider"), ({"provider_slug": "birch"}, UnknownName, "provider"),
    ({"provider_slug": 7}, UnknownName, "provider"), ({"buyer": "granite"}, BadInput, "party"),
    ({"starts_at": 20}, BadInput, "demand_closes_at"), ({"name": ""}, BadInput, "name"),
])  # fmt: skip
def test_a_bad_pair_is_refused_beside_its_field(changes: dict[str, Any], kind: type[Exception], field: str) -> None:
    told = changes | ({"buyer": world.party(changes["buyer"])} if "buyer" in changes else {})
    told |= {"starts_at": world.day(20)} if "starts_at" in changes else {}
    with refused(kind, field=field):
        open_one(**told)


@pytest.mark.stage("collecting")
def test_one_owner_on_both_sides_is_no_pair_and_the_same_name_is_one_window() -> None:
    window = open_one()
    with untouched():
        assert open_one() == window
    with refused(ReferenceReused, field="name"):
        open_one(provider_slug="granite")
    m.Party.objects.filter(slug="granite").update(parent=world.party("alder"))
    with refused(BadInput, field="provider"):
        open_one(name="own", provider_slug="granite")


class Program:
    """A program with a key of a party."""

    def __init__(self, slug: str) -> None:
        _, secret = issue_api_key(party=world.party(slug), label="test", may_write=True, now=clock.now())
        self._client, self._headers = Client(), {"Authorization": f"Bearer {secret}"}
        self._count = 0

    def post(self, path: str, status: int, **body: Any) -> dict[str, Any]:
        self._count += 1
        answer = self._client.post(
            f"/api/v1{path}", json.dumps(body) if body else b"", content_type="application/json",
            headers=self._headers | {"Idempotency-Key": f"k{self._count}"},
        )
        assert answer.status_code == status, answer.content
        return dict(answer.json())

    def get(self, path: str, status: int) -> dict[str, Any]:
        answer = self._client.get(f"/api/v1{path}", headers=self._headers)
        assert answer.status_code == status, answer.content
        return dict(answer.json())
