"""Escrow in plain Python: what each call must do, or the sentence with which it must be refused.

Money is micro-USD, times are unix seconds. Buyer `n` leases from class `n` only, so it is known whose money a class has
claimed. Mandates and attestations allow everything here: what they refuse is tried in `test_contracts_mandates.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.parameters import CLAIM_SILENCE, HOLDBACK_DELAY, SILENCE
from tests.contracts.world import EXPOSURE_CAP, SETTLE_LIMIT, UNPROVEN_CAP, fee_of

HOUR = 3_600


class Refused(Exception):
    """The contract must refuse with this sentence."""


def need(holds: bool, sentence: str) -> None:
    if not holds:
        raise Refused(f"escrow: {sentence}")


@dataclass
class Buyer:
    free: int
    locked: int = 0


@dataclass
class NodeClass:
    proven_until: int
    committed: int = 0
    payable: int = 0
    holdback: int = 0
    credited: int = 0
    claimed: int = 0  # and not covered yet
    held_since: int = 0


@dataclass(frozen=True)
class Line:
    """One buyer's and its class's part of a settlement. A fair one has debit = gross + covered, refund = returned."""

    debit: int
    refund: int
    gross: int
    held: int
    returned: int


@dataclass
class Escrow:
    buyers: dict[int, Buyer]
    classes: dict[int, NodeClass]
    paid_out: int = 0  # tokens that left for buyers, providers and the treasury
    received: int = 0
    fees: int = 0
    epoch: int = 0
    seen_at: int = 0
    hour_from: int = 0
    in_hour: int = 0
    paused: bool = False
    owed: dict[int, int] = field(default_factory=dict)  # by the last root
    wound: tuple[int, int] | None = None  # (left, locked)

    @property
    def locked(self) -> int:
        return sum(each.locked for each in self.buyers.values())

    @property
    def uncovered(self) -> int:
        return sum(each.claimed for each in self.classes.values())

    def is_proven(self, number: int, at: int) -> bool:
        return at <= self.classes[number].proven_until

    # -- buyers ------------------------------------------------------------------------------------------------------
    def deposit(self, number: int, amount: int) -> None:
        need(amount > 0, "nothing arrived")
        self.buyers[number].free += amount
        self.received += amount

    def withdraw(self, number: int, amount: int) -> None:
        need(amount > 0, "nothing to withdraw")
        need(amount <= self.buyers[number].free, "free is too small")
        self.buyers[number].free -= amount
        self.paid_out += amount

    # -- the operator ------------------------------------------------------------------------------------------------
    def lock(self, amounts: dict[int, int], ends_at: int, at: int) -> None:
        need(not self.paused, "lock is paused")
        need(self.wound is None, "wound up")
        need(at < ends_at, "window is not open")
        for number, amount in amounts.items():
            need(amount <= self.buyers[number].free, "free is too small")
        for number, amount in amounts.items():
            load = self.classes[number].committed + amount
            if not self.is_proven(number, at):
                need(load <= UNPROVEN_CAP, "unproven cap is exceeded")
            need(load <= EXPOSURE_CAP, "exposure cap is exceeded")
        if self.locked == 0:
            self.seen_at = at
        for number, amount in amounts.items():
            if not self.is_proven(number, at):
                self._hold_since(number, ends_at)
            self.buyers[number].free -= amount
            self.buyers[number].locked += amount
            self.classes[number].committed += amount

    def settle(self, epoch: int, lines: dict[int, Line], covered: int, owed: dict[int, int], at: int) -> None:
        need(self.wound is None, "wound up")
        need(epoch == self.epoch + 1, "epoch is not the next")
        for number, line in lines.items():
            need(line.debit + line.refund <= self.buyers[number].locked, "locked is too small")
        for number, line in lines.items():
            need(line.held + fee_of(line.gross) <= line.gross, "holdback exceeds gross")
            need(line.gross + line.returned <= self.classes[number].committed, "committed is too small")
        gross = sum(line.gross for line in lines.values())
        need(covered <= self.uncovered, "covers more than claimed")
        need(sum(line.debit for line in lines.values()) == gross + covered, "debits not as gross")
        need(
            sum(line.refund for line in lines.values()) == sum(line.returned for line in lines.values()),
            "refunds not as returned",
        )
        in_hour, hour_from = (gross, at) if at >= self.hour_from + HOUR else (self.in_hour + gross, self.hour_from)
        need(in_hour <= SETTLE_LIMIT, "hourly limit exceeded")
        self.in_hour, self.hour_from, self.seen_at, self.epoch, self.owed = in_hour, hour_from, at, epoch, owed
        for number, line in lines.items():
            buyer, node = self.buyers[number], self.classes[number]
            buyer.locked -= line.debit + line.refund
            buyer.free += line.refund
            self._credit(number, line.gross, line.held, at)
            node.committed -= line.returned
            node.claimed -= line.debit - line.gross

    # -- providers ---------------------------------------------------------------------------------------------------
    def withdraw_for(self, number: int) -> None:
        need(self.classes[number].payable > 0, "nothing is payable")
        self.paid_out += self.classes[number].payable
        self.classes[number].payable = 0

    def release_holdback(self, number: int, at: int) -> None:
        node = self.classes[number]
        need(node.holdback > 0, "nothing is held back")
        need(at >= node.held_since + HOLDBACK_DELAY or self.is_proven(number, at), "holdback is not due yet")
        node.payable, node.holdback = node.payable + node.holdback, 0

    def withdraw_fees(self) -> None:
        need(self.fees > 0, "no fees to withdraw")
        self.paid_out += self.fees
        self.fees = 0

    # -- when the operator is silent ---------------------------------------------------------------------------------
    def claim(self, number: int, cumulative: int, at: int) -> None:
        node = self.classes[number]
        need(self.wound is None, "wound up")
        self._silent_for(CLAIM_SILENCE, at)
        need(self.owed.get(number) == cumulative, "proof does not fit")
        need(cumulative > node.credited, "nothing to claim")
        gross = min(cumulative - node.credited, node.committed)
        need(gross > 0, "nothing is committed")
        self._credit(number, gross, 0 if self.is_proven(number, at) else gross - fee_of(gross), at)
        node.claimed += gross
        self.epoch = ((self.epoch >> 32) + 1) << 32  # calls that are signed already are too old

    def wind_up(self, at: int) -> None:
        need(self.wound is None, "wound up")
        self._silent_for(SILENCE, at)
        self.wound = (self.locked - self.uncovered, self.locked)

    def refund(self, number: int) -> None:
        need(self.wound is not None, "not wound up")
        buyer = self.buyers[number]
        need(buyer.locked > 0, "buyer has nothing locked")
        assert self.wound is not None
        left, locked = self.wound
        buyer.free, buyer.locked = buyer.free + buyer.locked * left // locked, 0

    def _silent_for(self, span: int, at: int) -> None:
        need(self.locked > 0, "nothing is locked")
        need(at >= self.seen_at + span, "operator is not silent")

    def _credit(self, number: int, gross: int, held: int, at: int) -> None:
        node, fee = self.classes[number], fee_of(gross)
        node.committed -= gross
        node.credited += gross
        node.payable += gross - held - fee
        node.holdback += held
        self.fees += fee
        if held:
            self._hold_since(number, at)

    def _hold_since(self, number: int, at: int) -> None:
        self.classes[number].held_since = max(self.classes[number].held_since, at)
