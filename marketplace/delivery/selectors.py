"""Reads of metered hours."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.delivery.models import Reading
from marketplace.escrow.models import Lease


@dataclass(frozen=True)
class MeteredHour:
    """One hourly slot of a lease: minutes down, unknown and billable, and what it earned (micro-USD)."""

    slot: int
    minutes_down: int
    minutes_unknown: int
    minutes_billable: int
    earned_micros: int


def metered_hours(lease: Lease) -> list[MeteredHour]:
    """Return the metered hours of a lease in order of slot."""
    fields = ("slot", "minutes_down", "minutes_unknown", "minutes_billable", "earned_micros")
    return [MeteredHour(*row) for row in Reading.objects.filter(lease=lease).order_by("slot").values_list(*fields)]
