"""The years in which the market works: a date outside them is a slip of the pen, and none is reckoned with."""

from __future__ import annotations

from datetime import date

from marketplace.errors import BadInput

YEAR_MIN, YEAR_MAX = 2000, 2199
YEARS = range(YEAR_MIN, YEAR_MAX + 1)
OUTSIDE_WORDS = f"Write a date of the years {YEAR_MIN} to {YEAR_MAX}."


def require_year(day: date, field: str) -> None:
    """Refuse a day or a moment outside the years of the market: to add hours to it could pass the calendar's end."""
    if day.year not in YEARS:
        raise BadInput(OUTSIDE_WORDS, field=field)
