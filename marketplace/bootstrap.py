"""Makes and mends `.venv`, so that a fresh clone needs nothing but Python. Standard library only.

The first call installs the hash-pinned lock into `.venv`, because a stock Debian or Ubuntu refuses to install outside
one (PEP 668). A stamp names the lock that was installed; another lock, another interpreter or an interrupted install
is put right by the next call. `NO_BOOTSTRAP=1` uses the interpreter at hand instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DEVELOPER_COMMANDS = {"test", "make_world", "bench"}
RUNTIME_LOCK, DEVELOPER_LOCK = "requirements.lock", "requirements-dev.lock"
PLAIN_PROGRESS_SECONDS = 10
SIGNS_OF_NO_NETWORK = (
    "NewConnectionError", "Name or service not known", "Temporary failure in name", "No matching distribution",
    "dns error", "Connection refused", "Network is unreachable", "error sending request",
)  # fmt: skip


class CannotPrepare(Exception):
    """The environment cannot be made; the sentence says what is missing and which command brings it."""


class Environment:
    """The virtual environment of one checkout."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.folder = checkout / ".venv"
        self.python = self.folder / "bin" / "python"
        self.stamp = self.folder / "installed-from.json"
        self.unfinished = self.folder / "install-not-finished"

    def is_inside(self) -> bool:
        """Say whether this very process runs in it."""
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def is_current(self, command: str) -> bool:
        """Say whether what `command` needs is installed. The developer's lock contains the other one."""
        if self.unfinished.exists() or not self.python.exists():
            return False
        try:
            stamp = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return False
        locks = [lock_for(command), DEVELOPER_LOCK]
        return any(stamp == self._stamp_of(lock) for lock in locks)

    def prepare(self, command: str) -> None:
        """Make or mend it. Raises CannotPrepare. Of several processes one works and the others wait."""
        with self._one_at_a_time():
            if not self.is_current(command):
                self._install(lock_for(command))

    def _install(self, lock: str) -> None:
        uv = shutil.which("uv")
        if not uv:
            refuse_without_venv()
        began_at = time.monotonic()
        try:
            self._make_empty(with_pip=not uv)
            say(f"Installing {lock} into .venv, every file checked against its hash (first time: a few minutes).")
            # A second install over a finished one only changes what differs; a killed one starts from nothing.
            self.unfinished.touch()
            install_with_uv(uv, self.python, self.checkout / lock) if uv else self._install_with_pip(lock)
            self.stamp.write_text(json.dumps(self._stamp_of(lock)))
            self.unfinished.unlink()
        except OSError as error:
            raise CannotPrepare(f".venv cannot be written: {error}.") from error
        say(f"Ready after {time.monotonic() - began_at:.0f} s.")

    def _make_empty(self, *, with_pip: bool) -> None:
        if self.unfinished.exists() or not self._python_works():
            shutil.rmtree(self.folder, ignore_errors=True)
        if not self.python.exists():
            self.folder.mkdir(exist_ok=True)
            self.unfinished.touch()
            run_quietly([sys.executable, "-m", "venv", "--without-pip", str(self.folder)], "Python's venv failed")
        if with_pip and not list(self.folder.glob("lib/python*/site-packages/pip")):
            run_quietly([str(self.python), "-m", "ensurepip", "--upgrade"], "Python's ensurepip failed")

    def _python_works(self) -> bool:
        if not self.python.exists():
            return False
        asked = "import sys, os; print(os.path.isdir([p for p in sys.path if p.endswith('site-packages')][0]))"
        told = subprocess.run([self.python, "-c", asked], capture_output=True, text=True, check=False)
        return told.stdout.strip() == "True"

    def _install_with_pip(self, lock: str) -> None:
        command = [str(self.python), "-m", "pip", "install", "--require-hashes", "--no-input", "--progress-bar", "off",
                   "--disable-pip-version-check", "-r", str(self.checkout / lock)]  # fmt: skip
        environment = dict(os.environ, PIP_USER="0", PYTHONUNBUFFERED="1")
        lines = []
        progress = Progress(pinned_packages(self.checkout / lock))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
        ) as pip:
            assert pip.stdout is not None
            for line in pip.stdout:
                lines.append(line.rstrip())
                progress.saw(line)
        progress.end()
        if pip.returncode != 0:
            raise CannotPrepare(failure("pip", lines))

    def _stamp_of(self, lock: str) -> dict[str, str]:
        content = (self.checkout / lock).read_bytes()
        return {
            "lock": lock,
            "sha256": hashlib.sha256(content).hexdigest(),
            "python": os.path.realpath(self.python),  # another one after an upgrade of the system: packages are gone
        }

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        descriptor = os.open(self.checkout, os.O_RDONLY)  # the folder itself is the lock: no file is left behind
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another manage.py prepares .venv; waiting for it.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class Progress:
    """Shows how far pip is: one changing line on a terminal, a line each ten seconds elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.seen, self.shown_at = total, 0, time.monotonic()
        self.on_terminal = sys.stderr.isatty()

    def saw(self, line: str) -> None:
        """Count one line of pip."""
        if line.startswith("Collecting "):
            self.seen += 1
            text = f"{self.seen} of at most {self.total} packages: {line.split()[1][:40]}"
        elif line.startswith("Installing collected"):
            text = f"unpacking {self.seen} packages"
        else:
            return
        now = time.monotonic()
        if self.on_terminal:
            sys.stderr.write(f"\r\033[K  {text}")
            sys.stderr.flush()
        elif now - self.shown_at > PLAIN_PROGRESS_SECONDS or text.startswith("unpacking"):
            say(f"  {text}")
            self.shown_at = now

    def end(self) -> None:
        """Leave a clean line."""
        if self.on_terminal:
            sys.stderr.write("\r\033[K")


def lock_for(command: str) -> str:
    """Return the lock file that a command of `manage.py` needs."""
    return DEVELOPER_LOCK if command in DEVELOPER_COMMANDS else RUNTIME_LOCK


def pinned_packages(lock: Path) -> int:
    """Count the packages a lock names; some of them are for other systems only."""
    return sum(1 for line in lock.read_text().splitlines() if "==" in line and not line.startswith((" ", "#")))


def install_with_uv(uv: str, python: Path, lock: Path) -> None:
    """Install with uv, which draws its own progress on a terminal."""
    command = [uv, "pip", "install", "--python", str(python), "--require-hashes", "-r", str(lock)]
    if sys.stderr.isatty():
        done = subprocess.run(command, check=False)
        lines: list[str] = []
    else:
        done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
        lines = done.stderr.splitlines()
    if done.returncode:
        raise CannotPrepare(failure("uv", lines))


def refuse_without_venv() -> None:
    """Say which Debian package is missing before a half-made environment is left behind."""
    missing = [module for module in ("venv", "ensurepip") if importlib.util.find_spec(module) is None]
    if missing:
        raise CannotPrepare(
            f"This Python ({sys.executable}) has no {' and no '.join(missing)} module. On Debian and Ubuntu:\n"
            "  apt install python3-venv\n"
            "or put uv on the PATH, or set NO_BOOTSTRAP=1 and bring your own environment."
        )


def run_quietly(command: list[str], complaint: str) -> None:
    """Run a command; raises CannotPrepare with its last words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotPrepare(f"{complaint}:\n" + last_words((done.stdout + done.stderr).splitlines()))


