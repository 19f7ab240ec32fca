"""The workload map (M-008): a pasted list or CSV, placed on latency x privacy, each line one click from a demand.

A list is read as a whole: every mistake is told by line and column, and one mistake places nothing. Nothing is stored.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from marketplace.catalogue.models import ResourceClass, SlaPreset, Vantage, Window, ZoneMember
from marketplace.catalogue.selectors import zone_countries
from marketplace.compliance.models import DataClass
from marketplace.compliance.rules import list_all_data_classes
from marketplace.errors import BadLines
from marketplace.insights.drawing import usd_text
from marketplace.parties.models import Party
from pricing.errors import EstimateError
from pricing.workloads import QUADRANTS, Data, Placement, Workload, check, classes_that_hold, place

LINES_MAX, BYTES_MAX = 1_000, 1_000_000
COLUMNS = ("name", "units", "data_class", "hours_per_week", "latency_ms", "shape", "zone", "memory_gib",
           "present_usd_per_year")  # fmt: skip
WHOLE = ("units", "hours_per_week", "latency_ms", "memory_gib", "present_usd_per_year")
REQUIRED = ("name", "units", "data_class", "hours_per_week")
QUADRANT_WORDS = {
    "tight-private": ("Near and private", "mesh"),
    "tight-open": ("Near and open", "hybrid"),
    "loose-private": ("Patient and private", "hybrid, mesh for restricted data"),
    "loose-open": ("Patient and open", "central"),
}


class LineError(NamedTuple):
    """What is wrong in one place of a list; `line` counts from 1, as an editor does."""

    line: int
    column: str
    sentence: str


@dataclass(frozen=True)
class Placed:
    """One placed workload with what its demand form is filled with."""

    placement: Placement
    form: dict[str, Any]


def read_list(text: str, classes: Mapping[str, Data]) -> list[tuple[int, Workload]]:
    """Read a pasted list or CSV as (line, workload): comma, semicolon or tab, with or without a header line.

    Raises BadLines with every mistake. Columns may be left out at the end, and stand in any order under a header.
    """
    if len(text.encode()) > BYTES_MAX:
        raise BadLines([LineError(1, "list", "A list is at most 1 MB.")], rows="workloads")
    if "\x00" in text:
        raise BadLines([LineError(1, "list", "A list is text; this holds NUL bytes.")], rows="workloads")
    rows = _rows(text)
    if not rows:
        raise BadLines([LineError(1, "list", "The list is empty: write one workload per line.")], rows="workloads")
    columns, rows = _columns(rows)
    if len(rows) > LINES_MAX:
        too_long = LineError(rows[LINES_MAX][0], "list", f"A list is at most {LINES_MAX:,} lines.")
        raise BadLines([too_long], rows="workloads")
    errors: list[LineError] = []
    found = [(line, workload) for line, cells in rows if (workload := _workload(line, cells, columns, errors, classes))]
    errors += _doubled(found)
    if not found and not errors:
        errors.append(LineError(1, "list", "There is a header and no workload under it."))
    if errors:
        raise BadLines(sorted(errors, key=lambda e: (e.line, e.column)), rows="workloads")
    return found


def _rows(text: str) -> list[tuple[int, list[str]]]:
    lines = [
        (number, line) for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]  # fmt: skip
    delimiter = max("\t;,", key=lines[0][1].count) if lines else ","
    rows = []
    for number, line in lines:
        cells = next(csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True))
        rows.append((number, [cell.strip() for cell in cells]))
    return rows


def _columns(rows: list[tuple[int, list[str]]]) -> tuple[tuple[str, ...], list[tuple[int, list[str]]]]:
    """Take the header off, when there is one; an unknown or doubled column is named."""
    line, cells = rows[0]
    names = tuple(cell.lower().replace(" ", "_") for cell in cells)
    if "name" not in names:
        return COLUMNS, rows
    wrong = [LineError(line, n or "header", f"There is no such column; known: {', '.join(COLUMNS)}.")
             for n in names if n not in COLUMNS]  # fmt: skip
    wrong += [LineError(line, n, "This column stands twice.") for n in COLUMNS if names.count(n) > 1]
    wrong += [LineError(line, n, "This column is missing.") for n in REQUIRED if n not in names]
    if wrong:
        raise BadLines(wrong, rows="workloads")
    return names, rows[1:]


def _workload(
    line: int, cells: list[str], columns: tuple[str, ...], errors: list[LineError], classes: Mapping[str, Data]
) -> Workload | None:  # fmt: skip
    if len(cells) > len(columns):
        errors.append(LineError(line, "list", f"{len(cells)} values for {len(columns)} columns."))
        return None
    given: dict[str, Any] = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    before = len(errors)
    errors += [LineError(line, name, "A value is missing here.") for name in REQUIRED if name not in given]
    for name in WHOLE:
        if name in given:
            plain = given[name].replace("_", "").replace("'", "")
            if plain.isascii() and plain.isdigit() and len(plain) <= 13:
                given[name] = int(plain)
            else:
                errors.append(LineError(line, name, "Write a whole number, without unit or separators."))
    if len(errors) > before:
        return None
    for name in ("data_class", "shape"):
        if name in given:
            given[name] = given[name].lower()
    if "zone" in given:
        given["zone"] = given["zone"].upper()
    workload = Workload(**given)
    try:
        check(workload, classes=classes)
    except EstimateError as error:
        errors.append(LineError(line, str(error.facts["field"]), str(error)))
        return None
    return workload


def _doubled(found: Iterable[tuple[int, Workload]]) -> list[LineError]:
    """A name is the demand's reference later, and a reference is used once."""
    first: dict[str, int] = {}
    errors = []
    for line, workload in found:
        if workload.name in first:
            errors.append(LineError(line, "name", f"Line {first[workload.name]} has the same name."))
        first.setdefault(workload.name, line)
    return errors


