"""The largest settle call the contract takes: 512 classes and 64 buyers, within what one transaction may cost."""

import os

import pytest

from tests.contracts.chain import Reverted
from tests.contracts.world import DAY, USD, WEEK, World, buyer_line, class_line, fee_of
from tests.properties.quick_chain import QuickChain

BUYERS_MAX, CLASSES_MAX, LOCK_CLASSES_MAX = 64, 512, 64
TX_GAS_MAX = 2**24  # EIP-7825; blocks of public chains take twice as much and more
SLOT = 2_100 + 2_900  # a word that the transaction has not touched, read and written (EIP-2929)
FRESH_SLOT_MORE = 17_100  # a word that was never written costs that much more than one that was
pytestmark = pytest.mark.skipif(os.environ.get("GROVE_TEST_CHAIN") == "anvil", reason="built on a chain without blocks")


@pytest.fixture(scope="module")
def full() -> World:
    """As many classes as one call takes, and one more, none of them proven; each has 8 USD locked by one buyer."""
    deployed = World.deployed()
    world = World(QuickChain(deployed.chain))
    world.open_window(1)
    for buyer in range(1, BUYERS_MAX + 2):
        world.deposit(f"buyer:{buyer}", 1_000 * USD)
    for number in range(1, CLASSES_MAX + 2):
        world.attest_class(node_class=number, provider=f"host:{number}", expires=world.now + 90 * DAY)
    for first in range(1, CLASSES_MAX + 2, LOCK_CLASSES_MAX):
        classes = tuple(range(first, min(first + LOCK_CLASSES_MAX, CLASSES_MAX + 2)))
        world.lock(
            [(at, at, 8 * USD) for at in range(len(classes))],
            mandates=[world.mandate(f"buyer:{at + 1}", expiry=world.now + DAY) for at in range(len(classes))],
            classes=classes,
        )
    world.travel(WEEK + DAY)  # the windows are over: each holdback begins its delay anew, one more word a class
    return world


def lines(buyers: int, classes: int) -> tuple[list[int], list[int]]:
    """Everything of the first classes is earned and held back; the debits are the first buyers'."""
    held = 8 * USD - fee_of(8 * USD)
    each = 8 * USD * classes // buyers
    return (
        [buyer_line(index, each) for index in range(1, buyers + 1)],
        [class_line(number, 8 * USD, held) for number in range(1, classes + 1)],
    )


def test_one_class_or_buyer_more_than_a_call_takes_is_refused_and_changes_nothing(full: World) -> None:
    before = full.totals()
    for buyers, classes in ((BUYERS_MAX, CLASSES_MAX + 1), (BUYERS_MAX + 1, 65)):
        with pytest.raises(Reverted):
            full.settle(*lines(buyers, classes))
    assert full.totals() == before
    assert before["committed"] == 8 * USD * (CLASSES_MAX + 1)


def test_the_largest_call_fits_into_one_transaction_whatever_slots_it_writes(full: World) -> None:
    settled = full.settle(*lines(BUYERS_MAX, CLASSES_MAX))

    assert settled.one("Settled").debits == 8 * USD * CLASSES_MAX
    assert full.totals()["committed"] == 8 * USD
    assert full.node(CLASSES_MAX)["holdback"] == 8 * USD - fee_of(8 * USD)
    # A quick chain has one transaction: it counts no calldata (32 bytes a word at 16 gas), and takes every word for
    # touched. A class has two words, its own and the beginning of its holdback's delay.
    calldata = 21_000 + 16 * 32 * (BUYERS_MAX + CLASSES_MAX + 10)
    gas = settled.gas + calldata + SLOT * (2 * CLASSES_MAX + BUYERS_MAX + 6)
    most = gas + CLASSES_MAX * FRESH_SLOT_MORE
    print(f"settle of {BUYERS_MAX} buyers, {CLASSES_MAX} classes held back: {gas:,} gas at most, {most:,} in new words")
    assert most < TX_GAS_MAX
