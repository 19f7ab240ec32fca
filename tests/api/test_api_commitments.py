"""Demand first over HTTP: the waitlist with its 409, standing demand, orders, statements, windows between two."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ledger.ids import uuid7
from marketplace import models as m
from marketplace.payout.invoices import issue_invoices
from marketplace.supply.admissions import delivery_month
from tests.api.conftest import Caller, caller
from tests.doors.factories import NOW, Market
from tests.owner import behind_the_triggers


def month_of(market: Market) -> str:
    assert market.collecting is not None
    return f"{delivery_month(market.collecting):%Y-%m}"


def ask(who: Caller, market: Market, provider: int, **changes: Any) -> Any:
    node_class = market.providers[provider].node_classes.first()
    body = {"node_class": f"cls_{node_class.pk.hex}", "month": month_of(market), "unit_hours": 10}
    return who.post("/admissions", body | changes)


def test_a_provider_waits_and_is_let_in_by_funded_demand(market: Market, provider: Caller) -> None:
    made = ask(provider, market, 0)
    assert made.status_code == 201
    assert (made.json()["state"], made.json()["cover"]["place"]) == ("WAITLIST", 1)
    assert made.json()["cover"]["funded_unit_hours"] > 0

    entered = provider.post(f"/admissions/{made.json()['id']}/entry")

    assert (entered.status_code, entered.json()["state"]) == (200, "ADMITTED")
    assert entered.json()["id"] in [row["id"] for row in provider.get("/admissions").json()["data"]]


def test_without_funded_demand_the_answer_is_409_demand_first_and_nothing_is_written(
    market: Market, provider: Caller, counts: Any
) -> None:
    later = f"{(NOW + timedelta(days=190)):%Y-%m}"
    made = ask(provider, market, 0, month=later).json()
    before = counts()

    refused = provider.post(f"/admissions/{made['id']}/entry")

    assert (refused.status_code, refused.json()["code"]) == (409, "demand_first")
    assert (refused.json()["covered_unit_hours"], refused.json()["asked_unit_hours"]) == (0, 10)
    assert counts() == before
    left = provider.post(f"/admissions/{made['id']}/withdrawal")
    assert left.json()["state"] == "WITHDRAWN"


def test_a_bid_of_a_class_that_was_not_let_in_is_409(
    market: Market, provider: Caller, bid_body: dict[str, Any], counts: Any
) -> None:
    assert provider.post("/bids", bid_body | {"reference": "let in"}).status_code == 201
    own = m.NodeClass.objects.get(pk=UUID(bid_body["node_class"][4:]))
    late = m.NodeClass.objects.create(
        id=uuid7(NOW), party=own.party, site=own.site, resource_class_id="VCPU-8", claimed_name="late", units=8, tier=2,
        chain_class=999, enrolled_at=NOW,
    )
    with behind_the_triggers():
        m.Standing.objects.create(node_class=late, state="PROBATION", changed_at=NOW)
    before = counts()

    refused = provider.post("/bids", bid_body | {"reference": "late", "node_class": f"cls_{late.pk.hex}",
                                                 "quantity_units": 1})  # fmt: skip

    assert (refused.status_code, refused.json()["code"], refused.json()["rule"]) == (409, "demand_first", "admission")
    assert (refused.json()["admitted_unit_hours"], refused.json()["asked_unit_hours"]) == (0, 24)
    assert counts() == before


def test_somebody_elses_request_is_missing(market: Market, provider: Caller, other_provider: Caller) -> None:
    made = ask(provider, market, 0).json()

    for act in ("entry", "withdrawal"):
        assert other_provider.post(f"/admissions/{made['id']}/{act}").status_code == 404
    assert ask(other_provider, market, 0).status_code == 404


@pytest.mark.parametrize(("changes", "status", "code"), [
    ({"month": "2027-13"}, 422, "bad_month"), ({"month": "0000-01"}, 422, "bad_month"),
    ({"month": 7}, 422, "bad_month"),
    ({"unit_hours": 0}, 422, "bad_input"), ({"unit_hours": 1.5}, 422, "number_format"),
    ({"month": "2001-01"}, 422, "bad_input"), ({"surprise": 1}, 422, "unknown_field"),
])  # fmt: skip
def test_a_bad_request_points_to_its_field(
    market: Market, provider: Caller, changes: dict[str, Any], status: int, code: str
) -> None:
    refused = ask(provider, market, 0, **changes)

    assert refused.status_code == status
    assert code in {refused.json()["code"], *(error["code"] for error in refused.json()["errors"])}


def standing_body(**changes: Any) -> dict[str, Any]:
    return {
        "reference": "lasts", "kind": "divisible", "accepted_classes": ["H100-80"], "quantity_units": 2,
        "price_limit_micros": "2400000", "renewal_cap_ppm": 50_000, "sla_code": "99.5", "starts_at": NOW.isoformat(),
        "ends_at": (NOW + timedelta(days=90)).isoformat(),
    } | changes  # fmt: skip


def test_a_demand_stands_is_repriced_and_withdrawn(buyer: Caller, other_buyer: Caller) -> None:
    made = buyer.post("/standing-demands", standing_body())
    assert made.status_code == 201
    path = f"/standing-demands/{made.json()['id']}"
    assert (made.json()["state"], made.json()["renewal_cap_micros"], made.json()["entries"]) == ("active", None, [])

    assert other_buyer.post(f"{path}/withdrawal").status_code == 404
    assert buyer.post(f"{path}/price", {"price_limit_micros": 2_500_000}).json()["price_limit_micros"] == "2500000"
    assert buyer.post(f"{path}/withdrawal").json()["state"] == "withdrawn"
    assert buyer.post(f"{path}/price", {"price_limit_micros": 2_600_000}).status_code == 409
    assert [row["state"] for row in buyer.get("/standing-demands").json()["data"]] == ["withdrawn"]


@pytest.mark.parametrize("moment", ["tomorrow", "2027-01-01", "2027-01-01T00:00:00", "2027-02-30T00:00:00Z", 7,
                                    "0001-01-01T00:00:00+23:00"])  # fmt: skip
def test_a_moment_is_written_with_its_zone(buyer: Caller, moment: Any) -> None:
    refused = buyer.post("/standing-demands", standing_body(ends_at=moment))

    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"pointer": "/ends_at", "code": "bad_time",
         "detail": "Write a moment with its zone, such as 2027-01-31T12:00:00Z."}
    ]  # fmt: skip


def test_an_order_waits_and_funds_nothing_before(market: Market, buyer: Caller, demand_body: dict[str, Any]) -> None:
    made = buyer.post("/funding-lines", {"kind": "purchase_order", "number": "PO 1", "limit_micros": "1000000000",
                                         "valid_until": (NOW + timedelta(days=90)).isoformat()})  # fmt: skip
    demand = buyer.post("/demands", demand_body).json()
    assert (made.status_code, made.json()["state"], made.json()["left_micros"]) == (201, "PENDING", "1000000000")

    refused = buyer.post(f"/demands/{demand['id']}/funding", {"funding": "purchase_order", "number": "PO 1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "line_not_decided")
    assert buyer.post(f"/demands/{demand['id']}/funding").json()["funding_kind"] == "escrow"
    assert [row["number"] for row in buyer.get("/funding-lines").json()["data"]] == ["PO 1"]


def test_what_a_buyer_says_is_kept_and_read_by_it_alone(
    buyer: Caller, other_buyer: Caller, demand_body: dict[str, Any]
) -> None:
    made = buyer.post("/statements", {"segment": "enterprise", "pain": "Queues.", "present_usd_per_year": 60_000})
    demand = buyer.post("/demands", demand_body | {"price_limit_micros": "2400000", "quantity_units": 4}).json()
    quote = {"incumbent": "A cloud", "quote_micros": "3100000", "quote_source": "offer 12", "quoted_on": "2026-11-01"}
    about = {"segment": "enterprise", "demand": demand["id"], "curves": [{"steps": [[2_400_000, 2], ["2200000", 1]]}]}
    said = buyer.post("/statements", about | quote)

    assert (made.status_code, made.json()["demand"], made.json()["version"]) == (201, None, 1)
    assert (said.status_code, said.json()["demand"], said.json()["quote_micros"]) == (201, demand["id"], "3100000")
    assert said.json()["curves"] == {"": [[2_400_000, 2], [2_200_000, 1]]}
    assert len(buyer.get("/statements").json()["data"]) == 2
    assert other_buyer.get("/statements").json()["data"] == []
    assert other_buyer.post("/statements", about).status_code == 404
    for body, pointer in (({"segment": "enterprise"}, "/pain"),
                          (about | quote | {"quoted_on": "2026-02-30"}, "/quoted_on"),
                          ({"segment": "enterprise", "pain": "x", "quote_micros": 100}, "/quote_micros")):  # fmt: skip
        refused = buyer.post("/statements", body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert len(buyer.get("/statements").json()["data"]) == 2


def test_a_window_between_two_is_known_to_those_two(
    market: Market, buyer: Caller, provider: Caller, other_buyer: Caller, anybody: Caller
) -> None:
    made = buyer.post("/bilateral-windows", {"provider": market.providers[0].slug, "name": "Two", "slots": 24,
                                             "starts_at": (NOW + timedelta(days=9)).isoformat()})  # fmt: skip
    assert (made.status_code, made.json()["kind"]) == (201, "bilateral")
    path = f"/windows/{made.json()['id']}"

    assert [who.get(path).status_code for who in (buyer, provider, other_buyer, anybody)] == [200, 200, 404, 404]
    for who, sees in ((buyer, True), (provider, True), (other_buyer, False), (anybody, False)):
        assert ("Two" in [row["name"] for row in who.get("/windows").json()["data"]]) == sees
    assert caller(market.providers[0]).post("/bilateral-windows", {
        "provider": market.providers[0].slug, "name": "No", "slots": 24,
        "starts_at": (NOW + timedelta(days=9)).isoformat()}).status_code == 422  # fmt: skip


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:00:00Z",
                                    "1999-12-31T23:59:59Z", "2200-01-01T00:00:00Z"])  # fmt: skip
def test_a_moment_outside_the_years_of_the_market_is_refused_at_its_field(
    market: Market, buyer: Caller, moment: str, demand_body: dict[str, Any]
) -> None:
    """What is added to such a moment would pass the end of the calendar."""
    wall = {"provider": market.providers[0].slug, "name": "Wall", "slots": 24}
    order = {"kind": "grant", "number": "G-1", "limit_micros": 10}
    for path, body, field in (("/bilateral-windows", wall, "starts_at"), ("/funding-lines", order, "valid_until")):
        refused = buyer.post(path, body | {field: moment})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, f"/{field}")
        assert "2000 to 2199" in refused.json()["errors"][0]["detail"]
    last = buyer.post("/funding-lines", order | {"valid_until": "2199-12-31T23:59:59Z"})
    assert last.status_code == 201, last.json()


def test_an_order_is_split_and_its_legs_are_told(
    buyer: Caller, other_buyer: Caller, demand_body: dict[str, Any]
) -> None:
    made = buyer.post("/split-demands", demand_body | {"quantity_units": 6, "provider_share_max_ppm": 334_000})
    assert made.status_code == 200
    legs = made.json()["demands"]
    assert [leg["quantity_units"] for leg in legs] == [2, 2, 2]
    report = buyer.get(f"/demands/{legs[0]['id']}/legs").json()["legs"]
    assert [(leg["role"], leg["served_unit_hours"], leg["rest_goes_to"]) for leg in report] == [
        ("spread", 0, "nowhere: it is not served")] * 3  # fmt: skip
    assert other_buyer.get(f"/demands/{legs[0]['id']}/legs").status_code == 404

    share = "/provider_share_max_ppm"
    for changes, pointer in (({}, share), ({"provider_share_max_ppm": 1}, share),
                             ({"insensitive_units": 9, "zone_code": "EU"}, "/insensitive_units"),
                             ({"provider_share_max_ppm": 500_000, "kind": "block"}, "/kind")):  # fmt: skip
        body = demand_body | {"quantity_units": 6, "reference": "wrong"} | changes
        refused = buyer.post("/split-demands", body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert not m.Demand.objects.filter(reference__startswith="wrong").exists()


def test_one_step_of_a_price_curve_is_changed(
    buyer: Caller, other_buyer: Caller, demand_body: dict[str, Any]
) -> None:
    made = buyer.post("/split-demands", demand_body | {"reference": "steps", "quantity_units": 2, "kind": "divisible",
                      "price_limit_micros": "2400000", "further_steps": [
                          {"units": 3, "price_limit_micros": "1800000"}]})  # fmt: skip
    assert made.status_code == 200, made.json()
    first, last = made.json()["demands"]

    changed = buyer.post(f"/demands/{last['id']}/step", {"quantity_units": 5, "price_limit_micros": "1900000"})
    assert (changed.status_code, changed.json()["quantity_units"]) == (200, 5)
    assert buyer.get(f"/demands/{first['id']}").json()["quantity_units"] == 2
    refused = buyer.post(f"/demands/{last['id']}/step", {"price_limit_micros": "2400000"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/price_limit_micros")
    assert other_buyer.post(f"/demands/{last['id']}/step", {"quantity_units": 1}).status_code == 404


def test_rules_that_no_country_meets_are_told_with_the_one_that_removes_most(
    buyer: Caller, demand_body: dict[str, Any]
) -> None:
    with behind_the_triggers():
        m.DataClass.objects.filter(pk="restricted").update(zone="CH")
    refused = buyer.post("/demands", demand_body | {"zone_code": "EU", "data_class": "restricted"})

    assert (refused.status_code, refused.json()["code"]) == (422, "contradictory_rules")
    assert "data class restricted, which stays in CH removes most" in refused.json()["title"]
    assert refused.json()["errors"][0]["pointer"] == "/data_class"
    assert int(refused.json()["removed"]["data_class"]) > int(refused.json()["removed"]["zone_code"])


def test_prices_invoices_and_clauses_are_read_by_their_buyer(
    market: Market, buyer: Caller, other_buyer: Caller
) -> None:
    paid = buyer.get("/price-history").json()["data"]
    assert paid
    assert {row["before_micros"] for row in paid} == {None}
    assert buyer.get("/invoices").json()["data"] == []
    assert market.settled is not None
    issue_invoices(window=market.settled, now=NOW)

    (mine,) = buyer.get("/invoices").json()["data"]
    assert sum(int(line["amount_micros"]) for line in mine["lines"]) == int(mine["amount_micros"])
    assert all(line["award"] or line["lease"] for line in mine["lines"])
    assert mine["number"] not in [row["number"] for row in other_buyer.get("/invoices").json()["data"]]
    leases = {row["id"]: row for row in buyer.get("/leases").json()["data"]}
    assert all([clause["name"] for clause in row["clauses"]] == ["portability", "price", "renewal"]
               for row in leases.values())  # fmt: skip
    zoned = m.Lease.objects.filter(buyer=market.buyers[0], demand__zone="EU").first()
    assert zoned is not None
    path = f"/leases/lea_{zoned.pk.hex}/residency"
    taken = buyer.post(path)
    assert taken.status_code == 200
    assert hashlib.sha256(taken.json()["document"].encode()).hexdigest() == taken.json()["sha256"]
    assert other_buyer.post(path).status_code == 404
