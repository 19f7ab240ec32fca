"""Sites, node classes, vouchers, pins and curves over HTTP: for programs that run a provider's or a buyer's side."""

from __future__ import annotations

from typing import Any

from marketplace import models as m
from tests.api.conftest import Caller, caller
from tests.doors.factories import Market

SITE = {"code": "ulm-1", "city": "Ulm", "country": "DE", "lat": "48.4", "lon": "10", "operator_country": "DE",
        "keys_country": "DE"}  # fmt: skip


def test_a_site_is_registered_changed_after_a_dry_run_and_the_change_taken_back(market: Market) -> None:
    fresh = caller(market.providers[5])
    made = fresh.post("/sites", SITE)
    assert (made.status_code, made.json()["country"]) == (201, "DE")
    path = f"/sites/{made.json()['id']}/changes"
    for wrong in ({"lat": 48.4}, {"lat": "48,4"}, {"country": "Germany"}, {"lat": "91"}):
        assert fresh.post("/sites", SITE | {"code": "other"} | wrong).status_code == 422

    for field in ("country", "operator_country", "keys_country"):
        for code in ("XX", "ZZ", "QQ", "EU", "UK", "de"):
            refused = [fresh.post("/sites", SITE | {"code": "other", field: code}),
                       fresh.post(path, {"reason": "r", field: code})]  # fmt: skip
            assert [(r.status_code, r.json()["errors"][0]["pointer"]) for r in refused] == [(422, f"/{field}")] * 2
    again = fresh.post("/sites", SITE)
    assert (again.status_code, again.json()["id"]) == (201, made.json()["id"])
    for changes in ({"city": "Bonn"}, {"lat": "48.5"}, {"keys_country": "FR"}):
        other = fresh.post("/sites", SITE | changes)
        assert (other.status_code, other.json()["code"]) == (409, "reference_reused")
    assert m.Site.objects.get(code="ulm-1").city == "Ulm"

    asked = {"reason": "moved", "country": "FR", "lat": "48.8", "lon": "2.3"}
    foreseen = fresh.post(f"{path}?dry_run=true", asked).json()["would_be"]
    assert foreseen["change"]["voids"] == ["evidence", "round_trips", "proof"]
    assert m.Site.objects.get(code="ulm-1").country == "DE"
    changed = fresh.post(path, asked).json()
    assert changed["change"]["before"]["country"] == "DE"
    assert fresh.post(path, asked).json()["change"] is None  # nothing differs any more

    undone = fresh.post(f"/supply-changes/{changed['id']}/undo", {"reason": "typed wrongly"})
    assert (undone.status_code, m.Site.objects.get(code="ulm-1").country) == (200, "DE")
    listed = {row["id"] for row in fresh.get("/supply-changes").json()["data"]}
    assert {changed["id"], undone.json()["id"]} <= listed
    stranger = caller(market.providers[1])
    assert stranger.post(path, asked).status_code == 404
    assert stranger.post(f"/supply-changes/{changed['id']}/undo", {"reason": "x"}).status_code == 404


def test_machines_are_enrolled_changed_retired_and_brought_back(market: Market, provider: Caller) -> None:
    fresh = caller(market.providers[5])
    site = fresh.post("/sites", SITE).json()["id"]
    made = fresh.post("/node-classes", {"site": site, "resource_class_code": "H100-80", "units": 4, "tier": 1,
                                        "claimed_name": "rack 7"})  # fmt: skip
    assert (made.status_code, made.json()["standing"]) == (201, "REGISTERED")
    same = {"site": site, "resource_class_code": "H100-80", "units": 4, "tier": 1, "claimed_name": "rack 7"}
    assert fresh.post("/node-classes", same).json()["id"] == made.json()["id"]
    for changes in ({"units": 5}, {"tier": 0}, {"claimed_name": "rack 8"}):
        other = fresh.post("/node-classes", same | changes)
        assert (other.status_code, other.json()["code"]) == (409, "reference_reused")
    path = f"/node-classes/{made.json()['id']}"

    assert fresh.post(f"{path}/changes", {"reason": "r", "units": 8}).json()["change"]["voids"] == ["proof"]
    assert fresh.post(f"{path}/retirement", {"reason": "sold"}).status_code == 200
    refused = fresh.post(f"{path}/changes", {"reason": "r", "units": 9})
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_standing")
    assert fresh.post(f"{path}/return", {"reason": "back"}).json()["change"]["after"] == {"retired_at": None}

    busy = market.providers[0].node_classes.first()
    promised = provider.post(f"/node-classes/cls_{busy.pk.hex}/changes", {"reason": "more", "units": 40})
    assert (promised.status_code, promised.json()["code"]) == (409, "capacity_promised")


def test_a_code_that_is_none_is_one_404_and_use_is_told_per_product(market: Market, buyer: Caller) -> None:
    refused = buyer.post("/vouchers", {"code": "nothing"})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert buyer.get("/vouchers").json()["data"] == []
    assert buyer.get("/market/products").status_code == 200


def test_data_is_pinned_with_a_limit_and_a_curve_is_posted_in_steps(market: Market, buyer: Caller) -> None:
    assert market.collecting is not None
    body: dict[str, Any] = {
        "window": f"win_{market.collecting.pk.hex}", "reference": "curve", "kind": "divisible",
        "accepted_classes": ["H100-80"], "quantity_units": 2, "start_slot": 0, "end_slot": 5, "sla_code": "99.0",
        "price_limit_micros": 2_000_000, "further_steps": [{"units": 3, "price_limit_micros": 1_000_000}],
    }  # fmt: skip
    steps = buyer.post("/split-demands", body).json()["demands"]
    assert [(row["quantity_units"], row["price_limit_micros"]) for row in steps] == [(2, "2000000"), (3, "1000000")]
    rising = buyer.post("/split-demands", body | {"reference": "up", "further_steps": [
        {"units": 3, "price_limit_micros": 3_000_000}]})  # fmt: skip
    assert rising.status_code == 422

    pinned = buyer.post(f"/demands/{steps[0]['id']}/pin", {"limit_bytes": 1000})
    assert (pinned.status_code, pinned.json()["limit_bytes"]) == (200, 1000)
    assert buyer.post(f"/demands/{steps[0]['id']}/pin").status_code == 409  # another limit than the one that stands
