"""The agent's folder: what it holds, and that one writer at a time works in it.

    machine.key        the key (see `keys.py`); `machine.key.next` beside it while a rotation is under way
    agent.json         which market this machine enrolled at, and as what
    spool/             readings that are not acknowledged yet (see `spool.py`)
    meter.json         what the running meter last saw, for `status`
    lock               held by whoever writes: the meter, or a rotation
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marketplace.agent.errors import HomeBusy, NotEnrolled
from marketplace.agent.keys import refuse_wrong_modes

AGENT_FILE, METER_FILE, LOCK_FILE = "agent.json", "meter.json", "lock"


def write_file(path: Path, data: bytes) -> None:
    """Replace a file whole, mode 0600: after a kill or a power cut it holds the old bytes or the new, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.replace(fresh, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(home: Path, name: str, content: Mapping[str, Any]) -> None:
    """Replace one of the JSON files of the home."""
    write_file(home / name, json.dumps(content, sort_keys=True).encode() + b"\n")


def read_json(home: Path, name: str) -> dict[str, Any]:
    """What one of the JSON files of the home holds; empty where there is none yet."""
    path = home / name
    if not path.exists():
        return {}
    refuse_wrong_modes(path, 0o600)
    found = json.loads(path.read_bytes())
    return found if isinstance(found, dict) else {}


def enrolled_at(home: Path) -> dict[str, Any]:
    """Server and machine id of the enrolment. Raises NotEnrolled."""
    found = read_json(home, AGENT_FILE)
    if not {"server", "machine"} <= found.keys():
        raise NotEnrolled("This machine is not enrolled at a market yet: run enrol with --server.", home=str(home))
    return found


@contextmanager
def sole_writer(home: Path) -> Iterator[None]:
    """Keep others from writing in this home. Raises HomeBusy at once if somebody does."""
    descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except BlockingIOError as error:
            raise HomeBusy("Another agent works in this folder: stop the meter first.", home=str(home)) from error
        yield
    finally:
        os.close(descriptor)


def is_in_use(home: Path) -> bool:
    """Whether a meter or a rotation works in this home now."""
    if not (home / LOCK_FILE).exists():
        return False
    try:
        with sole_writer(home):
            return False
    except HomeBusy:
        return True
