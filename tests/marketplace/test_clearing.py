"""Clearing: nothing before its time, all or nothing, and a certificate that is checked before it is published."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F

from ledger import faults
from marketplace import clock
from marketplace import models as m
from marketplace.clearing import books
from marketplace.clearing.books import build_book
from marketplace.clearing.publication import publish
from marketplace.clearing.services import clear_window, close_bidding, judge_gate, verify_published
from marketplace.errors import WindowClosed
from pricing.bundle import public_bundle
from pricing.clearing import clear
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers, unseen
from tests.sealed import reseal


@pytest.mark.stage("collecting")
def test_the_gate_is_not_judged_before_demand_has_closed() -> None:
    window = world.window()

    with untouched():
        assert judge_gate(window=window, now=window.demand_closes_at - timedelta(microseconds=1)) == "COLLECTING"

    assert judge_gate(window=window, now=window.demand_closes_at) == "FAILED"
    with untouched():
        assert judge_gate(window=window, now=window.demand_closes_at) == "FAILED"


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("unit_hours", "parties", "state"), [
    (548, 3, "BIDDING"), (549, 3, "FAILED"), (548, 4, "FAILED"),
])  # fmt: skip
def test_the_gate_asks_for_hours_and_parties(unit_hours: int, parties: int, state: str) -> None:
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=unit_hours, gate_parties=parties)

    assert judge_gate(window=world.window(), now=world.window().demand_closes_at) == state


@pytest.mark.stage("collecting")
def test_siblings_of_one_parent_count_as_one_party() -> None:
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=3)
    m.Party.objects.filter(slug="birch").update(parent=world.party("alder"))

    assert judge_gate(window=world.window(), now=world.window().demand_closes_at) == "FAILED"


@pytest.mark.stage("collecting")
def test_grandchildren_of_one_parent_count_as_one_party_too() -> None:
    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=2)
    m.Party.objects.filter(slug="cedar").update(parent=world.party("birch"))
    m.Party.objects.filter(slug="birch").update(parent=world.party("alder"))

    assert [world.party(slug).owner_key for slug in ("alder", "birch", "cedar")] == ["alder"] * 3
    assert judge_gate(window=world.window(), now=world.window().demand_closes_at) == "FAILED"


@pytest.mark.stage("bidding")
def test_bids_stay_sealed_until_bidding_closes() -> None:
    window = world.window()

    with untouched():
        assert close_bidding(window=window, now=window.bidding_closes_at - timedelta(microseconds=1)) == "BIDDING"

    assert close_bidding(window=window, now=window.bidding_closes_at) == "CLEARING"
    assert set(window.bids.values_list("state", flat=True)) == {"opened"}


@pytest.mark.stage("bidding")
def test_a_window_that_is_not_clearing_publishes_nothing() -> None:
    with refused(WindowClosed, window=world.MAIN, state="BIDDING"):
        clear_window(window=world.window(), now=clock.now())


@pytest.mark.stage("bidding")
def test_a_clearing_that_dies_before_it_is_published_leaves_nothing() -> None:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)

    with untouched(), faults.armed("clearing.publish.before_commit"), pytest.raises(faults.FaultInjected):
        clear_window(window=window, now=clock.now())

    assert clear_window(window=window, now=clock.now()).awards.count() == 6


@pytest.mark.stage("bidding")
def test_an_ask_that_its_quality_lifts_above_every_price_stops_nobody_else() -> None:
    """Bids are free, so one absurd line must not keep a window from clearing."""
    window = world.window()
    absurd = window.bids.order_by("accepted_rank").last()
    reseal(absurd, price_ask_micros=1_000_000_000)
    close_bidding(window=window, now=window.bidding_closes_at)

    clearing = clear_window(window=window, now=clock.now())

    reason = clearing.reasons.get(bid=absurd)
    assert (reason.code, reason.detail, absurd.awards.count()) == ("not_eligible", {"rule": "quality"}, 0)
    assert clearing.awards.exists()
    assert verify_published(clearing=clearing) == []


@pytest.mark.stage("bidding")
def test_what_was_published_under_names_that_nobody_can_open_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    with monkeypatch.context() as before:
        before.setattr(books, "Pseudonyms", books.SealedNames)
        clearing = clear_window(window=window, now=clock.now())

    assert (verify_published(clearing=clearing), books.names_of(clearing).can_be_opened) == ([], False)
    unseen(m.Award.objects.filter(clearing=clearing), units=F("units") + 1)
    assert verify_published(clearing=clearing) != []


@pytest.mark.stage("bidding")
def test_no_award_can_be_written_that_breaks_a_rule_even_if_the_engine_erred() -> None:
    """The database is the second refusal: here it is told of a site that has moved since the book was built."""
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    book, lines = build_book(window=window)
    unseen(m.Site.objects.filter(party__slug="harbour"), country="US")
    outcome = clear(book)
    files = public_bundle(outcome, window=window.name)

    with pytest.raises(IntegrityError, match="award_keeps_residency"), transaction.atomic():
        publish(window=window, outcome=outcome, files=files, lines=lines, now=clock.now())

    assert not m.Award.objects.filter(clearing__window=window).exists()


@pytest.mark.stage("cleared")
@pytest.mark.parametrize("change", [
    "marketplace_award SET units = units + 1",
    "marketplace_award SET amount_micros = amount_micros + 1, base_micros = base_micros + 1",

    "marketplace_clearing SET welfare_micros = welfare_micros + 1, bound_micros = bound_micros + 1",
    "marketplace_bundlefile SET body = body || '\\x20'::bytea",
])  # fmt: skip
def test_a_published_result_that_was_changed_behind_its_back_is_found(change: str) -> None:
    clearing = world.window().clearing
    assert verify_published(clearing=clearing) == []

    with behind_the_triggers() as cursor:
        cursor.execute(f"UPDATE {change}")

    assert verify_published(clearing=m.Clearing.objects.get(pk=clearing.pk)) != []
