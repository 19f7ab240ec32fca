"""A machine fails and the backup that was agreed takes over: under every rule, with the money that was held, once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from datetime import date, timedelta

from django.db import connection, models, transaction
from django.test import override_settings

from ledger import faults
from ledger.ids import uuid7
from ledger.models import ChainIntent
from ledger.rails.mirror import read_words
from ledger.reconcile import check_books, compare_when_still
from ledger.selectors import balance, reserved
from ledger.services import reserve_hold
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.delivery.backups import start_backups
from marketplace.delivery.causes import record_stop
from marketplace.delivery.duties import duties_of
from marketplace.delivery.promises import promises
from marketplace.delivery.services import record_slots
from marketplace.demo.minutes import _witnesses
from marketplace.escrow.backups import confirm_backups, lock_backups
from marketplace.invariants import check_everything
from marketplace.payout.backups import give_back_rests
from marketplace.supply.bids import place_bid
from tests.crash.test_crash import in_a_child
from tests.journey import world
from tests.journey.refusals import untouched
from tests.live import Live, go_live
from tests.owner import behind_the_triggers

FAILED_MINUTE, FROM_SLOT, ASK = 65, 2, 2_000_000
STEPS = (start_backups, give_back_rests, lock_backups, confirm_backups)


def with_backup(own_world: Callable[[str], str], *, units: int = 4) -> Live:
    """The small world with another offer of granite's, which backs up what harbour sells of `tardy`, and is live."""
    own_world("bidding")
    world.let_in("granite", world.window(), 2_000)
    place_bid(
        party=world.party("granite"), node_class=world.node_class("granite"), window=world.window(),
        reference="spare", quantity_units=units, start_slot=0, end_slot=world.SLOTS, price_ask_micros=ASK,
        sla_code="99.0", now=clock.now(),
    )  # fmt: skip
    world.play("delivering")
    return go_live("tardy", "harbour")


def fail(live: Live, minute: int = FAILED_MINUTE) -> None:
    """The whole panel sees a device missing."""
    live.round(minute, down=live.panel)
    assert m.LeaseHealth.objects.get(lease=live.lease).state == "FAILED"


def turn(live: Live, minute: int) -> None:
    cycle.advance_until_quiet(now=clock.move_to(live.at(minute)))


def backup_lease() -> m.Lease:
    return m.Lease.objects.select_related("node_class", "mandate", "provider", "demand", "window").exclude(
        step_in=None).get()  # fmt: skip


def available(code: str) -> int:
    return balance(code="buyer.available", party=world.party(code).pk).minor


def deliver_rest(*codes: str) -> None:
    """The recorded minutes of the providers that are not live, without a fault, and the market to the end."""
    now = clock.move_to(world.window().ends_at + timedelta(hours=1))
    for code in codes:
        node_class = world.node_class(code)
        leases = list(m.Lease.objects.filter(window=world.window(), node_class=node_class).exclude(state="refused")
                      .select_related("node_class", "demand", "bid").order_by("demand__accepted_rank"))  # fmt: skip
        record_slots(window=world.window(), node_class=node_class, now=now,
                     witnesses=_witnesses(world.window(), node_class, leases, [], code, world.SEED))  # fmt: skip
    for hours in (1, 26, 74):
        cycle.advance_until_quiet(now=clock.move_to(world.window().ends_at + timedelta(hours=hours)))


