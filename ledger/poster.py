"""The combining poster: callers that meet at one hot account share a commit instead of queueing for their own.

Each caller hands in one group of postings and waits. One thread takes all groups that wait, writes them in one
transaction and answers when that has committed: acknowledged means durable. Every group gets the answer that it would
have had alone. What combining could change is refused to happen: groups that share a link are never put together, and
where a floor holds only because another caller's money came in the same moment, or a group is refused, the run is
halved until the group stands alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from uuid import UUID

from django.db import connection

from ledger import faults
from ledger.errors import Busy, LedgerError
from ledger.posting import NotTogether, Posting, post_run

RUN_LENGTH_MAX = 5_000  # transfers in one transaction
WAITING_MAX = 10_000  # groups in the queue
PATIENCE_SECONDS = 0.002  # for the callers of the last run to come back


class _Group:
    """What one caller hands in, and the answer it waits for.

    A bare lock, because a caller's way to sleep and back is most of what a small run costs: a Future is three of them.
    """

    __slots__ = ("_answer", "_answered", "links", "postings")

    def __init__(self, postings: Sequence[Posting]) -> None:
        self.postings = tuple(postings)
        self.links = {posting.link for posting in self.postings if posting.link is not None}
        self._answer: int | BaseException = 0
        self._answered = threading.Lock()
        self._answered.acquire()

    def result(self) -> int:
        """Wait for the answer; raises it where it is a refusal."""
        with self._answered:
            if isinstance(self._answer, BaseException):
                raise self._answer
            return self._answer

    def give(self, answer: int | BaseException) -> None:
        self._answer = answer
        self._answered.release()


class Poster:
    """One thread that writes one ledger for many callers. Use it in a `with` block, or `close()` it.

    `clock` gives the time of each transaction. Two posters, also of two processes, do no harm to each other: the
    ledger's lock orders them.
    """

    def __init__(self, *, ledger: int, clock: Callable[[], datetime], waiting_max: int = WAITING_MAX) -> None:
        self._ledger, self._clock, self._waiting_max = ledger, clock, waiting_max
        self._waiting: deque[_Group] = deque()
        self._bell = threading.Condition(threading.Lock())  # rung once for a run, not once for a caller
        self._expected = 1  # how many must wait before it is rung
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=f"poster of ledger {ledger}", daemon=True)
        self._thread.start()

    def post(self, postings: Sequence[Posting]) -> int:
        """Write all postings or none, and return how many were new, once they are durable.

        Raises what `post_transfers` raises, and Busy, at once, when too many wait or the poster is closed. After any
        other error of the database the outcome is unknown: say it again with the same ids. Not to be called inside a
        transaction: the money would be moved although the caller's transaction fails.
        """
        if connection.in_atomic_block:
            raise RuntimeError("The poster commits by itself; inside a transaction call post_transfers.")
        if not postings:
            return 0
        group = _Group(postings)
        with self._bell:
            if self._is_closed:
                raise Busy("The poster is closed.", ledger=self._ledger)
            if len(self._waiting) >= self._waiting_max:
                raise Busy("Too many wait for this ledger.", ledger=self._ledger, waiting=self._waiting_max)
            self._waiting.append(group)
            if len(self._waiting) >= self._expected:
                self._bell.notify()
        return group.result()

    @property
    def waiting(self) -> int:
        """How many groups wait for a run."""
        return len(self._waiting)

    def close(self) -> None:
        """Answer everybody who waits, then end the thread."""
        with self._bell:
            self._is_closed = True
            self._bell.notify()
        self._thread.join()

    def __enter__(self) -> Poster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        run = self._next_run(1)
        while run:
            self._answer(run)
            run = self._next_run(len(run))
        connection.close()

    def _next_run(self, together: int) -> list[_Group]:
        """Wait for callers and return the groups that go together; none when the poster is closed and nobody waits.

        The callers of the last run come back one after the other: without a moment's patience the first of them would
        have a commit for itself, and all others would wait for it.
        """
        with self._bell:
            self._expected = together
            self._bell.wait_for(lambda: self._is_closed or len(self._waiting) >= together, PATIENCE_SECONDS)
            self._expected = 1
            self._bell.wait_for(lambda: self._is_closed or self._waiting)
            return list(self._taken())

    def _taken(self) -> Iterator[_Group]:
        """Take those in front, up to the first that does not fit to them."""
        length, links = 0, set[UUID]()
        while self._waiting:
            group = self._waiting[0]
            if length and (length + len(group.postings) > RUN_LENGTH_MAX or links & group.links):
                return
            length, links = length + len(group.postings), links | group.links
            yield self._waiting.popleft()

    def _answer(self, run: Sequence[_Group]) -> None:
        """Write a run, and answer each group as soon as what it asked for is durable, or refused."""
        waiting = iter(run)
        try:
            for answer in post_together(ledger=self._ledger, groups=[one.postings for one in run], clock=self._clock):
                next(waiting).give(answer)
        except BaseException as error:  # the connection may be gone: nobody knows what was committed
            connection.close()
            for group in waiting:
                group.give(error)


def post_together(
    *, ledger: int, groups: Sequence[Sequence[Posting]], clock: Callable[[], datetime]
) -> Iterator[int | Exception]:
    """Yield what each group is answered, in order: how many transfers were new, or the refusal it would have alone.

    All are written in one transaction, or, where that cannot be, each half in one of its own.
    """
    refusal: Exception | None = None
    try:
        faults.point("ledger.poster.before")
        written = post_run(ledger=ledger, groups=groups, now=clock())
        faults.point("ledger.poster.after_commit")
    except (LedgerError, NotTogether) as error:
        refusal = error
    if refusal is None:
        yield from [written] if len(groups) == 1 else [len(postings) for postings in groups]
    elif len(groups) == 1:
        yield refusal
    else:
        middle = len(groups) // 2
        for half in (groups[:middle], groups[middle:]):
            yield from post_together(ledger=ledger, groups=half, clock=clock)
