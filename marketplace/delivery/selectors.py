"""Reads of metered hours, of the health of leases minute by minute, and of cases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet

from marketplace.delivery.evidence_models import DeliveryCase, HealthEvent, LeaseHealth, SlotTally
from marketplace.delivery.models import Reading
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from pricing.metering import SLOT_MINUTES


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


@dataclass(frozen=True)
class Minute:
    """One minute of a lease: what the probes say, what is billed of it, and whose doing a bad one was."""

    at: datetime
    verdict: str  # up, down, unknown
    money: str  # billed, held, unpaid
    cause: str  # empty for a good minute


@dataclass(frozen=True)
class LiveHour:
    """One hour of a lease as its evidence stands: a string of 60 letters for people, and the money (micro-USD)."""

    tally: SlotTally
    starts_at: datetime
    minutes: list[Minute]
    is_rated: bool


def live_hours(lease: Lease, *, limit: int = 24, before_slot: int | None = None) -> list[LiveHour]:
    """Return the tallied hours of a lease, newest first, at most `limit`, those before a slot if one is named."""
    rows = SlotTally.objects.filter(lease=lease).order_by("-slot")
    rows = rows if before_slot is None else rows.filter(slot__lt=before_slot)
    found = []
    for row in rows[:limit]:
        starts_at = lease.window.slot_at(row.slot)
        minutes = [_minute(row, starts_at, minute) for minute in range(SLOT_MINUTES)]
        found.append(LiveHour(row, starts_at, minutes, row.rated_at is not None))
    return found


def _minute(row: SlotTally, starts_at: datetime, minute: int) -> Minute:
    bit = 1 << minute
    verdict = "down" if row.down_word & bit else "unknown" if row.unknown_word & bit else "up"
    money = "billed" if row.billable_word & bit else "held" if row.held_word & bit else "unpaid"
    cause = next((name for name, word in sorted(row.causes.items()) if word & bit), "")
    return Minute(starts_at + timedelta(minutes=minute), verdict, money, cause)


def health_of(lease: Lease) -> LeaseHealth | None:
    """Return how a lease's machine stands, or None before any evidence."""
    return LeaseHealth.objects.filter(lease=lease).first()


def health_events(lease: Lease) -> QuerySet[HealthEvent]:
    """Return the changes of a lease's health, newest first."""
    return HealthEvent.objects.filter(lease=lease).order_by("-id")


def cases_of(party: Party | None) -> QuerySet[DeliveryCase]:
    """Return the cases of a party's leases, bought or sold, newest first; of every lease for None."""
    rows = DeliveryCase.objects.select_related("lease__demand", "lease__provider", "lease__buyer", "lease__window")
    return rows if party is None else rows.filter(Q(lease__buyer=party) | Q(lease__provider=party))


def find_lease_of_party(lease_id: UUID, party: Party) -> Lease | None:
    """Return a lease that the party buys or sells, or None."""
    rows = Lease.objects.filter(Q(buyer=party) | Q(provider=party), pk=lease_id)
    return rows.select_related("window", "node_class", "provider", "buyer", "demand").first()
