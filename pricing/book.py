"""The sealed book of one window, in columns: what is cleared, hashed and published.

A `Book` that exists is valid: every number is whole and inside its bounds, every id is unique on its side, the lines
stand in the order of their ids and the tables in the order of their names. So the same lines handed in any order are
the same book. Ids, parents, sites and vantages are published as they stand: hand in pseudonyms fresh for the window.

`input_hash` is the SHA-256 over, in this order:
  1. the canonical JSON of {"attributes", "choices", "curves", "home_zones", "latency", "parents", "requirements",
     "rules", "slots"}: attributes and requirements as lists of their facts in the order of their names, latency as a
     sorted list of [vantage, site, ms], choices, curves and parents as sorted lists of texts;
  2. for demands, then bids: every id followed by a line feed, then each column of `DEMAND_COLUMNS` / `BID_COLUMNS` as
     little-endian int64 (kinds as their place in `KINDS`, flags as 0 and 1, texts as their place in the table or -1).
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from pricing import errors
from pricing.lines import (
    ID,
    KINDS,
    ONE_BPS,
    PUBLISHED_LIMIT,
    TEXT_MAX,
    Attributes,
    BidLine,
    DemandLine,
    Requirement,
    Rules,
    attributes_facts,
    canonical_json,
    canonical_requirement,
    check_attributes,
    check_bid,
    check_demand,
    check_latency,
    check_requirement,
    check_rules,
    check_zone,
    name_of,
    requirement_facts,
    whole,
)

TICK_MICROS = 100  # micro-USD per unit-hour
PRICE_MIN_MICROS = 100
PRICE_MAX_MICROS = 1_000_000_000
QUANTITY_MAX_UNITS = 1 << 20
SLOTS_MAX = 744
MONEY_LIMIT_MICROS = 1 << 62
PROBATION_SLOTS_MAX = 24  # a demand over more slots than this is kept off capacity on probation

DIVISIBLE, WINDOW, BLOCK = range(3)
DEMAND_COLUMNS = (
    "kind", "quantity", "start", "end", "price", "rank", "minimum", "requirement", "parent", "choice", "curve",
    "is_one_site", "is_foundation",
)
BID_COLUMNS = (
    "quantity", "start", "end", "price", "quality", "rank", "minimum", "attributes", "parent", "curve",
)

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Line = TypeVar("Line", DemandLine, BidLine)


@dataclass(frozen=True)
class Tables:
    """The distinct texts and rules that the columns point into, sorted by name."""

    requirements: tuple[Requirement, ...]
    attributes: tuple[Attributes, ...]
    parents: tuple[str, ...]
    choices: tuple[str, ...]
    curves: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Demands(Sequence[DemandLine]):
    """All demands by column; a sequence of `DemandLine` to whoever reads line by line."""

    tables: Tables
    ids: tuple[str, ...]  # [n] sorted
    kind: Ints  # [n] place in KINDS
    quantity: Ints  # [n] units per slot
    start: Ints  # [n] slot
    end: Ints  # [n] slot, exclusive
    price: Ints  # [n] limit, micro-USD per unit-hour
    rank: Ints  # [n] order of acceptance
    minimum: Ints  # [n] units, 0 without
    requirement: Ints  # [n] place in tables.requirements
    parent: Ints  # [n] place in tables.parents
    choice: Ints  # [n] place in tables.choices, -1 without
    curve: Ints  # [n] place in tables.curves, -1 without
    is_one_site: Flags  # [n]
    is_foundation: Flags  # [n]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def hours(self) -> Ints:
        return self.end - self.start

    @cached_property
    def is_indivisible(self) -> Flags:
        """Lines that a price alone cannot ration: all or none, from a minimum on, one of several, or in one site."""
        flags: Flags = (self.minimum > 0) | (self.choice >= 0) | self.is_one_site
        return flags

    @overload
    def __getitem__(self, index: int) -> DemandLine: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[DemandLine, ...]: ...
    def __getitem__(self, index: int | slice) -> DemandLine | tuple[DemandLine, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        t = self.tables
        choice, curve = int(self.choice[index]), int(self.curve[index])
        return DemandLine(
            id=self.ids[index], parent=t.parents[self.parent[index]], kind=KINDS[self.kind[index]],  # type: ignore[arg-type]
            quantity_units=int(self.quantity[index]), start_slot=int(self.start[index]), end_slot=int(self.end[index]),
            price_limit_micros=int(self.price[index]), requirement=t.requirements[self.requirement[index]],
            accepted_rank=int(self.rank[index]), minimum_units=int(self.minimum[index]),
            choice=None if choice < 0 else t.choices[choice], curve=None if curve < 0 else t.curves[curve],
            is_one_site=bool(self.is_one_site[index]), is_foundation=bool(self.is_foundation[index]),
        )


@dataclass(frozen=True, eq=False)
class Bids(Sequence[BidLine]):
    """All bids by column; a sequence of `BidLine` to whoever reads line by line."""

    tables: Tables
    ids: tuple[str, ...]  # [m] sorted
    quantity: Ints  # [m] units per slot
    start: Ints  # [m] slot
    end: Ints  # [m] slot, exclusive
    price: Ints  # [m] ask as handed in, micro-USD per unit-hour
    quality: Ints  # [m] basis points
    rank: Ints  # [m] order of acceptance
    minimum: Ints  # [m] units, 0 without
    attributes: Ints  # [m] place in tables.attributes
    parent: Ints  # [m] place in tables.parents
    curve: Ints  # [m] place in tables.curves, -1 without

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def hours(self) -> Ints:
        return self.end - self.start

    @cached_property
    def ask(self) -> Ints:
        """The quality-adjusted ask, what competes and what a price never undercuts.  # int64 [m] micro-USD"""
        step = self.quality * TICK_MICROS
        ask: Ints = (self.price * ONE_BPS + step - 1) // step * TICK_MICROS
        return ask

    @cached_property
    def is_indivisible(self) -> Flags:
        flags: Flags = self.minimum > 0
        return flags

    @overload
    def __getitem__(self, index: int) -> BidLine: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[BidLine, ...]: ...
    def __getitem__(self, index: int | slice) -> BidLine | tuple[BidLine, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        t = self.tables
        curve = int(self.curve[index])
        return BidLine(
            id=self.ids[index], parent=t.parents[self.parent[index]], quantity_units=int(self.quantity[index]),
            start_slot=int(self.start[index]), end_slot=int(self.end[index]),
            price_ask_micros=int(self.price[index]), quality_bps=int(self.quality[index]),
            attributes=t.attributes[self.attributes[index]], accepted_rank=int(self.rank[index]),
            minimum_units=int(self.minimum[index]), curve=None if curve < 0 else t.curves[curve],
        )


@dataclass(frozen=True, eq=False)
class Book:
    """One window's sealed lines. Made by `make_book` or `book_from_columns`, which leave nothing unchecked.

    `latency_ms` maps (vantage, site) to the measured round trip, `home_zones` a country to the smallest zone that its
    capacity is sold in (a country not named is its own); entries that no line of this book asks for are dropped.
    """

    slots: int
    demands: Demands
    bids: Bids
    tables: Tables
    latency_ms: Mapping[tuple[str, str], int]
    rules: Rules
    home_zones: Mapping[str, str]

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        return self.tables.requirements

    @property
    def attributes(self) -> tuple[Attributes, ...]:
        return self.tables.attributes

    @property
    def parents(self) -> tuple[str, ...]:
        return self.tables.parents

    def home_zone(self, attributes: Attributes) -> str:
        return self.home_zones.get(attributes.country, attributes.country)

    @cached_property
    def input_hash(self) -> bytes:
        """SHA-256 over all sealed lines, ranks included, times excluded. No party alone chooses it."""
        t = self.tables
        digest = hashlib.sha256(canonical_json({
            "slots": self.slots, "rules": vars(self.rules), "home_zones": dict(self.home_zones),
            "latency": [[vantage, site, ms] for (vantage, site), ms in self.latency_ms.items()],
            "requirements": [requirement_facts(rule) for rule in t.requirements],
            "attributes": [attributes_facts(known) for known in t.attributes],
            "parents": t.parents, "choices": t.choices, "curves": t.curves,
        }))
        for side, columns in ((self.demands, DEMAND_COLUMNS), (self.bids, BID_COLUMNS)):
            digest.update("\n".join((*side.ids, "")).encode())  # each with a line feed
            for name in columns:
                digest.update(np.asarray(getattr(side, name), dtype="<i8").tobytes())
        return digest.digest()


def make_book(
    *,
    slots: int,
    demands: Iterable[DemandLine],
    bids: Iterable[BidLine],
    latency_ms: Mapping[tuple[str, str], int] | None = None,
    rules: Rules | None = None,
    home_zones: Mapping[str, str] | None = None,
) -> Book:
    """A valid book, the same whatever the order of the lines. Raises a `ClearingError` that names the line."""
    demand_lines, bid_lines = [check_demand(line) for line in demands], [check_bid(line) for line in bids]
    requirements = _Numbered([canonical_requirement(line.requirement) for line in demand_lines])
    attributes = _Numbered([line.attributes for line in bid_lines])
    parents = _Numbered([line.parent for line in demand_lines] + [line.parent for line in bid_lines])
    choices = _Numbered([line.choice for line in demand_lines])
    curves = _Numbered([line.curve for line in demand_lines] + [line.curve for line in bid_lines])
    n = len(demand_lines)
    return book_from_columns(
        slots=slots,
        demands={
            "ids": [line.id for line in demand_lines],
            "kind": _ints(KINDS.index(line.kind) for line in demand_lines),
            **_common(demand_lines, "price_limit_micros"),
            "requirement": requirements.places, "parent": parents.places[:n], "choice": choices.places,
            "curve": curves.places[:n], "is_one_site": _ints(line.is_one_site for line in demand_lines),
            "is_foundation": _ints(line.is_foundation for line in demand_lines),
        },
        bids={
            "ids": [line.id for line in bid_lines], **_common(bid_lines, "price_ask_micros"),
            "quality": _ints(line.quality_bps for line in bid_lines), "attributes": attributes.places,
            "parent": parents.places[n:], "curve": curves.places[n:],
        },
        requirements=requirements.table, attributes=attributes.table, parents=parents.table, choices=choices.table,
        curves=curves.table, latency_ms=latency_ms, rules=rules, home_zones=home_zones,
    )


def book_from_columns(
    *,
    slots: int,
    demands: Mapping[str, Any],
    bids: Mapping[str, Any],
    requirements: Sequence[Requirement],
    attributes: Sequence[Attributes],
    parents: Sequence[str],
    choices: Sequence[str] = (),
    curves: Sequence[str] = (),
    latency_ms: Mapping[tuple[str, str], int] | None = None,
    rules: Rules | None = None,
    home_zones: Mapping[str, str] | None = None,
) -> Book:
    """A valid book from columns: `ids` (texts) and one int array per name of `DEMAND_COLUMNS` and `BID_COLUMNS`.

    Columns that point into a table hold places in the table handed in; the book's own tables are sorted and without
    what no line uses. Raises a `ClearingError` that names the line.
    """
    whole(slots, "slots")
    if not 1 <= slots <= SLOTS_MAX:
        raise errors.BadSlotRange("A window has 1 to 744 slots.", slots=slots)
    rules = Rules() if rules is None else rules
    check_rules(rules)
    demand, bid = _in_order(demands, DEMAND_COLUMNS), _in_order(bids, BID_COLUMNS)
    for table, users in ((parents, ((demand, "parent", 0), (bid, "parent", 0))), (choices, ((demand, "choice", -1),)),
                         (curves, ((demand, "curve", -1), (bid, "curve", -1)))):
        _check_texts(table, "table")
        for columns, name, least in users:
            _check_places(columns, name, least, len(table))
    for rule, line in _first_users(requirements, demand, "requirement"):
        check_requirement(rule, line)
    for known, line in _first_users(attributes, bid, "attributes"):
        check_attributes(known, line)
    tables = Tables(
        requirements=_sort_table([canonical_requirement(rule) for rule in requirements], [(demand, "requirement")],
                                 lambda rule: name_of(requirement_facts(rule))),
        attributes=_sort_table(attributes, [(bid, "attributes")], lambda known: name_of(attributes_facts(known))),
        parents=_sort_table(parents, [(demand, "parent"), (bid, "parent")], str),
        choices=_sort_table(choices, [(demand, "choice")], str),
        curves=_sort_table(curves, [(demand, "curve"), (bid, "curve")], str),
    )
    for name in ("is_one_site", "is_foundation"):
        demand[name] = demand[name] != 0
    book = Book(
        slots, Demands(tables=tables, **demand), Bids(tables=tables, **bid), tables,
        _used_latency({} if latency_ms is None else latency_ms, tables), rules,
        _used_zones({} if home_zones is None else home_zones, tables),
    )
    _check_demands(book.demands, slots)
    _check_bids(book.bids, slots)
    _check_curves(book)
    _refuse_overflow(book)
    return book


def adjusted_ask_micros(bid: BidLine) -> int:
    """The ask per *delivered* unit-hour: ask / quality, rounded up to the tick, in exact integers.

    Hours that are not delivered are not paid, so a price of at least this covers the ask per booked hour on average.
    """
    denominator = bid.quality_bps * TICK_MICROS
    return -(-bid.price_ask_micros * ONE_BPS // denominator) * TICK_MICROS


# -- columns and tables ------------------------------------------------------------------------------------------------


class _Numbered:
    """Distinct values in order of appearance and the place of each; None is -1."""

    def __init__(self, values: Sequence[Any]) -> None:
        known: dict[Any, int] = {}
        self.places = _ints(-1 if value is None else known.setdefault(value, len(known)) for value in values)
        self.table = list(known)


def _common(lines: Sequence[DemandLine] | Sequence[BidLine], price: str) -> dict[str, Ints]:
    return {
        "quantity": _ints(line.quantity_units for line in lines), "start": _ints(line.start_slot for line in lines),
        "end": _ints(line.end_slot for line in lines), "price": _ints(getattr(line, price) for line in lines),
        "rank": _ints(line.accepted_rank for line in lines), "minimum": _ints(line.minimum_units for line in lines),
    }


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _in_order(columns: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The columns in the order of the ids, as int64. Raises `DuplicateId`, `NotInteger`."""
    ids = columns["ids"]
    _check_texts(ids, "ids")
    ordered: dict[str, Any] = {}
    order = None if all(a < b for a, b in _pairs(ids)) else np.array(sorted(range(len(ids)), key=ids.__getitem__))
    for name in names:
        column = np.asarray(columns[name])
        if column.dtype.kind not in "iub" or column.shape != (len(ids),):
            raise errors.NotInteger("A column holds one whole number a line.", field=name, dtype=str(column.dtype))
        column = column.astype(np.int64)
        ordered[name] = column if order is None else column[order]
    ordered["ids"] = tuple(ids) if order is None else tuple(ids[i] for i in order)
    for one, other in _pairs(ordered["ids"]):
        if one == other:
            raise errors.DuplicateId("Two lines of one side share an id.", line=one)
    return ordered


def _check_texts(texts: Sequence[str], field: str) -> None:
    for text in texts:
        if not isinstance(text, str) or not ID.fullmatch(text):
            raise errors.BadText(f"A name is 1 to {TEXT_MAX} letters, digits, dots, colons, dashes.", field=field,
                                 line=repr(text))


def _check_places(columns: Mapping[str, Any], name: str, least: int, length: int) -> None:
    outside = (columns[name] < least) | (columns[name] >= length)
    if outside.any():
        raise errors.NotInteger("A line points outside its table.", field=name,
                                line=columns["ids"][int(np.argmax(outside))])


def _pairs(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    return itertools.pairwise(ids)


Value = TypeVar("Value")


def _first_users(table: Sequence[Value], columns: Mapping[str, Any], name: str) -> Iterator[tuple[Value, str]]:
    """Each value of the table that is used, with the first line that uses it."""
    _check_places(columns, name, 0, len(table))
    places, first = np.unique(columns[name], return_index=True)
    for place, line in zip(places, first, strict=True):
        yield table[place], columns["ids"][line]


def _sort_table(
    table: Sequence[Value], users: Sequence[tuple[dict[str, Any], str]], name: Any
) -> tuple[Value, ...]:
    """The used, distinct values in the order of their names; the columns that point at them follow."""
    used = np.unique(np.concatenate([columns[column] for columns, column in users]))
    by_name = {name(table[place]): table[place] for place in used if place >= 0}
    order = sorted(by_name)
    new_place = np.full(len(table) + 1, -1, dtype=np.int64)  # the last stands for -1, none
    position = {text: index for index, text in enumerate(order)}
    for place in used:
        if place >= 0:
            new_place[place] = position[name(table[place])]
    for columns, column in users:
        columns[column] = new_place[columns[column]]
    return tuple(by_name[text] for text in order)


def _used_latency(latency_ms: Mapping[tuple[str, str], int], tables: Tables) -> dict[tuple[str, str], int]:
    vantages = {rule.vantage for rule in tables.requirements if rule.latency_ms_max is not None}
    sites = {known.site for known in tables.attributes}
    used: dict[tuple[str, str], int] = {}
    for key, milliseconds in _items(latency_ms, "latency_ms"):
        check_latency(key, milliseconds)
        vantage, site = key
        if vantage in vantages and site in sites:
            used[vantage, site] = milliseconds
    return dict(sorted(used.items()))


def _used_zones(home_zones: Mapping[str, str], tables: Tables) -> dict[str, str]:
    countries = {known.country for known in tables.attributes}
    for country, zone in _items(home_zones, "home_zones"):
        check_zone(country, zone)
    return {country: zone for country, zone in sorted(home_zones.items()) if country in countries and zone != country}


def _items(mapping: object, name: str) -> Iterable[tuple[Any, Any]]:
    if not isinstance(mapping, Mapping):
        raise errors.BadText(f"{name} is a mapping.", field=name)
    return mapping.items()


# -- bounds ------------------------------------------------------------------------------------------------------------


def _refuse(bad: Flags, error: type[errors.ClearingError], sentence: str, side: Demands | Bids, *facts: str) -> None:
    """Name the first line where `bad` holds, with its value in each column of `facts`."""
    if bad.any():
        i = int(np.argmax(bad))
        raise error(sentence, line=side.ids[i], **{name: int(getattr(side, name)[i]) for name in facts})


def _check_side(side: Demands | Bids, slots: int) -> None:
    _refuse((side.quantity < 1) | (side.quantity > QUANTITY_MAX_UNITS), errors.BadQuantity,
            "A quantity is 1 to 2^20 units.", side, "quantity")
    _refuse((side.minimum < 0) | (side.minimum > side.quantity), errors.BadQuantity,
            "A minimum is 0 to the quantity.", side, "quantity", "minimum")
    _refuse((side.start < 0) | (side.start >= side.end) | (side.end > slots), errors.BadSlotRange,
            "A line lies inside its window and is not empty.", side, "start", "end")
    _refuse((side.price < PRICE_MIN_MICROS) | (side.price > PRICE_MAX_MICROS), errors.PriceOutOfRange,
            "A price is 100 to 1,000,000,000 micro-USD.", side, "price")
    _refuse(side.price % TICK_MICROS != 0, errors.PriceOffTick,
            "A price is a multiple of 100 micro-USD.", side, "price")
    _refuse((side.rank < 0) | (side.rank >= PUBLISHED_LIMIT), errors.BadRank,
            "A rank of acceptance is 0 to 2^53.", side, "rank")


def _check_demands(demands: Demands, slots: int) -> None:
    _check_side(demands, slots)
    _refuse((demands.kind < DIVISIBLE) | (demands.kind > BLOCK), errors.KindNotSupported, "There is no such kind.",
            demands, "kind")
    _refuse((demands.kind == DIVISIBLE) & demands.is_indivisible, errors.KindNotSupported,
            "A divisible demand has no minimum, no alternatives and no single site.", demands)
    _refuse((demands.kind == BLOCK) & (demands.minimum != demands.quantity), errors.BadQuantity,
            "A block is all or nothing.", demands, "quantity", "minimum")
    _refuse(((demands.curve >= 0) | demands.is_foundation) & demands.is_indivisible, errors.KindNotSupported,
            "A price step and a line of the Foundation are divisible or a plain window.", demands)


def _check_bids(bids: Bids, slots: int) -> None:
    _check_side(bids, slots)
    _refuse((bids.quality < 1) | (bids.quality > ONE_BPS), errors.BadQuality,
            "quality_bps is 1 to 10,000 basis points.", bids, "quality")
    _refuse(bids.ask > PRICE_MAX_MICROS, errors.PriceOutOfRange,
            "The ask divided by the quality score is above the highest price.", bids, "price", "quality")
    _refuse((bids.curve >= 0) & bids.is_indivisible, errors.KindNotSupported, "A price curve has no minimum.", bids)


def _check_curves(book: Book) -> None:
    """The steps of one order, in the order of their ids: limits do not rise, asks do not fall, all else is the same."""
    for side, same, sign in (
        (book.demands, ("kind", "start", "end", "requirement", "parent", "is_foundation"), -1),
        (book.bids, ("start", "end", "attributes", "parent", "quality"), 1),
    ):
        steps = np.flatnonzero(side.curve >= 0)
        steps = steps[np.argsort(side.curve[steps], kind="stable")]
        one, other = steps[:-1], steps[1:]
        is_next = side.curve[one] == side.curve[other]
        bad = sign * (side.price[other] - side.price[one]) < 0
        for name in same:
            bad |= getattr(side, name)[one] != getattr(side, name)[other]
        if (bad & is_next).any():
            line = side.ids[other[np.argmax(bad & is_next)]]
            raise errors.CurveNotMonotone(
                "The steps of one curve share everything but units and price, and their prices run one way.", line=line)


def _refuse_overflow(book: Book) -> None:
    total = exact_sum(book.demands.quantity * book.demands.hours * book.demands.price)
    total += exact_sum(book.bids.quantity * book.bids.hours * book.bids.ask)
    if total >= MONEY_LIMIT_MICROS:
        raise errors.BookOverflow("The book's money does not fit 62 bits.", total_micros=total)


def exact_sum(values: Ints) -> int:
    """The sum as a Python int, whatever its size."""
    high, low = values >> 32, values & 0xFFFFFFFF
    return (int(high.sum()) << 32) + int(low.sum())
