"""Lets the workload rest while a re-check is timed, and never longer than was agreed: two seconds a session.

A re-check beside a running workload measures what the workload leaves over, and an honest machine would fail. So the
meter runs a command that stops it (a cgroup's freezer, `docker pause`) just before the first timed block, and another
that lets it go on after the last. The other one is run by a guard, a process of its own that is there before anything
stops: when the time is up, when it is told, and when its pipe closes because the meter was killed.

The kernel goes on taking connections for a stopped listener and the devices are counted as ever, so no minute is lost.
In six hours a workload rests twelve seconds at most: three verifiers, and a second try of each. Beyond that a re-check
runs beside it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from threading import Lock

from marketplace.agent import clock as clocks
from marketplace.agent.errors import UsageWrong
from marketplace.agent.keys import MachineKey
from marketplace.agent.prover import LocalProver
from pricing.proof import Commitment, Preset

SESSION_MS_MAX = 2_000
SPAN_HOURS, SPAN_MS_MAX = 6, 12_000
COMMAND_SECONDS_MAX = 1.0
NS = 1_000_000_000
# Reads until the time is up, a word comes or the writer is gone; then wakes, whatever signal came meanwhile.
GUARD = """
import select, signal, subprocess, sys
for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(each, signal.SIG_IGN)
print("ready", flush=True)
select.select([sys.stdin], [], [], int(sys.argv[1]) / 1000)
sys.exit(subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=5).returncode)
"""


class Rest:
    """Stops a workload by one command and wakes it by another. Without commands it stops nothing.

    `trouble` says why the last try did not stop or wake it; `rested_ms` counts up. Raises UsageWrong for one command
    without the other.
    """

    def __init__(
        self, *, rest: str | None = None, wake: str | None = None, now_ns: Callable[[], int] = clocks.monotonic_ns
    ) -> None:
        if bool(rest) != bool(wake):
            raise UsageWrong("Say how the workload rests and how it wakes: --rest and --wake, or neither.")
        self._rest, self._wake = shlex.split(rest or ""), shlex.split(wake or "")
        self._now_ns, self._lock = now_ns, Lock()
        self._guard: subprocess.Popen[str] | None = None
        self._begun_ns = self._most_ms = 0
        self._spans: deque[tuple[int, int]] = deque()  # ended at, milliseconds
        self.rested_ms = 0
        self.trouble: str | None = None

    def left_ms(self) -> int:
        """Milliseconds for which the workload may still rest in these six hours."""
        since = self._now_ns() - SPAN_HOURS * 3600 * NS
        while self._spans and self._spans[0][0] < since:
            self._spans.popleft()
        return max(0, SPAN_MS_MAX - sum(length for _, length in self._spans))

    def begin(self, most_ms: int = SESSION_MS_MAX) -> None:
        """Stop the workload for at most so long; without time left, or where the command fails, it goes on."""
        with self._lock:
            most_ms = min(most_ms, self.left_ms())
            if not self._rest or self._guard is not None or most_ms <= 0:
                return
            asked_ns = self._now_ns()
            self.trouble, self._guard = None, _guard(most_ms, self._wake)
            self._begun_ns, self._most_ms = self._now_ns(), most_ms
            try:
                subprocess.run(
                    self._rest, timeout=COMMAND_SECONDS_MAX, check=True, stdin=subprocess.DEVNULL, capture_output=True
                )
            except (OSError, subprocess.SubprocessError) as error:
                self.trouble = f"The workload does not rest: {error}"
            if self._now_ns() - asked_ns >= most_ms * 1_000_000:
                self._wake_once_more()
            if self.trouble:
                self._end()

    def _wake_once_more(self) -> None:
        """The command that stops it took longer than it may rest: the guard may have woken it before it stopped."""
        assert self._guard is not None
        self._guard.wait()
        _guard(0, self._wake).communicate("\n")

    def end(self) -> int:
        """Wake the workload; returns how many milliseconds it rested."""
        with self._lock:
            return self._end()

    def _end(self) -> int:
        if self._guard is None:
            return 0
        guard, self._guard = self._guard, None
        guard.communicate("\n")
        if guard.returncode:
            self.trouble = f"The workload does not wake: its command ended with {guard.returncode}."
        length = min((self._now_ns() - self._begun_ns) // 1_000_000, self._most_ms)
        self._spans.append((self._now_ns(), length))
        self.rested_ms += length
        return length


def _guard(most_ms: int, wake: list[str]) -> subprocess.Popen[str]:
    """The process that wakes; it is up when this returns. Its own session, so that no terminal's Ctrl-C ends it."""
    guard = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", GUARD, str(most_ms), *wake], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    assert guard.stdout is not None
    guard.stdout.readline()
    return guard


class RestingProver(LocalProver):
    """A prover of one session that lets the workload rest from its first timed block to its last."""

    def __init__(self, backend: str, *, key: MachineKey, rest: Rest) -> None:
        super().__init__(backend, key=key)
        self._rest, self._left_ms, self._blocks = rest, SESSION_MS_MAX, 0

    def start(self, preset: Preset, seed: bytes) -> None:
        self.wake()
        super().start(preset, seed)
        self._blocks = preset.blocks

    def commit_block(self, nonce: bytes) -> Commitment:
        self._rest.begin(self._left_ms)
        try:
            return super().commit_block(nonce)
        finally:
            self._blocks -= 1
            if self._blocks <= 0:
                self.wake()

    def wake(self) -> None:
        """Let the workload go on; what it rested is taken off what the session has left."""
        self._left_ms -= self._rest.end()
