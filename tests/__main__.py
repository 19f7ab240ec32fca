"""`manage.py test ARGS`: pytest with this project's habits, and a browser for the pages where one can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

APT_SECONDS_MAX = 240


def main(arguments: list[str]) -> int:
    """Run pytest and return its exit status."""
    if wants_a_browser(arguments) and not have_browser():
        print("No Chromium: the browser tests will be SKIPPED. Install Debian's chromium or set CHROMIUM.", flush=True)
    return int(pytest.main(with_habits(arguments)))


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
