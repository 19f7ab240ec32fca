"""The square of latency x privacy as a drawing: four quadrants, who stands in each, and which way it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from marketplace.insights.drawing import NARROW, WIDE, Chart, Size, svg


@dataclass(frozen=True)
class Square:
    """One quadrant: its words, its route, and the names in it."""

    words: str
    route: str
    names: tuple[str, ...]


def quadrants(squares: Sequence[Square], *, title: str) -> Chart:
    """Draw four squares: private above, open below; tight left, loose right. Order: TP, TO, LP, LO."""
    assert len(squares) == 4, "latency x privacy has four quadrants"
    total = sum(len(s.names) for s in squares)
    finding = f"{total} workloads: " + ", ".join(f"{len(s.names)} {s.words.lower()}" for s in squares) + "."
    rows = tuple((s.words, s.route, f"{len(s.names)}", ", ".join(s.names) or "none") for s in squares)
    drawn = [_draw(squares, wanted, title, finding) for wanted in (WIDE, NARROW)]
    return Chart(title, finding, drawn[0], drawn[1], ("Quadrant", "Route", "Workloads", "Names"), rows)


def _draw(squares: Sequence[Square], wanted: Size, title: str, finding: str) -> str:
    lines_max, gap = (7, 10) if wanted is WIDE else (5, 8)
    tall = 58 + 18 * max(2, min(lines_max, max(len(s.names) for s in squares)) + 1)
    size = Size(wanted.width, 2 * tall + gap + 30, left=2, right=2, top=2, bottom=28)
    width = (size.inner_width - gap) / 2
    places = ((0, 0), (0, 1), (1, 0), (1, 1))  # tight left, private above
    parts = []
    for square, (column, row) in zip(squares, places, strict=True):
        x, y = size.left + column * (width + gap), size.top + row * (tall + gap)
        parts += _draw_square(square, x, y, width, tall, lines_max)
    floor = size.height - 8
    for x, anchor, words in ((size.left, "start", "tight latency"), (size.width - 2, "end", "loose latency")):
        parts.append(f'<text class="axis" x="{x}" y="{floor}" text-anchor="{anchor}">{words}</text>')
    return svg(size, title, finding, parts)


def _draw_square(square: Square, x: float, y: float, width: float, height: float, lines_max: int) -> list[str]:
    parts = [
        f'<rect class="bar-track" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8"/>',
        f'<text class="strong" x="{x + 12:.1f}" y="{y + 22:.1f}">{escape(square.words)} · {len(square.names)}</text>',
        f'<text class="axis" x="{x + 12:.1f}" y="{y + 40:.1f}">{escape(square.route)}</text>',
    ]
    fits = max(6, int((width - 24) / 7.6))
    shown = square.names if len(square.names) <= lines_max else square.names[: lines_max - 1]
    lines = [name if len(name) <= fits else f"{name[: fits - 1]}…" for name in shown]
    if len(shown) < len(square.names):
        lines.append(f"and {len(square.names) - len(shown)} more")
    parts += [
        f'<text class="axis" x="{x + 12:.1f}" y="{y + 62 + 18 * i:.1f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    ]
    return parts
