"""Demand first where it really commits: the race at the boundary, a kill in a release, a clock that opens nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from ledger import faults
from ledger.reconcile import check_books
from ledger.selectors import reserved
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.services import judge_gate
from marketplace.errors import DemandFirst
from marketplace.governance.phases import gate_board
from marketplace.insights.gates import phase_counts
from marketplace.supply.admissions import admit, delivery_month
from tests.crash.test_crash import in_a_child
from tests.journey import world
from tests.marketplace.test_admission import ask, far_window, fund


def test_two_that_fit_alone_are_not_both_let_in(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    fund(far_window())
    asked = [ask("harbour", 80), ask("basalt", 1)]
    both_are_in = threading.Barrier(2, timeout=600)  # only ends what hangs
    outcomes: list[str] = []

    def work(admission: m.Admission) -> None:
        try:
            both_are_in.wait()
            admit(admission=admission, now=clock.now())
            outcomes.append("ADMITTED")
        except DemandFirst as refusal:
            outcomes.append(refusal.code)
        finally:
            connection.close()

    # Whoever is first keeps its lock for a moment: without it the other would look before the first has committed.
    with faults.armed("supply.admit.before_commit", lambda: threading.Event().wait(0.3) and None):
        workers = [threading.Thread(target=work, args=(each,)) for each in asked]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    assert sorted(outcomes) == ["ADMITTED", "demand_first"]
    assert m.Admission.objects.filter(state="ADMITTED", month=delivery_month(far_window())).count() == 1


def test_the_turn_of_the_market_lets_in_by_itself(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    fund(far_window())
    asked = ask("harbour", 80)

    reports = cycle.advance(now=clock.now())

    assert {report.name: report.rows for report in reports}["admit"] == 1
    assert m.Admission.objects.get(pk=asked.pk).state == "ADMITTED"


def test_time_alone_opens_no_phase(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    before = {gate.phase.no: gate.phase.is_open for gate in gate_board(phase_counts())}

    cycle.advance_until_quiet(now=clock.now() + timedelta(days=3650))

    assert {gate.phase.no: gate.phase.is_open for gate in gate_board(phase_counts())} == before
    assert before == {1: True, 2: True, 3: True, 4: False}


# Every place of a release: in the middle of the holds, after the last one, before the window has moved.
PLACES = (
    "demand.release.after_hold", "ledger.post.after", "demand.release.after_states", "clearing.fail.before_commit",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_release_killed_between_two_lines_releases_nothing_by_halves(
    own_world: Callable[[str], str], place: str
) -> None:
    own_world("collecting")
    before = facts()

    with_kill = in_a_child(lambda: fail_killed_at(place))

    assert with_kill == -signal.SIGKILL
    assert facts() == before
    assert [found for found in check_books(now=clock.now()) if not found.ok] == []
    assert judge_gate(window=world.window(), now=world.window().demand_closes_at) == "FAILED"
    assert reserved(code="buyer.available").minor == 0
    assert set(world.window().demands.values_list("state", flat=True)) == {"released", "unfunded"}


def fail_killed_at(place: str) -> None:
    with faults.armed(place, "kill"):
        judge_gate(window=world.window(), now=world.window().demand_closes_at)


def facts() -> tuple[str, int, list[tuple[str, str]]]:
    demands = world.window().demands.order_by("reference").values_list("reference", "state")
    return world.window().state, reserved(code="buyer.available").minor, list(demands)
