#!/usr/bin/env python3
"""Check the public bundle of a clearing. Plain Python, standard library only: `python3 verify.py DIRECTORY`.

This file shares no code with the engine. From the sealed lines, the rules and the published numbers alone it decides:
are the files the ones that the manifest names; does every award keep every rule, slot, quantity, limit and ask; is each
amount the price times the units; does the dual bound prove that no other allocation could be worth more than the gap;
and has every line that was not filled exactly one reason, and a true one.

For any lam, rho >= 0 and 0 <= s <= 1, with mu = the least lam among the signatures that a demand accepts,

    g = sum_divisible q sum_t (v' - mu)^+  +  sum_windows q (v'L - sum mu)^+     a choice counts its best member alone,
      + sum_bids o sum_t (lam - c - rho)^+                                       a line in one site its best site,
      + sum_bids_with_minimum o (sum lam - cL - rho L)^+                         v' = v - s v for the Foundation, else v
      + sum_caps K rho  +  B s        is no less than the welfare of any allocation that keeps the rules.

`bound` is g over the whole book at the duals of the relaxation. `settled_bound` is g at the prices over the book that
was left once lines that no price can ration were decided: it proves that everybody else got what the prices promise.
Not decided: whether this is *the* result that the rules call for, among several that are equally good or that differ
inside the gap; that takes a replay (`manage.py verify clearing DIRECTORY --replay`), which needs the engine.

Money is micro-USD, prices are per unit-hour, an ask is quality-adjusted: ask * 10000 / quality, rounded up to the tick.
A million lines take under a minute and a gigabyte: the three large files are read line by line into columns, and of
such a bundle a second process works out the money while the first follows the units.
"""

import hashlib
import heapq
import io
import itertools
import json
import math
import operator
import os
import re
import signal
import sys
import zipfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

FORMAT, RULE_VERSION = "grove-clearing", 2
TICK, PRICE_MAX, QUANTITY_MAX, SLOTS_MAX, PROBATION_SLOTS = 100, 10**9, 1 << 20, 744, 24
NO_CAPACITY = 10**12  # above the whole value of any demand
MONEY_LIMIT = 1 << 62
WHOLE_LIMIT = 1 << 53  # any JSON reader keeps whole numbers below it exact
GAP_SHARE = 10**9  # the gap of a book that prices can ration is at most this part of the welfare
ONE_MILLION, ONE_BPS = 1_000_000, 10_000
NESTING_MAX = 200
CHUNK = 300  # lines held as text at a time; of more, the garbage collector would make a third of the time
LARGE = 50_000  # lines from which a second process is worth its start
UNREADABLE = "cannot be read"
MANIFEST = "manifest.json"
FILES = ("attributes", "awards", "bids", "demands", "latency", "masks", "prices", "reasons", "requirements")

Row = dict[str, Any]
Grid = list[list[int]]  # [signatures or masks][slots]
Ints: TypeAlias = "array[int]"
Product = tuple[str, str, int]  # resource class, home zone, tier


# -- what is reported --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found; the numbers are recomputed, and 0 where the bundle could not be read."""

    ok: bool
    checks: tuple[Check, ...]
    welfare_micros: int = 0
    bound_micros: int = 0
    gap_micros: int = 0
    awards: int = 0
    losers: int = 0  # lines not filled in full
    losers_without_reason: int = 0
    noncompliant_awards: int = 0
    settled_bound_micros: int = 0
    rejected_in_the_money: int = 0  # lines that no price can ration, left out although the prices suited them
    opportunity_cost_micros: int = 0  # what these would have gained at the published prices
    missed_for_whole_units_micros: int = 0  # the same of other windows, with the units that only fractions would fill

    def failed(self) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if not check.ok)


class Refused(Exception):
    """A check that the bundle does not pass; the sentence names the first offender."""


READING_CHECKS = ("files", "hashes", "lines", "references")  # the others make sense only where all these pass
CLEARING_CHECKS = (
    "input_hash", "curves", "masks", "rules", "slots", "quantities", "windows", "minimums", "choices", "sites",
    "balance", "prices", "indicative", "components", "asks", "limits", "amounts", "caps", "budget", "welfare", "bound",
    "settled_bound", "gap", "exchanges", "reasons_complete", "reasons_true",
)
# What follows the money, and opens no file: a second process can do it.
MONEY_CHECKS = frozenset((
    "input_hash", "curves", "rules", "prices", "components", "asks", "limits", "amounts", "caps", "budget", "welfare",
    "bound", "settled_bound", "gap", "exchanges",
))
MONEY_FIGURES = ("welfare", "bound", "settled_bound", "missed")


def verify_bundle(files: Mapping[str, bytes]) -> Report:
    """Run every check. Never raises on a bad bundle: what cannot be read is a failed check."""
    return _verify(Source(list(files), lambda name: io.BytesIO(files[name])), may_fork=False)


def verify_path(path: Path) -> Report:
    """The same for a directory or a .zip, read as a stream, by two processes where the bundle is large.

    Raises OSError or BadZipFile where there is none.
    """
    if path.is_dir():
        names = [entry.name for entry in path.iterdir()]
        return _verify(Source(names, lambda name: (path / name).open("rb")), may_fork=True)
    with zipfile.ZipFile(path) as archive:
        return _verify(Source(archive.namelist(), archive.open), may_fork=True)


def read_files(path: Path) -> dict[str, bytes]:
    """The files of a directory or a .zip by name. Raises OSError or BadZipFile where there is none."""
    if path.is_dir():
        return {entry.name: entry.read_bytes() for entry in path.iterdir()}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _verify(source: "Source", *, may_fork: bool) -> Report:
    bundle = Bundle(source)
    checks = list(_until_one_fails(bundle, READING_CHECKS))
    if not checks[-1].ok:
        return Report(False, tuple(checks))
    found = _checked_by_two(bundle) if may_fork and bundle.is_large and hasattr(os, "fork") else {}
    checks += [found[name] if name in found else _run(bundle, name) for name in CLEARING_CHECKS]
    if any(not check.ok and check.detail.startswith(UNREADABLE) for check in checks):
        return Report(False, tuple(checks))
    return bundle.report(tuple(checks))


def _until_one_fails(bundle: "Bundle", names: Iterable[str]) -> Iterator[Check]:
    for name in names:
        check = _run(bundle, name)
        yield check
        if not check.ok:
            return


def _run(bundle: "Bundle", name: str) -> Check:
    try:
        return Check(name, True, getattr(bundle, f"check_{name}")())
    except Refused as refusal:
        return Check(name, False, str(refusal))
    except Exception as problem:  # whatever a hostile bundle provokes is a failed check, never a crash
        return Check(name, False, f"{UNREADABLE}: {problem!r}")


def _checked_by_two(bundle: "Bundle") -> dict[str, Check]:
    """The checks by name, those of the money and their figures from a copy of this process.

    A copy that ends without its whole answer has decided nothing: its checks are missing here, and left to the caller.
    """
    reading, writing = os.pipe()
    copy = os.fork()
    if not copy:
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as pipe:
                json.dump(_money(bundle), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            found = {name: _run(bundle, name) for name in CLEARING_CHECKS if name not in MONEY_CHECKS}
            answer = pipe.read()
    except BaseException:  # somebody is tired of waiting
        os.kill(copy, signal.SIGKILL)
        raise
    finally:
        os.waitpid(copy, 0)
    try:
        told, figures = json.loads(answer)
    except ValueError:
        return found
    bundle.__dict__.update(figures)
    return found | {name: Check(name, ok, detail) for name, ok, detail in told}


def _money(bundle: "Bundle") -> tuple[list[tuple[str, bool, str]], dict[str, int]]:
    """The checks of the money, and the figures that they found."""
    checks = [_run(bundle, name) for name in CLEARING_CHECKS if name in MONEY_CHECKS]
    figures = {name: bundle.__dict__[name] for name in MONEY_FIGURES if name in bundle.__dict__}
    return [(check.name, check.ok, check.detail) for check in checks], figures


def _refuse(sentence: str) -> NoReturn:
    raise Refused(sentence)


# -- where the files come from -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The files of a bundle, wherever they lie."""

    names: Sequence[str]
    open: Callable[[str], IO[bytes]]


# -- the form of each file: one canonical text for one content ---------------------------------------------------------

WHOLE, POSITIVE = rb"(0|[1-9][0-9]{0,15})", rb"([1-9][0-9]{0,15})"
NAME, HEX = rb'"([A-Za-z0-9._:-]{1,120})"', rb'"([0-9a-f]{16})"'
KIND, TRUE = rb'"(divisible|window|block)"', rb"(true)"
KINDS = {b"divisible": 0, b"window": 1, b"block": 2}
DIVISIBLE, WINDOW, BLOCK = range(3)
STANDINGS = ("REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED")

# (field, form, column) in the order of the text; a field at its default is left out.
SCHEMAS: dict[str, tuple[tuple[str, bytes, str], ...]] = {
    "demands": (
        ("accepted_rank", WHOLE, "rank"), ("choice", NAME, "choice"), ("curve", NAME, "curve"),
        ("end_slot", WHOLE, "end"), ("id", NAME, "ids"), ("is_foundation", TRUE, "is_foundation"),
        ("is_one_site", TRUE, "is_one_site"), ("kind", KIND, "kind"), ("minimum_units", POSITIVE, "minimum"),
        ("parent", NAME, "parent"), ("price_limit_micros", WHOLE, "price"), ("quantity_units", WHOLE, "quantity"),
        ("requirement", HEX, "requirement"), ("start_slot", WHOLE, "start"),
    ),
    "bids": (
        ("accepted_rank", WHOLE, "rank"), ("attributes", HEX, "attributes"), ("curve", NAME, "curve"),
        ("end_slot", WHOLE, "end"), ("id", NAME, "ids"), ("minimum_units", POSITIVE, "minimum"),
        ("parent", NAME, "parent"), ("price_ask_micros", WHOLE, "price"), ("quality_bps", WHOLE, "quality"),
        ("quantity_units", WHOLE, "quantity"), ("start_slot", WHOLE, "start"),
    ),
    "awards": (
        ("amount_micros", WHOLE, "amount"), ("bid_id", NAME, "bid"), ("demand_id", NAME, "demand"),
        ("end_slot", WHOLE, "end"), ("start_slot", WHOLE, "start"), ("units", WHOLE, "units"),
    ),
}
HAVE_DEFAULTS = ("choice", "curve", "is_foundation", "is_one_site", "minimum_units")
DEMAND_HASHED = (
    "kind", "quantity", "start", "end", "price", "rank", "minimum", "requirement", "parent", "choice", "curve",
    "is_one_site", "is_foundation",
)
BID_HASHED = ("quantity", "start", "end", "price", "quality", "rank", "minimum", "attributes", "parent", "curve")
TEXT_COLUMNS = ("parent", "choice", "curve", "requirement", "attributes")  # places in a sorted table, -1 without


def _pattern(schema: Sequence[tuple[str, bytes, str]]) -> re.Pattern[bytes]:
    parts = []
    for number, (name, form, _) in enumerate(schema):
        part = b'%s"%s":%s' % (b"," if number else b"{", name.encode(), form)
        parts.append(b"(?:%s)?" % part if name in HAVE_DEFAULTS else part)
    return re.compile(b"".join(parts) + rb"}\n")


PATTERNS = {name: _pattern(schema) for name, schema in SCHEMAS.items()}
FROM_TEXT: dict[bytes, Callable[[bytes], int]] = {
    WHOLE: int, POSITIVE: lambda text: int(text or b"0"), TRUE: bool, KIND: KINDS.__getitem__,
}

# Shapes of the small tables: int is a whole number, str a printable text, a tuple means any of, a list any number of.
ID, KEY = re.compile(r"[A-Za-z0-9._:-]{1,120}"), re.compile(r"[0-9a-f]{16}")
DIGEST, COUNTRY = re.compile(r"[0-9a-f]{64}"), re.compile(r"[A-Z]{2}")
COUNTRIES = ([COUNTRY], None)
PRODUCT = "product"  # [text, text, whole number]
FRACTION = "fraction"  # [numerator, denominator], from 0 to 1
ATTRIBUTES = {
    "resource_class": str, "country": COUNTRY, "parent_country": COUNTRY, "operator_country": COUNTRY,
    "keys_country": COUNTRY, "tier": int, "site": str, "sla_bps": int, "standing": STANDINGS,
}
REQUIREMENT = {
    "accepted_classes": [str], "countries": COUNTRIES, "control_countries": COUNTRIES, "tier_min": int,
    "vantage": (str, None), "latency_ms_max": (int, None), "sla_bps_min": int,
}
MASK_ROW = ({"attributes": KEY, "parent": (ID, None), "signature": KEY},
            {"accepts": [KEY], "emptied_by": (str, None), "is_long": (True, False), "parent": (ID, None),
             "requirement": KEY})
PARTS = ("base_micros", "scarcity_micros", "locality_micros", "tier_micros", "sla_micros")
PRICE_ROW = {
    "signature": KEY, "price_micros": [(int, None)], "dual_micros": [int], "relaxed_micros": ([int], None),
    "best_limit_micros": [(int, None)], "best_ask_micros": [(int, None)], **{part: [(int, None)] for part in PARTS},
}
MANIFEST_SHAPE = {
    "format": str, "rule_version": int, "window": str, "slots": int, "input_hash": DIGEST,
    "parameters": {str: int}, "rules": {"concentration_ppm": (int, None), "foundation_budget_micros": (int, None)},
    "home_zones": {str: str},
    "caps": [{"parent": ID, "product": PRODUCT, "units_max": int, "rho_micros": int, "rho_relaxed_micros": int,
              "is_held": (True, False)}],
    "caps_not_applicable": [PRODUCT], "sigma": FRACTION, "welfare_micros": int,
    "bound_micros": int, "gap_micros": int, "settled_bound_micros": int, "paid_micros": int,
    "counts": {"demands": int, "bids": int, "awards": int, "reasons": int}, "files": {str: DIGEST},
}
PAPERS, TARGETS = {"papers": [ID]}, {"targets": {str: int}}  # each left out where there is none
PROMISES: tuple[dict[str, object], ...] = ({}, dict(PAPERS), dict(TARGETS), {**PAPERS, **TARGETS})
TARGET = re.compile(r"[a-z0-9_]{1,60}_(max|min)")  # the bound is the most, or the least, that may be
TABLE_SHAPES: dict[str, object] = {
    "requirements": tuple({"requirement": KEY, **REQUIREMENT, **more} for more in PROMISES),
    "attributes": tuple({"attributes": KEY, **ATTRIBUTES, **more} for more in PROMISES),
    "latency": {"latency_ms": int, "site": str, "vantage": str}, "masks": MASK_ROW, "prices": PRICE_ROW,
}
PARAMETERS = {"tick_micros": TICK, "price_max_micros": PRICE_MAX, "quantity_max_units": QUANTITY_MAX,
              "probation_slots_max": PROBATION_SLOTS}


def _fits(value: object, shape: object) -> bool:
    if shape is int:  # first, and lists of it without a call each: nearly all that is asked
        return type(value) is int and 0 <= value < WHOLE_LIMIT
    if shape is PRODUCT:
        return type(value) is list and len(value) == 3 and all(map(_fits, value, (str, str, int)))
    if shape is FRACTION:
        return _fits(value, [int]) and isinstance(value, list) and len(value) == 2 and value[0] <= value[1] > 0
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, list):
        return type(value) is list and _all_fit(value, shape[0])
    if isinstance(shape, dict):
        if type(value) is not dict or (str not in shape and value.keys() != shape.keys()):
            return False
        return all(_fits(one, shape[str] if str in shape else shape[key]) for key, one in value.items())
    if isinstance(shape, re.Pattern):
        return type(value) is str and shape.fullmatch(value) is not None
    if shape is str:
        return type(value) is str and 0 < len(value) <= 120 and value.isprintable()
    return type(value) is type(shape) and value == shape


