"""Prints the progress rows of long jobs: moving bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any

PLAIN_STEPS = 10  # a plain line at each tenth of a phase
PLAIN_SECONDS = 10  # and at least one each ten seconds while a job moves


class ProgressPrinter:
    """A context manager; call `look()` about twice a second."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.on_terminal = bool(getattr(stream, "isatty", lambda: False)())
        self._seen: dict[str, tuple[object, ...]] = {}
        self._printed_at: dict[str, float] = {}
        self._bars: Any = None
        self._bar_of: dict[str, Any] = {}

    def __enter__(self) -> ProgressPrinter:
        for row in self._rows():  # what stood before is old news
            self._seen[row.job] = self._state(row)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close_bars()

    def look(self) -> None:
        """Print every row that has moved since the last look."""
        for row in self._rows():
            state, before = self._state(row), self._seen.get(row.job)
            if state == before:
                continue
            self._seen[row.job] = state
            if self.on_terminal:
                self._move_bar(row)
            elif self._is_worth_a_line(row, before):
                self._printed_at[row.job] = time.monotonic()
                self.stream.write(f"{line_of(row)}\n")
                self.stream.flush()

    def _rows(self) -> list[Any]:
        from marketplace.notices.models import Progress

        return list(Progress.objects.order_by("job"))

    def _state(self, row: Any) -> tuple[object, ...]:
        tenth = row.done * PLAIN_STEPS // row.total if row.total else 0
        return (row.outcome, row.phase, row.sentence, tenth, row.done)

    def _is_worth_a_line(self, row: Any, before: tuple[object, ...] | None) -> bool:
        moved = before is None or self._state(row)[:4] != before[:4]
        return moved or time.monotonic() - self._printed_at.get(row.job, 0.0) > PLAIN_SECONDS

    def _move_bar(self, row: Any) -> None:
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.start()
        if row.job not in self._bar_of:
            self._bar_of[row.job] = self._bars.add_task("", total=None)
        words = f"{row.phase}: {row.sentence}"
        self._bars.update(self._bar_of[row.job], total=row.total or None, completed=row.done, description=words)
        if row.outcome != "running":
            self._bars.remove_task(self._bar_of.pop(row.job))
            bars = self._bars
            if not self._bar_of:
                self._close_bars()
            bars.console.print(line_of(row), highlight=False, markup=False)

    def _close_bars(self) -> None:
        if self._bars is not None:
            with contextlib.suppress(Exception):
                self._bars.stop()
            self._bars = None
            self._bar_of.clear()


def line_of(row: Any) -> str:
    """Return one plain line: `clearing 120/672: Solving the window.`"""
    counted = f" {row.done}/{row.total}" if row.total else ""
    ended = {"done": " (done)", "failed": " (FAILED)"}.get(row.outcome, "")
    return f"{row.phase}{counted}: {row.sentence}{ended}"


def _new_bars() -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    words = TextColumn("{task.description}", markup=False)
    return Progress(SpinnerColumn(), words, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), transient=True)
