"""The list of refusals, made from the trees themselves, so that it cannot fall behind them."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import ledger.errors as books
import marketplace.errors as market
from marketplace.api import errors as api
from marketplace.api.errors import FIELD_CODES
from marketplace.api.problems import STATUS


@dataclass(frozen=True)
class Line:
    """One refusal: its code, its status, and when it is given."""

    code: str
    status: int
    meaning: str


def meanings(module: ModuleType) -> dict[str, str]:
    """Return what the tree at the top of an `errors` module says of each class: the words after its code."""
    found = {}
    for row in (module.__doc__ or "").splitlines():
        name, _, rest = row.lstrip(" |").removeprefix("+-").strip().partition(" ")
        code, _, words = rest.strip().partition(" ")
        if row.lstrip(" |").startswith("+-") and code:
            found[name] = words.strip()
    return found


def list_refusals() -> list[Line]:
    """Return every refusal that a request can meet, by status and code; one line per code."""
    words = meanings(books) | meanings(market) | meanings(api)
    lines: dict[str, Line] = {}
    for kind, status in STATUS.items():
        code = str(kind.code)  # type: ignore[attr-defined]
        meaning = words[kind.__name__]
        if code in lines and lines[code].meaning != meaning:
            meaning = f"{lines[code].meaning}; {meaning}"
        lines[code] = Line(code, status, meaning)
    for code, meaning in FIELD_CODES.items():
        lines.setdefault(code, Line(code, 422, meaning))
    return sorted(lines.values(), key=lambda line: (line.status, line.code))


def markdown_table() -> str:
    """Return the list as a markdown table for the API description."""
    rows = [f"| `{line.code}` | {line.status} | {line.meaning} |" for line in list_refusals()]
    return "\n".join(["| code | status | when |", "|---|---|---|", *rows])