def _all_fit(values: list[object], shape: object) -> bool:
    whole = shape is int or shape == (int, None)
    return all((whole and type(one) is int and 0 <= one < WHOLE_LIMIT) or _fits(one, shape) for one in values)


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text} is not an integer")


def _parse(line: bytes, shape: object, where: str) -> Any:
    """The value of one line with its line feed. A text that nests without end could overrun the C stack: refused."""
    depth = itertools.accumulate(1 if bracket in b"[{" else -1 for bracket in re.findall(rb"[\[\]{}]", line))
    if max(depth, default=0) > NESTING_MAX:
        _refuse(f"{where} nests too deeply")
    value = json.loads(line.decode(), parse_float=_no_float, parse_constant=_no_float)
    if _canonical(value) + b"\n" != line:
        _refuse(f"{where} is not canonical JSON")
    if not _fits(value, shape):
        _refuse(f"{where} has an unknown field, lacks one, or holds what is no value of it")
    return value


# -- lines in columns ------------------------------------------------------------------------------------------------


def _longs() -> Ints:
    return array("q")


def _ints() -> Ints:
    return array("i")


@dataclass
class Side:
    """All lines of one side, one column per field. Texts are numbered by their place in a sorted table."""

    ids: list[bytes] = field(default_factory=list)
    rank: Ints = field(default_factory=_longs)
    quantity: Ints = field(default_factory=_longs)
    start: Ints = field(default_factory=_longs)
    end: Ints = field(default_factory=_longs)
    price: Ints = field(default_factory=_longs)  # limit or ask as handed in
    minimum: Ints = field(default_factory=_longs)
    parent: Ints = field(default_factory=_longs)
    curve: Ints = field(default_factory=_longs)
    requirement: Ints = field(default_factory=_longs)  # demands only, as the four below
    kind: Ints = field(default_factory=_longs)
    choice: Ints = field(default_factory=_longs)
    is_one_site: Ints = field(default_factory=_longs)
    is_foundation: Ints = field(default_factory=_longs)
    attributes: Ints = field(default_factory=_longs)  # bids only, as the one below
    quality: Ints = field(default_factory=_longs)

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, i: int) -> str:
        return self.ids[i].decode()

    @cached_property
    def place(self) -> dict[bytes, int]:
        return {name: i for i, name in enumerate(self.ids)}

    @cached_property
    def ask(self) -> Ints:
        """ask * 10000 / quality, rounded up to the tick: what competes, and what a price never undercuts."""
        return array("q", [-(-price * ONE_BPS // (quality * TICK)) * TICK
                           for price, quality in zip(self.price, self.quality, strict=True)])

    @cached_property
    def offset(self) -> Ints:
        """Where each line's slots begin in a flat array that keeps one spare place after each line."""
        lengths = (end - start + 1 for start, end in zip(self.start, self.end, strict=True))
        return array("q", itertools.accumulate(lengths, initial=0))

    @cached_property
    def hours(self) -> Ints:
        return array("q", map(operator.sub, self.end, self.start))

    @cached_property
    def quantity_hours(self) -> Ints:
        return array("q", map(operator.mul, self.quantity, self.hours))

    def ranges(self, units: Ints) -> Iterator[Ints]:
        """The units of each line in its slots, from a flat array."""
        for offset, hours in zip(self.offset, self.hours, strict=False):
            yield units[offset:offset + hours]

    def is_whole(self, i: int) -> bool:
        """It takes or gives one number of units over all its slots."""
        return self.kind[i] != DIVISIBLE if self.kind else self.minimum[i] > 0

    def is_indivisible(self, i: int) -> bool:
        """No price alone can ration it: all or none, from a minimum on, one of several, or in one site."""
        return self.minimum[i] > 0 or (bool(self.kind) and (self.choice[i] >= 0 or self.is_one_site[i] > 0))


@dataclass
class Awards:
    """All awards by column; lines by their place."""

    demand: Ints = field(default_factory=_ints)
    bid: Ints = field(default_factory=_ints)
    start: Ints = field(default_factory=_ints)
    end: Ints = field(default_factory=_ints)
    units: Ints = field(default_factory=_ints)
    amount: Ints = field(default_factory=_longs)

    def __len__(self) -> int:
        return len(self.units)

    def runs(self) -> Iterator[tuple[int, int, int, int, int]]:
        return zip(self.demand, self.bid, self.start, self.end, self.units, strict=True)


def _within(side: Side, column: Sequence[int], low: int, high: int, what: str) -> None:
    if column and (min(column) < low or max(column) > high):
        i = next(i for i, value in enumerate(column) if not low <= value <= high)
        _refuse(f"{side.name(i)}: {what} is {column[i]}, not {low} to {high}")


def _none_of(side: Side, offenders: Iterable[int], sentence: str) -> None:
    for i in offenders:
        _refuse(f"{side.name(i)}: {sentence}")


def _keyed(rows: list[Row], name: str) -> dict[str, Row]:
    """Rows by their name, the other fields as facts."""
    keyed = {row[name]: {key: value for key, value in row.items() if key != name} for row in rows}
    return keyed if len(keyed) == len(rows) else _refuse(f"a row of {name} stands twice")


def _name_of(facts: Row) -> str:
    """The head of the SHA-256 of the canonical text."""
    return hashlib.sha256(_canonical(facts)).hexdigest()[:16]


# -- the bundle --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duals:
    """One point at which the bound is evaluated. part / whole is sigma, what the budget takes from limits."""

    lam: Grid  # [signatures][slots]
    rho: list[int]  # [caps + 1]; the last is 0 and stands for a bid without a cap, -1
    part: int
    whole: int


class Cheapest:
    """For each mask, and for each site inside it, the least of a grid over the signatures that it accepts."""

    def __init__(self, grid: Grid, masks: Sequence[Sequence[int]], site_of: Sequence[str]) -> None:
        self.grid, self.masks, self.site_of = grid, masks, site_of
        self.rows: Grid = [self._least(mask) for mask in masks]
        self._sites: dict[int, Grid] = {}

    def _least(self, members: Sequence[int]) -> list[int]:
        return [min(column) for column in zip(*(self.grid[a] for a in members), strict=True)]

    def sites(self, s: int) -> Grid:
        if s not in self._sites:
            members = defaultdict(list)
            for a in self.masks[s]:
                members[self.site_of[a]].append(a)
            self._sites[s] = [self._least(of_site) for of_site in members.values()]
        return self._sites[s]


class Span:
    """Sums and extremes of one row over any range of its slots."""

    def __init__(self, row: list[int]) -> None:
        self.before = list(itertools.accumulate(row, initial=0))  # the sum of all slots before
        self.row, self.least, self.most = row, [row], [row]  # extremes over 1, 2, 4, 8, ... slots from each on
        width = 1
        while 2 * width <= len(row):
            for levels, choose in ((self.least, min), (self.most, max)):
                levels.append(list(map(choose, levels[-1], levels[-1][width:])))
            width *= 2


def _above(span: Span, cost: int, start: int, end: int) -> int:
    """The sum of what lies above a cost in each slot of a range. Most ranges lie on one side of it."""
    level = (end - start).bit_length() - 1
    last, least, most = end - (1 << level), span.least[level], span.most[level]
    if most[start] <= cost and most[last] <= cost:
        return 0
    if least[start] >= cost and least[last] >= cost:
        return span.before[end] - span.before[start] - cost * (end - start)
    return sum([x - cost for x in span.row[start:end] if x > cost])


class Bundle:
    """The parsed files and everything recomputed from them. Each check answers with one sentence or refuses."""

    def __init__(self, source: Source) -> None:
        self.source = source

    @cached_property
    def manifest(self) -> Row:
        parsed: Row = _parse(self._text(MANIFEST), MANIFEST_SHAPE, MANIFEST)
        return parsed

    @cached_property
    def slots(self) -> int:
        slots: int = self.manifest["slots"]
        return slots

    @property
    def is_large(self) -> bool:
        return len(self.demands) + len(self.bids) >= LARGE

    def _text(self, name: str) -> bytes:
        with self.source.open(name) as handle:
            return handle.read()

    def _table(self, name: str) -> list[Row]:
        shape = TABLE_SHAPES[name]
        with self.source.open(f"{name}.jsonl") as handle:
            return [_parse(line, shape, f"{name}.jsonl line {number}") for number, line in enumerate(handle, 1)]

    def _columns(self, name: str) -> Iterator[list[tuple[bytes, ...]]]:
        """The fields of a large file as columns of texts, a few hundred lines at a time."""
        match, number = PATTERNS[name].fullmatch, 0
        with self.source.open(f"{name}.jsonl") as handle:
            while lines := list(itertools.islice(handle, CHUNK)):
                found = [row.groups(b"") for row in map(match, lines) if row]
                if len(found) < len(lines):
                    bad = next(n for n, line in enumerate(lines, number + 1) if not match(line))
                    _refuse(f"{name}.jsonl line {bad} is no canonical line with the fields of its file")
                number += len(lines)
                yield list(zip(*found, strict=True))

    def report(self, checks: tuple[Check, ...]) -> Report:
        """The numbers of the report, each 0 where a failed check left it unknown."""
        def number(of: Callable[[], int]) -> int:
            try:
                return of()
            except Exception:
                return 0

        return Report(
            ok=all(check.ok for check in checks), checks=checks, welfare_micros=number(lambda: self.welfare),
            bound_micros=number(lambda: self.bound), gap_micros=number(lambda: self.bound - self.welfare),
            awards=len(self.awards), losers=number(lambda: self.audit.losers),
            losers_without_reason=number(lambda: self.audit.missing),
            noncompliant_awards=number(lambda: sum(1 for i, j, *_ in self.awards.runs() if not self.is_eligible(i, j))),
            settled_bound_micros=number(lambda: self.settled_bound),
            rejected_in_the_money=number(lambda: self.audit.rejected),
            opportunity_cost_micros=number(lambda: self.audit.opportunity_cost),
            missed_for_whole_units_micros=number(lambda: self.missed),
        )

    # -- the files --------------------------------------------------------------------------------------------------

    def check_files(self) -> str:
        expected = sorted([MANIFEST, *(f"{name}.jsonl" for name in FILES)])
        if sorted(self.source.names) != expected:
            _refuse(f"missing, foreign or repeated files: {sorted(set(self.source.names) ^ set(expected))}")
        if (self.manifest["format"], self.manifest["rule_version"]) != (FORMAT, RULE_VERSION):
            _refuse("another format or rule version")
        if self.manifest["parameters"] != PARAMETERS:
            _refuse("other parameters than those of this rule version")
        if not 1 <= self.slots <= SLOTS_MAX:
            _refuse(f"{self.slots} slots, not 1 to {SLOTS_MAX}")
        return f"{len(expected)} files of rule version {RULE_VERSION}, window {self.manifest['window']}"

    def check_hashes(self) -> str:
        found = {}
        for name in FILES:
            digest = hashlib.sha256()
            with self.source.open(f"{name}.jsonl") as handle:
                while part := handle.read(1 << 20):
                    digest.update(part)
            found[f"{name}.jsonl"] = digest.hexdigest()
        named: Row = self.manifest["files"]
        wrong = sorted(name for name in found.keys() | named.keys() if named.get(name) != found.get(name))
        if wrong:
            _refuse(f"the manifest names other hashes than those of {wrong}")
        return f"bundle hash {hashlib.sha256(self._text(MANIFEST)).hexdigest()}"

    # -- the sealed lines -------------------------------------------------------------------------------------------

    @cached_property
    def _sealed(self) -> tuple[Side, Side, dict[str, list[str]]]:
        """Demands, bids, and the sorted tables that their columns point into."""
        number: dict[str, dict[bytes, int]] = {column: {} for column in TEXT_COLUMNS}
        sides = self._side("demands", number), self._side("bids", number)
        for i, kind in enumerate(sides[0].kind):
            if kind == BLOCK:  # all or nothing: a minimum that goes without saying
                if sides[0].minimum[i]:
                    _refuse(f"{sides[0].name(i)}: a block states a minimum")
                sides[0].minimum[i] = sides[0].quantity[i]
        for column, known in number.items():
            place = array("q", [-1]) * (len(known) + 1)  # the last stands for -1, none
            for index, text in enumerate(sorted(known)):
                place[known[text]] = index
            for side in sides:
                setattr(side, column, array("q", map(place.__getitem__, getattr(side, column))))
        return *sides, {column: [text.decode() for text in sorted(known)] for column, known in number.items()}

    def _side(self, name: str, number: Mapping[str, dict[bytes, int]]) -> Side:
        side = Side()
        for texts in self._columns(name):
            for (_, form, column), values in zip(SCHEMAS[name], texts, strict=True):
                if column == "ids":
                    side.ids.extend(values)
                elif column in number:
                    known = number[column]
                    getattr(side, column).extend([known.setdefault(x, len(known)) if x else -1 for x in values])
                else:
                    getattr(side, column).extend(map(FROM_TEXT[form], values))
        return side

    @cached_property
    def demands(self) -> Side:
        return self._sealed[0]

    @cached_property
    def bids(self) -> Side:
        return self._sealed[1]

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        return self._sealed[2]

    def check_lines(self) -> str:
        """Every number inside its bounds, ids unique and in order, every table named by its content and in use."""
        for side in (self.demands, self.bids):
            if not all(map(operator.lt, side.ids, itertools.islice(side.ids, 1, None))):
                _refuse("ids are not unique and in order")
            _within(side, side.quantity, 1, QUANTITY_MAX, "the quantity")
            _within(side, side.end, 1, self.slots, "the end")
            _within(side, side.price, TICK, PRICE_MAX, "the price")
            _within(side, side.rank, 0, WHOLE_LIMIT - 1, "the rank")
            _none_of(side, (i for i, p in enumerate(side.price) if p % TICK), "a price off the tick")
            _none_of(side, (i for i, (s, e) in enumerate(zip(side.start, side.end, strict=True)) if s >= e),
                     "an empty range of slots")
            _none_of(side, (i for i, (m, q) in enumerate(zip(side.minimum, side.quantity, strict=True)) if m > q),
                     "a minimum above the quantity")
        self._check_kinds()
        _within(self.bids, self.bids.quality, 1, ONE_BPS, "the quality")
        _within(self.bids, self.bids.ask, TICK, PRICE_MAX, "the adjusted ask")
        money = sum(map(operator.mul, map(operator.mul, self.demands.quantity, self.demands.hours), self.demands.price))
        money += sum(map(operator.mul, map(operator.mul, self.bids.quantity, self.bids.hours), self.bids.ask))
        if money >= MONEY_LIMIT:
            _refuse("the money of the book does not fit 62 bits")
        self._check_tables()
        return f"{len(self.demands)} demands, {len(self.bids)} bids, {self.slots} slots"

    def _check_kinds(self) -> None:
        demands, bids = self.demands, self.bids
        for i, kind in enumerate(demands.kind):
            is_indivisible = demands.is_indivisible(i)
            if is_indivisible and (kind == DIVISIBLE or demands.curve[i] >= 0 or demands.is_foundation[i]):
                _refuse(f"{demands.name(i)}: a divisible demand, a price step and a line of the Foundation have no "
                        "minimum, no choice and no single site")
        _none_of(bids, (j for j, m in enumerate(bids.minimum) if m and bids.curve[j] >= 0),
                 "a price step with a minimum")

    def _check_tables(self) -> None:
        for name, rows in (("requirement", self.requirements), ("attributes", self.attributes)):
            if self.texts[name] != list(rows):
                _refuse(f"the table of {name} does not name exactly what the lines use, in order")
            for key, facts in rows.items():
                if _name_of(facts) != key:
                    _refuse(f"the name {key} is not the hash of its {name}")
                tier, sla = ("tier_min", "sla_bps_min") if name == "requirement" else ("tier", "sla_bps")
                if facts[tier] > 3 or facts[sla] > ONE_BPS:
                    _refuse(f"{key}: no such tier or share")
                papers = facts.get("papers")
                if papers is not None and (not papers or papers != sorted(set(papers))):
                    _refuse(f"{key}: papers are named in order, and left out where there is none")
                targets = facts.get("targets")
                if targets is not None and (not targets or not all(map(TARGET.fullmatch, targets))):
                    _refuse(f"{key}: a target is a most or a least, and left out where there is none")
        for key, facts in self.requirements.items():
            for names in (facts["accepted_classes"], facts["countries"], facts["control_countries"]):
                if names is not None and names != sorted(set(names)):
                    _refuse(f"the requirement {key} holds a set out of order")
            if not facts["accepted_classes"] or (facts["latency_ms_max"] is not None and facts["vantage"] is None):
                _refuse(f"the requirement {key} accepts no class, or bounds latency from nowhere")
        if list(self.latency) != sorted(set(self.latency)) or len(self.latency) != len(self._latency_rows):
            _refuse("the measured round trips are not unique and in order")

    @cached_property
    def requirements(self) -> dict[str, Row]:
        return _keyed(self._table("requirements"), "requirement")

    @cached_property
    def attributes(self) -> dict[str, Row]:
        return _keyed(self._table("attributes"), "attributes")

    @cached_property
    def _latency_rows(self) -> list[Row]:
        return self._table("latency")

    @cached_property
    def latency(self) -> dict[tuple[str, str], int]:
        return {(row["vantage"], row["site"]): row["latency_ms"] for row in self._latency_rows}

    def check_curves(self) -> str:
        """The steps of one order, in the order of their ids: limits never rise, asks never fall, all else is alike."""
        count = 0
        for side, alike, sign in (
            (self.demands, ("kind", "start", "end", "requirement", "parent", "is_foundation"), -1),
            (self.bids, ("start", "end", "attributes", "parent", "quality"), 1),
        ):
            last: dict[int, int] = {}
            for i, curve in enumerate(side.curve):
                if curve < 0:
                    continue
                before, count = last.get(curve, i), count + 1
                if sign * (side.price[i] - side.price[before]) < 0:
                    _refuse(f"{side.name(i)}: its curve runs the wrong way")
                if any(getattr(side, name)[i] != getattr(side, name)[before] for name in alike):
                    _refuse(f"{side.name(i)}: differs from the step before in more than units and price")
                last[curve] = i
        return f"{count} price steps run one way"

    def check_input_hash(self) -> str:
        """SHA-256 over the tables as canonical JSON, then per side the ids and each column as little-endian int64."""
        digest = hashlib.sha256(_canonical({
            "slots": self.slots, "rules": self.manifest["rules"], "home_zones": self.manifest["home_zones"],
            "latency": [[vantage, site, ms] for (vantage, site), ms in self.latency.items()],
            "requirements": list(self.requirements.values()), "attributes": list(self.attributes.values()),
            "parents": self.texts["parent"], "choices": self.texts["choice"], "curves": self.texts["curve"],
        }))
        for side, columns in ((self.demands, DEMAND_HASHED), (self.bids, BID_HASHED)):
            digest.update(b"".join(name + b"\n" for name in side.ids))
            for name in columns:
                column = array("q", getattr(side, name))
                if sys.byteorder == "big":
                    column.byteswap()
                digest.update(column)
        if digest.hexdigest() != self.manifest["input_hash"]:
            _refuse("the sealed lines do not give the input hash")
        return digest.hexdigest()

    # -- eligibility ------------------------------------------------------------------------------------------------

    @cached_property
    def _signatures(self) -> tuple[list[str], list[Row], Ints]:
        """The names of the signatures in order, the facts of each, and the place of the signature of each bid."""
        buyers = set(self.demands.parent)
        parents = [parent if parent in buyers else -1 for parent in self.bids.parent]
        keys = dict.fromkeys(zip(self.bids.attributes, parents, strict=True))
        rows = list(self.attributes.values())
        facts = {key: {"attributes": rows[key[0]], "parent": self.texts["parent"][key[1]] if key[1] >= 0 else None}
                 for key in keys}
        names = {key: _name_of(row) for key, row in facts.items()}
        order = sorted(keys, key=names.__getitem__)
        place = {key: a for a, key in enumerate(order)}
        of_bid = array("i", [place[key] for key in zip(self.bids.attributes, parents, strict=True)])
        return [names[key] for key in order], [facts[key] for key in order], of_bid

    @cached_property
    def signatures(self) -> list[str]:
        return self._signatures[0]

    @cached_property
    def signature_of(self) -> Ints:
        return self._signatures[2]

    @cached_property
    def site_of(self) -> list[str]:
        return [facts["attributes"]["site"] for facts in self._signatures[1]]

    @cached_property
    def _needs(self) -> tuple[list[Row], Ints]:
        """Each distinct need with what it accepts, and the place of each demand's need.

        A need is a requirement, whether the demand is long, and its parent where some bid has the same one.
        """
        sellers, demands = set(self.bids.parent), self.demands
        place: dict[tuple[int, bool, int], int] = {}
        of_demand = [
            place.setdefault((rule, hours > PROBATION_SLOTS, parent if parent in sellers else -1), len(place))
            for rule, hours, parent in zip(demands.requirement, demands.hours, demands.parent, strict=True)
        ]
        order = {number: index for index, (_, number) in enumerate(sorted(place.items()))}
        rows = list(self.requirements.items())
        needs = []
        for rule, is_long, parent in sorted(place):
            name, facts = rows[rule]
            owner = self.texts["parent"][parent] if parent >= 0 else None
            accepts, emptied_by = self._judge(facts, is_long, owner)
            needs.append({"accepts": accepts, "emptied_by": emptied_by, "is_long": is_long, "parent": owner,
                          "requirement": name})
        return needs, array("i", map(order.__getitem__, of_demand))

    def _judge(self, need: Row, is_long: bool, owner: str | None) -> tuple[list[int], str | None]:
        """The signatures that keep every rule; without one, the rule after which none was left."""
        left = list(range(len(self.signatures)))
        for rule, keeps in RULES.items():
            left = [a for a in left if keeps(need, self._signatures[1][a], (is_long, owner, self.latency))]
            if not left:
                return [], rule
        return left, None

    @cached_property
    def masks(self) -> list[tuple[int, ...]]:
        return sorted({tuple(need["accepts"]) for need in self._needs[0] if need["accepts"]})

    @cached_property
    def mask_of(self) -> Ints:
        """The mask of each demand, -1 where nothing complies."""
        place = {mask: s for s, mask in enumerate(self.masks)}
        of_need = [place.get(tuple(need["accepts"]), -1) for need in self._needs[0]]
        return array("i", map(of_need.__getitem__, self._needs[1]))

    @cached_property
    def _members(self) -> list[frozenset[int]]:
        return [*map(frozenset, self.masks), frozenset()]  # the last stands for -1, nothing complies

    def is_eligible(self, demand: int, bid: int) -> bool:
        return self.signature_of[bid] in self._members[self.mask_of[demand]]

    def check_masks(self) -> str:
        """Signatures in the order of their facts, then needs in the order of requirement, length and parent."""
        needs, signatures = self._needs[0], sorted(zip(map(_canonical, self._signatures[1]), self.signatures,
                                                       self._signatures[1], strict=True))
        true = [{"attributes": _name_of(facts["attributes"]), "parent": facts["parent"], "signature": name}
                for _, name, facts in signatures]
        true += [{**need, "accepts": sorted(self.signatures[a] for a in need["accepts"])} for need in needs]
        for number, (row, stated) in enumerate(itertools.zip_longest(true, self._table("masks")), 1):
            if row != stated:
                _refuse(f"masks.jsonl line {number} is {stated}, the rules say {row}")
        return f"{len(self.signatures)} signatures, {len(needs)} distinct needs, {len(self.masks)} masks"

    def check_rules(self) -> str:
        signature, mask, members = self.signature_of, self.mask_of, self._members
        for i, j in zip(self.awards.demand, self.awards.bid, strict=True):
            if signature[j] not in members[mask[i]]:
                _refuse(f"{self.bids.name(j)} may not serve {self.demands.name(i)}")
        return f"{len(self.awards)} awards keep every rule of their demand"

    # -- awards, prices and reasons speak of this book --------------------------------------------------------------

    @cached_property
    def awards(self) -> Awards:
        awards = Awards()
        for amount, bid, demand, end, start, units in self._columns("awards"):
            for texts, lines, column in ((demand, self.demands, awards.demand), (bid, self.bids, awards.bid)):
                try:
                    column.extend([lines.place[name] for name in texts])
                except KeyError as unknown:
                    _refuse(f"an award of the unknown line {unknown}")
            for texts, column in ((start, awards.start), (end, awards.end), (units, awards.units),
                                  (amount, awards.amount)):
                column.extend(map(int, texts))
        return awards

    @cached_property
    def price_rows(self) -> list[Row]:
        return self._table("prices")

    def check_references(self) -> str:
        """Awards and prices speak of lines and cells of this book, in order and once; counts agree."""
        last = (-1, -1, 0, 0)
        for i, j, start, end, units in self.awards.runs():
            if not 0 <= start < end <= self.slots or not 1 <= units <= QUANTITY_MAX:
                _refuse(f"an award of {self.demands.name(i)} of {units} units in slots {start} to {end}")
            if (i, j, start) < last[:3]:
                _refuse(f"the awards of {self.demands.name(i)} are out of order or overlap")
            if (i, j, start, units) == last:
                _refuse(f"two awards of {self.demands.name(i)} that are one")
            last = (i, j, end, units)
        if [row["signature"] for row in self.price_rows] != self.signatures:
            _refuse("the price table does not name every signature once, in order")
        for row in self.price_rows:
            if any(isinstance(values, list) and len(values) != self.slots for values in row.values()):
                _refuse(f"the price table of {row['signature']} does not cover every slot")
        if len({row["relaxed_micros"] is None for row in self.price_rows}) > 1:
            _refuse("some signatures have relaxed duals, some have none")
        with self.source.open("reasons.jsonl") as handle:
            reasons = sum(1 for _ in handle)
        counts = {"demands": len(self.demands), "bids": len(self.bids), "awards": len(self.awards), "reasons": reasons}
        if self.manifest["counts"] != counts:
            _refuse("the manifest counts other numbers of lines")
        return f"{len(self.awards)} awards, {len(self.price_rows)} rows of prices, {reasons} reasons"

    # -- the allocation ---------------------------------------------------------------------------------------------

    def check_slots(self) -> str:
        return self._inside

    @cached_property
    def _inside(self) -> str:
        demands, bids = self.demands, self.bids
        for i, j, start, end, _ in self.awards.runs():
            if (start < demands.start[i] or start < bids.start[j] or end > demands.end[i] or end > bids.end[j]):
                _refuse(f"an award of {bids.name(j)} to {demands.name(i)} leaves the slots of one of them")
        return "every award lies inside both its lines"

    def _fill(self, side: Side, lines: Ints) -> Ints:
        """The units of every line in each of its slots, one line after the other, each with a spare place behind it."""
        self.check_slots()  # else one line's awards would run into the places of the next
        change = array("i", bytes(4 * side.offset[-1]))
        first = array("q", map(operator.sub, side.offset, side.start))
        for line, start, end, units in zip(lines, self.awards.start, self.awards.end, self.awards.units, strict=True):
            at = first[line]
            change[at + start] += units
            change[at + end] -= units
        return array("i", itertools.accumulate(change))  # every line's changes add up to 0 at its spare place

    @cached_property
    def got(self) -> Ints:
        return self._fill(self.demands, self.awards.demand)

    @cached_property
    def gave(self) -> Ints:
        return self._fill(self.bids, self.awards.bid)

    @cached_property
    def got_hours(self) -> Ints:
        return self._unit_hours(self.demands, self.awards.demand)

    @cached_property
    def gave_hours(self) -> Ints:
        return self._unit_hours(self.bids, self.awards.bid)

    def _unit_hours(self, side: Side, lines: Ints) -> Ints:
        """What each line was awarded in all."""
        hours = array("q", bytes(8 * len(side)))
        for line, start, end, units in zip(lines, self.awards.start, self.awards.end, self.awards.units, strict=True):
            hours[line] += units * (end - start)
        return hours

    def _sides(self) -> tuple[tuple[Side, Ints], tuple[Side, Ints]]:
        return (self.demands, self.got), (self.bids, self.gave)

    def check_quantities(self) -> str:
        return self._quantities

    @cached_property
    def _quantities(self) -> str:
        for side, units in self._sides():
            for i, (most, quantity) in enumerate(zip(map(max, side.ranges(units)), side.quantity, strict=True)):
                if most > quantity:
                    _refuse(f"{side.name(i)} has {most} units in a slot, more than its {quantity}")
        return "no line is above its quantity in any slot"

    def check_windows(self) -> str:
        """Windows, blocks and bids with a minimum: one number of units in all slots."""
        count = 0
        for side, units in self._sides():
            for i, here in enumerate(side.ranges(units)):
                if side.is_whole(i):
                    count += 1
                    if min(here) != max(here):
                        _refuse(f"{side.name(i)} has not the same units in all its slots")
        return f"{count} lines that need one number of units in all their slots have it"

    def check_minimums(self) -> str:
        for side, units in self._sides():
            for i, minimum in enumerate(side.minimum):
                if 0 < units[side.offset[i]] < minimum:
                    _refuse(f"{side.name(i)} has {units[side.offset[i]]} units, less than its minimum {minimum}")
        return "every minimum is kept, or the line has nothing"

    @cached_property
    def winners(self) -> dict[int, list[int]]:
        """The served lines of each choice."""
        served: dict[int, list[int]] = defaultdict(list)
        for i, choice in enumerate(self.demands.choice):
            if choice >= 0 and self.got_hours[i]:
                served[choice].append(i)
        return served

    def check_choices(self) -> str:
        for choice, lines in self.winners.items():
            if len(lines) > 1:
                _refuse(f"{len(lines)} lines of the choice {self.texts['choice'][choice]} are served")
        return f"{len(self.winners)} of {len(self.texts['choice'])} choices are served, each by one line"

    @cached_property
    def sites(self) -> dict[int, set[str]]:
        """The sites that serve each one-site demand."""
        served: dict[int, set[str]] = defaultdict(set)
        for i, j in zip(self.awards.demand, self.awards.bid, strict=True):
            if self.demands.is_one_site[i]:
                served[i].add(self.site_of[self.signature_of[j]])
        return served

    def check_sites(self) -> str:
        for i, sites in self.sites.items():
            if len(sites) > 1:
                _refuse(f"{self.demands.name(i)} needs one site and has {sorted(sites)}")
        return f"{len(self.sites)} served demands that need one site have one"

    def check_balance(self) -> str:
        """Awarded and unfilled unit-hours make the whole of each line; what was bought was sold."""
        if "balance" in self.audit.faults:
            _refuse(self.audit.faults["balance"])
        if sum(self.got_hours) != sum(self.gave_hours):
            _refuse("other unit-hours were bought than sold")
        return f"{sum(self.got_hours)} unit-hours, and each line's awards and remainder make the whole"

    @cached_property
    def _sold(self) -> tuple[Grid, dict[str, tuple[list[int], list[int]]]]:
        """Units sold per signature and slot; per class and slot the units and their asks."""
        units = [[0] * (self.slots + 1) for _ in self.signatures]
        money = [[0] * (self.slots + 1) for _ in self.signatures]
        for _, j, start, end, n in self.awards.runs():
            a, worth = self.signature_of[j], n * self.bids.ask[j]
            units[a][start] += n
            units[a][end] -= n
            money[a][start] += worth
            money[a][end] -= worth
        units, money = ([list(itertools.accumulate(row))[:-1] for row in grid] for grid in (units, money))
        of_class: dict[str, tuple[list[int], list[int]]] = {}
        for a, facts in enumerate(self._signatures[1]):
            known = of_class.setdefault(facts["attributes"]["resource_class"], ([0] * self.slots, [0] * self.slots))
            of_class[facts["attributes"]["resource_class"]] = (
                list(map(operator.add, known[0], units[a])), list(map(operator.add, known[1], money[a])))
        return units, of_class

    # -- prices and money -------------------------------------------------------------------------------------------

    @cached_property
    def _stands(self) -> list[list[bool]]:
        """For each signature the slots in which some bid stands."""
        change = [[0] * (self.slots + 1) for _ in self.signatures]
        for a, start, end in zip(self.signature_of, self.bids.start, self.bids.end, strict=True):
            change[a][start] += 1
            change[a][end] -= 1
        return [[count > 0 for count in itertools.accumulate(row)] for row in change]

    @cached_property
    def price(self) -> Grid:
        """The price of each cell, -1 where nothing traded."""
        return [[-1 if x is None else x for x in row["price_micros"]] for row in self.price_rows]

    def check_prices(self) -> str:
        """A price exactly where something traded, on the tick and equal to the dual; a dual wherever a bid stands."""
        count = 0
        for row, units, stands in zip(self.price_rows, self._sold[0], self._stands, strict=True):
            for t, (price, dual, sold) in enumerate(zip(row["price_micros"], row["dual_micros"], units, strict=True)):
                if stands[t] and dual >= NO_CAPACITY:
                    _refuse(f"{row['signature']} slot {t}: the dual says that no bid stands there, but one does")
                if (price is not None) != (sold > 0):
                    _refuse(f"{row['signature']} slot {t}: a price without a trade, or a trade without a price")
                if price is not None and (price != dual or price % TICK):
                    _refuse(f"{row['signature']} slot {t}: the price is off the tick or not the dual")
                count += price is not None
        return f"{count} cells traded, each at one price on the tick that is its dual"

    def check_indicative(self) -> str:
        """Where nothing traded the best waiting limit and the lowest ask stand, elsewhere neither."""
        for a, row in enumerate(self.price_rows):
            for t, price in enumerate(self.price[a]):
                ask, limit = self.lowest_ask[a][t], self.offers[0][a][t]
                true = (None if price >= 0 or limit < 0 else limit, None if price >= 0 or ask == NO_CAPACITY else ask)
                if (row["best_limit_micros"][t], row["best_ask_micros"][t]) != true:
                    _refuse(f"{row['signature']} slot {t}: the indicative limit and ask are {true}")
        return "indicative limits and asks are the best ones, and stand only where nothing traded"

    def check_components(self) -> str:
        """With p0 to p3 the least price of the same class and slot: any, of the zone, and the tier, and the SLA."""
        keys = [(*self._product(facts["attributes"]), _promise(facts["attributes"])) for facts in self._signatures[1]]
        least: dict[tuple[object, ...], list[int]] = {}
        for key, prices in zip(keys, self.price, strict=True):
            traded = [NO_CAPACITY if price < 0 else price for price in prices]
            for depth in range(1, 5):
                known = least.setdefault(key[:depth], traded)
                least[key[:depth]] = list(map(min, known, traded))
        for row, key, prices in zip(self.price_rows, keys, self.price, strict=True):
            units, money = self._sold[1][key[0]]
            for t, price in enumerate(prices):
                true: Sequence[int | None] = (None,) * len(PARTS)
                if price >= 0:
                    p0, p1, p2, p3 = (least[key[:depth]][t] for depth in range(1, 5))
                    base = min(p0, money[t] // max(units[t], 1) // TICK * TICK)  # the mean accepted ask of the class
                    true = (base, p0 - base, p1 - p0 + price - p3, p2 - p1, p3 - p2)
                if tuple(row[part][t] for part in PARTS) != tuple(true):
                    _refuse(f"{row['signature']} slot {t}: the parts of the price are {true}")
        return "base, scarcity, locality, tier and SLA add up to every price"

    def _product(self, facts: Row) -> Product:
        zones: Mapping[str, str] = self.manifest["home_zones"]
        return facts["resource_class"], zones.get(facts["country"], facts["country"]), facts["tier"]

    @cached_property
    def _paid(self) -> tuple[Ints, Ints, Ints]:
        """Of each award the lowest and the highest price of its slots, and units times their sum."""
        low, high, due = array("q"), array("q"), array("q")
        spans, signature_of = [Span(row) for row in self.price], self.signature_of
        for j, start, end, units in zip(self.awards.bid, self.awards.start, self.awards.end, self.awards.units,
                                        strict=True):
            span = spans[signature_of[j]]
            before, level = span.before, (end - start).bit_length() - 1
            least, most, last = span.least[level], span.most[level], end - (1 << level)
            one, other = least[start], least[last]
            low.append(one if one < other else other)
            one, other = most[start], most[last]
            high.append(one if one > other else other)
            due.append(units * (before[end] - before[start]))
        if low and min(low) < 0:
            _refuse("something traded without a price")
        return low, high, due

    def check_asks(self) -> str:
        """In each slot; a bid with a minimum over all its slots."""
        earned = array("q", bytes(8 * len(self.bids)))
        for j, low, due in zip(self.awards.bid, self._paid[0], self._paid[2], strict=True):
            if low < self.bids.ask[j] and not self.bids.minimum[j]:
                _refuse(f"{self.bids.name(j)} is paid {low} in a slot, less than its adjusted ask")
            earned[j] += due
        for j, amount in enumerate(earned):
            if amount < self.gave_hours[j] * self.bids.ask[j]:
                _refuse(f"{self.bids.name(j)} is paid {amount} in all, less than its adjusted ask")
        return "no seller is paid less than its ask"

    def check_limits(self) -> str:
        """In each slot; a window or a block over all its slots."""
        paid = array("q", bytes(8 * len(self.demands)))
        for i, high, due in zip(self.awards.demand, self._paid[1], self._paid[2], strict=True):
            if high > self.demands.price[i] and self.demands.kind[i] == DIVISIBLE:
                _refuse(f"{self.demands.name(i)} pays {high} in a slot, more than its limit")
            paid[i] += due
        for i, amount in enumerate(paid):
            if amount > self.got_hours[i] * self.demands.price[i]:
                _refuse(f"{self.demands.name(i)} pays {amount} in all, more than its limit")
        return "no buyer pays more than its limit"

    def check_amounts(self) -> str:
        for place, (amount, due) in enumerate(zip(self.awards.amount, self._paid[2], strict=True)):
            if amount != due:
                _refuse(f"{self.demands.name(self.awards.demand[place])} pays {self.bids.name(self.awards.bid[place])} "
                        f"{amount}, the price table says {due}")
        total = sum(self.awards.amount)
        if self.manifest["paid_micros"] != total:
            _refuse(f"the awards pay {total}, the manifest says {self.manifest['paid_micros']}")
        return f"{total} micro-USD change hands, each award units times the prices of its slots"

    # -- house rules ------------------------------------------------------------------------------------------------

    @cached_property
    def products(self) -> list[Product]:
        """The product of each row of attributes."""
        return [self._product(facts) for facts in self.attributes.values()]

    @cached_property
    def cap_of(self) -> Ints:
        """The cap of each bid, -1 without."""
        place = {(cap["parent"], tuple(cap["product"])): k for k, cap in enumerate(self.manifest["caps"])}
        parents, products = self.texts["parent"], self.products
        return array("i", [place.get((parents[parent], products[known]), -1)
                           for parent, known in zip(self.bids.parent, self.bids.attributes, strict=True)])

    def check_caps(self) -> str:
        """No parent sells more than its share of a product that enough parents bid, or more than its cap.

        A cap holds for every parent of its product that offers more. Not decided: whether it had to be so low, or,
        where bids under caps are held at whole units because prices would lie between two ticks, at so few.
        """
        share, caps = self.manifest["rules"]["concentration_ppm"], self.manifest["caps"]
        exempt = [tuple(product) for product in self.manifest["caps_not_applicable"]]
        if share is None:
            return _refuse("caps without a rule of concentration") if caps or exempt else "no rule of concentration"
        offered: Counter[tuple[Product, str]] = Counter()
        sold: Counter[tuple[Product, str]] = Counter()
        for j, (place, known) in enumerate(zip(self.bids.parent, self.bids.attributes, strict=True)):
            key = self.products[known], self.texts["parent"][place]
            offered[key] += self.bids.quantity[j] * self.bids.hours[j]
            sold[key] += self.gave_hours[j]
        needed = -(-ONE_MILLION // share) + 1  # with fewer parents they could not share a product so
        parents = Counter(product for product, _ in self._in_reach)
        if exempt != sorted({product for product, _ in offered if parents[product] < needed}):
            _refuse(f"the products that less than {needed} parents could share are not those that are exempt")
        highest = {tuple(cap["product"]): cap["units_max"] for cap in caps}
        true = sorted(key for key, units in offered.items() if units > highest.get(key[0], units))
        if [(tuple(cap["product"]), cap["parent"]) for cap in caps] != true or set(exempt) & set(highest):
            _refuse(f"the caps hold for other parents than those that offer more: {true}")
        traded: Counter[Product] = Counter()
        for (product, _), hours in sold.items():
            traded[product] += hours
        if len({cap["is_held"] for cap in caps}) > 1:
            _refuse("some caps hold their bids, some do not")
        if any(cap["rho_micros"] != cap["rho_relaxed_micros"] for cap in caps if cap["is_held"]):
            _refuse("what a cap that holds its bids takes is not that of the relaxation")
        for cap, key in zip(caps, true, strict=True):
            if sold[key] > cap["units_max"] or cap["units_max"] != highest[key[0]]:
                _refuse(f"{key} sells {sold[key]} unit-hours, its cap is {cap['units_max']} of {highest[key[0]]}")
        for (product, parent), hours in sold.items():
            if product not in exempt and hours * ONE_MILLION > share * traded[product]:
                _refuse(f"{parent} sells {hours} of {traded[product]} unit-hours of {product}, more than its share")
        below = sum(cap["units_max"] - sold[key] for cap, key in zip(caps, true, strict=True) if cap["is_held"])
        held = f", their bids held {below} unit-hours below them" if below else ""
        return (f"{len(caps)} caps kept{held}; no parent has more than {share} ppm of a product, "
                f"{len(exempt)} products exempt")

    @cached_property
    def _in_reach(self) -> set[tuple[Product, str]]:
        """Products and parents with a bid that asks no more than some demand that it may serve would pay in a slot."""
        demands, bids = self.demands, self.bids
        limits = [[0] * self.slots for _ in self.masks]
        for s, start, end, price in zip(self.mask_of, demands.start, demands.end, demands.price, strict=True):
            if s >= 0:
                _lift(limits[s], start, end, price)
        best = [[0] * self.slots for _ in self.signatures]
        for mask, row in zip(self.masks, limits, strict=True):
            for a in mask:
                best[a] = list(map(max, best[a], row))
        return {(self.products[known], self.texts["parent"][parent])
                for a, start, end, ask, known, parent in zip(
                    self.signature_of, bids.start, bids.end, bids.ask, bids.attributes, bids.parent, strict=True)
                if max(best[a][start:end]) >= ask}

    @property
    def is_held(self) -> bool:
        """The budget binds: lines of the Foundation are held at what it pays for."""
        return bool(self.manifest["sigma"][0])

    @property
    def holds_caps(self) -> bool:
        """Bids under caps are held at the units that they sell."""
        return any(cap["is_held"] for cap in self.manifest["caps"])

    def _is_held(self, i: int) -> bool:
        return self.is_held and self.demands.is_foundation[i] > 0

    def _cost_of_foundation(self, hours: Ints) -> int:
        """What so many unit-hours of each line of the Foundation may cost, at their limits."""
        lines = zip(self.demands.is_foundation, hours, self.demands.price, strict=True)
        return sum(units * limit for is_foundation, units, limit in lines if is_foundation)

    @cached_property
    def budget(self) -> int:
        """What limits on the tick can spend of it."""
        budget: int = self.manifest["rules"]["foundation_budget_micros"] or 0
        return budget // TICK * TICK

    def check_budget(self) -> str:
        """Kept, and said to bind only where it does not pay for every line of the Foundation.

        Not decided: whether the units that it pays for are the best ones; the gap says what others could be worth.
        """
        sigma, budget = self.manifest["sigma"], self.manifest["rules"]["foundation_budget_micros"]
        if math.gcd(*sigma) != 1:
            _refuse("sigma is not in lowest terms")
        if self.is_held and (budget is None or self._cost_of_foundation(self.demands.quantity_hours) <= budget):
            _refuse("a budget binds that is not set, or that pays for everything")
        if self.is_held and self.price_rows and self.price_rows[0]["relaxed_micros"] is None:
            _refuse("a budget binds without duals of the relaxation")
        if budget is None:
            return "no budget of the Foundation"
        spent = self._cost_of_foundation(self.got_hours)
        if spent > budget:
            _refuse(f"the Foundation may pay {spent}, its budget is {budget}")
        return f"the Foundation may pay {spent} of its budget of {budget} micro-USD"

    # -- the certificate --------------------------------------------------------------------------------------------

    @cached_property
    def at_prices(self) -> Duals:
        """What is paid: the budget was met before there were prices, so they know no sigma."""
        rho = [cap["rho_micros"] for cap in self.manifest["caps"]]
        return Duals([row["dual_micros"] for row in self.price_rows], [*rho, 0], 0, 1)

    @cached_property
    def relaxed(self) -> Duals:
        rho = [cap["rho_relaxed_micros"] for cap in self.manifest["caps"]]
        lam = [row["relaxed_micros"] or row["dual_micros"] for row in self.price_rows]
        return Duals(lam, [*rho, 0], *self.manifest["sigma"])

    @cached_property
    def _mu(self) -> "Cheapest":
        return Cheapest(self.at_prices.lam, self.masks, self.site_of)

    def _demand_surplus(self, duals: Duals) -> list[int]:
        """What one unit of each demand gains at these duals, times `whole`."""
        mu = self._mu
        if duals != self.at_prices:
            mu = Cheapest([[x * duals.whole for x in row] for row in duals.lam], self.masks, self.site_of)
        demands, result = self.demands, []
        spans = [Span([-x for x in row]) for row in mu.rows]  # a buyer gains where less is asked
        for s, start, end, price, kind, is_one_site, is_foundation in zip(
            self.mask_of, demands.start, demands.end, demands.price, demands.kind, demands.is_one_site,
            demands.is_foundation, strict=True,
        ):
            value = price * (duals.whole - duals.part if is_foundation else duals.whole)
            if s < 0:
                result.append(0)  # nothing may serve it, so it adds nothing to any allocation
            elif kind == DIVISIBLE:
                result.append(_above(spans[s], -value, start, end))
            else:
                rows = mu.sites(s) if is_one_site else (mu.rows[s],)
                result.append(max(0, value * (end - start) - min(sum(row[start:end]) for row in rows)))
        return result

    def _bid_surplus(self, duals: Duals) -> list[int]:
        """What one unit of each bid gains at these duals."""
        bids, result, spans = self.bids, [], [Span(row) for row in duals.lam]
        for a, start, end, ask, minimum, cap in zip(
            self.signature_of, bids.start, bids.end, bids.ask, bids.minimum, self.cap_of, strict=True
        ):
            cost, before = ask + duals.rho[cap], spans[a].before
            if minimum:
                result.append(max(0, before[end] - before[start] - cost * (end - start)))
            else:
                result.append(_above(spans[a], cost, start, end))
        return result

    def _g(self, duals: Duals, demand_total: int, bid_total: int) -> int:
        """g times `whole`, from the sums over the lines."""
        caps: int = sum(cap["units_max"] * rho for cap, rho in zip(self.manifest["caps"], duals.rho, strict=False))
        return demand_total + (bid_total + caps) * duals.whole + self.budget * duals.part

    @cached_property
    def _surplus(self) -> tuple[list[int], list[int]]:
        return self._demand_surplus(self.at_prices), self._bid_surplus(self.at_prices)

    @cached_property
    def bound(self) -> int:
        """g over the whole book at the relaxed duals, rounded up."""
        duals = self.relaxed
        of_demand, of_bid = (
            self._surplus if duals == self.at_prices else (self._demand_surplus(duals), self._bid_surplus(duals)))
        total, best = 0, dict[int, int]()
        for choice, units, gain in zip(self.demands.choice, self.demands.quantity, of_demand, strict=True):
            if choice < 0:
                total += units * gain
            else:
                best[choice] = max(best.get(choice, 0), units * gain)
        total += sum(best.values())
        return -(-self._g(duals, total, sum(map(operator.mul, self.bids.quantity, of_bid))) // duals.whole)

    @cached_property
    def settled_bound(self) -> int:
        """g at the prices over the book that is left once indivisible, rounded and held lines and bids are decided.

        Windows, in the money or not, count with what they were awarded; `missed` has what they miss.
        """
        demands, units, offered = self.demands, array("q", self.demands.quantity), array("q", self.bids.quantity)
        of_demand, of_bid = list(self._surplus[0]), self._surplus[1]
        for i, sites in self.sites.items():
            of_demand[i] = self._surplus_at(i, min(sites))
        for i, kind in enumerate(demands.kind):
            if kind != DIVISIBLE:
                units[i] = self.got[demands.offset[i]]
            elif self._is_held(i):
                units[i], of_demand[i] = 1, self._gain_of_awards(i)
        prices, of_bid = self.at_prices, list(of_bid)
        for j, (hours, cap) in enumerate(zip(self.gave_hours, self.cap_of, strict=True)):
            if not hours and self.bids.minimum[j]:
                offered[j] = 0
            elif cap >= 0 and self.holds_caps:
                offered[j], of_bid[j] = 1, self._earnings_of_awards(j)
        if self.holds_caps:
            prices = Duals(prices.lam, [0] * len(prices.rho), prices.part, prices.whole)
        return self._g(prices, sum(map(operator.mul, units, of_demand)), sum(map(operator.mul, offered, of_bid)))

    def _earnings_of_awards(self, j: int) -> int:
        """What a bid gains with what it was awarded."""
        bids, offset = self.bids, self.bids.offset[j]
        cells = self.at_prices.lam[self.signature_of[j]][bids.start[j]:bids.end[j]]
        units = self.gave[offset:offset + bids.hours[j]]
        return sum(n * (x - bids.ask[j]) for n, x in zip(units, cells, strict=True) if n)

    def _gain_of_awards(self, i: int) -> int:
        """What a divisible demand gains with what it was awarded."""
        demands, offset = self.demands, self.demands.offset[i]
        units = self.got[offset:offset + demands.hours[i]]
        if not any(units):
            return 0
        mu = self._mu.rows[self.mask_of[i]][demands.start[i]:demands.end[i]]
        return sum(n * max(0, demands.price[i] - x) for n, x in zip(units, mu, strict=True))

    @cached_property
    def held_down(self) -> list[int]:
        """Windows that miss units although they are in the money: because units are whole, or so it is said."""
        demands, missing = self.demands, 0
        held_down = []
        for i, (kind, surplus) in enumerate(zip(demands.kind, self._surplus[0], strict=True)):
            missing = demands.quantity[i] - self.got[demands.offset[i]]
            if kind != DIVISIBLE and missing and surplus and not demands.is_indivisible(i) and not self._is_held(i):
                held_down.append(i)
        return held_down

    @cached_property
    def missed(self) -> int:
        """What they would gain with all that they miss."""
        demands = self.demands
        return sum((demands.quantity[i] - self.got[demands.offset[i]]) * self._surplus[0][i] for i in self.held_down)

    @cached_property
    def _worth_of_fractions(self) -> int:
        """One unit of each of them for all its hours, less the least that any bid asks for such units."""
        demands, worth = self.demands, 0
        if self.held_down:
            asked = Cheapest(self._lowest_asks([0] * len(self.at_prices.rho)), self.masks, self.site_of)
            for i in self.held_down:
                cells = asked.rows[self.mask_of[i]][demands.start[i]:demands.end[i]]
                worth += max(0, demands.price[i] * demands.hours[i] - sum(cells))
        return worth

    def _surplus_at(self, i: int, site: str) -> int:
        """What one unit of a line gains at the prices of one site."""
        demands = self.demands
        members = [self.at_prices.lam[a] for a in self.masks[self.mask_of[i]] if self.site_of[a] == site]
        cost = sum(min(row[t] for row in members) for t in range(demands.start[i], demands.end[i]))
        return max(0, demands.price[i] * demands.hours[i] - cost)

    @cached_property
    def welfare(self) -> int:
        """What was served at its limit, less what served it at its adjusted ask."""
        value: int = sum(map(operator.mul, self.got_hours, self.demands.price))
        cost: int = sum(map(operator.mul, self.gave_hours, self.bids.ask))
        return value - cost

    def check_welfare(self) -> str:
        if self.welfare != self.manifest["welfare_micros"]:
            _refuse(f"the awards are worth {self.welfare}, the manifest says {self.manifest['welfare_micros']}")
        return f"the awards are worth {self.welfare} micro-USD"

    def check_bound(self) -> str:
        if self.bound != self.manifest["bound_micros"]:
            _refuse(f"the duals bound welfare by {self.bound}, the manifest says {self.manifest['bound_micros']}")
        return f"no allocation that keeps the rules is worth more than {self.bound} micro-USD"

    def check_settled_bound(self) -> str:
        """Equal to the welfare, so that at these prices nobody in the settled book would rather have other units."""
        if self.settled_bound != self.manifest["settled_bound_micros"]:
            _refuse(f"the settled bound is {self.settled_bound}, not {self.manifest['settled_bound_micros']}")
        if self.settled_bound != self.welfare:
            _refuse(f"at the prices the settled book is worth {self.settled_bound}, the awards {self.welfare}")
        return ("at the prices nobody whom a price can ration would rather have other units, but for windows that miss "
                f"{self.missed} micro-USD because units are whole")

    def check_gap(self) -> str:
        """A billionth of the welfare, and one unit of each window that was held down for whole units.

        Whatever the manifest says it allowed itself is not read. A wider gap would leave room for a winner that was
        left out. Lines that no price can ration may widen it, each with its opportunity cost in the reasons, and so
        may a budget that binds, whose whole units need not be the best ones.
        """
        gap, allowed = self.bound - self.welfare, self._worth_of_fractions
        if gap != self.manifest["gap_micros"] or gap < 0:
            _refuse(f"the gap is {gap}, stated {self.manifest['gap_micros']}")
        indivisible = (sum(map(self.demands.is_indivisible, range(len(self.demands))))
                       + sum(map(bool, self.bids.minimum)))
        is_held = self.is_held or self.holds_caps
        if not indivisible and not is_held and max(0, gap - allowed) * GAP_SHARE > self.welfare:
            _refuse(f"the gap is {gap}, {allowed} is explained: this result is not proven optimal")
        return f"{gap} micro-USD between the awards and the bound, {indivisible} lines are indivisible"

    def check_exchanges(self) -> str:
        """No line that was held down could have one unit more in place of others that are worth less.

        Held down are windows because units are whole, lines of the Foundation by its budget, bids by a cap. Looked for
        are the exchanges that `Exchanges` names; they bring more welfare, so a fair result has none of them.
        """
        self._check_windows_held_down()
        if self.is_held:
            self._check_what_the_budget_holds()
        if self.holds_caps:
            self._check_what_caps_hold()
        return f"{len(self.held_down)} windows miss units in the money; no line held down could take one worth less"

    def _check_windows_held_down(self) -> None:
        best = dict[tuple[int, int, int], int]()
        for i in self.held_down:  # of alike windows, the one that gains most
            key = self.mask_of[i], self.demands.start[i], self.demands.end[i]
            if key not in best or self._surplus[0][i] > self._surplus[0][best[key]]:
                best[key] = i
        for i in best.values():
            self._check_window_held_down(i)

    def _check_window_held_down(self, i: int) -> None:
        gain = self._surplus[0][i]
        cost = self._exchanges.least_cost(self.mask_of[i], self.demands.start[i], self.demands.end[i], gain)
        if cost < gain:
            _refuse(f"{self.demands.name(i)} misses units and could have one in place of others, for {gain - cost} "
                    "micro-USD more of welfare")

    def _check_what_the_budget_holds(self) -> None:
        """No line of the Foundation could have a unit more for what is left of the budget."""
        demands, left = self.demands, self.budget - self._cost_of_foundation(self.got_hours)
        for i, s in enumerate(self.mask_of):
            price, hours, missing = demands.price[i], demands.hours[i], self.got_hours[i] < demands.quantity_hours[i]
            if not missing or s < 0 or not demands.is_foundation[i]:
                continue
            if demands.kind[i] != DIVISIBLE and price * hours <= left and self._surplus[0][i]:
                self._check_window_held_down(i)
            elif demands.kind[i] == DIVISIBLE and price <= left:
                for slot, units in enumerate(self.got[demands.offset[i]:demands.offset[i] + hours], demands.start[i]):
                    gain = max(0, price - self._mu.rows[s][slot])
                    if units < demands.quantity[i] and self._exchanges.least_cost(s, slot, slot + 1, gain) < gain:
                        _refuse(f"{demands.name(i)} could have a unit more in slot {slot} for what the budget has left")

    def _check_what_caps_hold(self) -> None:
        """No bid under a cap could sell a unit more within it."""
        bids, caps = self.bids, self.manifest["caps"]
        sold = [0] * (len(caps) + 1)
        for hours, cap in zip(self.gave_hours, self.cap_of, strict=True):
            sold[cap] += hours
        for j, (a, cap) in enumerate(zip(self.signature_of, self.cap_of, strict=True)):
            if cap < 0 or bids.minimum[j] or sold[cap] == caps[cap]["units_max"]:
                continue
            for slot, units in enumerate(self.gave[bids.offset[j]:bids.offset[j] + bids.hours[j]], bids.start[j]):
                gain = self.at_prices.lam[a][slot] - bids.ask[j]
                if units < bids.quantity[j] and self._exchanges.cost_of_use(a, slot) < gain:
                    _refuse(f"{bids.name(j)} could sell a unit more in slot {slot} within its cap")

    @cached_property
    def _exchanges(self) -> "Exchanges":
        return Exchanges(self)

    # -- what a line meets ------------------------------------------------------------------------------------------

    @cached_property
    def lowest_ask(self) -> Grid:
        """With what its cap takes. A bid with a minimum sells nothing alone, and asks nothing in a single slot."""
        return self._lowest_asks(self.at_prices.rho)

    def _lowest_asks(self, rho: Sequence[int]) -> Grid:
        lowest, bids = [[NO_CAPACITY] * self.slots for _ in self.signatures], self.bids
        for a, start, end, ask, cap, minimum in zip(
            self.signature_of, bids.start, bids.end, bids.ask, self.cap_of, bids.minimum, strict=True
        ):
            if not minimum:
                _lower(lowest[a], start, end, ask + rho[cap])
        return lowest

    @cached_property
    def asked(self) -> Cheapest:
        """What serving a mask costs in each slot: the least of prices and, without a trade, of asks."""
        here = [[ask if price < 0 else price for price, ask in zip(prices, asks, strict=True)]
                for prices, asks in zip(self.price, self.lowest_ask, strict=True)]
        return Cheapest(here, self.masks, self.site_of)

    @cached_property
    def offers(self) -> tuple[Grid, Grid]:
        """What is on offer to a signature, -1 for nothing: its price; without a trade the best of what masks offer.

        Second what is on offer to a bid with a minimum.
        """
        plain, whole = ([[-1] * self.slots for _ in self.signatures] for _ in range(2))
        for mask, offers in zip(self.masks, self._offers_of_masks(), strict=True):
            for grid, row in zip((plain, whole), offers, strict=True):
                for a in mask:
                    grid[a] = list(map(max, grid[a], row))
        for grid in (plain, whole):
            for row, prices in zip(grid, self.price, strict=True):
                row[:] = [offer if price < 0 else price for price, offer in zip(prices, row, strict=True)]
        return plain, whole

    def _offers_of_masks(self) -> Iterator[tuple[list[int], list[int]]]:
        """The most that a demand under each mask pays where it is served, or would pay where it waits.

        Waiting, a divisible demand would pay its limit; a window, what its limit leaves here when it pays what is asked
        in all its other slots, or its limit throughout to a bid with a minimum, which could meet it in all of them;
        nothing a line that is out: an indivisible one, or one that the budget holds.
        """
        nothing, demands = -NO_CAPACITY * SLOTS_MAX, self.demands
        limit, whole, spare = ([[least] * self.slots for _ in self.masks] for least in (-1, -1, nothing))
        served = [[0] * (self.slots + 1) for _ in self.masks]
        lines = zip(self.mask_of, demands.start, demands.end, demands.kind, demands.price, demands.quantity,
                    demands.ranges(self.got), itertools.count(), strict=False)
        for s, start, end, kind, price, quantity, units, i in lines:
            if s < 0:
                continue
            least, most = min(units), max(units)
            if least:
                served[s][start] += 1
                served[s][end] -= 1
            elif most:
                for t, here in enumerate(units, start):
                    if here:
                        served[s][t] += 1
                        served[s][t + 1] -= 1
            if least == quantity or self._is_held(i) or (not most and demands.is_indivisible(i)):
                continue
            if kind != DIVISIBLE:
                _lift(whole[s], start, end, price)
                _lift(spare[s], start, end, price * (end - start) - sum(self.asked.rows[s][start:end]))
            elif most < quantity:
                _lift(limit[s], start, end, price)
            else:
                for t, here in enumerate(units, start):
                    if here < quantity:
                        _lift(limit[s], t, t + 1, price)
        for s, asked in enumerate(self.asked.rows):
            buying = itertools.accumulate(served[s][:-1])
            paid = [max(most, here if some else -1) for most, here, some in zip(limit[s], asked, buying, strict=True)]
            yield ([max(one, max(0, left + here) if left > nothing else -1)
                    for one, left, here in zip(paid, spare[s], asked, strict=True)], list(map(max, paid, whole[s])))

    # -- reasons ----------------------------------------------------------------------------------------------------

    @cached_property
    def audit(self) -> "Audit":
        """Every true reason beside the stated one, both in order: bids first, then demands, each by id."""
        self.check_quantities()
        audit = Audit()
        with self.source.open("reasons.jsonl") as handle:
            stated = _Stated(iter(handle))
            for side, lines, i, missing, code, detail in self._true_reasons(audit):
                name = lines.name(i)
                true = (f'{{"code":"{code}","detail":{{{detail}}},"line_id":"{name}","side":"{side}",'
                        f'"unfilled_unit_hours":{missing}}}\n').encode()
                audit.losers += 1
                if stated.line == true:
                    stated.advance()
                    continue
                while stated.line and stated.key < (side, name):
                    audit.fault(f"{stated.key[1]} has a reason too many")
                    stated.advance()
                if stated.line and stated.key == (side, name):
                    if stated.row["unfilled_unit_hours"] != missing:
                        audit.faults.setdefault("balance", f"{name} misses {missing} unit-hours, not as stated")
                    if stated.line != true:
                        audit.faults.setdefault("reasons_true", f"{name} is told {stated.line!r}, true is {true!r}")
                    stated.advance()
                else:
                    audit.fault(f"{name} misses {missing} unit-hours without a reason")
                    audit.missing += 1
            if stated.line:
                audit.fault(f"{stated.key[1]} has a reason too many")
        return audit

    def _true_reasons(self, audit: "Audit") -> Iterator[tuple[str, Side, int, int, str, str]]:
        """Each line not filled in full: its side, its place, what it misses and why. Counts what was rejected."""
        for side, lines, filled, why in (("bid", self.bids, self.gave_hours, self._why_bid),
                                         ("demand", self.demands, self.got_hours, self._why_demand)):
            for i, (quantity, hours, has) in enumerate(zip(lines.quantity, lines.hours, filled, strict=True)):
                if quantity * hours != has:
                    code, detail = why(i)
                    if code in REJECTED:
                        audit.rejected += 1
                        audit.opportunity_cost += int(detail.rpartition(":")[2])
                    yield side, lines, i, quantity * hours - has, code, detail

    def check_reasons_complete(self) -> str:
        if "reasons_complete" in self.audit.faults:
            _refuse(self.audit.faults["reasons_complete"])
        return f"{self.audit.losers} lines not filled in full, one reason each"

    def check_reasons_true(self) -> str:
        if "reasons_true" in self.audit.faults:
            _refuse(self.audit.faults["reasons_true"])
        return "every reason re-derived from the prices, to the micro-USD"

    def _why_demand(self, i: int) -> tuple[str, str]:
        demands, s = self.demands, self.mask_of[i]
        start, end, limit = demands.start[i], demands.end[i], demands.price[i]
        if s < 0:
            return "no_compliant_capacity", f'"rule":"{self._needs[0][self._needs[1][i]]["emptied_by"]}"'
        if demands.kind[i] != DIVISIBLE:
            return self._why_whole_demand(i, s)
        offset, quantity = demands.offset[i], demands.quantity[i]
        missing = [quantity - units for units in self.got[offset:offset + end - start]]
        asked = self.asked.rows[s][start:end]
        special = self._sigma_detail if self._is_held(i) else ""
        return _why_slots(start, missing, [None if x == NO_CAPACITY else x - limit for x in asked],
                          "no_capacity_in_slots", "budget_bound", special)

    @cached_property
    def _sigma_detail(self) -> str:
        return f'"sigma_ppm":{self.relaxed.part * ONE_MILLION // self.relaxed.whole}'

    def _why_whole_demand(self, i: int, s: int) -> tuple[str, str]:
        demands = self.demands
        start, end = demands.start[i], demands.end[i]
        rows = [row[start:end] for row in (self.asked.sites(s) if demands.is_one_site[i] else (self.asked.rows[s],))]
        served = [sum(row) for row in rows if NO_CAPACITY not in row]
        if not served:
            return "no_capacity_in_slots", f'"slot":{start + max(row.index(NO_CAPACITY) for row in rows)}'
        short = min(served) - demands.price[i] * (end - start)
        if short <= 0 and self._is_held(i):
            return "budget_bound", self._sigma_detail
        if short >= 0:
            return _priced_out_or_at_the_price(short, end - start)
        rivals = [rival for rival in self.winners.get(demands.choice[i], ()) if rival != i]
        if rivals:
            return "alternative_won", f'"winner":"{demands.name(rivals[0])}"'
        if demands.is_indivisible(i):
            missing = demands.quantity[i] - self.got[demands.offset[i]]
            return "block_rejected", f'"opportunity_cost_micros":{-short * missing}'
        return "marginal", CAUSE_ROUNDING

    def _why_bid(self, j: int) -> tuple[str, str]:
        bids, a = self.bids, self.signature_of[j]
        start, end, ask, rho = bids.start[j], bids.end[j], bids.ask[j], self.at_prices.rho[self.cap_of[j]]
        offers = self.offers[bids.minimum[j] > 0][a][start:end]
        special = f'"rho_micros":{rho}' if rho else ""
        if not bids.minimum[j]:
            offset, quantity = bids.offset[j], bids.quantity[j]
            missing = [quantity - units for units in self.gave[offset:offset + end - start]]
            return _why_slots(start, missing, [None if offer < 0 else ask - offer for offer in offers],
                              "no_matching_demand", "cap_bound", special)
        if min(offers) < 0:
            return "no_matching_demand", f'"slot":{start + offers.index(-1)}'
        short = ask * (end - start) - sum(offers)
        if short <= 0 and rho:
            return "cap_bound", special
        if short >= 0:
            return _priced_out_or_at_the_price(short, end - start)
        idle = bids.quantity[j] - self.gave[bids.offset[j]]
        return "minimum_not_met", f'"opportunity_cost_micros":{-short * idle}'


# -- reasons in words --------------------------------------------------------------------------------------------------

CAUSE_ROUNDING, CAUSE_AT_THE_PRICE = '"cause":"rounding"', '"cause":"at_the_price"'
REJECTED = ("block_rejected", "minimum_not_met")
REASON_ROW = {
    "code": str, "detail": {str: (int, str)}, "line_id": ID, "side": ("bid", "demand"), "unfilled_unit_hours": int,
}


@dataclass
class Audit:
    """What the comparison of stated with true reasons found."""

    faults: dict[str, str] = field(default_factory=dict)  # by check
    losers: int = 0
    missing: int = 0  # losers without a reason
    rejected: int = 0
    opportunity_cost: int = 0

    def fault(self, sentence: str) -> None:
        for check in ("balance", "reasons_complete"):
            self.faults.setdefault(check, sentence)


class _Stated:
    """The stated reasons one by one; parsed only where the text is not the expected one."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines = lines
        self.advance()

    def advance(self) -> None:
        self.line = next(self.lines, b"")

    @property
    def row(self) -> Row:
        row: Row = _parse(self.line, REASON_ROW, "a line of reasons.jsonl")
        return row

    @property
    def key(self) -> tuple[str, str]:
        row = self.row
        return row["side"], row["line_id"]


def _why_slots(
    start: int, missing: list[int], short: list[int | None], nothing: str, bound: str, special: str
) -> tuple[str, str]:
    """The code with the most missing units over the slots, ties in the order of the list, and its closest miss.

    `short` is by how much the line misses in each slot, None where there is no opposite side at all. `special` is the
    detail of `bound`, which is told where the line is not short; empty where nothing but the price binds the line.
    """
    gap = out = close = 0  # units that miss for want of the other side, for the price, for anything else
    least, slot, lowest = NO_CAPACITY, 0, 1
    for t, units in enumerate(missing):
        if units:
            by = short[t]
            if by is None:
                gap += units
            elif by > 0:
                out += units
                if by < least:
                    least, slot = by, t
            else:
                close += units
                lowest = min(lowest, by)
    if gap >= out and gap >= close:
        return nothing, f'"slot":{start + next(t for t, by in enumerate(short) if by is None and missing[t])}'
    if special and close >= out:
        return bound, special
    if out >= close:
        return "priced_out", f'"short_by_micros":{least},"slot":{start + slot}'
    return "marginal", CAUSE_ROUNDING if lowest < 0 else CAUSE_AT_THE_PRICE


def _priced_out_or_at_the_price(short: int, hours: int) -> tuple[str, str]:
    if short:
        return "priced_out", f'"short_by_micros":{-(-short // hours)}'  # per unit-hour, rounded up
    return "marginal", CAUSE_AT_THE_PRICE


def _lift(cells: list[int], start: int, end: int, level: int) -> None:
    if level > min(cells[start:end]):
        cells[start:end] = [max(x, level) for x in cells[start:end]]


def _lower(cells: list[int], start: int, end: int, level: int) -> None:
    if level < max(cells[start:end]):
        cells[start:end] = [min(x, level) for x in cells[start:end]]


# -- one unit more for a line that was held down ----------------------------------------------------------------------


class Exchanges:
    """What one unit more costs in place of others, beyond the published prices.

    In each slot the unit comes over a chain of pairs of mask and signature: a mask turns to another signature that it
    accepts, whose unit another mask has so far, and so on, until capacity is idle, a divisible demand goes without, or
    one other window gives up a unit. That window gives it up in all its slots, and what is then idle outside the range
    goes to whoever is next in the same way. At most one window gives way in a slot. Lines at their minimum, bids with
    one and lines in one site stay as they are; what a budget or a cap holds may give units up, and take none. At prices
    that prove the settled book optimal no such cost is negative.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.lam, self.mu = bundle, bundle.at_prices.lam, bundle._mu.rows
        self.gives, self.takes = self._of_demands()
        self.idle, self.rests = self._of_bids()
        self._known: dict[tuple[int, int], tuple[list[int], int]] = {}

    def least_cost(self, mask: int, start: int, end: int, gain: int) -> int:
        """Of one unit more for a window of this mask and range; `gain` where it is not less."""
        steps: dict[int, list[tuple[int, int]]] = defaultdict(list)
        reached, ends = self._from_mask(mask, start, end)
        for (other, first, last), cost in self._windows.items():
            here, until = max(first, start), min(last, end)
            if here < until and cost < gain:
                freed = self._freed[other]
                cost += reached[other][until - start] - reached[other][here - start]
                cost += freed[here] - freed[first] + freed[last] - freed[until]
                if cost < gain:
                    steps[here].append((until, cost))
        least = [0] + [gain] * (end - start)
        for slot in range(start, end):
            here = least[slot - start]
            for to, cost in (*steps[slot], (slot + 1, ends[slot - start])):
                least[to - start] = min(least[to - start], here + cost)
        return least[-1]

    @cached_property
    def _windows(self) -> dict[tuple[int, int, int], int]:
        """Of the windows that could give up a unit, by mask and range, what the one that gains least gains.

        An indivisible line can where it keeps its minimum; one in a single site stays as it is.
        """
        bundle, demands, least = self.bundle, self.bundle.demands, dict[tuple[int, int, int], int]()
        for i, (kind, surplus) in enumerate(zip(demands.kind, bundle._surplus[0], strict=True)):
            units = bundle.got[demands.offset[i]]
            if kind != DIVISIBLE and units > demands.minimum[i] and not demands.is_one_site[i]:
                key = bundle.mask_of[i], demands.start[i], demands.end[i]
                least[key] = min(least.get(key, surplus), surplus)
        return least

    def _from_mask(self, mask: int, start: int, end: int) -> tuple[Grid, list[int]]:
        """For each mask what it costs, added up from `start` on, if its window gives way; and if none does."""
        reached = [[0] for _ in self.mu]
        ends = []
        for slot in range(start, end):
            cost, end_cost = self._from(mask, slot)
            ends.append(min(end_cost, NO_CAPACITY))
            for row, here in zip(reached, cost, strict=False):
                row.append(row[-1] + here)
        return reached, ends

    def _from(self, mask: int, slot: int) -> tuple[list[int], int]:
        if (mask, slot) not in self._known:
            self._known[mask, slot] = self._spread(slot, [(0, mask)])
        return self._known[mask, slot]

    @cached_property
    def _freed(self) -> Grid:
        """For each mask what it costs, added up over the slots before, to find another use for a unit that it has."""
        freed = [[0] for _ in self.mu]
        for uses in self._uses:
            for row, here in zip(freed, uses, strict=False):
                row.append(row[-1] + here)
        return freed

    @cached_property
    def _uses(self) -> Grid:
        """Per slot what it costs to find another use for a unit of each mask, then of each signature."""
        uses = []
        for slot in range(self.bundle.slots):
            starts = [(row[slot], node) for node, row in enumerate((*self.takes, *self.rests))]
            uses.append(self._spread(slot, starts)[0])
        return uses

    def cost_of_use(self, signature: int, slot: int) -> int:
        """What it costs beyond the price to find a use for one unit more of a signature."""
        return self._uses[slot][len(self.mu) + signature]

    def _spread(self, slot: int, starts: list[tuple[int, int]]) -> tuple[list[int], int]:
        """The least cost over chains in a slot (Dijkstra): to each mask and signature; to an end without a window."""
        masks = len(self.mu)
        least, ends = [NO_CAPACITY] * (masks + len(self.lam)), NO_CAPACITY
        heap = [start for start in starts if start[0] < NO_CAPACITY]
        heapq.heapify(heap)
        while heap:
            cost, node = heapq.heappop(heap)
            if cost >= least[node]:
                continue
            least[node] = cost
            ends = min(ends, cost + (self.gives[node] if node < masks else self.idle[node - masks])[slot])
            for other, more in self._next(slot, node, masks):
                if cost + more < least[other]:
                    heapq.heappush(heap, (cost + more, other))
        return least, ends

    def _next(self, slot: int, node: int, masks: int) -> Iterator[tuple[int, int]]:
        if node >= masks:
            for s, trades in self._trades[node - masks]:
                if trades[slot]:
                    yield s, 0
        else:
            mu = self.mu[node][slot]
            for a in self.bundle.masks[node]:
                if self.lam[a][slot] < NO_CAPACITY:
                    yield masks + a, max(0, self.lam[a][slot] - mu)

    @cached_property
    def _trades(self) -> list[list[tuple[int, list[int]]]]:
        """For each signature the masks that it serves, but for lines in one site, and the units in each slot."""
        bundle, change = self.bundle, dict[tuple[int, int], list[int]]()
        for i, j, start, end, units in bundle.awards.runs():
            if not bundle.demands.is_one_site[i]:
                row = change.setdefault((bundle.signature_of[j], bundle.mask_of[i]), [0] * (bundle.slots + 1))
                row[start] += units
                row[end] -= units
        of_signature: list[list[tuple[int, list[int]]]] = [[] for _ in self.lam]
        for (a, s), row in change.items():
            of_signature[a].append((s, list(itertools.accumulate(row))))
        return of_signature

    def _of_demands(self) -> tuple[Grid, Grid]:
        """What it costs that a divisible demand of the mask goes without a unit, or takes one that is idle."""
        bundle, demands = self.bundle, self.bundle.demands
        least, most = ([[level] * bundle.slots for _ in self.mu] for level in (NO_CAPACITY, -1))
        for i, (s, start, end, kind, price, quantity, units) in enumerate(zip(
            bundle.mask_of, demands.start, demands.end, demands.kind, demands.price, demands.quantity,
            demands.ranges(bundle.got), strict=True,
        )):
            if s >= 0 and kind == DIVISIBLE:
                for first, last in _runs(units, start, end, 1, QUANTITY_MAX):
                    _lower(least[s], first, last, price)
                for first, last in _runs(units, start, end, 0, -1 if bundle._is_held(i) else quantity - 1):
                    _lift(most[s], first, last, price)
        return _beyond(least, self.mu), _below(self.mu, most)

    def _of_bids(self) -> tuple[Grid, Grid]:
        """What idle capacity of the signature asks beyond the price, and what it costs that a bid sells a unit less."""
        bundle, bids = self.bundle, self.bundle.bids
        least, most = ([[level] * bundle.slots for _ in self.lam] for level in (NO_CAPACITY, -1))
        for a, start, end, ask, quantity, minimum, cap, units in zip(
            bundle.signature_of, bids.start, bids.end, bids.ask, bids.quantity, bids.minimum, bundle.cap_of,
            bids.ranges(bundle.gave), strict=True,
        ):
            if not minimum:
                for first, last in _runs(units, start, end, 0, -1 if cap >= 0 else quantity - 1):
                    _lower(least[a], first, last, ask)
                for first, last in _runs(units, start, end, 1, QUANTITY_MAX):
                    _lift(most[a], first, last, ask)
        return _beyond(least, self.lam), _below(self.lam, most)


def _runs(units: Ints, start: int, end: int, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The ranges of slots in which the units are from `low` to `high`."""
    if low <= min(units) and max(units) <= high:
        yield start, end
    else:
        for here, some in itertools.groupby(range(start, end), lambda t: low <= units[t - start] <= high):
            slots = list(some)
            if here:
                yield slots[0], slots[-1] + 1


def _beyond(most: Grid, least: Grid) -> Grid:
    """How far the one is above the other, NO_CAPACITY where there is nothing."""
    return [[NO_CAPACITY if x >= NO_CAPACITY else max(0, x - y) for x, y in zip(*rows, strict=True)]
            for rows in zip(most, least, strict=True)]


def _below(most: Grid, least: Grid) -> Grid:
    return [[NO_CAPACITY if y < 0 or x >= NO_CAPACITY else max(0, x - y) for x, y in zip(*rows, strict=True)]
            for rows in zip(most, least, strict=True)]


# -- the rules of eligibility, in the order in which they are judged ---------------------------------------------------

Context = tuple[bool, str | None, Mapping[tuple[str, str], int]]  # is the demand long, its parent, measured round trips


def _keeps_control(need: Row, signature: Row, _: Context) -> bool:
    has, allowed = signature["attributes"], need["control_countries"]
    return allowed is None or {has["parent_country"], has["operator_country"], has["keys_country"]} <= set(allowed)


def _keeps_latency(need: Row, signature: Row, context: Context) -> bool:
    if need["latency_ms_max"] is None:
        return True
    measured = context[2].get((need["vantage"], signature["attributes"]["site"]))
    return measured is not None and measured <= need["latency_ms_max"]


def _keeps_targets(need: Row, signature: Row, _: Context) -> bool:
    offered = signature["attributes"].get("targets", {})
    return all(
        name in offered and (offered[name] <= bound if name.endswith("_max") else offered[name] >= bound)
        for name, bound in need.get("targets", {}).items()
    )


def _promise(attributes: Row) -> tuple[int, tuple[tuple[str, int], ...]]:
    return attributes["sla_bps"], tuple(sorted(attributes.get("targets", {}).items()))


def _keeps_standing(_: Row, signature: Row, context: Context) -> bool:
    standing = signature["attributes"]["standing"]
    return standing == "PROVEN" or (standing == "PROBATION" and not context[0])


RULES: dict[str, Callable[[Row, Row, Context], bool]] = {
    "class": lambda need, a, _: a["attributes"]["resource_class"] in need["accepted_classes"],
    "country": lambda need, a, _: need["countries"] is None or a["attributes"]["country"] in need["countries"],
    "control": _keeps_control,
    "tier": lambda need, a, _: a["attributes"]["tier"] >= need["tier_min"],
    "papers": lambda need, a, _: set(need.get("papers", ())) <= set(a["attributes"].get("papers", ())),
    "latency": _keeps_latency,
    "sla": lambda need, a, _: a["attributes"]["sla_bps"] >= need["sla_bps_min"],
    "targets": _keeps_targets,
    "standing": _keeps_standing,
    "own_parent": lambda need, a, context: context[1] is None or a["parent"] != context[1],
}


# -- the script --------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: verify.py DIRECTORY or BUNDLE.zip", file=sys.stderr)
        return 2
    for stream in (sys.stdout, sys.stderr):  # a window may have any name, a terminal may know only some letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        report = verify_path(Path(arguments[0]))
    except Exception as problem:  # an archive can be broken in many ways
        print(f"no bundle there: {problem}", file=sys.stderr)
        return 2
    for check in report.checks:
        print(f"{'ok ' if check.ok else 'BAD'} {check.name}: {check.detail}")
    print(f"{report.awards} awards, {report.losers} losers, {report.losers_without_reason} without a reason, "
          f"{report.noncompliant_awards} noncompliant awards; welfare {report.welfare_micros}, "
          f"bound {report.bound_micros}, gap {report.gap_micros} micro-USD")
    print(f"{report.rejected_in_the_money} lines rejected in the money, {report.opportunity_cost_micros} micro-USD of "
          f"opportunity cost; windows miss {report.missed_for_whole_units_micros} micro-USD because units are whole")
    print(("the bundle proves its result, up to the gap; a replay proves that it is the one" if report.gap_micros or
           report.missed_for_whole_units_micros else "the bundle proves its result") if report.ok
          else f"REFUSED: {', '.join(report.failed())}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
