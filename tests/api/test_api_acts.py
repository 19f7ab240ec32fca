"""Posting, funding, bidding: one act per key, and nothing at all on a refusal."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test import Client

from ledger.selectors import spendable
from marketplace import clock
from marketplace import models as m
from marketplace.api import idempotency
from marketplace.api.problems import exception_handler
from tests.api.conftest import caller
from tests.doors.factories import NOW, seat


def available(market, place=0) -> int:
    return spendable(code="buyer.available", party=market.buyers[place].pk).minor


def test_a_demand_is_posted_funded_and_withdrawn(market, buyer, demand_body):
    posted = buyer.post("/demands", demand_body)
    id_ = posted.json()["id"]
    before = available(market)
    funded = buyer.post(f"/demands/{id_}/funding")
    held = before - available(market)
    withdrawn = buyer.post(f"/demands/{id_}/withdrawal", {})

    assert (posted.status_code, posted.json()["state"]) == (201, "posted")
    assert posted.headers["Location"] == f"/api/v1/demands/{id_}"
    assert (funded.status_code, funded.json()["state"]) == (200, "funded")
    assert held == 4 * 24 * 300_000 == int(funded.json()["hold_micros"])
    assert (withdrawn.status_code, withdrawn.json()["state"]) == (200, "withdrawn")
    assert available(market) == before


def test_money_may_be_written_as_integer_or_text(market, buyer, demand_body):
    as_text = buyer.post("/demands", demand_body | {"quantity_units": "4"})
    as_number = buyer.post("/demands", demand_body | {"reference": "T-2", "price_limit_micros": 300_000})

    assert as_text.status_code == as_number.status_code == 201
    assert as_text.json()["price_limit_micros"] == as_number.json()["price_limit_micros"] == "300000"


def test_a_bid_is_sealed_and_taken_back(market, provider, bid_body):
    placed = provider.post("/bids", bid_body)
    back = provider.post(f"/bids/{placed.json()['id']}/withdrawal")

    assert (placed.status_code, placed.json()["state"], placed.json()["price_ask_micros"]) == (201, "sealed", "1500000")
    assert back.json()["state"] == "withdrawn"


def test_a_bid_before_funded_demand_is_refused(market, provider, bid_body, counts):
    before = counts()
    answer = provider.post("/bids", bid_body | {"window": f"win_{market.collecting.pk.hex}"})
    problem = answer.json()

    assert (answer.status_code, problem["code"], problem["type"]) == (409, "demand_first", "/problems/demand_first")
    assert problem["needed_unit_hours"] == 9000
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert counts() == before


def test_the_same_key_and_body_is_one_act_and_the_same_bytes(market, buyer, demand_body, counts):
    first = buyer.post("/demands", demand_body, key="k1")
    after = counts()
    again = buyer.post("/demands", demand_body, key="k1")

    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert counts() == after


def test_the_same_key_with_another_body_or_address_is_refused(market, buyer, demand_body, counts):
    id_ = buyer.post("/demands", demand_body, key="k1").json()["id"]
    before = counts()
    others = [
        buyer.post("/demands", demand_body | {"quantity_units": 5}, key="k1"),
        buyer.post(f"/demands/{id_}/funding", key="k1"),
    ]

    assert [(a.status_code, a.json()["code"]) for a in others] == [(422, "idempotency_mismatch")] * 2
    assert counts() == before


def test_keys_of_two_parties_are_strangers(market, buyer, other_buyer, demand_body):
    first = buyer.post("/demands", demand_body, key="k1")
    other = other_buyer.post("/demands", demand_body, key="k1")

    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["id"] != other.json()["id"]


def test_a_refusal_is_not_remembered_so_the_key_serves_the_corrected_body(market, buyer, demand_body):
    wrong = buyer.post("/demands", demand_body | {"price_limit_micros": 150}, key="k1")
    right = buyer.post("/demands", demand_body, key="k1")

    assert (wrong.status_code, wrong.json()["code"], right.status_code) == (422, "price_off_tick", 201)


def test_a_key_is_forgotten_after_seven_days(market, buyer, demand_body):
    buyer.post("/demands", demand_body, key="k1")
    m.RememberedReply.objects.update(remembered_at=NOW - timedelta(days=7))

    assert buyer.post("/demands", demand_body | {"reference": "T-9"}, key="k1").status_code == 201


@pytest.mark.parametrize(("key", "code"), [(None, "idempotency_key_missing"), ("", "idempotency_key_missing"),
                                           ("a b", "idempotency_key_malformed"), ("ä", "idempotency_key_malformed"),
                                           ("x" * 121, "idempotency_key_malformed"),
                                           ("a\x00b", "idempotency_key_malformed")])  # fmt: skip
def test_a_post_without_a_good_key_is_refused(market, buyer, demand_body, counts, key, code):
    before = counts()

    for path, body in (("/demands", demand_body), ("/demands/dem_" + "0" * 32 + "/funding", None), ("/bids", {})):
        answer = buyer.post(path, body, key=key)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert counts() == before


def test_the_twin_of_a_running_request_is_told_to_wait(market, buyer, demand_body):
    """Another connection holds the key's lock, as the first request does while it works."""
    held, let_go = threading.Event(), threading.Event()
    own_lock = f"{market.buyers[0].pk}:twin"

    def first() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("BEGIN")
            assert idempotency._lock(own_lock)
            held.set()
            let_go.wait(30)
            cursor.execute("ROLLBACK")
        connections["default"].close()

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(30)
    while_held = buyer.post("/demands", demand_body, key="twin")
    let_go.set()
    thread.join()
    afterwards = buyer.post("/demands", demand_body, key="twin")

    assert (while_held.status_code, while_held.json()["code"]) == (409, "in_flight")
    assert while_held.headers["Retry-After"] == "1"
    assert afterwards.status_code == 201


