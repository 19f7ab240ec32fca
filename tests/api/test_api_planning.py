"""The planning door of the API: the same map as the page, the same refusals, and nothing written but the reply."""

from __future__ import annotations

from tests.api.conftest import table_counts

NOTES = {"name": "Notes", "units": 8, "data_class": "regulated-health", "hours_per_week": 168, "latency_ms": 50}


def test_workloads_are_placed_in_their_order_and_only_the_reply_is_kept(buyer):
    before = table_counts()

    answer = buyer.post("/workloads/placements", {"workloads": [NOTES, {**NOTES, "name": "B", "latency_ms": None}]})

    assert answer.status_code == 200
    notes, batch = answer.json()["placements"]
    assert (notes["name"], notes["quadrant"], notes["route"]) == ("Notes", "tight-private", "mesh")
    assert notes["tier_min"] == 2
    assert (notes["zone_code"], notes["kind"], notes["price_limit_micros"]) == ("EU", "window", "0")
    assert (batch["quadrant"], batch["kind"]) == ("loose-private", "divisible")
    changed = {name: n - before[name] for name, n in table_counts().items() if n != before[name]}
    assert set(changed) <= {"marketplace_rememberedreply", "marketplace_apikey"}


def test_a_mistake_is_pointed_at_and_nothing_is_placed(buyer):
    for row, pointer, code in (
        ({**NOTES, "data_class": "secret"}, "/workloads/1/data_class", "estimate"),
        ({**NOTES, "zone": "ATLANTIS"}, "/workloads/1/zone", "bad_lines"),
        ({**NOTES, "units": 1.5}, "/workloads/1/units", "number_format"),
        ({**NOTES, "colour": "red"}, "/workloads/1/colour", "unknown_field"),
    ):
        answer = buyer.post("/workloads/placements", {"workloads": [NOTES, row]})

        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["pointer"] == pointer
        assert error["code"] in (code, "bad_lines")
    assert buyer.post("/workloads/placements", {"workloads": []}).status_code == 422
    assert buyer.post("/workloads/placements", {"workloads": [NOTES]}).status_code == 200


def test_a_stranger_places_nothing(anybody):
    assert anybody.post("/workloads/placements", {"workloads": [NOTES]}).status_code == 401
