"""Random lock lines outside the buyer's mandate, sent straight to escrow by the holder of the settle key (E3, E7).

Each is right in everything but one thing, and the same line without that fault is accepted beside it: a contract that
refuses everything would pass no better than one that refuses nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from contracts.eip712 import Mandate, Signature
from contracts.jurisdictions import EVERY_COUNTRY_MASK, INDEX_BY_COUNTRY
from tests.contracts.chain import Reverted, TestChain, address_of, sign, sign_digest
from tests.contracts.world import DAY, EXPOSURE_CAP, UNPROVEN_CAP, USD, WEEK, World, lock_line
from tests.properties.quick_chain import QuickChain

CLASSES = tuple(range(3, 11))
SHORT, SUSPENDED = 11, 12  # a class whose attestation ends too early, and one that is suspended
BUYERS = ("buyer:1", "buyer:2")
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class Place:
    """Where a class stands, and who controls it: jurisdictions, tier."""

    site: int
    parent: int
    operator: int
    keys: int
    tier: int


@dataclass(frozen=True)
class Attempt:
    """One lock line with its mandate, as it will be sent."""

    mandate: Mandate
    signer: str
    node_class: int
    amount: int
    window: int = 1
    chain_id: int = TestChain.chain_id
    contract: str = "escrow"
    signed_as: Mandate | None = None  # where what is sent is not what was signed
    is_high_s: bool = False


class Desk:
    """A market of classes in random places, and the hand that sends."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        world = World.market()
        self.places: dict[int, Place] = {}
        for number in (*CLASSES, SHORT, SUSPENDED):
            place = Place(*(self.dice.randrange(len(INDEX_BY_COUNTRY)) for _ in range(4)), tier=self.dice.randint(1, 3))
            ends = {"expires": world.now + DAY} if number == SHORT else {}
            world.attest_class(node_class=number, provider="stranger", **vars(place), **ends)
            self.places[number] = place
        world.send("pauser", "stake", "suspend", SUSPENDED)
        self.world = World(QuickChain(world.chain))
        self.nonces = dict.fromkeys(BUYERS, 1)
        self.locked = 0

    def mask(self, *inside: int, outside: int | None = None) -> int:
        """Random jurisdictions, with some that must be in it and one that must not."""
        bits = self.dice.getrandbits(len(INDEX_BY_COUNTRY))
        for each in inside:
            bits |= 1 << each
        return bits & ~(1 << outside) if outside is not None else bits

    def inside(self, node_class: int | None = None) -> Attempt:
        """A random line that its mandate allows."""
        node_class = node_class or self.dice.choice(CLASSES)
        place, buyer = self.places[node_class], self.dice.choice(BUYERS)
        self.nonces[buyer] += 1
        amount = self.dice.randint(1, 1_000)
        mandate = Mandate(
            buyer=address_of(buyer), window=1, max_spend=amount + self.dice.randint(0, USD),
            zone_mask=self.mask(place.site), min_tier=self.dice.randint(0, place.tier),
            parent_mask=self.mask(place.parent, place.operator, place.keys), nonce=self.nonces[buyer],
            expiry=self.world.now + self.dice.randint(60, DAY),
        )  # fmt: skip
        return Attempt(mandate, buyer, node_class, amount)

    def send(self, attempt: Attempt) -> str:
        """Send the line; return the contract's sentence, empty if it took the line."""
        signed = attempt.signed_as or attempt.mandate
        if attempt.chain_id == TestChain.chain_id:
            signature = sign(attempt.signer, signed, self.world.address(attempt.contract))
        else:
            digest = signed.digest(attempt.chain_id, self.world.address(attempt.contract))
            signature = sign_digest(attempt.signer, digest)
        if attempt.is_high_s:
            high = CURVE_ORDER - int.from_bytes(signature.s, "big")
            signature = Signature(55 - signature.v, signature.r, high.to_bytes(32, "big"))
        try:
            self.world.send(
                "operator", "escrow", "lock", attempt.window, [(attempt.mandate.abi(), signature.abi())],
                [attempt.node_class], [lock_line(0, 0, attempt.amount)],
            )  # fmt: skip
        except Reverted as refusal:
            return str(refusal) or "refused without a sentence"
        self.locked += attempt.amount
        return ""

    # -- one fault each ----------------------------------------------------------------------------------------------
    def but(self, attempt: Attempt, **changes: object) -> Attempt:
        """The same line under a mandate that differs in this."""
        return replace(attempt, mandate=replace(attempt.mandate, **changes))  # type: ignore[arg-type]

    def control_outside(self, attempt: Attempt, who: str) -> Attempt:
        mask = attempt.mandate.parent_mask & ~(1 << getattr(self.places[attempt.node_class], who))
        return self.but(attempt, parent_mask=mask)

    def forged(self, attempt: Attempt, **changes: object) -> Attempt:
        """Signed as it stood before these changes."""
        return replace(self.but(attempt, **changes), signed_as=attempt.mandate)

    def faults(self) -> dict[str, tuple[Callable[[Attempt], Attempt], str]]:
        """Each kind of fault, and the sentence it must be refused with."""
        dice, now = self.dice, self.world.now
        return {
            "zone": (
                lambda a: self.but(a, zone_mask=self.mask(outside=self.places[a.node_class].site)),
                "site outside mandate",
            ),
            "owner": (lambda a: self.control_outside(a, "parent"), " outside mandate"),
            "operator": (lambda a: self.control_outside(a, "operator"), " outside mandate"),
            "keys": (lambda a: self.control_outside(a, "keys"), " outside mandate"),
            "tier": (lambda a: self.but(a, min_tier=self.places[a.node_class].tier + 1), "tier below mandate"),
            "expiry": (lambda a: self.but(a, expiry=now - dice.randint(0, WEEK)), "mandate has expired"),
            "spend": (lambda a: self.but(a, max_spend=a.amount - dice.randint(1, a.amount)), "spend exceeds mandate"),
            "nonce": (lambda a: self.but(a, nonce=dice.randint(0, 1)), "mandate is outdated"),
            "window": (lambda a: self.but(a, window=dice.randint(2, 99)), "mandate of other window"),
            "window not open": (
                lambda a: replace(self.but(a, window=7), window=7), "window is not open",
            ),
            "signer": (lambda a: replace(a, signer=dice.choice(["operator", "stranger", "pauser"])), "by its buyer"),
            "buyer": (
                lambda a: self.forged(a, buyer=address_of(dice.choice([b for b in BUYERS if b != a.signer]))),
                "by its buyer",
            ),
            "buyer zero": (lambda a: self.forged(a, buyer="0x" + "00" * 20), "by its buyer"),
            "spend raised": (lambda a: self.forged(a, max_spend=a.mandate.max_spend + 1), "by its buyer"),
            "zone widened": (lambda a: self.forged(a, zone_mask=EVERY_COUNTRY_MASK), "by its buyer"),
            "expiry moved": (lambda a: self.forged(a, expiry=a.mandate.expiry + 1), "by its buyer"),
            "other chain": (lambda a: replace(a, chain_id=dice.randint(1, 31_336)), "by its buyer"),
            "other contract": (lambda a: replace(a, contract=dice.choice(["stake", "token"])), "by its buyer"),
            "high s": (lambda a: replace(a, is_high_s=True), ""),
            "attestation too short": (lambda a: self.inside(SHORT), "class attested too short"),
            "suspended": (lambda a: self.inside(SUSPENDED), "class is suspended"),
            "unproven cap": (lambda a: self.rich(a, UNPROVEN_CAP + dice.randint(1, USD)), "unproven cap is exceeded"),
            "exposure cap": (lambda a: self.for_proven(a, EXPOSURE_CAP + 1), "exposure cap is exceeded"),
            "free money": (lambda a: self.rich(a, 10_000 * USD + dice.randint(1, USD)), "free is too small"),
            "class unknown": (lambda a: replace(a, node_class=dice.randint(50, 999)), ""),
        }  # fmt: skip

    def rich(self, attempt: Attempt, amount: int) -> Attempt:
        return replace(self.but(attempt, max_spend=amount), amount=amount)

    def for_proven(self, attempt: Attempt, amount: int) -> Attempt:
        everywhere = self.but(attempt, zone_mask=EVERY_COUNTRY_MASK, parent_mask=EVERY_COUNTRY_MASK, min_tier=0)
        return replace(self.rich(everywhere, amount), node_class=1)


