"""Charts of a market as text: numbers in, SVG out. What runs and was paid is in `lease_charts`.

Each chart comes twice, wide (760 units) and narrow (360 units), with a title, the finding in words, and a table of the
same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from marketplace.insights.drawing import (
    WIDE,
    Chart,
    Size,
    grid,
    make_chart,
    nice_ticks,
    short_count,
    svg,
    usd_text,
    x_axis,
)


@dataclass(frozen=True)
class Step:
    """So many unit-hours at one price."""

    price_micros: int
    unit_hours: int


@dataclass(frozen=True)
class Trade:
    """What a clearing came to: volume, mean price, and the span in which the middle half of the volume traded."""

    unit_hours: int
    price_micros: int
    low_micros: int
    high_micros: int


# -- supply and demand -------------------------------------------------------------------------------------------------


def supply_and_demand(
    demand: Sequence[Step], supply: Sequence[Step], *, trade: Trade | None, title: str, demand_words: str = "demand"
) -> Chart:
    """Draw both sides as step curves over cumulative unit-hours, with what was traded.

    An empty `supply` means sealed or absent: then only the demand curve is drawn. Prices in micro-USD per unit-hour.
    """
    falling = sorted((s for s in demand if s.unit_hours > 0), key=lambda s: -s.price_micros)
    rising = sorted((s for s in supply if s.unit_hours > 0), key=lambda s: s.price_micros)
    finding = _curves_finding(falling, rising, trade)
    draw = lambda size: _draw_curves(falling, rising, trade, size, title, finding, demand_words)  # noqa: E731
    return make_chart(title, finding, draw, ("Side", "Price per unit-hour", "Unit-hours", "Cumulative"), _curve_rows(
        falling, rising, demand_words))


def _curves_finding(falling: list[Step], rising: list[Step], trade: Trade | None) -> str:
    asked, offered = sum(s.unit_hours for s in falling), sum(s.unit_hours for s in rising)
    words = [f"{asked:,} unit-hours asked for"]
    if rising:
        words.append(f"{offered:,} offered")
    if trade and trade.unit_hours:
        words.append(f"{trade.unit_hours:,} traded at a mean of {usd_text(trade.price_micros)} per unit-hour")
    hidden = [s for s in (*falling, *rising) if s.price_micros > _top_price(falling, rising, trade)]
    more = f" {len(hidden)} lines lie above the chart." if hidden else ""
    return ", ".join(words) + "." + more


def _curve_rows(falling: list[Step], rising: list[Step], demand_words: str) -> tuple[tuple[str, ...], ...]:
    rows: list[tuple[str, ...]] = []
    for side, steps in ((demand_words, falling), ("supply", rising)):
        merged = merge_steps(steps)
        total = 0
        for step in _thin(merged, 40):
            total += step.unit_hours
            rows.append((side, usd_text(step.price_micros, 4), f"{step.unit_hours:,}", f"{total:,}"))
    return tuple(rows)


def merge_steps(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with neighbours of equal price added up."""
    merged: list[Step] = []
    for step in steps:
        if merged and merged[-1].price_micros == step.price_micros:
            merged[-1] = Step(step.price_micros, merged[-1].unit_hours + step.unit_hours)
        else:
            merged.append(step)
    return merged


