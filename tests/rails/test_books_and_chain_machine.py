"""Books and chain together, at random: money in and out, claims, time-outs, crashes, replaced blocks.

The market's part is played by a few lines that do as `marketplace/` does: epochs after the last one asked for, covers
out of final claims, refused calls taken back once all have ended. After every step the reconciler finds no difference,
money is conserved, and no class was credited more than it is owed.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts.claims import ClaimTree
from contracts.eip712 import Mandate
from contracts.jurisdictions import mask_of
from ledger import faults
from ledger.errors import InsufficientFunds
from ledger.ids import uuid_from
from ledger.models import ChainAddress, ChainAttempt, ChainClass, ChainEvent, ChainIntent, Ledger, Transfer
from ledger.rails import deploy, evm, indexer, sender
from ledger.rails.base import Chain
from ledger.rails.mirror import read_words
from ledger.rails.rebuild import rebuild
from ledger.rails.signer import signer
from ledger.reconcile import check_ledger, compare_when_still
from ledger.services import (
    cover_posting,
    post_hold_posting,
    reserve_hold,
    settle_postings,
    void_hold,
)
from tests.owner import empty_the_books
from tests.rails.conftest import Clock, minor, store_of
from tests.rails.reorganising import FINALITY, ReorganisingNode
from tests.rails.test_story import DAY, USD, Market

BUYERS = [uuid_from("buyer"), uuid_from("second buyer")]
CLASSES = {7: uuid_from("node class"), 8: uuid_from("second class")}  # the first is proven, the second is not
PROVIDER = uuid_from("provider")
PROVEN = 7
STEPS = 60  # in one market
CRASHES = ("sender.before_commit", "sender.signed", "sender.broadcast", "sender.marked_sent", "sender.before_resolve",
           "sender.resolved", "sender.looked_up")  # fmt: skip
READER_CRASHES = ("indexer.kept", "indexer.before_commit")
RULES = ("deposit", "lock", "settle", "withdraw_for", "withdraw", "claim", "release_holdback", "withdraw_fees",
         "wind_up", "refund", "crash", "reader crash", "reorganise")  # fmt: skip
done: Counter[str] = Counter()  # what took effect, over all markets of a run


@dataclass
class Lease:
    """Money of one buyer for one class; `earned` once it is judged."""

    id: UUID
    buyer: int
    node_class: int
    window: UUID
    amount: int
    key: str
    state: str = "locking"
    earned: int | None = None
    covered: int = 0


class BooksAndChain(RuleBasedStateMachine):
    steps: ClassVar[int] = 0
    begin: ClassVar[Any]  # sets books and chain to their beginning and returns clock and node

    @initialize()
    def open(self) -> None:
        self.clock, self.node = type(self).begin()
        self.here, self.made, self.nonce, self.window = evm.chain(), 0, 0, 0
        self.leases: list[Lease] = []
        self.settles: dict[str, tuple[int, list[Lease]]] = {}  # open or final calls by key: epoch, leases
        self.trees: dict[bytes, ClaimTree] = {}
        self.window_ends = self.transfers = 0
        self.deposited, self.withdrawn, self.seen = [0, 0], [0, 0], set[str]()
        self.amounts: dict[str, tuple[int, int]] = {}
        self.supply = self.here.call("token", "totalSupply")
        for buyer in range(2):
            self.deposit(buyer, 400)
        self.send(blocks=FINALITY)

    # -- words -------------------------------------------------------------------------------------------------------
    @property
    def now(self) -> Any:
        return self.clock.now

    def seconds(self) -> int:
        return max(int(self.now.timestamp()), self.here.head().timestamp)

    def address(self, buyer: int) -> str:
        return signer().address(f"buyer:{BUYERS[buyer]}")

    def submit(self, role: str, function: str, *args: Any, plan: Any = ()) -> str:
        self.made += 1
        key = f"{function} {self.made}"
        sender.submit(key=key, role=role, contract="escrow", function=function, args=args, plan=plan, now=self.now)
        return key

    def claimed(self, node_class: int | None = None) -> list[ChainEvent]:
        found = ChainEvent.objects.filter(name="Claimed", final=True)
        return [event for event in found if node_class in (None, event.args["node_class"])]

    def owed(self) -> dict[int, int]:
        sums: Counter[int] = Counter()
        for lease in self.leases:
            sums[lease.node_class] += lease.earned or 0
        return {number: micros for number, micros in sorted(sums.items()) if micros}

    # -- what people do ----------------------------------------------------------------------------------------------
    @rule(buyer=st.integers(0, 1), dollars=st.integers(1, 400))
    def deposit(self, buyer: int, dollars: int) -> None:
        key = self.submit(f"buyer:{BUYERS[buyer]}", "deposit", self.address(buyer), dollars * USD)
        self.amounts[key] = (buyer, dollars * USD)

    @rule(buyer=st.integers(0, 1), dollars=st.integers(1, 100))
    def withdraw(self, buyer: int, dollars: int) -> None:
        if dollars * USD <= self.room(buyer):
            key = self.submit(f"buyer:{BUYERS[buyer]}", "withdraw", dollars * USD)
            self.amounts[key] = (buyer, dollars * USD)

    def room(self, buyer: int) -> int:
        """Free in the books, less what is on its way out."""
        out = ChainIntent.objects.filter(function="withdraw", role=f"buyer:{BUYERS[buyer]}")
        keys = set(out.values_list("key", flat=True)) - self.seen
        reserved = sum(lease.amount for lease in self.leases if lease.buyer == buyer and lease.state == "locking")
        return minor("buyer.available", BUYERS[buyer]) - reserved - sum(self.amounts[key][1] for key in keys)

    @rule(buyer=st.integers(0, 1), node_class=st.sampled_from(sorted(CLASSES)), dollars=st.integers(1, 60),
          percent=st.integers(0, 100))  # fmt: skip
    def lock_and_judge(self, buyer: int, node_class: int, dollars: int, percent: int) -> None:
        """A lease that is judged as soon as it is locked, where everything comes through."""
        self.lock(buyer, node_class, dollars)
        self.send(blocks=FINALITY)
        indexer.index(now=self.now)
        self.learn()
        self.judge(len(self.leases), percent)

    @rule(buyer=st.integers(0, 1), node_class=st.sampled_from(sorted(CLASSES)), dollars=st.integers(1, 60))
    def lock(self, buyer: int, node_class: int, dollars: int) -> None:
        if self.room(buyer) < dollars * USD:
            too_much = minor("buyer.available", BUYERS[buyer]) + 1  # whatever is on its way
            with pytest.raises(InsufficientFunds):
                reserve_hold(id=uuid_from("too much", self.steps), party=BUYERS[buyer], window=BUYERS[0],
                             amount=too_much, timeout_at=self.now + timedelta(days=1), now=self.now)  # fmt: skip
            return
        if self.window_ends <= self.seconds() + DAY:
            self.window, self.window_ends = self.window + 1, self.seconds() + 9 * DAY
            self.submit("operator", "open_window", self.window, self.window_ends)
        self.nonce += 1
        lease_id, window, amount = uuid_from("lease", self.nonce), uuid_from("window", self.window), dollars * USD
        party = BUYERS[buyer]
        reserve_hold(id=uuid_from("hold", lease_id), party=party, window=window, amount=amount,
                     timeout_at=self.now + timedelta(days=4_000), now=self.now)  # fmt: skip
        mandate = Mandate(
            buyer=self.address(buyer), window=self.window, max_spend=amount, zone_mask=mask_of(["DE"]), min_tier=1,
            parent_mask=mask_of(["DE"]), nonce=self.nonce, expiry=self.seconds() + 900 * DAY,
        )  # fmt: skip
        signature = signer().sign_typed(f"buyer:{party}", mandate, **self.here.domain("escrow"))
        plan = [post_hold_posting(hold_id=uuid_from("hold", lease_id), party=party, window=window, amount=amount)]
        key = self.submit("operator", "lock", self.window, [(mandate, signature)], [node_class], [amount], plan=plan)
        self.leases.append(Lease(lease_id, buyer, node_class, window, amount, key))

    @rule(pick=st.integers(0, 99), percent=st.integers(0, 100))
    def judge(self, pick: int, percent: int) -> None:
        running = [lease for lease in self.leases if lease.state == "locked" and lease.earned is None]
        if running:
            lease = running[pick % len(running)]
            lease.earned = lease.amount * percent // 100

    @rule(pick=st.integers(0, 99))
    def settle(self, pick: int) -> None:
        """Settle a judged lease of each class, or none: then only a root is published, as a sign of life."""
        states = dict(ChainIntent.objects.filter(key__in=self.settles).values_list("key", "state"))
        if "reverted" in states.values():
            return  # until it is taken back the contract would refuse every later epoch too
        judged = [lease for lease in self.leases if lease.state == "locked" and lease.earned is not None]
        chosen = {lease.node_class: lease for lease in judged[pick % (len(judged) + 1):]}
        epoch = max([epoch for epoch, _ in self.settles.values()] + [len(self.claimed()) << 32]) + 1
        tree = ClaimTree(self.here.chain_id, self.here.address("escrow"), self.owed())
        self.trees[tree.root] = tree
        debits: dict[int, list[int]] = {}
        words, plan, covers = [], [], 0
        for number, lease in sorted(chosen.items()):
            earned = lease.earned or 0
            uncovered = sum(event.args["gross"] for event in self.claimed(number)) - sum(
                other.covered for other in self.leases if other.node_class == number)  # fmt: skip
            lease.covered = min(earned, uncovered)
            gross = earned - lease.covered
            fee = gross * self.here.call("escrow", "fee_bps") // 10_000
            held = 0 if number == PROVEN else gross - fee
            returned = lease.amount - earned
            index = self.here.call("escrow", "account_of", self.address(lease.buyer))[0]
            debit = debits.setdefault(index, [0, 0])
            debit[0], debit[1] = debit[0] + earned, debit[1] + returned
            words.append(number << 192 | gross << 128 | held << 64 | returned)
            covers += lease.covered
            plan += settle_postings(
                lease=lease.id, buyer=BUYERS[lease.buyer], window=lease.window, provider=PROVIDER,
                node_class=CLASSES[number], earned=gross - fee - held, holdback=held, fee=fee, returned=returned,
                credit=0,
            )  # fmt: skip
            if lease.covered:
                plan.append(cover_posting(key=lease.id, buyer=BUYERS[lease.buyer], window=lease.window,
                                          amount=lease.covered))  # fmt: skip
            lease.state = "settling"
        key = self.submit(
            "operator", "settle", epoch, [index << 128 | debit << 64 | back for index, (debit, back) in
                                          sorted(debits.items())], words, covers, tree.root, bytes(32), plan=plan,
        )  # fmt: skip
        self.settles[key] = (epoch, list(chosen.values()))

    @rule(node_class=st.sampled_from(sorted(CLASSES)), percent=st.integers(1, 100))
    def fall_silent(self, node_class: int, percent: int) -> None:
        """A root is published, the operator says nothing for four days, and a class claims what the root owes it."""
        self.judge(0, percent)
        self.settle(len([each for each in self.leases if each.state == "locked" and each.earned is not None]))
        self.send(blocks=FINALITY)
        self.clock.forward(days=4)
        self.claim(node_class, waits=False)
        self.send(blocks=FINALITY)

    @rule()
    def wait_for_holdbacks(self) -> None:
        """A lease of the unproven class is settled; its holdback is due thirty days after its window."""
        self.settle_all()
        self.clock.forward(days=45)
        self.release_holdback(8)
        self.send(blocks=FINALITY)

    @rule()
    def pay(self) -> None:
        self.settle_all()
        for number in CLASSES:
            self.withdraw_for(number)
        self.send(blocks=FINALITY)

    def settle_all(self) -> None:
        for lease in self.leases:
            if lease.state == "locked" and lease.earned is None:
                lease.earned = lease.amount
        self.settle(0)
        self.send(blocks=FINALITY)

    @precondition(lambda self: getattr(self, "nonce", 0) >= 4)  # many markets end so
    @rule()
    def take_back(self) -> None:
        """The operator is gone: what is locked goes back to the buyers, whoever asks for it."""
        self.clock.forward(days=15)
        self.wind_up()
        self.send(blocks=FINALITY)
        for buyer in range(2):
            self.refund(buyer)
        self.send(blocks=FINALITY)

    @rule(node_class=st.sampled_from(sorted(CLASSES)))
    def withdraw_for(self, node_class: int) -> None:
        self.submit("faucet", "withdraw_for", node_class)

    def release_holdback(self, node_class: int) -> None:
        self.submit("faucet", "release_holdback", node_class)

    @rule()
    def withdraw_fees(self) -> None:
        self.submit("faucet", "withdraw_fees")

    @rule(node_class=st.sampled_from(sorted(CLASSES)), waits=st.booleans())
    def claim(self, node_class: int, waits: bool) -> None:
        """A stranger brings a proof, where there is one; sometimes so soon that the contract refuses it."""
        tree = self.trees.get(bytes(self.here.call("escrow", "claim_root")))
        if tree is None or node_class not in tree.owed:
            return
        if waits:
            self.clock.forward(days=4)
        self.submit("faucet", "claim", *tree.proof(node_class).abi())

    def wind_up(self) -> None:
        self.submit("faucet", "wind_up")

    def refund(self, buyer: int) -> None:
        self.submit("faucet", "refund", self.address(buyer))

    # -- what happens to us ------------------------------------------------------------------------------------------
    @rule(hours=st.sampled_from([1, 1, 2, 30, 24 * 31]))
    def pass_time(self, hours: int) -> None:
        self.clock.forward(hours=hours)

    @rule(blocks=st.sampled_from([0, 1, FINALITY]))
    def send(self, blocks: int) -> None:
        """The sender's turn; with enough blocks behind it what it sent is final, and marked so."""
        sender.pump(now=self.now)
        self.node.mine(blocks)
        sender.pump(now=self.now)

    @rule(point=st.sampled_from(CRASHES))
    def crash(self, point: str) -> None:
        with faults.armed(point), suppress(faults.FaultInjected):
            sender.pump(now=self.now)
            return
        done["crash"] += 1

    @rule(point=st.sampled_from(READER_CRASHES))
    def crash_reading(self, point: str) -> None:
        self.node.mine(2)
        with faults.armed(point), suppress(faults.FaultInjected):
            indexer.index(now=self.now)
            return
        done["reader crash"] += 1

    @rule(blocks=st.integers(1, FINALITY + 1))
    def mine(self, blocks: int) -> None:
        self.node.mine(blocks)

    @rule(depth=st.integers(1, FINALITY))
    def reorganise(self, depth: int) -> None:
        done["reorganise"] += self.node.reorganise(depth) > 0

    # -- always ------------------------------------------------------------------------------------------------------
    @invariant()
    def books_are_the_chain(self) -> None:
        if not hasattr(self, "here"):
            return
        BooksAndChain.steps += 1
        indexer.index(now=self.now)
        self.learn()
        assert Ledger.objects.get(asset="USDC6").halted_reason == ""
        assert compare_when_still(read_words, now=self.now) == []
        if (transfers := Transfer.objects.count()) != self.transfers:
            self.transfers = transfers
            assert [found.detail for found in check_ledger(1) if not found.ok] == []
        holders = [self.here.address("escrow"), self.here.address("stake"), *map(self.address, range(2)),
                   signer().address(f"provider:{PROVIDER}"), self.here.call("escrow", "treasury")]  # fmt: skip
        assert sum(self.here.call("token", "balanceOf", holder) for holder in set(holders)) == self.supply
        owed = self.owed()
        for number in CLASSES:
            assert self.here.call("escrow", "class_of", number)[3] <= owed.get(number, 0), "paid more than it is owed"

    def learn(self) -> None:
        """What the market learns from its calls that have ended."""
        ended = dict(ChainIntent.objects.filter(state__in=("final", "reverted")).values_list("key", "state"))
        for key in ended.keys() - self.seen:
            self.seen.add(key)
            function = key.split()[0]
            done[function if ended[key] == "final" else f"{function} refused"] += 1
            if key in self.amounts and ended[key] == "final":
                buyer, micros = self.amounts[key]
                (self.deposited if function == "deposit" else self.withdrawn)[buyer] += micros
        for lease in self.leases:
            if lease.state == "locking" and lease.key in ended:
                lease.state = "locked" if ended[lease.key] == "final" else "refused"
                if lease.state == "refused":
                    void_hold(id=uuid_from("hold", lease.id), now=self.now)
        if not self.settles.keys() <= ended.keys():
            return
        for key, (_, leases) in list(self.settles.items()):
            for lease in leases:
                if lease.state == "settling":
                    lease.state = "settled" if ended[key] == "final" else "locked"
                    lease.covered = lease.covered if ended[key] == "final" else 0
            if ended[key] == "reverted":
                del self.settles[key]

    def teardown(self) -> None:
        """Honest weather at the end: everything comes through, once, and the first block tells the same books."""
        if not hasattr(self, "here"):
            return
        for _ in range(30):
            sender.pump(now=self.now)
            self.node.mine(FINALITY + 1)
            sender.pump(now=self.now)
            if not ChainIntent.objects.filter(state__in=sender.OPEN_STATES).exists():
                break
        self.books_are_the_chain()
        assert not ChainIntent.objects.filter(state__in=sender.OPEN_STATES).exists()
        for intent in ChainIntent.objects.filter(state="final"):
            hashes = ChainAttempt.objects.filter(intent=intent).values_list("tx_hash", flat=True)
            assert sum(self.here.receipt(tx_hash) is not None for tx_hash in hashes) == 1
        assert [found.detail for found in rebuild(now=self.now) if not found.ok] == []
        if self.here.call("escrow", "wound_up"):
            return
        for buyer in range(2):
            own = [lease for lease in self.leases if lease.buyer == buyer]
            spent = sum((lease.earned or 0) if lease.state == "settled" else lease.amount
                        for lease in own if lease.state in ("settled", "locked"))  # fmt: skip
            _, free, locked, _, _ = self.here.call("escrow", "account_of", self.address(buyer))
            assert free == self.deposited[buyer] - self.withdrawn[buyer] - spent
            assert locked == sum(lease.amount for lease in own if lease.state == "locked")
        for number in CLASSES:
            paid = sum((lease.earned or 0) - lease.covered for lease in self.leases
                       if lease.node_class == number and lease.state == "settled")  # fmt: skip
            claimed = sum(event.args["gross"] for event in self.claimed(number))
            assert self.here.call("escrow", "class_of", number)[3] == paid + claimed, "each lease once"


