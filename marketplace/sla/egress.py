"""Money for data that left: an hour beyond the pin of its demand is credited with all that the buyer would pay for it.

The price is all-in, so no byte ever costs a buyer anything; a limit that is broken costs the provider. An hour that was
paid for and that the meter did not report by the verdict counts as broken too, or silence would be the cheapest report.
The verdict waits a day for what a meter without a network still sends. The provider is told so when its lease begins
(`oversight/egress.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.delivery.egress_models import EgressReading
from marketplace.delivery.models import Reading
from marketplace.delivery.services import SILENCE_HOURS
from marketplace.demand.pin_models import EgressPin
from marketplace.escrow.backup_models import given_back_micros
from marketplace.escrow.models import Lease
from marketplace.governance.services import Deed, record_all
from marketplace.sla.models import EarlyCredit


@dataclass(frozen=True, slots=True)
class BrokenHour:
    """One hour in which more left than may, or that nobody metered (None), and what it returns in micro-USD."""

    slot: int
    egress_bytes: int | None
    amount_micros: int


@transaction.atomic
def credit_egress(*, window: Window, now: datetime) -> int:
    """Note the credit of each rated hour of a running lease in which more left than its pin lets; returns how many.

    Payout posts them in the same turn. Only leases signed while PROVEN, as with every credit at once; the others'
    comes out of the holdback at the close. Again returns 0: an hour is credited once.
    """
    over = EgressReading.objects.filter(egress_bytes__gt=F("lease__demand__pin__limit_bytes"))
    leases = Lease.objects.select_for_update(of=("self",)).filter(
        window=window, state="delivering", is_armed=True, pk__in=over.values("lease")).order_by("pk")  # fmt: skip
    made = [credit for lease in leases for credit in _certain(lease, window, now)]
    EarlyCredit.objects.bulk_create(made)
    point("sla.egress.before_commit")
    record_all(deeds=[
        Deed("market", "credit_egress", str(row.lease_id), "more left than its pin lets",
             {"slot": row.period, "amount_micros": row.amount_micros})
        for row in made
    ], now=now)  # fmt: skip
    return len(made)


def broken_hours(lease: Lease, rows: Sequence[Reading], *, is_final: bool) -> list[BrokenHour]:
    """The paid hours beyond a lease's pin, in order; with `is_final` also those that nobody metered."""
    pin = EgressPin.objects.filter(demand=lease.demand_id).first()
    if pin is None:
        return []
    out = dict(EgressReading.objects.filter(lease=lease).values_list("slot", "egress_bytes"))
    return [
        BrokenHour(row.slot, out.get(row.slot), row.earned_micros) for row in sorted(rows, key=lambda row: row.slot)
        if row.earned_micros and (out[row.slot] > pin.limit_bytes if row.slot in out else is_final)
    ]  # fmt: skip


def wait_for_meter(leases: Sequence[Lease], readings: Mapping[UUID, Sequence[Reading]], *, now: datetime) -> set[UUID]:
    """The delivered leases that are not judged yet: an hour of pinned data is not metered, and may be for a day."""
    pins = EgressPin.objects.filter(demand__in=[lease.demand_id for lease in leases])
    pinned = set(pins.values_list("demand", flat=True))
    return {
        lease.pk for lease in leases
        if lease.demand_id in pinned
        and now < lease.window.slot_at(lease.until_slot) + timedelta(hours=SILENCE_HOURS)
        and any(hour.egress_bytes is None for hour in broken_hours(lease, readings[lease.pk], is_final=True))
    }  # fmt: skip


def metered(lease: Lease) -> list[object]:
    """What a verdict of pinned data rests on beside its minutes: the limit, and each hour as the machine signed it."""
    pin = EgressPin.objects.filter(demand=lease.demand_id).first()
    if pin is None:
        return []
    rows = EgressReading.objects.filter(lease=lease).order_by("slot")
    return [["egress-limit", pin.limit_bytes],
            *(["egress", row.slot, row.egress_bytes, hashlib.sha256(bytes(row.report)).hexdigest()] for row in rows)]


def _certain(lease: Lease, window: Window, now: datetime) -> list[EarlyCredit]:
    before = list(lease.early_credits.all())
    credited = {row.period for row in before if row.kind == "egress"}
    left = lease.fee_micros - sum(row.amount_micros for row in before) - given_back_micros(lease)
    reports = {row.slot: bytes(row.report) for row in lease.egress_readings.all()}
    made = []
    for hour in broken_hours(lease, list(Reading.objects.filter(lease=lease)), is_final=False):
        amount = min(left, hour.amount_micros)
        if hour.slot in credited or amount <= 0:
            continue
        left -= amount
        made.append(EarlyCredit(
            id=uuid7(now), lease=lease, kind="egress", period=hour.slot, step_bps=0, amount_micros=amount,
            down_minutes=0, evidence_hash=hashlib.sha256(reports[hour.slot]).digest(), made_at=now,
            broken_at=window.slot_at(hour.slot + 1),
        ))  # fmt: skip
    return made
