"""Environments of their own for what the product is measured against, each made when first asked for."""

from __future__ import annotations

import json
from pathlib import Path

from marketplace import bootstrap
from marketplace.environment import CHECKOUT, data_folder

LOCK = "tests/benchmarks/peers.lock"
CannotPrepare = bootstrap.CannotPrepare


class PeersEnvironment(bootstrap.Environment):
    """As the product's own `.venv`, but under the data folder and from a lock of its own."""

    def __init__(self, folder: Path, lock: str) -> None:
        super().__init__(CHECKOUT)
        self.folder, self.lock = folder, lock
        self.python = folder / "bin" / "python"
        self.stamp = folder / "installed-from.json"
        self.unfinished = folder / "install-not-finished"

    def is_current(self, command: str = "") -> bool:
        """Say whether the lock is installed; there is but one for every command."""
        try:
            return not self.unfinished.exists() and self.stamp.read_text() == self.wanted_stamp()
        except OSError:
            return False

    def prepare(self, command: str = "") -> None:
        """Make or mend it. Raises CannotPrepare, without a network for one."""
        with self._one_at_a_time():
            if not self.is_current():
                self._install(self.lock)

    def wanted_stamp(self) -> str:
        """Return what a finished install writes down."""
        return json.dumps(self._stamp_of(self.lock))


def prepared(lock: str = LOCK, name: str = "peers") -> Path:
    """Return the Python that has what the lock names. Raises CannotPrepare where it cannot be installed."""
    environment = PeersEnvironment(data_folder() / name, lock)
    environment.prepare()
    return environment.python
