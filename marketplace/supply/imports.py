"""What universities already run, read from the files they already have (M-015): Slurm, Blazar, ColdFront, Waldur.

A file gives past use and a *proposed* calendar: nothing is stored, and nothing is sold from it until a seat bids.
Whole files are refused only when they are not of their format; single rows that cannot be read are skipped and listed.

    Slurm      sacct --parsable2 with JobID, Start, End, AllocTRES, Partition, State, Account; local times, so the
               cluster's time zone is asked for
    Blazar     GET /v1/leases as JSON; times are UTC
    ColdFront  allocations of its REST plug-in as JSON: reserved shares, no times
    Waldur     GET /api/marketplace-component-usages/ as JSON: unit-hours per component and month, no hours
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marketplace.errors import BadInput, BadLines

BYTES_MAX = 200_000_000
HOURS_PER_WEEK = 168
SKIPPED_TOLD = 50
SLURM_COLUMNS = ("JobID", "Start", "End", "AllocTRES", "Partition", "State", "Account")
GPU = re.compile(r"(?:^|,)gres/gpu=(\d+)")
TYPED_GPU = re.compile(r"(?:^|,)gres/gpu:([\w.-]+)=(\d+)")
CPU = re.compile(r"(?:^|,)cpu=(\d+)")


@dataclass(frozen=True)
class Span:
    """So many units of one resource, busy from one instant until another (UTC)."""

    resource: str
    units: int
    starts_at: datetime
    ends_at: datetime


@dataclass
class Imported:
    """What a file said: busy spans, reserved units, unit-hours without times, and what could not be read."""

    kind: str
    spans: list[Span] = field(default_factory=list)
    reserved: dict[str, int] = field(default_factory=dict)  # resource -> units that researchers keep
    unit_hours: dict[tuple[str, str], int] = field(default_factory=dict)  # (resource, month) -> unit-hours
    rows: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)  # (row, why)
    unknown_columns: list[str] = field(default_factory=list)

    def resources(self) -> list[str]:
        """Every resource the file speaks of."""
        names = {s.resource for s in self.spans} | set(self.reserved) | {name for name, _ in self.unit_hours}
        return sorted(names)


@dataclass(frozen=True)
class Proposal:
    """A week of sellable units for one resource, as spans of hours from Monday 00:00 UTC, and how busy it was."""

    resource: str
    capacity_units: int
    kept_units: int  # carve-out and reserved shares
    spans: list[tuple[int, int, int]]  # start hour, end hour, units
    busy_unit_hours: int
    weeks: int

    @property
    def sellable_unit_hours(self) -> int:
        return sum((end - start) * units for start, end, units in self.spans)


def read_export(text: str, *, kind: str, time_zone: str = "") -> Imported:
    """Read one export. Raises BadInput for an unknown kind or zone, BadLines for a file that is not of its format."""
    if kind not in READERS:
        raise BadInput(f"A format is one of {', '.join(READERS)}.", field="kind")
    return READERS[kind](text, time_zone)


# -- the four formats --------------------------------------------------------------------------------------------------


def _read_slurm(text: str, time_zone: str) -> Imported:
    zone = _zone(time_zone)
    lines = text.lstrip("\ufeff").splitlines()
    reader = csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE)
    header = next(reader, [])
    missing = [name for name in SLURM_COLUMNS if name not in header]
    if missing:
        raise BadLines([(1, name, "This column is missing: use sacct --parsable2 --format=" + ",".join(SLURM_COLUMNS))
                        for name in missing], rows="file")  # fmt: skip
    found = Imported("slurm", unknown_columns=[name for name in header if name and name not in SLURM_COLUMNS])
    place = {name: header.index(name) for name in SLURM_COLUMNS}
    for number, cells in enumerate(reader, start=2):
        if len(cells) < len(header):
            if cells:
                found.rows += 1
                found.skipped.append((number, f"{len(cells)} values for {len(header)} columns"))
            continue
        if "." in cells[place["JobID"]]:  # a step of a job that has its own row
            continue
        found.rows += 1
        _slurm_job(number, {name: cells[at] for name, at in place.items()}, zone, found)
    return found


def _slurm_job(number: int, job: Mapping[str, str], zone: ZoneInfo, found: Imported) -> None:
    if job["Start"] in ("Unknown", "None", ""):
        return  # it never ran
    if job["End"] in ("Unknown", ""):
        found.skipped.append((number, "still running when exported"))
        return
    try:
        start, end = (_local(job[name], zone) for name in ("Start", "End"))
    except ValueError:
        found.skipped.append((number, "a time that cannot be read"))
        return
    if end < start:
        found.skipped.append((number, "ends before it starts"))
        return
    tres = job["AllocTRES"]
    typed, plain, cpus = TYPED_GPU.search(tres), GPU.search(tres), CPU.search(tres)
    if typed:
        found.spans.append(Span(f"gpu:{typed[1]}", int(typed[2]), start, end))
    elif plain:
        found.spans.append(Span(f"gpu ({job['Partition']})", int(plain[1]), start, end))
    elif cpus:
        found.spans.append(Span(f"cpu ({job['Partition']})", int(cpus[1]), start, end))
    else:
        found.skipped.append((number, "no GPU or CPU in AllocTRES"))


def _local(text: str, zone: ZoneInfo) -> datetime:
    """A local time as UTC. Of the hour that a clock passes twice the first is meant, as Slurm does not say."""
    return _in_utc(datetime.fromisoformat(text).replace(tzinfo=zone))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            "Slurm writes local times: name the cluster's time zone, such as Europe/Berlin.", field="time_zone"
        ) from error


def _read_blazar(text: str, _: str) -> Imported:
    found = Imported("blazar")
    for number, lease in _objects(text, "leases"):
        found.rows += 1
        if lease.get("status") in ("ERROR", "DELETED"):
            continue
        try:
            start, end = (_utc(str(lease[name])) for name in ("start_date", "end_date"))
            held = [(str(r["resource_type"]), int(r.get("max") or r.get("amount") or 1)) for r in lease["reservations"]]
        except (KeyError, TypeError, ValueError) as error:
            found.skipped.append((number, f"cannot be read: {type(error).__name__} {error}"[:80]))
            continue
        if end < start:
            found.skipped.append((number, "ends before it starts"))
            continue
        found.spans += [Span(kind, units, start, end) for kind, units in held]
    return found


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text.strip().replace(" ", "T"))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else _in_utc(at)


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:  # the first or the last hours of the calendar
        raise ValueError(str(error)) from None


def _read_coldfront(text: str, _: str) -> Imported:
    found = Imported("coldfront")
    for number, allocation in _objects(text, None):
        found.rows += 1
        resource, attributes = allocation.get("resource"), allocation.get("attributes")
        if not isinstance(resource, dict) or not isinstance(attributes, dict):
            found.skipped.append((number, "no resource or attributes"))
            continue
        if allocation.get("status") != "Active":
            continue
        units = [_count(value) for name, value in attributes.items() if "gpu" in name.lower()]
        if not units or None in units:
            found.skipped.append((number, "no attribute with a whole number of GPUs"))
            continue
        name = str(resource.get("name"))
        found.reserved[name] = found.reserved.get(name, 0) + sum(n for n in units if n)
    return found


def _count(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else None


def _read_waldur(text: str, _: str) -> Imported:
    found = Imported("waldur")
    for number, usage in _objects(text, None):
        found.rows += 1
        try:
            month = str(usage["billing_period"])[:7]
            hours = float(usage["usage"])
            unit = str(usage["measured_unit"]).lower()
            name = f"{usage['offering_name']}: {usage['type']}"
        except (KeyError, TypeError, ValueError) as error:
            found.skipped.append((number, f"cannot be read: {type(error).__name__} {error}"[:80]))
            continue
        if "hour" not in unit or hours < 0 or hours != hours or hours > 10**12:
            found.skipped.append((number, f"is not in hours: {unit}"[:80]))
            continue
        found.unit_hours[name, month] = found.unit_hours.get((name, month), 0) + round(hours)
    return found


def _objects(text: str, under: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON list, or of the list `under` a name, with their place from 1."""
    try:
        read = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise BadLines([(line, "file", "This is no JSON.")], rows="file") from error
    rows = read.get(under) if under and isinstance(read, dict) else read
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        what = f"an object with a list of {under}" if under else "a list of objects"
        raise BadLines([(1, "file", f"The export is {what}.")], rows="file")
    return iter(enumerate(rows, start=1))


