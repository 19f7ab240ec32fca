"""Bodies that are no bodies: every one gets a typed 4xx, and not one row is written."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from tests.api.conftest import Caller
from tests.doors.factories import seat
from tests.owner import as_owner

DEEP = b"[" * 30_000 + b"]" * 30_000
PATHS = ("/demands", "/bids", "/demands/dem_" + "0" * 32 + "/funding", "/bids/bid_" + "0" * 32 + "/withdrawal")
BODIES = {
    "nothing": (b"", "body_missing"),
    "blanks": (b" \r\n\t ", "body_missing"),
    "no JSON": (b"{", "malformed_json"),
    "two values": (b"{} {}", "malformed_json"),
    "a comment": (b"{} // yes", "malformed_json"),
    "a single quote": (b"{'a': 1}", "malformed_json"),
    "a trailing comma": (b'{"a": 1,}', "malformed_json"),
    "a list": (b"[]", "bad_object"),
    "a text": (b'"x"', "bad_object"),
    "a number": (b"7", "bad_object"),
    "a float": (b"1.5", "bad_object"),
    "null": (b"null", "bad_object"),
    "NaN": (b'{"quantity_units": NaN}', "malformed_json"),
    "minus infinity": (b'{"quantity_units": -Infinity}', "malformed_json"),
    "a name twice": (b'{"kind": "window", "kind": "block"}', "malformed_json"),
    "a name twice inside": (b'{"a": {"b": 1, "b": 2}}', "malformed_json"),
    "deep lists": (DEEP, "too_deep"),
    "deep objects": (b'{"a":' * 9_000 + b"1" + b"}" * 9_000, "too_deep"),
    "deep and unfinished": (b"[" * 60_000, "too_deep"),
    "nine levels": (b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep"),
    "Latin-1": ('{"reference": "ä"}'.encode("latin-1"), "malformed_json"),
    "UTF-16": ('{"reference": "a"}'.encode("utf-16"), "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "malformed_json"),
    "raw half surrogate": (b'{"reference": "\xed\xa0\x80"}', "malformed_json"),
    "half a surrogate pair": (b'{"reference": "\\ud800"}', "unreadable_text"),
    "half a surrogate pair as name": (b'{"\\udfff": 1}', "unreadable_text"),
    "half a pair, twice": (b'{"\\ud800": 1, "\\ud800": 2}', "malformed_json"),
    "NUL": (b'{"reference": "a\\u0000b"}', "unreadable_text"),
    "NUL as name": (b'{"\\u0000": 1}', "unreadable_text"),
    "NUL in a list": (b'{"accepted_classes": ["\\u0000"]}', "unreadable_text"),
    "a raw control character": (b'{"reference": "a\x00b"}', "malformed_json"),
    "64 KiB and one": (b'{"reference": "' + b"x" * 65_536 + b'"}', "body_too_large"),
    "1 MB": (b'{"reference": "' + b"x" * 1_000_000 + b'"}', "body_too_large"),
    "3 MB": (b" " * 3_000_000, "body_too_large"),
}
NUMBERS = (b"1e400", b"-1e400", b"1.0", b"1e2", b"0.1", b"9" * 5000, b"9223372036854775808", b"-9223372036854775809",
           b"true", b'"1e3"', b'"NaN"', b'"9223372036854775808"', b'"' + b"9" * 40 + b'"', b'""', b'"-"')  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_none_gets_a_typed_refusal_and_writes_nothing(market, buyer, counts, name):
    raw, code = BODIES[name]
    before = counts()

    for path in PATHS:
        answer = buyer.post(path, raw=raw)
        if code == "body_missing" and path.startswith(("/demands/", "/bids/")):
            assert answer.status_code == 404  # these acts take no body; the object is missing
            continue
        assert 400 <= answer.status_code < 500
        assert answer.json()["code"] == code, answer.json()
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert counts() == before


@pytest.fixture
def person(market):
    """A person at the buyer's portal whose requests carry the session and its CSRF token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(seat(market.buyers[0], "writer@api.example"))
    client.get("/portal/demands/new/", follow=True)
    return Caller(client, {"X-CSRFToken": client.cookies["csrftoken"].value})


