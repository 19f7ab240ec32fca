"""NUL, which no database keeps, is refused at every door in one way: 400, and nothing is written."""

from __future__ import annotations

import json
import time

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DataError, transaction
from django.test import Client
from django.urls import reverse

from ledger.models import Inbox
from ledger.rails.stripe_sandbox.webhooks import signature_header
from marketplace import models as m
from marketplace.readable import ReadableMiddleware

NUL = "a\x00b"


def refused(answer) -> None:
    assert answer.status_code == 400, answer.status_code
    assert "NUL" in answer.content.decode()


@pytest.mark.parametrize("path", [
    "/market/%00/", "/portal/demands/%00/", "/problems/x%00", "/service/%00/", "/nowhere%00", "/login/%00",
])  # fmt: skip
def test_nul_in_a_path_is_refused_on_every_page(enter, path):
    for who in ("buyer", None):
        refused(enter(who).get(path))
    assert enter("buyer").get(path.replace("%00", "")).status_code in (200, 302, 404)


@pytest.mark.parametrize("path", ["/market/", "/market/demand/", "/portal/", "/portal/planning/", "/portal/demands/",
                                  "/portal/demands/new/", "/login/", "/nowhere"])  # fmt: skip
@pytest.mark.parametrize("query", ["class=%00", "zone=a%00", "job=%00", "window=%00", "%00=1", "next=%00", "x=1&x=%00"])
def test_nul_in_a_query_is_refused_on_every_page(enter, path, query):
    buyer = enter("buyer")

    refused(buyer.get(f"{path}?{query}"))
    assert buyer.get(f"{path}?class=x").status_code in (200, 302, 404)


def test_nul_in_a_form_is_refused_before_it_is_acted_on(enter, market):
    buyer, provider = enter("buyer"), enter("provider")
    places = m.Site.objects.filter(party=market.providers[0]).order_by("code")
    cases = [
        (buyer, reverse("portal:card_deposit"), {"amount_micros": "50", "key": NUL}),
        (buyer, reverse("portal:demand_new"), {"reference": NUL}),
        (buyer, reverse("portal:demand_new"), {"reference\x00": "x"}),
        (provider, reverse("onboarding:places"), {"act": "site", "name": NUL, "code": "x"}),
        (Client(), reverse("login"), {"username": NUL, "password": "x"}),
        (Client(), reverse("login"), {"username": "x", "password": NUL}),
        (Client(), reverse("theme"), {"theme": "dark", "next": NUL}),
    ]
    before = (places.count(), m.Demand.objects.count())

    for who, path, form in cases:
        refused(who.post(path, form))
        refused(who.post(path, "&".join(f"{k}={v}" for k, v in form.items()).replace("\x00", "%00"),
                         content_type="application/x-www-form-urlencoded"))  # fmt: skip
    assert (places.count(), m.Demand.objects.count()) == before
    assert Client().post(reverse("theme"), {"theme": "dark", "next": "/market/"}).status_code == 302


def test_nul_in_a_cookie_is_refused_and_the_page_of_the_refusal_asks_no_session(market):
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = "\x00" * 32

    refused(client.get("/market/"))
    refused(client.get("/api/v1/demands"))
    assert Client().get("/market/").status_code == 200


def test_nul_in_a_file_is_refused_where_its_rows_are_read(enter, market):
    provider = enter("provider")
    path = reverse("onboarding:imports")
    before = m.Site.objects.count()

    for body in (b"site,name\nx\x00,y\n", b"\x00" * 40, b'{"a": "\\u0000"}'):
        answer = provider.post(path, {"act": "read", "file": SimpleUploadedFile("sites.csv", body)})
        assert 400 <= answer.status_code < 500
    assert m.Site.objects.count() == before


@pytest.mark.parametrize(("rows", "kept"), [(m.Site, {"code": NUL}), (m.PriceRow, {"slot_prices_micros": [NUL]}),
                                            (m.PriceRow, {"slot_prices_micros": {NUL: 1}})])  # fmt: skip
def test_what_only_the_database_sees_is_refused_in_the_same_way(market, rf, rows, kept):
    request = rf.get("/portal/")

    with pytest.raises(DataError) as told, transaction.atomic():
        rows.objects.update(**kept)

    answer = ReadableMiddleware(lambda _: None).process_exception(request, told.value)
    assert answer is not None
    refused(answer)
    assert ReadableMiddleware(lambda _: None).process_exception(request, DataError("value too long")) is None


def test_the_api_says_where_nul_stands(market):
    client = Client()

    for path in ("/demands/dem_%00", "/certificates/win_x/files/%00", "/nowhere%00", "/demands?cursor=%00"):
        answer = client.get(f"/api/v1{path}")
        assert (answer.status_code, answer.json()["code"]) == (400, "unreadable_text")
        assert answer.json()["where"] in ("path", "query")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("id_", ["evt_\x00", "\x00", "", "evt " + "x", "x" * 3000, "evt_ä"])
def test_a_signed_webhook_with_an_id_that_cannot_be_kept_is_refused(db, id_):
    def send(id_: str):
        body = json.dumps({"id": id_, "type": "charge.updated", "data": {"object": {"object": "x", "id": "y"}}})
        signature = signature_header(body, settings.STRIPE_WEBHOOK_SECRET, int(time.time()))
        return Client().post("/webhooks/stripe/", body, content_type="application/json",
                             headers={"Stripe-Signature": signature})  # fmt: skip

    assert send(id_).status_code == 400
    assert not Inbox.objects.exists()
    assert send("evt_1").status_code == 200
    assert Inbox.objects.get().event_id == "evt_1"
