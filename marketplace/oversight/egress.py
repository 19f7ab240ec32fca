"""Pinned data: its provider is told what the pin costs; what left is a breach, told to both, and is not renewed."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F, Sum

from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.models import Notice
from marketplace.notices.services import tell_parties
from marketplace.oversight.models import WindDown


@transaction.atomic
def watch_egress(*, now: datetime) -> int:
    """Start a wind-down for every lease whose meter shows more out than its pin lets; returns how many are new.

    Tells each provider of pinned data once, as its lease begins, what the pin asks and costs.
    """
    told = _tell_of_pins(now)
    rows = (
        Lease.objects.filter(egress_readings__egress_bytes__gt=F("demand__pin__limit_bytes"))
        .exclude(wind_downs__cause="egress").annotate(out=Sum("egress_readings__egress_bytes"))
        .select_related("demand", "provider").order_by("pk")
    )  # fmt: skip
    found = []
    for lease in rows:
        sentence = f"{lease.out} bytes of {lease.demand.reference} left {lease.provider.name}, and its data is pinned."
        found.append(WindDown(lease=lease, cause="egress", sentence=sentence[:300], at=now))
        tell_parties(parties=(lease.buyer_id, lease.provider_id), about=f"wind-down:{lease.pk}:egress",
                     code="egress_breach", sentence=sentence, now=now)  # fmt: skip
        record(actor="market", action="egress_breach", subject=lease.pk, reason=sentence, now=now,
               egress_bytes=int(lease.out))  # fmt: skip
    WindDown.objects.bulk_create(found)
    return len(found) + told


def _tell_of_pins(now: datetime) -> int:
    rows = Lease.objects.filter(demand__pin__isnull=False, state__in=("locked", "delivering"))
    told = set(Notice.objects.filter(code="data_pinned").values_list("about", flat=True))
    leases = [row for row in rows.select_related("demand__pin").order_by("pk") if f"pin:{row.pk}" not in told]
    for lease in leases:
        limit = lease.demand.pin.limit_bytes
        tell_parties(
            parties=(lease.provider_id,), about=f"pin:{lease.pk}", code="data_pinned", now=now,
            sentence=f"The data of {lease.demand.reference} is pinned: {'no byte' if not limit else f'{limit} bytes'} "
            "an hour may leave. Run the agent's meter with --egress-interface (or --egress-command): it reports each "
            "hour; one beyond the limit, or not reported within a day of the lease's end, is credited to the buyer.",
        )  # fmt: skip
    return len(leases)
