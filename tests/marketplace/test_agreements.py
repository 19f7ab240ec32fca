"""Business associate agreements gate award and renewal, and their end winds a lease down (M-064)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import clear_window, close_bidding
from marketplace.compliance.agreements import end_agreement, propose_agreement, sign_agreement
from marketplace.compliance.papers import Paper
from marketplace.errors import BadInput, ExpiredEvidence, NotYours, Overlapping, RoleForbidden, WrongSignatory
from marketplace.oversight.winddowns import watch_papers
from marketplace.parties.services import make_seat
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.owner import behind_the_triggers


def seat(slug: str, role: str = "owner") -> m.Seat:
    return make_seat(party=world.party(slug), email=f"{role}@{slug}.example", password=None, role=role, now=clock.now())


def propose(until: datetime | None = None, purposes: tuple[str, ...] = ("research",), start: datetime | None = None,
            control: str = "baa") -> m.Agreement:  # fmt: skip
    now = clock.now()
    paper = Paper("baa.pdf", b"%PDF", start or now, until or now + timedelta(days=200))
    return propose_agreement(seat=seat("alder"), other=world.party("granite"), control_code=control, paper=paper,
                             purposes=purposes, now=now)  # fmt: skip


def sign(agreement: m.Agreement, *slugs: str) -> None:
    for slug in slugs:
        sign_agreement(agreement=agreement, seat=seat(slug), title="Director", now=clock.now())


def cleared(agreement: m.Agreement | None = None) -> m.Clearing:
    """The main window cleared, with alder's genome demand as regulated health data for research."""
    with behind_the_triggers():
        m.Demand.objects.filter(reference="genome").update(data_class_id="regulated-health", purpose="research")
    window = world.window()
    close_bidding(window=window, now=clock.move_to(window.bidding_closes_at))
    return clear_window(window=window, now=clock.now())


def rule_of_genome(clearing: m.Clearing) -> str | None:
    reason = clearing.reasons.filter(demand__reference="genome").first()
    return reason.detail.get("rule") if reason else None


@pytest.mark.stage("bidding")
def test_without_an_agreement_of_both_there_is_no_award_and_the_reason_says_so() -> None:
    sign(propose(), "alder")  # one signature is none

    clearing = cleared()

    assert rule_of_genome(clearing) == "papers"
    assert not clearing.awards.filter(demand__reference="genome").exists()


@pytest.mark.stage("bidding")
def test_with_both_signatures_the_demand_is_served_where_they_signed() -> None:
    sign(propose(), "alder", "granite")

    clearing = cleared()

    served = set(clearing.awards.filter(demand__reference="genome").values_list("bid__party__slug", flat=True))
    assert served == {"granite"}


@pytest.mark.stage("bidding")
@pytest.mark.parametrize("lack", ["purpose", "ended", "runs out inside the window"])
def test_an_agreement_counts_for_its_purposes_and_through_the_whole_window(lack: str) -> None:
    window = world.window()
    agreement = propose(
        purposes=("payment",) if lack == "purpose" else ("research", "payment"),
        until=window.ends_at - timedelta(hours=1) if lack.startswith("runs") else None,
    )
    sign(agreement, "alder", "granite")
    if lack == "ended":
        end_agreement(agreement=agreement, seat=seat("granite"), reason="moved away", now=clock.now())

    assert rule_of_genome(cleared()) == "papers"


@pytest.mark.stage("delivering")
def test_an_agreement_that_ends_mid_lease_starts_a_wind_down_and_tells_both() -> None:
    agreement = propose()
    sign(agreement, "alder", "granite")
    with behind_the_triggers():
        m.Demand.objects.filter(reference="genome").update(data_class_id="regulated-health", purpose="research")
    now = clock.move_to(world.window().starts_at + timedelta(hours=2))
    with untouched():
        assert watch_papers(now=now) == 0
    end_agreement(agreement=agreement, seat=seat("alder"), reason="moved away", now=now)

    assert watch_papers(now=now) == 1
    assert watch_papers(now=now) == 0
    assert ("watch papers", watch_papers) in cycle.MARKET_STEPS  # every turn asks

    found = m.WindDown.objects.get()
    assert (found.lease.demand.reference, found.cause) == ("genome", "agreement")
    told = m.Notice.objects.filter(code="wind_down").values_list("party__slug", flat=True)
    assert set(told) == {"alder", "granite"}
    assert found.lease.state == "locked"  # what runs is brought to an end, not cut off


@pytest.mark.stage("collecting")
def test_who_may_not_sign_does_not() -> None:
    agreement, stranger = propose(), seat("birch")
    clerks = [seat("alder", "finance"), seat("granite", "operator")]

    with refused(WrongSignatory, field="seat"):
        sign_agreement(agreement=agreement, seat=stranger, title="t", now=clock.now())
    for clerk in clerks:
        with refused(WrongSignatory, role=clerk.role):
            sign_agreement(agreement=agreement, seat=clerk, title="t", now=clock.now())
    with refused(NotYours):
        end_agreement(agreement=agreement, seat=stranger, reason="r", now=clock.now())

    sign(agreement, "alder", "granite")
    assert agreement.signatures.count() == 2


@pytest.mark.stage("collecting")
def test_an_agreement_that_makes_no_sense_is_not_kept() -> None:
    now, owner, clerk = clock.now(), seat("alder"), seat("alder", "finance")
    paper = Paper("baa.pdf", b"%PDF", now, now + timedelta(days=9))

    with refused(ExpiredEvidence, field="valid_until"):
        propose(until=now, start=now - timedelta(days=1))
    with refused(BadInput, field="purposes"):
        propose(purposes=())
    with refused(BadInput, field="control_code"):
        propose(control="iso-27001")
    with refused(BadInput, field="other"):
        propose_agreement(seat=owner, other=world.party("birch"), control_code="baa", purposes=["research"],
                          paper=paper, now=now)  # fmt: skip
    with refused(RoleForbidden):
        propose_agreement(seat=clerk, other=world.party("granite"), control_code="baa",
                          purposes=["research"], paper=paper, now=now)  # fmt: skip
    propose()
    with refused(Overlapping, field="valid_from"):
        propose()
