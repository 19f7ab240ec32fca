"""When the operator is silent: classes claim what the last root owes them (E2, E5, E8), then everything is wound up."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.claims import NOTHING_OWED, ClaimTree
from contracts.parameters import CLAIM_SILENCE, SILENCE
from ledger.epochs import merkle_root
from tests.contracts.chain import TestChain, address_of, refused
from tests.contracts.world import DAY, FEE_BPS, SETTLE_LIMIT, USD, World, buyer_line, class_line, fee_of

LEASE, SMALL = 400 * USD, 50 * USD
DELIVERED = {1: 300 * USD, 2: 40 * USD}


def silent(market: World, owed: dict[int, int]) -> tuple[World, ClaimTree]:
    """Buyer 1 has 400 USD locked for class 1, buyer 2 50 USD for class 2; the operator's last root owes `owed`."""
    market.lock(
        [(0, 0, LEASE), (1, 1, SMALL)],
        mandates=[market.mandate("buyer:1"), market.mandate("buyer:2")],
        classes=(1, 2),
    )
    tree = market.tree(owed)
    market.settle([], [], root=tree.root)
    market.travel(CLAIM_SILENCE)
    return market, tree


@pytest.fixture
def quiet(market: World) -> tuple[World, ClaimTree]:
    return silent(market, DELIVERED)


def check_sums(world: World) -> None:
    totals = world.totals()
    assert totals["locked"] == totals["committed"] + totals["uncovered"], "E2"
    owed = sum(totals[name] for name in ("free", "committed", "payable", "holdback", "fees", "pool"))
    assert world.tokens("escrow") == owed, "E1"