# -- the beginning of each market --------------------------------------------------------------------------------------
def prepare(chain: Chain, clock: Clock) -> Any:
    """Attest both classes, prove the first, give buyers coins and leave: nothing of this is money in the books."""
    market = Market(chain, clock)
    addresses = [signer().address(f"buyer:{buyer}") for buyer in BUYERS]
    ChainClass.objects.create(class_id=8, provider=PROVIDER, node_class=CLASSES[8])
    for buyer, address in zip(BUYERS, addresses, strict=True):
        market.submit("faucet", "token", "mint", address, 10**12)
        market.submit(f"buyer:{buyer}", "token", "approve", chain.address("escrow"), 2**255)
    attest(market)
    market.prove(1, epoch=1)
    sender.pump(now=clock.now)
    clock.forward(days=15)
    market.prove(2, epoch=2)
    sender.pump(now=clock.now)
    assert not ChainIntent.objects.exclude(state="final").exists()
    assert chain.call("stake", "state_of", PROVEN) == 2
    return store_of(chain).snapshot()


def attest(market: Market) -> None:
    from contracts.eip712 import ClassAttestation
    from contracts.jurisdictions import index_of

    site = index_of("DE")
    for number in CLASSES:
        attestation = ClassAttestation(
            provider=signer().address(market.provider), node_class=number, site=site, parent=site, operator=site,
            keys=site, tier=2, exposure_cap=10**6 * USD, expires=market.seconds + 4_000 * DAY, nonce=1,
        )  # fmt: skip
        market.submit("operator", "stake", "attest_class", attestation, market.panel("compliance", attestation))


