"""The process that measures gas: real bytecode and real signatures on the test chain, one transaction a figure.

All cases run in one market in which every slot that a case writes was used before. Deploying, funding and attesting are
not counted; a settle posts a new root each time, as an operator does.
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
PLENTY = 2**62
LOCK_MAX = 64  # classes in one call of lock
SETTLE_MAX = 512  # classes in one call of settle
DAY = 86_400

Pairs = Sequence[tuple[int, int]]  # (buyer, payee) of each lease, from 0


class Market:
    """Funded buyers and proven classes, each with money locked and settled once."""

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
        self.round([(number % buyers, number % classes) for number in range(max(buyers, classes))])

    def round(self, pairs: Pairs) -> tuple[int, int]:
        """Lock and settle a lease between each pair; return the gas of the locks and of the settlements."""
        self.window += 1
        self.world.open_window(self.window, DAY)
        locked = sum(self.lock(part) for part in parts(pairs, LOCK_MAX))
        settled = sum(self.settle(part) for part in parts(pairs, SETTLE_MAX))
        return locked, settled

    def lock(self, pairs: Pairs) -> int:
        """Gas of one lock call with one line for each lease."""
        buyers, payees = sorted({b for b, _ in pairs}), sorted({p for _, p in pairs})
        nonce = self.window * 10_000 + payees[0]  # of the same window a later call has the higher payees
        mandates = [
            self.world.mandate(self.buyers[b], window=self.window, nonce=nonce, max_spend=PLENTY) for b in buyers
        ]
        lines = [lock_line(buyers.index(b), payees.index(p), LEASE) for b, p in sorted(pairs)]
        classes = [payee + 1 for payee in payees]
        return self.world.send("operator", "escrow", "lock", self.window, mandates, classes, lines).gas

    def settle(self, pairs: Pairs) -> int:
        """Gas of one settle call: one word for each buyer and each payee."""
        debits, gross = Counter(b for b, _ in pairs), Counter(p for _, p in pairs)
        epoch = self.world.call("escrow", "last_epoch") + 1
        return self.world.settle(
            [buyer_line(b + 1, debits[b] * LEASE) for b in sorted(debits)],
            [class_line(p + 1, gross[p] * LEASE) for p in sorted(gross)],
            epoch,
            root=b"r" * 24 + epoch.to_bytes(8, "big"),
        ).gas

    def buyer_line_gas(self) -> int:
        """What one buyer more costs in a settle call."""
        one, two = ([(buyer, payee) for payee in range(4) for buyer in range(count)] for count in (1, 2))
        return self.round(two)[1] - self.round(one)[1]

    def payout(self, payees: Iterable[int]) -> float:
        """Gas of one withdrawal for a payee that has withdrawn before, on average."""
        gases = [self.world.send("stranger", "escrow", "withdraw_for", payee + 1).gas for payee in payees]
        return sum(gases) / len(gases)


def pairs_of(leases: int, buyers: int, payees: int) -> list[tuple[int, int]]:
    """Spread leases over buyers and payees so that no two lie between the same pair and every payee has some."""
    each = -(-leases // buyers)  # a buyer's payees are neighbours; the next buyer's begin where they end
    pairs = [(lease % buyers, (lease // buyers + lease % buyers * each) % payees) for lease in range(leases)]
    assert len(set(pairs)) == leases
    assert {payee for _, payee in pairs} == set(range(payees))
    return pairs


def parts(pairs: Pairs, payees_max: int) -> Iterator[list[tuple[int, int]]]:
    """Cut into calls of as many payees as one call takes."""
    last = max(payee for _, payee in pairs)
    for first in range(0, last + 1, payees_max):
        part = [pair for pair in pairs if first <= pair[1] < first + payees_max]
        if part:
            yield part


def measure(market: Market, leases: int, buyers: int, payees: int) -> dict[str, int]:
    """Measure one case; `calls` is how many settle calls it took, `lines` how many buyer lines these had."""
    pairs = pairs_of(leases, buyers, payees)
    locked, settled = market.round(pairs)
    cut = list(parts(pairs, SETTLE_MAX))
    return {
        "leases": leases, "payees": payees, "buyers": buyers, "lock": locked, "settle": settled, "calls": len(cut),
        "lines": sum(len({buyer for buyer, _ in part}) for part in cut),
    }  # fmt: skip


def measure_withdrawals(market: Market) -> dict[str, float]:
    """Gas of a payout, a claim and a plain transfer of the token, each into slots that were used before."""
    world, pairs = market.world, pairs_of(16, 2, 8)
    for _ in range(2):
        market.round(pairs)
        payout = market.payout(range(8))
    market.round(pairs)
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


def measure_all(cases: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Measure cases of (leases, buyers, payees) in one market, and what is not settled in bulk."""
    market = Market(max(case[1] for case in cases), max(case[2] for case in cases))
    measured = [measure(market, *case) for case in cases]
    return {"cases": measured, "buyer_line": market.buyer_line_gas(), "single": measure_withdrawals(market)}


if __name__ == "__main__":
    process.answer(measure_all(process.request()["cases"]))