def test_E2_a_class_claims_what_the_last_root_owes_it_and_is_paid(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet

    claimed = world.claim(tree, 1).one("Claimed")

    gross, fee = 300 * USD, fee_of(300 * USD)
    assert (claimed.node_class, claimed.gross, claimed.fee, claimed.held) == (1, gross, fee, 0)
    assert world.node(1) == {"committed": 100 * USD, "payable": gross - fee, "holdback": 0, "credited": gross}
    assert world.account("buyer:1")["locked"] == LEASE, "whose money it was is said by the next settle"
    assert world.totals()["uncovered"] == gross
    check_sums(world)
    world.send("stranger", "escrow", "withdraw_for", 1)
    assert world.tokens("provider:1") == gross - fee
    check_sums(world)


def test_E8_a_claim_works_once_until_more_is_owed(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    world.claim(tree, 1)

    with refused("escrow: nothing to claim"):
        world.claim(tree, 1)

    more = world.tree({1: 310 * USD, 2: 40 * USD})
    world.settle([], [], root=more.root)
    world.travel(CLAIM_SILENCE)
    assert world.claim(more, 1).one("Claimed").gross == 10 * USD


def test_E8_a_claim_never_takes_more_than_is_committed_to_the_class(market: World) -> None:
    world, tree = silent(market, {1: LEASE + SMALL, 2: SMALL + 1})

    assert world.claim(tree, 1).one("Claimed").gross == LEASE
    with refused("escrow: nothing is committed"):
        world.claim(tree, 1)
    assert world.claim(tree, 2).one("Claimed").gross == SMALL

    assert world.totals()["committed"] == 0
    assert world.totals()["uncovered"] == world.totals()["locked"]
    check_sums(world)


def test_E8_a_wrong_root_reaches_no_class_that_nothing_was_locked_for(market: World) -> None:
    market.attest_class(node_class=3, provider="stranger")
    world, tree = silent(market, {1: 300 * USD, 3: LEASE})

    with refused("escrow: nothing is committed"):
        world.claim(tree, 3)

    world.claim(tree, 1)


def test_a_claim_waits_for_three_days_of_silence_to_the_second(market: World) -> None:
    market.lock([(0, 0, LEASE)])
    tree = market.tree(DELIVERED)
    seen_at = market.settle([], [], root=tree.root).at
    market.travel_to(seen_at + CLAIM_SILENCE - 1)
    with refused("escrow: operator is not silent"):
        market.claim(tree, 1)
    market.travel_to(seen_at + CLAIM_SILENCE)
    market.copy().claim(tree, 1)

    market.settle([], [], root=tree.root)

    with refused("escrow: operator is not silent"):
        market.claim(tree, 1)


def test_nothing_is_claimed_while_nothing_is_locked(market: World) -> None:
    tree = market.tree(DELIVERED)
    market.settle([], [], root=tree.root)
    market.travel(CLAIM_SILENCE)

    with refused("escrow: nothing is locked"):
        market.claim(tree, 1)


def test_a_pause_stops_no_claim(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    for contract in ("escrow", "stake"):
        world.send("pauser", contract, "pause")

    world.claim(tree, 1)


def test_M058_what_an_unproven_class_claims_is_held_back(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet

    receipt = world.claim(tree, 2)

    net = 40 * USD - fee_of(40 * USD)
    assert (receipt.one("Claimed").held, world.node(2)["holdback"], world.node(2)["payable"]) == (net, net, 0)
    assert world.call("escrow", "held_since", 2) >= receipt.at
    check_sums(world)


def test_E7_a_leaf_is_bound_to_chain_contract_class_and_amount(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    node_class, cumulative, index, leaves, proof = tree.proof(1).abi()
    forgeries: list[tuple[Any, ...]] = [
        (2, cumulative, index, leaves, proof),
        (node_class, cumulative + 1, index, leaves, proof),
        (node_class, cumulative, 1, leaves, proof),
        (node_class, cumulative, index, leaves, [tree.leaf(1)]),
        (node_class, cumulative, index, leaves, [*proof, tree.root]),
        (node_class, cumulative, index, 1, []),
    ]
    for forged in forgeries:
        with refused("escrow: proof does not fit"):
            world.copy().send("stranger", "escrow", "claim", *forged)
    for other in (
        ClaimTree(chain_id=TestChain.chain_id + 1, contract=world.address("escrow"), owed=DELIVERED),
        ClaimTree(chain_id=TestChain.chain_id, contract=world.address("stake"), owed=DELIVERED),
    ):
        elsewhere = world.copy()
        elsewhere.settle([], [], root=other.root)
        elsewhere.travel(CLAIM_SILENCE)
        with refused("escrow: proof does not fit"):
            elsewhere.send("stranger", "escrow", "claim", *tree.proof(1).abi())

    world.claim(tree, 1)


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 6, 7, 8, 11])
def test_every_leaf_of_a_tree_of_any_size_is_proven(market: World, leaves: int) -> None:
    owed = {number: number * USD for number in range(1, leaves + 1)}
    world, tree = silent(market, owed)

    for number in range(1, leaves + 1):
        # every proof fits: what is refused is only that nothing was locked for the class
        sentence = None if number < 3 else "escrow: nothing is committed"
        if sentence is None:
            world.copy().claim(tree, number)
        else:
            with refused(sentence):
                world.copy().claim(tree, number)
    assert tree.root == merkle_root([tree.leaf(number) for number in owed]), "the form of the books' epochs"


def test_a_tree_knows_only_the_classes_it_owes(world: World) -> None:
    assert world.tree({}).root == NOTHING_OWED
    with pytest.raises(KeyError, match="class 3 is owed nothing"):
        world.tree({1: 5}).proof(3)
    with pytest.raises(ValueError, match="no amount of 64 bits"):
        assert world.tree({1: 2**64}).root


# ---- the operator comes back ----


def test_E5_the_next_settle_debits_the_buyers_for_what_was_claimed(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    world.claim(tree, 1)

    event = world.settle([buyer_line(1, 300 * USD, 100 * USD)], [class_line(1, 0, 0, 100 * USD)], covered=300 * USD)

    settled = event.one("Settled")
    assert (settled.debits, settled.covered, settled.fees) == (300 * USD, 300 * USD, 0)
    assert world.account("buyer:1")["locked"] == world.totals()["uncovered"] == world.node(1)["committed"] == 0
    assert world.account("buyer:1")["free"] == 9_700 * USD
    check_sums(world)


def test_E4_no_settle_that_was_signed_before_a_claim_is_taken_after_it(quiet: tuple[World, ClaimTree]) -> None:
    """Each of them would pay the class for what it has claimed, out of what other leases have committed to it."""
    world, tree = quiet
    signed = world.call("escrow", "last_epoch") + 1
    lines = [buyer_line(1, 300 * USD)], [class_line(1, 300 * USD)]
    world.copy().settle(*lines, epoch=signed)

    world.claim(tree, 2)

    for epoch in (signed, signed + 1, signed + 2):
        with refused("escrow: epoch is not the next"):
            world.settle(*lines, epoch=epoch)
    world.settle([], [], epoch=(1 << 32) + 1)
    for epoch in (signed, signed + 1, signed + 2):
        with refused("escrow: epoch is not the next"):
            world.settle(*lines, epoch=epoch)
    world.settle(*lines, epoch=(1 << 32) + 2)


def test_E4_a_claim_is_no_sign_of_the_operators_life(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    seen_at, hour = world.call("escrow", "last_seen_at"), SETTLE_LIMIT

    for number in (1, 2):
        world.claim(tree, number)

    assert world.call("escrow", "last_seen_at") == seen_at
    assert world.call("escrow", "last_epoch") == 2 << 32
    assert world.call("escrow", "settle_limit") == hour


def test_E5_debits_must_equal_gross_and_what_is_covered(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    with refused("escrow: covers more than claimed"):
        world.settle([buyer_line(1, 1)], [], covered=1)
    world.claim(tree, 1)
    for debit, covered in ((300 * USD, 300 * USD - 1), (300 * USD - 1, 300 * USD)):
        with refused("escrow: debits not as gross"):
            world.settle([buyer_line(1, debit)], [], covered=covered)
    with refused("escrow: covers more than claimed"):
        world.settle([buyer_line(1, 300 * USD + 1)], [], covered=300 * USD + 1)

    world.settle([buyer_line(1, 320 * USD)], [class_line(1, 20 * USD)], covered=300 * USD)
    assert world.node(1)["credited"] == 320 * USD


def test_E10_the_hourly_limit_counts_settlements_and_no_claims(market: World) -> None:
    plenty = 2 * SETTLE_LIMIT
    market.attest_class(node_class=1, provider="provider:1", exposure_cap=plenty)
    market.deposit("buyer:1", plenty)
    market.lock([(0, 0, plenty)], mandates=[market.mandate("buyer:1", max_spend=plenty)])
    tree = market.tree({1: plenty - USD})
    market.settle([], [], root=tree.root)
    market.travel(CLAIM_SILENCE)
    market.claim(tree, 1)

    market.settle([buyer_line(1, plenty)], [class_line(1, USD)], covered=plenty - USD)

    check_sums(market)


# ---- the operator does not come back ----


def test_E8_after_claims_the_rest_is_returned_pro_rata(market: World) -> None:
    market.lock(
        [(0, 0, 100), (1, 0, 50)],
        mandates=[market.mandate("buyer:1"), market.mandate("buyer:2")],
    )
    tree = market.tree({1: 49})
    market.settle([], [], root=tree.root)
    market.travel(CLAIM_SILENCE)
    market.claim(tree, 1)
    market.travel(SILENCE)
    free = [market.account(name)["free"] for name in ("buyer:1", "buyer:2")]

    wound = market.send("stranger", "escrow", "wind_up").one("WoundUp")
    back = [
        market.send("stranger", "escrow", "refund", address_of(name)).one("Refunded") for name in ("buyer:1", "buyer:2")
    ]

    assert (wound.locked, wound.left) == (150, 101)
    assert [(event.locked, event.amount) for event in back] == [(100, 100 * 101 // 150), (50, 50 * 101 // 150)]
    assert [market.account(name)["free"] for name in ("buyer:1", "buyer:2")] == [free[0] + 67, free[1] + 33]
    totals = market.totals()
    everything = sum(totals[name] for name in ("free", "payable", "holdback", "fees", "pool"))
    assert market.tokens("escrow") - everything == 1, "what rounding left belongs to nobody"
    assert totals["locked"] == 0


def test_wind_up_closes_claims_and_what_was_claimed_stays_payable(quiet: tuple[World, ClaimTree]) -> None:
    world, tree = quiet
    world.claim(tree, 1)
    world.travel(SILENCE)
    world.send("stranger", "escrow", "wind_up")

    with refused("escrow: wound up"):
        world.claim(tree, 2)

    world.travel(400 * DAY)
    world.send("stranger", "escrow", "withdraw_for", 1)
    assert world.tokens("provider:1") == 300 * USD - 300 * USD * FEE_BPS // 10_000


def test_when_everything_was_claimed_nothing_is_returned(market: World) -> None:
    world, tree = silent(market, {1: LEASE, 2: SMALL})
    for node_class in (1, 2):
        world.claim(tree, node_class)
    world.travel(SILENCE)

    assert world.send("stranger", "escrow", "wind_up").one("WoundUp").left == 0
    assert world.send("stranger", "escrow", "refund", address_of("buyer:1")).one("Refunded").amount == 0
    assert world.account("buyer:1")["locked"] == 0
