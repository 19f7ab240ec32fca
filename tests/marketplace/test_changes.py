"""A provider changes its sites and node classes: what stays, what is void at once, what waits, and what is undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.jurisdictions import index_of
from ledger.models import ChainIntent
from marketplace import clock
from marketplace import models as m
from marketplace.compliance.catalogue import TIERS
from marketplace.compliance.evidence import review_evidence, submit_evidence
from marketplace.compliance.holdings import Holdings, Span
from marketplace.compliance.papers import Paper
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import (
    BadInput,
    CapacityPromised,
    NotYours,
    ProofRefused,
    QuantityOutOfRange,
    RoleForbidden,
    TierNotForKind,
    UnknownName,
    WrongStanding,
)
from marketplace.parties.services import make_seat
from marketplace.supply.admissions import admit_waiting, ask_admission, leave_waitlist
from marketplace.supply.changes import (
    as_of,
    bring_back,
    edit_node_class,
    edit_site,
    foresee,
    is_undoable,
    renew_attestations,
    retire,
    undo_change,
)
from marketplace.supply.rolls import call_the_roll
from marketplace.supply.standing import readmit
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import unseen

MOVE = {"country": "US", "lat": 40.7, "lon": -74.0}


def change(code: str, **wanted: Any) -> m.SupplyChange | None:
    facts = {"reason": "as it is now", "now": clock.now()}
    if set(wanted) <= {"claimed_name", "units", "tier", "resource_class", "seat", "reason"}:
        return edit_node_class(party=world.party(code), node_class=world.node_class(code), **facts | wanted)
    return edit_site(party=world.party(code), site=world.node_class(code).site, **facts | wanted)


def tier_now(code: str) -> int:
    node_class = world.node_class(code)
    return Holdings([node_class.party_id], Span.instant(clock.now())).tier_of(node_class)


def proves_control(code: str) -> bool:
    site = world.node_class(code).site
    return Holdings([site.party_id], Span.instant(clock.now())).proves_control(site, site.party)


def show_anew(code: str, tier: int) -> None:
    """Hand in for the site, and have accepted, whatever a tier asks for."""
    site, now = world.node_class(code).site, clock.now()
    seat = make_seat(party=site.party, email="papers@anew.example", password=None, role="compliance", now=now)
    for control in (each for level in range(tier + 1) for each in TIERS[level]):
        paper = Paper(f"{control}.txt", b"shown anew", now, world.day(300))
        row = submit_evidence(seat=seat, control_code=control, paper=paper, issuer="I", site_id=site.pk, now=now)
        review_evidence(evidence=row, seat=reviewer_seat(now), is_accepted=True, reason="looked at", now=now)


@pytest.mark.stage("founded")
def test_a_move_drops_evidence_proof_and_round_trips_at_once_with_before_and_after_on_the_trail() -> None:
    assert (tier_now("granite"), world.node_class("granite").standing.state) == (2, "PROVEN")
    before = clock.now()

    row = change("granite", **MOVE)

    assert row is not None
    assert (row.before["country"], row.after["country"]) == ("DE", "US")
    assert row.voids == ["evidence", "round_trips", "proof"]
    assert (tier_now("granite"), world.node_class("granite").standing.state) == (0, "SUSPENDED")
    assert not world.node_class("granite").site.latencies.exists()
    line = m.AuditLine.objects.get(action="change_supply")
    assert (line.facts["before"]["country"], line.facts["after"]["country"]) == ("DE", "US")
    assert as_of(world.node_class("granite").site, before)["country"] == "DE"

    show_anew("granite", 2)
    assert tier_now("granite") == 2  # shown anew
    with refused(ProofRefused):
        readmit(node_class=world.node_class("granite"), actor="judge", reason="asked", now=clock.now())


@pytest.mark.stage("delivering")
def test_what_bids_and_leases_stand_on_does_not_move_and_the_truth_about_control_is_never_refused() -> None:
    for wanted in (MOVE, {"city": "Elsewhere"}, {"units": 2}, {"tier": 0}, {"resource_class": "A100"}):
        with refused(CapacityPromised):
            change("harbour", **wanted)
    with refused(CapacityPromised):
        retire(party=world.party("harbour"), thing=world.node_class("harbour"), reason="sold", now=clock.now())
    assert proves_control("harbour")

    row = change("harbour", operator_country="US")

    assert row is not None
    assert row.voids == ["legal_control"]
    assert not proves_control("harbour")
    assert world.node_class("harbour").standing.state == "PROVEN"  # who operates it is no matter of performance
    assert change("harbour", claimed_name="our best") is not None


@pytest.mark.stage("founded")
def test_other_machines_prove_themselves_and_fewer_of_the_same_do_not() -> None:
    assert change("granite", units=6).voids == []  # type: ignore[union-attr]
    assert world.node_class("granite").standing.state == "PROVEN"
    assert change("granite", units=9).voids == ["proof"]  # type: ignore[union-attr]
    assert world.node_class("granite").standing.state == "SUSPENDED"

    assert change("basalt", resource_class="A100").voids == ["proof"]  # type: ignore[union-attr]
    assert world.node_class("basalt").standing.state == "REGISTERED"
    assert change("basalt", resource_class="A100") is None  # as it is


@pytest.mark.stage("founded")
def test_a_value_that_cannot_be_is_refused_with_its_field_and_nothing_changes() -> None:
    for wanted, kind, field in (
        ({"country": "Germany"}, BadInput, "country"), ({"lat": 91}, BadInput, "lat"),
        ({"lon": float("nan")}, BadInput, "lon"), ({"city": " "}, BadInput, "city"),
        ({"code": "new"}, BadInput, "code"), ({"keys_country": ""}, BadInput, "keys_country"),
    ):  # fmt: skip
        with refused(kind, field=field):
            edit_site(party=world.party("granite"), site=world.node_class("granite").site, reason="r",
                      now=clock.now(), **wanted)  # fmt: skip
    for wanted, kind, field in (
        ({"units": 0}, QuantityOutOfRange, "quantity_units"), ({"tier": 4}, BadInput, "tier"),
        ({"resource_class": "abacus"}, UnknownName, "resource_class"), ({"site": "x"}, BadInput, "site"),
    ):  # fmt: skip
        with refused(kind, field=field):
            edit_node_class(party=world.party("granite"), node_class=world.node_class("granite"), reason="r",
                            now=clock.now(), **wanted)  # fmt: skip
    with refused(BadInput, field="reason"):
        change("granite", units=6, reason="")
    with refused(NotYours):
        edit_site(party=world.party("harbour"), site=world.node_class("granite").site, reason="mine", city="B",
                  now=clock.now())  # fmt: skip
    unseen(m.KindLimit.objects.filter(pk=world.party("granite").kind), tier_max=2)
    with refused(TierNotForKind):
        change("granite", tier=3)


@pytest.mark.stage("founded")
def test_only_a_seat_that_operates_changes_machines() -> None:
    finance = make_seat(party=world.party("granite"), email="f@granite.example", password=None, role="finance",
                        now=clock.now())  # fmt: skip
    with refused(RoleForbidden):
        change("granite", units=6, seat=finance)
    operator = make_seat(party=world.party("granite"), email="o@granite.example", password=None, role="operator",
                         now=clock.now())  # fmt: skip
    assert change("granite", units=6, seat=operator).actor == "o@granite.example"  # type: ignore[union-attr]


@pytest.mark.stage("founded")
def test_a_mistyped_move_is_taken_back_with_its_evidence_and_round_trips_but_not_its_proof() -> None:
    site = world.node_class("granite").site
    before = list(site.latencies.values_list("vantage_id", "rtt_ms_p95", "method"))
    row = change("granite", **MOVE)
    assert row is not None

    undone = undo_change(party=world.party("granite"), change=row, reason="typed wrongly", now=clock.now())

    assert undo_change(party=world.party("granite"), change=row, reason="again", now=clock.now()) == undone
    site.refresh_from_db()
    assert (site.country, site.moved_at) == ("DE", None)
    assert list(site.latencies.values_list("vantage_id", "rtt_ms_p95", "method")) == before
    assert (tier_now("granite"), world.node_class("granite").standing.state) == (2, "SUSPENDED")
    with refused(WrongStanding):
        undo_change(party=world.party("granite"), change=undone, reason="once more", now=clock.now())


@pytest.mark.stage("founded")
def test_a_change_is_not_taken_back_late_nor_under_what_followed_it() -> None:
    first, second = change("granite", city="Ulm"), change("granite", city="Bonn")
    assert first is not None
    assert second is not None
    terms = {"party": world.party("granite"), "reason": "r", "now": clock.now()}
    with refused(WrongStanding):
        undo_change(change=first, **terms)
    with refused(WrongStanding):
        undo_change(change=second, **terms | {"now": clock.now() + timedelta(days=7)})
    with refused(NotYours):
        undo_change(change=second, **terms | {"party": world.party("harbour")})
    moved = change("granite", **MOVE)
    assert moved is not None
    show_anew("granite", 2)
    with refused(WrongStanding):
        undo_change(change=moved, **terms)


@pytest.mark.stage("founded")
def test_fewer_units_are_not_taken_back_once_a_roll_found_so_many() -> None:
    """Or one machine would answer for one unit, and the proof be that of eight."""
    terms = {"party": world.party("granite"), "reason": "counted wrongly", "now": clock.now()}
    fewer = change("granite", units=1)
    assert fewer is not None
    undo_change(change=fewer, **terms)
    assert world.node_class("granite").units > 1
    again = change("granite", units=1)
    assert again is not None
    call_the_roll(party=world.party("granite"), now=clock.now())

    with refused(WrongStanding):
        undo_change(change=again, **terms)
    assert not is_undoable(world.node_class("granite"), again, clock.now())


@pytest.mark.stage("founded")
def test_a_class_retires_gives_back_its_place_and_comes_back_unproven_after_its_site() -> None:
    granite, node_class = world.party("granite"), world.node_class("granite")
    now = clock.now()
    month = now.date().replace(day=1)
    waiting = ask_admission(party=granite, node_class=node_class, month=month, unit_hours=5, now=now)
    facts = {"party": granite, "reason": "end of lease", "now": now}
    with refused(CapacityPromised):
        retire(thing=node_class.site, **facts)

    row = retire(thing=node_class, **facts)

    with untouched():
        assert retire(thing=node_class, **facts) == row
    waiting.refresh_from_db()
    assert (waiting.state, world.node_class("granite").standing.state) == ("WITHDRAWN", "SUSPENDED")
    with refused(WrongStanding):
        change("granite", units=3)
    with refused(WrongStanding):
        undo_change(party=granite, change=row, reason="r", now=clock.now())
    retire(thing=node_class.site, **facts)
    with refused(WrongStanding):
        bring_back(thing=node_class, **facts)
    bring_back(thing=node_class.site, **facts)
    back = bring_back(thing=node_class, **facts)
    assert bring_back(thing=node_class, **facts) == back
    assert world.node_class("granite").retired_at is None
    with refused(WrongStanding):
        bring_back(thing=world.node_class("harbour"), **facts | {"party": world.party("harbour")})


@pytest.mark.stage("bidding")
def test_what_was_let_in_is_given_back_only_while_no_bid_stands_on_it() -> None:
    harbour = m.Admission.objects.filter(node_class=world.node_class("harbour"), state="ADMITTED").first()
    assert harbour is not None
    with refused(CapacityPromised):
        leave_waitlist(admission=harbour, party=world.party("harbour"), now=clock.now())
    sprout = world.node_class("sprout")
    asked = ask_admission(party=world.party("sprout"), node_class=sprout, month=harbour.month, unit_hours=1,
                          now=clock.now())  # fmt: skip
    with refused(CapacityPromised, requests=1):
        change("sprout", tier=0)
    leave_waitlist(admission=asked, party=world.party("sprout"), now=clock.now())
    assert change("sprout", tier=0) is not None
    assert admit_waiting(now=clock.now()) == 0


@pytest.mark.stage("founded")
def test_the_contract_learns_once_what_changed() -> None:
    change("harbour", keys_country="US")
    asked = ChainIntent.objects.filter(key__startswith=f"attest:{world.node_class('harbour').chain_class}:")
    before = asked.count()

    assert renew_attestations(now=clock.now()) == 1
    assert renew_attestations(now=clock.now()) == 0

    assert asked.count() == before + 1
    first, last = (bytes(row.calldata).hex() for row in (asked.order_by("id").first(), asked.order_by("id").last()))
    keys = 4 + 5 * 32  # selector, then the sixth word of the struct
    assert int(last[2 * keys : 2 * keys + 64], 16) == index_of("US") != int(first[2 * keys : 2 * keys + 64], 16)
    nonce = 4 + 9 * 32
    assert int(last[2 * nonce : 2 * nonce + 64], 16) > int(first[2 * nonce : 2 * nonce + 64], 16)


def test_what_an_edit_would_do_is_told_and_nothing_is_written() -> None:
    site = m.Site(city="Ulm", country="DE", lat=48.4, lon=10.0, operator_country="DE", keys_country="DE")
    foreseen = foresee(site, {"country": "FR", "city": "Ulm", "keys_country": "FR"})

    assert foreseen.after == {"country": "FR", "keys_country": "FR"}
    assert foreseen.voids == ["evidence", "round_trips", "proof", "legal_control"]
    assert len(foreseen.sentences) == 4
