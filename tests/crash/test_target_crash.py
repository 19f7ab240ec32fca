"""kill -9 while typed targets are judged: each is credited once afterwards, and nothing stands by halves."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from ledger import faults
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.sla.targets import judge_targets
from tests.crash.test_crash import in_a_child
from tests.journey import world
from tests.journey.refusals import untouched
from tests.marketplace.test_credit_at_once import failed
from tests.marketplace.test_delivery import take, witness


def test_a_judge_that_is_killed_has_judged_nothing_and_credits_once_when_run_again(
    own_world: Callable[[str], str],
) -> None:
    own_world("delivering")
    m.Lease.objects.filter(demand__reference="genome").update(sla_targets={"start_by_minutes_max": 15})
    lease, window = world.lease("genome"), world.window()
    before = balance(code="buyer.available", party=lease.buyer_id).minor
    take(replace(witness(0)[0], probe_failed=failed(17)), hours=1)
    now = clock.move_to(window.slot_at(1) + timedelta(minutes=1))

    def die() -> None:
        with faults.armed("sla.targets.before_commit", "kill"):
            judge_targets(window=window, now=now)

    assert in_a_child(die) == -signal.SIGKILL
    assert not m.TargetVerdict.objects.exists()
    assert not m.EarlyCredit.objects.exists()

    assert cycle.advance_until_quiet(now=now)

    credit = m.EarlyCredit.objects.get()
    assert credit.target_verdict == m.TargetVerdict.objects.get()
    assert balance(code="buyer.available", party=lease.buyer_id).minor == before + credit.amount_micros
    with untouched():
        assert judge_targets(window=window, now=now) == 0
