"""What a party may read, and in which form; sealed bids and strangers' things are not among it."""

from __future__ import annotations

import hashlib
import json

import pytest
from django.test import Client

from ledger.models import ChainEvent
from marketplace import models as m
from marketplace.parties.services import revoke_api_key
from marketplace.supply.sealing import with_own_terms
from tests.api.conftest import caller
from tests.doors.factories import NOW, seat

OWN_LISTS = ("/demands", "/bids", "/awards", "/leases", "/statement", "/capacity")
PUBLIC_LISTS = ("/windows", "/certificates")


def rows_of(answer) -> list[dict]:
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


def walk(who, path: str, **query: str) -> list[dict]:
    """Every row of a list, page after page."""
    found, cursor = [], {}
    while True:
        body = who.get(path, limit="7", **query, **cursor).json()
        found += body["data"]
        if body["next_cursor"] is None:
            return found
        cursor = {"cursor": body["next_cursor"]}


def test_a_window_shows_its_gate_to_everybody(market, anybody):
    row = next(w for w in rows_of(anybody.get("/windows")) if w["id"] == f"win_{market.collecting.pk.hex}")

    assert row["state"] == "COLLECTING"
    assert row["gate"]["needed_unit_hours"] == 9000
    assert row["gate"]["funded_unit_hours"] > 0
    assert row["starts_at"].endswith("Z")
    assert anybody.get(f"/windows/{row['id']}").json() == row


def test_windows_are_listed_by_state(market, anybody):
    assert {w["state"] for w in rows_of(anybody.get("/windows", state="BIDDING"))} == {"BIDDING"}
    assert anybody.get("/windows", state="OPEN").json()["code"] == "bad_parameter"


def test_a_party_reads_its_own_demands_and_no_others(market, buyer, other_buyer, provider):
    own = walk(buyer, "/demands")

    assert {d["id"] for d in own} == {f"dem_{d.pk.hex}" for d in market.buyers[0].demands.all()}
    assert not {d["id"] for d in own} & {d["id"] for d in walk(other_buyer, "/demands")}
    assert walk(provider, "/demands") == []


def test_money_is_text_and_a_lost_demand_says_why(market, buyer):
    lost = next(d for d in walk(buyer, "/demands") if d["reason"])

    assert isinstance(lost["price_limit_micros"], str)
    assert lost["hold_micros"] == str(lost["unit_hours"] * int(lost["price_limit_micros"]))
    assert lost["reason"]["sentence"]
    assert isinstance(lost["reason"]["unfilled_unit_hours"], int)


@pytest.mark.parametrize("path", OWN_LISTS)
def test_own_lists_need_a_key(anybody, path):
    answer = anybody.get(path)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", PUBLIC_LISTS)
def test_public_lists_need_none_but_refuse_a_wrong_one(anybody, path):
    wrong = Client().get(f"/api/v1{path}", headers={"Authorization": "Bearer gx_live_00000000_" + "a" * 43})

    assert anybody.get(path).status_code == 200
    assert (wrong.status_code, wrong.json()["code"]) == (401, "bad_key")


def test_missing_and_other_peoples_objects_are_the_same_404(market, buyer, other_buyer, provider, other_provider):
    bid = market.providers[0].bids.first()
    lease = next(x for x in market.leases if x.buyer_id == market.buyers[0].pk)
    award = m.Award.objects.filter(demand__party=market.buyers[0]).exclude(bid__party=market.providers[2]).first()
    demand = market.buyers[0].demands.first()
    cases = [
        (buyer, other_buyer, f"/demands/dem_{demand.pk.hex}"), (provider, other_provider, f"/bids/bid_{bid.pk.hex}"),
        (provider, buyer, f"/bids/bid_{bid.pk.hex}"), (buyer, other_buyer, f"/leases/lea_{lease.pk.hex}"),
        (buyer, other_provider, f"/awards/awd_{award.pk.hex}"),
    ]  # fmt: skip

    for owner, stranger, path in cases:
        collection, _, id_ = path.rpartition("/")
        missing = f"{collection}/{id_[:4]}{'0' * 32}"
        assert owner.get(path).status_code == 200, path
        answers = [stranger.get(path), stranger.get(missing), owner.get(missing)]
        bodies = [{k: v for k, v in a.json().items() if k != "request_id"} for a in answers]
        assert [a.status_code for a in answers] == [404, 404, 404]
        assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize("id_", ["dem_", "1", "bid_" + "0" * 32, "dem_" + "g" * 32, "dem_" + "0" * 33, "'"])
