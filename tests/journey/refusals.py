"""A refusal has its code and its facts, and writes nothing: `with refused(PriceOffTick, field="..."): ...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection


@contextmanager
def refused(error_class: type[Exception], /, **facts: Any) -> Iterator[Any]:
    """Expect exactly this class of refusal, with at least these facts, and not one row changed in any table."""
    before = all_rows()

    with pytest.raises(error_class) as caught:
        yield caught

    error: Any = caught.value
    assert type(error) is error_class
    assert str(error).endswith(".")
    assert {name: error.facts.get(name) for name in facts} == facts
    assert {name for name, rows in all_rows().items() if rows != before[name]} == set()


@contextmanager
def untouched() -> Iterator[None]:
    """Expect that what happens here changes no row of any table."""
    before = all_rows()
    yield
    assert {name for name, rows in all_rows().items() if rows != before[name]} == set()


def all_rows() -> dict[str, tuple[int, str]]:
    """Every table of ours: how many rows, and a digest of what they say."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        names = sorted(name for name in tables if name.startswith(("marketplace_", "ledger_")))
        digest = "coalesce(sum(hashtextextended(t::text, 0)), 0)::text"  # of a bag of rows: no order, no sort
        cursor.execute(" UNION ALL ".join(f"SELECT '{name}', count(*), {digest} FROM {name} t" for name in names))
        return {name: (count, digest) for name, count, digest in cursor.fetchall()}
