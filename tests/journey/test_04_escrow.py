"""Money is locked on the chain before anything runs, and the contract checks every line against its mandate."""

from __future__ import annotations

from collections import defaultdict

import pytest

from ledger.models import ChainEvent, ChainIntent, Transfer
from ledger.rails.evm import chain
from ledger.rails.mirror import read_words
from ledger.selectors import balance, hold, total
from ledger.services import USDC6_LEDGER
from marketplace import clock
from marketplace import models as m
from marketplace.escrow.services import confirm_locks, lock_window
from tests.journey import world
from tests.journey.refusals import untouched


def leases() -> list[m.Lease]:
    rows = m.Lease.objects.filter(window=world.window())
    return list(rows.select_related("demand", "buyer", "node_class", "mandate"))


@pytest.mark.stage("delivering")
def test_each_award_became_a_lease_that_costs_what_was_awarded() -> None:
    awards = world.window().clearing.awards.values_list("demand__reference", "amount_micros")

    assert {lease.demand.reference: lease.fee_micros for lease in leases()} == dict(awards)
    assert {lease.state for lease in leases()} == {"locked"}
    assert world.window().state == "DELIVERING"


@pytest.mark.stage("delivering")
def test_books_and_chain_hold_the_same_money_for_every_buyer_and_class() -> None:
    locked: dict[object, int] = defaultdict(int)
    committed: dict[int, int] = defaultdict(int)
    for lease in leases():
        locked[lease.buyer_id] += lease.fee_micros
        committed[lease.node_class.chain_class] += lease.fee_micros
    words = read_words()

    for buyer, amount in locked.items():
        assert balance(code="buyer.held", party=buyer, scope=world.window().pk).minor == amount
        assert words.buyers[buyer] == (balance(code="buyer.available", party=buyer).minor, amount)
    for number, amount in committed.items():
        assert words.classes[number][0] == amount
    assert words.escrow_balance == total("chain.escrow").minor


@pytest.mark.stage("delivering")
def test_what_a_demand_did_not_need_of_its_hold_went_back() -> None:
    for lease in leases():
        kept = hold(lease.demand.hold_id)
        assert (kept.state, kept.posted_minor, kept.amount_minor) == (
            "posted", lease.fee_micros, lease.demand.hold_micros,
        )  # fmt: skip


@pytest.mark.stage("delivering")
def test_money_moved_in_the_books_only_after_it_was_locked_on_the_chain() -> None:
    event = ChainEvent.objects.filter(name="Locked").latest("block_number")
    posts = Transfer.objects.filter(
        ledger=USDC6_LEDGER, kind="post", pending_id__in=[lease.demand.hold_id for lease in leases()]
    )

    assert int(event.args["total"]) == sum(lease.fee_micros for lease in leases())
    assert len({bytes(row.reference) for row in posts}) == 1
    assert bytes(posts[0].reference).startswith(bytes.fromhex(event.block_hash.removeprefix("0x")))


@pytest.mark.stage("delivering")
def test_a_buyer_signs_one_mandate_per_set_of_rules() -> None:
    mandates = m.Mandate.objects.filter(window=world.window())
    rules = mandates.filter(party=world.party("alder")).values_list("zone", "control_zone", "tier_min")

    assert set(rules) == {("EU", None, 2), (None, "EU", 0)}
    for mandate in mandates:
        limits = sum(lease.demand.hold_micros for lease in leases() if lease.mandate_id == mandate.pk)
        assert mandate.max_spend_micros <= limits


@pytest.mark.stage("delivering")
def test_only_leases_signed_while_proven_are_armed() -> None:
    armed = {lease.demand.reference: lease.is_armed for lease in leases()}

    assert armed.pop("imaging") is False
    assert set(armed.values()) == {True}
    word = chain().call("stake", "state_of", world.node_class("basalt").chain_class)
    assert word == 1  # probation, on the chain too


@pytest.mark.stage("delivering")
def test_locking_again_locks_nothing() -> None:
    window, intents = world.window(), ChainIntent.objects.filter(function="lock").count()

    with untouched():
        assert lock_window(window=window, now=clock.now()) == 0
        assert confirm_locks(window=window, now=clock.now()) == 0

    assert ChainIntent.objects.filter(function="lock").count() == intents == 2


@pytest.mark.stage("cleared")
def test_two_calls_before_the_chain_has_answered_make_one_lock() -> None:
    window = world.window()

    assert lock_window(window=window, now=clock.now()) == 6
    with untouched():
        assert lock_window(window=window, now=clock.now()) == 0
        assert confirm_locks(window=window, now=clock.now()) == 0  # nothing is final yet

    assert ChainIntent.objects.filter(key="lock:2:0", state="queued").count() == 1
    assert world.window().state == "CLEARED"
