"""Escrow: deposits are one act per key, locks fit the stake behind them, and a refused lock gives its money back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ledger import faults
from ledger.models import ChainIntent
from ledger.rails import sender
from ledger.selectors import balance, hold, spendable
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.errors import BadInput, ReferenceReused
from marketplace.escrow.services import DEPOSIT_MAX_MICROS, confirm_locks, deposit_funds, lock_window
from marketplace.supply.onchain import attest_class
from tests.journey import world
from tests.journey.refusals import refused, untouched


@pytest.mark.stage("collecting")
@pytest.mark.parametrize("amount", [0, -1, 2**62, 2**64, 1.0, "5", True, None])
def test_a_deposit_is_a_whole_positive_number_of_micros(amount: Any) -> None:
    with refused(BadInput, field="amount_micros"):
        deposit_funds(party=world.party("elm"), amount_micros=amount, key="k", now=clock.now())

    assert deposit_funds(party=world.party("elm"), amount_micros=1, key="k", now=clock.now()).state == "queued"


@pytest.mark.stage("collecting")
def test_deposits_stay_far_from_the_end_of_the_books() -> None:
    """However many deposits are on their way: what cannot be booked must not get onto the chain."""
    elm, most = world.party("elm"), DEPOSIT_MAX_MICROS

    with refused(BadInput, field="amount_micros"):
        deposit_funds(party=elm, amount_micros=most + 1, key="too much", now=clock.now())
    for number in range(10):
        deposit_funds(party=elm, amount_micros=most, key=f"k{number}", now=clock.now())
    with refused(BadInput, field="amount_micros"):
        deposit_funds(party=elm, amount_micros=most, key="one too many", now=clock.now())


@pytest.mark.stage("collecting")
def test_only_buyers_deposit() -> None:
    with refused(BadInput, field="party"):
        deposit_funds(party=world.party("granite"), amount_micros=1, key="k", now=clock.now())


def test_a_deposit_is_one_act_per_key(own_world: Callable[[str], str]) -> None:
    own_world("collecting")
    elm, now = world.party("elm"), clock.now()
    first = deposit_funds(party=elm, amount_micros=5 * world.USD, key="k", now=now)

    with untouched():
        assert deposit_funds(party=elm, amount_micros=5 * world.USD, key="k", now=now) == first
    with refused(ReferenceReused, field="key"):
        deposit_funds(party=elm, amount_micros=6 * world.USD, key="k", now=now)

    assert balance(code="buyer.available", party=elm.pk).minor == 0
    cycle.run_chain(now=now)
    assert balance(code="buyer.available", party=elm.pk).minor == 5 * world.USD


@pytest.mark.stage("collecting")
def test_only_a_cleared_window_is_locked() -> None:
    for name in (world.MAIN, world.EARLY):
        with untouched():
            assert lock_window(window=world.window(name), now=clock.now()) == 0
            assert confirm_locks(window=world.window(name), now=clock.now()) == 0


@pytest.mark.stage("cleared")
def test_a_lock_that_dies_before_its_commit_leaves_nothing_and_is_done_by_the_next() -> None:
    with untouched(), faults.armed("escrow.lock.before_commit"), pytest.raises(faults.FaultInjected):
        lock_window(window=world.window(), now=clock.now())

    assert lock_window(window=world.window(), now=clock.now()) == 6


def test_a_lock_that_the_contract_reverts_gives_every_hold_back(own_world: Callable[[str], str]) -> None:
    own_world("cleared")
    now = clock.now()
    lock_window(window=world.window(), now=now)
    # the operator's hand slips: gas that cannot pay for the call, so the chain takes it and it fails there
    lock = ChainIntent.objects.get(function="lock", state="queued")
    lock.gas_limit = sender.least_gas(bytes(lock.calldata)) + 50_000
    lock.save()

    cycle.run_chain(now=now)
    assert confirm_locks(window=world.window(), now=now) == 0

    leases = m.Lease.objects.filter(window=world.window()).select_related("demand")
    assert {lease.state for lease in leases} == {"refused"}
    assert all(lease.refusal for lease in leases)
    assert {hold(lease.demand.hold_id).state for lease in leases} == {"void"}
    for code in world.BUYERS:
        party = world.party(code)
        assert spendable(code="buyer.available", party=party.pk) == balance(code="buyer.available", party=party.pk)
    assert cycle.reconcile(now=now) == []


def test_what_passes_the_exposure_of_a_class_is_refused_before_the_contract_sees_it(
    own_world: Callable[[str], str],
) -> None:
    own_world("cleared")
    now, harbour = clock.now(), world.node_class("harbour")
    # climate 296, tardy 197 and sovereign 33 dollars were awarded; the panel now attests to 350
    attest_class(node_class=harbour, exposure_cap_micros=350 * world.USD, nonce=2, expires_at=world.day(300), now=now)
    cycle.run_chain(now=now)

    assert lock_window(window=world.window(), now=now) == 5

    assert world.lease("tardy").state == "refused"
    assert "exposure" in world.lease("tardy").refusal
    assert hold(world.demand("tardy").hold_id).state == "void"
    cycle.run_chain(now=now)
    assert confirm_locks(window=world.window(), now=now) == 5
    assert world.lease("climate").state == "locked"
