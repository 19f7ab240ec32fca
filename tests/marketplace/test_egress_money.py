"""An hour in which more left than its pin lets comes back whole, by itself and once; so does one nobody metered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.agent import home as homes
from marketplace.agent.keys import create_key
from marketplace.demo.keys import machine_key
from marketplace.errors import ReportLate
from marketplace.invariants import check_everything
from marketplace.oversight.egress import watch_egress
from marketplace.payout.services import post_credits
from marketplace.sla.egress import broken_hours, credit_egress
from tests.agent.serving import served
from tests.agent.test_meter import Flows, meter_of
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

    finish()  # nobody meters the other hours: the verdict waits a day for what a meter still sends
    assert not m.Verdict.objects.filter(lease=lease).exists()
    ends_at = world.window().slot_at(lease.until_slot)
    clock.move_to(ends_at + timedelta(hours=24) - timedelta(minutes=5))  # it runs on: a second before is soon over
    cycle.advance_until_quiet(now=ends_at + timedelta(hours=24) - timedelta(seconds=1))
    assert not m.Verdict.objects.filter(lease=lease).exists()
    cycle.advance_until_quiet(now=clock.move_to(ends_at + timedelta(hours=24)))
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


def test_a_meter_that_was_cut_off_is_heard_for_a_day_and_its_lease_paid_whole(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    lease = world.lease("genome")
    pin(lease)
    finish()
    assert not m.Verdict.objects.filter(lease=lease).exists()

    for slot in range(lease.start_slot, lease.end_slot):
        meter(lease, slot, 0)
    cycle.advance_until_quiet(now=clock.move_to(clock.now() + timedelta(hours=1)))

    assert m.Verdict.objects.get(lease=lease).unpaid_micros < lease.fee_micros
    assert not m.Credit.objects.filter(verdict__lease=lease).exists()


def test_with_the_agent_alone_a_pinned_lease_is_paid_whole(own_world: Callable[[str], str], tmp_path: Path) -> None:
    own_world("delivering")
    lease, before, key = world.lease("genome"), available("alder"), machine_key("granite")
    hours, start_at = lease.end_slot - lease.start_slot, world.window().slot_at(lease.start_slot)
    pin(lease)
    with served() as site:
        create_key(tmp_path / "home")  # makes the folder; the machine's key is the demo's
        homes.write_json(tmp_path / "home", homes.AGENT_FILE,
                         {"server": site.url, "machine": f"cls_{lease.node_class_id.hex}"})  # fmt: skip
        agent = meter_of(tmp_path / "home", site, start_at, outflow=Flows(), key=key)
        agent.fetch_leases()
        for minute in range(-1, 60 * hours + 1):
            agent.clock.at = start_at + timedelta(minutes=minute, seconds=-5)
            agent.count()
        agent.clock.at = clock.move_to(world.window().ends_at)
        agent.count()
        assert agent.send_egress() == hours
    finish()

    assert not m.Credit.objects.filter(verdict__lease=lease).exists()
    assert available("alder") - before == m.Verdict.objects.get(lease=lease).unpaid_micros
