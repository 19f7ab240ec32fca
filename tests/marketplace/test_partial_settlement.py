"""A window is settled without the leases that are in dispute; those follow by themselves, and nothing is paid twice."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Sum

from ledger.ids import uuid7
from ledger.models import Account, ChainIntent
from ledger.rails.mirror import read_words
from ledger.reconcile import compare_when_still
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.delivery.services import record_slots
from marketplace.demo.minutes import _witnesses
from marketplace.invariants import check_everything
from marketplace.oversight.packs import complete_packs
from marketplace.payout.invoices import issue_invoices
from marketplace.payout.services import confirm_payouts, confirm_settlements, pay_window, settle_window
from marketplace.slashing.services import open_cases
from pricing.metering import FULL_WORD
from tests.journey import world
from tests.journey.refusals import untouched
from tests.live import go_live

SPLITS_OF_THREE = 20


def leases() -> list[m.Lease]:
    return list(m.Lease.objects.filter(window=world.window()).exclude(state="refused").order_by("pk"))


def dispute(*disputed: m.Lease) -> None:
    """Put leases back to where they are before their verdict, with a case each."""
    now = clock.now()
    for lease in disputed:
        m.Lease.objects.filter(pk=lease.pk).update(state="delivered")
        m.DeliveryCase.objects.get_or_create(
            lease=lease, slot=lease.start_slot,
            defaults={"id": uuid7(now), "disputed_word": 1, "held_micros": 1, "opened_at": now, "decide_by": now},
        )  # fmt: skip


def decide(*disputed: m.Lease) -> None:
    m.Lease.objects.filter(pk__in=[lease.pk for lease in disputed]).update(state="judged")


def settle_in(parts: Sequence[Sequence[m.Lease]]) -> dict[str, dict[Any, Any]]:
    """Settle part by part, take down what that came to, and take it all back."""
    window, now = world.window(), clock.now()
    with transaction.atomic():
        dispute(*(lease for part in parts[1:] for lease in part))
        before = set(ChainIntent.objects.values_list("key", flat=True))
        for part in parts:
            decide(*part)
            assert settle_window(window=window, now=now) == len(part)
            assert settle_window(window=window, now=now) == 0
        found = totals(before)
        transaction.set_rollback(True)
    return found


def totals(before: set[str]) -> dict[str, dict[Any, Any]]:
    """What each lease and each class came to, and what the plans of the calls move between which accounts."""
    lines = m.SettlementLine.objects.filter(lease__window=world.window())
    moved: Counter[tuple[int, int]] = Counter()
    left: Counter[int] = Counter()
    for call in ChainIntent.objects.filter(function="settle").exclude(key__in=before):
        for row in call.plan:
            left[row["debit"]] += row["amount"]
            moved[row["debit"], row["credit"]] += row["amount"]
    free = set(Account.objects.filter(code="buyer.available").values_list("pk", flat=True))
    parts = ("earned_micros", "returned_micros", "credit_micros", "covered_micros")
    return {
        "leases": {key: sums for key, *sums in lines.values_list("lease", *parts)},
        "left the buyers": dict(left),
        "came back": {pair: amount for pair, amount in moved.items() if pair[1] in free},
        "classes": {
            row["lease__node_class"]: row["net"] + row["kept"] + row["fee"]
            for row in lines.order_by().values("lease__node_class").annotate(
                net=Sum("payable_micros"), kept=Sum("holdback_micros"), fee=Sum("fee_micros"))
        },
        "fees": dict(lines.order_by().values_list("lease__node_class").annotate(Sum("fee_micros"))),
    }  # fmt: skip


def splits(*, both_orders: bool) -> list[list[list[m.Lease]]]:
    """Every way to put the leases of the window into two parts, in turn the one first and the other or in both orders,
    and some ways into three."""
    all_of_them, draw = leases(), random.Random(1)
    found = []
    for size in range(1, len(all_of_them)):
        for later in combinations(all_of_them, size):
            found.append([[lease for lease in all_of_them if lease not in later], list(later)])
    if not both_orders:
        pairs = [pair for pair in found if all_of_them[0] in pair[0]]
        found = [pair[:: 1 - 2 * (place % 2)] for place, pair in enumerate(pairs)]
    in_two = len(found)
    while len(found) < in_two + SPLITS_OF_THREE:
        places = [draw.randrange(3) for _ in all_of_them]
        if len(set(places)) == 3:
            found.append([[lease for lease, at in zip(all_of_them, places, strict=True) if at == n] for n in range(3)])
    return found


@pytest.mark.stage("judged")
@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_money_settled_in_parts_equals_money_settled_at_once(every: int) -> None:
    """One split in three; before a release all of them, each in both orders."""
    once = settle_in([leases()])
    both_orders = every == 1
    tried = splits(both_orders=both_orders)
    assert len(tried) == (2**5 - 1) * (1 + both_orders) + SPLITS_OF_THREE
    tried = tried[::every]
    assert {len(parts) for parts in tried} == {2, 3}
    assert {lease.pk for parts in tried for lease in parts[-1]} == {lease.pk for lease in leases()}

    for parts in tried:
        found = settle_in(parts)
        assert {name: found[name] for name in found if name != "fees"} == {
            name: once[name] for name in once if name != "fees"
        }
        # The contract rounds a class's fee down in each call: in parts it keeps less than a micro-USD a call less.
        for node_class, fee in once["fees"].items():
            assert fee - len(parts) < found["fees"][node_class] <= fee


@pytest.mark.stage("judged")
def test_a_lease_that_is_late_without_a_dispute_is_waited_for_a_day_after_the_window() -> None:
    window, late = world.window(), world.lease("tardy")
    m.Lease.objects.filter(pk=late.pk).update(state="delivering")

    with untouched():
        assert settle_window(window=window, now=window.ends_at + timedelta(hours=23)) == 0
    assert settle_window(window=window, now=window.ends_at + timedelta(hours=24)) == len(leases()) - 1


def test_a_class_settled_in_parts_is_paid_in_parts_and_the_window_ends_with_the_last(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    window, now, late = world.window(), clock.now(), world.lease("tardy")
    dispute(late)

    def turn() -> tuple[int, int]:
        settle_window(window=window, now=now)
        cycle.run_chain(now=now)
        settled = confirm_settlements(window=window, now=now)
        paid = pay_window(window=window, now=now)
        cycle.run_chain(now=now)
        confirm_payouts(now=now)
        return settled, paid

    assert turn() == (5, 3)
    assert (world.window().state, world.lease("climate").state, world.lease("tardy").state) == (
        "DELIVERING", "settled", "delivered")  # fmt: skip
    assert turn() == (0, 0)
    decide(late)
    assert turn() == (1, 1)

    assert world.window().state == "SETTLED"
    own = m.Payout.objects.filter(window=window, node_class__party__slug="harbour").order_by("part")
    assert list(own.values_list("part", flat=True)) == [0, 1]
    assert all(payout.final_at for payout in own)
    lines = m.SettlementLine.objects.filter(lease__window=window, lease__provider__slug="harbour")
    assert sum(each.amount_micros for each in own) == lines.aggregate(total=Sum("payable_micros"))["total"]
    assert compare_when_still(read_words, now=now) == []
    assert [found for found in check_everything(now=now) if not found.ok] == []


def test_invoice_last_pack_and_slash_go_with_their_lease_and_do_not_wait_for_the_window(
    own_world: Callable[[str], str],
) -> None:
    own_world("judged")
    window, now, late = world.window(), clock.now(), world.lease("tardy")
    dispute(late)

    def turn() -> None:
        settle_window(window=window, now=now)
        cycle.run_chain(now=now)
        confirm_settlements(window=window, now=now)
        issue_invoices(window=window, now=now)
        complete_packs(window=window, now=now)
        open_cases(window=window, now=now)

    def followed() -> tuple[set[str], set[str]]:
        lines = m.InvoiceLine.objects.filter(kind="capacity", invoice__window=window)
        packs = m.LeasePack.objects.filter(stage="end", lease__window=window)
        return (set(lines.values_list("award__demand__reference", flat=True)),
                set(packs.values_list("lease__demand__reference", flat=True)))  # fmt: skip

    everybody = {lease.demand.reference for lease in leases()}
    turn()
    assert world.window().state == "DELIVERING"
    assert followed() == (everybody - {"tardy"}, everybody - {"tardy"})
    assert m.SlashCase.objects.filter(verdict__lease__window=window).exists()
    with untouched():
        assert issue_invoices(window=window, now=now) == complete_packs(window=window, now=now) == 0
        assert open_cases(window=window, now=now) == 0
    decide(late)
    turn()

    assert world.window().state == "SETTLED"
    assert followed() == (everybody, everybody)
    invoiced = m.InvoiceLine.objects.filter(invoice__window=window, kind="capacity")
    assert invoiced.aggregate(total=Sum("amount_micros"))["total"] == sum(lease.fee_micros for lease in leases())


def test_a_lease_with_an_open_case_follows_by_itself_in_a_later_epoch(own_world: Callable[[str], str]) -> None:
    own_world("delivering")
    live = go_live()
    live.probe_slot(0, down=0b111)
    live.send_reading(live.reading(0, FULL_WORD), now=live.after(0))
    cycle.advance_until_quiet(now=clock.move_to(live.after(0, hours=1)))
    assert m.DeliveryCase.objects.get().state == "OPEN"
    now = clock.move_to(world.window().ends_at + timedelta(hours=1))
    for code in ("basalt", "harbour", "prairie"):
        node_class = world.node_class(code)
        mine = list(m.Lease.objects.filter(window=world.window(), node_class=node_class)
                    .select_related("node_class", "demand", "bid"))  # fmt: skip
        record_slots(window=world.window(), node_class=node_class, now=now,
                     witnesses=_witnesses(world.window(), node_class, mine, [], code, world.SEED))  # fmt: skip

    cycle.advance_until_quiet(now=now)

    first = m.Settlement.objects.order_by("epoch").last()
    states = dict(leases_by_state())
    assert states.pop("genome") == "delivering"
    assert set(states.values()) == {"settled"}
    assert world.window().state == "DELIVERING"
    assert set(m.Payout.objects.filter(window=world.window()).values_list("node_class__party__slug", flat=True)) == {
        "harbour", "prairie"
    }  # fmt: skip
    for hours in (26, 74, 75):
        cycle.advance_until_quiet(now=clock.move_to(world.window().ends_at + timedelta(hours=hours)))

    line = m.SettlementLine.objects.get(lease=live.lease)
    assert line.settlement.epoch > first.epoch
    assert (world.window().state, live.lease.state) == ("SETTLED", "settled")
    assert compare_when_still(read_words, now=clock.now()) == []
    assert [found for found in check_everything(now=clock.now()) if not found.ok] == []


def leases_by_state() -> list[tuple[str, str]]:
    return list(m.Lease.objects.filter(window=world.window()).exclude(state="refused")
                .values_list("demand__reference", "state"))  # fmt: skip
