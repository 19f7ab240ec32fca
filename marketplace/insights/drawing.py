"""What every chart is made of: sizes, the two drawings and their table, axes, and numbers short enough to be read.

No database, no clock, no JavaScript. Pages choose the drawing by width; colours and line styles come from the page's
own style sheet by class name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Size:
    """A drawing area in SVG units."""

    width: int
    height: int
    left: int
    right: int = 14
    top: int = 16
    bottom: int = 46

    @property
    def inner_width(self) -> int:
        return self.width - self.left - self.right

    @property
    def inner_height(self) -> int:
        return self.height - self.top - self.bottom


WIDE = Size(760, 330, left=70)
NARROW = Size(360, 280, left=58)


@dataclass(frozen=True)
class Chart:
    """A finished chart: two drawings of the same figures, the finding in words, and the figures as a table."""

    title: str
    finding: str
    wide: str
    narrow: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def usd_text(micros: int, places: int = 2) -> str:
    """Return micro-USD as dollars, rounded half up in integers."""
    sign, micros = ("-" if micros < 0 else ""), abs(micros)
    unit = 10 ** (6 - places)
    whole, part = divmod((micros + unit // 2) // unit, 10**places)
    return f"{sign}${whole:,}.{part:0{places}d}" if places else f"{sign}${whole:,}"


def short_count(number: int) -> str:
    """Return a whole number short enough for an axis: 950, 12,400, 250k, 3.2M."""
    if number >= 10**6:
        return f"{number // 10**6:,}M" if number % 10**6 == 0 else f"{number // 10**5 / 10:,.1f}M"
    if number >= 100_000:
        return f"{number // 1000}k"
    return f"{number:,}"


def nice_ticks(highest: int, wanted: int = 5) -> list[int]:
    """Return whole ticks from 0 to at least `highest`, about `wanted` of them, in steps of 1, 2 or 5 times a power."""
    highest = max(1, highest)
    rough = max(1, -(-highest // wanted))
    power = 10 ** (len(str(rough)) - 1)
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough)
    return list(range(0, highest + step, step))


def make_chart(
    title: str, finding: str, draw: Callable[[Size], str], columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]
) -> Chart:
    """Draw a chart in both sizes."""
    return Chart(title, finding, draw(WIDE), draw(NARROW), columns, rows)


def grid(size: Size, ticks: list[tuple[float, str]]) -> list[str]:
    """Level lines with their words at the left; `ticks` are (y, words)."""
    parts = []
    for at_y, words in ticks:
        parts.append(f'<path class="grid" d="M{size.left} {at_y:.1f}H{size.width - size.right}"/>')
        parts.append(f'<text class="axis" x="{size.left - 8}" y="{at_y + 4:.1f}" text-anchor="end">'
                     f"{escape(words)}</text>")
    return parts


def x_axis(size: Size, ticks: list[tuple[float, str]], words: str) -> list[str]:
    """Words below the drawing, one at each of `ticks` (x, words), and what the axis counts."""
    floor = size.height - size.bottom
    parts = [
        f'<text class="axis" x="{at_x:.1f}" y="{floor + 18}" text-anchor="{"start" if i == 0 else "middle"}">'
        f"{escape(text)}</text>"
        for i, (at_x, text) in enumerate(ticks)
        if at_x <= size.width - size.right - (14 if i else 0)
    ]
    parts.append(f'<text class="axis" x="{size.width - size.right}" y="{floor + 38}" text-anchor="end">'
                 f"{escape(words)}</text>")
    return parts


def svg(size: Size, title: str, finding: str, parts: Sequence[str]) -> str:
    """Close a drawing: a picture with a name and its finding in words, for people who cannot see it."""
    name = escape(title)
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}. '
        f'{escape(finding)}" viewBox="0 0 {size.width} {size.height}">'
        f"<title>{name}</title><desc>{escape(finding)}</desc>{''.join(parts)}</svg>"
    )
