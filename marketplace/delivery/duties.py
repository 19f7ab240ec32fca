"""What the machines of a node class owe now: its running leases, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from marketplace.delivery.promises import promises
from marketplace.demand.pin_models import EgressPin
from marketplace.escrow.models import Lease
from marketplace.supply.models import NodeClass


@dataclass(frozen=True, slots=True)
class Duty:
    """One running lease: units in each hour from `from_at` on; 0 in an hour that it does not cover.

    `egress_limit_bytes` may leave in an hour where its data is pinned; None where it is not.
    """

    lease_id: UUID
    from_at: datetime
    units: tuple[int, ...]
    egress_limit_bytes: int | None


def duties_of(node_class: NodeClass) -> list[Duty]:
    """Return the leases of a node class that are locked or delivering, oldest first."""
    rows = Lease.objects.filter(node_class=node_class, state__in=("locked", "delivering"))
    leases = list(rows.select_related("window").order_by("pk"))
    owed = promises(leases=leases)
    pins = EgressPin.objects.filter(demand__in=[lease.demand_id for lease in leases])
    limits = dict(pins.values_list("demand_id", "limit_bytes"))
    return [
        Duty(
            lease.pk, lease.window.slot_at(lease.start_slot),
            tuple(owed[lease.pk, slot].units if (lease.pk, slot) in owed else 0
                  for slot in range(lease.start_slot, lease.until_slot)),
            limits.get(lease.demand_id),
        )
        for lease in leases
    ]  # fmt: skip
