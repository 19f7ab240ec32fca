"""A small market on the test chain: who is who, and the verbs the contract tests speak in.

Money is micro-USD. Class 1 of provider 1 is PROVEN, class 2 of provider 2 is in PROBATION; both have stake. Buyers 1
and 2 have money. Window 1 is open for a week. Panels have three signers of three organisations; two must sign.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from contracts.claims import ClaimTree
from contracts.eip712 import (
    BenchmarkAttestation,
    ClassAttestation,
    Mandate,
    Resumption,
    Signature,
    Verdict,
    machine_id,
    provider_id,
)
from contracts.jurisdictions import index_of, mask_of
from contracts.parameters import (
    Delays,
    Panels,
    anchor_arguments,
    escrow_arguments,
    stake_arguments,
    token_arguments,
)
from tests.contracts.chain import Chain, Receipt, TestChain, address_of, sign, sign_all

USD = 10**6
DAY = 86_400
WEEK = 7 * DAY
DELAYS = Delays()
FEE_BPS = 500
UNPROVEN_CAP = 100 * USD
SETTLE_LIMIT = 5_000 * USD
EXPOSURE_CAP = 2_000 * USD
STAKE = 1_000 * USD
EUROPE = mask_of(["AT", "CH", "DE", "FR", "IT"])
SPEC = b"s" * 32
NO_HARDWARE = bytes(32)

SignedMandate = tuple[tuple[Any, ...], tuple[int, bytes, bytes]]


@dataclass(frozen=True)
class Batch:
    """A lock as it must be re-supplied to open one of its lines."""

    number: int
    lines: tuple[int, ...]
    buyers: tuple[str, ...]
    classes: tuple[int, ...]
    locked_at: int

    def opening(self) -> tuple[list[int], list[str], list[int]]:
        return list(self.lines), list(self.buyers), list(self.classes)


def lock_line(mandate: int, node_class: int, amount: int) -> int:
    return mandate << 80 | node_class << 64 | amount


def buyer_line(index: int, debit: int, refund: int = 0) -> int:
    return index << 128 | debit << 64 | refund


def class_line(node_class: int, gross: int, holdback: int = 0, returned: int = 0) -> int:
    return node_class << 192 | gross << 128 | holdback << 64 | returned


def fee_of(gross: int) -> int:
    return gross * FEE_BPS // 10_000


class World:
    """One deployment. `panel` names the first signers of a panel, e.g. panel("slasher") -> slasher:1, slasher:2."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.evidence = 0

    def copy(self) -> World:
        twin = World(self.chain.copy())
        twin.evidence = self.evidence
        return twin

    # ---- set-up ----

    @classmethod
    def deployed(cls, slashers: int = 3) -> World:
        chain = Chain()
        token = chain.deploy("deployer", "token", *token_arguments(minter=address_of("faucet")))
        panels = Panels(
            verifiers=[(address_of(f"verifier:{n}"), n) for n in (1, 2, 3)],
            compliance=[(address_of(f"compliance:{n}"), n) for n in (1, 2, 3)],
            slashers=[(address_of(f"slasher:{n}"), n) for n in range(1, slashers + 1)],
            quorums=(2, 2, 2),
            slashers_min=3,
        )
        stake = chain.deploy(
            "deployer",
            "stake",
            *stake_arguments(
                token=token,
                governance=address_of("governance"),
                pauser=address_of("pauser"),
                veto_role=address_of("veto"),
                arbiters=[address_of("arbiter:1"), address_of("arbiter:2")],
                panels=panels,
            ),
        )
        escrow = chain.deploy(
            "deployer",
            "escrow",
            *escrow_arguments(
                token=token,
                stake=stake,
                operator=address_of("operator"),
                pauser=address_of("pauser"),
                governance=address_of("governance"),
                treasury=address_of("treasury"),
                fee_bps=FEE_BPS,
                unproven_cap=UNPROVEN_CAP,
                settle_limit=SETTLE_LIMIT,
            ),
        )
        chain.send("deployer", "stake", "bind_escrow", escrow)
        chain.deploy(
            "deployer",
            "anchor",
            *anchor_arguments(poster=address_of("anchor"), governance=address_of("governance")),
        )
        return cls(chain)

    @classmethod
    def market(cls) -> World:
        world = cls.deployed()
        for number in (1, 2):
            world.attest_class(node_class=number, provider=f"provider:{number}")
            world.bond(node_class=number, amount=STAKE)
            world.prove(node_class=number, kind=1, epoch=1)
            world.deposit(f"buyer:{number}", 10_000 * USD)
        world.travel(DELAYS.probation)
        world.prove(node_class=1, kind=2, epoch=2)
        world.open_window(1)
        return world

    # ---- the chain ----

    def send(self, sender: str, contract: str, function: str, *args: Any) -> Receipt:
        return self.chain.send(sender, contract, function, *args)

    def call(self, contract: str, function: str, *args: Any) -> Any:
        return self.chain.call(contract, function, *args)

    @property
    def now(self) -> int:
        return self.chain.now

    def travel(self, seconds: int) -> None:
        self.chain.now += seconds

    def travel_to(self, at: int) -> None:
        assert at >= self.chain.now, "the chain's clock only runs forward"
        self.chain.now = at

    def address(self, contract: str) -> str:
        return self.chain.addresses[contract]

    # ---- money ----

    def mint(self, name: str, amount: int, spender: str) -> None:
        self.send("faucet", "token", "mint", address_of(name), amount)
        self.send(name, "token", "approve", self.address(spender), amount)

    def deposit(self, buyer: str, amount: int) -> Receipt:
        self.mint(buyer, amount, "escrow")
        return self.send(buyer, "escrow", "deposit", address_of(buyer), amount)

    def bond(self, *, node_class: int, amount: int, payer: str = "stranger") -> Receipt:
        self.mint(payer, amount, "stake")
        return self.send(payer, "stake", "stake", node_class, amount)

    def tokens(self, holder: str) -> int:
        address = self.chain.addresses.get(holder) or address_of(holder)
        return int(self.call("token", "balanceOf", address))

    def account(self, buyer: str) -> dict[str, int]:
        names = ("index", "free", "locked", "spent", "nonce")
        return dict(zip(names, self.call("escrow", "account_of", address_of(buyer)), strict=True))

    def node(self, node_class: int) -> dict[str, int]:
        names = ("committed", "payable", "holdback", "credited")
        return dict(zip(names, self.call("escrow", "class_of", node_class), strict=True))

    def totals(self) -> dict[str, int]:
        names = ("free", "locked", "committed", "payable", "holdback", "fees", "pool", "uncovered")
        return dict(zip(names, self.call("escrow", "totals"), strict=True))

    def stake_of(self, node_class: int) -> tuple[int, int, int]:
        bonded, unbonding, release_at = self.call("stake", "stake_of", node_class)
        return int(bonded), int(unbonding), int(release_at)

    # ---- attestations ----

    def panel(self, name: str, count: int = 2) -> list[str]:
        return [f"{name}:{number}" for number in range(1, count + 1)]

    def class_attestation(self, *, node_class: int, provider: str, **changes: Any) -> ClassAttestation:
        home = index_of("DE")
        attestation = ClassAttestation(
            provider=address_of(provider),
            node_class=node_class,
            site=home,
            parent=home,
            operator=home,
            keys=home,
            tier=2,
            exposure_cap=EXPOSURE_CAP,
            expires=self.now + 365 * DAY,
            nonce=self.call("stake", "class_nonce", node_class) + 1,
        )
        return replace(attestation, **changes)

    def attest_class(
        self, *, node_class: int, provider: str, signers: list[str] | None = None, **changes: Any
    ) -> Receipt:
        attestation = self.class_attestation(node_class=node_class, provider=provider, **changes)
        signatures = sign_all(signers or self.panel("compliance"), attestation, self.address("stake"))
        return self.send("stranger", "stake", "attest_class", attestation.abi(), signatures)

    def benchmark(self, *, node_class: int, kind: int, epoch: int, **changes: Any) -> BenchmarkAttestation:
        attestation = BenchmarkAttestation(
            provider_id=provider_id(self.call("stake", "provider_of", node_class)),
            machine_id=machine_id(node_class),
            hw_key_hash=NO_HARDWARE,
            kind=kind,
            seed=b"e" * 32,
            challenge_root=b"c" * 32,
            transcript_hash=b"t" * 32,
            params_hash=SPEC,
            ops_per_sec=10**12,
            mem_bytes=80 * 10**9,
            mem_bytes_per_sec=3 * 10**12,
            rtt_max_km=400,
            started_at=self.now - 120,
            finished_at=self.now - 60,
            valid_until=self.now - 60 + DELAYS.validity_max,
            epoch=epoch,
            panel_root=b"p" * 32,
        )
        return replace(attestation, **changes)

    def prove(
        self, *, node_class: int, kind: int, epoch: int, signers: list[str] | None = None, **changes: Any
    ) -> Receipt:
        attestation = self.benchmark(node_class=node_class, kind=kind, epoch=epoch, **changes)
        signatures = sign_all(signers or self.panel("verifier"), attestation, self.address("stake"))
        return self.send("stranger", "stake", "prove", attestation.abi(), signatures)

    def resume(self, *, node_class: int, signers: list[str] | None = None, **changes: Any) -> Receipt:
        resumption = Resumption(
            node_class=node_class,
            nonce=self.call("stake", "class_nonce", node_class) + 1,
            expires=self.now + DAY,
        )
        resumption = replace(resumption, **changes)
        signatures = sign_all(signers or self.panel("compliance"), resumption, self.address("stake"))
        return self.send("stranger", "stake", "resume", *resumption.abi(), signatures)

    # ---- the operator's turn ----

    def open_window(self, window: int, length: int = WEEK) -> Receipt:
        return self.send("operator", "escrow", "open_window", window, self.now + length)

    def mandate(self, buyer: str, *, signer: str | None = None, **changes: Any) -> SignedMandate:
        mandate = Mandate(
            buyer=address_of(buyer),
            window=1,
            max_spend=5_000 * USD,
            zone_mask=EUROPE,
            min_tier=1,
            parent_mask=EUROPE,
            nonce=1,
            expiry=self.now + DAY,
        )
        mandate = replace(mandate, **changes)
        signature: Signature = sign(signer or buyer, mandate, self.address("escrow"))
        return mandate.abi(), signature.abi()

    def lock(
        self,
        lines: list[tuple[int, int, int]],
        *,
        mandates: list[SignedMandate] | None = None,
        classes: tuple[int, ...] = (1,),
        window: int = 1,
        sender: str = "operator",
    ) -> Batch:
        """Lock (mandate position, class position, amount) lines; one mandate of buyer 1 unless given."""
        words = tuple(lock_line(*line) for line in lines)
        mandates = [self.mandate("buyer:1", window=window)] if mandates is None else mandates
        receipt = self.send(sender, "escrow", "lock", window, mandates, list(classes), list(words))
        buyers = tuple(body[0] for body, _ in mandates)
        return Batch(receipt.one("Locked").batch, words, buyers, classes, receipt.at)

    def settle(
        self,
        buyers: list[int],
        classes: list[int],
        epoch: int | None = None,
        *,
        covered: int = 0,
        root: bytes = b"r" * 32,
    ) -> Receipt:
        number = self.call("escrow", "last_epoch") + 1 if epoch is None else epoch
        return self.send("operator", "escrow", "settle", number, buyers, classes, covered, root, b"b" * 32)

    # ---- when the operator is silent ----

    def tree(self, owed: dict[int, int]) -> ClaimTree:
        """What each class is owed in total, as the operator publishes it for this escrow."""
        return ClaimTree(chain_id=TestChain.chain_id, contract=self.address("escrow"), owed=owed)

    def claim(self, tree: ClaimTree, node_class: int, sender: str = "stranger") -> Receipt:
        return self.send(sender, "escrow", "claim", *tree.proof(node_class).abi())

    # ---- slashing ----

    def verdict(self, batch: Batch, *, line: int = 0, amount: int = 10 * USD, **changes: Any) -> Verdict:
        self.evidence += 1
        verdict = Verdict(
            evidence=self.evidence.to_bytes(32, "big"),
            node_class=batch.classes[batch.lines[line] >> 64 & 0xFFFF],
            batch=batch.number,
            line=line,
            amount=amount,
            kind=2,
            breach_at=self.now,
            nonce=self.evidence,
            expires=self.now + DAY,
        )
        return replace(verdict, **changes)

    def request_slash(
        self, batch: Batch, verdict: Verdict | None = None, *, signers: list[str] | None = None, **changes: Any
    ) -> int:
        """Bring a verdict on the batch's first line and return the request's number."""
        verdict = verdict or self.verdict(batch, **changes)
        signatures = sign_all(signers or self.panel("slasher"), verdict, self.address("stake"))
        receipt = self.send("stranger", "stake", "request_slash", verdict.abi(), *batch.opening(), signatures)
        return int(receipt.one("SlashRequested").id)

    def forfeit(
        self, batch: Batch, verdict: Verdict | None = None, *, signers: list[str] | None = None, **changes: Any
    ) -> Receipt:
        verdict = verdict or self.verdict(batch, **changes)
        signatures = sign_all(signers or self.panel("slasher"), verdict, self.address("escrow"))
        return self.send("stranger", "escrow", "forfeit_holdback", verdict.abi(), *batch.opening(), signatures)

    def execute(self, slash: int, sender: str = "stranger") -> Receipt:
        return self.send(sender, "stake", "execute_slash", slash)

    def slash_state(self, slash: int) -> int:
        return int(self.call("stake", "slash_of", slash)["state"])

    # ---- governance ----

    def enact(self, contract: str, action: int, subject: str, figure: int = 0) -> Receipt:
        who = address_of(subject)
        self.send("governance", contract, "schedule", action, who, figure)
        self.travel(self.call(contract, "governance_delay"))
        return self.send("governance", contract, "enact", action, who, figure)
