"""Reads of metered hours, of the health of leases minute by minute, and of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import overload
from uuid import UUID

from django.db.models import F, Q, QuerySet, Sum

from marketplace.delivery.causes import SignedCause, signed_causes
from marketplace.delivery.evidence_models import DeliveryCase, HealthEvent, LeaseHealth, MaintenanceNotice, SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.probing import RUNNING
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
class LiveHour:
    """One hour of a lease as its evidence stands: two strings of 60 letters, and the money (micro-USD).

    `verdicts`: u(p), d(own), ? for nobody knows. `money`: b(illed), h(eld), - for unpaid. `causes`: minutes by cause.
    """

    tally: SlotTally
    starts_at: datetime
    verdicts: str
    money: str
    causes: dict[str, int]

    @property
    def is_rated(self) -> bool:
        return self.tally.rated_at is not None


class LiveHours(Sequence[LiveHour]):
    """The tallied hours of a lease, newest first; only those that are looked at are read."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._rows = SlotTally.objects.filter(lease=lease).order_by("-slot")

    def __len__(self) -> int:
        return self._rows.count()

    @overload
    def __getitem__(self, place: int) -> LiveHour: ...
    @overload
    def __getitem__(self, place: slice) -> list[LiveHour]: ...
    def __getitem__(self, place: int | slice) -> LiveHour | list[LiveHour]:
        if isinstance(place, slice):
            return [_hour(row, self._lease) for row in self._rows[place]]
        return _hour(self._rows[place], self._lease)


def _hour(row: SlotTally, lease: Lease) -> LiveHour:
    return LiveHour(
        row, lease.window.slot_at(row.slot), _letters(row.down_word, row.unknown_word, "d?u"),
        _letters(row.billable_word, row.held_word, "bh-"),
        {cause: word.bit_count() for cause, word in sorted(row.causes.items())},
    )  # fmt: skip


def _letters(first: int, second: int, letters: str) -> str:
    return "".join(
        letters[0] if first >> minute & 1 else letters[1] if second >> minute & 1 else letters[2]
        for minute in range(SLOT_MINUTES)
    )


@dataclass(frozen=True)
class LeaseMinutes:
    """A lease with its health, its last changes, its hours, and its money (micro-USD) as the evidence stands."""

    lease: Lease
    health: LeaseHealth | None
    events: list[HealthEvent]
    hours: LiveHours
    billed_micros: int
    held_micros: int
    unpaid_micros: int
    causes: list[SignedCause]  # what judges signed about its bad minutes
    is_by_hour: bool  # its hours came whole, as those of a demo's fixture providers do

    @property
    def is_running(self) -> bool:
        """Whether minutes are still to come."""
        return self.lease.state in RUNNING


def lease_minutes(lease: Lease) -> LeaseMinutes:
    """Return a lease minute by minute."""
    tallies = SlotTally.objects.filter(lease=lease)
    sums = tallies.aggregate(billed=Sum("billed_micros"), held=Sum("held_micros"), unpaid=Sum("unpaid_micros"))
    whole = Reading.objects.filter(lease=lease).exclude(slot__in=tallies.values("slot")).aggregate(
        billed=Sum("earned_micros"), unpaid=Sum(F("amount_micros") - F("earned_micros"))
    )
    billed, held, unpaid = ((sums[name] or 0) + (whole.get(name) or 0) for name in ("billed", "held", "unpaid"))
    return LeaseMinutes(
        lease, health_of(lease), list(health_events(lease)[:10]), LiveHours(lease), billed, held, unpaid,
        signed_causes(lease=lease, most=10), is_by_hour=whole["billed"] is not None,
    )  # fmt: skip


def running_leases_by_name() -> list[Lease]:
    """Return the leases whose hours may still be rated, with their parties, by buyer and demand."""
    rows = Lease.objects.filter(state__in=RUNNING).select_related("demand", "buyer", "provider", "window")
    return list(rows.order_by("buyer__name", "demand__reference", "provider__name", "id"))


def notices_of(party: Party) -> QuerySet[MaintenanceNotice]:
    """Return the maintenance a provider announced, the last one first."""
    rows = MaintenanceNotice.objects.filter(node_class__party=party).select_related("node_class__site")
    return rows.order_by("-starts_at", "-id")


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
    return rows.select_related("window", "node_class__standing", "provider", "buyer", "demand").first()


@dataclass(frozen=True)
class Source:
    """What one source says of a disputed hour: its minutes as 60 letters, u(p), d(own), ? where it says nothing."""

    name: str
    minutes: str


def sources_of(case: DeliveryCase) -> list[Source]:
    """Return what provider, probes and buyer say of a case's hour, and which minutes are in dispute (x)."""
    row = SlotTally.objects.get(lease=case.lease_id, slot=case.slot)
    told = [("Provider", row.provider_up), ("Buyer", row.buyer_up)]
    words = [Source(name, _letters(word, 0, "u?d") if word is not None else "?" * SLOT_MINUTES) for name, word in told]
    probes = Source("Probes", _letters(row.down_word, row.known_word, "du?"))
    return [words[0], probes, words[1], Source("In dispute", _letters(case.disputed_word, 0, "x?·"))]
