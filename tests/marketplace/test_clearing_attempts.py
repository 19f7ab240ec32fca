"""A window that cannot be cleared does not hang: one attempt a turn, three at most, then everybody has their money."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ledger import faults
from ledger.selectors import hold
from marketplace import clock
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import attempt_clearing, close_bidding, judge_gate
from marketplace.errors import CertificateRefused
from marketplace.insights.words import why_it_failed
from pricing.errors import SolverFailed
from tests.journey import world
from tests.journey.refusals import untouched
from tests.owner import unseen

pytestmark = pytest.mark.stage("bidding")
PLACE = "clearing.publish.before_commit"


def closed_window() -> m.Window:
    window = world.window()
    close_bidding(window=window, now=window.bidding_closes_at)
    return window


def later(minutes: int) -> datetime:
    return world.window().bidding_closes_at + timedelta(minutes=minutes)


def next_window() -> m.Window:
    at = [world.day(n) for n in range(60, 64)]
    return open_window(
        name="Third window", slots=30, starts_at=at[3], demand_closes_at=at[0], no_cancel_from=at[1],
        bidding_closes_at=at[2], gate_unit_hours=1, gate_parties=1, now=clock.now(),
    )  # fmt: skip


def refuse() -> None:
    raise CertificateRefused("The verifier does not confirm this clearing: gap.", failed=["gap"])


def test_a_window_that_is_never_certified_fails_after_its_third_attempt_and_gives_every_hold_back() -> None:
    window = closed_window()
    holds = list(window.demands.filter(state="funded").values_list("hold_id", flat=True))

    with faults.armed(PLACE, refuse):
        states = [attempt_clearing(window=window, now=later(minute)) for minute in (1, 2, 3)]

    assert states == ["CLEARING", "CLEARING", "FAILED"]
    assert {hold(id).state for id in holds} == {"void"}
    assert not window.demands.filter(state="funded").exists()
    assert set(window.bids.values_list("state", flat=True)) == {"lost"}
    step = window.transitions.get(to_state="FAILED")
    assert (step.facts["code"], step.facts["attempts"]) == ("certificate_refused", 3)
    assert not m.Clearing.objects.filter(window=window).exists()
    assert [row.code for row in window.clearing_attempts.order_by("number")] == ["certificate_refused"] * 3


def test_everybody_who_took_part_is_told_once_that_the_window_failed() -> None:
    window = closed_window()
    buyers = set(window.demands.filter(state="funded").values_list("party__slug", flat=True))
    sellers = set(window.bids.values_list("party__slug", flat=True))

    with faults.armed(PLACE, refuse):
        for minute in (1, 2, 3, 4):
            attempt_clearing(window=window, now=later(minute))

    told = m.Notice.objects.filter(code="certificate_refused")
    assert sorted(told.values_list("party__slug", flat=True)) == sorted(buyers | sellers)
    assert "available again" in told.filter(party__slug="alder").get().sentence
    assert m.AuditLine.objects.filter(action="refuse_clearing", subject=window.name).count() == 3
    progress = m.Progress.objects.get(job=f"clearing:{window.number}")
    assert (progress.outcome, "attempt 3 of 3" in progress.sentence) == ("failed", True)


def test_a_refusal_that_passes_leaves_a_window_that_is_cleared_by_the_next_attempt() -> None:
    window = closed_window()
    with faults.armed(PLACE, refuse):
        assert attempt_clearing(window=window, now=later(1)) == "CLEARING"
        assert attempt_clearing(window=window, now=later(1)) == "CLEARING"  # the same turn again

    assert attempt_clearing(window=window, now=later(2)) == "CLEARED"

    assert world.window().clearing.awards.count() == 6
    outcomes = list(window.clearing_attempts.order_by("number").values_list("outcome", flat=True))
    assert outcomes == ["refused", "published"]
    assert m.Progress.objects.get(job=f"clearing:{window.number}").outcome == "done"


def test_a_job_of_an_attempt_that_was_made_does_nothing() -> None:
    window = closed_window()
    with faults.armed(PLACE, refuse):
        attempt_clearing(window=window, now=later(1), number=1)

    with untouched():
        assert attempt_clearing(window=window, now=later(2), number=1) == "CLEARING"

    assert attempt_clearing(window=window, now=later(2), number=2) == "CLEARED"


def test_an_attempt_whose_process_died_counts_and_after_the_last_one_the_window_fails() -> None:
    window = closed_window()
    for number in (1, 2):
        m.ClearingAttempt.objects.create(window=window, number=number, began_at=later(number), outcome="refused",
                                         code="process_died")  # fmt: skip
    m.ClearingAttempt.objects.create(window=window, number=3, began_at=later(3))

    assert attempt_clearing(window=window, now=later(4)) == "FAILED"

    assert window.transitions.get(to_state="FAILED").facts["code"] == "process_died"
    assert "process_died" in why_it_failed(world.window())


@pytest.mark.parametrize("error", [SolverFailed("No optimum."), MemoryError("out of memory"), KeyError("x")])
def test_whatever_goes_wrong_in_one_window_holds_up_no_other(error: Exception) -> None:
    window = closed_window()

    def act() -> None:
        raise error

    with faults.armed(PLACE, act):
        assert attempt_clearing(window=window, now=later(1)) == "CLEARING"

    assert window.clearing_attempts.get().code == getattr(error, "code", type(error).__name__)


def test_the_database_s_own_refusal_of_an_award_counts_as_one() -> None:
    window = closed_window()

    def move_a_site() -> None:
        unseen(m.Site.objects.filter(party__slug="harbour"), country="US")

    with faults.armed(PLACE, move_a_site):
        assert attempt_clearing(window=window, now=later(1)) == "CLEARING"

    refusal = window.clearing_attempts.get()
    assert (refusal.code, "award_keeps_residency" in refusal.sentence) == ("IntegrityError", True)


def test_the_buyers_of_a_window_that_missed_its_gate_are_told_too() -> None:
    window = next_window()

    assert judge_gate(window=window, now=window.demand_closes_at) == "FAILED"

    assert not m.Notice.objects.filter(code="gate_not_met").exists()  # nobody had funded anything
    assert "missed the gate" in why_it_failed(window)
