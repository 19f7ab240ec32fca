"""Runs the servers of `up`: starts them, starts them again when they die, ends them, and cleans up after a crash.

A child dies with its parent even when the parent is killed: the kernel sends it SIGKILL. Nothing is lost by that,
because every job is a row and every effect a transaction. `up.json` names what runs, for the next `up`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marketplace.environment import CHECKOUT

STOP_SECONDS_MAX = 4  # then a child is killed: a long job goes on where it was at the next start
BACK_OFF_SECONDS = (1, 2, 4, 8, 16, 30)
HEALTHY_SECONDS = 60  # a child that lived this long starts again without delay
LOG_BYTES_MAX = 10_000_000
PR_SET_PDEATHSIG = 1


class AlreadyRunning(Exception):
    """Another `up` works in this data folder; `record` is what it wrote about itself."""

    code = "already_running"

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__("Grove Exchange is already up.")
        self.record = record


@dataclass
class Child:
    """One server process and its history."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # monotonic seconds
    deaths: int = 0
    start_again_at: float | None = None


@dataclass
class Supervisor:
    """The children of one `up`. `say` prints one line to the person."""

    folder: Path
    say: Callable[[str], None]
    children: dict[str, Child] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    _lock: int = -1

    def claim(self, *, url: str) -> None:
        """Become the one `up` of this folder and end what a killed one left. Raises AlreadyRunning."""
        descriptor = os.open(self.folder / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(self._read_record()) from None
        self._lock = descriptor
        os.utime(descriptor)  # the lock's age is the answer to "since when?"
        left = self._read_record().get("processes", {})
        ended = end_leftovers(left.values())
        if ended:
            self.say(f"The last run was killed; ended {ended} process(es) it had left.")
        since = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
        self.record = {"url": url, "since": f"{since:%Y-%m-%d %H:%M:%S} UTC", "pid": os.getpid(), "processes": {}}
        self._write_record()

    def start(self, name: str, command: list[str], *, gate: int = -1, **environment: str) -> None:
        """Start a server and remember how. Call it from the main thread: the kernel ties the child's life to it.

        `gate` is the reading end of a pipe that the first start, and no later one, waits at (START_GATE_FD).
        """
        child = Child(name, command, environment)
        self.children[name] = child
        self._spawn(child, gate)

    def watch(self) -> None:
        """Start again what has died, later each time it dies early."""
        for child in self.children.values():
            if child.process is not None and child.process.poll() is not None:
                self._note_death(child, child.process.returncode)
            if child.start_again_at is not None and time.monotonic() >= child.start_again_at:
                self._spawn(child)
                self.say(f"{child.name} is up again.")

    def stop(self) -> None:
        """End every child: asked first, killed after a few seconds."""
        living = [c.process for c in self.children.values() if c.process is not None and c.process.poll() is None]
        for process in living:
            process.terminate()
        give_up_at = time.monotonic() + STOP_SECONDS_MAX
        for process in living:
            try:
                process.wait(timeout=max(0.05, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.children.clear()
        if self._lock >= 0:
            self._record_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def log_path(self, name: str) -> Path:
        """Return where a child's output goes."""
        return self.folder / "logs" / f"{name}.log"

    def _spawn(self, child: Child, gate: int = -1) -> None:
        path = self.log_path(child.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
        with open(path, "ab") as log:
            child.process = subprocess.Popen(
                child.command,
                cwd=CHECKOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "START_GATE_FD": str(gate),
                                  "PGAPPNAME": f"grove {child.name}"} | child.environment,
                pass_fds=[gate] if gate >= 0 else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches `up` alone, which then ends its children in order
                preexec_fn=_die_with(os.getpid()),
            )
        child.started_at, child.start_again_at = time.monotonic(), None
        self.record["processes"][child.name] = {"pid": child.process.pid, "began": began(child.process.pid)}
        self._write_record()

    def _note_death(self, child: Child, status: int) -> None:
        lived_seconds = time.monotonic() - child.started_at
        child.process = None
        child.deaths = 0 if lived_seconds > HEALTHY_SECONDS else child.deaths + 1
        wait_seconds = BACK_OFF_SECONDS[min(child.deaths, len(BACK_OFF_SECONDS)) - 1] if child.deaths else 0
        child.start_again_at = time.monotonic() + wait_seconds
        how = f"was killed (signal {-status})" if status < 0 else f"ended (status {status})"
        self.say(f"{child.name} {how}; starting it again in {wait_seconds} s. Its words: {self.log_path(child.name)}")

    @property
    def _record_path(self) -> Path:
        return self.folder / "up.json"

    def _read_record(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._record_path.read_text()))
        except (OSError, ValueError):
            return {}

    def _write_record(self) -> None:
        draft = self._record_path.with_suffix(".draft")
        draft.write_text(json.dumps(self.record, indent=1))
        draft.replace(self._record_path)


def end_leftovers(processes: Iterable[dict[str, Any]]) -> int:
    """Kill the recorded processes that still live and return their number; a number given to a stranger is spared."""
    ended = 0
    for each in processes:
        pid, when = int(each["pid"]), each["began"]
        if when and began(pid) == when:
            os.kill(pid, signal.SIGKILL)
            ended += 1
            give_up_at = time.monotonic() + STOP_SECONDS_MAX
            while began(pid) == when and time.monotonic() < give_up_at:
                time.sleep(0.02)
    return ended


def began(pid: int) -> str:
    """Return the kernel's start tick of a living process, '' when there is none: with the number it is unique."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def in_child() -> None:
        if sys.platform == "linux":
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child
