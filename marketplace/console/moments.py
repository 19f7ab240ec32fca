"""Moments that people write into the console's forms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from django.utils.dateparse import parse_datetime

from marketplace.errors import BadInput
from marketplace.years import require_year


def moment(form: Mapping[str, str], field: str, *, empty: datetime | None = None) -> datetime:
    """A moment of a form, read as UTC where it names no zone; `empty` where nothing was written. Raises BadInput."""
    text = form.get(field, "")
    if not text and empty is not None:
        return empty
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise BadInput("Write a date and a time such as 2027-01-31T12:00, UTC.", field=field)
    require_year(found, field)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
