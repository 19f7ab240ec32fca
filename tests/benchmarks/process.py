"""Runs one measurement in a process of its own, so that neither its memory nor its packages touch another's."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marketplace.environment import CHECKOUT

MEBIBYTE = 1 << 20


class Failed(Exception):
    """The process ended without a result; the sentence holds its last words."""


class TookTooLong(Failed):
    """The process was still at work when its time was up."""


def run(
    module: str, request: Mapping[str, Any], *, python: Path | None = None, seconds_max: float | None = None
) -> dict[str, Any]:
    """Run `python -m module` with the request as its one argument; its last line of output is the result as JSON.

    Raises `TookTooLong` after `seconds_max`, `Failed` when it ends in any other way without a result.
    """
    command: Sequence[str] = [str(python or sys.executable), "-m", module, json.dumps(request)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    # A session of its own: a solver's own children (CBC is a program) end with it.
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            told, complaint = process.communicate(timeout=seconds_max)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TookTooLong(f"{module} took more than {seconds_max:.0f} s.") from error
            raise
    if process.returncode != 0:
        raise Failed(f"{module} ended with status {process.returncode}:\n{complaint[-2_000:]}")
    result: dict[str, Any] = json.loads(told.splitlines()[-1])
    return result


def answer(result: Mapping[str, Any]) -> None:
    """Print the result as the last line."""
    print(json.dumps(result), flush=True)


def request() -> dict[str, Any]:
    """Return what this process was asked for."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    return asked


def peak_rss_mb() -> float:
    """Return the most memory that this process held so far, in MiB.

    `VmHWM` counts from the start of the program; `ru_maxrss` also what a large parent held when it forked.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return kibibytes / 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / MEBIBYTE if sys.platform == "darwin" else most / 1024
