"""Charts as text: numbers in, SVG out. No database, no clock, no JavaScript.

Each chart comes twice, wide (760 units) and narrow (360 units), with a title, the finding in words, and a table of the
same figures. Pages choose by width; colours and line styles come from the page's own style sheet by class name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MICROS = 1_000_000


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
    return _chart(title, finding, draw, ("Side", "Price per unit-hour", "Unit-hours", "Cumulative"), _curve_rows(
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

    parts = _grid(size, [(y(t), usd_text(t, 2 if y_ticks[1] % 10_000 == 0 else 3)) for t in y_ticks])
    parts += _x_axis(size, [(x(t), short_count(t)) for t in x_ticks if t <= x_max], "cumulative unit-hours")
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
    return _svg(size, title, finding, parts)


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
    return _chart(title, finding, draw, ("After", "Minutes down so far"), rows)


def _draw_burn(
    running: list[int], slots: int, budget: int, breach: int, is_armed: bool, size: Size, title: str, finding: str
) -> str:
    slots = max(slots, len(running), 1)
    ticks = nice_ticks(max([*running, budget, breach, 1]) * 11 // 10)

    def x(slot: int) -> float:
        return size.left + size.inner_width * slot / slots

    def y(minutes: int) -> float:
        return size.top + size.inner_height * (1 - minutes / ticks[-1])

    parts = _grid(size, [(y(t), short_count(t)) for t in ticks])
    days = range(0, slots + 1, 24 * max(1, slots // 24 // (7 if size is WIDE else 4)) or 24)
    parts += _x_axis(size, [(x(s), f"{s} h") for s in days], "minutes down, over the hours of the lease")
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
    return _svg(size, title, finding, parts)


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
    return _chart(title, finding, draw, ("Day", "Minutes up", "Minutes down", "Minutes unknown"), tuple(rows))


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
    return _svg(size, title, finding, parts)


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
    return _chart(title, finding, draw, ("Resource class", "Sold unit-hours", "Available unit-hours", "Share"), rows)


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
    return _svg(size, title, finding, parts)


# -- where the money of a lease went -----------------------------------------------------------------------------------


def money_flow(total_micros: int, parts: Sequence[tuple[str, int, str]], *, title: str) -> Chart:
    """Draw how a lease's hold was divided: (name, micro-USD, tone) each; the parts must add up to the whole."""
    assert sum(amount for _, amount, _ in parts) == total_micros, "the parts do not add up to the hold"
    assert all(amount >= 0 for _, amount, _ in parts), "a part is negative"
    shown = [part for part in parts if part[1]]
    finding = f"{usd_text(total_micros)} held: " + ", ".join(f"{usd_text(a)} {name}" for name, a, _ in shown) + "."
    draw = lambda size: _draw_flow(total_micros, shown, size, title, finding)  # noqa: E731
    rows = tuple((name, usd_text(amount, 6)) for name, amount, _ in parts)
    return _chart(title, finding, draw, ("Part", "Amount"), (*rows, ("hold", usd_text(total_micros, 6))))


def _draw_flow(total: int, parts: list[tuple[str, int, str]], wanted: Size, title: str, finding: str) -> str:
    size = Size(wanted.width, 68 + 26 * max(1, len(parts)), left=2, right=2, top=4, bottom=0)
    drawn, at = [], float(size.left)
    for row, (name, amount, tone) in enumerate(parts):
        width = size.inner_width * amount / max(total, 1)
        drawn.append(f'<rect class="flow-{tone}" x="{at:.1f}" y="4" width="{max(width, 1):.1f}" height="34"/>')
        at += width
        drawn.append(_legend(size, 66 + 26 * row, name, amount, total, tone))
    return _svg(size, title, finding, drawn)


def _legend(size: Size, y: int, name: str, amount: int, total: int, tone: str) -> str:
    share = 1000 * amount // max(total, 1)
    words = f"{usd_text(amount)} · {share // 10}.{share % 10} %"
    return (
        f'<rect class="flow-{tone}" x="{size.left}" y="{y - 11}" width="12" height="12" rx="2"/>'
        f'<text class="axis" x="{size.left + 20}" y="{y}">{escape(name)}</text>'
        f'<text class="strong" x="{size.width - size.right}" y="{y}" text-anchor="end">'
        f"{words}</text>"
    )


# -- parts of every drawing --------------------------------------------------------------------------------------------


def _chart(
    title: str, finding: str, draw: Callable[[Size], str], columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]
) -> Chart:
    return Chart(title, finding, draw(WIDE), draw(NARROW), columns, rows)


def _grid(size: Size, ticks: list[tuple[float, str]]) -> list[str]:
    parts = []
    for at_y, words in ticks:
        parts.append(f'<path class="grid" d="M{size.left} {at_y:.1f}H{size.width - size.right}"/>')
        parts.append(f'<text class="axis" x="{size.left - 8}" y="{at_y + 4:.1f}" text-anchor="end">'
                     f"{escape(words)}</text>")
    return parts


def _x_axis(size: Size, ticks: list[tuple[float, str]], words: str) -> list[str]:
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


def _svg(size: Size, title: str, finding: str, parts: Sequence[str]) -> str:
    """Close a drawing: a picture with a name and its finding in words, for people who cannot see it."""
    name = escape(title)
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}. '
        f'{escape(finding)}" viewBox="0 0 {size.width} {size.height}">'
        f"<title>{name}</title><desc>{escape(finding)}</desc>{''.join(parts)}</svg>"
    )
