"""How leases are shared over settle calls: up to the contract's bounds and one hour's credits, and not one less."""

from __future__ import annotations

from uuid import UUID

import pytest

from ledger.rails import abi
from ledger.rails.errors import CallReverted
from ledger.rails.evm import chain
from marketplace import models as m
from marketplace.payout import services as payout


def leases(count: int, *, buyers: int = 1, earned: int = 0) -> list[m.Lease]:
    """Judged leases, each of a class of its own, that no database knows."""
    made = [m.Lease(buyer_id=UUID(int=n % buyers + 1), node_class_id=UUID(int=n + 1)) for n in range(count)]
    for lease in made:
        lease.verdict = m.Verdict(lease=lease, earned_micros=earned)
    return made


def sizes(of: list[m.Lease]) -> list[int]:
    return [len(epoch.leases) for epoch in payout._epochs(of)]


@pytest.mark.stage("paid")
def test_the_bounds_are_those_of_the_contract() -> None:
    assert (payout.CALL_BUYERS_MAX, payout.CALL_CLASSES_MAX) == (64, 512)
    # The ABI tells no bounds of arrays: the contract itself takes the largest lists, and is refused one word more.
    settle = abi.function_of("escrow", "settle", 6)
    assert settle.inputs[1:3] == ("uint256[]", "uint256[]")
    for buyers, classes in ((64, 512), (65, 1), (1, 513)):
        with pytest.raises(CallReverted) as refusal:  # either way; what differs is what is said
            chain().call("escrow", "settle", 0, [0] * buyers, [0] * classes, 0, b"", b"", block="latest")
        is_too_long = "escrow:" not in str(refusal.value)
        assert is_too_long == ((buyers, classes) != (64, 512))


@pytest.mark.stage("paid")
def test_a_call_takes_as_many_classes_and_buyers_as_the_contract_and_no_more() -> None:
    assert sizes(leases(512)) == [512]
    assert sizes(leases(513)) == [512, 1]
    assert sizes(leases(64, buyers=64)) == [64]
    assert sizes(leases(65, buyers=65)) == [64, 1]


@pytest.mark.stage("paid")
def test_a_call_credits_no_more_than_an_hour_has_room_for_unless_one_lease_does() -> None:
    hour = chain().call("escrow", "settle_limit")
    assert sizes(leases(4, earned=hour // 2)) == [2, 2]
    assert sizes(leases(4, earned=hour // 2 + 1)) == [1, 1, 1, 1]
    assert sizes(leases(2, earned=hour + 1)) == [1, 1]
    assert sizes(leases(9)) == [9]