def failure(tool: str, lines: list[str]) -> str:
    """Return what went wrong in an installer's words, and what to do when it is the network."""
    offline = any(sign in line for line in lines for sign in SIGNS_OF_NO_NETWORK)
    advice = ""
    if offline:
        advice = (
            "\nNo package index answered. Connect this machine once (everything works offline afterwards), or point "
            f"{tool} at a mirror with its own settings."
        )
    return f"{tool} could not install the requirements:\n{last_words(lines)}{advice}"


def last_words(lines: list[str]) -> str:
    """Return the last lines that say something, indented."""
    return "\n".join(f"  {line}" for line in [each for each in lines if each.strip()][-8:])


def say(text: str) -> None:
    """Print to standard error: standard output belongs to the command."""
    print(text, file=sys.stderr, flush=True)


def enter(arguments: list[str], script: Path) -> None:
    """Return inside a current `.venv`: at once when this process runs there, else by running `script` again in it."""
    if os.environ.get("NO_BOOTSTRAP") == "1":
        return
    environment = Environment(CHECKOUT)
    command = arguments[0] if arguments else ""
    if not environment.is_current(command):
        if environment.is_inside():  # a process must not replace the interpreter it runs on
            outside = str(getattr(sys, "_base_executable", sys.executable))
            os.execv(outside, [outside, str(script), *arguments])
        environment.prepare(command)
    if not environment.is_inside():
        os.execv(environment.python, [str(environment.python), str(script), *arguments])
