"""Random markets on the real bytecode: money is never made, lost or moved past its owner (E1, E2, S1, and more).

The machine starts from a funded market with a PROVEN class, so that slashes, payouts and refunds are reachable; at the
end it is asserted that every action was accepted at least once over the run. A blind fuzz passes while nothing happens.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.contracts.chain import Reverted, address_of
from tests.contracts.world import DAY, DELAYS, STAKE, USD, WEEK, Batch, World, buyer_line, class_line, fee_of
from tests.properties.quick_chain import QuickChain

BUYERS = ("buyer:1", "buyer:2")
CLASSES = (1, 2)
ACTIONS = (
    "deposit", "withdraw", "lock", "settle", "withdraw_for", "release_holdback", "forfeit", "bond", "unstake_request",
    "unstake_withdraw", "request_slash", "dispute", "uphold", "veto", "lapse", "execute_slash", "prove", "pause",
)  # fmt: skip
accepted: Counter[str] = Counter()


@cache
def start() -> tuple[World, Batch]:
    """A market where every action is one step away.

    A lease of each class is locked and partly settled (money payable, money held back), one slash request has run out
    of time and a fresh one is open.
    """
    world = World.market()
    world.prove(node_class=1, kind=2, epoch=3)
    batch = world.lock(
        [(0, 0, 300 * USD), (1, 1, 60 * USD)],
        mandates=[world.mandate("buyer:1"), world.mandate("buyer:2")],
        classes=CLASSES,
    )
    world.settle(
        [buyer_line(1, 100 * USD), buyer_line(2, 40 * USD)],
        [class_line(1, 100 * USD), class_line(2, 40 * USD, 30 * USD)],
    )
    world.request_slash(batch, amount=5 * USD)
    world.travel(DELAYS.lapse + 1)
    world.request_slash(batch, amount=5 * USD)
    return world, batch


class MarketMachine(RuleBasedStateMachine):
    """Each rule tries one action of one party; a refusal must leave everything as it was."""

    def __init__(self) -> None:
        super().__init__()
        world, batch = start()
        self.world = World(QuickChain(world.chain))
        self.batches = [batch]
        self.nonce = 1
        self.window = 1
        self.requests = 2
        self.changed = True
        self.minted = self.world.call("token", "totalSupply")
        self.slashed_by_class = {1: 0, 2: 0}
        self.staked_by_class = {1: STAKE, 2: STAKE}

    def attempt(self, action: str, *call: object) -> bool:
        """Send; count an acceptance. A refusal must carry a sentence of ours."""
        try:
            self.world.send(*call)  # type: ignore[arg-type]
        except Reverted as refusal:
            return self.refuse(refusal)
        self.accept(action)
        return True

    def refuse(self, refusal: Reverted) -> bool:
        assert str(refusal), "reverted without a sentence of ours"
        return False

    def accept(self, action: str) -> None:
        accepted[action] += 1
        self.changed = True

    # ---- time ----

    @rule(seconds=st.sampled_from([1, 3_600, DAY, 3 * DAY - 20, WEEK, DELAYS.lapse, DELAYS.unbonding]))
    def wait(self, seconds: int) -> None:
        self.world.travel(seconds)

    # ---- buyers ----

    @rule(buyer=st.sampled_from(BUYERS), amount=st.integers(1, 500 * USD))
    def deposit(self, buyer: str, amount: int) -> None:
        self.world.mint(buyer, amount, "escrow")
        self.minted += amount
        self.attempt("deposit", buyer, "escrow", "deposit", address_of(buyer), amount)

    @rule(buyer=st.sampled_from(BUYERS), off=st.sampled_from([0, 1, -USD]))
    def withdraw(self, buyer: str, off: int) -> None:
        free = self.world.account(buyer)["free"]
        amount = max(1, min(free // 4, 200 * USD)) if off else free + 1
        assert self.attempt("withdraw", buyer, "escrow", "withdraw", amount) == (amount <= free)

    # ---- the operator ----

    @rule(
        first=st.integers(0, 250 * USD),
        second=st.integers(0, 120 * USD),
        fresh_window=st.booleans(),
    )
    def lock(self, first: int, second: int, fresh_window: bool) -> None:
        world = self.world
        if fresh_window or world.call("escrow", "window_ends", self.window) <= world.now:
            self.window += 1
            world.open_window(self.window)
        self.nonce += 1
        mandates = [world.mandate(name, nonce=self.nonce, window=self.window) for name in BUYERS]
        try:
            batch = world.lock([(0, 0, first), (1, 1, second)], mandates=mandates, classes=CLASSES, window=self.window)
        except Reverted as refusal:
            self.refuse(refusal)
        else:
            self.accept("lock")
            self.batches.append(batch)

    @rule(part=st.integers(0, 4), returned=st.booleans())
    def settle(self, part: int, returned: bool) -> None:
        world = self.world
        buyer_lines, class_lines = [], []
        for index, node_class in ((1, 1), (2, 2)):
            share = world.node(node_class)["committed"] * part // 4
            back = share // 3 if returned else 0
            gross = share - back
            held = gross - fee_of(gross) if node_class == 2 else 0
            buyer_lines.append(buyer_line(index, gross, back))
            class_lines.append(class_line(node_class, gross, held, back))
        epoch = world.call("escrow", "last_epoch") + 1
        arguments = (epoch, buyer_lines, class_lines, 0, b"r" * 32, b"b" * 32)
        self.attempt("settle", "operator", "escrow", "settle", *arguments)

    @rule()
    def pause(self) -> None:
        self.attempt("pause", "pauser", "stake", "pause")
        request = self.try_request(0, 0, 2 * USD)
        assert not request
        self.world.send("pauser", "stake", "unpause")

    # ---- providers ----

    @rule(node_class=st.sampled_from(CLASSES))
    def withdraw_for(self, node_class: int) -> None:
        self.attempt("withdraw_for", "stranger", "escrow", "withdraw_for", node_class)

    @rule(proven=st.booleans())
    def release_holdback(self, proven: bool) -> None:
        if proven:
            self.prove(2)
        assert self.attempt("release_holdback", "stranger", "escrow", "release_holdback", 2) or not (
            proven and self.world.node(2)["holdback"]
        )

    @rule(node_class=st.sampled_from(CLASSES), amount=st.integers(1, 100 * USD))
    def bond(self, node_class: int, amount: int) -> None:
        self.world.mint("stranger", amount, "stake")
        self.minted += amount
        if self.attempt("bond", "stranger", "stake", "stake", node_class, amount):
            self.staked_by_class[node_class] += amount

    @rule(node_class=st.sampled_from(CLASSES), part=st.integers(1, 10))
    def unstake(self, node_class: int, part: int) -> None:
        amount = max(1, self.world.stake_of(node_class)[0] // 10 * part)
        provider = f"provider:{node_class}"
        if self.attempt("unstake_request", provider, "stake", "unstake_request", node_class, amount):
            self.world.attest_class(node_class=node_class, provider=provider)

    @rule(node_class=st.sampled_from(CLASSES), patient=st.booleans())
    def unstake_withdraw(self, node_class: int, patient: bool) -> None:
        if patient:
            self.unstake(node_class, 2)
        unbonding = self.world.stake_of(node_class)[1]
        if patient:
            self.world.travel(DELAYS.unbonding)
            for number in range(1, self.requests + 1):
                self.attempt("lapse", "stranger", "stake", "lapse", number)
        if self.attempt("unstake_withdraw", f"provider:{node_class}", "stake", "unstake_withdraw", node_class):
            self.staked_by_class[node_class] -= unbonding

    @rule(node_class=st.sampled_from(CLASSES))
    def prove(self, node_class: int) -> None:
        world = self.world
        epoch = world.call("stake", "benchmark_epoch", node_class) + 1
        world.prove(node_class=node_class, kind=2, epoch=epoch)
        self.accept("prove")
        world.attest_class(node_class=node_class, provider=f"provider:{node_class}")

    # ---- slashing ----

    def try_request(self, batch: int, line: int, amount: int) -> bool:
        chosen = self.batches[batch % len(self.batches)]
        try:
            self.world.request_slash(chosen, line=line, amount=amount, kind=3)
        except Reverted as refusal:
            return self.refuse(refusal)
        self.accept("request_slash")
        self.requests += 1
        return True

    @rule(batch=st.integers(0, 9), line=st.integers(0, 1), amount=st.integers(1, 400 * USD))
    def request_slash(self, batch: int, line: int, amount: int) -> None:
        chosen = self.batches[-1 - batch % len(self.batches)]
        node_class = chosen.classes[line]
        armed = self.world.call("stake", "armed", node_class, chosen.locked_at, self.world.now)
        assert not self.try_request(len(self.batches) - 1 - batch % len(self.batches), line, amount) or armed

    @rule(last=st.integers(0, 2), amount=st.integers(1, 60 * USD))
    def forfeit(self, last: int, amount: int) -> None:
        chosen = self.batches[-1 - last % len(self.batches)]
        try:
            self.world.forfeit(chosen, line=1, amount=min(amount, max(1, self.world.node(2)["holdback"])))
        except Reverted as refusal:
            self.refuse(refusal)
        else:
            self.accept("forfeit")

    @rule(fresh=st.booleans(), last=st.integers(0, 1), answer=st.sampled_from(["dispute", "uphold", "veto", "lapse"]))
    def answer(self, fresh: bool, last: int, answer: str) -> None:
        if fresh or answer == "uphold":
            last = 0
            self.lock(USD, 0, False)
            self.try_request(len(self.batches) - 1, 0, 5 * USD)
        number = self.requests - last
        if answer in ("dispute", "uphold"):
            self.attempt("dispute", "provider:1", "stake", "dispute", number)
        if answer == "uphold":
            for arbiter in ("arbiter:1", "arbiter:2"):
                self.attempt("uphold", arbiter, "stake", "uphold", number)
        if answer == "veto":
            self.attempt("veto", "veto", "stake", "veto", number)
        if answer == "lapse":
            self.attempt("lapse", "stranger", "stake", "lapse", number)

    @rule(last=st.integers(0, 1), patient=st.booleans())
    def execute(self, last: int, patient: bool) -> None:
        number = self.requests - last
        if patient:
            self.world.travel(DELAYS.veto)
        before = self.world.call("stake", "slash_of", number)
        node_class = before["node_class"] or 1
        held = sum(self.world.stake_of(node_class)[:2])
        now = self.world.now
        if self.attempt("execute_slash", "stranger", "stake", "execute_slash", number):
            taken = held - sum(self.world.stake_of(node_class)[:2])
            # S3, S4: in a state that allows it, late enough, within a quarter of what there is
            assert before["state"] in (1, 3)
            assert now >= before["requested_at"] + DELAYS.veto
            assert 0 < taken <= min(before["amount"], held // 4 + 1)
            self.slashed_by_class[node_class] += taken

    # ---- what holds after every step ----

    @invariant()
    def money_is_where_it_belongs(self) -> None:
        """E1, E2, S1 and that nothing appears; a refused step changed nothing, so it is not looked at again."""
        if not self.changed:
            return
        self.changed = False
        totals = self.world.totals()
        self.check_escrow(totals)
        self.check_sums(totals)
        self.check_stake()
        assert self.world.call("token", "totalSupply") == self.minted
        assert self.world.tokens("operator") == self.world.tokens("veto") == 0, "S5: a bystander gained"

    def check_escrow(self, totals: dict[str, int]) -> None:
        owed = sum(amount for name, amount in totals.items() if name not in ("locked", "uncovered"))
        assert self.world.tokens("escrow") == owed, "E1"

    def check_sums(self, totals: dict[str, int]) -> None:
        accounts = [self.world.account(name) for name in BUYERS]
        nodes = [self.world.node(number) for number in CLASSES]
        assert totals["locked"] == totals["committed"], "E2"
        for name in ("free", "locked"):
            assert totals[name] == sum(each[name] for each in accounts), f"E2: {name}"
        for name in ("committed", "payable", "holdback"):
            assert totals[name] == sum(each[name] for each in nodes), f"E2: {name}"

    def check_stake(self) -> None:
        stakes = {number: sum(self.world.stake_of(number)[:2]) for number in CLASSES}
        assert self.world.tokens("stake") == sum(stakes.values()), "S1"
        for number, held in stakes.items():
            assert held == self.staked_by_class[number] - self.slashed_by_class[number], "S1: stake fell unasked"


@pytest.mark.parametrize("markets", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_E1_E2_S1_hold_on_random_markets_and_every_action_was_accepted(markets: int) -> None:
    accepted.clear()

    run_state_machine_as_test(
        MarketMachine,
        settings=settings(
            max_examples=markets,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert {action for action in ACTIONS if not accepted[action]} == set(), dict(accepted)
