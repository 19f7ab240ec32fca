"""A preview publishes nothing and reads no sealed bid; the indicative price is made of it and frozen by bidding."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from ledger.selectors import hold
from marketplace import clock
from marketplace import models as m
from marketplace.clearing import warm
from marketplace.clearing.previews import preview_window, renew_indicative
from marketplace.clearing.services import clear_window, close_bidding, verify_published
from marketplace.errors import WindowClosed
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import all_rows, refused, untouched
from tests.sealed import reseal


def changed(before: dict[str, tuple[int, str]]) -> set[str]:
    return {name for name, rows in all_rows().items() if rows != before[name]}


@pytest.mark.stage("bidding")
def test_a_preview_before_the_close_knows_no_sealed_bid() -> None:
    """The marked bid would sell everything at once at a price that nothing else comes near."""
    window = world.window()
    before = preview_window(window=window, actor="ann", now=clock.now())
    for bid in m.Bid.objects.filter(window=window):
        reseal(bid, price_ask_micros=100, quantity_units=10_000)

    after = preview_window(window=window, actor="ann", now=clock.now())

    assert after == before
    assert (after.supply, after.source) == ("reference", "3 opened bids of Early window")
    assert min(price.low_micros for price in after.prices) > 400_000


@pytest.mark.stage("bidding")
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_preview_writes_its_audit_line_with_the_hash_and_nothing_else(is_closed: bool) -> None:
    window = world.window()
    if is_closed:
        close_bidding(window=window, now=window.bidding_closes_at)
    before = all_rows()

    found = preview_window(window=window, actor="ann", now=clock.now())

    assert changed(before) == {"marketplace_auditline"}
    line = m.AuditLine.objects.order_by("-no").first()
    assert line is not None
    assert (line.actor, line.action, line.facts["input_hash"]) == ("ann", "preview_clearing", found.input_hash)


@pytest.mark.stage("bidding")
def test_a_preview_of_the_opened_book_is_what_the_clearing_comes_to_and_gives_it_a_head_start() -> None:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    found = preview_window(window=window, actor="ann", now=clock.now())
    assert warm.last_outcome(window.pk) is not None

    clearing = clear_window(window=window, now=clock.now())

    assert (found.supply, found.awards) == ("opened", clearing.awards.count())
    assert (found.welfare_micros, found.gap_micros) == (clearing.welfare_micros, 0)
    assert found.input_hash.encode() in bytes(clearing.files.get(name="manifest.json").body)
    assert verify_published(clearing=clearing) == []
    assert warm.last_outcome(window.pk) is None
    assert {(r.side, r.code) for r in found.losers} <= set(clearing.reasons.values_list("side", "code"))


@pytest.mark.stage("bidding")
def test_a_warm_start_publishes_the_same_bytes_as_a_cold_one() -> None:
    window = world.window()
    preview_window(window=window, actor="ann", now=clock.now())  # of other bids: the book is amended
    close_bidding(window=window, now=window.bidding_closes_at)
    assert warm.last_outcome(window.pk) is not None
    before = transaction.savepoint()
    first = bytes(clear_window(window=window, now=clock.now()).bundle_hash)
    transaction.savepoint_rollback(before)

    assert bytes(clear_window(window=world.window(), now=clock.now(), is_cold=True).bundle_hash) == first


@pytest.mark.stage("cleared")
def test_a_cleared_window_has_no_preview() -> None:
    with refused(WindowClosed, state="CLEARED"):
        preview_window(window=world.window(), actor="ann", now=clock.now())


@pytest.mark.stage("collecting")
def test_a_class_with_few_sellers_has_its_comparator_for_an_indicative_price() -> None:
    window = world.window()

    assert renew_indicative(window=window, now=clock.now()) == 2
    assert renew_indicative(window=window, now=clock.now()) == 0

    rows = {row.resource_class_id: (row.method, row.low_micros, row.bids) for row in window.indicative_prices.all()}
    assert rows["A100"] == ("comparator", 1_200_000, 0)
    assert rows["H100"][0] == "cleared_bids"  # three sellers and three buyers
    assert rows["H100"][2] == 3


@pytest.mark.stage("collecting")
def test_an_indicative_price_follows_funded_demand_and_bidding_freezes_it() -> None:
    window = world.window()
    renew_indicative(window=window, now=clock.now())
    stood = {row.pk: bytes(row.input_hash) for row in window.indicative_prices.all()}
    demand = world.demand("climate")
    m.Demand.objects.filter(pk=demand.pk).update(state="withdrawn")

    renew_indicative(window=window, now=clock.now())
    now_stands = {row.pk: bytes(row.input_hash) for row in window.indicative_prices.all()}
    m.Window.objects.filter(pk=window.pk).update(state="BIDDING")
    m.Demand.objects.filter(pk=demand.pk).update(state="funded")

    assert set(stood.values()) != set(now_stands.values())
    with untouched():
        assert renew_indicative(window=world.window(), now=clock.now()) == 0
    assert hold(demand.hold_id).state == "open"


@pytest.mark.stage("bidding")
def test_while_bids_arrive_the_indicative_prices_stand_still() -> None:
    window = world.window()
    rows = list(window.indicative_prices.values())
    owner = world.party("prairie")
    m.Bid.objects.filter(party=owner, window=window).update(state="withdrawn")

    place_bid(
        party=owner, node_class=world.node_class("prairie"), window=window, reference="late", quantity_units=16,
        start_slot=0, end_slot=5, price_ask_micros=100, sla_code="99.0",
        now=window.demand_closes_at + timedelta(hours=1),
    )  # fmt: skip
    renew_indicative(window=world.window(), now=clock.now())

    assert list(world.window().indicative_prices.values()) == rows

