"""The console previews a clearing of a frozen copy; what it cannot clear it says, and sealed bids stay sealed."""

from __future__ import annotations

from marketplace import models as m
from tests.sealed import reseal

PATH = "/console/preview/"


def test_a_preview_shows_prices_losers_and_the_hash_and_is_on_the_trail(market, staff):
    page = staff.post(PATH, {"window": market.collecting.name}).content.decode()

    line = m.AuditLine.objects.get(action="preview_clearing")
    assert line.facts["input_hash"] in page
    assert "reference, not a quote" in page
    assert line.actor == "staff@console.example"


def test_a_preview_of_a_window_with_sealed_bids_knows_none_of_them(market, staff):
    before = staff.post(PATH, {"window": market.bidding.name}).content.decode()
    for bid in m.Bid.objects.filter(window=market.bidding):
        reseal(bid, price_ask_micros=777_700, quantity_units=31_337)

    after = staff.post(PATH, {"window": market.bidding.name}).content.decode()

    assert market.bidding.name in after
    assert "31,337" not in after
    assert facts_of(before) == facts_of(after)


def facts_of(page: str) -> str:
    return page[page.index("What it came to") : page.index("</table>", page.index("What it came to"))]


def test_looking_at_the_page_clears_nothing_and_an_unknown_window_is_not_found(market, staff):
    assert staff.get(PATH).status_code == 200
    assert staff.post(PATH, {"window": "no such"}).status_code == 404
    assert staff.post(PATH, {"window": market.settled.name}).status_code == 404
    assert not m.AuditLine.objects.filter(action="preview_clearing").exists()


def test_the_control_room_names_attempts_that_were_refused_and_caps_that_bound(market, staff):
    m.ClearingAttempt.objects.create(
        window=market.bidding, number=1, outcome="refused", code="certificate_refused", sentence="It differs.",
        began_at=market.bidding.opened_at, ended_at=market.bidding.opened_at,
    )  # fmt: skip

    page = staff.get("/console/").content.decode()

    assert "certificate_refused" in page
    assert "cap bound" in page
    assert "2,410" in page
