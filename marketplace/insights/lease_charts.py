"""Charts of one lease as text: its error budget, its hours, and where its money went. Numbers in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
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

# -- error budget ------------------------------------------------------------------------------------------------------


def budget_burn(
    down_by_slot: Sequence[int], *, slots: int, budget_minutes: int, breach_minutes: int, is_armed: bool, title: str
) -> Chart:
    """Draw minutes down, added up over the slots of a lease, against the budget its SLA leaves.

    Above `budget_minutes` a credit is due; above `breach_minutes` the exact test calls a breach.
    """
    running, total = [], 0
    for minutes in down_by_slot:
        total += minutes
        running.append(total)
    share = 100 * total // budget_minutes if budget_minutes else 0
    finding = (f"{total:,} minutes down of a budget of {budget_minutes:,} ({share:,} % used); "
               f"a breach needs more than {breach_minutes:,}.")
    draw = lambda size: _draw_burn(  # noqa: E731
        running, slots, budget_minutes, breach_minutes, is_armed, size, title, finding)
    step = max(1, -(-len(running) // 28))
    rows = tuple((f"hour {i + 1}", f"{running[i]:,}") for i in range(step - 1, len(running), step))
    return make_chart(title, finding, draw, ("After", "Minutes down so far"), rows)


def _draw_burn(
    running: list[int], slots: int, budget: int, breach: int, is_armed: bool, size: Size, title: str, finding: str
) -> str:
    slots = max(slots, len(running), 1)
    ticks = nice_ticks(max([*running, budget, breach, 1]) * 11 // 10)

    def x(slot: int) -> float:
        return size.left + size.inner_width * slot / slots

    def y(minutes: int) -> float:
        return size.top + size.inner_height * (1 - minutes / ticks[-1])

    parts = grid(size, [(y(t), short_count(t)) for t in ticks])
    days = range(0, slots + 1, 24 * max(1, slots // 24 // (7 if size is WIDE else 4)) or 24)
    parts += x_axis(size, [(x(s), f"{s} h") for s in days], "minutes down, over the hours of the lease")
    parts.append(f'<path class="even" d="M{x(0):.1f} {y(0):.1f}L{x(slots):.1f} {y(budget):.1f}"/>')
    breach_words = "breach (armed)" if is_armed else "breach (holdback pays)"
    are_close = 0 <= y(budget) - y(breach) < 20
    parts += _limit_line(size, y(budget), "" if are_close else "credit", "warn", "end")
    parts += _limit_line(
        size, y(breach), f"credit, then {breach_words}" if are_close else breach_words,
        "bad", "start",
    )  # fmt: skip
    if running:
        path = f"M{x(0):.1f} {y(0):.1f}" + "".join(f"V{y(m):.1f}H{x(i + 1):.1f}" for i, m in enumerate(running))
        parts.append(f'<path class="line-d" d="{path}"/>')
        parts.append(f'<circle class="point" cx="{x(len(running)):.1f}" cy="{y(running[-1]):.1f}" r="4"/>')
    return svg(size, title, finding, parts)


def _limit_line(size: Size, at_y: float, words: str, tone: str, anchor: str) -> list[str]:
    text_x = size.left + 8 if anchor == "start" else size.width - size.right - 8
    return [
        f'<path class="limit-{tone}" d="M{size.left} {at_y:.1f}H{size.width - size.right}"/>',
        f'<text class="text-{tone} halo" x="{text_x}" y="{at_y - 6:.1f}" text-anchor="{anchor}">{escape(words)}</text>',
    ]


# -- the hours of a lease ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hour:
    """One slot of a lease: its hour of the window, and the minutes that were down or unknown."""

    slot: int
    down: int
    unknown: int


def hour_grid(hours: Sequence[Hour], *, slots: int, first_day: Sequence[str], title: str) -> Chart:
    """Draw one cell per hourly slot, a row per day; cells outside the lease stay empty.

    `first_day` names each row. A cell with minutes down carries a stroke as well as a colour.
    """
    by_slot = {h.slot: h for h in hours}
    down, unknown = sum(h.down for h in hours), sum(h.unknown for h in hours)
    finding = (f"{len(hours):,} hours metered, {60 * len(hours) - down - unknown:,} minutes up, "
               f"{down:,} down, {unknown:,} unknown.")
    draw = lambda size: _draw_hours(by_slot, slots, first_day, size, title, finding)  # noqa: E731
    rows = []
    for day in range(-(-slots // 24)):
        inside = [by_slot[s] for s in range(day * 24, min(slots, day * 24 + 24)) if s in by_slot]
        if inside:
            lost, dark = sum(h.down for h in inside), sum(h.unknown for h in inside)
            rows.append((_day_name(first_day, day), f"{60 * len(inside) - lost - dark:,}", f"{lost:,}", f"{dark:,}"))
    return make_chart(title, finding, draw, ("Day", "Minutes up", "Minutes down", "Minutes unknown"), tuple(rows))


def _day_name(names: Sequence[str], day: int) -> str:
    return names[day] if day < len(names) else f"day {day + 1}"


def _draw_hours(
    by_slot: dict[int, Hour], slots: int, names: Sequence[str], wanted: Size, title: str, finding: str
) -> str:
    days = max(1, -(-slots // 24))
    cell_h = 26 if days <= 10 else 14
    size = Size(wanted.width, 12 + days * cell_h + 34, left=wanted.left, top=12, bottom=34)
    pitch = size.inner_width / 24
    parts = []
    for day in range(days):
        top = size.top + day * cell_h
        if days <= 10 or day % 2 == 0:
            parts.append(f'<text class="axis" x="{size.left - 8}" y="{top + cell_h / 2 + 4:.1f}" text-anchor="end">'
                         f"{escape(_day_name(names, day))}</text>")
        for hour in range(24):
            slot = day * 24 + hour
            if slot < slots:
                parts += _cell(by_slot.get(slot), size.left + hour * pitch, top, pitch - 2, cell_h - 3)
    labels = range(0, 24, 4 if wanted is WIDE else 6)
    for hour in labels:
        parts.append(f'<text class="axis" x="{size.left + hour * pitch + pitch / 2 - 1:.1f}" '
                     f'y="{size.height - 16}" text-anchor="middle">{hour:02d}</text>')
    parts.append(f'<text class="axis" x="{size.width - size.right}" y="{size.height - 2}" text-anchor="end">'
                 "hour of the day, UTC</text>")
    return svg(size, title, finding, parts)


def _cell(hour: Hour | None, x: float, y: float, width: float, height: float) -> list[str]:
    if hour is None:
        tone = "none"
    elif hour.down >= 30:
        tone = "down"
    elif hour.down:
        tone = "part"
    else:
        tone = "unknown" if hour.unknown >= 30 else "up"
    box = f'<rect class="cell-{tone}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2"/>'
    if tone in ("down", "part"):
        return [box, f'<path class="stroke" d="M{x + 3:.1f} {y + height - 3:.1f}L{x + width - 3:.1f} {y + 3:.1f}"/>']
    return [box]


# -- where the money of a lease went -----------------------------------------------------------------------------------


def money_flow(total_micros: int, parts: Sequence[tuple[str, int, str]], *, title: str) -> Chart:
    """Draw how a lease's hold was divided: (name, micro-USD, tone) each; the parts must add up to the whole."""
    assert sum(amount for _, amount, _ in parts) == total_micros, "the parts do not add up to the hold"
    assert all(amount >= 0 for _, amount, _ in parts), "a part is negative"
    shown = [part for part in parts if part[1]]
    finding = f"{usd_text(total_micros)} held: " + ", ".join(f"{usd_text(a)} {name}" for name, a, _ in shown) + "."
    draw = lambda size: _draw_flow(total_micros, shown, size, title, finding)  # noqa: E731
    rows = tuple((name, usd_text(amount, 6)) for name, amount, _ in parts)
    return make_chart(title, finding, draw, ("Part", "Amount"), (*rows, ("hold", usd_text(total_micros, 6))))


def _draw_flow(total: int, parts: list[tuple[str, int, str]], wanted: Size, title: str, finding: str) -> str:
    size = Size(wanted.width, 68 + 26 * max(1, len(parts)), left=2, right=2, top=4, bottom=0)
    drawn, at = [], float(size.left)
    for row, (name, amount, tone) in enumerate(parts):
        width = size.inner_width * amount / max(total, 1)
        drawn.append(f'<rect class="flow-{tone}" x="{at:.1f}" y="4" width="{max(width, 1):.1f}" height="34"/>')
        at += width
        drawn.append(_legend(size, 66 + 26 * row, name, amount, total, tone))
    return svg(size, title, finding, drawn)


def _legend(size: Size, y: int, name: str, amount: int, total: int, tone: str) -> str:
    share = 1000 * amount // max(total, 1)
    words = f"{usd_text(amount)} · {share // 10}.{share % 10} %"
    return (
        f'<rect class="flow-{tone}" x="{size.left}" y="{y - 11}" width="12" height="12" rx="2"/>'
        f'<text class="axis" x="{size.left + 20}" y="{y}">{escape(name)}</text>'
        f'<text class="strong" x="{size.width - size.right}" y="{y}" text-anchor="end">'
        f"{words}</text>"
    )