READERS: Mapping[str, Callable[[str, str], Imported]] = {
    "slurm": _read_slurm, "blazar": _read_blazar, "coldfront": _read_coldfront, "waldur": _read_waldur,
}  # fmt: skip


# -- what could be sold ------------------------------------------------------------------------------------------------


def propose(imported: Imported, *, resource: str, capacity_units: int, carve_out_ppm: int) -> Proposal:
    """Propose a week: capacity less the carve-out, less reserved shares, less the most that was ever busy in that hour.

    The carve-out is rounded up. Raises BadInput for a capacity or share that cannot be, or a resource not in the file.
    """
    if isinstance(capacity_units, bool) or not isinstance(capacity_units, int) or not 1 <= capacity_units <= 2**20:
        raise BadInput("A capacity is 1 to 1,048,576 units.", field="capacity_units")
    if isinstance(carve_out_ppm, bool) or not isinstance(carve_out_ppm, int) or not 0 <= carve_out_ppm <= 10**6:
        raise BadInput("A carve-out is a share from 0 to 100 %.", field="carve_out")
    if resource not in imported.resources():
        raise BadInput("The file does not speak of that resource.", field="resource")
    kept = -(-capacity_units * carve_out_ppm // 10**6) + imported.reserved.get(resource, 0)
    busy, hours, weeks = _busy_by_hour([s for s in imported.spans if s.resource == resource])
    free = [max(0, capacity_units - kept - busy[hour]) for hour in range(HOURS_PER_WEEK)]
    told = sum(n for (name, _), n in imported.unit_hours.items() if name == resource)
    return Proposal(resource, capacity_units, kept, _runs(free), hours + told, weeks)


def _busy_by_hour(spans: Iterable[Span]) -> tuple[list[int], int, int]:
    """The most units ever busy at once in each hour of the week, unit-hours in all (rounded up), and weeks seen.

    A sweep over starts and ends; only hours in which something changes are touched one by one.
    """
    changes: dict[datetime, int] = defaultdict(int)
    seconds = 0
    for span in spans:
        changes[span.starts_at] += span.units
        changes[span.ends_at] -= span.units
        seconds += span.units * int((span.ends_at - span.starts_at).total_seconds())
    peak = [0] * HOURS_PER_WEEK
    times = sorted(changes)
    units = 0
    for at, until in pairwise(times):
        units += changes[at]
        if units:
            _raise(peak, at, until, units)
    weeks = -(-int((times[-1] - times[0]).total_seconds()) // (HOURS_PER_WEEK * 3600)) if times else 0
    return peak, -(-seconds // 3600), weeks


def _raise(peak: list[int], at: datetime, until: datetime, units: int) -> None:
    """Let every hour that `at` to `until` touches hold at least `units`; a whole week touches all."""
    first = at.replace(minute=0, second=0, microsecond=0)
    hours = min(HOURS_PER_WEEK, -(-int((until - first).total_seconds()) // 3600))
    begin = first.weekday() * 24 + first.hour
    for hour in range(begin, begin + max(1, hours)):
        peak[hour % HOURS_PER_WEEK] = max(peak[hour % HOURS_PER_WEEK], units)


def _runs(free: list[int]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    for hour, units in enumerate(free):
        if runs and runs[-1][1] == hour and runs[-1][2] == units:
            runs[-1] = (runs[-1][0], hour + 1, units)
        elif units:
            runs.append((hour, hour + 1, units))
    return runs


def hour_words(hour: int) -> str:
    """Say an hour of the week: Mon 00:00. The end of the week is Mon 00:00 again."""
    return f"{(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour)):%a %H:%M}"
