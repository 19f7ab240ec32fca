"""Running leases are measured again: a dip is credited at once and is a breach, noise is neither."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.delivery.checks import begins_at, check_orders, due_at, intervals_of, take_checks
from marketplace.errors import ReportFromFuture, ReportLate, ReportReplayed, WrongInstant
from marketplace.payout.services import post_credits
from marketplace.sla.burning import burn_rates, watch_burning
from marketplace.sla.performance import judge_checks
from marketplace.sla.services import credit_at_once, judge_window
from pricing.performance import failures_allowed
from tests.journey import world
from tests.journey.refusals import refused, untouched
from tests.live import Live, go_live


def make_live() -> Live:
    """A lease that runs: its first round was probed."""
    live = go_live()
    live.round(0)
    return live


@pytest.mark.stage("delivering")
def test_a_check_is_ordered_at_a_secret_minute_and_taken_at_no_other() -> None:
    live = make_live()
    due = due_at(live.lease, 0, live.draws)
    name = live.panel[0]
    order = next(each for each in check_orders(verifier=world.party(name), now=due) if each.lease.pk == live.lease.pk)
    assert (order.due_at, order.interval, order.proven_ops > 0) == (due, 0, True)
    now = begins_at(live.lease, 1)
    good = live.check(0, name, share=1.0)

    for error, signed, when in (
        (WrongInstant, live.check(0, name, share=1.0, first_at_ms=int(due.timestamp() * 1000) - 60_000), now),
        (ReportFromFuture, good, due - timedelta(minutes=5)),
        (ReportLate, good, now + timedelta(hours=2)),
    ):
        with refused(error, item=0):
            take_checks(party=world.party(name), signed=[signed], now=when)
    assert take_checks(party=world.party(name), signed=[good], now=now) == 1
    with untouched():
        assert take_checks(party=world.party(name), signed=[good], now=now) == 0
    with refused(ReportReplayed, interval=0):
        take_checks(party=world.party(name), signed=[live.check(0, name, share=0.5)], now=now)


@pytest.mark.stage("delivering")
def test_a_dip_of_60_percent_is_credited_at_once_and_is_a_breach_and_5_percent_of_noise_is_neither() -> None:
    """The small window has five intervals; the false rate at 120 checks is stated in `pricing.performance`."""
    live, rng = make_live(), random.Random(3)
    lease, window = live.lease, world.window()
    assert intervals_of(lease) == 5
    live.send_checks(0, share=1 + rng.uniform(-0.05, 0.05))
    assert judge_checks(window=window, now=begins_at(lease, 1)) == 1
    assert not m.EarlyCredit.objects.exists()

    for interval in range(1, 5):
        live.send_checks(interval, share=0.4, again=0.4)
        assert judge_checks(window=window, now=begins_at(lease, interval + 1)) == 1
        with untouched():
            assert judge_checks(window=window, now=begins_at(lease, interval + 1)) == 0

    rows = list(m.Recheck.objects.filter(has_failed=True).order_by("interval"))
    credits = list(m.EarlyCredit.objects.filter(kind="performance").order_by("period"))
    assert len(rows) == len(credits) == 4
    for row, credit in zip(rows, credits, strict=True):
        assert row.interval_fee_micros == lease.fee_micros // 5
        assert abs(row.shortfall_micros - row.interval_fee_micros * 6 // 10) <= 1  # rounded up, for the buyer
        assert credit.amount_micros == row.shortfall_micros
        assert credit.broken_at == begins_at(lease, row.interval + 1)
    assert failures_allowed(5) < 4
    assert watch_burning(now=begins_at(lease, 5)) == 1  # three failed checks within a day
    assert world.node_class("granite").standing.state == "DEGRADED"


@pytest.mark.stage("delivering")
def test_two_verifiers_are_enough_and_one_liar_of_two_fails_nobody() -> None:
    live = make_live()
    one, two = live.panel[:2]
    now = begins_at(live.lease, 1)
    take_checks(party=world.party(one), signed=[live.check(0, one, share=0.1, again=0.1)], now=now)
    take_checks(party=world.party(two), signed=[live.check(0, two, share=0.97)], now=now)
    assert judge_checks(window=world.window(), now=now) == 0  # the third may still come

    assert judge_checks(window=world.window(), now=now + timedelta(hours=1)) == 1

    row = m.Recheck.objects.get()
    assert (row.has_failed, row.reports, row.shortfall_micros) == (False, 2, 0)


def test_a_slow_lease_is_paid_back_through_settlement_to_the_last_micro(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    live = make_live()
    lease, window = live.lease, world.window()
    before = balance(code="buyer.available", party=lease.buyer_id).minor
    for interval in range(5):
        live.send_checks(interval, share=0.4, again=0.4)
    now = clock.move_to(begins_at(lease, 5))
    assert judge_checks(window=window, now=now) == 5
    assert post_credits(window=window, now=now) == 5
    cycle.run_chain(now=now)
    returned = balance(code="buyer.available", party=lease.buyer_id).minor - before
    assert returned == sum(m.Recheck.objects.values_list("shortfall_micros", flat=True))
    cycle.advance_until_quiet(now=clock.move_to(window.ends_at + timedelta(hours=97)))

    line, verdict = m.SettlementLine.objects.get(lease=lease), m.Verdict.objects.get(lease=lease)
    assert (verdict.checks, verdict.checks_failed, verdict.is_breach) == (5, 5, True)
    assert verdict.breach_at == begins_at(lease, failures_allowed(5) + 1)
    assert line.earned_micros + line.returned_micros + line.credit_micros == lease.fee_micros
    assert compare_when_still(read_words, now=clock.now()) == []


@pytest.mark.stage("delivering")
def test_live_minutes_down_are_credited_within_five_minutes_of_their_hour() -> None:
    live = go_live()
    live.probe_slot(0, down=(1 << 19) - 1)  # the budget of thirty hours is 18 minutes

    assert credit_at_once(window=world.window(), now=live.after(0)) == 1

    credit = m.EarlyCredit.objects.get()
    assert (credit.step_bps, credit.down_minutes, credit.kind) == (2500, 19, "availability")
    assert credit.made_at - credit.broken_at <= timedelta(minutes=5)
    with untouched():
        assert credit_at_once(window=world.window(), now=live.after(0)) == 0


@pytest.mark.stage("delivering")
def test_six_hours_at_six_times_the_budget_set_a_class_back_and_a_little_less_does_not() -> None:
    live = go_live()
    for slot in range(6):
        live.probe_slot(slot, down=0b111)  # 18 of 360 minutes: five times the budget of 1 %
    assert watch_burning(now=live.after(5)) == 0
    live.probe_slot(6, down=0b1111111)  # 22 of 360

    assert watch_burning(now=live.after(6)) == 1

    assert world.node_class("granite").standing.state == "DEGRADED"
    change = m.StandingChange.objects.filter(node_class=live.lease.node_class).last()
    assert "burn rate 6.1 over 6 h: 22 of 360 minutes down" in change.reason
    told = m.Notice.objects.filter(code="error_budget_burning")
    assert {row.party_id for row in told} == {live.lease.buyer_id, live.lease.provider_id}
    assert not told.exclude(sentence__contains="burn rate 6.1").exists()
    with untouched():
        assert watch_burning(now=live.after(6)) == 0


@pytest.mark.stage("delivering")
def test_one_hour_at_fourteen_times_the_budget_is_told_once_and_sets_nobody_back() -> None:
    live = go_live()
    live.probe_slot(0, down=(1 << 8) - 1)  # 13.3 times the budget of 1 %
    assert watch_burning(now=live.after(0)) == 0
    assert not m.Notice.objects.filter(code="error_budget_burning").exists()
    live.probe_slot(1, down=(1 << 9) - 1)

    assert watch_burning(now=live.after(1)) == 0

    assert m.Notice.objects.filter(code="error_budget_burning").count() == 2
    assert world.node_class("granite").standing.state == "PROVEN"
    assert [(burn.hours, burn.tenths, burn.is_over) for burn in burn_rates(live.lease, now=live.after(1))] == [
        (1, 150, True)]  # fmt: skip
    with untouched():
        assert watch_burning(now=live.after(1)) == 0


@pytest.mark.stage("delivered")
def test_a_verdict_without_checks_says_so() -> None:
    judge_window(window=world.window(), now=clock.now())
    assert set(m.Verdict.objects.values_list("checks", "checks_failed")) == {(0, 0)}
