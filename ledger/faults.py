"""Fail points: named places where a test can make the program stop, raise or wait.

A point costs one look at an empty dict. Tests arm points with `armed(...)`, or a child process is started with
GROVE_FAULTS="name=kill,other=raise": `kill` is kill -9 of this process, `raise` raises FaultInjected.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Action = Callable[[], None]


class FaultInjected(Exception):
    """Raised by a point that a test armed with `raise`."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise FaultInjected("a test asked for this failure")


_ACTIONS: dict[str, Action] = {"kill": _kill, "raise": _raise}


def _from_environment(text: str) -> dict[str, Action]:
    points: dict[str, Action] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = item.partition("=")
        if action not in _ACTIONS:
            raise ValueError(f"GROVE_FAULTS={item!r}: write name=kill or name=raise")
        points[name] = _ACTIONS[action]
    return points


_armed: dict[str, Action] = _from_environment(os.environ.get("GROVE_FAULTS", ""))


def point(name: str) -> None:
    """Do nothing, unless a test armed this name."""
    if _armed and (action := _armed.get(name)) is not None:
        action()


@contextmanager
def armed(name: str, action: str | Action = "raise") -> Iterator[None]:
    """Arm one point for the length of a `with` block: "raise", "kill" or a function of the test."""
    before = _armed.get(name)
    _armed[name] = _ACTIONS[action] if isinstance(action, str) else action
    try:
        yield
    finally:
        if before is None:
            del _armed[name]
        else:
            _armed[name] = before
