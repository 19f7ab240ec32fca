"""The combining poster: callers that meet at one hot account share a commit instead of queueing for their own.

Each caller hands in one group of postings and waits. One thread takes all groups that wait, writes them in one
transaction and answers when that has committed: acknowledged means durable. Every group gets the answer that it would
have had alone. What combining could change is refused to happen: groups that share a link are never put together, and
where a floor holds only because another caller's money came in the same moment, or a group is refused, the run is
halved until the group stands alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from types import TracebackType
from uuid import UUID

from django.db import connection

from ledger import faults
from ledger.errors import Busy, LedgerError
from ledger.posting import NotTogether, Posting, post_run

RUN_LENGTH_MAX = 5_000  # transfers in one transaction
WAITING_MAX = 10_000  # groups in the queue
PATIENCE_SECONDS = 0.002  # for the callers of the last run to come back


@dataclass(frozen=True)
class _Group:
    postings: tuple[Posting, ...]
    answer: Future[int] = field(default_factory=Future)

    @property
    def links(self) -> set[UUID]:
        return {posting.link for posting in self.postings if posting.link is not None}


class Poster:
    """One thread that writes one ledger for many callers. Use it in a `with` block, or `close()` it.

    `clock` gives the time of each transaction. Two posters, also of two processes, do no harm to each other: the
    ledger's lock orders them.
    """

    def __init__(self, *, ledger: int, clock: Callable[[], datetime], waiting_max: int = WAITING_MAX) -> None:
        self._ledger, self._clock = ledger, clock
        self._queue: queue.Queue[_Group | None] = queue.Queue(waiting_max)
        self._entry = threading.Lock()
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
        group = _Group(tuple(postings))
        with self._entry:
            if self._is_closed:
                raise Busy("The poster is closed.", ledger=self._ledger)
            try:
                self._queue.put_nowait(group)
            except queue.Full:
                raise Busy("Too many wait for this ledger.", ledger=self._ledger, waiting=self._queue.maxsize) from None
        return group.answer.result()

    def close(self) -> None:
        """Answer everybody who waits, then end the thread."""
        with self._entry:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            self._queue.put(None)
        self._thread.join()

    def __enter__(self) -> Poster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        waiting: list[_Group | None] = [self._queue.get()]
        together = 1
        while (first := waiting.pop()) is not None:
            run = self._gather(first, together, waiting)
            self._answer(run)
            together = len(run)
            if not waiting:
                waiting.append(self._queue.get())
        connection.close()

    def _gather(self, first: _Group, together: int, waiting: list[_Group | None]) -> list[_Group]:
        """Return the groups that go together; one that was taken and does not fit goes to `waiting`.

        The callers of the last run come back one after the other: without a moment's patience the first of them would
        have a commit for itself, and all others would wait for it.
        """
        run, length, links = [first], len(first.postings), first.links
        patient_until = monotonic() + PATIENCE_SECONDS
        while True:
            patience = patient_until - monotonic() if len(run) < together else 0.0
            try:
                group = self._queue.get(timeout=patience) if patience > 0 else self._queue.get_nowait()
            except queue.Empty:
                return run
            if group is None or length + len(group.postings) > RUN_LENGTH_MAX or links & group.links:
                waiting.append(group)
                return run
            run.append(group)
            length, links = length + len(group.postings), links | group.links

    def _answer(self, run: Sequence[_Group]) -> None:
        """Write a run, and answer each group as soon as what it asked for is durable, or refused."""
        waiting = iter(run)
        try:
            for answer in post_together(ledger=self._ledger, groups=[one.postings for one in run], clock=self._clock):
                future = next(waiting).answer
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except BaseException as error:  # the connection may be gone: nobody knows what was committed
            connection.close()
            for group in waiting:
                group.answer.set_exception(error)


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
