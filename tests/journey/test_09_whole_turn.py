"""The whole turn: money is conserved, every invariant holds, and the cycle alone comes to the same figures."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ledger.audit import audit_ledger
from ledger.epochs import leaf_hash, merkle_root
from ledger.models import ChainIntent, Epoch, EpochAnchor, Ledger, Reconciliation, Transfer
from ledger.rails.anchors import check_anchors
from ledger.rails.evm import chain
from ledger.rails.mirror import read_words
from ledger.selectors import trial_balance
from ledger.services import USDC6_LEDGER
from marketplace import clock, cycle
from marketplace import models as m
from marketplace.invariants import check_everything
from tests.journey import world
from tests.journey.refusals import all_rows
from tests.owner import behind_the_triggers

PATH = ["BIDDING", "CLEARING", "CLEARED", "DELIVERING", "SETTLED"]


@pytest.mark.stage("closed")
def test_both_windows_walked_the_whole_path() -> None:
    for name in (world.EARLY, world.MAIN):
        assert list(world.window(name).transitions.values_list("to_state", flat=True)) == PATH


@pytest.mark.stage("closed")
def test_every_invariant_of_books_chain_and_certificates_holds() -> None:
    findings = check_everything(now=clock.now())

    assert [f"{found.name}: {found.detail}" for found in findings if not found.ok] == []
    assert len(findings) > 20


@pytest.mark.stage("closed")
def test_money_is_conserved_from_deposit_to_payout() -> None:
    deposited = sum(
        int(row.calldata[-32:].hex(), 16) for row in ChainIntent.objects.filter(contract="escrow", function="deposit")
    )
    staked = world.STAKE_MICROS * 5
    words = read_words()
    paid = sum(m.Payout.objects.values_list("amount_micros", flat=True))
    slashed = sum(m.SlashCase.objects.values_list("to_buyer_micros", flat=True))

    assert words.escrow_balance == deposited - paid + slashed
    assert words.stake_balance == staked - slashed
    sums = trial_balance()
    assert sums.debits_posted == sums.credits_posted > 0
    assert sums.debits_pending == sums.credits_pending


@pytest.mark.stage("closed")
def test_the_books_are_sealed_and_their_root_lies_on_the_chain() -> None:
    anchored = EpochAnchor.objects.get()

    assert chain().call("anchor", "last_epoch") == anchored.no == 1
    assert Reconciliation.objects.latest("id").differences == []
    assert not Ledger.objects.filter(halted=True).exists()


@pytest.mark.stage("closed")
def test_history_that_was_rewritten_whole_is_told_by_the_roots_on_chain_alone() -> None:
    assert check_anchors().ok
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_transfer set effective_at = effective_at + interval '1 day' where seq = 1")
        epoch = Epoch.objects.get(ledger=USDC6_LEDGER, no=1)
        root = merkle_root(leaf_hash(row) for row in Transfer.objects.filter(
            ledger=USDC6_LEDGER, seq__range=(epoch.from_seq, epoch.to_seq)).order_by("seq"))  # fmt: skip
        cursor.execute("update ledger_epoch set root = %s where ledger = %s and no = 1", [root, USDC6_LEDGER])

    found = check_anchors()

    assert all(each.ok for each in audit_ledger(USDC6_LEDGER)), "the books agree with themselves"
    assert (found.ok, found.invariant) == (False, "L8")
    assert found.detail.startswith("epoch 1: the chain keeps 0x")
    assert root.hex() in found.detail


@pytest.mark.stage("closed")
def test_epochs_that_the_books_lost_or_only_claim_to_have_anchored_are_named() -> None:
    with behind_the_triggers() as cursor:
        cursor.execute("update ledger_epochanchor set no = 2")
        cursor.execute("delete from ledger_epoch")

    found = check_anchors()

    assert not found.ok
    assert "the books give none" in found.detail
    assert "epoch 2 is said to be on chain, and is not" in found.detail


def test_the_cycle_alone_comes_to_the_same_figures_as_step_by_step(
    own_world: Callable[[str], str], figures_at_the_end: dict[str, object]
) -> None:
    own_world("bidding")

    world.play("closed", world.CYCLE_ACTS)

    assert world.figures() == figures_at_the_end


def test_a_finished_turn_played_again_changes_nothing(own_world: Callable[[str], str]) -> None:
    own_world("closed")
    before = all_rows()

    assert cycle.advance_until_quiet(now=clock.now()) == []
    for act in world.ACTS:
        world.play(act)

    assert all_rows() == before
