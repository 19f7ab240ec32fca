"""Who can be slashed when: one cell for each situation of a class and each of the two steps (S2, S3, S4, S6).

A cell is `TAKEN`, or the sentence with which the contract refuses. Where no request can come into being, execution is
tried on the number that it would have had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contracts.chain import refused
from tests.contracts.world import DAY, DELAYS, STAKE, USD, Batch, World

AMOUNT = 10 * USD
EXECUTED = 5

TAKEN = "taken"
NOT_PROVEN = "stake: not proven at lock and breach"
NO_REQUEST = "stake: request not executable"
FROZEN = "stake: request not executable"
PAUSED = "stake: slashing is paused"
USED = "stake: evidence was used"
DONE = "stake: request not executable"
CAPPED = "stake: cap is used up"

MATRIX = {
    # situation                        request     execute
    "unproven":                       (NOT_PROVEN, NO_REQUEST),
    "probation":                      (NOT_PROVEN, NO_REQUEST),
    "proven":                         (TAKEN,      TAKEN),
    "expired":                        (NOT_PROVEN, TAKEN),  # what was broken under the proof stays broken
    "disputed":                       (TAKEN,      FROZEN),  # another breach is another request
    "paused":                         (PAUSED,     PAUSED),
    "unbonding":                      (TAKEN,      TAKEN),
    "lease opened before proof":      (NOT_PROVEN, NO_REQUEST),
    "evidence reused":                (USED,       DONE),
    "over cap":                       (TAKEN,      CAPPED),  # cut down at execution, when the caps are known
}  # fmt: skip


@dataclass(frozen=True)
class Situation:
    """A lease to bring a verdict on, and the number of a request whose veto delay is over."""

    batch: Batch
    number: int = 1
    node_class: int = 1
    verdict: dict[str, Any] = field(default_factory=dict)


def due_request(market: World) -> tuple[Batch, int]:
    """A lease of the proven class and a request on it that can be executed now."""
    batch = market.lock([(0, 0, 100 * USD)])
    number = market.request_slash(batch, amount=AMOUNT)
    market.travel(DELAYS.veto)
    return batch, number


def unproven(market: World) -> Situation:
    market.attest_class(node_class=3, provider="provider:1")
    market.bond(node_class=3, amount=STAKE)
    return Situation(market.lock([(0, 0, 100 * USD)], classes=(3,)), node_class=3)


def probation(market: World) -> Situation:
    return Situation(market.lock([(0, 0, 100 * USD)], classes=(2,)), node_class=2)


def proven(market: World) -> Situation:
    return Situation(*due_request(market))


def expired(market: World) -> Situation:
    market.open_window(2, 200 * DAY)
    batch = market.lock([(0, 0, 100 * USD)], window=2)
    market.travel_to(market.call("stake", "class_info", 1) >> 88 & (2**40 - 1))
    number = market.request_slash(batch, amount=AMOUNT)
    market.travel(DELAYS.veto)
    return Situation(batch, number)


def disputed(market: World) -> Situation:
    batch = market.lock([(0, 0, 100 * USD)])
    number = market.request_slash(batch, amount=AMOUNT)
    market.send("provider:1", "stake", "dispute", number)
    market.travel(DELAYS.veto)
    return Situation(batch, number)


def paused(market: World) -> Situation:
    batch, number = due_request(market)
    market.send("pauser", "stake", "pause")
    return Situation(batch, number)


def unbonding(market: World) -> Situation:
    batch, number = due_request(market)
    market.send("provider:1", "stake", "unstake_request", 1, STAKE)
    return Situation(batch, number)


def before_proof(market: World) -> Situation:
    batch = market.lock([(0, 0, 100 * USD)], classes=(2,))
    market.prove(node_class=2, kind=2, epoch=2)
    market.travel(DAY)
    return Situation(batch, node_class=2)


def evidence_reused(market: World) -> Situation:
    batch, number = due_request(market)
    market.execute(number)
    return Situation(batch, number, verdict={"evidence": market.call("stake", "slash_of", number)["evidence"]})


def over_cap(market: World) -> Situation:
    batch = market.lock([(0, 0, 100 * USD)])
    first = market.request_slash(batch, amount=STAKE)
    second = market.request_slash(batch, amount=AMOUNT)
    market.travel(DELAYS.veto)
    market.execute(first)
    return Situation(batch, second)


ARRANGED: dict[str, Callable[[World], Situation]] = {
    "unproven": unproven, "probation": probation, "proven": proven, "expired": expired, "disputed": disputed,
    "paused": paused, "unbonding": unbonding, "lease opened before proof": before_proof,
    "evidence reused": evidence_reused, "over cap": over_cap,
}  # fmt: skip


def money(market: World, node_class: int) -> tuple[int, int, int]:
    """Stake of the class, bonded and unbonding; free money of the buyer; the pool."""
    bonded, unbonded, _ = market.stake_of(node_class)
    return bonded + unbonded, market.account("buyer:1")["free"], market.totals()["pool"]


@pytest.mark.parametrize("situation", MATRIX)
def test_S2_S3_S4_request(market: World, situation: str) -> None:
    cell, at = MATRIX[situation][0], ARRANGED[situation](market)
    before, count = money(market, at.node_class), market.call("stake", "slash_count")

    if cell == TAKEN:
        assert market.request_slash(at.batch, amount=AMOUNT, **at.verdict) == count + 1
    else:
        with refused(cell):
            market.request_slash(at.batch, amount=AMOUNT, **at.verdict)

    assert market.call("stake", "slash_count") == count + (cell == TAKEN)
    assert money(market, at.node_class) == before, "a request alone moves nothing"


@pytest.mark.parametrize("situation", MATRIX)
def test_S2_S3_S4_S6_execute(market: World, situation: str) -> None:
    cell, at = MATRIX[situation][1], ARRANGED[situation](market)
    stake, free, pool = before = money(market, at.node_class)

    if cell == TAKEN:
        market.execute(at.number)
        assert money(market, at.node_class) == (stake - AMOUNT, free + AMOUNT, pool)
        assert market.slash_state(at.number) == EXECUTED
    else:
        with refused(cell):
            market.execute(at.number)
        assert money(market, at.node_class) == before


def test_the_matrix_has_a_situation_for_each_row() -> None:
    assert MATRIX.keys() == ARRANGED.keys()
