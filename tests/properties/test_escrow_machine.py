"""Escrow's bytecode answers like escrow in plain Python, call by call: the same sentence, or the same money everywhere.

Claims, their cover, wind-up and refunds are in it; every rule must have been accepted often, or the run fails.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from contracts.claims import ClaimTree
from contracts.parameters import CLAIM_SILENCE, HOLDBACK_DELAY, SILENCE
from tests.contracts.chain import Chain, Reverted, TestChain, address_of
from tests.contracts.world import (
    DAY,
    DELAYS,
    EXPOSURE_CAP,
    UNPROVEN_CAP,
    USD,
    WEEK,
    World,
    buyer_line,
    class_line,
    fee_of,
)
from tests.properties.escrow_model import Buyer, Escrow, Line, NodeClass, Refused
from tests.properties.quick_chain import QuickChain

NUMBERS = (1, 2)
RULES = ("deposit", "withdraw", "lock", "settle", "settle_covering", "sign_of_life", "withdraw_for", "release_holdback",
         "withdraw_fees", "claim", "claim_held_back", "wind_up", "refund", "refund_after_claims", "pause",
         "prove")  # fmt: skip
RACE_RULES = ("settle_signed_before", "settle_signed_anew", "claim", "claim_held_back")
RULE_OF = {"settle_covering": "settle", "sign_of_life": "settle", "claim_held_back": "claim",
           "settle_signed_before": "settle", "settle_signed_anew": "settle"}
STEPS_OF_ONE_MARKET = 80
SLOTS_MAX = 64
BUYERS_MAX = 2**32
CALLS_BEFORE_WIND_UP = 12  # so that claims are made and covered before
CALLS_BETWEEN_LOCKS = 10  # a lock takes the EVM as long as ten other calls
RICH = 10**15
PROVEN_UNTIL_AT = 88  # bit of a class word
accepted: Counter[str] = Counter()
refused: Counter[str] = Counter()
SEEN_CLOSED = "escrow: wound up"
which = st.sampled_from(NUMBERS)
nudge = st.sampled_from([0, 0, 0, 0, -1, 1])
unsettled = st.tuples(st.sampled_from([70 * USD, 1, 300 * USD, 0]), st.sampled_from([9 * USD, 1, 60 * USD, 0]))

spoils = st.sampled_from([""] * 9 + ["epoch", "epoch twice", "debit", "refund", "gross", "held", "returned", "covered"])


def while_open(name: str) -> Callable[[Any], Any]:
    """After wind-up one refusal of each closed rule is enough: the rest of the market is for what still works."""
    return precondition(lambda machine: name not in machine.closed)


@cache
def begin() -> tuple[Chain, Escrow, ClaimTree]:
    """A market where every rule is one step away, on chain and in plain Python.

    Class 1 is PROVEN, class 2 in PROBATION; both have money committed, payable or held back, and the last root owes
    them more than was credited.
    """
    world = World.market()
    (word,) = world.call("stake", "words", [1])
    for number in NUMBERS:
        world.attest_class(node_class=number, provider=f"provider:{number}", expires=world.now + 9_999 * DAY)
        world.mint(f"buyer:{number}", RICH, "escrow")
    escrow = Escrow(
        {n: Buyer(world.account(f"buyer:{n}")["free"]) for n in NUMBERS},
        {1: NodeClass(proven_until=word >> PROVEN_UNTIL_AT & 2**40 - 1), 2: NodeClass(proven_until=0)},
        received=world.tokens("escrow"),
    )
    escrow.lock({1: 400 * USD, 2: 60 * USD}, world.call("escrow", "window_ends", 1), world.now)
    world.lock([(0, 0, 400 * USD), (1, 1, 60 * USD)], classes=NUMBERS,
               mandates=[world.mandate("buyer:1"), world.mandate("buyer:2")])  # fmt: skip
    owed = {1: 250 * USD, 2: 35 * USD}
    tree = ClaimTree(TestChain.chain_id, world.address("escrow"), owed)
    lines = {1: Line(100 * USD, 0, 100 * USD, 0, 0), 2: Line(20 * USD, 0, 20 * USD, 19 * USD, 0)}
    escrow.settle(1, lines, 0, owed, world.now)
    world.settle(
        [buyer_line(number, line.debit, line.refund) for number, line in lines.items()],
        [class_line(number, line.gross, line.held, line.returned) for number, line in lines.items()], root=tree.root,
    )  # fmt: skip
    return world.chain, escrow, tree


def slot_of(chain: QuickChain, value: int, *, key: int | None = None) -> int:
    """Find where escrow keeps a word that is known: Vyper's slots are no part of the ABI."""
    for slot in (*range(SLOTS_MAX), *range(BUYERS_MAX, BUYERS_MAX + SLOTS_MAX)):
        place = slot + (key or 0)  # accounts and classes lie in arrays, the classes behind the accounts
        if chain.word("escrow", place) == value:
            return place
    raise AssertionError(f"no slot of escrow holds {value}")


