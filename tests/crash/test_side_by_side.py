"""Two windows are cleared at the same time by two processes; one that is killed leaves the other alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from ledger import faults
from ledger.models import Outbox
from ledger.rails import evm
from ledger.tasks import drain
from marketplace import clock, cycle, tasks  # noqa: F401  the handlers of the jobs
from marketplace import models as m
from marketplace.catalogue.services import open_window
from marketplace.clearing.services import (
    JOB,
    attempt_clearing,
    close_bidding,
    hand_out_clearing,
    only_clearer,
    verify_published,
)
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.supply.bids import place_bid
from tests.crash.test_crash import forked, in_a_child
from tests.journey import world

PLACE = "clearing.publish.before_commit"
SECOND = "Second window"


def two_closed_windows() -> list[m.Window]:
    """The main window and another one, both in CLEARING, each with one demand and one bid at least."""
    main, owner = world.window(), world.party("cedar")
    second = open_window(
        name=SECOND, slots=main.slots, starts_at=main.starts_at, demand_closes_at=main.demand_closes_at,
        no_cancel_from=main.no_cancel_from, bidding_closes_at=main.bidding_closes_at, gate_unit_hours=1,
        gate_parties=1, salt=SECOND, now=clock.now(),
    )  # fmt: skip
    withdraw_demand(demand=world.demand("bargain"), party=owner, now=clock.now())
    demand = post_demand(
        party=owner, window=second, reference="other", kind="block", accepted_classes=["H100"], quantity_units=2,
        start_slot=0, end_slot=10, price_limit_micros=2_000_000, sla_code="99.0", zone_code="US", now=clock.now(),
    )  # fmt: skip
    fund_demand(demand=demand, party=owner, now=clock.now())
    m.Window.objects.filter(pk=main.pk).update(gate_unit_hours=1, gate_parties=1)
    cycle.advance(now=clock.move_to(main.demand_closes_at))
    world.let_in("prairie", main, 2 * 16 * 30)
    for window in (main, second):
        place_bid(
            party=world.party("prairie"), node_class=world.node_class("prairie"), window=window,
            reference=f"prairie {window.name}", quantity_units=16, start_slot=0, end_slot=30, price_ask_micros=400_000,
            sla_code="99.0", now=clock.now(),
        )  # fmt: skip
    now = clock.move_to(main.bidding_closes_at)
    for window in (main, second):
        assert close_bidding(window=window, now=now) == "CLEARING"
    return [world.window(), world.window(SECOND)]


def test_two_windows_are_cleared_at_the_same_time_and_none_of_them_twice(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    windows = two_closed_windows()
    now = clock.now()
    both_are_in = threading.Barrier(2, timeout=600)  # only ends what hangs
    states: dict[str, list[str]] = {window.name: [] for window in windows}

    def work(window: m.Window) -> None:
        try:
            states[window.name].append(attempt_clearing(window=window, now=now))
        finally:
            connection.close()

    with faults.armed(PLACE, lambda: both_are_in.wait() and None):  # neither publishes before the other is as far
        workers = [threading.Thread(target=work, args=(window,)) for window in windows]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    assert states == {world.MAIN: ["CLEARED"], SECOND: ["CLEARED"]}
    for clearing in m.Clearing.objects.filter(window__in=windows):
        assert verify_published(clearing=clearing) == []
    evm.close_all()


def test_a_window_that_is_being_cleared_is_left_to_who_does_it(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    main, second = two_closed_windows()
    child_holds, holding = os.pipe()

    def hold() -> None:
        with only_clearer(main) as mine:
            os.write(holding, b"x" if mine else b"-")
            signal.pause()

    connection.close()
    evm.close_all()
    child = forked(hold)
    assert os.read(child_holds, 1) == b"x"

    cycle.advance(now=clock.now() + timedelta(seconds=1))
    assert (world.window().state, world.window(SECOND).state != "CLEARING") == ("CLEARING", True)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cycle.advance(now=clock.now() + timedelta(seconds=2))

    assert world.window().clearing.awards.exists()
    assert main.clearing_attempts.count() == 1  # who only held the lock made none
    assert second.clearing_attempts.count() == 1


def test_a_worker_that_is_killed_leaves_the_other_window_alone_and_the_next_turn_cures_its_own(
    own_world: Callable[[str], str],
) -> None:
    own_world("collecting")
    main, second = two_closed_windows()

    def die() -> None:
        with faults.armed(PLACE, "kill"):
            attempt_clearing(window=main, now=clock.now())

    assert in_a_child(die) == -signal.SIGKILL
    assert attempt_clearing(window=second, now=clock.now()) == "CLEARED"
    assert world.window().state == "CLEARING"

    cycle.advance_until_quiet(now=clock.now() + timedelta(seconds=1))

    assert world.window().clearing.awards.exists()
    outcomes = list(main.clearing_attempts.order_by("number").values_list("outcome", "code"))
    assert outcomes == [("refused", "process_died"), ("published", "")]
    evm.close_all()


@pytest.mark.parametrize("by", ["the workers", "the turn alone"])
def test_the_turn_hands_out_one_job_a_window_and_clears_them_itself_without_a_worker(
    own_world: Callable[[str], str], by: str
) -> None:
    own_world("collecting")
    windows = two_closed_windows()

    if by == "the workers":
        assert hand_out_clearing(windows=windows) == 2
        assert hand_out_clearing(windows=windows) == 2  # the same jobs again
    else:
        cycle.advance(now=clock.now() + timedelta(seconds=1))

    jobs = Outbox.objects.filter(kind=JOB)
    assert {job.payload["window"] for job in jobs} == {str(window.pk) for window in windows}
    assert {tuple(sorted(job.payload)) for job in jobs} == {("attempt", "window")}
    drain(clock.now() + timedelta(seconds=2))
    assert not jobs.filter(done_at=None).exists()
    assert m.Clearing.objects.filter(window__in=windows).count() == 2
    assert m.ClearingAttempt.objects.filter(window__in=windows).count() == 2
    evm.close_all()
