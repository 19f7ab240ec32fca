"""Measured differences (M-004) and the claims that may be published from them (M-084).

A difference exists only where the buyer had named a counterfactual before demand closed; the database refuses any
other. A claim is published from as many leases and buyers as its threshold asks for, with n and method, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from marketplace.catalogue.models import Window
from marketplace.catalogue.selectors import zone_countries
from marketplace.delivery.models import Reading
from marketplace.errors import NoCounterfactual
from marketplace.escrow.models import Lease
from marketplace.governance.services import Deed, record_all
from marketplace.insights.models import DemandStatement, LeaseDifference
from marketplace.parties.models import Party
from marketplace.payout.models import SettlementLine
from marketplace.supply.models import SiteLatency
from pricing.samples import Claim, published

LEASES_MIN, BUYERS_MIN = 30, 3


@dataclass(frozen=True)
class Claims:
    """What the claims page may say: each claim with its n, and whether n is enough."""

    price: Claim
    latency: Claim
    in_zone: tuple[int, int]  # leases that ran where they had to, of those with a rule
    without_counterfactual: int  # settled leases of which no saving can be said


@transaction.atomic
def measure_window(*, window: Window, now: datetime) -> int:
    """Write the difference of every settled lease of a window that has a counterfactual; returns how many are new."""
    leases = list(
        Lease.objects.filter(window=window, difference=None, settlement_line__isnull=False)
        .select_related("demand__party", "node_class__site", "settlement_line").order_by("id")
    )  # fmt: skip
    statements = _counterfactuals(leases)
    minutes = _delivered(leases)
    latencies = _latencies(leases)
    rows = [
        _difference(lease, statements[lease.demand_id], minutes[lease.pk], latencies, now)
        for lease in leases if lease.demand_id in statements and minutes.get(lease.pk)
    ]  # fmt: skip
    LeaseDifference.objects.bulk_create(rows)
    record_all(now=now, deeds=[
        Deed("market", "measure_difference", str(row.lease_id), "settled", {"saved_micros": row.saved_micros})
        for row in rows
    ])  # fmt: skip
    return len(rows)


def _counterfactuals(leases: Sequence[Lease]) -> dict[UUID, DemandStatement]:
    """The last statement of each demand, where it names a counterfactual."""
    rows = DemandStatement.objects.filter(demand__in={lease.demand_id for lease in leases}).order_by("version")
    last = {row.demand_id: row for row in rows}
    return {key: row for key, row in last.items() if row.has_counterfactual}


def _delivered(leases: Sequence[Lease]) -> dict[UUID, int]:
    """Billable unit-minutes of each lease."""
    minutes: dict[UUID, int] = {}
    rows = Reading.objects.filter(lease__in=[lease.pk for lease in leases])
    for lease, units, billable in rows.values_list("lease_id", "units", "minutes_billable"):
        minutes[lease] = minutes.get(lease, 0) + units * billable
    return minutes


def _latencies(leases: Sequence[Lease]) -> dict[tuple[UUID, str], int]:
    sites = {lease.node_class.site_id for lease in leases}
    rows = SiteLatency.objects.filter(site__in=sites).values_list("site_id", "vantage_id", "rtt_ms_p95")
    return {(site, vantage): rtt for site, vantage, rtt in rows}


def _difference(
    lease: Lease, statement: DemandStatement, unit_minutes: int, latencies: dict[tuple[UUID, str], int], now: datetime
) -> LeaseDifference:
    line: SettlementLine = lease.settlement_line
    site, demand = lease.node_class.site, lease.demand
    assert statement.quote_micros is not None, "a statement without a quote is no counterfactual"
    quoted = unit_minutes * statement.quote_micros // 60
    paid = lease.fee_micros - line.returned_micros
    return LeaseDifference(
        lease=lease, statement=statement, delivered_unit_minutes=unit_minutes, paid_micros=paid, quoted_micros=quoted,
        saved_micros=quoted - paid, latency_ms=latencies.get((site.pk, demand.vantage_id or "")),
        quoted_latency_ms=statement.quote_latency_ms, measured_at=now,
        residency={
            "country": site.country, "operator": site.operator_country, "keys": site.keys_country,
            "parent": lease.node_class.party.parent_country, "zone": demand.zone_id,
            "control_zone": demand.control_zone_id, "mandate": str(lease.mandate_id),
            "quoted_country": statement.quote_country,
        },
    )  # fmt: skip


def difference_of_lease(lease: Lease) -> LeaseDifference:
    """Return what a lease saved or cost more. Raises NoCounterfactual where nothing was named to measure it against."""
    found = LeaseDifference.objects.filter(lease=lease).select_related("statement").first()
    if found is None:
        raise NoCounterfactual("No saving is shown: this demand names no counterfactual.", lease=str(lease.pk))
    return found


def leases_with_differences(party: Party) -> list[tuple[Lease, LeaseDifference | None]]:
    """Return the settled leases a buyer bought, newest first, each with its difference or None."""
    leases = Lease.objects.filter(buyer=party, settlement_line__isnull=False)
    found = leases.select_related("difference__statement", "demand", "provider", "window").order_by("-made_at", "id")
    return [(lease, getattr(lease, "difference", None)) for lease in found[:100]]


def claims() -> Claims:
    """Return what may be claimed from all measured leases."""
    rows = list(LeaseDifference.objects.select_related("lease__buyer__parent").order_by("lease_id"))
    latency = [row for row in rows if row.latency_ms is not None and row.quoted_latency_ms is not None]
    ruled = [row for row in rows if row.residency.get("zone")]
    settled = Lease.objects.filter(settlement_line__isnull=False).count()
    return Claims(
        price=published(
            [(_buyer(row), row.saved_micros, row.quoted_micros) for row in rows], n_min=LEASES_MIN,
            buyers_min=BUYERS_MIN,
        ),
        latency=published(
            [(_buyer(row), row.quoted_latency_ms - row.latency_ms, row.quoted_latency_ms) for row in latency],
            n_min=LEASES_MIN, buyers_min=BUYERS_MIN,
        ),
        in_zone=(sum(_ran_inside(row) for row in ruled), len(ruled)), without_counterfactual=settled - len(rows),
    )  # fmt: skip


def _buyer(row: LeaseDifference) -> str:
    return str(row.lease.buyer.owner_key)  # siblings of one parent are one buyer


def _ran_inside(row: LeaseDifference) -> bool:
    # The database refuses any other award; it is counted from the evidence all the same.
    return row.residency["country"] in zone_countries(row.residency["zone"], row.measured_at.date())