@pytest.fixture
def machine(rails: Chain, clock: Clock, settings: Any) -> Iterator[type[BooksAndChain]]:
    settings.CHAIN_STUCK_SECONDS = 10**9  # replaced blocks are what drops transactions here, and gas is free
    settings.KEY_SIGNATURES_PER_HOUR = 10**6
    beginning, began_at = prepare(rails, clock), clock.now

    def begin() -> tuple[Clock, ReorganisingNode]:
        empty_the_books()
        store_of(rails).restore(beginning)
        clock.now = began_at
        evm.use_chain(rails)
        deploy.ensure_deployed(clock.now)
        for buyer in BUYERS:
            ChainAddress.objects.create(address=signer().address(f"buyer:{buyer}"), party=buyer, role="buyer")
        ChainAddress.objects.create(address=signer().address(f"provider:{PROVIDER}"), party=PROVIDER, role="provider")
        for number, node_class in CLASSES.items():
            ChainClass.objects.create(class_id=number, provider=PROVIDER, node_class=node_class)
        indexer.index(now=clock.now)  # the beginning is final, and read
        node = ReorganisingNode(rails)
        evm.use_chain(node.as_chain(rails.chain_id))
        return clock, node

    BooksAndChain.begin = staticmethod(begin)
    yield BooksAndChain
    evm.use_chain(rails)


