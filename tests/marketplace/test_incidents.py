"""Incidents: a freeze by provider or product keeps bids and awards out, and the clock of 72 hours runs (M-077)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from marketplace import clock
from marketplace import models as m
from marketplace.clearing.services import clear_window, close_bidding
from marketplace.compliance.incidents import close_incident, hours_to_notice, note_notice, open_incident, set_frozen
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import BadInput, Frozen, PastDate, RoleForbidden
from marketplace.parties.services import make_seat
from marketplace.supply.bids import place_bid
from tests.journey import world
from tests.journey.refusals import refused


def incident(**about: object) -> m.Incident:
    now = clock.now()
    return open_incident(**{
        "seat": reviewer_seat(now), "title": "Keys were seen elsewhere", "party": world.party("harbour"),
        "discovered_at": now - timedelta(hours=1), "freeze": True, "reason": "to be looked into", "now": now, **about,
    })  # type: ignore[arg-type]  # fmt: skip


def bid(slug: str = "harbour") -> m.Bid:
    return place_bid(
        party=world.party(slug), node_class=world.node_class(slug), window=world.window(), reference="one more",
        quantity_units=1, start_slot=0, end_slot=1, price_ask_micros=1_600_000, sla_code="99.0", now=clock.now(),
    )  # fmt: skip


def product(**about: object) -> dict[str, object]:
    return {"party": None, "resource_class": m.ResourceClass.objects.get(pk="H100"), **about}


@pytest.mark.stage("bidding")
def test_a_frozen_provider_gets_no_award_and_its_bid_says_why() -> None:
    incident()

    window = world.window()
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    clearing = clear_window(window=window, now=clock.now())

    assert not clearing.awards.filter(bid__party__slug="harbour").exists()
    assert clearing.awards.exists()
    reason = clearing.reasons.get(bid__party__slug="harbour")
    assert (reason.code, reason.detail["rule"]) == ("not_eligible", "frozen")


@pytest.mark.stage("bidding")
@pytest.mark.parametrize(("about", "hit", "spared"), [
    ({"party": "harbour"}, {"harbour"}, {"granite", "prairie"}),
    ({"resource_class": "H100"}, {"harbour", "granite", "prairie"}, {"fjord"}),
    ({"resource_class": "H100", "zone": "EU"}, {"harbour", "granite"}, {"prairie", "fjord"}),
    ({"resource_class": "H100", "zone": "EU", "tier": 2}, {"granite"}, {"harbour", "prairie"}),
])  # fmt: skip
def test_a_product_is_frozen_by_class_zone_and_tier(about: dict[str, object], hit: set[str], spared: set[str]) -> None:
    m.Bid.objects.filter(state="sealed").update(state="withdrawn")
    known = {"party": m.Party, "resource_class": m.ResourceClass, "zone": m.Zone}
    found = {"party": None} | {
        name: world.party(str(value)) if name == "party" else known[name].objects.get(pk=value) if name in known
        else value for name, value in about.items()
    }  # fmt: skip
    row = incident(**found)

    for slug in sorted(hit):
        with refused(Frozen, incident=str(row.pk)):
            bid(slug)
    for slug in sorted(spared):
        assert bid(slug).state == "sealed"


@pytest.mark.stage("bidding")
def test_it_is_thawed_told_of_and_closed_with_its_post_mortem() -> None:
    m.Bid.objects.filter(state="sealed").update(state="withdrawn")
    row, by, now = incident(), reviewer_seat(clock.now()), clock.now()
    assert hours_to_notice(row, row.discovered_at + timedelta(hours=1)) == 71
    assert hours_to_notice(row, row.discovered_at + timedelta(hours=74)) == -2
    end = {"incident": row, "seat": by, "reason": "done", "now": now}

    with refused(BadInput, field="is_frozen"):
        close_incident(post_mortem_url="https://example.org/pm", **end)
    set_frozen(incident=row, seat=by, is_frozen=False, reason="keys were changed", now=now)
    assert bid().state == "sealed"
    note_notice(**end)
    with refused(BadInput, field="post_mortem_url"):
        close_incident(post_mortem_url="javascript:alert(1)", **end)
    close_incident(post_mortem_url="https://example.org/pm", **end)

    with refused(PastDate, field="incident"):
        set_frozen(incident=row, seat=by, is_frozen=True, reason="again", now=now)
    assert list(row.steps.values_list("step", flat=True)) == ["opened", "frozen", "thawed", "notified", "closed"]


@pytest.mark.stage("bidding")
def test_who_may_not_freeze_does_not_and_an_incident_is_about_something() -> None:
    quoting = make_seat(party=world.party("foundation"), email="mm@grove.example", password=None, role="market_maker",
                        now=clock.now())  # fmt: skip

    with refused(RoleForbidden, role="market_maker"):
        incident(seat=quoting)
    with refused(BadInput, field="party"):
        incident(party=None)
    with refused(BadInput, field="resource_class"):
        incident(tier=1)
    with refused(BadInput, field="discovered_at"):
        incident(discovered_at=clock.now() + timedelta(hours=1))
    with refused(BadInput, field="reason"):
        incident(reason="")

    assert incident(**product()).is_frozen
