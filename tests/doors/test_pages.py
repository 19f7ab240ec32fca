"""Pages: the right seat sees them, others do not, and a list costs the same however long it is."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.cache import cache
from django.urls import reverse

from ledger.ids import uuid7
from marketplace import models as m
from tests.doors.factories import NOW, PASSWORD, Market
from tests.sealed import reseal

BUYER_PAGES = ["portal:home", "portal:windows", "portal:demands", "portal:demand_new", "portal:leases", "portal:escrow",
               "portal:workloads", "portal:cost", "portal:savings", "portal:approvals", "portal:agreements",
               "portal:pilots", "portal:commitments", "portal:keys", "portal:seats"]  # fmt: skip
PROVIDER_PAGES = ["onboarding:home", "onboarding:classes", "onboarding:arming", "onboarding:bids", "onboarding:bid_new",
                  "onboarding:leases", "onboarding:statement", "onboarding:evidence", "onboarding:capacity",
                  "onboarding:waitlist", "onboarding:imports", "onboarding:break_even", "onboarding:keys",
                  "onboarding:seats"]  # fmt: skip
MISSING = UUID(int=7)
# Queries per page for a signed-in seat, session and seat included.
QUERIES = {
    "portal:home": 16, "portal:windows": 8, "portal:demands": 7, "portal:demand_new": 14, "portal:leases": 6,
    "portal:escrow": 14, "portal:workloads": 5, "portal:cost": 5, "portal:savings": 5,
    "onboarding:home": 18, "onboarding:classes": 8, "onboarding:arming": 12, "onboarding:bids": 11,
    "onboarding:bid_new": 9, "onboarding:leases": 6, "onboarding:statement": 10, "onboarding:imports": 5,
    "onboarding:break_even": 12, "portal:keys": 6, "onboarding:keys": 6, "portal:seats": 8, "onboarding:seats": 8,
}  # fmt: skip


def lease_of(market: Market, buyer: int) -> m.Lease:
    return next(lease for lease in market.leases if lease.buyer_id == market.buyers[buyer].pk)


def own_pages(market: Market, buyer: int) -> list[str]:
    demand = m.Demand.objects.filter(party=market.buyers[buyer]).first()
    return [reverse("portal:demand", args=[demand.pk]), reverse("portal:lease", args=[lease_of(market, buyer).pk])]


@pytest.mark.parametrize("name", BUYER_PAGES)
def test_a_buyer_sees_the_portal_and_nobody_else_does(name, enter):
    page = enter("buyer").get(reverse(name))

    assert page.status_code == 200
    assert page.content.count(b"<h1") == 1
    assert enter("provider").get(reverse(name)).status_code == 404
    assert enter(None).get(reverse(name)).headers["Location"].startswith("/login/?next=/portal/")


@pytest.mark.parametrize("name", PROVIDER_PAGES)
@pytest.mark.parametrize("who", ["provider", "newcomer", "fresh"])
def test_a_provider_sees_onboarding_and_nobody_else_does(name, who, enter):
    page = enter(who).get(reverse(name))

    assert page.status_code == 200
    assert page.content.count(b"<h1") == 1
    assert enter("buyer").get(reverse(name)).status_code == 404
    assert enter(None).get(reverse(name)).headers["Location"].startswith("/login/?next=/onboarding/")


def test_every_window_shows_its_page_in_every_state(market, enter):
    for window in m.Window.objects.all():
        page = enter("buyer").get(reverse("portal:window", args=[window.pk]), {"class": "A100-80", "zone": "EU"})
        assert page.status_code == 200
        assert window.name in page.content.decode()


def test_somebody_elses_object_and_a_missing_one_are_the_same_404(market, enter):
    mine, theirs = own_pages(market, 0), own_pages(market, 1)
    client = enter("buyer")

    assert [client.get(url).status_code for url in mine] == [200, 200]
    for url in theirs:
        stranger, missing = client.get(url), client.get(re.sub(r"[0-9a-f-]{36}", str(MISSING), url))
        assert stranger.status_code == missing.status_code == 404
        assert masked(stranger) == masked(missing)
    other = enter("other.buyer")
    assert [other.get(url).status_code for url in theirs] == [200, 200]
    assert [other.get(url).status_code for url in mine] == [404, 404]


def test_a_provider_reads_only_its_own_node_classes(market, enter):
    own, foreign = market.providers[0].node_classes.first(), market.providers[1].node_classes.first()
    client = enter("provider")

    assert client.get(reverse("onboarding:class", args=[own.pk])).status_code == 200
    assert client.get(reverse("onboarding:class", args=[foreign.pk])).status_code == 404
    assert foreign.site.city not in client.get(reverse("onboarding:arming"), {"class": foreign.pk}).content.decode()


def test_acts_on_somebody_elses_rows_change_nothing(market, enter):
    demand = m.Demand.objects.filter(party=market.buyers[1], state="posted", window=market.collecting).first()
    bid = m.Bid.objects.filter(party=market.providers[2], window=market.bidding).first()

    assert enter("buyer").post(reverse("portal:demand_fund", args=[demand.pk])).status_code == 404
    assert enter("buyer").post(reverse("portal:demand_withdraw", args=[demand.pk])).status_code == 404
    assert enter("provider").post(reverse("onboarding:bid_withdraw", args=[bid.pk])).status_code == 404
    demand.refresh_from_db()
    bid.refresh_from_db()
    assert (demand.state, bid.state) == ("posted", "sealed")


def test_no_page_shows_a_sealed_bid_to_another_seat(market, enter):
    sealed = m.Bid.objects.filter(window=market.bidding, party=market.providers[2]).first()
    m.Bid.objects.filter(pk=sealed.pk).update(reference="MARKED-BID")
    reseal(sealed, price_ask_micros=777_700, quantity_units=31_337)
    window = reverse("portal:window", args=[market.bidding.pk])
    seen = {
        "buyer": [reverse(n) for n in BUYER_PAGES] + [f"{window}?class={c}" for c in ("H100-80", "A100-80", "L40S-48")],
        "provider": [reverse(n) for n in PROVIDER_PAGES], None: [reverse("market")],
    }  # fmt: skip

    for who, urls in seen.items():
        for url in urls:
            body = enter(who).get(url).content.decode()
            assert not re.search(r"0\.7777|31,?337|MARKED", body), (who, url)


def test_the_number_of_sealed_bids_leaves_no_trace(market, enter):
    urls = [reverse("portal:window", args=[market.bidding.pk]), reverse("portal:windows"), reverse("market")]
    before = [masked(enter("buyer").get(url)) for url in urls]

    first = m.Bid.objects.filter(window=market.bidding).first()
    first.pk, first.reference, first.accepted_rank = uuid7(NOW), "one more", 900
    first.save(force_insert=True)

    assert [masked(enter("buyer").get(url)) for url in urls] == before


def test_before_clearing_only_demand_of_three_or_more_buyers_is_drawn(market, enter):
    url = reverse("portal:window", args=[market.collecting.pk])
    m.Demand.objects.filter(window=market.collecting).update(accepted_classes=["H100-80"])
    assert "line-d" in enter("buyer").get(url, {"class": "H100-80"}).content.decode()

    two = [b.pk for b in market.buyers[:2]]
    m.Demand.objects.filter(window=market.collecting).exclude(party__in=two).update(accepted_classes=["VCPU-8"])

    body = enter("buyer").get(url, {"class": "H100-80"}).content.decode()
    assert "line-d" not in body
    assert "Fewer than three buyers" in body


def test_the_public_market_hides_what_two_parties_could_be_read_from(market, enter):
    body = enter(None).get(reverse("market")).content.decode()

    assert "Verify it yourself" in body
    assert "too few parties" in body
    assert all(party.name not in body for party in (*market.buyers, *market.providers))


def test_anybody_can_download_the_bundle_as_it_was_hashed(market, enter):
    reply = enter(None).get(reverse("bundle", args=[1]))

    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    stored = {f.name: bytes(f.body) for f in market.clearing.files.all()}
    assert {name: archive.read(name) for name in archive.namelist()} == stored
    assert reply.content == enter(None).get(reverse("bundle", args=[1])).content
    assert enter(None).get(reverse("bundle", args=[2])).status_code == 404


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_page_asks_the_database_a_known_number_of_times(name, enter, django_assert_num_queries):
    client = enter("buyer" if name.startswith("portal") else "provider")
    client.get(reverse(name))

    with django_assert_num_queries(QUERIES[name]):
        client.get(reverse(name))


def test_a_list_costs_the_same_at_ten_times_the_rows(market, enter, django_assert_num_queries):
    client = enter("buyer")
    pattern = m.Demand.objects.filter(party=market.buyers[0], window=market.collecting).first()
    for number in range(200):
        pattern.pk, pattern.reference = uuid7(NOW + timedelta(microseconds=number)), f"many-{number}"
        pattern.accepted_rank, pattern.hold_id, pattern.state = 1000 + number, None, "posted"
        pattern.save(force_insert=True)

    with django_assert_num_queries(QUERIES["portal:demands"]):
        page = client.get(reverse("portal:demands"))
    assert page.content.decode().count("many-") == 25
    assert "1 to 25 of" in page.content.decode()


def test_each_seat_lands_at_its_own_door(enter, market):
    where = {"buyer": "/portal/", "provider": "/onboarding/", None: "/market/"}
    for who, door in where.items():
        assert enter(who).get("/").headers["Location"] == door
    client = enter(None)
    reply = client.post("/login/", {"username": "buyer@doors.example", "password": PASSWORD})
    assert reply.headers["Location"] == "/portal/"


def test_signing_in_tells_nothing_about_other_people(enter, market):
    known = enter(None).post("/login/", {"username": "buyer@doors.example", "password": "wrong"})
    unknown = enter(None).post("/login/", {"username": "nobody@doors.example", "password": "wrong"})

    assert known.status_code == unknown.status_code == 200
    assert masked(known).replace("buyer@", "nobody@") == masked(unknown)
    assert "do not match a seat" in known.content.decode()


def test_an_address_is_the_same_in_capitals(enter, market):
    reply = enter(None).post("/login/", {"username": "BUYER@doors.example", "password": PASSWORD})

    assert reply.headers["Location"] == "/portal/"


@pytest.fixture
def _uncounted():
    cache.clear()
    yield
    cache.clear()


@pytest.mark.usefixtures("_uncounted")
def test_after_ten_wrong_passwords_from_one_place_the_right_one_waits_there_and_only_there(enter, market):
    def sign_in(password: str, **more: str):
        return enter(None).post("/login/", {"username": "buyer@doors.example", "password": password}, **more)

    for _ in range(10):
        assert "do not match a seat" in sign_in("wrong").content.decode()

    for password in ("wrong", PASSWORD):
        assert "Too many wrong passwords" in sign_in(password).content.decode()
    assert sign_in(PASSWORD, REMOTE_ADDR="203.0.113.9").headers["Location"] == "/portal/"


@pytest.mark.usefixtures("_uncounted")
def test_one_place_tries_fifty_passwords_of_anybody(enter, market):
    for number in range(50):
        told = enter(None).post("/login/", {"username": f"n{number}@doors.example", "password": "wrong"})
        assert "do not match a seat" in told.content.decode()

    told = enter(None).post("/login/", {"username": "buyer@doors.example", "password": PASSWORD})
    assert "Too many wrong passwords" in told.content.decode()


def test_progress_is_polled_until_the_job_is_done(enter, market):
    url = reverse("portal:progress") + "?job=demo"
    assert enter("buyer").get(url).status_code == 200

    m.Progress.objects.filter(job="demo").update(outcome="done", done=15)

    assert enter("buyer").get(url).status_code == 286


def test_a_fragment_whose_session_ended_moves_the_whole_page(enter):
    reply = enter(None).get(reverse("portal:progress"), headers={"HX-Request": "true"})

    assert (reply.status_code, reply.headers["HX-Redirect"]) == (204, "/login/")


def test_the_theme_is_remembered_and_leads_back_to_this_site_only(enter):
    client = enter("buyer")
    reply = client.post("/theme/", {"theme": "dark", "next": "/portal/leases/"})
    assert reply.headers["Location"] == "/portal/leases/"
    assert 'data-bs-theme="dark"' in client.get("/portal/").content.decode()

    assert client.post("/theme/", {"theme": "pink", "next": "https://elsewhere.example/"}).headers["Location"] == "/"
    assert 'data-theme="auto"' in client.get("/portal/").content.decode()


def test_health_is_plain_and_errors_wear_the_look(enter):
    health = enter(None).get("/healthz")
    assert (health.status_code, health.content, health.headers["Content-Type"]) == (200, b"ok\n", "text/plain")

    missing = enter(None).get("/nothing/")
    assert missing.status_code == 404
    assert "There is no such page" in missing.content.decode()


def test_no_page_carries_inline_style_script_or_a_foreign_address(market, enter):
    pages = [enter("buyer").get(u) for u in [*map(reverse, BUYER_PAGES), *own_pages(market, 0)]]
    pages += [enter("provider").get(reverse(n)) for n in PROVIDER_PAGES]
    pages += [enter(None).get(u) for u in ("/market/", "/login/", "/nothing/")]

    for page in pages:
        body = page.content.decode()
        assert " style=" not in body
        assert not re.search(r"<style|<script(?![^>]* src=)|hx-on|javascript:", body)
        assert set(re.findall(r'(?:href|src|action)="(https?:)?//', body)) == set()
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def masked(reply) -> str:
    """Return a page without what differs by design: tokens and times."""
    body = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", reply.content.decode())
    body = re.sub(r"<time.*?</time>", "", body)
    return re.sub(r'name="next" value="[^"]*"', "", body)