def test_the_backup_takes_over_the_rest_at_its_agreed_price_and_the_hours_are_paid_once(
    own_world: Callable[[str], str],
) -> None:
    live = with_backup(own_world)
    failed, before = live.lease, available("elm")
    strike = m.Backup.objects.get(award__demand__reference="tardy").strike_price_micros
    hours = world.SLOTS - FROM_SLOT
    fail(live)

    turn(live, FAILED_MINUTE + 8)
    assert not m.StepIn.objects.exists()  # the time of grace: many machines come back
    turn(live, FAILED_MINUTE + 12)

    step_in, backup = m.StepIn.objects.get(), backup_lease()
    rest = failed.fee_micros * hours // world.SLOTS
    assert (step_in.state, step_in.from_slot, step_in.rest_micros) == ("running", FROM_SLOT, rest)
    assert (backup.provider.slug, backup.state, backup.start_slot, backup.end_slot) == ("granite", "locked", 2, 30)
    assert backup.fee_micros == 4 * hours * strike <= 4 * hours * failed.demand.price_limit_micros
    assert (backup.mandate.zone_id, backup.mandate.tier_min) == ("EU", failed.mandate.tier_min)
    assert backup.mandate.max_spend_micros == backup.fee_micros
    assert live.lease.ended_slot == FROM_SLOT
    assert {slot for _, slot in promises(leases=[live.lease])} == {0, 1}
    assert {slot for _, slot in promises(leases=[backup])} == set(range(2, 30))
    assert [duty.units for duty in duties_of(backup.node_class) if duty.lease_id == backup.pk] == [(4,) * hours]
    assert available("elm") == before - (backup.fee_micros - rest)  # the rest of it came back from the failed lease
    told = set(m.Notice.objects.filter(code__startswith="backup_").values_list("code", "party__slug"))
    assert told == {("backup_started", "elm"), ("backup_started", "harbour"), ("backup_called", "granite"),
                    ("backup_locked", "elm"), ("backup_locked", "granite")}  # fmt: skip
    assert compare_when_still(read_words, now=clock.now()) == []
    with untouched():
        for step in STEPS:
            assert step(window=world.window(), now=clock.now()) == 0

    deliver_rest("granite", "basalt", "prairie")

    assert world.window().state == "SETTLED"
    line, other = (m.SettlementLine.objects.get(lease=each) for each in (failed, backup))
    assert (line.given_back_micros, line.returned_micros - line.given_back_micros) == (rest, failed.fee_micros - rest)
    assert other.earned_micros == backup.fee_micros
    assert line.lease.verdict.down_minutes > 0 == other.lease.verdict.down_minutes  # who failed answers for it
    cost = sum(each.earned_micros for each in (line, other))
    assert cost <= failed.demand.hold_micros
    assert available("elm") == before + failed.fee_micros - cost
    invoiced = m.InvoiceLine.objects.filter(invoice__party__slug="elm")
    assert sum(each.amount_micros for each in invoiced) == cost
    assert invoiced.get(backup_run__isnull=False).amount_micros == backup.fee_micros
    assert compare_when_still(read_words, now=clock.now()) == []
    assert [found for found in check_everything(now=clock.now()) if not found.ok] == []