def test_a_read_only_key_reads_and_does_not_write(market, demand_body, counts):
    reader = caller(market.buyers[0], may_write=False)
    before = counts()
    answer = reader.post("/demands", demand_body)

    assert reader.get("/demands").status_code == 200
    assert (answer.status_code, answer.json()["code"]) == (403, "read_only_key")
    assert counts() == before


def test_a_session_writes_with_its_csrf_token_only(market, demand_body, counts):
    client = Client(enforce_csrf_checks=True)
    client.force_login(seat(market.buyers[0], "writer@api.example"))
    client.get("/market/")
    client.get("/portal/demands/new/", follow=True)
    before = counts()
    post = lambda **headers: client.post("/api/v1/demands", demand_body, content_type="application/json",  # noqa: E731
                                         headers={"Idempotency-Key": "s1", **headers})  # fmt: skip
    refused = post()

    assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    assert counts() == before
    token = client.cookies["csrftoken"].value
    assert post(**{"X-CSRFToken": token}).status_code == 201


def test_the_party_comes_from_the_key_never_from_the_body(market, buyer, demand_body):
    answer = buyer.post("/demands", demand_body | {"party": str(market.buyers[1].pk)})

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/party", "unknown_field")]


def test_only_buyers_post_demand_and_only_own_classes_bid(
    market, provider, other_provider, buyer, demand_body, bid_body
):
    assert provider.post("/demands", demand_body).json()["code"] == "bad_input"
    assert other_provider.post("/bids", bid_body).status_code == 404
    assert buyer.post("/bids", bid_body).status_code == 404


def test_another_partys_demand_is_neither_funded_nor_withdrawn(market, other_buyer, counts):
    demand = market.buyers[0].demands.filter(window=market.collecting).first()
    before = counts()
    answers = [other_buyer.post(f"/demands/dem_{demand.pk.hex}/{act}") for act in ("funding", "withdrawal")]
    missing = other_buyer.post("/demands/dem_" + "0" * 32 + "/funding")

    assert [a.status_code for a in answers] == [404, 404]
    assert answers[0].json()["title"] == missing.json()["title"]
    assert counts() == before


def test_what_the_money_does_not_cover_is_402(market, buyer, demand_body, counts):
    rich = buyer.post("/demands", demand_body | {"quantity_units": 100_000, "price_limit_micros": 10**9}).json()
    before = counts()
    answer = buyer.post(f"/demands/{rich['id']}/funding", key="money")

    assert (answer.status_code, answer.json()["code"]) == (402, "not_funded")
    assert answer.json()["needed_micros"] == rich["hold_micros"]
    assert counts() == before


def test_demand_cannot_change_once_bidding_is_open(market, buyer, demand_body, counts):
    before = counts()
    late = buyer.post("/demands", demand_body | {"window": f"win_{market.bidding.pk.hex}"})
    demand = market.buyers[0].demands.filter(window=market.bidding).first()
    back = buyer.post(f"/demands/dem_{demand.pk.hex}/withdrawal")

    assert [(a.status_code, a.json()["code"]) for a in (late, back)] == [(409, "window_closed")] * 2
    assert counts() == before


def test_a_bid_stays_in_the_no_cancel_period(market, provider, bid_body, monkeypatch):
    id_ = provider.post("/bids", bid_body).json()["id"]
    monkeypatch.setattr(clock, "now", lambda: market.bidding.no_cancel_from)
    answer = provider.post(f"/bids/{id_}/withdrawal")

    assert (answer.status_code, answer.json()["code"]) == (409, "too_late")


def test_more_than_is_proven_cannot_be_offered(market, provider, bid_body):
    answer = provider.post("/bids", bid_body | {"quantity_units": 33})

    assert (answer.status_code, answer.json()["code"], answer.json()["rule"]) == (422, "not_eligible", "proven_units")


