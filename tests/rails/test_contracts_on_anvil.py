"""Some of the contract tests on anvil, in every suite: one or two of each contract. All of them run there with

    GROVE_TEST_CHAIN=anvil python3 manage.py test tests/contracts
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contracts import (
    test_anchor,
    test_claim,
    test_escrow_money,
    test_lock,
    test_settle,
    test_slashing,
    test_token,
)
from tests.contracts import world as worlds
from tests.contracts.anvil_chain import AnvilChain
from tests.contracts.world import World


@pytest.fixture(scope="module")
def on_anvil() -> World:
    """The market of the contract tests, built on anvil."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "Chain", AnvilChain)
        return World.market()


CHECKS = [
    test_lock.test_E2_a_lock_moves_free_money_to_locked_and_commits_it_to_the_class,
    test_lock.test_E3_only_the_operator_locks,
    test_lock.test_E3_each_line_is_held_against_its_own_mandate,
    test_escrow_money.test_E6_payable_money_goes_to_the_provider_whoever_calls,
    test_settle.test_E7_holdback_of_an_unproven_class_pays_the_harmed_buyer,
    test_slashing.test_S2_a_breach_at_expiry_counts_and_one_second_later_does_not,
    test_anchor.test_A1_roots_follow_each_other,
    test_token.test_T3_a_permit_works_once,
    test_claim.test_a_claim_waits_for_three_days_of_silence_to_the_second,
    test_claim.test_E8_after_claims_the_rest_is_returned_pro_rata,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contracts_do_the_same_on_anvil(on_anvil: World, check: Callable[[World], None]) -> None:
    check(on_anvil.copy())
