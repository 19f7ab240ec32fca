"""Where a test puts what it starts: a data folder in which a PostgreSQL server works, and a port."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

from tests.__main__ import MEMORY

OURS = 8_000  # ports below those that the system gives away


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


def quiet_port() -> int:
    """A port for a program that binds it only some seconds later: nobody listens there, and the system gives it to none
    of the hundred programs that ask for any port meanwhile.
    """
    given_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = max(1_024, given_from - OURS) + secrets.randbelow(OURS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
