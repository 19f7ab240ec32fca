"""Market data as pages draw it: curves, prices, utilisation, and the minutes of a lease.

Public figures are aggregates of at least three parties per side; thinner products show price and volume only. Nothing
here reads a bid of a window that has not been cleared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property
from typing import Any

from marketplace.catalogue.models import Window
from marketplace.catalogue.selectors import zone_countries
from marketplace.clearing import selectors as clearings
from marketplace.clearing.models import Clearing
from marketplace.clearing.selectors import ProductPrice, ProductUse
from marketplace.clearing.shares import Churn, churn_of
from marketplace.delivery.selectors import MeteredHour
from marketplace.demand.selectors import funded_curve
from marketplace.escrow.models import Lease
from marketplace.insights.charts import Step, Trade, Use, supply_and_demand, utilisation
from marketplace.insights.drawing import Chart
from marketplace.insights.lease_charts import Hour, budget_burn, hour_grid, money_flow
from pricing.sla import threshold_minutes

PARTIES_PER_SIDE = 3


@dataclass(frozen=True)
class PublicMarket:
    """What the public page shows of the last cleared window."""

    clearing: Clearing
    products: list[ProductPrice]
    use: Chart
    curves: Chart | None
    curve_class: str
    classes: list[str]
    totals: dict[str, int]

    @cached_property
    def product_use(self) -> list[ProductUse]:
        """What of each product was sold."""
        return clearings.product_use(self.clearing, PARTIES_PER_SIDE)

    @cached_property
    def churn(self) -> list[tuple[dict[str, Any], Churn | None]]:
        """The concentration of each product with its churn since the window before."""
        return concentration_of(self.clearing)


def curves_of(window: Window, clearing: Clearing | None, resource_class: str, zone_code: str) -> Chart | None:
    """Return the curves of one resource class and zone: the opened book after clearing, funded demand before it.

    None when there is nothing to draw, or before clearing when fewer than three buyers stand behind it.
    """
    where = f"{resource_class}, {zone_code or 'any zone'}, {window.name}"
    if clearing is None:
        steps = [Step(s.price_micros, s.unit_hours) for s in funded_curve(window, resource_class, zone_code)]
        if not steps:
            return None
        return supply_and_demand(steps, [], trade=None, title=f"Funded demand: {where}", demand_words="funded demand")
    countries = zone_countries(zone_code, window.starts_at.date()) if zone_code else None
    demand = clearings.opened_demand(clearing, resource_class, countries)
    supply = clearings.opened_supply(clearing, resource_class, countries)
    if not demand and not supply:
        return None
    products = [p for p in clearings.products_of(clearing, countries) if p.resource_class == resource_class]
    span = clearings.middle_half_micros(clearing, resource_class, countries)
    return supply_and_demand(
        [Step(s.price_micros, s.unit_hours) for s in demand], [Step(s.price_micros, s.unit_hours) for s in supply],
        trade=trade_of(products, span), title=f"Supply and demand: {where}",
    )


def trade_of(products: list[ProductPrice], span_micros: tuple[int, int] | None) -> Trade | None:
    """Return what several products traded together: total volume and the mean price weighted by it."""
    hours = sum(p.unit_hours for p in products)
    if not hours or span_micros is None:
        return None
    money = sum(p.unit_hours * p.mean_micros for p in products)
    return Trade(hours, (2 * money + hours) // (2 * hours), *span_micros)


def public_market(zone_code: str, resource_class: str = "") -> PublicMarket | None:
    """Return the last cleared window for everybody, or None before the first one."""
    clearing = clearings.last_clearing()
    if clearing is None:
        return None
    countries = zone_countries(zone_code, clearing.window.starts_at.date()) if zone_code else None
    products = clearings.products_of(clearing, countries)
    sides = clearings.parties_per_side(clearing)
    traded = [row for row in clearings.sold_and_proven(clearing) if _is_wide(sides.get(row[0]))]
    wide = [code for code, sold, _ in traded if sold]
    chosen = resource_class if resource_class in wide else (wide[0] if wide else "")
    uses = [Use(*row) for row in traded]
    return PublicMarket(
        clearing=clearing, products=products,
        use=utilisation(uses, title=f"Unit-hours sold per resource class, {clearing.window.name}"),
        curves=_public_curves(clearing, chosen) if chosen else None, curve_class=chosen, classes=wide,
        totals=clearings.totals_of(clearing),
    )


def concentration_of(clearing: Clearing, *, is_public: bool = True) -> list[tuple[dict[str, Any], Churn | None]]:
    """Return each product's concentration with its churn since the window before; None where there is none to show."""
    known = churn_of(clearing)
    rows = [(row, known.get((row["product"][0], row["product"][1], row["product"][2])))
            for row in clearing.concentration]  # fmt: skip
    return [(row, churn if churn and (churn.is_wide or not is_public) else None) for row, churn in rows]


def _is_wide(sides: tuple[int, int] | None) -> bool:
    return sides is not None and min(sides) >= PARTIES_PER_SIDE


def _public_curves(clearing: Clearing, resource_class: str) -> Chart:
    return curves_of(clearing.window, clearing, resource_class, "")


def lease_hours(lease: Lease, metered: list[MeteredHour]) -> Chart:
    """Return the grid of a lease's metered hours, one row per day (UTC) that the window reaches into."""
    begins = lease.window.starts_at.astimezone(UTC)
    cells = begins.hour + lease.window.slots  # a window that begins at 20:00 begins in the 21st cell of its first day
    names = [f"{begins + timedelta(days=day):%d %b}" for day in range(-(-cells // 24))]
    return hour_grid(
        [Hour(begins.hour + m.slot, m.minutes_down, m.minutes_unknown) for m in metered], slots=cells, first_day=names,
        title="Minutes by hour",
    )


def lease_burn(lease: Lease, metered: list[MeteredHour]) -> Chart:
    """Return how much of the lease's error budget is used, against the credit line and the breach line."""
    slots = lease.until_slot - lease.start_slot
    known = 60 * slots - sum(m.minutes_unknown for m in metered)
    return budget_burn(
        [m.minutes_down for m in metered], slots=slots, budget_minutes=known * (10_000 - lease.sla_bps) // 10_000,
        breach_minutes=threshold_minutes(known, lease.sla_bps), is_armed=lease.is_armed, title="Error budget",
    )


def lease_money(lease: Lease) -> Chart | None:
    """Return where the money of a settled lease went, or None before its settlement."""
    line = getattr(lease, "settlement_line", None)
    if line is None:
        return None
    above = lease.verdict.above_ceiling_micros
    parts = [
        ("paid to the provider", line.payable_micros, "payable"),
        ("held back until proven", line.holdback_micros, "holdback"),
        ("platform fee", line.fee_micros, "fee"),
        ("returned: not delivered", line.returned_micros - above, "returned"),
        *([("returned: above the ceiling of cost recovery", above, "returned")] if above else []),
        ("credit: broken SLA", line.credit_micros, "credit"),
    ]
    return money_flow(lease.fee_micros, parts, title="Where the hold went")


