"""The process that measures gas: real bytecode and real signatures on the test chain, one transaction a figure.

A case runs three rounds of lock and settle in one market; the last is counted, so every slot it writes was used before.
Deploying, funding and attesting are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from contracts.parameters import CLAIM_SILENCE
from tests.benchmarks import process
from tests.contracts.chain import address_of
from tests.contracts.world import DELAYS, USD, World, buyer_line, class_line, lock_line

LEASE = 20 * USD
ROUNDS = 3
PLENTY = 2**62
CALL_MAX = 64  # classes in one lock call
DAY = 86_400


class Market:
    """Enough funded buyers and proven classes for the largest case."""

    def __init__(self, buyers: int, classes: int) -> None:
        self.world = world = World.deployed()
        self.buyers = [f"payer:{number}" for number in range(1, buyers + 1)]
        self.window = 0
        world.enact("escrow", 4, "nobody", 2**64 - 1)
        for kind in (1, 2):
            for number in range(1, classes + 1):
                if kind == 1:
                    world.attest_class(node_class=number, provider=f"host:{number}", exposure_cap=PLENTY)
                world.prove(node_class=number, kind=kind, epoch=kind)
            world.travel(DELAYS.probation)
        world.mint("stranger", PLENTY, "escrow")
        for name in self.buyers:
            world.send("stranger", "escrow", "deposit", address_of(name), PLENTY // (2 * buyers))

    def round(self, pairs: Sequence[tuple[int, int]], per_call: int) -> tuple[int, int]:
        """Lock and settle a lease between each (buyer, payee); return the gas of the locks and of the settlements."""
        self.window += 1
        self.world.open_window(self.window, DAY)
        locked = sum(self.lock(part) for part in parts(pairs, CALL_MAX))
        settled = sum(self.settle(part) for part in parts(pairs, per_call))
        return locked, settled

    def lock(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Gas of one lock call with one line for each lease."""
        buyers, payees = sorted({b for b, _ in pairs}), sorted({p for _, p in pairs})
        nonce = self.window * 10_000 + payees[0]  # of the same window a later call has the higher payees
        mandates = [
            self.world.mandate(self.buyers[b], window=self.window, nonce=nonce, max_spend=PLENTY) for b in buyers
        ]
        lines = [lock_line(buyers.index(b), payees.index(p), LEASE) for b, p in sorted(pairs)]
        classes = [payee + 1 for payee in payees]
        return self.world.send("operator", "escrow", "lock", self.window, mandates, classes, lines).gas

    def settle(self, pairs: Sequence[tuple[int, int]]) -> int:
        """Gas of one settle call: one word for each buyer and each payee."""
        debits, gross = Counter(b for b, _ in pairs), Counter(p for _, p in pairs)
        return self.world.settle(
            [buyer_line(b + 1, debits[b] * LEASE) for b in sorted(debits)],
            [class_line(p + 1, gross[p] * LEASE) for p in sorted(gross)],
        ).gas

    def payout(self, payees: Iterable[int]) -> float:
        """Gas of one withdrawal for a payee that has withdrawn before, on average."""
        gases = [self.world.send("stranger", "escrow", "withdraw_for", payee + 1).gas for payee in payees]
        return sum(gases) / len(gases)


def pairs_of(leases: int, buyers: int, payees: int) -> list[tuple[int, int]]:
    """Spread leases over buyers and payees so that no two lie between the same pair and every payee has some."""
    pairs = [(lease % buyers, (lease // buyers + lease % buyers) % payees) for lease in range(leases)]
    assert len(set(pairs)) == leases
    assert {payee for _, payee in pairs} == set(range(payees))
    return pairs


def parts(pairs: Sequence[tuple[int, int]], payees_max: int) -> Iterator[list[tuple[int, int]]]:
    """Cut into calls of so many payees."""
    last = max(payee for _, payee in pairs)
    for first in range(0, last + 1, payees_max):
        yield [pair for pair in pairs if first <= pair[1] < first + payees_max]


def measure(leases: int, buyers: int, payees: int, per_call: int) -> dict[str, Any]:
    """Measure one case in a market of its own."""
    market = Market(buyers, payees)
    pairs = pairs_of(leases, buyers, payees)
    for _ in range(ROUNDS):
        locked, settled = market.round(pairs, per_call)
    return {"leases": leases, "payees": payees, "buyers": buyers, "lock": locked, "settle": settled}


def measure_withdrawals() -> dict[str, float]:
    """Gas of a payout, a claim and a plain transfer of the token, each into slots that were used before."""
    market = Market(2, 8)
    pairs = pairs_of(16, 2, 8)
    for _ in range(2):
        market.round(pairs, CALL_MAX)
        payout = market.payout(range(8))
    market.round(pairs, CALL_MAX)
    world = market.world
    world.mint("stranger", 10 * USD, "escrow")
    for _ in range(2):
        transfer = world.send("stranger", "token", "transfer", address_of("host:1"), USD).gas
    for _ in range(2):
        market.window += 1
        world.open_window(market.window, DAY)
        market.lock(pairs)
        owed = {number: world.node(number)["credited"] + LEASE for number in range(1, 9)}
        tree = world.tree(owed)
        world.settle([], [], root=tree.root)
        world.travel(CLAIM_SILENCE)
        claims = [world.claim(tree, number).gas for number in owed]
    return {"payout_per_payee": payout, "claim": sum(claims) / len(claims), "erc20_transfer": transfer}


def main() -> None:
    """Measure the asked cases."""
    asked = process.request()
    cases = [measure(*case) for case in asked["cases"]]
    process.answer({"cases": cases, "single": measure_withdrawals()})


if __name__ == "__main__":
    main()