@pytest.mark.parametrize("path", ["/demands?dry_run=true", "/bids", "/statements", "/heartbeats",
                                  "/machines/enrolments"])  # fmt: skip
def test_a_person_and_a_program_are_answered_alike_whatever_bytes_they_send(market, buyer, person, path, counts):
    bodies = [raw for raw, _ in BODIES.values()]
    bodies += [b'{"a":NaN}', b"\xff", b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b'{"a":' + b"9" * 5000 + b"}"]
    before = counts()

    for raw in bodies:
        asked, pressed = buyer.post(path, raw=raw), person.post(path, raw=raw)
        assert 400 <= pressed.status_code < 500, raw[:40]
        assert (pressed.status_code, pressed.json()["code"]) == (asked.status_code, asked.json()["code"]), raw[:40]
    assert counts() == before


def test_a_method_that_an_address_does_not_know_is_405_for_a_person_as_for_a_program(market, buyer, person):
    for who in (buyer, person, Caller(person.client, {})):
        for method in ("delete", "put", "patch"):
            answer = getattr(who.client, method)("/api/v1/demands", headers=who.headers)
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), method
    assert Caller(person.client, {}).post("/demands", {}).json()["code"] == "csrf_failed"


@pytest.mark.parametrize("field", ["price_limit_micros", "quantity_units", "start_slot", "tier_min", "latency_ms_max"])
def test_a_number_that_is_not_whole_names_its_field(market, buyer, demand_body, counts, field):
    before = counts()

    for number in NUMBERS:
        raw = json.dumps(demand_body | {field: "HERE"}).encode().replace(b'"HERE"', number)
        answer = buyer.post("/demands", raw=raw)
        assert (answer.status_code, answer.json()["code"]) == (422, "number_format"), number
        assert answer.json()["errors"][0]["pointer"] == f"/{field}"
    assert counts() == before


@pytest.mark.parametrize("content_type", [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data",
    "application/jsonx", "application/json; charset=latin-1", "application/xml", "\x00",
])  # fmt: skip
def test_another_content_type_is_415(market, buyer, demand_body, counts, content_type):
    before = counts()
    answer = buyer.post("/demands", demand_body, content_type=content_type)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    assert counts() == before


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8",
                                          'Application/JSON;charset="UTF-8"'])  # fmt: skip
def test_json_is_json_in_any_spelling(market, buyer, demand_body, content_type):
    assert buyer.post("/demands", demand_body, content_type=content_type).status_code == 201


def test_an_act_without_fields_refuses_fields(market, buyer, demand_body, counts):
    id_ = buyer.post("/demands", demand_body).json()["id"]
    before = counts()
    answer = buyer.post(f"/demands/{id_}/funding", {"amount": 1})

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    assert counts() == before


def test_text_of_any_script_is_kept_as_it_was_sent(market, buyer, demand_body):
    reference = "Prüfung 検査 🌳"
    answer = buyer.post("/demands", demand_body | {"reference": reference})

    assert answer.status_code == 201
    assert buyer.get(f"/demands/{answer.json()['id']}").json()["reference"] == reference


@pytest.mark.parametrize("reference", ["a\u202eb", "a\nb", "\u0007", "\u2028"])
def test_a_reference_that_could_mislead_a_reader_is_refused(market, buyer, demand_body, counts, reference):
    before = counts()
    answer = buyer.post("/demands", demand_body | {"reference": reference})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/reference")
    assert counts() == before


def test_a_mistake_of_ours_answers_500_without_a_word_about_it(market, buyer, demand_body, counts, settings):
    """A table that is gone stands for any mistake of ours."""
    from django.db import transaction

    buyer.client.raise_request_exception = False
    before = counts()
    with transaction.atomic():
        with as_owner() as cursor:
            cursor.execute("ALTER TABLE marketplace_slapreset RENAME TO elsewhere")
        answer = buyer.post("/demands", demand_body)
        transaction.set_rollback(True)

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "elsewhere" not in answer.content.decode()
    assert "slapreset" not in answer.content.decode()
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert counts() == before
