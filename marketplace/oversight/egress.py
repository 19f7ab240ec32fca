"""Pinned data that left: a breach, told to both at once; the lease is wound down and not renewed."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from marketplace.escrow.models import Lease
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.oversight.models import WindDown


@transaction.atomic
def watch_egress(*, now: datetime) -> int:
    """Start a wind-down for every lease of pinned data whose meter shows a byte out; returns how many are new."""
    rows = (
        Lease.objects.filter(demand__pin__isnull=False, egress_readings__egress_bytes__gt=0)
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
    return len(found)
