"""What it costs to come together (M-091): hours from demand to lease, counterparties per fill, hands on each lease.

All of it is counted from the audit trail: when a demand was posted, when its lease's first documentation pack was made
(that is when the lease was made), and every line about the demand or the lease whose actor is a person. A program acts
under its party's short name; a person's actor is an e-mail address. The trend is told window by window, oldest first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from statistics import median_low

from marketplace.catalogue.models import Window
from marketplace.escrow.models import Lease
from marketplace.governance.models import AuditLine

WINDOWS_SHOWN = 26


@dataclass(frozen=True)
class Coordination:
    """One window's cost of coming together. Minutes and thousandths are whole numbers."""

    window: str
    leases: int
    fills: int
    median_minutes: int
    counterparties_milli: int
    touches_milli: int

    @property
    def median_hours(self) -> str:
        return f"{self.median_minutes // 60}.{self.median_minutes % 60 * 10 // 60}"

    @property
    def counterparties(self) -> str:
        return _thousandths(self.counterparties_milli)

    @property
    def touches(self) -> str:
        return _thousandths(self.touches_milli)


@dataclass(frozen=True)
class Trend:
    """The windows in order, and how the last stands to the first: negative is cheaper. Minutes; thousandths."""

    rows: list[Coordination]

    @property
    def minutes_change(self) -> int | None:
        return self.rows[-1].median_minutes - self.rows[0].median_minutes if len(self.rows) > 1 else None

    @property
    def touches_change_milli(self) -> int | None:
        return self.rows[-1].touches_milli - self.rows[0].touches_milli if len(self.rows) > 1 else None

    @property
    def words(self) -> str:
        """The trend in one sentence."""
        if self.minutes_change is None or self.touches_change_milli is None:
            return "One window is no trend: it appears with the second."
        ways = {True: "fell", False: "rose"}
        hours = ("stayed" if self.minutes_change == 0 else ways[self.minutes_change < 0])
        hands = ("stayed" if self.touches_change_milli == 0 else ways[self.touches_change_milli < 0])
        return (
            f"Over {len(self.rows)} windows the hours from demand to lease {hours} by "
            f"{abs(self.minutes_change) // 60}, and hands on each lease {hands} by "
            f"{_thousandths(abs(self.touches_change_milli))}."
        )


def coordination_trend() -> Trend:
    """Count the last windows that made leases. Four queries, however many there are."""
    windows = list(Window.objects.filter(leases__isnull=False).distinct().order_by("-number")[:WINDOWS_SHOWN])
    leases = Lease.objects.filter(window__in=windows).exclude(state="refused")
    by_window: dict[int, list[Lease]] = defaultdict(list)
    for lease in leases.only("pk", "window_id", "demand_id", "provider_id").order_by("pk"):
        by_window[lease.window_id].append(lease)
    subjects = {str(key) for rows in by_window.values() for lease in rows for key in (lease.pk, lease.demand_id)}
    posted, made, touched = _lines(subjects)
    rows = [_row(window, by_window[window.pk], posted, made, touched) for window in reversed(windows)]
    return Trend([row for row in rows if row is not None])


def _lines(subjects: set[str]) -> tuple[dict[str, datetime], dict[str, datetime], dict[str, int]]:
    """From the trail: when each demand was posted, when each lease was made, and lines by people about either."""
    posted: dict[str, datetime] = {}
    made: dict[str, datetime] = {}
    touched: dict[str, int] = defaultdict(int)
    lines = AuditLine.objects.filter(subject__in=subjects).order_by("no")
    for subject, action, actor, at in lines.values_list("subject", "action", "actor", "at").iterator(chunk_size=2_000):
        if action == "post_demand":
            posted.setdefault(subject, at)
        elif action == "make_pack":
            made.setdefault(subject, at)
        touched[subject] += "@" in actor
    return posted, made, touched


def _row(
    window: Window, leases: list[Lease], posted: dict[str, datetime], made: dict[str, datetime],
    touched: dict[str, int],
) -> Coordination | None:  # fmt: skip
    known = [lease for lease in leases if str(lease.pk) in made and str(lease.demand_id) in posted]
    if not known:
        return None
    minutes = [int((made[str(each.pk)] - posted[str(each.demand_id)]).total_seconds()) // 60 for each in known]
    met: dict[object, set[object]] = defaultdict(set)
    for lease in known:
        met[lease.demand_id].add(lease.provider_id)
    hands = sum(touched.get(str(each.pk), 0) for each in known) + sum(touched.get(str(each), 0) for each in met)
    return Coordination(
        window=window.name, leases=len(known), fills=len(met), median_minutes=median_low(minutes),
        counterparties_milli=1000 * sum(len(each) for each in met.values()) // len(met),
        touches_milli=1000 * hands // len(known),
    )  # fmt: skip


def _thousandths(milli: int) -> str:
    return f"{milli // 1000}.{milli % 1000 // 10:02d}"
