"""Settle: consecutive, balanced, and only to the class the money was locked for (E2, E4, E5, E10); wind-up (E8)."""

import pytest

from contracts.parameters import SILENCE
from tests.contracts.chain import Reverted, address_of, refused, sign_all
from tests.contracts.world import (
    DAY,
    SETTLE_LIMIT,
    UNPROVEN_CAP,
    USD,
    World,
    buyer_line,
    class_line,
    fee_of,
)

LEASE = 400 * USD


@pytest.fixture
def locked(market: World) -> World:
    """Buyer 1 has 400 USD locked for class 1, buyer 2 has 50 USD locked for class 2."""
    market.lock(
        [(0, 0, LEASE), (1, 1, 50 * USD)],
        mandates=[market.mandate("buyer:1"), market.mandate("buyer:2")],
        classes=(1, 2),
    )
    return market


def test_E5_a_settlement_pays_the_class_keeps_the_fee_and_returns_the_rest(locked: World) -> None:
    settled = locked.settle(
        [buyer_line(1, 300 * USD, 60 * USD), buyer_line(2, 50 * USD)],
        [class_line(1, 300 * USD, 0, 60 * USD), class_line(2, 50 * USD, 47 * USD)],
    ).one("Settled")

    fees = fee_of(300 * USD) + fee_of(50 * USD)
    assert (settled.debits, settled.refunds, settled.fees) == (350 * USD, 60 * USD, fees)
    assert locked.account("buyer:1")["locked"] == locked.node(1)["committed"] == 40 * USD
    assert locked.account("buyer:1")["free"] == 9_660 * USD
    assert locked.node(1)["payable"] == 300 * USD - fee_of(300 * USD)
    assert locked.node(2)["holdback"] == 47 * USD
    assert locked.node(2)["payable"] == 3 * USD - fee_of(50 * USD)
    assert locked.node(1)["credited"] == 300 * USD
    assert locked.totals()["locked"] == locked.totals()["committed"] == 40 * USD
    assert locked.tokens("escrow") == 20_000 * USD


def test_E4_epochs_are_strictly_consecutive(locked: World) -> None:
    line = ([buyer_line(1, USD)], [class_line(1, USD)])
    locked.settle(*line, epoch=1)
    before = locked.totals()

    for epoch in (0, 1, 3):
        with refused("escrow: epoch is not the next"):
            locked.settle(*line, epoch=epoch)

    assert locked.totals() == before
    locked.settle(*line, epoch=2)
    assert locked.call("escrow", "last_epoch") == 2


def test_only_the_operator_settles(locked: World) -> None:
    for name in ("governance", "treasury", "provider:1", "stranger"):
        with refused("escrow: only operator may"):
            locked.send(name, "escrow", "settle", 1, [], [], 0, b"r" * 32, b"b" * 32)

    locked.settle([], [])


def test_E5_debits_must_equal_gross_and_refunds_returned(locked: World) -> None:
    with refused("escrow: debits not as gross"):
        locked.settle([buyer_line(1, USD)], [class_line(1, USD - 1)])
    with refused("escrow: refunds not as returned"):
        locked.settle([buyer_line(1, USD, 2)], [class_line(1, USD, 0, 1)])

    locked.settle([buyer_line(1, USD, 1)], [class_line(1, USD, 0, 1)])


def test_E5_money_reaches_only_a_class_it_was_locked_for(locked: World) -> None:
    with refused("escrow: committed is too small"):
        locked.settle([buyer_line(1, 51 * USD)], [class_line(2, 51 * USD)])
    with refused("escrow: committed is too small"):
        locked.settle([buyer_line(1, 50 * USD, 1)], [class_line(2, 50 * USD, 0, 1)])
    with refused("escrow: committed is too small"):
        locked.settle([buyer_line(1, 1)], [class_line(3, 1)])

    locked.settle([buyer_line(1, LEASE)], [class_line(1, LEASE)])


def test_E5_a_buyer_is_not_debited_beyond_its_lock(locked: World) -> None:
    with refused("escrow: locked is too small"):
        locked.settle([buyer_line(2, 50 * USD + 1)], [class_line(1, 50 * USD + 1)])
    with refused("escrow: locked is too small"):
        locked.settle([buyer_line(2, 50 * USD, 1)], [class_line(1, 50 * USD, 0, 1)])
    with refused("escrow: locked is too small"):
        locked.settle([buyer_line(9, 1)], [class_line(1, 1)])

    locked.settle([buyer_line(2, 50 * USD)], [class_line(2, 50 * USD)])


def test_E5_holdback_leaves_room_for_the_fee(locked: World) -> None:
    gross = 50 * USD
    with refused("escrow: holdback exceeds gross"):
        locked.settle([buyer_line(2, gross)], [class_line(2, gross, gross - fee_of(gross) + 1)])

    locked.settle([buyer_line(2, gross)], [class_line(2, gross, gross - fee_of(gross))])
    assert locked.node(2)["payable"] == 0


def test_the_fee_rounds_down(locked: World) -> None:
    locked.settle([buyer_line(1, 19)], [class_line(1, 19)])
    assert locked.totals()["fees"] == 0

    locked.settle([buyer_line(1, 20)], [class_line(1, 20)])
    assert locked.totals()["fees"] == 1