@pytest.mark.parametrize(
    ("lines", "seed"), [(100, 20_261_127), pytest.param(1_000, 62, marks=pytest.mark.slow)]
)
def test_M062_no_random_line_outside_its_mandate_is_locked(lines: int, seed: int) -> None:
    desk, refused, accepted = Desk(seed), Counter[str](), Counter[str]()
    kinds = list(desk.faults())
    for number in range(lines):
        kind = kinds[number % len(kinds)]
        break_it, sentence = desk.faults()[kind]
        good = desk.inside()
        said = desk.send(break_it(good))

        assert said, f"{kind} was accepted"
        assert said.endswith(sentence), f"{kind}: {said}"
        refused[kind] += 1
        if not accepted[kind] or desk.dice.random() < 0.1:
            assert desk.send(good) == "", f"beside {kind} a line inside its mandate was refused"
            accepted[kind] += 1

    print(f"seed {seed}: {sum(refused.values())} lines outside a mandate in {len(refused)} ways, 0 accepted; "
          f"{sum(accepted.values())} lines inside, all accepted; refused by kind {dict(refused)}")  # fmt: skip
    assert set(refused) == set(accepted) == set(kinds)
    assert sum(refused.values()) == lines
    assert desk.world.totals()["locked"] == desk.world.totals()["committed"] == desk.locked
