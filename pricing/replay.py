"""Clear the sealed lines of a published bundle again: this very code must give the same bytes.

`verify` needs to trust nobody and proves that a result is optimal and fair to the limits; of several such results, or
where lines are indivisible, it cannot tell which one the rules call for. The replay can: it needs this package, and
then nothing is left to whoever published.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pricing.book import Book, make_book
from pricing.bundle import public_bundle
from pricing.clearing import clear
from pricing.lines import Attributes, BidLine, DemandLine, Requirement, Rules

Row = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """The first line in which a published file is not what clearing again gives; texts are empty where none stands."""

    file: str
    line: int
    published: str
    replayed: str


def replay_bundle(files: Mapping[str, bytes]) -> tuple[Difference, ...]:
    """The first difference of each file; none where the bundle is the one that its sealed lines give.

    `files` must have passed `verify`. Raises a `ClearingError` as `make_book` and `clear` do.
    """
    again = public_bundle(clear(book_of(files)), window=json.loads(files["manifest.json"])["window"])
    return tuple(_first_difference(name, files.get(name, b""), again.get(name, b""))
                 for name in sorted(files.keys() | again.keys()) if files.get(name) != again.get(name))


def book_of(files: Mapping[str, bytes]) -> Book:
    """The sealed book of a bundle."""
    manifest = json.loads(files["manifest.json"])
    requirements = {row.pop("requirement"): Requirement(**_with_tuples(row)) for row in _rows(files, "requirements")}
    attributes = {row.pop("attributes"): Attributes(**_with_tuples(row)) for row in _rows(files, "attributes")}
    return make_book(
        slots=manifest["slots"], rules=Rules(**manifest["rules"]), home_zones=manifest["home_zones"],
        latency_ms={(row["vantage"], row["site"]): row["latency_ms"] for row in _rows(files, "latency")},
        demands=[DemandLine(**{**row, "requirement": requirements[row["requirement"]]})
                 for row in _rows(files, "demands")],
        bids=[BidLine(**{**row, "attributes": attributes[row["attributes"]]}) for row in _rows(files, "bids")],
    )


def _rows(files: Mapping[str, bytes], name: str) -> list[Row]:
    return [json.loads(line) for line in files[f"{name}.jsonl"].splitlines()]


def _with_tuples(row: Row) -> Row:
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    if "targets" in row:
        made["targets"] = tuple(row["targets"].items())
    return made


def _first_difference(file: str, published: bytes, replayed: bytes) -> Difference:
    pairs = zip_longest(published.splitlines(), replayed.splitlines(), fillvalue=b"")
    number, (one, other) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    return Difference(file, number, one.decode(), other.decode())
