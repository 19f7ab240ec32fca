"""What a buyer paid per unit-hour, window by window, and how each renewal changed it (M-039)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Max, Sum

from marketplace.escrow.models import Lease
from marketplace.parties.models import Party

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Paid:
    """One demand in one window: the mean price of its leases, micro-USD per unit-hour, rounded down."""

    demand: UUID
    rank: int  # of the demand in its window
    reference: str
    window: str
    starts_at: datetime
    resource_class: str
    unit_hours: int
    price_micros: int
    before_micros: int | None  # of the same standing demand, or the same class and zone, one window earlier
    cap_ppm: int | None  # of the renewal, where a demand stands

    @property
    def change_ppm(self) -> int | None:
        """How far the price rose, in parts per million of the one before; negative when it fell."""
        before = self.before_micros
        return None if before is None else (self.price_micros - before) * PPM // before

    def mark(self) -> tuple[int, int, str]:
        """Where the line stands: by window, then by demand, then by class."""
        return int(self.starts_at.timestamp()), self.rank, self.resource_class


def price_history(party: Party) -> list[Paid]:
    """Return what a buyer's leases cost, newest window first; each beside what the same need cost before."""
    rows = (
        Lease.objects.filter(buyer=party).exclude(state="refused").order_by()
        .values("demand_id", "demand__accepted_rank", "demand__reference", "demand__zone_id", "window__name",
                "window__starts_at", "node_class__resource_class_id", "demand__standing_entry__standing_id")
        .annotate(fee=Sum("fee_micros"), hours=Sum("unit_hours"), cap=Max("demand__standing_entry__cap_ppm"))
        .order_by("window__starts_at", "demand__accepted_rank", "demand_id", "node_class__resource_class_id")
    )  # fmt: skip
    last: dict[tuple[object, ...], tuple[datetime, int]] = {}
    found = []
    for row in rows:
        standing = row["demand__standing_entry__standing_id"]
        need = (standing,) if standing else (row["node_class__resource_class_id"], row["demand__zone_id"])
        price, starts_at = int(row["fee"]) // int(row["hours"]), row["window__starts_at"]
        before = last.get(need)
        found.append(Paid(
            row["demand_id"], row["demand__accepted_rank"], row["demand__reference"], row["window__name"], starts_at,
            row["node_class__resource_class_id"], int(row["hours"]), price,
            before[1] if before and before[0] < starts_at else None, row["cap"],
        ))  # fmt: skip
        if not before or before[0] < starts_at:
            last[need] = (starts_at, price)
    return found[::-1]