def _thin(steps: list[Step], most: int) -> list[Step]:
    """Join neighbouring steps until at most `most` are left; no unit-hour is lost, each run's last price stands."""
    if len(steps) <= most:
        return steps
    run = -(-len(steps) // most)
    return [
        Step(part[-1].price_micros, sum(s.unit_hours for s in part))
        for part in (steps[i : i + run] for i in range(0, len(steps), run))
    ]


def _draw_curves(
    falling: list[Step], rising: list[Step], trade: Trade | None, size: Size, title: str, finding: str,
    demand_words: str,
) -> str:  # fmt: skip
    most_hours = max(sum(s.unit_hours for s in falling), sum(s.unit_hours for s in rising), 1)
    x_ticks, y_ticks = nice_ticks(most_hours, 6 if size is WIDE else 3), nice_ticks(_top_price(falling, rising, trade))
    x_max, y_max = max(most_hours, 1), y_ticks[-1]

    def x(hours: int) -> float:
        return size.left + size.inner_width * hours / x_max

    def y(price: int) -> float:
        return size.top + size.inner_height * (1 - min(price, y_max) / y_max)

    parts = grid(size, [(y(t), usd_text(t, 2 if y_ticks[1] % 10_000 == 0 else 3)) for t in y_ticks])
    parts += x_axis(size, [(x(t), short_count(t)) for t in x_ticks if t <= x_max], "cumulative unit-hours")
    if trade and trade.unit_hours and trade.high_micros > trade.low_micros:
        top, bottom = y(trade.high_micros), y(trade.low_micros)
        parts.append(f'<rect class="band" x="{size.left}" y="{top:.1f}" width="{size.inner_width}" '
                     f'height="{max(bottom - top, 1):.1f}"/>')
    ends = []
    for side, words, steps in (("d", demand_words, falling), ("s", "supply", rising)):
        if steps:
            path, end_x, end_y = _steps_path(merge_steps(steps), x, y)
            floor = size.height - size.bottom
            parts.append(f'<path class="area-{side}" d="{path}V{floor}H{size.left}Z"/>')
            parts.append(f'<path class="line-{side}" d="{path}"/>')
            ends.append((side, words, end_x, end_y))
    parts += _end_labels(ends, size)
    if trade and trade.unit_hours:
        parts += _trade_mark(trade, x(min(trade.unit_hours, x_max)), y(trade.price_micros), size)
    return svg(size, title, finding, parts)


def _top_price(falling: list[Step], rising: list[Step], trade: Trade | None) -> int:
    """Return the highest price to draw: a few extreme limits must not flatten everything else."""
    highest = max([s.price_micros for s in (*falling, *rising)] + [trade.high_micros if trade else 0, 10_000])
    if trade and trade.unit_hours:
        return min(highest, max(5 * trade.price_micros // 2, trade.high_micros * 5 // 4))
    return highest


def _steps_path(steps: list[Step], x: Callable[[int], float], y: Callable[[int], float]) -> tuple[str, float, float]:
    total = 0
    path = [f"M{x(0):.1f} {y(steps[0].price_micros):.1f}"]
    for step in steps:
        total += step.unit_hours
        path.append(f"V{y(step.price_micros):.1f}H{x(total):.1f}")
    return "".join(path), x(total), y(steps[-1].price_micros)


def _end_labels(ends: list[tuple[str, str, float, float]], size: Size) -> list[str]:
    """Name each line at its end: demand falls, so below its end is free; supply rises, so above its end is."""
    parts = []
    for side, words, end_x, end_y in ends:
        anchor_x = min(max(end_x, size.left + 110), size.width - size.right) - 4
        is_low = end_y > size.height - size.bottom - 26
        wanted = end_y + 19 if side == "d" and not is_low else end_y - 9
        text_y = max(size.top + 14, min(wanted, size.height - size.bottom - 6))
        parts.append(f'<text class="name-{side} halo" x="{anchor_x:.1f}" y="{text_y:.1f}" text-anchor="end">'
                     f"{escape(words)}</text>")
    return parts


def _trade_mark(trade: Trade, at_x: float, at_y: float, size: Size) -> list[str]:
    words = f"{usd_text(trade.price_micros)} · {short_count(trade.unit_hours)} unit-hours"
    to_left = at_x > size.left + size.inner_width * 0.55
    floor, text_y = size.height - size.bottom, size.top + 12  # up there demand has already fallen away
    return [
        f'<path class="guide" d="M{size.left} {at_y:.1f}H{at_x:.1f}M{at_x:.1f} {size.top}V{floor}"/>',
        f'<circle class="point" cx="{at_x:.1f}" cy="{at_y:.1f}" r="5"/>',
        f'<text class="strong halo" x="{at_x + (-10 if to_left else 10):.1f}" y="{text_y:.1f}" '
        f'text-anchor="{"end" if to_left else "start"}">{escape(words)}</text>',
    ]


# -- utilisation -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """Unit-hours sold and available of one resource class: proven ones, or of old windows offered ones."""

    name: str
    sold: int
    offered: int

    @property
    def share_bps(self) -> int:
        return 10_000 * self.sold // self.offered if self.offered else 0


def utilisation(uses: Sequence[Use], *, title: str, band_bps: tuple[int, int] = (4400, 5700)) -> Chart:
    """Draw one bar per resource class: sold as a share of offered unit-hours, over the band of earlier networks."""
    for use in uses:
        assert 0 <= use.sold <= use.offered, "more sold than offered"
    # No sum over the classes: unlike machines do not add up, and one figure would hide which kind is short.
    told = "; ".join(f"{u.name}: {u.sold:,} of {u.offered:,} unit-hours" for u in uses) or "nothing was available"
    finding = f"Sold per resource class. {told}. The band marks {band_bps[0] // 100} to {band_bps[1] // 100} %."
    draw = lambda size: _draw_use(uses, band_bps, size, title, finding)  # noqa: E731
    rows = tuple((u.name, f"{u.sold:,}", f"{u.offered:,}", _share(u.share_bps)) for u in uses)
    columns = ("Resource class", "Sold unit-hours", "Available unit-hours", "Share")
    return make_chart(title, finding, draw, columns, rows)


def _share(bps: int) -> str:
    return f"{bps / 100:.1f} %"


def _draw_use(uses: Sequence[Use], band: tuple[int, int], wanted: Size, title: str, finding: str) -> str:
    pitch = 34
    height = 16 + pitch * max(1, len(uses)) + 40
    size = Size(wanted.width, height, left=130 if wanted is WIDE else 84, right=64, top=16, bottom=40)
    x = lambda bps: size.left + size.inner_width * bps / 10_000  # noqa: E731
    floor = size.height - size.bottom
    parts = [f'<rect class="band" x="{x(band[0]):.1f}" y="{size.top - 8}" width="{x(band[1]) - x(band[0]):.1f}" '
             f'height="{floor - size.top + 8}"/>']
    for bps in (0, 2500, 5000, 7500, 10_000) if wanted is WIDE else (0, 5000, 10_000):
        parts.append(f'<path class="grid" d="M{x(bps):.1f} {size.top - 8}V{floor}"/>')
        parts.append(f'<text class="axis" x="{x(bps):.1f}" y="{floor + 18}" text-anchor="middle">{bps // 100} %</text>')
    for row, use in enumerate(uses):
        top = size.top + row * pitch
        parts.append(f'<text class="axis" x="{size.left - 10}" y="{top + 16}" text-anchor="end">'
                     f"{escape(use.name)}</text>")
        for kind, width in (("bar-track", size.inner_width), ("bar", x(use.share_bps) - size.left)):
            parts.append(f'<rect class="{kind}" x="{size.left}" y="{top}" width="{width:.1f}" height="22" rx="3"/>')
        parts.append(f'<text class="strong" x="{size.width - size.right + 8}" y="{top + 16}">'
                     f"{_share(use.share_bps)}</text>")
    return svg(size, title, finding, parts)
