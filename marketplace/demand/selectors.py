"""Reads of demand: a party's own orders, what fills a window's gate, and the funded curve of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BigIntegerField, Count, ExpressionWrapper, F, QuerySet, Sum

from marketplace.catalogue.models import Window
from marketplace.demand.models import Demand
from marketplace.parties.models import Party
from marketplace.parties.owners import FOUNDATION, last_owners

# Demand that counted for a window's gate, whatever became of it afterwards.
FUNDED_STATES = ("funded", "awarded", "lost", "released")
UNIT_HOURS = ExpressionWrapper(
    F("quantity_units") * (F("end_slot") - F("start_slot")), output_field=BigIntegerField()
)
PARTIES_PER_STEP = 3  # nothing is drawn from fewer distinct parties


@dataclass(frozen=True)
class GateProgress:
    """How far funded demand has come towards opening a window to bids. Unit-hours and distinct buyers."""

    funded_unit_hours: int
    needed_unit_hours: int
    parties: int
    needed_parties: int

    @property
    def missing_unit_hours(self) -> int:
        return max(0, self.needed_unit_hours - self.funded_unit_hours)

    @property
    def missing_parties(self) -> int:
        return max(0, self.needed_parties - self.parties)

    @property
    def is_met(self) -> bool:
        return not self.missing_unit_hours and not self.missing_parties

    @property
    def percent(self) -> int:
        return min(100, 100 * self.funded_unit_hours // self.needed_unit_hours)


@dataclass(frozen=True)
class CurveStep:
    """So many funded unit-hours at one price limit (micro-USD per unit-hour)."""

    price_micros: int
    unit_hours: int


def demands_of(party: Party, *, state: str = "", window: UUID | None = None) -> QuerySet[Demand]:
    """Return a party's own demands, newest first, optionally of one state or window."""
    found = Demand.objects.filter(party=party).select_related("window", "zone", "sla", "funding_line")
    found = found.order_by("-posted_at", "-id")
    if state:
        found = found.filter(state=state)
    return found.filter(window_id=window) if window else found


def find_demand(demand_id: UUID, party: Party) -> Demand | None:
    """Return the party's own demand, or None: a stranger's is as missing as none."""
    return (
        Demand.objects.filter(pk=demand_id, party=party)
        .select_related("window", "zone", "control_zone", "sla", "vantage", "party", "data_class", "funding_line")
        .first()
    )


def count_by_state(party: Party) -> dict[str, int]:
    """Return how many demands of the party are in each state."""
    rows = Demand.objects.filter(party=party).order_by().values("state").annotate(n=Count("pk"))
    return {row["state"]: row["n"] for row in rows}


def gates_of(windows: Iterable[Window]) -> dict[UUID, GateProgress]:
    """Return the gate of each window: funded unit-hours and distinct buyers but the Foundation, by their last owner."""
    windows = list(windows)
    rows = list(
        Demand.objects.filter(window__in=[w.pk for w in windows], state__in=FUNDED_STATES).exclude(hold_id=None)
        .exclude(party__in=FOUNDATION).order_by().values_list("window_id", "party_id")
        .annotate(hours=Sum(UNIT_HOURS))
    )  # fmt: skip
    owners = last_owners({party for _, party, _ in rows})
    hours: dict[UUID, int] = {}
    buyers: dict[UUID, set[UUID]] = {}
    for window, party, unit_hours in rows:
        hours[window] = hours.get(window, 0) + int(unit_hours)
        buyers.setdefault(window, set()).add(owners[party])
    return {w.pk: _gate(w, hours.get(w.pk, 0), len(buyers.get(w.pk, ()))) for w in windows}


def _gate(window: Window, unit_hours: int, parties: int) -> GateProgress:
    return GateProgress(unit_hours, window.gate_unit_hours, parties, window.gate_parties)


def funding_gap_micros(party: Party, *, of_own_money: bool = False) -> int:
    """Return what the party's posted, not yet funded demands in open windows would hold at most, in micro-USD; of its
    own money only those that name no purchase order."""
    rows = Demand.objects.filter(party=party, state="posted", window__state="COLLECTING")
    rows = rows.filter(funding_line=None) if of_own_money else rows
    return sum(d.hold_micros for d in rows.only("quantity_units", "start_slot", "end_slot", "price_limit_micros"))


def funded_curve(window: Window, resource_class: str, zone_code: str = "") -> list[CurveStep]:
    """Return the funded demand for a resource class as steps that each join at least three buyers.

    With a zone: demand that asks for that zone. Each step stands at the lowest limit inside it, so no single buyer's
    limit can be read off. Fewer than three buyers in all: no curve.
    """
    rows = Demand.objects.filter(window=window, accepted_classes__contains=[resource_class], state__in=FUNDED_STATES)
    if zone_code:
        rows = rows.filter(zone_id=zone_code)
    lines = rows.exclude(hold_id=None).order_by("-price_limit_micros", "accepted_rank")
    return blur_steps(
        (d.price_limit_micros, d.unit_hours, d.party_id)
        for d in lines.only("price_limit_micros", "quantity_units", "start_slot", "end_slot", "party_id")
    )


def blur_steps(lines: Iterable[tuple[int, int, UUID]]) -> list[CurveStep]:
    """Join (price, unit-hours, party) lines, falling in price, into steps of at least three parties each."""
    steps: list[CurveStep] = []
    hours, parties, price = 0, set(), 0
    for price, unit_hours, party in lines:
        hours += unit_hours
        parties.add(party)
        if len(parties) >= PARTIES_PER_STEP:
            steps.append(CurveStep(price, hours))
            hours, parties = 0, set()
    if hours and steps:  # the rest is too few to stand alone: the last step takes it, at its lower price
        steps[-1] = CurveStep(price, steps[-1].unit_hours + hours)
    return steps
