"""Ranges as a drawing: a bar from low to high for each row, with a mark at base. Numbers in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from marketplace.insights.drawing import NARROW, WIDE, Chart, Size, nice_ticks, svg, usd_text


@dataclass(frozen=True)
class Bar:
    """One row: micro-USD at low, base and high; `tone` d is solid, s is dashed."""

    words: str
    low: int
    base: int
    high: int
    tone: str = "d"


def range_bars(bars: Sequence[Bar], *, title: str) -> Chart:
    """Draw each range on one scale from 0. The finding tells the widest."""
    for bar in bars:
        assert 0 <= bar.low <= bar.base <= bar.high, "a range runs upward from 0"
    widest = max(bars, key=lambda b: b.high - b.low)
    finding = f"Widest: {widest.words}, {short_usd(widest.low)} to {short_usd(widest.high)}."
    rows = tuple((b.words, *(usd_text(v) for v in (b.low, b.base, b.high))) for b in bars)
    wide, narrow = (_draw(bars, wanted, title, finding) for wanted in (WIDE, NARROW))
    return Chart(title, finding, wide, narrow, ("Cost", "Low", "Base", "High"), rows)


def short_usd(micros: int) -> str:
    """Return dollars short enough for an axis: $950, $340k, $7.1M."""
    usd = micros // 1_000_000
    if usd >= 10**6:
        return f"${usd // 10**5 / 10:,.1f}M"
    return f"${usd // 1000:,}k" if usd >= 10_000 else f"${usd:,}"


def _draw(bars: Sequence[Bar], wanted: Size, title: str, finding: str) -> str:
    pitch = 34 if wanted is WIDE else 46
    left = 190 if wanted is WIDE else 8
    size = Size(wanted.width, 16 + pitch * len(bars) + 34, left=left, right=26, top=12, bottom=34)
    ticks = nice_ticks(max(b.high for b in bars), 5 if wanted is WIDE else 3)
    floor = size.height - size.bottom

    def x(micros: int) -> float:
        return size.left + size.inner_width * micros / ticks[-1]

    parts = []
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{x(tick):.1f} {size.top}V{floor}"/>')
        anchor = "start" if tick == 0 else "end" if tick == ticks[-1] else "middle"
        parts.append(f'<text class="axis" x="{x(tick):.1f}" y="{floor + 20}" text-anchor="{anchor}">'
                     f"{short_usd(tick)}</text>")
    for row, bar in enumerate(bars):
        parts += _draw_bar(bar, size.top + row * pitch, x, is_wide=wanted is WIDE, left=size.left)
    return svg(size, title, finding, parts)


def _draw_bar(bar: Bar, top: float, x, *, is_wide: bool, left: int) -> list[str]:
    at = top + (8 if is_wide else 22)
    place = f'x="{left - 10}" y="{top + 22}" text-anchor="end"' if is_wide else f'x="{left}" y="{top + 14}"'
    width = max(x(bar.high) - x(bar.low), 2)
    tone = "bar" if bar.tone == "d" else "flow-returned"
    return [
        f'<text class="axis" {place}>{escape(bar.words)}</text>',
        f'<rect class="{tone}" x="{x(bar.low):.1f}" y="{at}" width="{width:.1f}" height="18" rx="3"/>',
        f'<path class="stroke" d="M{x(bar.base):.1f} {at - 3}v24"/>',
        f'<path class="even" d="M{x(bar.base):.1f} {at - 3}v24"/>',
    ]