def place_list(text: str, *, party: Party, on: date) -> list[Placed]:
    """Read a list and place every line for `party`. Raises BadLines."""
    found = read_list(text, known_data(list_all_data_classes()))
    return place_workloads(found, party=party, on=on)


def place_workloads(found: list[tuple[int, Workload]], *, party: Party, on: date) -> list[Placed]:
    """Place (line, workload) pairs for `party`. Raises BadLines where a zone or memory size names nothing."""
    catalogue = _Catalogue.read(party, on)
    errors = [error for line, workload in found if (error := catalogue.fault(line, workload))]
    if errors:
        raise BadLines(errors, rows="workloads")
    placements = [_placed(line, workload, catalogue) for line, workload in found]
    return [Placed(placement, catalogue.form_of(placement)) for placement in placements]


def known_data(rows: Iterable[DataClass]) -> dict[str, Data]:
    """What each data class of the catalogue asks for, by its code."""
    return {
        row.code: Data(row.tier_min, is_bound=bool(row.zone_id or row.agreement_id), is_refused=row.is_refused)
        for row in rows
    }  # fmt: skip


def _placed(line: int, workload: Workload, catalogue: _Catalogue) -> Placement:
    try:
        return place(workload, classes=catalogue.data, home_zone=catalogue.home_of(workload))
    except EstimateError as error:
        raise BadLines([LineError(line, str(error.facts["field"]), str(error))], rows="workloads") from error


