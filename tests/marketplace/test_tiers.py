"""Tiers by evidence: two persons, an end that counts at once, kinds that may not hold one (M-069, M-074, M-066)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import clock
from marketplace import models as m
from marketplace.clearing.books import build_book, make_window_book
from marketplace.clearing.services import clear_window, close_bidding, judge_gate
from marketplace.compliance.catalogue import TIERS
from marketplace.compliance.evidence import end_evidence, read_document, review_evidence, submit_evidence
from marketplace.compliance.holdings import Holdings, Span
from marketplace.compliance.papers import Paper
from marketplace.demand.services import post_demand
from marketplace.demo.papers import reviewer_seat
from marketplace.errors import (
    BadInput,
    DataRefused,
    ExpiredEvidence,
    NotYours,
    RoleForbidden,
    SamePerson,
    TierNotForKind,
    UnknownName,
)
from marketplace.parties.services import make_seat, register_party
from marketplace.supply.services import enrol_node_class, register_site
from pricing.eligibility import match_lines
from tests.journey import world
from tests.journey.refusals import refused
from tests.owner import behind_the_triggers


def seat(slug: str, role: str = "compliance", who: str = "") -> m.Seat:
    party = world.party(slug) if m.Party.objects.filter(slug=slug).exists() else register_party(
        slug=slug, name=slug, kind="foundation", country="CH", parent_country="CH", now=clock.now())  # fmt: skip
    return make_seat(party=party, email=f"{who or role}@{slug}.example", password=None, role=role, now=clock.now())


def paper(until: datetime | None = None, **changes: object) -> Paper:
    now = clock.now()
    return Paper(**{"file_name": "soc.pdf", "body": b"%PDF", "valid_from": now, "valid_until": until or
                    now + timedelta(days=90)} | changes)  # type: ignore[arg-type]  # fmt: skip


def hand_in(control: str, until: datetime | None = None, slug: str = "harbour") -> m.Evidence:
    return submit_evidence(seat=seat(slug), control_code=control, paper=paper(until), issuer="An auditor",
                           now=clock.now())  # fmt: skip


def accept(evidence: m.Evidence) -> m.EvidenceReview:
    return review_evidence(evidence=evidence, seat=reviewer_seat(clock.now()), is_accepted=True, reason="looked at",
                           now=clock.now())  # fmt: skip


def tier(slug: str, at: datetime | None = None) -> int:
    """The same question to Python and to the database; they must agree."""
    node_class, at = world.node_class(slug), at or clock.now()
    here = Holdings([node_class.party_id], Span.instant(at)).tier(node_class.site, node_class.party)
    span = Holdings([node_class.party_id], Span(at, at + timedelta(hours=1)))
    with connection.cursor() as cursor:
        cursor.execute("SELECT marketplace_tier_held(%s, %s, %s)", [node_class.site_id, at, at + timedelta(hours=1)])
        assert cursor.fetchone()[0] == span.tier(node_class.site, node_class.party)
    return here


@pytest.mark.stage("collecting")
def test_a_tier_is_reached_when_a_second_person_has_accepted_the_last_of_its_controls() -> None:
    assert tier("harbour") == 1
    *most, last = TIERS[2]
    for control in most:
        accept(hand_in(control))
    waiting = hand_in(last)
    operator = seat("harbour", "operator")
    assert tier("harbour") == 1  # handed in is not accepted

    with refused(RoleForbidden):
        review_evidence(evidence=waiting, seat=operator, is_accepted=True, reason="r", now=clock.now())
    accept(waiting)

    assert tier("harbour") == 2


@pytest.mark.stage("collecting")
def test_whoever_hands_evidence_in_does_not_review_it() -> None:
    evidence = hand_in("pci-scope")
    m.Seat.objects.filter(pk=evidence.seat_id).update(party=world.party("foundation"), role="operations")
    both = m.Seat.objects.select_related("party", "user").get(pk=evidence.seat_id)

    with refused(SamePerson):
        review_evidence(evidence=evidence, seat=both, is_accepted=True, reason="mine", now=clock.now())

    assert accept(evidence).is_accepted
    with refused(BadInput, field="is_accepted"):
        review_evidence(evidence=evidence, seat=reviewer_seat(clock.now()), is_accepted=False, reason="again",
                        now=clock.now())  # fmt: skip


@pytest.mark.stage("collecting")
def test_a_document_that_ran_out_while_it_waited_is_not_accepted_any_more_and_may_be_refused() -> None:
    late, just = hand_in("pci-scope"), hand_in("attested-hardware")

    with refused(ExpiredEvidence, field="valid_until"):
        review_evidence(evidence=late, seat=reviewer_seat(clock.now()), is_accepted=True, reason="late",
                        now=late.valid_until)  # fmt: skip
    told = review_evidence(evidence=late, seat=reviewer_seat(clock.now()), is_accepted=False, reason="it ran out",
                           now=late.valid_until)  # fmt: skip
    assert not told.is_accepted
    in_time = just.valid_until - timedelta(microseconds=1)
    assert review_evidence(evidence=just, seat=reviewer_seat(clock.now()), is_accepted=True, reason="in time",
                           now=in_time).is_accepted  # fmt: skip


@pytest.mark.stage("collecting")
def test_the_end_of_one_document_takes_the_tier_at_once() -> None:
    granite = m.Evidence.objects.get(party__slug="granite", control_id="iso-27001")
    last_moment = granite.valid_until - timedelta(microseconds=1)
    assert (tier("granite"), tier("granite", last_moment), tier("granite", granite.valid_until)) == (2, 2, 0)

    end_evidence(evidence=granite, seat=seat("granite"), reason="withdrawn by its issuer", now=clock.now())

    assert tier("granite") == 1


@pytest.mark.stage("bidding")
def test_evidence_that_ends_inside_the_window_loses_the_award_and_the_tier_of_the_book() -> None:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    tiers = {bid.attributes.tier for bid in build_book(window=window)[0].bids}
    assert 2 in tiers
    row = m.Evidence.objects.get(party__slug="granite", control_id="iso-27001")
    end_evidence(evidence=row, seat=seat("granite"), reason="lapsed", now=clock.now())

    clearing = clear_window(window=window, now=clock.now())

    genome = clearing.reasons.get(demand__reference="genome")
    assert (genome.code, genome.detail["rule"]) == ("no_compliant_capacity", "tier")
    assert not clearing.awards.filter(demand__reference="genome").exists()
    assert clearing.awards.filter(demand__reference="climate").exists()


@pytest.mark.stage("collecting")
@pytest.mark.parametrize(("changes", "error", "field"), [
    ({"valid_until": datetime.fromisoformat("2001-01-01T00:00:00Z"),
      "valid_from": datetime.fromisoformat("2000-01-01T00:00:00Z")}, ExpiredEvidence, "valid_until"),
    ({"valid_until": datetime.fromisoformat("2001-01-01T00:00:00Z")}, ExpiredEvidence, "valid_until"),
    ({"body": b""}, BadInput, "file"),
    ({"body": bytes(4 * 2**20 + 1)}, BadInput, "file"),
    ({"file_name": ""}, BadInput, "file_name"),
])  # fmt: skip
def test_a_document_that_cannot_hold_is_not_stored(
    changes: dict[str, object], error: type[Exception], field: str
) -> None:
    who = seat("harbour")

    with refused(error, field=field):
        submit_evidence(seat=who, control_code="pci-scope", paper=paper(**changes), issuer="i", now=clock.now())

    assert submit_evidence(seat=who, control_code="pci-scope", paper=paper(), issuer="i", now=clock.now())


@pytest.mark.stage("collecting")
def test_evidence_names_what_is_there_and_is_handed_in_by_who_may() -> None:
    who, operator = seat("harbour"), seat("harbour", "operator")
    send = {"paper": paper(), "issuer": "i", "now": clock.now()}

    with refused(UnknownName, field="control_code"):
        submit_evidence(seat=who, control_code="good-will", **send)
    with refused(BadInput, field="control_code"):
        submit_evidence(seat=who, control_code="baa", **send)
    with refused(BadInput, field="country"):
        submit_evidence(seat=who, control_code="key-custody", **send)
    with refused(NotYours):
        submit_evidence(seat=who, control_code="pci-scope", site_id=world.node_class("granite").site_id, **send)
    with refused(RoleForbidden):
        submit_evidence(seat=operator, control_code="pci-scope", **send)
    assert submit_evidence(seat=who, control_code="key-custody", country="FR", **send).country == "FR"


@pytest.mark.stage("collecting")
def test_a_document_is_read_by_its_party_and_reviewers_and_the_trail_says_who() -> None:
    evidence, stranger = hand_in("pci-scope"), seat("alder", "owner")

    assert read_document(evidence=evidence, seat=reviewer_seat(clock.now()), now=clock.now()) == b"%PDF"
    with refused(RoleForbidden):
        read_document(evidence=evidence, seat=stranger, now=clock.now())

    line = m.AuditLine.objects.filter(action="saw_evidence").latest("no")
    assert (line.actor, line.subject) == ("reviewer@grove.example", str(evidence.pk))


@pytest.mark.stage("collecting")
def test_a_prosumer_holds_no_tier_although_its_phase_is_open() -> None:
    now = clock.now()
    with behind_the_triggers():  # as if phase 4 had come
        m.Flag.objects.filter(name="prosumer_parties").update(is_on=True)
    home = register_party(slug="home", name="Home", kind="prosumer", country="DE", parent_country="DE", now=now)
    site = register_site(party=home, code="home", city="B", country="DE", operator_country="DE", keys_country="DE",
                         lat=1.0, lon=1.0, rtt_ms_p95={}, now=now)  # fmt: skip
    machines = {"party": home, "site": site, "resource_class_code": "H100", "units": 1, "claimed_name": "c", "now": now}

    with refused(TierNotForKind, field="tier", tier_max=0):
        enrol_node_class(tier=2, **machines)
    row = enrol_node_class(tier=0, **machines)

    with pytest.raises(IntegrityError, match="node_class_tier_suits_its_kind"), transaction.atomic():
        m.NodeClass.objects.filter(pk=row.pk).update(tier=2)


@pytest.mark.stage("bidding")
def test_a_t2_demand_with_prosumer_supply_alone_is_awarded_nothing_although_every_control_is_shown() -> None:
    """The same machines, controls and bids, of owners of another kind: what asks for no tier is still served."""
    with behind_the_triggers():  # as if phase 4 had come
        m.Party.objects.filter(kind="university").update(kind="prosumer")
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)

    clearing = clear_window(window=window, now=clock.now())

    assert not clearing.awards.filter(demand__tier_min__gte=1).exists()
    genome = clearing.reasons.get(demand__reference="genome")
    assert (genome.code, genome.detail["rule"]) == ("no_compliant_capacity", "tier")
    assert clearing.awards.filter(demand__reference="climate").exists()
    granite = world.node_class("granite")
    assert Holdings({granite.party_id}, Span.instant(clock.now())).missing(granite.site, 2) == []


@pytest.mark.stage("collecting")
def test_data_lifts_the_tier_and_classified_work_is_refused() -> None:
    order = {
        "party": world.party("alder"), "window": world.window(), "kind": "divisible", "accepted_classes": ["H100"],
        "quantity_units": 1, "start_slot": 0, "end_slot": 1, "price_limit_micros": 100, "sla_code": "99.0",
        "now": clock.now(),
    }  # fmt: skip

    assert post_demand(reference="cards", data_class="payment-card", **order).tier_min == 2
    with refused(DataRefused, field="data_class"):
        post_demand(reference="secret", data_class="classified", **order)
    with refused(BadInput, field="purpose"):
        post_demand(reference="scan", data_class="regulated-health", **order)
    with refused(UnknownName, field="required_controls"):
        post_demand(reference="wish", required_controls=["good-will"], **order)


@pytest.mark.stage("collecting")
def test_a_new_attribute_needs_no_code() -> None:
    """M-066: a row in the catalogue, evidence, and a demand that asks for it."""
    m.Control.objects.create(code="cleared-staff", name="Cleared staff", kind="attribute", asks="list", source="house")
    demand = post_demand(
        party=world.party("alder"), window=world.window(), kind="divisible", accepted_classes=["H100"],
        quantity_units=1, start_slot=0, end_slot=1, price_limit_micros=3_000_000, sla_code="99.0", reference="cleared",
        required_controls=["cleared-staff"], now=clock.now(),
    )  # fmt: skip
    accept(hand_in("cleared-staff"))

    m.Window.objects.filter(name=world.MAIN).update(gate_unit_hours=1, gate_parties=1)
    judge_gate(window=world.window(), now=clock.move_to(world.window().demand_closes_at))
    world._bid(world.window(), world.OFFERS)
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    bids = list(m.Bid.objects.filter(window=window).select_related(
        "party__parent", "node_class__site__party", "node_class__standing", "sla"))  # fmt: skip
    row = m.Demand.objects.select_related("party", "zone", "control_zone", "sla", "data_class").get(pk=demand.pk)
    book, lines = make_window_book(window, [row], bids)
    found = match_lines(book)

    mask = found.accepts[found.mask_of_demand[0]]
    fit = [lines.bids[b].party.slug for j, b in enumerate(book.bids.ids) if mask[found.signature_of_bid[j]]]
    assert fit == ["harbour"]
