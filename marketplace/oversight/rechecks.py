"""A changed zone list, and what it does: open demands and running leases are looked at again, and a report is kept."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from marketplace.catalogue.models import Zone
from marketplace.catalogue.services import zone_countries
from marketplace.compliance.models import ZoneChange, ZoneReport
from marketplace.compliance.zones import adopt_zone_list
from marketplace.demand.models import Demand
from marketplace.escrow.models import Lease
from marketplace.escrow.selectors import RUNNING_STATES
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Seat
from marketplace.supply.models import NodeClass

OPEN_DEMAND = ("pending", "posted", "funded")
OPEN_WINDOWS = ("COLLECTING", "BIDDING")


@transaction.atomic
def change_zone_list(
    *, zone: Zone, members: Collection[str], source: str, valid_from: date, seat: Seat, now: datetime
) -> ZoneReport | None:
    """Adopt a list and report, in the same transaction, what it changes. None when the list is the one that stands."""
    before = set(zone_countries(zone=zone, on=valid_from))
    change = adopt_zone_list(zone=zone, members=members, source=source, valid_from=valid_from, seat=seat, now=now)
    if change is None:
        return None
    after = set(zone_countries(zone=zone, on=valid_from))
    demands, leases = _demands(change, before, after), _leases(change, set(change.removed))
    report = ZoneReport.objects.create(change=change, demands=demands, leases=leases, at=now)
    for told, who in ((demands, ("buyer",)), (leases, ("buyer", "provider"))):
        for row in told:
            tell_parties(
                parties={row[f"{each}_id"] for each in who}, about=f"zone:{change.pk}:{row['id']}", code="zone_changed",
                sentence=row["sentence"], now=now,
            )  # fmt: skip
    record(actor=seat.user.email, action="recheck_zone", subject=str(change), now=now, demands=len(demands),
           leases=len(leases), reason="open demands and leases looked at again")  # fmt: skip
    return report


def _demands(change: ZoneChange, before: set[str], after: set[str]) -> list[dict[str, Any]]:
    """Open demands of windows that the list reaches, whose choice of capacity it changes."""
    asks = Q(zone=change.zone) | Q(control_zone=change.zone)
    rows = Demand.objects.filter(asks, state__in=OPEN_DEMAND, window__state__in=OPEN_WINDOWS)
    rows = rows.filter(window__starts_at__date__gte=change.valid_from).select_related("party", "window")
    capacity = list(NodeClass.objects.select_related("site", "party__parent"))
    found = []
    for demand in rows.order_by("pk"):
        fit = [_count(demand, change.zone_id, capacity, members) for members in (before, after)]
        if fit[0] != fit[1]:
            found.append({
                "id": str(demand.pk), "buyer_id": str(demand.party_id), "reference": demand.reference,
                "buyer": demand.party.name, "window": demand.window.name, "before": fit[0], "after": fit[1],
                "sentence": f"{change}: {fit[1]} node classes could serve {demand.reference}, before {fit[0]}.",
            })  # fmt: skip
    return found


def _count(demand: Demand, zone: str, capacity: list[NodeClass], members: set[str]) -> int:
    """Node classes of an accepted class that this one zone lets through."""
    return sum(
        node_class.resource_class_id in demand.accepted_classes
        and (demand.zone_id != zone or node_class.site.country in members)
        and (demand.control_zone_id != zone or _controllers(node_class) <= members)
        for node_class in capacity
    )  # fmt: skip


def _leases(change: ZoneChange, removed: set[str]) -> list[dict[str, Any]]:
    """Running leases that reach the day of the change and stand on a country that the list no longer has."""
    asks = Q(demand__zone=change.zone) | Q(demand__control_zone=change.zone)
    rows = Lease.objects.filter(asks, state__in=RUNNING_STATES).select_related(
        "demand", "buyer", "provider__parent", "window", "node_class__site", "node_class__party__parent"
    )
    found = []
    for lease in rows.order_by("pk"):
        demand, node_class = lease.demand, lease.node_class
        gone = {node_class.site.country} & removed if demand.zone_id == change.zone_id else set()
        if demand.control_zone_id == change.zone_id:
            gone |= _controllers(node_class) & removed
        if gone and lease.window.slot_at(lease.until_slot).date() >= change.valid_from:
            found.append({
                "id": str(lease.pk), "buyer_id": str(lease.buyer_id), "provider_id": str(lease.provider_id),
                "reference": demand.reference, "provider": lease.provider.name, "countries": sorted(gone),
                "ends": lease.window.slot_at(lease.until_slot).isoformat(),
                "sentence": f"{change} no longer has {', '.join(sorted(gone))}, where {demand.reference} at "
                            f"{lease.provider.name} stands or is controlled; it is not renewed there.",
            })  # fmt: skip
    return found


def _controllers(node_class: NodeClass) -> set[str]:
    site = node_class.site
    return {node_class.party.ultimate_country, site.operator_country, site.keys_country}
