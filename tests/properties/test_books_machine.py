"""The books against an oracle of plain Python: every call has the same answer, every counter the same value."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger import posting as paths
from ledger.audit import audit_ledger
from ledger.epochs import close_epoch
from ledger.errors import (
    AmountOutOfRange,
    IdReused,
    InsufficientFunds,
    LedgerError,
    LedgerHalted,
    LinkBroken,
    PendingMismatch,
    PendingNotFound,
    PendingNotTimedOut,
    PendingResolved,
    PendingTimedOut,
)
from ledger.ids import uuid_from
from ledger.models import Account
from ledger.money import INT64_MAX
from ledger.poster import post_together
from ledger.reconcile import check_ledger
from ledger.services import Posting, account, expire_holds, halt_ledger, post_transfers, resume_ledger
from tests.properties.one_trip import Rows, Trips, fewer_trips

START = datetime(2027, 1, 4, 9, tzinfo=UTC)
USUAL = paths.COPY_FROM
LEDGER = 1
COUNTERS = f"""select l.next_seq, a.id, a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending
                 from ledger_ledger l join ledger_account a on a.ledger = l.id where l.id = {LEDGER}"""


@dataclass
class Oracle:
    """What the books should do, said as plainly as possible: a list of postings, counters, and the rules in order."""

    floors: dict[int, str]
    written: dict[UUID, Posting] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)
    counters: dict[int, list[int]] = field(default_factory=dict)  # debits, credits, pending debits, pending credits
    halted: bool = False

    def __post_init__(self) -> None:
        self.counters = {id: [0, 0, 0, 0] for id in self.floors}

    def post(self, postings: list[Posting], now: datetime) -> int | type[LedgerError]:
        """Return how many are new, or the refusal; change something only in the first case."""
        before = self.written
        known = [posting for posting in postings if posting.id in before]
        new = list({posting.id: posting for posting in reversed(postings) if posting.id not in before}.values())[::-1]
        if any(posting != before[posting.id] for posting in known):
            return IdReused
        ends = [posting.pending_id for posting in new if posting.pending_id]
        if self.ended.intersection(ends) or len(set(ends)) < len(ends):
            return PendingResolved
        if self.halted and any(700 <= posting.code < 800 for posting in new):
            return LedgerHalted
        for link in {posting.link for posting in new if posting.link}:
            if sum(posting.link == link for posting in [*before.values(), *new]) < 2:
                return LinkBroken
            if any(posting.link == link for posting in before.values()):
                return LinkBroken
        for posting in new:
            if (problem := self.problem_of(posting, now)) is not None:
                return problem
        counters = {id: [*four] for id, four in self.counters.items()}
        for posting in new:
            self.apply(posting, counters)
        if any(number > INT64_MAX for four in counters.values() for number in four):
            return AmountOutOfRange
        for id, (debits, credits, pending_debits, pending_credits) in counters.items():
            if self.floors[id] == "credit" and credits < debits + pending_debits:
                return InsufficientFunds
            if self.floors[id] == "debit" and debits < credits + pending_credits:
                return InsufficientFunds
        self.written |= {posting.id: posting for posting in new}
        self.ended |= set(ends)
        self.counters = counters
        return len(new)

    def problem_of(self, posting: Posting, now: datetime) -> type[LedgerError] | None:
        if posting.kind == "pending" and posting.timeout_at and posting.timeout_at <= now:
            return PendingTimedOut
        if posting.kind in ("posted", "pending"):
            return None
        hold = self.written.get(posting.pending_id)
        if hold is None or hold.kind != "pending":
            return PendingNotFound
        if (hold.debit, hold.credit) != (posting.debit, posting.credit) or posting.amount > hold.amount:
            return PendingMismatch
        if posting.kind != "post" and posting.amount != hold.amount:
            return PendingMismatch
        is_over = hold.timeout_at is not None and hold.timeout_at <= now
        if posting.kind == "expire":
            return None if is_over else PendingNotTimedOut
        return PendingTimedOut if is_over else None

    def apply(self, posting: Posting, counters: dict[int, list[int]]) -> None:
        posted = posting.amount if posting.kind in ("posted", "post") else 0
        pending = posting.amount if posting.kind == "pending" else 0
        if posting.pending_id is not None:
            pending = -self.written[posting.pending_id].amount
        for id, side in ((posting.debit, 0), (posting.credit, 1)):
            counters[id][side] += posted
            counters[id][side + 2] += pending

    def overdue(self, now: datetime) -> int:
        return sum(
            posting.kind == "pending" and posting.id not in self.ended and posting.timeout_at <= now
            for posting in self.written.values()
            if posting.timeout_at is not None
        )


amounts = st.one_of(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, INT64_MAX // 2, INT64_MAX]))
picks = st.integers(0, 10_000)


class BooksMachine(RuleBasedStateMachine):
    """Draws calls, sends each to the books and to the oracle, and wants the same answer."""

    steps = 0  # of all machines
    trips: Trips
    accounts: list[int]
    floors: dict[int, str]
    copy_from = (1, USUAL)  # how long a request goes by COPY: when it is sent first, and when it is sent again

    @initialize()
    def open(self) -> None:
        self.scope = transaction.atomic()
        self.scope.__enter__()
        self.oracle = Oracle(self.floors)
        self.now, self.made = START, 0
        self.trips.sent = 1  # so that it is asked whether nothing is left of the life before

    def teardown(self) -> None:
        if not hasattr(self, "scope"):
            return
        try:
            self.trips.flush()
            assert [finding for finding in [*check_ledger(LEDGER), *audit_ledger(LEDGER)] if not finding.ok] == []
        finally:
            paths.COPY_FROM = USUAL
            transaction.set_rollback(True)
            self.scope.__exit__(None, None, None)
            self.trips.forget()

    # -- drawing -----------------------------------------------------------------------------------------------------

    def make(self, debit: int, credit: int, amount: int, **facts: Any) -> Posting:
        self.made += 1
        first = debit % len(self.accounts)
        second = (first + 1 + credit % (len(self.accounts) - 1)) % len(self.accounts)
        facts = {"kind": "posted", "code": 650, "origin": "organic", "effective_at": self.now} | facts
        return Posting(
            id=uuid_from("machine", self.made), debit=self.accounts[first], credit=self.accounts[second], amount=amount,
            **facts,
        )  # fmt: skip

    def known(self, pick: int, kind: str | None = None) -> Posting | None:
        choice = [posting for posting in self.oracle.written.values() if kind in (None, posting.kind)]
        return choice[pick % len(choice)] if choice else None

    def send(self, *postings: Posting) -> None:
        expected = self.oracle.post(list(postings), self.now)
        answers: list[int | type[LedgerError]] = []
        # every accepted request is sent twice: by COPY, however short it is, and by the function
        for copy_from in self.copy_from[: 2 if isinstance(expected, int) else 1]:
            paths.COPY_FROM = copy_from
            try:
                answers.append(post_transfers(ledger=LEDGER, postings=postings, now=self.now))
            except LedgerError as refusal:
                answers.append(type(refusal))
        if expected is AmountOutOfRange and answers == [InsufficientFunds]:
            return  # both are true of this posting, and either may be named
        assert answers == ([expected, 0] if isinstance(expected, int) else [expected])

    # -- calls -------------------------------------------------------------------------------------------------------

    @rule(debit=picks, credit=picks, amount=amounts, code=st.sampled_from([650, 101, 701]))
    def move(self, debit: int, credit: int, amount: int, code: int) -> None:
        self.send(self.make(debit, credit, amount, code=code))

    @rule(amount=st.integers(1, 200))
    def fund(self, amount: int) -> None:
        self.send(self.make(2, 0, amount), self.make(0, 2, amount))

    @rule(moves=st.lists(st.tuples(picks, picks, st.integers(1, 60)), min_size=1, max_size=4), is_linked=st.booleans())
    def move_together(self, moves: list[tuple[int, int, int]], is_linked: bool) -> None:
        link = uuid_from("link", self.made) if is_linked else None
        self.send(*(self.make(*move, link=link) for move in moves))

    @rule(
        groups=st.lists(st.lists(st.tuples(picks, picks, amounts), min_size=1, max_size=2), min_size=2, max_size=4),
        pick=picks, repeats=st.booleans(), is_linked=st.booleans(),
    )  # fmt: skip
    def combine(self, groups: list[list[tuple[int, int, int]]], pick: int, repeats: bool, is_linked: bool) -> None:
        """Several callers in one run of the poster: each has the answer that it would have had alone, in order."""
        made = [tuple(self.make(*move) for move in group) for group in groups]
        if is_linked:
            made[0] = tuple(replace(posting, link=uuid_from("link", self.made)) for posting in made[0])
        if repeats and (old := self.known(pick)) is not None:
            made[-1] = (*made[-1], old)
        expected = [self.oracle.post(list(group), self.now) for group in made]
        told = post_together(ledger=LEDGER, groups=made, clock=lambda: self.now)
        answers = [type(one) if isinstance(one, Exception) else one for one in told]
        for place, answer in enumerate(answers):
            if expected[place] is AmountOutOfRange and answer is InsufficientFunds:
                expected[place] = InsufficientFunds  # both are true of this posting, and either may be named
        assert answers == expected

    @rule(pick=picks, amount=st.integers(1, 60))
    def join_an_old_group(self, pick: int, amount: int) -> None:
        linked = [posting for posting in self.oracle.written.values() if posting.link]
        if linked:
            link = linked[pick % len(linked)].link
            self.send(self.make(0, 0, amount, link=link), self.make(1, 1, amount, link=link))

    @rule(debit=picks, credit=picks, amount=st.integers(1, 60), minutes=st.sampled_from([None, 0, 5, 60]))
    def reserve(self, debit: int, credit: int, amount: int, minutes: int | None) -> None:
        timeout_at = None if minutes is None else self.now + timedelta(minutes=minutes)
        self.send(self.make(debit, credit, amount, kind="pending", timeout_at=timeout_at))

    @rule(pick=picks, kind=st.sampled_from(["post", "post", "void", "expire"]), less=st.sampled_from([0, 1, -1]))
    def end_a_hold(self, pick: int, kind: str, less: int) -> None:
        hold = self.known(pick, "pending")
        if hold is not None and hold.amount > less:
            end = self.make(0, 0, hold.amount - less, kind=kind, pending_id=hold.id)
            self.send(replace(end, debit=hold.debit, credit=hold.credit))

    @rule(amount=st.integers(2, 60), kind=st.sampled_from(["post", "void", "expire"]), less=st.sampled_from([0, 1]),
          minutes=st.sampled_from([4, 5]))  # fmt: skip
    def reserve_wait_and_end(self, amount: int, kind: str, less: int, minutes: int) -> None:
        hold = self.make(0, 0, amount, kind="pending", timeout_at=self.now + timedelta(minutes=5))
        self.send(hold)
        self.now += timedelta(minutes=minutes)
        less = less if kind == "post" else 0
        end = self.make(0, 0, amount - less, kind=kind, pending_id=hold.id)
        self.send(replace(end, debit=hold.debit, credit=hold.credit))

    @rule(pick=picks, debit=picks, credit=picks)
    def end_what_is_no_hold_of_these_accounts(self, pick: int, debit: int, credit: int) -> None:
        other = self.known(pick)
        if other is not None:
            self.send(self.make(debit, credit, 1, kind="post", pending_id=other.id))

    @rule(pick=picks, amount=st.integers(1, 60))
    def say_it_again(self, pick: int, amount: int) -> None:
        old = self.known(pick)
        if old is not None:
            self.send(old, self.make(1, 0, amount))

    @rule(pick=picks, change=st.sampled_from(["amount", "code", "origin", "effective_at"]))
    def reuse_an_id(self, pick: int, change: str) -> None:
        old = self.known(pick)
        if old is not None:
            yesterday = START - timedelta(days=1)
            other = {"amount": old.amount - 1 or 2, "code": 102, "origin": "grant", "effective_at": yesterday}
            self.send(replace(old, **{change: other[change]}))

    @rule(minutes=st.sampled_from([1, 5, 60]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def expire(self) -> None:
        due = self.oracle.overdue(self.now)
        assert expire_holds(now=self.now) == due
        assert due == 0 or expire_holds(now=self.now) == 0
        for hold in list(self.oracle.written.values()):
            if hold.kind == "pending" and hold.id not in self.oracle.ended and hold.timeout_at is not None:
                if hold.timeout_at > self.now:
                    continue
                end = replace(
                    hold, id=uuid_from("expire", hold.id), kind="expire", code=202, pending_id=hold.id, timeout_at=None,
                    effective_at=self.now, link=None,
                )  # fmt: skip
                assert self.oracle.post([end], self.now) == 1

    @rule(is_halted=st.booleans())
    def halt_or_resume(self, is_halted: bool) -> None:
        if is_halted:
            halt_ledger(ledger=LEDGER, reason="the machine says so")
        else:
            resume_ledger(ledger=LEDGER)
        self.oracle.halted = is_halted

    @rule()
    def seal(self) -> None:
        close_epoch(LEDGER, self.now)

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def counters_are_the_oracles(self) -> None:
        if not hasattr(self, "oracle"):
            return
        BooksMachine.steps += 1
        if not self.trips.sent:
            return  # since the last question nothing was sent that could have changed something
        counters, next_seq = self.oracle.counters, len(self.oracle.written) + 1

        def compare(rows: Rows) -> None:
            assert {id: four for _, id, *four in rows} == counters
            assert rows[0][0] == next_seq

        self.trips.ask(COUNTERS, compare)


def open_books() -> list[int]:
    """Return the accounts that the machine moves money between."""
    party = UUID(int=1)
    codes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("card.clearing", {}), ("suspense", {}), ("chain.escrow", {}), ("buyer.available", {"party": party}),
        ("buyer.held", {"party": party, "scope": UUID(int=2)}), ("foundation.fees", {}),
    )  # fmt: skip
    return [account(ledger=LEDGER, code=code, **of) for code, of in codes]


def run_machine(machine: type[BooksMachine], steps: int) -> None:
    """Take at least so many steps, a hundred or a little less in each set of books."""
    BooksMachine.steps = 0
    machine.accounts, machine.floors = open_books(), dict(Account.objects.values_list("id", "floor"))
    with fewer_trips() as machine.trips:
        while (missing := steps - BooksMachine.steps) > 0:  # how many steps a set of books takes is drawn
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=-(-missing // 80), stateful_step_count=100, deadline=None, print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip


def run_rounds(machine: type[BooksMachine], steps: int) -> None:
    """Take so many steps in rounds of ten thousand, each with a seed of its own that is told before it is needed."""
    taken = 0
    while taken < steps:
        number = secrets.randbits(32)
        print(f"{machine.__name__}: seed {number} after {taken} steps", flush=True)
        run_machine(seed(number)(type(machine.__name__, (machine,), {})), 10_000)
        taken += BooksMachine.steps
    print(f"{machine.__name__}: {taken} steps", flush=True)


# Ten thousand steps in two halves, of which the other has a file of its own, so that two processes share them.
@pytest.mark.django_db
def test_the_books_answer_like_a_ledger_of_plain_python():
    run_machine(BooksMachine, 5_000)


@pytest.mark.nightly
@pytest.mark.django_db
def test_the_books_answer_like_a_ledger_of_plain_python_for_a_million_steps():
    run_rounds(BooksMachine, 500_000)