@pytest.mark.parametrize(("change", "code", "pointer"), [
    ({"price_limit_micros": 150}, "price_off_tick", "/price_limit_micros"),
    ({"price_limit_micros": 0}, "price_out_of_range", "/price_limit_micros"),
    ({"price_limit_micros": -100}, "price_out_of_range", "/price_limit_micros"),
    ({"price_limit_micros": "9223372036854775807"}, "price_out_of_range", "/price_limit_micros"),
    ({"price_limit_micros": 2**63}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": 10**40}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": 1.5}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": 300000.0}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": True}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": "1.5"}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": "١٠٠"}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": " 100"}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": "0x64"}, "number_format", "/price_limit_micros"),
    ({"price_limit_micros": None}, "null", "/price_limit_micros"),
    ({"quantity_units": 0}, "quantity_out_of_range", "/quantity_units"),
    ({"quantity_units": -1}, "quantity_out_of_range", "/quantity_units"),
    ({"quantity_units": 2**20 + 1}, "quantity_out_of_range", "/quantity_units"),
    ({"quantity_units": []}, "number_format", "/quantity_units"),
    ({"quantity_units": {}}, "number_format", "/quantity_units"),
    ({"start_slot": -1}, "bad_slots", "/start_slot"),
    ({"start_slot": 24}, "bad_slots", "/end_slot"),
    ({"end_slot": 169}, "bad_slots", "/end_slot"),
    ({"kind": "auction"}, "bad_input", "/kind"),
    ({"minimum_units": 1}, "bad_input", "/minimum_units"),
    ({"minimum_units": 1.0, "kind": "window"}, "number_format", "/minimum_units"),
    ({"is_one_site": True}, "bad_input", "/is_one_site"),
    ({"is_one_site": "yes", "kind": "block"}, "bad_flag", "/is_one_site"),
    ({"is_one_site": 1, "kind": "block"}, "bad_flag", "/is_one_site"),
    ({"choice": 5, "kind": "block"}, "bad_text", "/choice"),
    ({"choice": "x" * 61, "kind": "block"}, "bad_text", "/choice"),
    ({"kind": "window", "minimum_units": 2**20}, "quantity_out_of_range", "/minimum_units"),
    ({"kind": 7}, "bad_text", "/kind"),
    ({"accepted_classes": []}, "bad_list", "/accepted_classes"),
    ({"accepted_classes": "VCPU-8"}, "bad_list", "/accepted_classes"),
    ({"accepted_classes": ["GTX-1"]}, "unknown_name", "/accepted_classes"),
    ({"accepted_classes": [1]}, "bad_text", "/accepted_classes/0"),
    ({"accepted_classes": [["VCPU-8"]]}, "bad_text", "/accepted_classes/0"),
    ({"sla_code": "100"}, "unknown_name", "/sla_code"),
    ({"zone_code": "ATLANTIS"}, "unknown_name", "/zone_code"),
    ({"control_zone_code": 1}, "bad_text", "/control_zone_code"),
    ({"tier_min": 4}, "bad_input", "/tier_min"),
    ({"vantage_code": "V-XXX"}, "unknown_name", "/vantage_code"),
    ({"latency_ms_max": 5}, "bad_input", "/vantage_code"),
    ({"reference": ""}, "bad_input", "/reference"),
    ({"reference": "x" * 61}, "bad_text", "/reference"),
    ({"reference": None}, "null", "/reference"),
    ({"window": "win_1"}, "bad_id", "/window"),
    ({"window": 5}, "bad_id", "/window"),
    ({"surprise": 1}, "unknown_field", "/surprise"),
    ({"a/b~c": 1}, "unknown_field", "/a~1b~0c"),
])  # fmt: skip
def test_each_wrong_field_is_named(market, buyer, demand_body, counts, change, code, pointer):
    before = counts()
    answer = buyer.post("/demands", demand_body | change)
    problem = answer.json()

    assert (answer.status_code, problem["code"]) == (422, code), problem
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert counts() == before


def test_all_mistakes_of_a_body_are_told_at_once(buyer, demand_body):
    del demand_body["kind"]
    problem = buyer.post("/demands", demand_body | {"quantity_units": 1.5, "window": "x"}).json()

    assert problem["code"] == "invalid_body"
    assert {e["pointer"]: e["code"] for e in problem["errors"]} == {
        "/kind": "required", "/quantity_units": "number_format", "/window": "bad_id"
    }


