"""Progress of a command's own work: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Worked:
    """Tell `total` steps, one sentence each."""

    def __init__(self, stdout: Any, *, total: int) -> None:
        self._stdout, self._total = stdout, total
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if getattr(self._stdout, "isatty", lambda: False)():
            columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(), transient=True)
            self._task = self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def tell(self, done: int, sentence: str) -> None:
        """Say what comes next, after `done` steps."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, description=sentence)
            return
        seconds = time.monotonic() - self._began
        self._stdout.write(f"[{done + 1:>2}/{self._total + 1}] {seconds:6.1f} s  {sentence}")
        self._stdout.flush()