def test_an_id_of_another_form_names_nothing(buyer, id_):
    assert (buyer.get(f"/demands/{id_}").status_code, buyer.get(f"/demands/{id_}").json()["code"]) == (404, "not_found")


def test_no_filter_reaches_a_sealed_bid_of_another_party(market, buyer, other_provider, anybody):
    """Also not through awards, leases, windows, certificates or prices: nothing changes when a bid arrives."""
    rows = m.Bid.objects.filter(window=market.bidding, party=market.providers[0])
    sealed = with_own_terms(rows, party=market.providers[0])
    names = {b.reference for b in sealed} | {b.pk.hex for b in sealed}
    others = with_own_terms(m.Bid.objects.filter(party=market.providers[2]), party=market.providers[2])
    own_prices = {str(b.price_ask_micros) for b in others}
    prices = {f'"{b.price_ask_micros}"' for b in sealed if str(b.price_ask_micros) not in own_prices}
    public = (*PUBLIC_LISTS, "/market/prices", f"/windows/win_{market.bidding.pk.hex}")
    window = f"win_{market.bidding.pk.hex}"

    assert len(sealed) >= 3
    for who in (buyer, other_provider, anybody):
        for path in (*OWN_LISTS, *public):
            marks = names if path in public else names | prices  # old prices of a window may equal a new ask
            for query in ({}, {"window": window}, {"state": "sealed"}, {"limit": "200"}):
                text = who.get(path, **query).content.decode()
                assert not [mark for mark in marks if mark in text], (path, query)


def test_nothing_that_others_read_changes_when_a_bid_arrives(
    market, buyer, other_provider, anybody, provider, bid_body
):
    paths = [*OWN_LISTS, *PUBLIC_LISTS, "/balances", "/market/prices", f"/windows/win_{market.bidding.pk.hex}"]

    def look() -> list[bytes]:
        answers = [who.get(path) for who in (buyer, other_provider, anybody) for path in paths]
        return [answer.content for answer in answers if answer.status_code == 200]

    before = look()

    assert provider.post("/bids", bid_body).status_code == 201
    assert len(before) > 15
    assert look() == before


def test_a_provider_reads_its_own_sealed_bids_without_their_rank(market, provider):
    own = walk(provider, "/bids", window=f"win_{market.bidding.pk.hex}")

    assert {b["state"] for b in own} == {"sealed"}
    assert {b["id"] for b in own} == {f"bid_{b.pk.hex}" for b in m.Bid.objects.filter(
        window=market.bidding, party=market.providers[0])}  # fmt: skip
    assert "rank" not in json.dumps(own)


def test_each_side_of_an_award_sees_its_own_line_only(market, buyer):
    award = m.Award.objects.filter(demand__party=market.buyers[0]).select_related("bid__party").first()
    seller = caller(award.bid.party)
    bought, sold = (who.get(f"/awards/awd_{award.pk.hex}").json() for who in (buyer, seller))

    assert (bought["role"], bought["demand"], bought["bid"]) == ("buyer", f"dem_{award.demand_id.hex}", None)
    assert (sold["role"], sold["demand"], sold["bid"]) == ("provider", None, f"bid_{award.bid_id.hex}")
    assert bought["lease"] == sold["lease"] != None  # noqa: E711
    assert len(bought["slot_prices_micros"]) == award.end_slot - award.start_slot
    assert bought["amount_micros"] == str(award.amount_micros)


def test_a_lease_comes_with_verdict_credit_and_slash_case(market, buyer):
    broken = next(x for x in walk(buyer, "/leases") if x["slash_case"])

    assert broken["verdict"]["is_breach"] is True
    assert int(broken["credit"]["amount_micros"]) > 0
    assert broken["slash_case"]["outcome"] in ("executed", "held_back")
    assert sum(int(broken["settlement"][k]) for k in ("earned_micros", "returned_micros", "credit_micros")) == int(
        broken["fee_micros"]
    )


def test_balances_and_statement_agree(market, buyer):
    balances = {a["account"]: a for a in buyer.get("/balances").json()["data"] if a["account"] == "buyer.available"}
    lines = [x for x in walk(buyer, "/statement") if x["account"] == "buyer.available"]

    assert lines[0]["balance_after_micros"] == balances["buyer.available"]["balance_micros"]
    assert sum(int(x["change_micros"]) for x in lines) == int(balances["buyer.available"]["balance_micros"])
    free = balances["buyer.available"]
    parts = sum(int(free[name]) for name in ("reserved_micros", "kept_micros", "free_micros"))
    assert parts == int(free["balance_micros"])


