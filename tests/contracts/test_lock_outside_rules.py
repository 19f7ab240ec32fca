"""M-062, the fourth route: a thousand raw calls of the escrow contract, each for a class outside the mandate."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from contracts.jurisdictions import index_of, mask_of
from tests.contracts.chain import Reverted, address_of
from tests.contracts.world import USD, World, lock_line
from tests.properties.quick_chain import QuickChain

ATTEMPTS = 1_000
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


def test_E3_a_thousand_locks_outside_the_mandate_are_refused_and_good_ones_beside_them(market: World) -> None:
    rng = random.Random(62)
    world = World(QuickChain(market.chain))
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
    pairs = list(product(rules, known))
    bad = [pair for pair in pairs if not is_compliant(*pair)]
    good = [pair for pair in pairs if is_compliant(*pair)]

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
    assert sum(accepted(*pair) for pair in rng.choices(bad, k=ATTEMPTS)) == 0
    assert told == SENTENCES
    assert world.totals() == before  # not a cent was locked
    assert len(good) > 60
    assert all(accepted(*pair) for pair in good[:60])
    assert world.totals()["locked"] == before["locked"] + 60 * USD
