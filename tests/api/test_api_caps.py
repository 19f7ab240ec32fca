"""Caps of a key: counted in the transaction of the order, told with their figures, and nothing else is open to it."""

from __future__ import annotations

from typing import Any

from django.test import Client

from marketplace import models as m
from marketplace.parties.caps import Caps
from marketplace.parties.services import issue_api_key
from tests.api.conftest import Caller
from tests.doors.factories import NOW


def capped(party: m.Party, **caps: Any) -> Caller:
    _, secret = issue_api_key(party=party, label="capped", may_write=True, now=NOW, caps=Caps(**caps))
    return Caller(Client(), {"Authorization": f"Bearer {secret}"})


def test_a_capped_key_bids_up_to_its_notional_of_the_day_and_not_a_micro_more(market, bid_body, counts):
    notional = 4 * 24 * 1_500_000
    bidder = capped(market.providers[0], notional_day_max_micros=2 * notional - 1)

    assert bidder.post("/bids", bid_body).status_code == 201
    before = counts()
    second = bid_body | {"reference": "B-2"}
    refusal = bidder.post("/bids", second)

    assert (refusal.status_code, refusal.json()["code"], refusal.json()["cap"]) == (
        403, "key_capped", "notional_day_max_micros")  # fmt: skip
    assert refusal.json()["ordered_micros"] == str(notional)
    assert counts() == before
    assert bidder.post("/bids", bid_body).status_code == 201  # what stands is returned, and counted once
    fits = second | {"quantity_units": 3}
    assert bidder.post("/bids?dry_run=true", fits).status_code == 200
    assert bidder.post("/bids", fits).status_code == 201  # the rehearsal used no cap


def test_a_capped_key_keeps_to_its_classes_and_to_its_number_of_open_orders(market, buyer, demand_body):
    program = capped(market.buyers[0], open_orders_max=1, resource_classes=("VCPU-8",))

    other = program.post("/demands", demand_body | {"accepted_classes": ["VCPU-8", "H100-80"]})
    assert (other.status_code, other.json()["cap"]) == (403, "resource_classes")
    first = program.post("/demands", demand_body)
    assert first.status_code == 201
    second = program.post("/demands", demand_body | {"reference": "T-2"})
    assert (second.status_code, second.json()["cap"], second.json()["open"]) == (403, "open_orders_max", 1)
    assert program.post(f"/demands/{first.json()['id']}/withdrawal").status_code == 200
    assert program.post("/demands", demand_body | {"reference": "T-2"}).status_code == 201


def test_a_capped_key_funds_its_own_orders_and_does_nothing_that_is_not_counted(market, buyer, demand_body):
    program = capped(market.buyers[0], notional_day_max_micros=10**12)
    own = program.post("/demands", demand_body).json()["id"]
    other = buyer.post("/demands", demand_body | {"reference": "T-2"}).json()["id"]

    refusal = program.post(f"/demands/{other}/funding")
    assert (refusal.status_code, refusal.json()["cap"]) == (403, "own_orders")
    assert program.post(f"/demands/{own}/funding").status_code == 200
    assert buyer.post(f"/demands/{other}/funding").status_code == 200
    for path in ("/standing-demands", "/funding-lines", "/bilateral-windows", "/admissions"):
        assert program.post(path, {}).json()["cap"] == "acts", path
