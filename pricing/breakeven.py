"""What a unit-hour has to bring its provider, and what a unit of work costs: so that slow and cheap can win fairly.

    cost of a unit-hour = (capital / life + other costs a year) / hours sold a year
                        + power in kW x PUE x price of a kWh
    break-even          = cost / (1 - fee), rounded up to the tick
    price of work       = price of a unit-hour / (operations per second x 3600)

Integers: money in micro-USD, power in watts, shares in parts per million or basis points. Costs are rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pricing.errors import EstimateError

MICROS, PPM, BPS, TICK_MICROS = 1_000_000, 1_000_000, 10_000, 100
HOURS_PER_YEAR = 8_760
PETA = 10**15


@dataclass(frozen=True)
class Machine:
    """One unit and what it costs its owner. Each figure is the owner's to edit."""

    capital_usd: int  # price of one unit with its share of the host
    life_years: int
    other_usd_per_year: int  # staff, space, network, per unit
    watts: int
    pue_ppm: int  # 1,200,000 is a PUE of 1.2
    kwh_micros: int
    sold_ppm: int  # share of all hours that is sold


@dataclass(frozen=True)
class BreakEven:
    """Micro-USD per unit-hour sold: what must be earned, its parts, and the price that earns it after the fee."""

    fixed_micros: int
    power_micros: int
    price_micros: int  # on the tick

    @property
    def cost_micros(self) -> int:
        return self.fixed_micros + self.power_micros


def break_even(machine: Machine, *, fee_bps: int) -> BreakEven:
    """Return the least price at which a unit-hour pays for itself. Raises EstimateError with the `field`."""
    limits = {"capital_usd": (0, 10**9), "life_years": (1, 30), "other_usd_per_year": (0, 10**9), "watts": (0, 10**6),
              "pue_ppm": (PPM, 5 * PPM), "kwh_micros": (0, 10 * MICROS), "sold_ppm": (1, PPM)}  # fmt: skip
    for field, (least, most) in limits.items():
        value = getattr(machine, field)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise EstimateError(f"A whole number from {least:,} to {most:,} belongs here.", field=field)
    if not 0 <= fee_bps < BPS:
        raise EstimateError("A fee is below the whole price.", field="fee_bps")
    yearly = machine.capital_usd * MICROS + machine.other_usd_per_year * MICROS * machine.life_years
    fixed = _up(yearly * PPM, machine.life_years * HOURS_PER_YEAR * machine.sold_ppm)
    power = _up(machine.watts * machine.pue_ppm * machine.kwh_micros, 1_000 * PPM)
    price = _up((fixed + power) * BPS, (BPS - fee_bps) * TICK_MICROS) * TICK_MICROS
    return BreakEven(fixed, power, price)


def price_per_peta_nanos(price_micros: int, ops_per_sec: int) -> int:
    """Return nano-USD per 10^15 proven operations, rounded up. `ops_per_sec` is the proven median of a class."""
    if ops_per_sec < 1 or price_micros < 0:
        raise EstimateError("A machine makes at least one operation a second.", field="ops_per_sec")
    return _up(price_micros * 1_000 * PETA, ops_per_sec * 3_600)


def rank_by_work(offers: Iterable[tuple[str, int, int]]) -> list[str]:
    """Return the names of (name, price per unit-hour, operations per second), the cheapest work first; ties by name."""
    rows = [(price_per_peta_nanos(price, ops), name) for name, price, ops in offers]
    return [name for _, name in sorted(rows)]


def _up(whole: int, by: int) -> int:
    return -(-whole // by)