def run(machine: type[BooksAndChain], *, seeds: list[int], markets: int, least: int) -> None:
    """Play so many markets of each seed; a rule that took effect less than `least` times fails the run."""
    done.clear()
    BooksAndChain.steps = 0
    for number in seeds:
        print(f"BooksAndChain: seed {number} after {BooksAndChain.steps} steps", flush=True)
        run_state_machine_as_test(
            seed(number)(type("BooksAndChain", (machine,), {})),
            settings=settings(
                max_examples=markets, stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    print(f"BooksAndChain: {BooksAndChain.steps} steps, took effect {dict(sorted(done.items()))}", flush=True)
    rare = {name: done[name] for name in RULES if done[name] < least}
    assert rare == {}, "rules that hardly ever took effect"


def test_books_and_chain_say_the_same_after_every_step(machine: type[BooksAndChain]) -> None:
    run(machine, seeds=[1], markets=1, least=0)  # eight below, in which every rule takes effect


@pytest.mark.slow
def test_they_do_when_every_rule_takes_effect(machine: type[BooksAndChain]) -> None:
    run(machine, seeds=[1], markets=8, least=1)


@pytest.mark.nightly
def test_books_and_chain_say_the_same_for_a_night(machine: type[BooksAndChain]) -> None:
    run(machine, seeds=[secrets.randbits(32) for _ in range(10)], markets=20, least=20)