def test_lines_are_netted_one_per_buyer_and_class(locked: World) -> None:
    one, two = buyer_line(1, USD), buyer_line(2, USD)
    for lines in ([one, one], [two, one], [buyer_line(0, 0)]):
        with refused("escrow: buyer lines not rising"):
            locked.settle(lines, [class_line(1, 2 * USD)])
    for classes in ([class_line(1, USD), class_line(1, USD)], [class_line(2, USD), class_line(1, USD)]):
        with refused("escrow: class lines not rising"):
            locked.settle([one, two], classes)

    locked.settle([one, two], [class_line(1, USD), class_line(2, USD)])


def test_E10_what_is_credited_in_an_hour_is_limited(market: World) -> None:
    plenty = 3 * SETTLE_LIMIT
    market.attest_class(node_class=1, provider="provider:1", exposure_cap=plenty)
    market.deposit("buyer:1", plenty)
    market.lock([(0, 0, plenty)], mandates=[market.mandate("buyer:1", max_spend=plenty)])
    first = market.settle([buyer_line(1, SETTLE_LIMIT - 1)], [class_line(1, SETTLE_LIMIT - 1)])
    market.settle([buyer_line(1, 1)], [class_line(1, 1)])
    market.travel_to(first.at + 3_599)

    with refused("escrow: hourly limit exceeded"):
        market.settle([buyer_line(1, 1)], [class_line(1, 1)])

    market.travel_to(first.at + 3_600)
    with refused("escrow: hourly limit exceeded"):
        market.copy().settle([buyer_line(1, SETTLE_LIMIT + 1)], [class_line(1, SETTLE_LIMIT + 1)])
    market.settle([buyer_line(1, 1)], [class_line(1, 1)])


def test_E6_holdback_is_released_on_proof(locked: World) -> None:
    gross, held = 50 * USD, 40 * USD
    locked.settle([buyer_line(2, gross)], [class_line(2, gross, held)])
    with refused("escrow: holdback is not due yet"):
        locked.send("stranger", "escrow", "release_holdback", 2)

    locked.prove(node_class=2, kind=2, epoch=2)
    released = locked.send("stranger", "escrow", "release_holdback", 2).one("HoldbackReleased")

    assert released.amount == held
    assert locked.node(2)["payable"] == gross - fee_of(gross)
    assert locked.node(2)["holdback"] == 0
    with refused("escrow: nothing is held back"):
        locked.send("stranger", "escrow", "release_holdback", 2)


def test_E6_holdback_is_released_thirty_days_after_the_last_window(locked: World) -> None:
    locked.settle([buyer_line(2, 50 * USD)], [class_line(2, 50 * USD, 40 * USD)])
    ends_at = locked.call("escrow", "window_ends", 1)
    assert locked.call("escrow", "held_since", 2) == ends_at
    locked.travel_to(ends_at + 30 * DAY - 1)

    with refused("escrow: holdback is not due yet"):
        locked.send("stranger", "escrow", "release_holdback", 2)

    locked.travel_to(ends_at + 30 * DAY)
    locked.send("stranger", "escrow", "release_holdback", 2)


def test_E6_holdback_settled_after_the_window_waits_from_its_settlement(locked: World) -> None:
    locked.travel_to(locked.call("escrow", "window_ends", 1) + 5 * DAY)

    at = locked.settle([buyer_line(2, 50 * USD)], [class_line(2, 50 * USD, 40 * USD)]).at

    assert locked.call("escrow", "held_since", 2) == at


def test_E7_holdback_of_an_unproven_class_pays_the_harmed_buyer(market: World) -> None:
    batch = market.lock([(0, 0, 50 * USD)], mandates=[market.mandate("buyer:2")], classes=(2,))
    market.settle([buyer_line(2, 50 * USD)], [class_line(2, 50 * USD, 40 * USD)])
    free = market.account("buyer:2")["free"]
    verdict = market.verdict(batch, amount=40 * USD)

    event = market.forfeit(batch, verdict).one("HoldbackForfeited")

    assert (event.node_class, event.amount, event.evidence) == (2, 40 * USD, verdict.evidence)
    assert market.account("buyer:2")["free"] == free + 40 * USD
    assert market.node(2)["holdback"] == 0
    with refused("escrow: evidence was used"):
        market.forfeit(batch, verdict)


