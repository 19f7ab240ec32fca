"""SLA, payout and slashing: each only in its time, whole or not at all, and never a micro too much."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import faults
from ledger.models import ChainIntent, Ledger
from ledger.reconcile import check_books
from ledger.selectors import balance
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.payout import services as payout
from marketplace.payout.services import confirm_settlements, pay_window, release_holdbacks, settle_window
from marketplace.sla.services import judge_window
from marketplace.slashing.services import confirm_requests, execute_due, open_cases
from tests.journey import world
from tests.journey.refusals import untouched
from tests.owner import behind_the_triggers


@pytest.mark.stage("delivering")
def test_nothing_is_judged_settled_paid_or_slashed_before_it_was_delivered() -> None:
    window, now = world.window(), clock.now()

    with untouched():
        assert judge_window(window=window, now=now) == 0
        assert settle_window(window=window, now=now) == 0
        assert confirm_settlements(window=window, now=now) == 0
        assert pay_window(window=window, now=now) == 0
        assert open_cases(window=window, now=now) == 0


@pytest.mark.stage("delivered")
def test_a_window_is_settled_whole_or_not_at_all() -> None:
    judge_window(window=world.window(), now=clock.now())
    m.Lease.objects.filter(demand__reference="climate").update(state="delivered")

    with untouched():
        assert settle_window(window=world.window(), now=clock.now()) == 0

    m.Lease.objects.filter(demand__reference="climate").update(state="judged")
    assert settle_window(window=world.window(), now=clock.now()) == 6


@pytest.mark.stage("judged")
def test_a_settlement_that_dies_before_its_commit_leaves_nothing() -> None:
    with untouched(), faults.armed("payout.settle.before_commit"), pytest.raises(faults.FaultInjected):
        settle_window(window=world.window(), now=clock.now())

    assert settle_window(window=world.window(), now=clock.now()) == 6
    assert m.Settlement.objects.latest("epoch").epoch == 2  # epochs follow each other on the chain


def test_a_settlement_is_confirmed_only_when_it_is_final(own_world: Callable[[str], str]) -> None:
    own_world("judged")
    settle_window(window=world.window(), now=clock.now())

    with untouched():
        assert confirm_settlements(window=world.window(), now=clock.now()) == 0
        assert pay_window(window=world.window(), now=clock.now()) == 0

    cycle.run_chain(now=clock.now())
    assert confirm_settlements(window=world.window(), now=clock.now()) == 6
    assert world.window().state == "SETTLED"


@pytest.mark.stage("judged")
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(
    st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 1440)), min_size=6, max_size=6),
    st.just(0) | st.integers(0, 10**12),
)
def test_however_the_hours_went_and_whatever_was_claimed_every_lease_splits_exactly(
    hours: list[tuple[int, int]], claimed: int
) -> None:
    leases = list(
        m.Lease.objects.filter(window=world.window()).select_related("verdict__credit", "node_class", "buyer")
    )
    for lease, (fee, minutes) in zip(leases, hours, strict=True):
        lease.fee_micros = fee
        lease.verdict.earned_micros = fee * minutes // 1440
        lease.verdict.unpaid_micros = fee - lease.verdict.earned_micros
        if hasattr(lease.verdict, "credit"):
            lease.verdict.credit.amount_micros = min(-(-fee // 4), lease.verdict.earned_micros)

    lines = payout._settlement_lines(leases, {lease.node_class.chain_class: claimed for lease in leases})

    fee_by_class: dict[object, int] = {}
    unpaid_by_class: dict[object, int] = {}
    covered_by_class: dict[object, int] = {}
    for line in lines:
        unpaid = line.payable_micros + line.holdback_micros + line.fee_micros
        assert line.earned_micros == unpaid + line.covered_micros
        assert line.earned_micros + line.returned_micros + line.credit_micros == line.lease.fee_micros
        assert min(line.payable_micros, line.holdback_micros, line.fee_micros, line.returned_micros) >= 0
        key = line.lease.node_class_id
        fee_by_class[key] = fee_by_class.get(key, 0) + line.fee_micros
        unpaid_by_class[key] = unpaid_by_class.get(key, 0) + unpaid
        covered_by_class[key] = covered_by_class.get(key, 0) + line.covered_micros
    # the contract takes its fee per class, rounded down once, and only of what was not claimed before
    assert fee_by_class == {key: unpaid * 250 // 10_000 for key, unpaid in unpaid_by_class.items()}
    for key, covered in covered_by_class.items():
        assert covered == min(claimed, covered + unpaid_by_class[key])


@pytest.mark.stage("closed")
def test_a_holdback_is_released_once_its_class_has_proven_itself() -> None:
    basalt, now = world.node_class("basalt"), clock.now()
    with untouched():
        assert release_holdbacks(now=now) == 0

    standing = m.Standing.objects.filter(node_class=basalt)
    with behind_the_triggers():
        standing.update(state="PROVEN", proven_at=now, proven_until=now + timedelta(days=60))

    assert balance(code="provider.holdback", party=basalt.party_id, scope=basalt.pk).minor > 0
    assert release_holdbacks(now=now) == 1
    with untouched():
        assert release_holdbacks(now=now) == 0


@pytest.mark.stage("paid")
def test_cases_follow_only_from_settled_leases() -> None:
    window = world.window()
    mine = m.Lease.objects.filter(window=window, state="settled")
    settled = list(mine.values_list("pk", flat=True))
    mine.update(state="judged")
    with untouched():
        assert open_cases(window=window, now=clock.now()) == 0
    m.Lease.objects.filter(pk__in=settled).update(state="settled")

    assert open_cases(window=world.window(), now=clock.now()) == 2
    assert confirm_requests(now=clock.now()) == 0  # the chain has not answered yet
    assert execute_due(now=clock.now() + timedelta(days=30)) == 0  # and nothing that it did not take is executed


@pytest.mark.stage("paid")
def test_a_request_that_the_contract_reverts_is_held_back_with_its_sentence() -> None:
    open_cases(window=world.window(), now=clock.now())
    ChainIntent.objects.filter(function="request_slash", state="queued").update(
        state="reverted", revert_reason="stake: not proven at lock and breach"
    )

    assert confirm_requests(now=clock.now()) == 1

    case = m.SlashCase.objects.get(verdict__lease__demand__reference="genome")
    assert (case.outcome, case.refusal) == ("held_back", "stake: not proven at lock and breach")
    assert (case.to_buyer_micros, case.chain_id_of_request) == (0, None)


@pytest.mark.stage("closed")
@pytest.mark.parametrize("account", ["chain.escrow", "buyer.available", "provider.holdback", "stake.mirror"])
def test_a_counter_changed_behind_the_books_is_found_and_stops_payouts(account: str) -> None:
    assert all(found.ok for found in check_books(now=clock.now()))

    with behind_the_triggers() as cursor:
        cursor.execute(
            "UPDATE ledger_account SET credits_posted = credits_posted + 1, debits_posted = debits_posted + 2 "
            "WHERE id = (SELECT min(id) FROM ledger_account WHERE code = %s AND debits_posted > 0)", [account]
        )  # fmt: skip

    assert not all(found.ok for found in check_books(now=clock.now()))


def test_money_that_the_chain_lacks_halts_payouts(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    assert cycle.reconcile(now=clock.now()) == []

    with behind_the_triggers() as cursor:
        cursor.execute("UPDATE ledger_account SET debits_posted = debits_posted + 1 WHERE code = 'chain.escrow'")

    assert [found.figure for found in cycle.reconcile(now=clock.now())] != []
    assert Ledger.objects.filter(halted=True).exists()
