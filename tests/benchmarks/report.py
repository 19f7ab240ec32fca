"""What a benchmark hands back, and how its table is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Report:
    """Figures for programs, rows for people, and what was found wrong (not slow: wrong)."""

    figures: dict[str, Any]
    rows: list[str]
    faults: list[str] = field(default_factory=list)


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Line the cells up in columns: the first to the left, the others to the right, the last as it comes."""
    cells = [list(row) for row in rows]
    width = [max(len(row[k]) for row in cells if k < len(row)) for k in range(max(map(len, cells)))]
    lines = []
    for row in cells:
        parts = [row[0].ljust(width[0])]
        parts += [cell.rjust(width[k]) for k, cell in enumerate(row[1:-1], 1)]
        lines.append("  ".join([*parts, *row[1:][-1:]]).rstrip())
    return lines