@dataclass(frozen=True)
class _Catalogue:
    """What the market knows, read once per list."""

    zones: Mapping[str, set[str]]
    home_zone: str
    memory: Mapping[str, int]
    presets: list[SlaPreset]
    vantages: list[Vantage]
    country: str
    slots: int
    data: Mapping[str, Data]
    zone_of_data: Mapping[str, str]  # data class -> the zone that it may not leave

    @classmethod
    def read(cls, party: Party, on: date) -> _Catalogue:
        codes = ZoneMember.objects.order_by().values_list("zone_id", flat=True).distinct()
        zones = {code: zone_countries(code, on) for code in codes}
        classes = list_all_data_classes()
        window = Window.objects.filter(state="COLLECTING").order_by("demand_closes_at", "number").first()
        return cls(
            zones=zones, home_zone=home_zone_of(party.country, zones),
            memory=dict(ResourceClass.objects.values_list("code", "mem_bytes")),
            presets=list(SlaPreset.objects.all()), vantages=list(Vantage.objects.all()), country=party.country,
            slots=window.slots if window else 168, data=known_data(classes),
            zone_of_data={row.code: row.zone_id for row in classes if row.zone_id},
        )  # fmt: skip

    def fault(self, line: int, workload: Workload) -> LineError | None:
        if workload.zone and not self.zones.get(workload.zone):
            return LineError(line, "zone", f"There is no such zone; known: {', '.join(sorted(self.zones))}.")
        bound = self.zone_of_data.get(workload.data_class)
        if bound and workload.zone and not self.zones[workload.zone] <= self.zones.get(bound, set()):
            return LineError(line, "zone", f"{workload.data_class} data may not leave {bound}; this zone does.")
        if not classes_that_hold(workload.memory_gib, self.memory):
            return LineError(line, "memory_gib", "No resource class holds that much per unit.")
        return None

    def home_of(self, workload: Workload) -> str:
        """The buyer's own zone, or where the data class may go when that reaches beyond it."""
        bound = self.zone_of_data.get(workload.data_class)
        inside = self.home_zone and bound and self.zones[self.home_zone] <= self.zones.get(bound, set())
        return bound if bound and not inside else self.home_zone

    def form_of(self, placement: Placement) -> dict[str, Any]:
        """Return what the demand form is filled with; the buyer still chooses what the list did not say."""
        workload = placement.workload
        named = classes_that_hold(workload.memory_gib, self.memory) if workload.memory_gib else []
        sla = next((s for s in self.presets if s.availability_bps >= placement.sla_bps), None)
        return {
            "reference": workload.name, "kind": placement.kind, "accepted_classes": named,
            "quantity_units": workload.units, "start_slot": 0, "end_slot": min(workload.hours_per_week, self.slots),
            "price_limit_micros": usd_text(placement.price_limit_micros, 4).lstrip("$").replace(",", "")
            if placement.price_limit_micros else "",
            "is_one_site": "on" if placement.is_one_site else "", "zone_code": placement.zone,
            "control_zone_code": placement.control_zone, "tier_min": placement.tier, "data_class": workload.data_class,
            "sla_code": sla.code if sla else "", "latency_ms_max": workload.latency_ms or "",
            "vantage_code": self._vantage(placement) if workload.latency_ms else "",
        }  # fmt: skip

    def _vantage(self, placement: Placement) -> str:
        """The vantage in the buyer's country, else the first inside the zone; none: the buyer chooses."""
        inside = self.zones.get(placement.zone or self.home_zone, set())
        here = [v.code for v in self.vantages if v.country == self.country]
        near = [v.code for v in self.vantages if v.country in inside]
        return next(iter(here or near), "")


def home_zone_of(country: str, zones: Mapping[str, set[str]]) -> str:
    """Return the smallest zone a country is a member of: the Union for Germany, the EEA for Norway. "" for none."""
    around = sorted((len(members), code) for code, members in zones.items() if country in members)
    return around[0][1] if around else ""


def by_quadrant(placed: Iterable[Placed]) -> list[tuple[str, str, str, list[Placed]]]:
    """Return (quadrant, words, route, its workloads) for the four squares, in reading order."""
    rows = list(placed)
    return [(q, *QUADRANT_WORDS[q], [p for p in rows if p.placement.quadrant == q]) for q in QUADRANTS]


