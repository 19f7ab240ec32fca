"""What the contract refuses for now is waited for, on the console, and is no try: a full hour, a claim, a pause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import Sum
from django.urls import reverse

from contracts.parameters import CLAIM_SILENCE
from ledger.ids import uuid7
from ledger.models import ChainEvent, ChainIntent
from ledger.rails import indexer, sender
from ledger.rails.errors import IntentReused
from ledger.rails.evm import chain
from ledger.reconcile import check_books
from ledger.selectors import total
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.escrow.services import confirm_locks, lock_window
from marketplace.payout import claims
from marketplace.payout import refusals as refused
from marketplace.payout import services as payout
from marketplace.slashing.services import confirm_requests, execute_due, open_cases, paused_cases
from tests.journey import world
from tests.marketplace.test_claims import bring, class_left_out, settle_the_first_call_only
from tests.marketplace.test_refused_settlements import TOO_MUCH, limit_settlements_to, settle_once, signed_in

STALE = "escrow: epoch is not the next"


def pauser(function: str, contract: str = "escrow") -> None:
    sender.submit(key=f"{contract}:{function}:{uuid7(clock.now())}", role="pauser", contract=contract,
                  function=function, args=[], now=clock.now())  # fmt: skip
    cycle.run_chain(now=clock.now())
    assert chain().call(contract, "paused") == (function == "pause")


def gross_of_all() -> int:
    leases = m.Lease.objects.filter(window=world.window()).select_related("verdict__credit")
    return sum(payout._earned_micros(lease) for lease in leases)


def all_is_well() -> None:
    assert total("suspense").minor == 0
    assert all(found.ok for found in check_books())
    assert cycle.reconcile(now=clock.now()) == []


def console() -> str:
    page = signed_in(f"ops{m.Seat.objects.count()}").get(reverse("admin:index")).content.decode()
    return " ".join(page.split())


def test_a_settlement_beyond_the_hour_waits_until_there_is_room_and_then_goes_through(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    limit_settlements_to(gross_of_all() - 1)

    # It is shared over calls that an hour has room for each; the second finds the hour too full.
    assert payout.settle_window(window=world.window(), now=clock.now()) == 6
    cycle.run_chain(now=clock.now())
    (first,) = m.Settlement.objects.filter(window=world.window(), earned_micros__gt=0).exclude(
        intent_key__in=ChainIntent.objects.filter(state="reverted").values("key"))  # fmt: skip
    began = chain().block(ChainEvent.objects.filter(name="Settled").latest("block_number").block_number).timestamp
    assert refused.hour_is_over_at() == datetime.fromtimestamp(began + 3600, UTC)
    for _ in range(5):
        assert refused.take_back_refused(now=clock.now()) == 0
        assert payout.settle_window(window=world.window(), now=clock.now()) == 0
    (call,) = refused.waiting_calls()
    assert (call.attempts, call.healing, call.sentence, refused.blocking_calls()) == (0, "the hour in which the "
        "contract has credited as much as it may", TOO_MUCH, [])  # fmt: skip
    until = call.settlement.put_off_until
    assert until is not None
    assert timedelta() < until - clock.now() <= timedelta(hours=1, minutes=2)
    assert f"epoch {first.epoch + 1} waits until" in console()
    assert TOO_MUCH in console()

    clock.move_to(until - timedelta(minutes=10))
    assert settle_once() == 0
    clock.move_to(until)
    assert refused.take_back_refused(now=clock.now()) == 1
    line = m.AuditLine.objects.filter(action="settle_refused").latest("pk")
    assert (line.reason, line.facts["attempts"], line.facts["waited_for"]) == (TOO_MUCH, 0, str(call.healing))
    assert settle_once() > 0
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert (refused.refused_calls(), world.window().state) == ([], "SETTLED")
    assert "waits until" not in console()
    assert chain().call("escrow", "last_epoch") == first.epoch + 1
    all_is_well()


def test_a_settlement_that_no_hour_has_room_for_uses_its_tries(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    limit_settlements_to(gross_of_all() // 100)
    for _ in range(3):
        assert refused.blocking_calls() == []
        assert settle_once() > 0
    (call,) = refused.blocking_calls()
    assert (call.attempts, call.sentence, call.settlement.put_off_until) == (3, TOO_MUCH, None)
    # The later epochs went with it each time, and none of them has used a try.
    later = m.Settlement.objects.filter(epoch=call.settlement.epoch + 1)
    assert later.count() == 3
    assert set(later.values_list("refusal", flat=True)) == {STALE}
    assert not later.filter(put_off_until=None).exists()


def test_the_hour_is_counted_as_the_contract_counts_it(own_world: Callable[[str], str]) -> None:
    own_world("paid")
    first = ChainEvent.objects.filter(name="Settled").latest("block_number")
    began = chain().block(first.block_number).timestamp

    def sign_of_life() -> int:
        epoch = chain().call("escrow", "last_epoch") + 1
        sender.submit(key=f"life:{epoch}", role="operator", contract="escrow", function="settle",
                      args=[epoch, [], [], 0, b"\1" * 32, b"\2" * 32], now=clock.now())  # fmt: skip
        cycle.run_chain(now=clock.now())
        return int(chain().head().timestamp)

    for minutes in (40, 79):  # within the first hour; in the second, which begins there
        clock.move_to(datetime.fromtimestamp(began, UTC) + timedelta(minutes=minutes))
        at = sign_of_life()
    assert refused.hour_is_over_at() == datetime.fromtimestamp(at + 3600, UTC)
    clock.move_to(datetime.fromtimestamp(at, UTC) + timedelta(minutes=50))
    sign_of_life()
    assert refused.hour_is_over_at() == datetime.fromtimestamp(at + 3600, UTC)


def test_a_settlement_that_met_a_claim_waits_until_the_claim_is_final(
    own_world: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_world("judged")
    first = settle_the_first_call_only(monkeypatch)
    late = class_left_out(first)
    document = claims.proofs_of(late.party)
    assert payout.settle_window(window=world.window(), now=clock.now()) > 0
    stale = m.Settlement.objects.filter(window=world.window(), refused_at=None).latest("epoch")
    clock.move_forward(CLAIM_SILENCE)
    assert bring(document, document["claims"][0])

    sender.pump(now=clock.now())  # the claim is on the chain, and no reader of final blocks has come to it
    for _ in range(5):
        assert refused.take_back_refused(now=clock.now()) == 0
        assert payout.settle_window(window=world.window(), now=clock.now()) == 0
    assert [(call.settlement, call.attempts, call.sentence) for call in refused.waiting_calls()] == [(stale, 0, STALE)]
    assert f"epoch {stale.epoch} waits. For a claim" in console().replace("</b>", "").replace("<b>", "")

    indexer.index(now=clock.now())
    assert refused.take_back_refused(now=clock.now()) == 1
    assert settle_once() > 0
    assert payout.confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert chain().call("escrow", "totals")[7] == 0
    all_is_well()


def test_locks_that_met_a_pause_are_made_again_after_it(own_world: Callable[[str], str]) -> None:
    own_world("cleared")
    pauser("pause")
    assert lock_window(window=world.window(), now=clock.now()) > 0
    cycle.run_chain(now=clock.now())
    calls = ChainIntent.objects.filter(key__startswith=f"lock:{world.window().number}:")
    before = calls.count()
    for _ in range(3):
        assert confirm_locks(window=world.window(), now=clock.now()) == 0
    assert (world.window().state, calls.count()) == ("CLEARED", before)
    assert "waits until" in console()
    assert "escrow: lock is paused" in console()

    pauser("unpause")
    assert confirm_locks(window=world.window(), now=clock.now()) == before
    cycle.run_chain(now=clock.now())
    assert confirm_locks(window=world.window(), now=clock.now()) == 6
    assert (world.window().state, calls.count()) == ("DELIVERING", 2 * before)
    assert not m.Lease.objects.filter(window=world.window(), refusal="escrow: lock is paused").exists()
    held = m.Lease.objects.filter(window=world.window(), state="locked").aggregate(sum=Sum("fee_micros"))["sum"]
    assert total("buyer.held").minor == held
    all_is_well()


def test_locks_that_are_paused_beyond_the_start_are_given_up(own_world: Callable[[str], str]) -> None:
    own_world("cleared")
    pauser("pause")
    lock_window(window=world.window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    starts_at = world.window().starts_at  # moved there, the clock runs on: a second before it is soon over
    clock.move_to(starts_at - timedelta(minutes=5))
    assert confirm_locks(window=world.window(), now=starts_at - timedelta(seconds=1)) == 0
    assert world.window().state == "CLEARED"
    clock.move_to(starts_at)
    confirm_locks(window=world.window(), now=clock.now())
    leases = m.Lease.objects.filter(window=world.window())
    assert set(leases.values_list("state", flat=True)) == {"refused"}
    assert "escrow: lock is paused" in set(leases.values_list("refusal", flat=True))
    assert total("buyer.held").minor == 0
    all_is_well()


def test_a_slash_that_met_a_pause_is_asked_for_and_executed_after_it(own_world: Callable[[str], str]) -> None:
    own_world("paid")
    pauser("pause", "stake")
    open_cases(window=world.window(), now=clock.now())
    cycle.run_chain(now=clock.now())
    case = m.SlashCase.objects.get(outcome="requested")
    confirm_requests(now=clock.now())
    case.refresh_from_db()
    assert (case.outcome, case.chain_id_of_request, [each.pk for each in paused_cases()]) == (
        "requested", None, [case.pk])  # fmt: skip
    assert f"Slash of class {case.node_class.chain_class} waits" in console()

    pauser("unpause", "stake")
    confirm_requests(now=clock.now())
    cycle.run_chain(now=clock.now())
    confirm_requests(now=clock.now())
    case.refresh_from_db()
    assert case.chain_id_of_request is not None
    assert paused_cases() == []
    pauser("pause", "stake")
    clock.move_to(case.executable_at)
    assert execute_due(now=clock.now()) == 1
    cycle.run_chain(now=clock.now())
    assert (execute_due(now=clock.now()), [each.pk for each in paused_cases()]) == (0, [case.pk])
    pauser("unpause", "stake")
    assert (execute_due(now=clock.now()), execute_due(now=clock.now())) == (1, 0)
    cycle.run_chain(now=clock.now())
    confirm_requests(now=clock.now())
    case.refresh_from_db()
    assert case.outcome == "executed"
    assert ChainEvent.objects.filter(name="SlashExecuted").count() == 1
    all_is_well()


@pytest.mark.stage("paid")
def test_only_a_call_that_reverted_is_made_again() -> None:
    done = ChainIntent.objects.filter(state="final").first()
    assert done is not None
    with pytest.raises(IntentReused, match="reverted"):
        sender.again(done, key="again", now=clock.now())
    ChainIntent.objects.filter(pk=done.pk).update(state="reverted")
    done.refresh_from_db()
    made = sender.again(done, key="again", now=clock.now())
    assert (made.state, bytes(made.calldata), made.plan) == ("queued", bytes(done.calldata), done.plan)
    assert sender.again(done, key="again", now=clock.now()).pk == made.pk
    other = ChainIntent.objects.exclude(calldata=done.calldata).first()
    assert other is not None
    with pytest.raises(IntentReused, match="another call"):
        sender.again(done, key=other.key, now=clock.now())
