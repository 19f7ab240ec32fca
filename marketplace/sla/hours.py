"""The delivered hours that a class's quality score and stake are made of: good, bad, and those that say nothing.

An hour that nobody saw, or that lost only minutes which were not the provider's doing, counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterable

from marketplace.delivery.models import Reading
from pricing.penalties import is_good_hour

EXCUSES = ("FORCE_MAJEURE", "NETWORK")  # causes of unpaid minutes that are not the provider's doing


def count_hours(rows: Iterable[Reading]) -> tuple[int, int]:
    """Good and bad unit-hours of some rated slots."""
    counted = {True: 0, False: 0, None: 0}
    for row in rows:
        excused = sum(row.causes.get(cause, 0).bit_count() for cause in EXCUSES)
        excused = min(excused, 60 - row.minutes_billable - row.minutes_down)  # a decided case may have billed some
        is_good = is_good_hour(billable_minutes=row.minutes_billable, excused_minutes=excused)
        counted[is_good if row.minutes_unknown < 60 else None] += row.units
    return counted[True], counted[False]
