"""Which leg of an order went where (M-029, M-040), and that no sensitive leg left."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.catalogue.selectors import zone_countries
from marketplace.clearing.models import Award
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.legs import legs_with
from marketplace.demand.models import Demand


@dataclass(frozen=True, slots=True)
class Place:
    """What one owner's site serves of a leg."""

    provider: str
    owner: str
    country: str
    unit_hours: int


@dataclass(frozen=True, slots=True)
class LegReport:
    """One leg: what it asked for, where it went, and where the rest goes. Unit-hours."""

    leg: DemandLeg
    asked: int
    places: tuple[Place, ...]
    stayed: bool  # every award of a leg with a zone lies inside it

    @property
    def served(self) -> int:
        return sum(place.unit_hours for place in self.places)

    @property
    def rest(self) -> int:
        return self.asked - self.served

    @property
    def rest_goes_to(self) -> str:
        """Where what is not served goes: a sensitive leg has nowhere else."""
        if not self.rest:
            return ""
        return self.leg.fallback_venue or "nowhere: it is not served"


def legs_report(demand: Demand) -> list[LegReport]:
    """Every leg of the order of this demand with where it went; empty for a demand that stands alone."""
    legs = list(legs_with(demand))
    awards: dict[object, list[Award]] = {}
    rows = Award.objects.filter(demand__in=[leg.demand_id for leg in legs])
    for award in rows.select_related("bid__party__parent", "bid__node_class__site").order_by("start_slot", "id"):
        awards.setdefault(award.demand_id, []).append(award)
    return [_report(leg, awards.get(leg.demand_id, [])) for leg in legs]


def _report(leg: DemandLeg, awards: list[Award]) -> LegReport:
    hours: dict[tuple[str, str, str], int] = {}
    for award in awards:
        party, country = award.bid.party, award.bid.node_class.site.country
        key = (party.name, party.owner_key, country)
        hours[key] = hours.get(key, 0) + award.units * (award.end_slot - award.start_slot)
    zone, on = leg.demand.zone_id, leg.demand.window.starts_at.date()
    inside = zone_countries(zone, on) if zone else None
    return LegReport(
        leg=leg, asked=leg.demand.unit_hours, stayed=inside is None or all(country in inside for *_, country in hours),
        places=tuple(Place(*key, unit_hours) for key, unit_hours in sorted(hours.items())),
    )  # fmt: skip
