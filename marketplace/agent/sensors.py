"""What a machine counts of itself: units that are up, and counters of work and traffic."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from marketplace.agent.errors import UsageWrong

CHECK_SECONDS_MAX = 5.0
GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


class Sensors:
    """Counts units: by a command of the provider, by the GPUs that the driver lists, or as many as it was told."""

    def __init__(self, *, units: int | None, check: str | None) -> None:
        if units is None and check is None and not gpus_listed():
            raise UsageWrong("Say how many units this machine has (--units), or how to count them (--check COMMAND).")
        self._units, self._check = units, shlex.split(check) if check else None

    def units_up(self) -> int:
        """How many units answer now. A check that fails, hangs or prints no whole number counts none."""
        if self._check is not None:
            return _counted_by(self._check)
        if self._units is not None and not gpus_listed():
            return self._units
        listed = gpus_listed()
        return listed if self._units is None else min(listed, self._units)


def share_out(units_up: int, owed: Mapping[str, int]) -> dict[str, int]:
    """The units of each lease that are up: all of them, or, where some are missing, the later leases lack them."""
    left, up = units_up, {}
    for lease in sorted(owed):
        up[lease] = min(owed[lease], left)
        left -= up[lease]
    return up


def gpus_listed() -> int:
    """The GPUs that the NVIDIA driver lists; 0 without it."""
    return len(list(GPU_FOLDER.iterdir())) if GPU_FOLDER.is_dir() else 0


def counters() -> dict[str, int]:
    """Counters of this machine since it was started; those that its kernel does not show are left out."""
    found: dict[str, int] = {}
    network = _text("/proc/net/dev")
    if network:
        rows = [re.split(r"[:\s]+", line.strip()) for line in network.splitlines()[2:]]
        found["received_bytes"] = sum(int(row[1]) for row in rows if row[0] != "lo")
        found["sent_bytes"] = sum(int(row[9]) for row in rows if row[0] != "lo")
    busy = re.match(r"cpu +(\d+) (\d+) (\d+)", _text("/proc/stat"))
    if busy:
        found["busy_cpu_ms"] = sum(map(int, busy.groups())) * 1000 // os.sysconf("SC_CLK_TCK")
    uptime = re.match(r"(\d+)", _text("/proc/uptime"))
    if uptime:
        found["uptime_seconds"] = int(uptime[1])
    return found


def _counted_by(command: list[str]) -> int:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_SECONDS_MAX, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return 0
    told = done.stdout.strip()
    return int(told) if done.returncode == 0 and told.isdigit() and len(told) < 8 else 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
