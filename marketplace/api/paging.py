"""Lists: filters that are named, a limit, and a cursor that keeps its place while rows are added."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework.request import Request

from marketplace.api.errors import BadParameter

LIMIT_MAX = 200
LIMIT_USUAL = 50
CURSOR_SHAPE = re.compile(r"[A-Za-z0-9_-]{1,200}")
LIMIT_SHAPE = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True)
class Page:
    """One page of rows, and the cursor of the next one or None."""

    rows: list[Any]
    next_cursor: str | None


def parameters(request: Request, allowed: Collection[str]) -> dict[str, str]:
    """Return the query as single values. Raises BadParameter for unknown, repeated and unreadable ones."""
    found: dict[str, str] = {}
    for name, values in request.query_params.lists():
        if name not in allowed:
            shown = repr(name[:40])
            raise BadParameter(f"There is no parameter {shown} here.", parameter=shown, known=sorted(allowed))
        if len(values) > 1:
            raise BadParameter(f"The parameter {name} is given twice.", parameter=name)
        if not values[0].isprintable():
            raise BadParameter(f"The parameter {name} cannot be read.", parameter=name)
        found[name] = values[0]
    return found


def choice(query: Mapping[str, str], name: str, known: Collection[str]) -> str:
    """Return one of `known`, or an empty text when the parameter is not given. Raises BadParameter."""
    value = query.get(name)
    if value is None:
        return ""
    if value not in known:
        raise BadParameter(f"There is no {name} {value[:40]!r}.", parameter=name, known=list(known))
    return value


def limit_of(query: Mapping[str, str]) -> int:
    """Return how many rows are asked for, 1 to 200. Raises BadParameter."""
    text = query.get("limit", str(LIMIT_USUAL))
    if not LIMIT_SHAPE.fullmatch(text) or not 1 <= int(text) <= LIMIT_MAX:
        raise BadParameter(f"A limit is a whole number from 1 to {LIMIT_MAX}.", parameter="limit")
    return int(text)


def page_by_time(rows: QuerySet[Any], query: Mapping[str, str], *, created: str) -> Page:
    """Return a page in the order (created, id), oldest first, so that new rows come after those already read."""
    limit = limit_of(query)
    rows = rows.order_by(created, "pk")
    if "cursor" in query:
        at, last = _read_mark(query["cursor"], rows.model._meta.pk.to_python)
        rows = rows.filter(Q(**{f"{created}__gt": at}) | Q(**{created: at, "pk__gt": last}))
    found = list(rows[: limit + 1])
    if len(found) <= limit:
        return Page(found, None)
    last_row = found[limit - 1]
    at = last_row
    for part in created.split("__"):
        at = getattr(at, part)
    return Page(found[:limit], write_cursor([at.astimezone(UTC).isoformat(), _text_of(last_row.pk)]))


def page_by_place(rows: Any, query: Mapping[str, str]) -> Page:
    """Return a page of an append-only sequence that is read newest first; the cursor counts from its oldest row."""
    limit, total = limit_of(query), len(rows)
    left = total
    if "cursor" in query:
        mark = read_cursor(query["cursor"])
        if len(mark) != 1 or isinstance(mark[0], bool) or not isinstance(mark[0], int) or not 0 <= mark[0] <= total:
            raise _bad_cursor()
        left = mark[0]
    start = total - left
    found = list(rows[start : start + limit])
    rest = left - len(found)
    return Page(found, write_cursor([rest]) if rest > 0 else None)


def page_by_mark(
    rows: Sequence[Any], query: Mapping[str, str], mark: Callable[[Any], Sequence[str | int]], *,
    is_falling: bool = False,
) -> Page:
    """Return a page of rows that were worked out, in the order of their marks; the cursor is the last mark shown.

    Marks are unique, and texts and numbers that are alike from row to row. A row that comes or goes meanwhile moves
    no other one to another page.
    """
    limit = limit_of(query)
    rows = sorted(rows, key=lambda row: tuple(mark(row)), reverse=is_falling)
    if "cursor" in query:
        last = tuple(read_cursor(query["cursor"]))
        if rows and [type(part) for part in last] != [type(part) for part in mark(rows[0])]:
            raise _bad_cursor()
        rows = [row for row in rows if (tuple(mark(row)) < last if is_falling else tuple(mark(row)) > last)]
    found = rows[:limit]
    return Page(found, write_cursor(list(mark(found[-1]))) if len(rows) > limit else None)


def write_cursor(mark: list[Any]) -> str:
    """Return a mark as text for a URL."""
    return base64.urlsafe_b64encode(json.dumps(mark, separators=(",", ":")).encode()).decode().rstrip("=")


def read_cursor(text: str) -> list[Any]:
    """Return the mark in a cursor. Raises BadParameter for anything that is none of ours."""
    if not CURSOR_SHAPE.fullmatch(text):
        raise _bad_cursor()
    try:
        mark = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(mark, list):
        raise _bad_cursor()
    return mark


def _read_mark(text: str, as_key: Any) -> tuple[datetime, Any]:
    try:
        at_text, key_text = read_cursor(text)
        at, key = datetime.fromisoformat(at_text), as_key(key_text)
    except BadParameter:
        raise
    except Exception:  # whatever a made-up cursor does to the readers of a time and a key, it is a bad cursor
        raise _bad_cursor() from None
    if at.tzinfo is None or not 2000 <= at.year <= 9000 or (isinstance(key, int) and not 0 <= key < 2**63):
        raise _bad_cursor()
    return at, key


def _text_of(key: Any) -> str | int:
    return key.hex if isinstance(key, UUID) else key


def _bad_cursor() -> BadParameter:
    return BadParameter("This cursor is none of ours; start without one.", parameter="cursor")


def next_link(request: Request, page: Page) -> str | None:
    """Return the Link header of the next page, or None at the end."""
    if page.next_cursor is None:
        return None
    query = {**request.query_params.dict(), "cursor": page.next_cursor}
    return f'<{request.path}?{urlencode(query)}>; rel="next"'


def whole(query: dict[str, str], name: str, usual: int) -> int:
    """Return a whole number of the query. Raises BadParameter."""
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise BadParameter(f"The parameter {name} is a whole number.", parameter=name)
    return int(text)