def test_what_keeps_a_backup_out_is_said_and_the_lease_goes_on(own_world: Callable[[str], str]) -> None:
    live = with_backup(own_world)
    fail(live)
    now = clock.move_to(live.at(FAILED_MINUTE + 12))
    window, granite = world.window(), world.node_class("granite")

    def changed(row: models.Model, **columns: object) -> Callable[[], object]:
        return lambda: type(row)._default_manager.filter(pk=row.pk).update(**columns)

    def spend() -> None:
        free = available("elm") - reserved(code="buyer.available", party=world.party("elm").pk).minor
        reserve_hold(id=uuid7(now), party=world.party("elm").pk, window=window.pk, amount=free,
                     timeout_at=window.ends_at, now=now)  # fmt: skip

    def fails_too() -> None:
        lease = world.lease("genome")
        m.LeaseHealth.objects.create(lease=lease, state="FAILED", since=now, base_state="FAILED", base_since=now)

    for code, act in {
        "not_eligible_country": lambda: m.ZoneMember.objects.filter(zone="EU", country="DE").update(
            valid_until=date(2026, 1, 1)),
        "not_eligible_standing": changed(granite.standing, state="SUSPENDED"),
        "not_eligible_sla": changed(m.Bid.objects.get(reference="spare"), sla=lowest()),
        "concentration": lambda: capped(window, 200_000),
        "no_capacity": changed(granite, units=7),
        "admission": lambda: m.Admission.objects.filter(node_class=granite).update(unit_hours=1),
        "backup_failed": fails_too,
        "money_short": spend,
        "phase_closed": changed(m.Flag.objects.get(pk="escrow_locks"), is_on=False),
    }.items():
        with transaction.atomic():
            if act is spend:  # the books number their lines by a trigger
                act()
            else:
                with behind_the_triggers():
                    act()
            assert start_backups(window=window, now=now) == 1, code
            step_in = m.StepIn.objects.get()
            assert (step_in.state, step_in.code) == ("refused", code)
            assert live.lease.ended_slot is None
            assert not m.StepInRun.objects.exists()
            told = m.Notice.objects.filter(code="backup_refused")
            assert set(told.values_list("party__slug", flat=True)) == {"elm", "harbour"}
            assert start_backups(window=window, now=now) == 0  # a failure is decided once
            transaction.set_rollback(True)
    assert start_backups(window=window, now=now) == 1
    assert m.StepIn.objects.get().state == "returning"


def lowest() -> m.SlaPreset:
    """An SLA below the one that the demand asks for."""
    preset, _ = m.SlaPreset.objects.get_or_create(code="90.0", defaults={"availability_bps": 9000})
    return preset


def capped(window: m.Window, share_ppm: int) -> None:
    """The window with a cap on what one owner sells, in a product that three owners bid for."""
    rows = [row | {"is_cap_applicable": True} for row in window.clearing.concentration]
    m.Window.objects.filter(pk=window.pk).update(concentration_ppm=share_ppm)
    m.Clearing.objects.filter(window=window).update(concentration=rows)


def test_a_machine_that_comes_back_and_one_that_its_buyer_stopped_are_left_alone(
    own_world: Callable[[str], str],
) -> None:
    live = with_backup(own_world)
    lease = live.lease
    fail(live)
    now = live.at(FAILED_MINUTE + 12)

    with transaction.atomic():
        record_stop(party=lease.buyer, lease=lease, starts_at=live.at(FAILED_MINUTE - 1), reason="stopped",
                    ends_at=live.at(FAILED_MINUTE + 60), now=live.at(FAILED_MINUTE - 1))  # fmt: skip
        assert start_backups(window=world.window(), now=now) == 0
        transaction.set_rollback(True)
    for minute in range(FAILED_MINUTE + 1, FAILED_MINUTE + 4):
        live.round(minute)
    assert start_backups(window=world.window(), now=now) == 0


def test_too_late_for_an_hour_nothing_moves(own_world: Callable[[str], str]) -> None:
    live = with_backup(own_world)
    fail(live, 60 * 28 + 40)

    assert start_backups(window=world.window(), now=live.at(60 * 28 + 55)) == 0
    with override_settings(BACKUP_LEAD_MINUTES=5):
        assert start_backups(window=world.window(), now=live.at(60 * 28 + 55)) == 1
    assert m.StepIn.objects.get().from_slot == 29


def test_a_return_that_the_chain_refuses_is_asked_for_again_and_comes_once(own_world: Callable[[str], str]) -> None:
    live = with_backup(own_world)
    window = world.window()
    fail(live)
    now = clock.move_to(live.at(FAILED_MINUTE + 12))
    start_backups(window=window, now=now)
    last = m.Settlement.objects.order_by("-epoch").first()
    ghost = m.Settlement.objects.create(
        id=uuid7(now), window=window, epoch=last.epoch + 1, intent_key="never sent", earned_micros=0, fees_micros=0,
        refunded_micros=0, root=bytes(last.root), made_at=now, final_at=now,
    )  # fmt: skip
    give_back_rests(window=window, now=now)
    cycle.run_chain(now=now)
    m.Settlement.objects.filter(pk=ghost.pk).update(final_at=None, refused_at=now)

    turn(live, FAILED_MINUTE + 13)

    step_in = m.StepIn.objects.get()
    calls = ChainIntent.objects.filter(function="settle", created_at__gte=now).values_list("state", flat=True)
    assert sorted(calls) == ["final", "reverted"]
    assert step_in.state == "running"
    assert compare_when_still(read_words, now=clock.now()) == []


