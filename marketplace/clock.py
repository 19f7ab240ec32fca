"""Market time: the only place that reads the wall clock. Services get `now` as an argument.

With `DEMO=1` the clock can be moved forward; the embedded chain and the ledger's jobs follow, because they are handed
this same function. It can never be turned back: money and proofs are dated by it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection

from marketplace.errors import ClockRunsForward


def now() -> datetime:
    """The market's time, UTC: wall clock plus the offset of a demo."""
    wall = datetime.now(UTC)
    return wall + timedelta(seconds=_offset_seconds()) if settings.DEMO else wall


def move_forward(seconds: int) -> datetime:
    """Move market time `seconds` ahead and return the new time. Refused outside a demo, and backwards."""
    if not settings.DEMO:
        raise ClockRunsForward("Market time moves by itself; only a demo may move it.", seconds=seconds)
    if seconds < 0:
        raise ClockRunsForward("Market time cannot be turned back.", seconds=seconds)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO marketplace_marketclock (id, offset_seconds) VALUES (1, %s) "
            "ON CONFLICT (id) DO UPDATE SET offset_seconds = marketplace_marketclock.offset_seconds + %s",
            [seconds, seconds],
        )
    return now()


def move_to(instant: datetime) -> datetime:
    """Move market time to `instant` unless it is already past it."""
    ahead = (instant - now()).total_seconds()
    return move_forward(int(ahead) + 1) if ahead > 0 else now()


def _offset_seconds() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT offset_seconds FROM marketplace_marketclock WHERE id = 1")
        row = cursor.fetchone()
    return int(row[0]) if row else 0
