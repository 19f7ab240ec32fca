"""Take the egress meter's reports in, and tell what a lease's meter shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Count, Q, Sum

from marketplace.agent.egress import BYTES_MAX, read_egress
from marketplace.agent.errors import ReadingRefused
from marketplace.agent.readings import SignedReport
from marketplace.delivery.egress_models import EgressReading
from marketplace.demand.pin_models import EgressPin
from marketplace.errors import BadInput, NotYours, ReferenceReused, ReportFromFuture, ReportLate
from marketplace.escrow.models import Lease
from marketplace.escrow.selectors import RUNNING_STATES
from marketplace.parties.models import Party


@dataclass(frozen=True, slots=True)
class Meter:
    """What a lease's egress meter shows: bytes out over so many reported hours, and what an hour may let out.

    `limit_bytes` is None where nothing is pinned; `hours_over` are those beyond it.
    """

    egress_bytes: int
    hours: int
    limit_bytes: int | None
    hours_over: int

    @property
    def is_pinned(self) -> bool:
        return self.limit_bytes is not None

    @property
    def is_breach(self) -> bool:
        return self.hours_over > 0


@transaction.atomic
def take_egress(*, party: Party, lease: Lease, signed: SignedReport, now: datetime) -> EgressReading:
    """Keep one hour of the meter of a lease that a provider serves; the same report again is the same row.

    Raises NotYours, ReferenceReused for another report of an hour that was taken, and BadInput for a report that is
    forged or malformed or of an hour outside the lease. Raises ReportFromFuture for an hour that is not over, and
    ReportLate once the lease is judged: its verdict rests on what was reported.
    """
    own = Lease.objects.select_for_update(of=("self",)).select_related("window", "node_class").filter(
        pk=lease.pk, provider=party).first()  # fmt: skip
    if own is None:
        raise NotYours("There is no such lease.")
    try:
        report = read_egress(signed, public_key=bytes(own.node_class.machine_key or b""))
    except ReadingRefused as refusal:
        raise BadInput(str(refusal), field="report", cause=refusal.code) from refusal
    starts_at = datetime.fromtimestamp(report.slot_start_at, UTC)
    slot, rest = divmod(starts_at - own.window.starts_at, timedelta(hours=1))
    if report.lease != str(own.pk) or rest or not own.start_slot <= slot < own.until_slot:
        raise BadInput("The report is of another lease or hour.", field="report")
    if starts_at + timedelta(hours=1) > now:
        raise ReportFromFuture("That hour is not over.", slot=slot)
    standing = EgressReading.objects.filter(lease=own, slot=slot).first()
    if standing is not None:
        if bytes(standing.report) != signed.body:
            raise ReferenceReused("Another report of this hour was taken before.", slot=slot)
        return standing
    if own.state not in RUNNING_STATES:
        raise ReportLate("This lease is judged already.", slot=slot)
    return EgressReading.objects.create(
        lease=own, slot=slot, egress_bytes=report.egress_bytes, report=signed.body, signature=signed.signature,
        taken_at=now,
    )  # fmt: skip


def meter_of(lease: Lease) -> Meter:
    """What the meter of a lease shows so far."""
    limit = EgressPin.objects.filter(demand=lease.demand_id).values_list("limit_bytes", flat=True).first()
    over = Count("pk", filter=Q(egress_bytes__gt=BYTES_MAX if limit is None else limit))
    sums = lease.egress_readings.aggregate(out=Sum("egress_bytes"), hours=Count("pk"), over=over)
    return Meter(int(sums["out"] or 0), int(sums["hours"]), limit, int(sums["over"] or 0))