@pytest.mark.parametrize("name", ["demand", "bid"])
def test_a_dry_run_checks_all_and_writes_nothing(market, buyer, provider, demand_body, bid_body, counts, name):
    who, body, price = (buyer, demand_body, "price_limit_micros") if name == "demand" else (
        provider, bid_body, "price_ask_micros")  # fmt: skip
    before = counts()
    good = who.post(f"/{name}s?dry_run=true", body, key="dry")
    wrong = who.post(f"/{name}s?dry_run=true", body | {price: 150})
    odd = who.post(f"/{name}s?dry_run=1", body)

    assert (good.status_code, good.json()["dry_run"]) == (200, True)
    assert "id" not in good.json()["would_be"]
    assert good.json()["would_be"]["reference"] == body["reference"]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "price_off_tick")
    assert (odd.status_code, odd.json()["code"]) == (400, "bad_parameter")
    assert counts() == before
    assert who.post(f"/{name}s", body, key="dry").status_code == 201


def test_a_dry_run_says_demand_first_as_the_act_would(market, provider, bid_body):
    answer = provider.post("/bids?dry_run=true", bid_body | {"window": f"win_{market.collecting.pk.hex}"})

    assert (answer.status_code, answer.json()["code"]) == (409, "demand_first")


def test_a_reference_is_used_once(market, buyer, demand_body):
    first = buyer.post("/demands", demand_body)
    same = buyer.post("/demands", demand_body)
    other = buyer.post("/demands", demand_body | {"quantity_units": 9})

    assert first.json()["id"] == same.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "reference_reused")


def test_a_constraint_met_by_two_requests_is_a_conflict_not_a_crash(market, buyer, demand_body):
    """The race that a service's look-up cannot see: the row appears between the look and the insert."""
    posted = buyer.post("/demands", demand_body).json()
    twin = m.Demand.objects.get(pk=posted["id"][4:])
    twin.pk, twin._state.adding = UUID(int=1), True

    with pytest.raises(IntegrityError, match="demand_r") as met, transaction.atomic():
        twin.save(force_insert=True)
    answer = exception_handler(met.value, {})

    assert (answer.status_code, answer.data["code"], answer.headers["Retry-After"]) == (409, "conflict", "1")


def test_a_demand_above_the_threshold_waits_and_a_key_does_not_approve_it(market, buyer, demand_body):
    m.SpendingRule.objects.create(party=market.buyers[0], threshold_micros=0)
    demand = buyer.post("/demands", demand_body)
    assert (demand.status_code, demand.json()["state"]) == (201, "pending")

    said = buyer.post(f"/demands/{demand.json()['id']}/approvals", {"approve": True, "reason": "mine"})
    held = buyer.post(f"/demands/{demand.json()['id']}/funding")

    assert (said.status_code, said.json()["code"]) == (403, "role_forbidden")
    assert (held.status_code, held.json()["code"]) == (409, "pending_approval")


def test_what_is_remembered_of_a_bid_s_reply_lies_in_the_database_under_its_party_s_key(provider, bid_body):
    """The reply repeats the sealed bid, and a plain digest of a short body could be found by trying prices."""
    body = bid_body | {"price_ask_micros": 1_777_700}
    first = provider.post("/bids", body, key="sealed-reply")
    with connection.cursor() as cursor:
        cursor.execute("SELECT r::text, body_sha256 FROM marketplace_rememberedreply r WHERE key = 'sealed-reply'")
        text, digest = cursor.fetchone()

    assert first.status_code == 201
    assert "1777700" not in text
    assert "price" not in text
    raw = json.dumps(body).encode()
    assert bytes(digest) not in {hashlib.sha256(route + b"\n" + raw).digest() for route in (b"POST /api/v1/bids", b"")}
    again = provider.post("/bids", body, key="sealed-reply")
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    assert "1777700" in again.content.decode()


def test_a_funded_demand_is_funded_again_by_the_same_and_by_nothing_else(market, buyer, demand_body, counts):
    path = f"/demands/{buyer.post('/demands', demand_body).json()['id']}"
    assert buyer.post(f"{path}/funding", {"funding": "zz"}).status_code == 422
    assert buyer.post(f"{path}/funding", {"funding": "escrow"}).status_code == 200
    before = counts()

    for body, status, code in (({"funding": "zz"}, 422, "bad_input"), ({"funding": "card"}, 409, "reference_reused"),
                               ({"number": "PO-1"}, 409, "reference_reused")):  # fmt: skip
        refused = buyer.post(f"{path}/funding", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert counts() == before
    for body in (None, {}, {"funding": "escrow"}):
        assert (again := buyer.post(f"{path}/funding", body)).status_code == 200
        assert again.json()["state"] == "funded"


def test_a_withdrawn_demand_is_not_funded_and_not_the_window_is_blamed(market, buyer, demand_body):
    path = f"/demands/{buyer.post('/demands', demand_body).json()['id']}"
    buyer.post(f"{path}/withdrawal")

    refused = buyer.post(f"{path}/funding")

    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_standing")
    assert refused.json()["state"] == "withdrawn"
