"""The agent's own clock: the one place in it that reads time."""

import time
from datetime import UTC, datetime


def monotonic_ns() -> int:
    """Nanoseconds that never run backwards, from an origin of this process; stamps of a verifier."""
    return time.monotonic_ns()


def now() -> datetime:
    """The time of day, aware UTC."""
    return datetime.now(UTC)


def sleep_seconds(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
