"""Whose turn it is to prove on this machine: a benchmark beside a re-check would leave each a part of the processors.

The turn is a lock on a file of the agent's folder: it goes with the process that held it, however that ends.
"""

import fcntl
import os
from pathlib import Path
from threading import Lock

from marketplace.agent import clock as clocks

TURN_FILE = "proving"
LOOK_SECONDS = 0.1
NS = 1_000_000_000


class Turn:
    """One program's turn. `take` and `leave` may be called again, from any thread."""

    def __init__(self, home: Path) -> None:
        self._file, self._lock = home / TURN_FILE, Lock()
        self._descriptor: int | None = None

    def take(self, *, wait_seconds: float = 0) -> bool:
        """Whether it is this program's turn now, after waiting so long at most for another to be done."""
        ends_ns = clocks.monotonic_ns() + int(wait_seconds * NS)
        while not self._try():
            if clocks.monotonic_ns() >= ends_ns:
                return False
            clocks.sleep_seconds(LOOK_SECONDS)
        return True

    def leave(self) -> None:
        """Let the next one begin."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _try(self) -> bool:
        with self._lock:
            if self._descriptor is not None:
                return True
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            return True
