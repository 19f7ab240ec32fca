"""Before close no page of the console tells a sealed bid's price, quantity, reference, bidder, or how many there are.

Every address of the console is walked as superuser, with searches, filters, sorting and look-ups, before a marked bid
is placed and after: each body must stay the same, and none may hold a mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver

from marketplace import models as m
from marketplace.clearing.services import close_bidding
from marketplace.console.reads import opened_bids
from marketplace.console.site import console
from marketplace.supply.bids import place_bid, withdraw_bid
from marketplace.supply.holders import report_lost
from marketplace.supply.sealing import NAMES
from tests.doors.factories import NOW
from tests.owner import as_owner, behind_the_triggers
from tests.sealed import opened

PRICE_MICROS, QUANTITY, REFERENCE = 1_777_700, 29, "MARKED-BID-REFERENCE"
MARKS = (REFERENCE, "1777700", "1,777,700", "1.7777", "MARKED")
MASKS = re.compile(r'csrfmiddlewaretoken" value="[^"]+"|"X-CSRFToken": "[^"]+"|\([0-9.]+ seconds?\)')
# Addresses without an object that are not asked for by GET, or that leave the console.
LEFT_OUT = {"logout", "jsi18n"}


def addresses() -> Iterator[str]:
    """Every address of the console: its own pages, and per table its list, its look-ups and its objects."""
    for entry in console.get_urls():
        if isinstance(entry, URLPattern) and entry.name not in LEFT_OUT and "<" not in str(entry.pattern):
            yield f"/console/{entry.pattern}"
    yield from ("/console/acts/reconcile/", "/console/acts/advance/", "/console/marketplace/", "/console/ledger/")
    yield from ("/console/search/?s=bid", "/console/search/?s=mark", f"/console/search/?s={REFERENCE}")
    yield "/console/opened-bids/?window=2026-W48"
    for model, table in console._registry.items():
        base = f"/console/{model._meta.app_label}/{model._meta.model_name}/"
        yield base
        if table.search_fields:
            yield f"{base}?q={REFERENCE}&all=&o=-1.2&_facets=True"
        row = model._default_manager.order_by("pk").last()
        if row is not None:
            yield f"{base}{row.pk}/change/"
    last = m.Window.objects.last()
    yield from (f"/console/marketplace/window/{last.pk}/{page}/" for page in ("history", "delete"))


def look_ups(bid_id: str) -> Iterator[str]:
    """Questions that would answer with more or fewer rows for a bid that is there."""
    party, window = "/console/marketplace/party/", "/console/marketplace/window/"
    for base in (party, window, "/console/marketplace/nodeclass/"):
        yield from (f"{base}?bids__isnull=0", f"{base}?bids__price_ask_micros__gt=1777600", f"{base}?bids={bid_id}",
                    f"{base}?bids__reference={REFERENCE}", f"{base}?bids__id__exact={bid_id}")  # fmt: skip
    trail = "/console/marketplace/auditline/"
    yield from (f"{trail}?subject={bid_id}", f"{trail}?action=place_bid", f"{trail}?action__exact=place_bid",
                f"{trail}?q={bid_id}", f"{party}?node_classes__bids__isnull=0",
                "/console/marketplace/demand/?window__bids__isnull=0",
                "/console/marketplace/demand/?window__id__exact=x", f"/console/marketplace/bid/{bid_id}/change/",
                "/console/marketplace/bid/", "/console/marketplace/rememberedreply/",
                "/console/autocomplete/?app_label=marketplace&model_name=award&field_name=bid&term=MARKED",
                f"/console/r/1/{bid_id}/")  # fmt: skip
    for number in range(1, 4):
        yield f"/console/marketplace/auditline/{number}/change/"


def walk(client: Client, paths: list[str]) -> dict[str, tuple[int, str]]:
    client.raise_request_exception = False
    found = {}
    for path in paths:
        answer = client.get(path)
        body = "" if answer.streaming else answer.content.decode()
        found[path] = answer.status_code, MASKS.sub("", body)
    return found


@pytest.fixture
def provider_class(market):
    node_class = next(c for c in market.classes if c.party_id == market.providers[0].pk)
    with as_owner():
        m.Bid.objects.filter(window=market.bidding, node_class=node_class).delete()
    return node_class


def forget_deleted(window) -> None:
    """The fixture took bids away by force; the trail forgets them too, or the window could never be opened."""
    with behind_the_triggers():
        gone = m.AuditLine.objects.filter(action="place_bid", facts__window=str(window.pk))
        gone.exclude(subject__in=[str(pk) for pk in window.bids.values_list("pk", flat=True)]).delete()


def marked_bid(market, node_class, reference=REFERENCE) -> m.Bid:
    return place_bid(
        party=node_class.party, node_class=node_class, window=market.bidding, reference=reference, start_slot=0,
        end_slot=24, quantity_units=QUANTITY if reference == REFERENCE else 1, price_ask_micros=PRICE_MICROS,
        sla_code="99.5", now=NOW,
    )  # fmt: skip


def test_bid_is_not_registered_and_the_walk_sees_every_table(market):
    assert m.Bid not in console._registry
    assert not [model for model in console._registry if issubclass(model, m.Bid)]
    names = {str(e.pattern) for e in console.get_urls() if isinstance(e, URLResolver)}
    assert {f"{k._meta.app_label}/{k._meta.model_name}/" for k in console._registry} <= names
    assert len(set(addresses())) > 90


def test_no_page_of_the_console_changes_when_a_sealed_bid_arrives(market, staff, provider_class):
    paths = sorted(set(addresses()))
    walk(staff, [path for path in paths if "opened-bids" in path])  # reading opened bids leaves its line once a day
    before = walk(staff, paths)
    bid = marked_bid(market, provider_class)
    m.RememberedReply.objects.create(
        party=bid.party, key="k", route="POST /api/v1/bids", body_sha256=bytes(32), status=201, remembered_at=NOW,
        reply={"text": f'{{"reference": "{REFERENCE}", "price_ask_micros": "{PRICE_MICROS}"}}'},
    )  # fmt: skip
    withdraw_bid(bid=marked_bid(market, provider_class, "MARKED-2"), party=bid.party, now=NOW)
    after = walk(staff, paths)

    assert [p for p in paths if before[p] != after[p]] == []
    for path, (status, body) in after.items():
        asked = (path.partition("?")[2], f'value="{REFERENCE}"', f"q={REFERENCE}")  # the question is repeated on a page
        shown = re.sub("|".join(re.escape(part) for part in asked if part), "", body)
        assert status < 500, path
        assert not [mark for mark in (*MARKS, bid.pk.hex, str(bid.pk)) if mark in shown], path


def test_no_look_up_answers_differently_for_a_sealed_bid(market, staff, provider_class):
    bid = marked_bid(market, provider_class)
    bid_id = str(bid.pk)
    paths = list(look_ups(bid_id))
    with_bid = walk(staff, paths)
    with as_owner():
        bid.delete()
    without = walk(staff, [p for p in paths if "auditline" not in p])

    assert [p for p in without if without[p] != with_bid[p]] == []
    for path in (p for p in paths if "bids" in p or "/r/" in p):
        assert with_bid[path][0] in (302, 400, 404), (path, with_bid[path][0])
    for path in (p for p in paths if "auditline/?" in p):
        assert bid_id not in with_bid[path][1].replace(path.partition("?")[2], "").replace(f'value="{bid_id}"', "")
    for path in (p for p in paths if re.search(r"auditline/\d", p)):
        assert with_bid[path][0] == 404


def test_after_close_the_bid_and_its_audit_line_are_shown(market, staff, provider_class):
    """The guard against a walk that sees nothing at all: the same marks are found once the window has closed."""
    bid = marked_bid(market, provider_class)
    forget_deleted(market.bidding)
    m.Window.objects.filter(pk=market.bidding.pk).update(state="CLEARING")
    opened(market.bidding)

    assert REFERENCE in staff.get("/console/opened-bids/", {"window": market.bidding.name}).content.decode()
    assert "$1.7777" in staff.get("/console/opened-bids/", {"window": market.bidding.name}).content.decode()
    assert str(bid.pk) in staff.get("/console/marketplace/auditline/").content.decode()


def test_the_read_behind_the_opened_bids_gives_no_sealed_and_no_withdrawn_one(market, provider_class):
    """The second wall: the page asks for closed windows only, and the read would give nothing of another."""
    sealed = marked_bid(market, provider_class)
    taken_back = dict.fromkeys(NAMES) | {"state": "withdrawn"}
    m.Bid.objects.filter(pk=market.settled.bids.first().pk).update(**taken_back)

    assert list(opened_bids(market.bidding)) == []
    assert sealed not in opened_bids(market.bidding)
    assert {bid.state for bid in opened_bids(market.settled)} <= {"opened", "awarded", "lost"}
    assert opened_bids(market.settled).count() == market.settled.bids.count() - 1


def fail_sealed(window) -> None:
    """Two of the three shares are lost while bids are still taken."""
    for share in window.key.shares.all()[:2]:
        report_lost(window=window, holder=share.holder_key.holder, reason="lost", now=NOW)
    assert close_bidding(window=window, now=NOW) == "FAILED"


def test_a_failed_window_keeps_its_bids_sealed(market, staff, provider_class):
    bid = marked_bid(market, provider_class)
    fail_sealed(market.bidding)

    assert staff.get("/console/opened-bids/", {"window": market.bidding.name}).status_code == 404
    assert str(bid.pk) not in staff.get("/console/marketplace/auditline/").content.decode()
    assert m.Notice.objects.filter(party=bid.party, code="seal_key_lost").exists()  # it is told, and nobody else
    assert "seal_key_lost" not in staff.get("/console/marketplace/notice/").content.decode()