def test_money_that_cannot_be_locked_is_the_buyers_again(own_world: Callable[[str], str]) -> None:
    live = with_backup(own_world)
    window, before = world.window(), available("elm")
    fail(live)
    now = clock.move_to(live.at(FAILED_MINUTE + 12))
    start_backups(window=window, now=now)
    give_back_rests(window=window, now=now)
    cycle.run_chain(now=now)
    assert reserved(code="buyer.available", party=world.party("elm").pk).minor == m.StepIn.objects.get().fee_micros

    late = clock.move_to(window.ends_at + timedelta(minutes=1))
    assert lock_backups(window=window, now=late) == 1
    cycle.run_chain(now=late)
    assert confirm_backups(window=window, now=late) == 1

    step_in, refused = m.StepIn.objects.get(), backup_lease()
    assert (step_in.state, step_in.code, refused.state) == ("fallen", "lock_refused", "refused")
    assert refused.refusal == step_in.sentence != ""
    assert available("elm") == before + step_in.returned_micros
    assert reserved(code="buyer.available", party=world.party("elm").pk).minor == 0
    assert set(m.Notice.objects.filter(code="backup_not_locked").values_list("party__slug", flat=True)) == {
        "elm", "granite"
    }  # fmt: skip
    assert compare_when_still(read_words, now=clock.now()) == []
    deliver_rest("granite", "basalt", "prairie")
    assert world.window().state == "SETTLED"
    assert [found for found in check_everything(now=clock.now()) if not found.ok] == []


PLACES = ("delivery.backups.before_commit", "sender.signed", "sender.broadcast", "indexer.before_commit",
          "escrow.backups.before_commit")  # fmt: skip


def test_killed_at_every_dangerous_place_it_ends_with_one_backup_and_no_money_twice(
    own_world: Callable[[str], str],
) -> None:
    live = with_backup(own_world)
    before = available("elm")
    fail(live)
    now = clock.move_to(live.at(FAILED_MINUTE + 12))

    def killed_at(place: str) -> None:
        with faults.armed(place, "kill"):
            cycle.advance_until_quiet(now=now)

    for place in PLACES:
        assert in_a_child(lambda place=place: killed_at(place)) == -signal.SIGKILL, place
        assert [found for found in check_books(now=now) if not found.ok] == [], place
    assert in_a_child(lambda: print(cycle.advance_until_quiet(now=now))) == 0

    step_in = m.StepIn.objects.get()
    assert (step_in.state, m.Lease.objects.exclude(step_in=None).count()) == ("running", 1)
    assert available("elm") == before + step_in.returned_micros - step_in.fee_micros
    assert compare_when_still(read_words, now=now) == []


def test_two_workers_at_once_start_one_backup(own_world: Callable[[str], str]) -> None:
    live = with_backup(own_world)
    fail(live)
    now = clock.move_to(live.at(FAILED_MINUTE + 12))
    found: list[int] = []

    def work() -> None:
        try:
            for step in STEPS:
                found.append(step(window=world.window(), now=now))
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cycle.advance_until_quiet(now=now)

    assert sorted(found, reverse=True)[:2] == [1, 1]  # one decision, one return; the lock waits for the chain
    assert m.StepIn.objects.get().state == "running"
    assert ChainIntent.objects.filter(key__startswith=f"lock:{world.window().number}:").count() == 2
    assert compare_when_still(read_words, now=now) == []
