"""The agent's own clock: the one place in it that reads time."""

import os
import time
from datetime import UTC, datetime
from threading import Lock


def monotonic_ns() -> int:
    """Nanoseconds that never run backwards, from an origin of this process; stamps of a verifier."""
    return time.monotonic_ns()


def now() -> datetime:
    """The time of day, aware UTC."""
    return datetime.now(UTC)


def sleep_seconds(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


class MarketClock:
    """The market's time as this machine knows it: set at each answer that tells it, carried on by a steady counter.

    Before the first answer it is the machine's own time. `rate` is how many market seconds pass in one second: 1, but
    for a demo market whose clock runs fast (`GROVE_CLOCK_RATE`).
    """

    def __init__(self, rate: float | None = None) -> None:
        self.rate = rate if rate is not None else float(os.environ.get("GROVE_CLOCK_RATE") or 1)
        self._lock = Lock()
        self._base_ms, self._base_ns = time.time_ns() / 1e6, time.monotonic_ns()
        self.skew_ms: int | None = None  # the machine's time of day less the market's, at the last answer
        self.drift_ms: int | None = None  # how far this clock had run away from the market's since the answer before

    def now_ms(self) -> int:
        """Unix milliseconds of market time."""
        with self._lock:
            return int(self._base_ms + (time.monotonic_ns() - self._base_ns) / 1e6 * self.rate)

    def now_at(self) -> int:
        """Unix seconds of market time."""
        return self.now_ms() // 1000

    def set_by(self, told_ms: int, *, asked_ns: int) -> None:
        """Take the market's time out of an answer to a question asked at that counter.

        The answer was written somewhere between question and now: the middle is off by half the round trip at most.
        """
        answered_ns = time.monotonic_ns()
        carried_ms = self.now_ms() - (answered_ns - asked_ns) / 2e6 * self.rate
        with self._lock:
            self.drift_ms = None if self.skew_ms is None else int(carried_ms - told_ms)
            self._base_ms, self._base_ns = float(told_ms), (asked_ns + answered_ns) // 2
            self.skew_ms = int(time.time_ns() / 1e6 - (answered_ns - self._base_ns) / 1e6 - told_ms)

    def local_seconds(self, market_ms: float) -> float:
        """How many seconds of this machine pass while so many milliseconds of market time do; never negative."""
        return max(0.0, market_ms / 1000 / self.rate)