@cache
def slots() -> dict[str, int]:
    """Where the words of accounts, classes and totals lie, found once on a market in which all of them differ."""
    chain = QuickChain(begin()[0])
    world, found = World(chain), {}
    for number in NUMBERS:
        account = world.account(f"buyer:{number}")
        word = account["free"] | account["locked"] << 64 | account["spent"] << 128 | account["nonce"] << 192
        found[f"buyer {number}"] = slot_of(chain, word, key=number)
        node = world.node(number)
        word = node["committed"] | node["payable"] << 64 | node["holdback"] << 128 | node["credited"] << 192
        found[f"class {number}"] = slot_of(chain, word, key=number)
    sums = world.totals()
    found["buyers"] = slot_of(chain, sums["free"] | sums["locked"] << 64 | sums["fees"] << 128)
    found["classes"] = slot_of(chain, sums["committed"] | sums["payable"] << 64 | sums["holdback"] << 128)
    return found


class EscrowMachine(RuleBasedStateMachine):
    """Each rule sends one call and asks the model; both must take it, or refuse it in the same words."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.places = slots()
        chain, escrow, self.tree = begin()
        self.chain, self.escrow = QuickChain(chain), deepcopy(escrow)
        self.world = World(self.chain)
        self.closed: set[str] = set()
        self.calls, self.calls_since_lock = 0, CALLS_BETWEEN_LOCKS
        self.nonce, self.window, self.ends_at = 1, 1, self.world.call("escrow", "window_ends", 1)

    def both(self, name: str, send: Callable[[], Any], model: Callable[[int], None]) -> bool:
        """Let contract and model answer the same call."""
        EscrowMachine.steps += 1
        self.calls += 1
        self.calls_since_lock = 0 if name == "lock" else self.calls_since_lock + 1
        at, expected, said = self.world.now, "", ""
        try:
            send()
        except Reverted as refusal:
            said = str(refusal)
            assert said, "refused without a sentence of ours"
        try:
            model(at)
        except Refused as refusal:
            expected = str(refusal)
        assert said == expected, f"{name}: the contract says {said!r}, the model {expected!r}"
        if said:
            refused[said] += 1
            if said in (SEEN_CLOSED, "escrow: not wound up"):
                self.closed.add(RULE_OF.get(name, name))
            return False
        accepted[name] += 1
        self.compare()
        return True

    def call(self, name: str, sender: str, function: str, *args: Any, model: Callable[[int], None]) -> bool:
        return self.both(name, lambda: self.world.send(sender, "escrow", function, *args), model)

    def compare(self) -> None:
        """Every word of escrow is the model's, and its tokens are what it owes (E1, E2)."""
        escrow, word = self.escrow, lambda name: self.chain.word("escrow", self.places[name])
        low = 2**128 - 1
        for number in NUMBERS:
            buyer, node = escrow.buyers[number], escrow.classes[number]
            assert word(f"buyer {number}") & low == buyer.free | buyer.locked << 64, f"buyer {number}"
            packed = node.committed | node.payable << 64 | node.holdback << 128 | node.credited << 192
            assert word(f"class {number}") == packed, f"class {number}"
        free = sum(buyer.free for buyer in escrow.buyers.values())
        assert word("buyers") == free | escrow.locked << 64 | escrow.fees << 128, "sums of buyers"
        nodes = escrow.classes.values()
        sums = [sum(getattr(node, name) for node in nodes) for name in ("committed", "payable", "holdback")]
        assert word("classes") == sums[0] | sums[1] << 64 | sums[2] << 128 | escrow.uncovered << 192, "sums of classes"
        owed = free + sums[1] + sums[2] + escrow.fees
        held = escrow.received - escrow.paid_out
        if escrow.wound is None:
            assert escrow.locked == sums[0] + escrow.uncovered, "E2"
            assert held == owed + sums[0], "E1"
        else:
            left, locked = escrow.wound
            shares = sum(buyer.locked * left // locked for buyer in escrow.buyers.values())
            assert 0 <= held - owed - shares < len(NUMBERS), "E8: all but what rounding leaves is given back"

    def tree_of(self, owed: dict[int, int]) -> ClaimTree:
        return ClaimTree(TestChain.chain_id, self.world.address("escrow"), owed)

    # -- time --------------------------------------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([1, 1_800, 3_600, DAY, WEEK, HOLDBACK_DELAY]))
    def wait(self, seconds: int) -> None:
        EscrowMachine.steps += 1
        self.world.travel(seconds)

    def fall_silent(self, span: int, off: int) -> None:
        """Go to the second at which the silence is long enough, or to one beside it."""
        due = self.escrow.seen_at + span + off
        if due > self.world.now:
            self.world.travel_to(due)

    # -- buyers ------------------------------------------------------------------------------------------------------
    @rule(number=which, part=st.integers(0, 6), off=nudge, is_deposit=st.booleans())
    def move_own_money(self, number: int, part: int, off: int, is_deposit: bool) -> None:
        """A buyer brings some money, or takes a share of what is free; sometimes one micro-USD beside it."""
        name, me = f"buyer:{number}", address_of(f"buyer:{number}")
        share = part * 100 * USD if is_deposit else self.escrow.buyers[number].free * part // 6
        amount = max(0, share + off)
        if is_deposit:
            self.call("deposit", name, "deposit", me, amount, model=lambda at: self.escrow.deposit(number, amount))
        else:
            self.call("withdraw", name, "withdraw", amount, model=lambda at: self.escrow.withdraw(number, amount))

    # -- the operator ------------------------------------------------------------------------------------------------
    @precondition(lambda self: "lock" not in self.closed and self.calls_since_lock >= CALLS_BETWEEN_LOCKS)
    @rule(parts=st.tuples(st.integers(0, 4), st.integers(0, 4)), off=nudge,
          kind=st.sampled_from(["fresh"] * 8 + ["paused", "old window"]))  # fmt: skip
    def lock(self, parts: tuple[int, int], off: int, kind: str) -> None:
        """Lock a share of the room each class has; sometimes one micro-USD beside it."""
        nodes, now = self.escrow.classes, self.world.now
        caps = {n: EXPOSURE_CAP if self.escrow.is_proven(n, now) else UNPROVEN_CAP for n in NUMBERS}
        first, second = (
            max(0, min(caps[n] - nodes[n].committed, self.escrow.buyers[n].free) * part // 4 + off)
            for n, part in zip(NUMBERS, parts, strict=True)
        )
        if kind == "fresh" and now >= self.ends_at:
            self.window += 1
            self.world.open_window(self.window)
            self.ends_at = self.world.now - 1 + WEEK
        self.escrow.paused = kind == "paused"
        if self.escrow.paused:
            self.world.send("pauser", "escrow", "pause")
        self.nonce += 1
        mandates = [
            self.world.mandate(f"buyer:{n}", nonce=self.nonce, window=self.window, max_spend=RICH) for n in NUMBERS
        ]
        amounts = {1: first, 2: second}
        self.both(
            "lock",
            lambda: self.world.lock([(0, 0, first), (1, 1, second)], mandates=mandates, classes=NUMBERS,
                                    window=self.window),
            lambda at: self.escrow.lock(amounts, self.ends_at, at),
        )  # fmt: skip
        if self.escrow.paused:
            self.escrow.paused = False
            self.world.send("pauser", "escrow", "unpause")
            accepted["pause"] += 1

    @while_open("settle")
    @rule(part=st.integers(0, 4), back=st.integers(0, 3), cover=st.integers(0, 4), spoil=spoils, more=unsettled)
    def settle(self, part: int, back: int, cover: int, spoil: str, more: tuple[int, int]) -> None:
        """Settle a share of each class's money; sometimes one number is off by one."""
        escrow, lines, covered = self.escrow, {}, 0
        for number, node in escrow.classes.items():
            share = node.committed * part // 4
            returned = share * back // 4
            gross, paid = share - returned, node.claimed if cover else 0
            held = 0 if number == 1 else gross - fee_of(gross)
            covered += paid
            if part or paid:
                lines[number] = Line(gross + paid, returned, gross, held, returned)
        if spoil in ("debit", "refund", "gross", "held", "returned") and 2 in lines:
            lines[2] = Line(**{**vars(lines[2]), spoil: getattr(lines[2], spoil) + 1})
        covered += spoil == "covered"
        epoch = escrow.epoch + 1 + {"epoch": 1, "epoch twice": -1}.get(spoil, 0)
        name = "settle_covering" if covered else "settle" if lines else "sign_of_life"
        # The root owes each class what it has, what this call credits, and something that is still to be settled.
        owed = {
            number: node.credited + (lines[number].gross if number in lines else 0) + more[number - 1]
            for number, node in self.escrow.classes.items()
        }
        self.send_settle(name, epoch, lines, covered, owed)

    def send_settle(self, name: str, epoch: int, lines: dict[int, Line], covered: int, owed: dict[int, int]) -> bool:
        tree = self.tree_of(owed)
        done = self.call(
            name, "operator", "settle", epoch,
            [buyer_line(number, line.debit, line.refund) for number, line in lines.items()],
            [class_line(number, line.gross, line.held, line.returned) for number, line in lines.items()],
            covered, tree.root, b"b" * 32,
            model=lambda at: self.escrow.settle(epoch, lines, covered, owed, at),
        )  # fmt: skip
        if done:
            self.tree = tree
        return done

    # -- providers ---------------------------------------------------------------------------------------------------
    @rule(what=st.sampled_from(["withdraw_for", "release_holdback", "withdraw_fees"]), number=which)
    def collect(self, what: str, number: int) -> None:
        """Ask for what has been earned; anybody may."""
        arguments = () if what == "withdraw_fees" else (number,)
        models: dict[str, Callable[[int], None]] = {
            "withdraw_for": lambda at: self.escrow.withdraw_for(number),
            "release_holdback": lambda at: self.escrow.release_holdback(number, at),
            "withdraw_fees": lambda at: self.escrow.withdraw_fees(),
        }
        self.call(what, "stranger", what, *arguments, model=models[what])

    @precondition(lambda self: not self.escrow.is_proven(1, self.world.now))
    @rule()
    def prove(self) -> None:
        EscrowMachine.steps += 1
        epoch = self.world.call("stake", "benchmark_epoch", 1) + 1
        until = self.world.now - 60 + DELAYS.validity_max
        self.world.prove(node_class=1, kind=2, epoch=epoch)
        self.escrow.classes[1].proven_until = until
        accepted["prove"] += 1

    # -- when the operator is silent ---------------------------------------------------------------------------------
    @while_open("claim")
    @rule(number=which, patient=st.integers(0, 3), off=nudge, lie=st.sampled_from([0] * 5 + [1]))
    def claim(self, number: int, patient: int, off: int, lie: int) -> None:
        if patient:
            self.fall_silent(CLAIM_SILENCE, off)
        tree = self.tree if number in self.tree.owed else self.tree_of({number: 5})
        _, owed, index, leaves, sisters = tree.proof(number).abi()
        cumulative = owed + lie
        name = "claim" if self.escrow.is_proven(number, self.world.now) else "claim_held_back"
        self.call(name, "stranger", "claim", number, cumulative, index, leaves, sisters,
                  model=lambda at: self.escrow.claim(number, cumulative, at))  # fmt: skip

    @precondition(lambda self: "wind_up" not in self.closed and self.calls >= CALLS_BEFORE_WIND_UP)
    @rule(patient=st.booleans(), off=nudge)
    def wind_up(self, patient: bool, off: int) -> None:
        if patient:
            self.fall_silent(SILENCE, off)
        self.call("wind_up", "stranger", "wind_up", model=self.escrow.wind_up)

    @precondition(lambda self: self.escrow.wound is not None or "refund" not in self.closed)
    @rule(number=which)
    def refund(self, number: int) -> None:
        name = "refund_after_claims" if self.escrow.wound and self.escrow.uncovered else "refund"
        self.call(name, "stranger", "refund", address_of(f"buyer:{number}"),
                  model=lambda at: self.escrow.refund(number))  # fmt: skip


class RacingMachine(EscrowMachine):
    """The same market in which classes claim while a settlement is signed and not yet mined."""

    @while_open("claim")
    @while_open("settle")
    @rule(number=which, order=st.sampled_from(["claim first", "claim, then silence", "settle first", "no claim"]),
          more=unsettled)  # fmt: skip
    def race(self, number: int, order: str, more: tuple[int, int]) -> None:
        """The operator signs all that is owed; a class claims before that is mined, or after it, or not at all.

        In every order each class is credited what it is owed, not a micro-USD more and, once signed anew, not one less.
        """
        escrow = self.escrow
        owed = {n: node.credited + more[n - 1] for n, node in escrow.classes.items()}
        self.send_settle("sign_of_life", escrow.epoch + 1, {}, 0, owed)
        self.fall_silent(CLAIM_SILENCE, 0)
        signed_at = escrow.epoch
        due = {
            n: min(max(owed.get(n, 0), node.credited), node.credited + node.committed)
            for n, node in escrow.classes.items()
        }
        lines, covered = self.lines_up_to(due), escrow.uncovered
        if order.startswith("claim"):
            self.claim(number, 0, 0, 0)
        done = self.send_settle("settle_signed_before", signed_at + 1, lines, covered, owed)
        assert done in (False, escrow.epoch == signed_at + 1), "nothing signed before a claim is taken after it"
        if not done and escrow.epoch != signed_at and order == "claim first":
            anew = self.lines_up_to(due), escrow.uncovered
            done = self.send_settle("settle_signed_anew", escrow.epoch + 1, *anew, owed)
        if order == "settle first":
            self.claim(number, 1, 0, 0)
        if done:
            assert {n: node.credited for n, node in escrow.classes.items()} == due, "once, and whole"

    def lines_up_to(self, due: dict[int, int]) -> dict[int, Line]:
        """What an operator signs now so that each class has been credited `due` and what was claimed is covered."""
        lines = {}
        for number, node in self.escrow.classes.items():
            gross = due[number] - node.credited
            if gross or node.claimed:
                held = 0 if number == 1 else gross - fee_of(gross)
                lines[number] = Line(gross + node.claimed, 0, gross, held, 0)
        return lines


def run_machine(machine: type[EscrowMachine], steps: int, rules: tuple[str, ...] = RULES) -> None:
    """Take so many steps at least; each rule must have been accepted once in two thousand."""
    accepted.clear()
    refused.clear()
    take_steps(machine, steps)
    require_all_took_effect(steps, rules)


def take_steps(machine: type[EscrowMachine], steps: int) -> int:
    """Take so many steps at least and return how many; what was accepted and refused is added to the counts."""
    EscrowMachine.steps = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=-(-steps * 10 // (STEPS_OF_ONE_MARKET * 8)), stateful_step_count=STEPS_OF_ONE_MARKET,
            deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip
    print(f"{EscrowMachine.steps} steps, accepted {dict(accepted)}, refused {dict(refused)}", flush=True)
    assert EscrowMachine.steps >= steps
    return EscrowMachine.steps


def require_all_took_effect(steps: int, rules: tuple[str, ...] = RULES) -> None:
    rare = {name: accepted[name] for name in rules if accepted[name] < max(1, steps // 2_000)}
    assert rare == {}, "rules that hardly ever took effect"


def seeded(number: int, machine: type[EscrowMachine] = EscrowMachine) -> type[EscrowMachine]:
    """A machine whose run depends on this number alone."""
    return seed(number)(type(machine.__name__, (machine,), {}))  # type: ignore[no-any-return]


# Ten thousand steps in two halves, of which the other has a file of its own, so that two processes share them.
def test_escrow_answers_like_escrow_in_plain_python() -> None:
    run_machine(seeded(1), 5_000)


def test_E4_whatever_a_class_claims_while_a_settlement_is_signed_it_is_paid_once_and_whole() -> None:
    run_machine(seeded(1, RacingMachine), 1_000, RACE_RULES)


@pytest.mark.nightly
def test_escrow_answers_like_escrow_in_plain_python_for_two_hundred_thousand_steps() -> None:
    accepted.clear()
    refused.clear()
    taken = 0
    while taken < 200_000:
        number = secrets.randbits(32)
        print(f"EscrowMachine: seed {number} after {taken} steps", flush=True)
        taken += take_steps(seeded(number), 10_000)
    print(f"EscrowMachine: {taken} steps", flush=True)
    require_all_took_effect(taken)