def test_forfeiture_is_bound_by_holdback_lease_time_nonce_and_panel(market: World) -> None:
    batch = market.lock([(0, 0, 30 * USD), (1, 0, 50 * USD)],
                        mandates=[market.mandate("buyer:1"), market.mandate("buyer:2")], classes=(2,))  # fmt: skip
    market.settle([buyer_line(1, 30 * USD), buyer_line(2, 50 * USD)], [class_line(2, 80 * USD, 40 * USD)])

    with refused("escrow: verdict exceeds lease"):
        market.forfeit(batch, amount=30 * USD + 1)
    with refused("escrow: verdict exceeds lease"):
        market.forfeit(batch, amount=0)
    with refused("escrow: holdback is too small"):
        market.forfeit(batch, line=1, amount=40 * USD + 1)
    with refused("escrow: breach outside lease"):
        market.forfeit(batch, breach_at=batch.locked_at - 1)
    with refused("escrow: breach outside lease"):
        market.forfeit(batch, breach_at=market.now + 1)
    with refused("escrow: verdict has expired"):
        market.forfeit(batch, expires=market.now - 1)
    with refused("escrow: line is of another class"):
        market.forfeit(batch, node_class=1)
    with refused("stake: too few signatures"):
        market.forfeit(batch, signers=["slasher:1"])
    with refused("stake: signer has no seat"):
        market.forfeit(batch, signers=market.panel("verifier"))

    market.forfeit(batch, amount=30 * USD, breach_at=batch.locked_at, expires=market.now, nonce=77)
    with refused("escrow: verdict nonce was used"):
        market.forfeit(batch, nonce=77)


def test_a_verdict_signed_for_stake_forfeits_no_holdback(market: World) -> None:
    batch = market.lock([(0, 0, 50 * USD)], mandates=[market.mandate("buyer:2")], classes=(2,))
    market.settle([buyer_line(2, 50 * USD)], [class_line(2, 50 * USD, 40 * USD)])
    verdict = market.verdict(batch)

    foreign = sign_all(market.panel("slasher"), verdict, market.address("stake"))
    # another domain recovers to other, unseated and unsorted signers
    with pytest.raises(Reverted, match="stake: sign"):
        market.send("stranger", "escrow", "forfeit_holdback", verdict.abi(), *batch.opening(), foreign)

    market.forfeit(batch, verdict)


def test_a_class_proven_at_lock_and_breach_is_slashed_not_forfeited(market: World) -> None:
    batch = market.lock([(0, 0, 50 * USD)])
    market.settle([buyer_line(1, 50 * USD)], [class_line(1, 50 * USD, 40 * USD)])

    with refused("escrow: proven, slash the stake"):
        market.forfeit(batch)

    market.request_slash(batch)


def test_E8_money_comes_back_when_the_operator_falls_silent(locked: World) -> None:
    seen_at = locked.call("escrow", "last_seen_at")
    with refused("escrow: not wound up"):
        locked.send("stranger", "escrow", "refund", address_of("buyer:1"))
    locked.travel_to(seen_at + SILENCE - 1)
    with refused("escrow: operator is not silent"):
        locked.send("stranger", "escrow", "wind_up")
    locked.travel_to(seen_at + SILENCE)

    locked.send("stranger", "escrow", "wind_up")
    refunded = locked.send("stranger", "escrow", "refund", address_of("buyer:1")).one("Refunded")

    assert refunded.amount == LEASE
    assert locked.account("buyer:1")["free"] == 10_000 * USD
    with refused("escrow: buyer has nothing locked"):
        locked.send("stranger", "escrow", "refund", address_of("buyer:1"))
    with refused("escrow: wound up"):
        locked.send("stranger", "escrow", "wind_up")
    assert locked.totals()["locked"] == 50 * USD


def test_a_settlement_is_a_sign_of_life_even_when_empty(locked: World) -> None:
    locked.travel(SILENCE - 10)
    locked.settle([], [])
    locked.travel(SILENCE - 10)

    with refused("escrow: operator is not silent"):
        locked.send("stranger", "escrow", "wind_up")

    locked.travel(10)
    locked.send("stranger", "escrow", "wind_up")


def test_an_idle_market_cannot_be_wound_up(market: World) -> None:
    market.travel(10 * SILENCE)
    with refused("escrow: nothing is locked"):
        market.send("stranger", "escrow", "wind_up")

    market.attest_class(node_class=1, provider="provider:1")
    market.open_window(2)
    market.lock([(0, 0, UNPROVEN_CAP)], window=2)
    with refused("escrow: operator is not silent"):
        market.send("stranger", "escrow", "wind_up")


def test_a_lock_while_money_is_locked_is_no_sign_of_life(market: World) -> None:
    market.open_window(2, 60 * DAY)
    at = market.lock([(0, 0, USD)], window=2).locked_at
    market.travel(DAY)

    market.lock([(0, 0, USD)], window=2)

    assert market.call("escrow", "last_seen_at") == at


def test_E6_E8_after_wind_up_nothing_is_locked_or_settled_and_everything_is_withdrawn(locked: World) -> None:
    locked.settle([buyer_line(1, LEASE)], [class_line(1, LEASE)])
    locked.open_window(2, 60 * DAY)
    locked.travel(SILENCE)
    locked.send("stranger", "escrow", "wind_up")

    with refused("escrow: wound up"):
        locked.lock([(0, 0, USD)], window=2)
    with refused("escrow: wound up"):
        locked.settle([], [])
    locked.send("stranger", "escrow", "refund", address_of("buyer:2"))
    locked.send("stranger", "escrow", "withdraw_for", 1)
    locked.send("stranger", "escrow", "withdraw_fees")
    for name in ("buyer:1", "buyer:2"):
        locked.send(name, "escrow", "withdraw", locked.account(name)["free"])
    assert locked.tokens("escrow") == 0
