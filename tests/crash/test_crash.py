"""kill -9 in the middle of a market turn: played again it comes to the same figures, and nothing is doubled."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from django.db import connection

from ledger import faults
from ledger.models import ChainIntent
from ledger.rails import evm
from ledger.reconcile import check_books
from ledger.selectors import reserved
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.clearing.models import ATTEMPTS_MAX, ClearingAttempt
from marketplace.clearing.services import attempt_clearing
from marketplace.invariants import check_everything
from marketplace.tasks import cycle_task
from tests.journey import world

# Where the turn is killed, in the order in which it comes to these places.
PLACES = (
    "demand.fund.after_hold",
    "clearing.publish.before_commit",
    "sender.signed",
    "escrow.lock.before_commit",
    "sender.broadcast",
    "indexer.before_commit",
    "payout.settle.before_commit",
    "ledger.post.after",
    "sender.before_resolve",
    "sender.marked_sent",
)


def in_a_child(act: Callable[[], None]) -> int:
    """Run `act` in a forked process; returns its exit code, or minus the signal that ended it."""
    connection.close()
    evm.close_all()
    return os.waitstatus_to_exitcode(os.waitpid(forked(act), 0)[1])


def forked(act: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child leaves by os._exit and uses no inherited thread
        child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            connection.close()
            evm.close_all()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def killed_at(place: str) -> None:
    with faults.armed(place, "kill"):
        world.play("closed", world.CYCLE_ACTS)


def test_a_turn_killed_at_every_dangerous_place_ends_with_the_same_figures(
    own_world: Callable[[str], str], figures_at_the_end: dict[str, Any]
) -> None:
    own_world("collecting")

    for place in PLACES:
        assert in_a_child(lambda place=place: killed_at(place)) == -signal.SIGKILL, place
        broken = [found for found in check_books(now=clock.now()) if not found.ok]
        assert broken == [], place  # between any two moments the books are whole
    assert in_a_child(lambda: world.play("closed", world.CYCLE_ACTS)) == 0

    assert world.figures() == figures_at_the_end
    assert_nothing_is_doubled()
    assert [found.name for found in check_everything(now=clock.now()) if not found.ok] == []


def test_a_turn_killed_again_and_again_by_the_clock_ends_with_the_same_figures(
    own_world: Callable[[str], str], figures_at_the_end: dict[str, Any]
) -> None:
    """No armed places here: whatever the turn does when its time is up, it dies there.

    Only the last attempt at clearing the window is spared: on a machine so slow that three fall into it, the window
    fails (the test below), and that is another end.
    """
    own_world("bidding")
    allowance, kills, status = 0.3, 0, -signal.SIGKILL

    while status == -signal.SIGKILL:
        assert allowance < 3_600, "it never ends"
        def act(allowance: float = allowance) -> None:
            if ClearingAttempt.objects.filter(window=world.window()).count() == ATTEMPTS_MAX - 1:
                attempt_clearing(window=world.window(), now=clock.now())
            signal.setitimer(signal.ITIMER_REAL, allowance)  # nobody handles SIGALRM: it ends the process as it stands
            world.play("closed", world.CYCLE_ACTS)

        status = in_a_child(act)
        status = -signal.SIGKILL if status == -signal.SIGALRM else status
        kills += status == -signal.SIGKILL
        allowance *= 1.7  # every machine gets through some day

    assert status == 0
    assert kills >= 2
    assert world.figures() == figures_at_the_end
    assert_nothing_is_doubled()


def test_a_clearing_killed_at_every_attempt_fails_the_window_and_gives_every_hold_back(
    own_world: Callable[[str], str],
) -> None:
    """What kills its process each time must not be tried for ever: the cycle is quiet then, and there is no verdict."""
    own_world("bidding")

    for _ in range(ATTEMPTS_MAX):
        assert in_a_child(lambda: killed_at("clearing.publish.before_commit")) == -signal.SIGKILL
        assert world.window().state == "CLEARING"
    assert in_a_child(lambda: print(cycle.advance_until_quiet(now=clock.now()))) == 0

    attempts = world.window().clearing_attempts.values_list("outcome", "code")
    assert list(attempts) == [("refused", "process_died")] * ATTEMPTS_MAX
    assert world.window().state == "FAILED"
    assert not m.Verdict.objects.filter(lease__window=world.window()).exists()
    assert reserved(code="buyer.available").minor == 0
    assert [found for found in check_books(now=clock.now()) if not found.ok] == []


def test_one_process_turns_the_market_and_a_killed_one_lets_go(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    ready, holding = os.pipe()
    connection.close()
    evm.close_all()
    child = forked(lambda: hold_the_turn(holding))
    assert os.read(ready, 1) == b"x"

    with cycle.only_turn(wait=False) as mine:
        assert not mine
    assert cycle_task() == 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    with cycle.only_turn() as mine, cycle.only_turn() as again:  # the same process may enter twice
        assert mine
        assert again
    with cycle.only_turn(wait=False) as mine:
        assert mine


def hold_the_turn(told: int) -> None:
    with cycle.only_turn():
        os.write(told, b"x")
        time.sleep(600)


def assert_nothing_is_doubled() -> None:
    moves = ChainIntent.objects.filter(function__in=("lock", "settle", "forfeit_holdback", "withdraw_for"))
    assert moves.values("calldata", "key").distinct().count() == moves.count()
    assert moves.filter(function="lock").count() == m.LockBatch.objects.count()
    assert moves.filter(function="settle").count() == m.Settlement.objects.count()
    assert moves.filter(function="withdraw_for").count() == m.Payout.objects.count()
    nonces = ChainIntent.objects.exclude(nonce=None).values_list("role", "nonce")
    assert len(set(nonces)) == len(nonces)
    assert m.Lease.objects.count() == m.Award.objects.values("demand", "bid").distinct().count()
    assert m.Payout.objects.values("node_class", "window").distinct().count() == m.Payout.objects.count()
    assert m.SettlementLine.objects.count() == m.Lease.objects.exclude(state="refused").count()