def test_a_certificate_lists_its_files_and_gives_the_hashed_bytes(market, anybody):
    certificate = anybody.get(f"/certificates/win_{market.settled.pk.hex}").json()
    file = next(f for f in certificate["files"] if f["name"] == "manifest.json")
    answer = anybody.client.get(file["url"])

    assert certificate["gap_micros"] == "0"
    assert certificate["anchored_hash"] is None
    assert answer.content == bytes(m.BundleFile.objects.get(name="manifest.json").body)
    assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (file["bytes"], file["sha256"])
    assert anybody.client.get(file["url"].replace("manifest", "secrets")).status_code == 404


def test_a_certificate_names_what_the_anchor_keeps(market, anybody):
    kept = bytes(market.clearing.bundle_hash).hex()
    ChainEvent.objects.create(
        block_number=5, block_hash="0x05", log_index=0, tx_hash="0x1", contract="anchor", name="Bundled",
        args={"window": market.settled.number, "bundle_hash": f"0x{kept}"},
    )  # fmt: skip

    assert rows_of(anybody.get("/certificates"))[0]["anchored_hash"] == kept


def test_prices_are_those_of_the_last_cleared_window(market, anybody):
    body = anybody.get("/market/prices", resource_class="H100-80", country="DE").json()

    assert body["window"] == f"win_{market.settled.pk.hex}"
    assert {(r["resource_class"], r["country"]) for r in body["data"]} == {("H100-80", "DE")}
    assert anybody.get("/market/prices", window=f"win_{market.collecting.pk.hex}").status_code == 404
    assert anybody.get("/market/prices", country="de").json()["code"] == "bad_parameter"


def test_pages_neither_repeat_nor_skip_while_rows_arrive(market, buyer, demand_body):
    first = buyer.get("/demands", limit="5").json()
    buyer.post("/demands", demand_body)
    rest, cursor = [], first["next_cursor"]
    while cursor:
        page = buyer.get("/demands", limit="5", cursor=cursor).json()
        rest, cursor = rest + page["data"], page["next_cursor"]
    seen = [d["id"] for d in first["data"] + rest]

    assert len(seen) == len(set(seen)) == market.buyers[0].demands.count()
    assert 'rel="next"' in buyer.get("/demands", limit="1").headers["Link"]


@pytest.mark.parametrize("query", [
    {"limit": "0"}, {"limit": "201"}, {"limit": "-1"}, {"limit": "1e3"}, {"limit": ""}, {"limit": "\u0661"},
    {"cursor": ""}, {"cursor": "x"}, {"cursor": "W10"}, {"cursor": "WyJhIiwiYiJd"}, {"cursor": "eyJhIjoxfQ"},
    {"cursor": "A" * 201}, {"cursor": "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwiMCJd"}, {"cursor": "\x01"},
    {"state": "sealed'"}, {"state": "\x7f"}, {"party": "x"}, {"bid__price_ask_micros__gt": "1"}, {"format": "xml"},
])  # fmt: skip
@pytest.mark.parametrize("path", ["/demands", "/statement"])
def test_a_parameter_that_cannot_be_read_is_refused(buyer, path, query):
    answer = buyer.get(path, **query)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")


def test_a_parameter_given_twice_is_refused(buyer):
    answer = buyer.client.get("/api/v1/demands?limit=1&limit=2", headers=buyer.headers)

    assert answer.json()["code"] == "bad_parameter"


@pytest.mark.parametrize("header", [
    "", "Bearer", "Bearer ", "Basic dTpw", "Bearer gx_live_short_x",
    "Bearer gx_live_\x00\x00\x00\x00\x00\x00\x00\x00_" + "a" * 43,
    "Bearer gx_live_00000000_" + "ä" * 43, "bearer gx_test_00000000_" + "a" * 43, "Bearer " + "a" * 5000,
])  # fmt: skip
def test_a_key_that_is_none_is_refused(market, header):
    answer = Client().get("/api/v1/demands", headers={"Authorization": header})

    assert (answer.status_code, answer.json()["code"]) == (401, "bad_key")


def test_an_expired_key_and_a_revoked_one_are_refused_alike(market):
    expired = caller(market.buyers[0], expires_at=NOW)
    revoked = caller(market.buyers[0])
    assert revoked.get("/demands").status_code == 200
    prefix = revoked.headers["Authorization"].split("_")[2]
    revoke_api_key(key=m.ApiKey.objects.get(prefix=prefix), now=NOW)

    assert expired.get("/demands").json()["code"] == revoked.get("/demands").json()["code"] == "bad_key"


def test_the_seat_of_a_portal_reads_with_its_session(market):
    client = Client()
    client.force_login(seat(market.buyers[0], "reader@api.example"))

    assert client.get("/api/v1/demands").status_code == 200


