"""A running lease whose SLA is broken for certain is credited within five minutes, without a claim, and only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.delivery.services import record_slots
from marketplace.demo.minutes import report_window
from marketplace.payout.services import confirm_credits, post_credits
from marketplace.sla.services import credit_at_once, evidence_hash
from tests.journey import world
from tests.journey.refusals import untouched
from tests.marketplace.test_delivery import take, witness

BUDGET = 18  # minutes: 1 % of thirty hours


def failed(minutes: int) -> tuple[int, int, int]:
    word = (1 << minutes) - 1
    return word, word, word


def available(code: str) -> int:
    return balance(code="buyer.available", party=world.party(code).pk).minor


def codes() -> dict[object, str]:
    return {world.node_class(each.code).pk: each.code for each in world.MACHINES}


def finish() -> None:
    """Deliver what is left without a fault, and let the market go on to the end of the window."""
    now = clock.move_to(world.window().ends_at + timedelta(hours=1))
    report_window(window=world.window(), outages=(), codes=codes(), seed=world.SEED, now=now)
    cycle.advance_until_quiet(now=now)


def test_a_broken_lease_is_credited_within_five_minutes_and_settled_for_the_rest(
    own_world: Callable[[str], str],
) -> None:
    own_world("delivering")
    lease, before = world.lease("genome"), available("alder")
    broken_at = world.window().slot_at(1)
    first, head = witness(0)
    take(replace(first, probe_failed=failed(BUDGET + 1)), hours=1)

    cycle.advance_until_quiet(now=clock.move_to(broken_at + timedelta(minutes=1)))

    credit = m.EarlyCredit.objects.get()
    rows = list(lease.readings.order_by("slot"))
    assert credit.posted_at - broken_at <= timedelta(minutes=5)
    assert (credit.step_bps, credit.down_minutes, credit.broken_at) == (2500, BUDGET + 1, broken_at)
    assert credit.amount_micros == -(-lease.fee_micros // 4)
    assert bytes(credit.evidence_hash) == evidence_hash(lease, rows)
    assert available("alder") == before + credit.amount_micros
    assert m.Notice.objects.get(code="credit_posted").party_id == lease.buyer_id
    assert compare_when_still(read_words, now=clock.now()) == []
    with untouched():
        assert credit_at_once(window=world.window(), now=clock.now()) == 0
        assert post_credits(window=world.window(), now=clock.now()) == 0
        assert confirm_credits(now=clock.now()) == 0

    finish()

    line = m.SettlementLine.objects.get(lease=lease)
    assert world.window().state == "SETTLED"
    assert line.credit_micros == line.credited_before_micros == credit.amount_micros
    assert line.earned_micros + line.returned_micros + line.credit_micros == lease.fee_micros
    assert m.Settlement.objects.filter(window=world.window()).count() == 2
    assert compare_when_still(read_words, now=clock.now()) == []
    assert len(head.hash) == 64


def test_a_lease_that_fails_all_the_rest_gives_back_its_fee_and_no_more(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    lease, before = world.lease("genome"), available("alder")
    first, head = witness(0)
    take(replace(first, probe_failed=failed(BUDGET + 1)), hours=1)
    cycle.advance_until_quiet(now=clock.move_to(world.window().slot_at(1) + timedelta(minutes=1)))
    others = []
    for slot in range(1, 30):
        report, head = witness(slot, head=head, up_word=0)
        others.append(replace(report, probe_failed=failed(60)))
    record_slots(window=world.window(), node_class=world.node_class("granite"), witnesses=others,
                 now=world.window().slot_at(30))  # fmt: skip

    finish()

    assert available("alder") == before + lease.fee_micros + _unused("alder", lease)
    assert compare_when_still(read_words, now=clock.now()) == []


def _unused(code: str, lease: m.Lease) -> int:
    """What other leases of the same buyer gave back."""
    lines = m.SettlementLine.objects.filter(lease__buyer=world.party(code), lease__window=lease.window)
    return sum(line.returned_micros + line.credit_micros for line in lines.exclude(lease=lease))


@pytest.mark.stage("delivering")
def test_within_the_budget_nothing_is_credited() -> None:
    first, _ = witness(0)
    take(replace(first, probe_failed=failed(BUDGET)), hours=1)

    with untouched():
        assert credit_at_once(window=world.window(), now=clock.now()) == 0


@pytest.mark.stage("delivering")
def test_steps_add_up_to_the_highest_one() -> None:
    first, head = witness(0)
    second, _ = witness(1, head=head)
    take(replace(first, probe_failed=failed(BUDGET + 1)), replace(second, probe_failed=failed(60)), hours=2)
    third, _ = witness(2)
    take(replace(third, probe_failed=failed(12)), hours=3)  # 91 of 1800 minutes: below 95 %

    assert credit_at_once(window=world.window(), now=clock.now()) == 2

    steps = {row.step_bps: row.amount_micros for row in m.EarlyCredit.objects.all()}
    fee = world.lease("genome").fee_micros
    assert list(steps) == [2500, 10_000]
    assert sum(steps.values()) == fee


@pytest.mark.stage("delivering")
def test_before_proof_the_holdback_pays_and_not_the_escrow() -> None:
    slots = [witness(2, reference="imaging", provider="basalt")[0]]
    take(replace(slots[0], probe_failed=failed(60)), provider="basalt", hours=3)

    with untouched():
        assert credit_at_once(window=world.window(), now=clock.now()) == 0
