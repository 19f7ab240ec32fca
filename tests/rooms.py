"""Where a test puts a data folder of its own, in which a PostgreSQL server works."""

from __future__ import annotations

import os
from pathlib import Path

from tests.__main__ import MEMORY


def in_memory() -> bool:
    """Say whether the suite's own server keeps its files in memory."""
    from marketplace.environment import data_folder

    return data_folder().is_relative_to(MEMORY)


def room() -> Path | None:
    """Where to make the folder: within the suite's in memory, else where the server's user may enter.

    pytest's own folders are closed to others, and as root the server is somebody else. A killed server loses nothing in
    memory that it would keep on a disk: what it has written is the system's.
    """
    from marketplace.environment import data_folder

    if in_memory():
        return data_folder()
    return Path("/var/lib") if os.geteuid() == 0 else None