def test_a_person_without_a_seat_has_no_party(market):
    client = Client()
    client.force_login(m.User.objects.create_user("nobody@api.example", "a long enough password"))

    assert client.get("/api/v1/demands").json()["code"] == "not_authenticated"


def test_every_answer_carries_request_id_and_rate(market, buyer, anybody):
    for answer in (buyer.get("/demands"), buyer.get("/nowhere"), anybody.get("/demands"), anybody.get("/windows")):
        assert answer.headers["X-Request-ID"].startswith("req_")
        assert answer.headers["RateLimit-Policy"]
        assert ";r=" in answer.headers["RateLimit"]
    assert anybody.client.get("/market/").headers["X-Request-ID"].startswith("req_")


def test_whoever_asks_too_often_waits(market, buyer, other_buyer, settings):
    settings.API_PARTY_PER_MINUTE = 2

    answers = [buyer.get("/balances") for _ in range(3)]

    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert answers[2].headers["RateLimit"].startswith('"party";r=0')
    assert other_buyer.get("/balances").status_code == 200


def test_guessing_keys_is_counted_too(market, settings):
    settings.API_ADDRESS_PER_MINUTE = 2
    guess = {"Authorization": "Bearer gx_live_00000000_" + "a" * 43}

    assert [Client().get("/api/v1/demands", headers=guess).status_code for _ in range(3)] == [401, 401, 429]


def test_what_stands_nowhere_is_a_problem_document_too(market, anybody):
    for path in ("/nowhere", "/bids/", "", "/demands/x/y/z"):
        answer = anybody.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("method", "path"), [("put", "/demands"), ("delete", "/bids"), ("patch", "/windows"),
                                              ("options", "/demands"), ("post", "/leases")])  # fmt: skip
def test_other_methods_are_405(buyer, method, path):
    answer = getattr(buyer.client, method)(f"/api/v1{path}", headers=buyer.headers)

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]
    assert method.upper() not in answer.headers["Allow"]


@pytest.mark.parametrize(("path", "most"), [
    ("/demands", 6), ("/bids", 6), ("/awards", 6), ("/leases", 7), ("/windows", 6), ("/capacity", 6),
    ("/certificates", 5), ("/statement", 7),
])  # fmt: skip
def test_a_list_asks_the_database_the_same_few_times_for_any_length(
    market, buyer, provider, path, most, django_assert_max_num_queries
):
    who = provider if path in ("/bids", "/capacity") else buyer
    with django_assert_max_num_queries(most) as small:
        assert who.get(path, limit="1").status_code == 200
    with django_assert_max_num_queries(most) as large:
        assert who.get(path, limit="200").status_code == 200

    assert len(small) == len(large)


def test_an_award_says_what_its_amount_is_made_of_and_tells_its_backup_to_the_buyer_alone(market, buyer, provider):
    bought, sold = buyer.get("/awards").json()["data"], provider.get("/awards").json()["data"]

    assert bought
    assert sold
    for award in (*bought, *sold):
        assert sum(int(part) for part in award["parts"].values()) == int(award["amount_micros"])
    assert any(award["backup"] for award in bought)
    assert all(award["backup"]["is_reserved"] is False for award in bought if award["backup"])
    assert not any(award["backup"] for award in sold)


def test_a_certificate_names_caps_concentration_and_the_compliance_premium(market, anybody):
    found = anybody.get("/certificates").json()["data"][0]

    assert [row["hhi"] for row in found["concentration"]] == [2410, 10_000]
    assert found["compliance_premium"]["premium_ppm"] == 214_000
    assert (found["caps"], found["sigma_ppm"]) == ([], 0)


def test_a_window_shows_its_indicative_prices_until_it_is_cleared(market, anybody):
    windows = {row["name"]: row for row in anybody.get("/windows").json()["data"]}

    kinds = {row["resource_class"]: row["method"] for row in windows[market.collecting.name]["indicative_prices"]}
    assert kinds["H100-80"] == "cleared_bids"
    assert windows[market.settled.name]["indicative_prices"] == []
    assert windows[market.collecting.name]["concentration_ppm"] == 300_000


def test_what_a_dollar_buys_is_public(anybody, market):
    found = anybody.get("/market/values").json()

    assert found["is_demo_panel"] is True
    assert {row["resource_class"] for row in found["data"]} == {c.pk for c in m.ResourceClass.objects.all()}
    first = found["data"][0]
    assert first["proven_ops_per_usd"] == first["proven_ops_per_sec"] * 3600 * 1_000_000 // int(first["price_micros"])
