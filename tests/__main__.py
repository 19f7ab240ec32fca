"""`manage.py test ARGS`: pytest with this project's habits, and a browser for the pages where one can be had."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

APT_SECONDS_MAX = 240
MEMORY = Path("/dev/shm")
FOLDER = "grove-tests-"  # and the number of the process whose it is, and letters by chance
MEMORY_BYTES_MIN = 8 * 2**30  # the databases of two workers, and the log of their changes
PROCESSES_BYTES = 4 * 2**30  # two workers, a browser, nodes and servers beside them
# What a container may use, where it may not use all that the machine has: whoever goes beyond it is killed.
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def main(arguments: list[str]) -> int:
    """Run pytest and return its exit status."""
    if wants_a_browser(arguments) and not have_browser():
        print("No Chromium: the browser tests will be SKIPPED. Install Debian's chromium or set CHROMIUM.", flush=True)
    work_in_memory()
    keep_bytecode()
    return int(pytest.main(with_habits(arguments)))


def work_in_memory() -> None:
    """Let the tests' PostgreSQL keep its files in memory where there is plenty: a copy of a database is 1,450 files.

    Nobody's data folder is touched; one that you name, or a server of yours, is used as it is.
    """
    if {"GROVE_HOME", "DATABASE_URL", "DATABASE_PRODUCT_URL"} & set(os.environ) or not MEMORY.is_dir():
        return
    for left in MEMORY.glob(f"{FOLDER}*"):
        if not Path("/proc", left.name.removeprefix(FOLDER).split("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)  # of a session that was killed; its server, if any, ends by itself
    if min(shutil.disk_usage(MEMORY).free, available_bytes(), container_bytes()) < MEMORY_BYTES_MIN:
        return
    folder = tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=MEMORY)
    os.chmod(folder, 0o711)  # as root the server is somebody else
    os.environ["GROVE_HOME"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # before the server's end is registered, so run after it


def keep_bytecode() -> None:
    """Let Python keep what it compiles: tests start the product in some hundred processes, and compiling it anew takes
    a quarter of each start.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def available_bytes() -> int:
    """How much memory programs can still be given; 0 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def container_bytes() -> int:
    """How much of its memory a container has for the files of the tests; without a limit as much as you like."""
    limits = [2**62]
    for file in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
            limits.append(int(file.read_text()) - PROCESSES_BYTES)
    return min(limits)


def with_habits(arguments: list[str]) -> list[str]:
    """Add what a plain call means: the whole PR-size suite on two processes."""
    chosen = list(arguments)
    if not any(each.startswith("-m") for each in chosen):
        chosen += ["-m", "not slow and not nightly"]
    own_processes = any(each.startswith(("-n", "--numprocesses", "--pdb", "-p")) for each in chosen)
    if not own_processes and not names_a_path(chosen):
        # the order of conftest.py; xdist's own would begin the files of one dear test last
        chosen += ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    return chosen


def names_a_path(arguments: list[str]) -> bool:
    """Say whether some of the suite was asked for by path."""
    return any(os.path.exists(each.split("::")[0]) for each in arguments)


def wants_a_browser(arguments: list[str]) -> bool:
    """Say whether browser tests may be among those asked for."""
    return not names_a_path(arguments) or any("browser" in each for each in arguments)


def have_browser() -> bool:
    """Find Chromium; as root on a Debian without one, try once to install it within a bounded time."""
    if browser():
        return True
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    print("Installing Chromium for the browser tests.", flush=True)
    # A fresh machine has no package lists: the first try then fails at once, and the update is worth its seconds.
    return any(
        quietly(command) and browser() is not None for command in (install, ["apt-get", "update"], install)
    )


def browser() -> str | None:
    """Return the path of a Chromium."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def quietly(command: list[str]) -> bool:
    """Run a command without its output; False when it fails or takes too long."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=APT_SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
