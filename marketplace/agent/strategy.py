"""A strategy file, in TOML, and the bids it comes to in one window: pure arithmetic, no network.

    name = "night-shift"              # begins the reference of every bid, so that a file sent twice is one set of bids
    node_class = "cls_…"              # one of /api/v1/capacity
    sla = "99.5"
    sla_targets = { latency_p95_ms_max = 20 }    # promised beside availability; left out: nothing
    floor_usd = 1.25                  # the least it takes per unit-hour, before the platform's fee
    target_utilisation_percent = 70   # so many percent of the units of an hour are offered at the floor
    beyond_target_usd = 1.90          # the ask for the rest; left out: the rest is not offered
    units = 16                        # left out: all units of the node class
    minimum_units = 0                 # sell the same units in all hours of a bid, at least so many, or none
    window = "2026-W48"               # left out: every window that takes bids

    [[calendar]]                      # hours of the week in UTC that are offered; without any: every hour
    days = ["mon", "tue", "wed"]
    from_hour = 18
    until_hour = 24

Clearing pays its own price to all, so the ask decides what is sold and not what is paid: an ask at the floor sells
whenever selling is worth it. Prices are read as they are written, never through a float.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from marketplace.agent.errors import NothingToBid, StrategyWrong

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TICK_MICROS, PRICE_MICROS_MAX = 100, 10**9
UNITS_MAX = 2**20
PROBATION_HOURS = 24  # the longest lease of a node class that is still on probation
FIELDS = {
    "name", "node_class", "sla", "floor_usd", "target_utilisation_percent", "beyond_target_usd", "units",
    "minimum_units", "window", "calendar", "sla_targets",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}")
NODE_CLASS = re.compile(r"cls_[0-9a-f]{32}")
KEY_LINE = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
Table = Mapping[str, Any]


@dataclass(frozen=True)
class Hours:
    """Hours of some days of the week, UTC, from `from_hour` to just before `until_hour`."""

    days: frozenset[int]  # 0 is Monday
    from_hour: int
    until_hour: int

    def cover(self, hour_at: datetime) -> bool:
        """Whether the hour that begins then is one of them."""
        return hour_at.weekday() in self.days and self.from_hour <= hour_at.hour < self.until_hour


@dataclass(frozen=True)
class Strategy:
    """What a provider wants to sell, and from which price on."""

    name: str
    node_class: str
    sla: str
    floor_micros: int
    target_percent: int
    beyond_micros: int | None
    units: int | None
    minimum_units: int
    window: str | None
    calendar: tuple[Hours, ...]
    sla_targets: dict[str, int]


@dataclass
class _Reader:
    """One TOML table with the lines its fields stand on; it collects mistakes and tells them all at once."""

    table: Table
    lines: Mapping[str, int]
    mistakes: list[dict[str, Any]]
    prefix: str = ""
    first_line: int = 1
    known: set[str] = field(default_factory=set)

    def wrong(self, name: str, why: str) -> None:
        line = self.lines.get(name, self.first_line)
        self.mistakes.append({"line": line, "field": f"{self.prefix}{name}", "why": why})

    def text(self, name: str, shape: re.Pattern[str], why: str, *, optional: bool = False) -> str | None:
        value = self._take(name, optional)
        if value is None or (isinstance(value, str) and shape.fullmatch(value)):
            return value
        self.wrong(name, why)
        return None

    def whole(self, name: str, least: int, most: int, *, optional: bool = False) -> int | None:
        value = self._take(name, optional)
        if value is None or (type(value) is int and least <= value <= most):
            return value
        self.wrong(name, f"write a whole number from {least} to {most}")
        return None

    def price_micros(self, name: str, *, optional: bool = False) -> int | None:
        value = self._take(name, optional)
        if value is None:
            return None
        try:
            # A number or its text; anything that is not finite or lies off the tick falls to the sentence below.
            micros = Decimal(str(value)) * 1_000_000 if type(value) in (int, str, Decimal) else Decimal("nan")
            if micros % TICK_MICROS == 0 and TICK_MICROS <= micros <= PRICE_MICROS_MAX:
                return int(micros)
        except ArithmeticError:
            pass
        self.wrong(name, "write dollars per unit-hour from 0.0001 to 1000 with at most four decimals, such as 1.25")
        return None

    def targets(self, name: str) -> dict[str, int]:
        value = self.table.get(name, {})
        if isinstance(value, dict) and all(type(bound) is int and 0 < bound < UNITS_MAX for bound in value.values()):
            return value
        self.wrong(name, "write targets and their bounds in whole numbers, such as { latency_p95_ms_max = 20 }")
        return {}

    def refuse_unknown(self) -> None:
        for name in self.table:
            if name not in self.known:
                self.wrong(name, f"there is no such field; known are {', '.join(sorted(self.known))}")

    def _take(self, name: str, optional: bool) -> Any:
        if name not in self.table and not optional:
            self.wrong(name, "this field is needed")
        return self.table.get(name)


def read_strategy(text: str) -> Strategy:
    """The strategy in a TOML text. Raises StrategyWrong with the line, field and reason of every mistake."""
    try:
        table = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        raise _wrong([{"line": line, "field": "", "why": f"this is no TOML: {error}"}]) from error
    mistakes: list[dict[str, Any]] = []
    blocks = list(_blocks(text))
    top = _Reader(table, blocks[0][1], mistakes, known=FIELDS)
    top.refuse_unknown()
    name = top.text("name", NAME, "write 1 to 30 letters, digits, dots, dashes or underscores")
    node_class = top.text("node_class", NODE_CLASS, "write the id of a node class, cls_ and 32 hex digits")
    sla = top.text("sla", re.compile(r".{1,20}"), "name an SLA preset such as 99.5, in quotation marks")
    floor = top.price_micros("floor_usd")
    target = top.whole("target_utilisation_percent", 1, 100)
    beyond = top.price_micros("beyond_target_usd", optional=True)
    if floor is not None and beyond is not None and beyond < floor:
        top.wrong("beyond_target_usd", "the ask beyond the target is at least the floor")
    units = top.whole("units", 1, UNITS_MAX, optional=True)
    minimum = top.whole("minimum_units", 0, UNITS_MAX, optional=True)
    window = top.text("window", re.compile(r".{1,60}"), "write the name of a window in quotation marks", optional=True)
    targets = top.targets("sla_targets")
    calendar = _calendar(top, table.get("calendar", []), blocks)
    if mistakes:
        raise _wrong(sorted(mistakes, key=lambda each: int(each["line"])))
    assert None not in (name, node_class, sla, floor, target)
    return Strategy(name, node_class, sla, floor, target, beyond, units, minimum or 0, window, calendar, targets)


def bids_of(strategy: Strategy, window: Table, capacity: Table) -> list[dict[str, Any]]:
    """The bodies of the bids that a strategy comes to in one window, in the order of their hours.

    `window` and `capacity` are rows of the API. Raises NothingToBid where the calendar opens no hour of the window,
    or the target comes to less than one unit.
    """
    units = min(strategy.units or capacity["units"], capacity["units"])
    at_floor = units * strategy.target_percent // 100
    steps = [(at_floor, strategy.floor_micros)]
    if strategy.beyond_micros is not None:
        steps.append((units - at_floor, strategy.beyond_micros))
    longest = PROBATION_HOURS if capacity["standing"] == "PROBATION" else window["slots"]
    bids = [
        {
            "window": window["id"], "node_class": strategy.node_class,
            "reference": f"{strategy.name}.{window['number']}.{start}.{step}", "quantity_units": quantity,
            "start_slot": start, "end_slot": end, "price_ask_micros": str(ask), "sla_code": strategy.sla,
            "minimum_units": min(strategy.minimum_units, quantity),
        } | ({"sla_targets": strategy.sla_targets} if strategy.sla_targets else {})
        for start, end in _runs(strategy, window, longest)
        for step, (quantity, ask) in enumerate(steps)
        if quantity
    ]  # fmt: skip
    if not bids:
        raise NothingToBid(
            "This strategy offers nothing in this window: no hour of its calendar, or less than one unit.",
            window=window["name"], units_at_the_floor=at_floor,
        )  # fmt: skip
    return bids


def _runs(strategy: Strategy, window: Table, longest: int) -> Iterator[tuple[int, int]]:
    """Slots in a row that the calendar opens, none longer than `longest` hours."""
    starts_at = datetime.fromisoformat(window["starts_at"])
    start: int | None = None
    for slot in range(window["slots"] + 1):
        hour_at = starts_at + timedelta(hours=slot)
        is_open = slot < window["slots"] and (
            not strategy.calendar or any(hours.cover(hour_at) for hours in strategy.calendar)
        )
        if start is not None and (not is_open or slot - start == longest):
            yield start, slot
            start = None
        if is_open and start is None:
            start = slot


def _calendar(top: _Reader, rows: Any, blocks: list[tuple[int, dict[str, int]]]) -> tuple[Hours, ...]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        top.wrong("calendar", "write each span as a table under [[calendar]]")
        return ()
    found = []
    for number, row in enumerate(rows):
        first_line, lines = blocks[number + 1] if number + 1 < len(blocks) else (top.lines.get("calendar", 1), {})
        reader = _Reader(row, lines, top.mistakes, f"calendar[{number}].", first_line,
                         known={"days", "from_hour", "until_hour"})  # fmt: skip
        reader.refuse_unknown()
        days = row.get("days", list(DAYS))
        if not isinstance(days, list) or not days or not all(day in DAYS for day in days):
            reader.wrong("days", f"list some of {', '.join(DAYS)}")
            days = []
        from_hour, until_hour = reader.whole("from_hour", 0, 23), reader.whole("until_hour", 1, 24)
        if from_hour is not None and until_hour is not None and from_hour >= until_hour:
            reader.wrong("until_hour", "a span ends after it begins; one past midnight is two spans")
        found.append(Hours(frozenset(map(DAYS.index, days)), from_hour or 0, until_hour or 24))
    return tuple(found)


def _blocks(text: str) -> Iterator[tuple[int, dict[str, int]]]:
    """The tables of a TOML text in their order: the line each begins on, and the line of each of its keys."""
    begins, lines = 1, {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("[["):
            yield begins, lines
            begins, lines = number, {}
        elif found := KEY_LINE.match(line):
            lines.setdefault(found[1], number)
    yield begins, lines


def _wrong(mistakes: list[dict[str, Any]]) -> StrategyWrong:
    first = mistakes[0]
    where = f"Line {first['line']}" + (f", {first['field']}" if first["field"] else "")
    more = f" ({len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return StrategyWrong(f"{where}: {first['why']}.{more}", mistakes=mistakes)
