"""An hour in which more left than its pin lets comes back whole, by itself and once; so does one nobody metered."""

from __future__ import annotations

from collections.abc import Callable

from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import ReportLate
from marketplace.invariants import check_everything
from marketplace.oversight.egress import watch_egress
from marketplace.payout.services import post_credits
from marketplace.sla.egress import broken_hours, credit_egress
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.marketplace.test_credit_at_once import available, finish
from tests.marketplace.test_delivery import take as deliver
from tests.marketplace.test_delivery import witness
from tests.marketplace.test_egress import signed, take
from tests.owner import behind_the_triggers

LIMIT = 1_000


def pin(lease: m.Lease, limit_bytes: int = LIMIT) -> None:
    with behind_the_triggers():
        m.EgressPin.objects.create(demand=lease.demand, limit_bytes=limit_bytes, at=clock.now())


def meter(lease: m.Lease, slot: int, out: int) -> None:
    take(lease, slot, out, signed=signed(lease, slot, out, key="granite"))


def test_an_hour_beyond_the_limit_is_credited_whole_at_once_and_only_once(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    lease, before, slot = world.lease("genome"), available("alder"), world.lease("genome").start_slot
    pin(lease)
    assert watch_egress(now=clock.now()) == 1  # the provider is told what it costs
    assert m.Notice.objects.get(code="data_pinned").party_id == lease.provider_id
    first, _ = witness(slot)
    deliver(first, hours=1)
    clock.move_to(world.window().slot_at(slot + 1))
    meter(lease, slot, LIMIT)
    assert credit_egress(window=world.window(), now=clock.now()) == 0  # as much as may leave
    assert not broken_hours(lease, list(lease.readings.all()), is_final=False)

    second, _ = witness(slot + 1)
    deliver(second, hours=2)
    clock.move_to(world.window().slot_at(slot + 2))
    meter(lease, slot + 1, LIMIT + 1)
    cycle.advance_until_quiet(now=clock.now())

    credit = m.EarlyCredit.objects.get(kind="egress")
    paid = lease.readings.get(slot=slot + 1).earned_micros
    assert (credit.period, credit.amount_micros) == (slot + 1, paid)
    assert paid > 0
    assert available("alder") == before + paid
    assert "let pinned data leave" in m.Notice.objects.get(code="credit_posted").sentence
    assert compare_when_still(read_words, now=clock.now()) == []
    with untouched():
        assert credit_egress(window=world.window(), now=clock.now()) == 0
        assert post_credits(window=world.window(), now=clock.now()) == 0

    finish()  # nobody meters the other hours
    verdict = m.Verdict.objects.get(lease=lease)
    line = m.SettlementLine.objects.get(lease=lease)
    kept = lease.readings.get(slot=slot).earned_micros
    assert verdict.credit.egress_micros == verdict.credit.amount_micros == verdict.earned_micros - kept
    assert (line.payable_micros + line.fee_micros, line.credited_before_micros) == (kept, paid)
    assert all(finding.ok for finding in check_everything(now=clock.now()))
    with refused(ReportLate):
        meter(lease, slot + 2, 0)


def test_a_lease_that_kept_its_pin_is_paid_whole(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    lease, before = world.lease("genome"), available("alder")
    pin(lease)
    clock.move_to(world.window().ends_at)
    for slot in range(lease.start_slot, lease.end_slot):
        meter(lease, slot, LIMIT)

    finish()

    assert not m.EarlyCredit.objects.filter(kind="egress").exists()
    assert not m.Credit.objects.filter(verdict__lease=lease).exists()
    assert available("alder") - before == m.Verdict.objects.get(lease=lease).unpaid_micros
