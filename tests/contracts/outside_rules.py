"""M-062, the fourth route: raw calls of the escrow contract, each for a class outside the mandate.

The thousand that the requirement asks for run beside the other routes, in `tests/marketplace/test_refused_three_times`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from contracts.jurisdictions import index_of, mask_of
from tests.contracts.chain import Reverted, address_of
from tests.contracts.world import USD, SignedMandate, World, lock_line
from tests.properties.quick_chain import QuickChain

COUNTRIES = ("DE", "FR", "IT", "US", "CH")
EVERYWHERE = mask_of(COUNTRIES)
ZONES = {None: COUNTRIES, "EU": ("DE", "FR", "IT"), "US": ("US",)}
SENTENCES = {
    "escrow: site outside mandate", "escrow: owner outside mandate", "escrow: operator outside mandate",
    "escrow: keys outside mandate", "escrow: tier below mandate",
}  # fmt: skip


@dataclass(frozen=True)
class Mandated:
    buyer: str
    zone: str | None
    control_zone: str | None
    tier_min: int


@dataclass(frozen=True)
class Attested:
    node_class: int
    site: str
    parent: str
    operator: str
    keys: str
    tier: int


def is_compliant(rule: Mandated, known: Attested) -> bool:
    controlled = ZONES[rule.control_zone]
    return (
        known.site in ZONES[rule.zone]
        and all(each in controlled for each in (known.parent, known.operator, known.keys))
        and known.tier >= rule.tier_min
    )


@dataclass(frozen=True)
class Outcome:
    """What came of the calls: how many were made, taken, and why not; and the money before and after."""

    attempts: int
    accepted: int
    told: set[str]  # the contract's sentences
    locked_by_bad: int  # micro-USD
    good: int
    good_accepted: int
    locked_by_good: int  # micro-USD


def attempt(market: World, attempts: int, good_max: int = 60) -> Outcome:
    """Call `lock` for pairs that break the mandate, then for some that keep it, one dollar each."""
    rng = random.Random(62)
    world = World(QuickChain(market.chain))
    pairs, mandates = _drawn(world, rng)
    bad = [pair for pair in pairs if not is_compliant(*pair)]
    good = [pair for pair in pairs if is_compliant(*pair)][:good_max]
    told: set[str] = set()

    def accepted(rule: Mandated, each: Attested) -> bool:
        try:
            world.send("operator", "escrow", "lock", 1, [mandates[rule.buyer]], [each.node_class],
                       [lock_line(0, 0, USD)])  # fmt: skip
        except Reverted as refusal:
            told.add(str(refusal))
            return False
        return True

    before = world.totals()
    taken = sum(accepted(*pair) for pair in rng.choices(bad, k=attempts))
    between = world.totals()
    assert (between == before) == (taken == 0)  # not a cent moved elsewhere
    good_taken = sum(accepted(*pair) for pair in good)
    after = world.totals()
    return Outcome(attempts, taken, told, between["locked"] - before["locked"], len(good), good_taken,
                   after["locked"] - between["locked"])  # fmt: skip


def _drawn(world: World, rng: random.Random) -> tuple[list[tuple[Mandated, Attested]], dict[str, SignedMandate]]:
    """Every pair of thirty random mandates and forty random classes, and the mandates signed."""
    zones = tuple(ZONES)
    rules = [Mandated(f"buyer:{n}", rng.choice(zones), rng.choice(zones), rng.randrange(4)) for n in range(10, 40)]
    homes = [(rng.choice(COUNTRIES), rng.choice(COUNTRIES)) for _ in range(40)]
    known = [Attested(100 + n, home, *(rng.choice((home, home, other)) for _ in range(3)), rng.choice(range(4)))
             for n, (home, other) in enumerate(homes)]  # fmt: skip
    for each in known:
        world.attest_class(
            node_class=each.node_class, provider=f"provider:{each.node_class}", site=index_of(each.site),
            parent=index_of(each.parent), operator=index_of(each.operator), keys=index_of(each.keys), tier=each.tier,
        )  # fmt: skip
    mandates = {}
    for rule in rules:
        world.mint("stranger", 1_000 * USD, "escrow")
        world.send("stranger", "escrow", "deposit", address_of(rule.buyer), 1_000 * USD)
        mandates[rule.buyer] = world.mandate(
            rule.buyer, zone_mask=mask_of(ZONES[rule.zone]), parent_mask=mask_of(ZONES[rule.control_zone]),
            min_tier=rule.tier_min,
        )  # fmt: skip
    return list(product(rules, known)), mandates
