"""An environment of its own for the solvers that clearing is measured against, made when first asked for."""

from __future__ import annotations

import json
from pathlib import Path

from marketplace import bootstrap
from marketplace.environment import CHECKOUT, data_folder

LOCK = "tests/benchmarks/peers.lock"
CannotPrepare = bootstrap.CannotPrepare


class PeersEnvironment(bootstrap.Environment):
    """As the product's own `.venv`, but under the data folder and from a lock of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(CHECKOUT)
        self.folder = folder
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
                self._install(LOCK)

    def wanted_stamp(self) -> str:
        """Return what a finished install writes down."""
        return json.dumps(self._stamp_of(LOCK))


def prepared() -> Path:
    """Return the Python that has the solvers. Raises CannotPrepare where they cannot be installed."""
    environment = PeersEnvironment(data_folder() / "peers")
    environment.prepare()
    return environment.python
