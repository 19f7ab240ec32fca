"""What work costs (M-018), by the last cleared prices, and what it takes to start offering it (M-016)."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.catalogue.models import ResourceClass
from marketplace.clearing.selectors import last_clearing, products_of
from pricing.breakeven import price_per_peta_nanos
from pricing.entry import first_lease_stake_micros
from pricing.penalties import PROBATION_LEASE_HOURS, entry_stake_micros, entry_stake_of_provider_micros


@dataclass(frozen=True)
class WorkPrice:
    """One class and tier of the last clearing: mean price of a unit-hour, and nano-USD per 10^15 operations."""

    resource_class: str
    tier: int
    price_micros: int
    peta_nanos: int
    unit_hours: int


def work_prices() -> list[WorkPrice]:
    """Return what traded last, the cheapest work first, whatever an hour of it costs."""
    clearing = last_clearing()
    if clearing is None:
        return []
    ops = dict(ResourceClass.objects.values_list("code", "ops_per_sec"))
    rows = [
        WorkPrice(p.resource_class, p.tier, p.mean_micros, price_per_peta_nanos(p.mean_micros, ops[p.resource_class]),
                  p.unit_hours)
        for p in products_of(clearing)
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (r.peta_nanos, r.resource_class, r.tier))


@dataclass(frozen=True)
class EntryCost:
    """What one unit of a class needs to start: the provider's entry stake, and the stake of its first day sold."""

    resource_class: str
    memory_bytes: int
    entry_stake_micros: int
    first_day_micros: int  # a unit, 24 hours, at the reference price
    first_stake_micros: int


def entry_costs() -> list[EntryCost]:
    """Return the entry cost of each class, the lowest first."""
    rows = []
    for kind in ResourceClass.objects.all():
        one = entry_stake_micros(reference_price_micros=kind.reference_price_micros, units=1)
        day = PROBATION_LEASE_HOURS * kind.reference_price_micros
        rows.append(EntryCost(kind.code, kind.mem_bytes, entry_stake_of_provider_micros([one]), day,
                              first_lease_stake_micros(day)))  # fmt: skip
    return sorted(rows, key=lambda r: (r.entry_stake_micros, r.resource_class))
