"""kill -9 between every two steps of a transaction's life, its replacement and its cancel: it settles exactly once.

The chain is anvil, whose pool holds what is not mined yet. Each round is one deposit of one micro-USD; a child process
runs the step and is killed in it, and the parent then goes on as a restarted sender would.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection

from ledger import faults
from ledger.models import ChainAttempt, ChainIntent, Ledger, Transfer
from ledger.rails import evm, indexer, sender, stuck
from ledger.rails.signer import signer
from tests.rails.anvil import Anvil
from tests.rails.conftest import Clock, minor
from tests.rails.test_story import BUYER, Market

# Where a pump can die that signs a new call, that replaces one, that cancels one.
SIGNING = ("sender.before_commit", "sender.signed", "sender.broadcast", "sender.marked_sent", "sender.before_resolve",
           "sender.resolved")  # fmt: skip
RENEWING = ("sender.before_resolve", "sender.looked_up", "stuck.before_commit", "stuck.renewed", "sender.broadcast",
            "sender.marked_sent", "sender.resolved", "sender.before_commit")  # fmt: skip
ENDING = ("sender.before_resolve", "sender.before_commit")  # the receipt is final: nothing is sent again
BOOKING = ("indexer.kept", "indexer.before_commit")
STUCK_FOR = timedelta(minutes=4)
Act = Callable[..., object]


class Desk:
    """Deposits of one micro-USD, one at a time, and who dies in them."""

    def __init__(self, node: Anvil, clock: Clock) -> None:
        self.node, self.clock = node, clock
        self.market = Market(evm.chain(), clock)
        self.owner = signer().address(self.market.buyer)
        self.kills = self.booked = self.cancelled = 0
        self.market.submit("faucet", "token", "mint", self.owner, 10**9)
        self.market.submit(self.market.buyer, "token", "approve", evm.chain().address("escrow"), 10**9)
        self.run_to_the_end()
        self.nonce = evm.chain().next_nonce(self.owner)

    def deposit(self) -> ChainIntent:
        self.node.rpc("evm_setAutomine", False)
        return self.market.submit(self.market.buyer, "escrow", "deposit", self.owner, 1)

    def killed(self, point: str, act: Act, now: datetime) -> None:
        """Let a forked child do it and be killed (-9) at the point."""
        connection.close()  # the child must not share the parent's session
        child = os.fork()
        if child == 0:
            try:
                with faults.armed(point, "kill"):
                    act(now=now)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9, f"nobody came by {point}"
        self.kills += 1

    def run_to_the_end(self) -> None:
        """What a restarted sender and indexer do, until nothing is open."""
        for _ in range(8):
            sender.pump(now=self.clock.now)
            self.node.rpc("evm_setAutomine", True)
            self.node.finalize()
            if not ChainIntent.objects.filter(state__in=sender.OPEN_STATES).exists():
                break
        indexer.index(now=self.clock.now)

    def settled_once(self, row: ChainIntent, *, cancelled: bool = False) -> None:
        """The intent has one nonce, and took effect once in the contract and once in the books, or not at all."""
        row.refresh_from_db()
        self.cancelled += cancelled
        self.booked += not cancelled
        self.nonce += 1
        assert row.state == ("reverted" if cancelled else "final"), row.revert_reason
        assert evm.chain().next_nonce(self.owner) == self.nonce, "one nonce for one intent"
        assert {attempt.nonce for attempt in ChainAttempt.objects.filter(intent=row)} == {self.nonce - 1}
        assert evm.chain().call("escrow", "account_of", self.owner)[1] == self.booked
        assert minor("buyer.available", BUYER) == minor("chain.escrow") == self.booked
        assert Transfer.objects.count() == self.booked
        assert Ledger.objects.get(asset="USDC6").halted_reason == ""

    # -- the three ways ----------------------------------------------------------------------------------------------
    def call_is_killed(self, point: str) -> None:
        row = self.deposit()
        self.killed(point, sender.pump, self.clock.now)
        self.run_to_the_end()
        self.settled_once(row)

    def replacement_is_killed(self, point: str) -> None:
        row = self.deposit()
        sender.pump(now=self.clock.now)
        self.clock.now += STUCK_FOR
        self.killed(point, sender.pump, self.clock.now)
        self.run_to_the_end()
        assert ChainAttempt.objects.filter(intent=row).count() == 2
        self.settled_once(row)

    def cancel_is_killed(self, point: str) -> None:
        row = self.deposit()
        sender.pump(now=self.clock.now)
        stuck.ask_cancel(key=row.key, person="eva", now=self.clock.now)
        self.killed(point, sender.pump, self.clock.now)
        self.run_to_the_end()
        self.settled_once(row, cancelled=True)

    def receipt_is_killed(self, point: str, *, cancelled: bool, replaced: bool) -> None:
        row = self.deposit()
        sender.pump(now=self.clock.now)
        if cancelled:
            stuck.ask_cancel(key=row.key, person="eva", now=self.clock.now)
        if replaced:
            self.clock.now += STUCK_FOR
        sender.pump(now=self.clock.now)
        self.node.mine()
        self.node.finalize()
        self.killed(point, sender.pump, self.clock.now)
        self.run_to_the_end()
        self.settled_once(row, cancelled=cancelled)

    def booking_is_killed(self, point: str, *, replaced: bool) -> None:
        row = self.deposit()
        sender.pump(now=self.clock.now)
        if replaced:
            self.clock.now += STUCK_FOR
            sender.pump(now=self.clock.now)
        self.node.mine()
        self.node.finalize()
        self.killed(point, indexer.index, self.clock.now)
        self.run_to_the_end()
        self.settled_once(row)

    def tell(self) -> None:
        print(f"{self.kills} kills: {self.booked} deposits settled exactly once, {self.cancelled} cancels took effect "
              f"once, {ChainAttempt.objects.count()} transactions signed")  # fmt: skip


def test_a_kill_while_replacing_or_cancelling_settles_once(anvil: Anvil, clock: Clock) -> None:
    desk = Desk(anvil, clock)
    desk.replacement_is_killed("stuck.renewed")
    desk.cancel_is_killed("stuck.before_commit")
    desk.tell()


@pytest.mark.slow
def test_a_kill_between_any_two_steps_settles_once(anvil: Anvil, clock: Clock) -> None:
    desk = Desk(anvil, clock)
    for point in SIGNING:
        desk.call_is_killed(point)
    for point in RENEWING:
        desk.replacement_is_killed(point)
        desk.cancel_is_killed(point)
    for point in ENDING:
        for cancelled, replaced in ((False, False), (False, True), (True, False)):
            desk.receipt_is_killed(point, cancelled=cancelled, replaced=replaced)
    for point in BOOKING:
        for replaced in (False, True):
            desk.booking_is_killed(point, replaced=replaced)
    desk.tell()
    assert desk.kills == len(SIGNING) + 2 * len(RENEWING) + 3 * len(ENDING) + 2 * len(BOOKING)
    assert (desk.booked, desk.cancelled) == (desk.kills - len(RENEWING) - len(ENDING), len(RENEWING) + len(ENDING))
