"""The last preview of each window, in this process's memory only: a head start for the next clearing of its book.

The engine's result does not depend on it, so losing it costs time and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from uuid import UUID

from pricing.clearing import Outcome

WINDOWS_MAX = 4  # an outcome of a large book is some hundred megabytes

_outcomes: OrderedDict[UUID, Outcome] = OrderedDict()
_lock = Lock()


def remember(window_id: UUID, outcome: Outcome) -> None:
    """Keep the outcome; the one that was looked at longest ago gives way."""
    with _lock:
        _outcomes[window_id] = outcome
        _outcomes.move_to_end(window_id)
        while len(_outcomes) > WINDOWS_MAX:
            _outcomes.popitem(last=False)


def last_outcome(window_id: UUID) -> Outcome | None:
    """Return what was found last for this window, or None."""
    with _lock:
        return _outcomes.get(window_id)


def forget(window_id: UUID) -> None:
    """Let go of a window that needs no more clearing."""
    with _lock:
        _outcomes.pop(window_id, None)
