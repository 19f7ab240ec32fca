"""Performance re-checks of running leases: when a panel measures a machine again, and what it reports.

An interval is six whole hours of a lease, counted from its first slot. At a secret minute of it every verifier of the
lease's panel runs a re-check; a first try under 90 % of the proven score is repeated 10 minutes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction

from marketplace.agent.readings import SignedReport
from marketplace.agent.statements import CheckStatement, accept_statement
from marketplace.delivery import evidence_models as rows
from marketplace.delivery.intake import SKEW, locked_leases, moment, parse_uuid, refuse_not_running, typed
from marketplace.delivery.probing import Draws, running_leases, witness_key
from marketplace.errors import (
    BadInput,
    NotOnPanel,
    ReportForged,
    ReportFromFuture,
    ReportLate,
    ReportReplayed,
    WrongInstant,
)
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.supply.models import Benchmark
from pricing.health import recheck_minute
from pricing.performance import CHECK_HOURS, RETRY_MINUTES

LAST_MINUTE = 60 * CHECK_HOURS - RETRY_MINUTES - 5  # the second try lies in the interval too
STARTED_WITHIN = timedelta(minutes=2)  # a machine may be in the middle of something
HEARD_AFTER = timedelta(hours=1)  # of an interval's end; then its reports are judged


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """One re-check that a verifier is asked for."""

    lease: Lease
    interval: int
    due_at: datetime
    proven_ops: int
    pulse: rows.Pulse | None


def intervals_of(lease: Lease) -> int:
    """Return how many whole intervals a lease has."""
    return (lease.until_slot - lease.start_slot) // CHECK_HOURS


def begins_at(lease: Lease, interval: int) -> datetime:
    """Return the start of an interval."""
    return lease.window.slot_at(lease.start_slot + CHECK_HOURS * interval)


def due_at(lease: Lease, interval: int, draws: Draws) -> datetime:
    """Return the secret minute of a lease's interval. Raises NotOnPanel where no secret was committed to."""
    start = begins_at(lease, interval)
    draw = draws.of(lease, start.astimezone(UTC).date())
    minute = recheck_minute(draw.secret, machine=str(lease.pk), interval=interval, minutes=LAST_MINUTE)
    return start + timedelta(minutes=minute)


def proven_ops_of(lease: Lease, at: datetime) -> int:
    """Return the attested score of a lease's machine that holds at a moment, operations per second; 0 without one."""
    live = Benchmark.objects.filter(node_class_id=lease.node_class_id, finished_at__lte=at, valid_until__gt=at)
    newest = live.order_by("-kind", "-epoch").first()
    return newest.ops_per_sec if newest else 0


def check_orders(*, verifier: Party, now: datetime) -> list[CheckOrder]:
    """Return the re-checks of one verifier that begin in the next hour, by time. Raises BadInput for others."""
    if verifier.kind != "verifier":
        raise BadInput("Only verifiers are ordered to check.", field="party")
    draws, found = Draws(), []
    leases = running_leases()
    told = rows.Pulse.objects.filter(node_class__in={lease.node_class_id for lease in leases})
    pulses = {row.node_class_id: row for row in told}
    for lease in leases:
        for interval in range(intervals_of(lease)):
            start = begins_at(lease, interval)
            if not start - timedelta(hours=1) <= now < start + timedelta(hours=CHECK_HOURS):
                continue
            try:
                at = due_at(lease, interval, draws)
                is_drawn = verifier.slug in draws.of(lease, start.astimezone(UTC).date()).panel
            except NotOnPanel:
                continue
            if is_drawn and now - STARTED_WITHIN <= at < now + timedelta(hours=1):
                pulse = pulses.get(lease.node_class_id)
                found.append(CheckOrder(lease, interval, at, proven_ops_of(lease, at), pulse))
    return sorted(found, key=lambda order: (order.due_at, str(order.lease.pk)))


@transaction.atomic
def take_checks(*, party: Party, signed: Sequence[SignedReport], now: datetime) -> int:
    """Take a verifier's re-checks, in any order; returns how many were new.

    Raises ReportForged, ReportMalformed, NotOnPanel, WrongInstant for a try at another time than the secret one,
    ReportFromFuture, ReportLate, and ReportReplayed for a second report of one interval with another body.
    """
    key, taken, draws = witness_key(party), 0, Draws()
    read: list[tuple[int, SignedReport, CheckStatement, UUID]] = []
    for item, each in enumerate(signed):
        with typed(item):
            check = accept_statement(CheckStatement, each, public_key=key)
            read.append((item, each, check, parse_uuid(check.lease)))
    leases = locked_leases([lease_id for *_, lease_id in read])
    for item, each, check, lease_id in read:
        with typed(item):
            taken += _take(party, each, check, leases.get(lease_id), draws, now)
    return taken


def _take(
    party: Party, signed: SignedReport, check: CheckStatement, lease: Lease | None, draws: Draws, now: datetime
) -> bool:
    if check.verifier != party.slug:
        raise ReportForged("The report speaks for another verifier.", named=check.verifier)
    if lease is None or check.machine != str(lease.node_class_id):
        raise ReportForged("There is no such lease of that machine.", field="lease")
    if check.interval >= intervals_of(lease):
        raise BadInput("The lease has no such interval.", field="interval", intervals=intervals_of(lease))
    start = begins_at(lease, check.interval)
    if party.slug not in draws.of(lease, start.astimezone(UTC).date()).panel:
        raise NotOnPanel("This verifier was not drawn for that lease and day.", interval=check.interval)
    _refuse_wrong_times(check, due_at(lease, check.interval, draws), now)
    known = rows.CheckReport.objects.filter(lease=lease, interval=check.interval, verifier=party).first()
    if known:
        if bytes(known.body) != signed.body:
            raise ReportReplayed("That interval was checked before, otherwise.", interval=check.interval)
        return False
    refuse_not_running(lease)
    if now > start + timedelta(hours=CHECK_HOURS) + HEARD_AFTER:
        raise ReportLate("That interval is judged.", interval=check.interval)
    rows.CheckReport.objects.create(
        lease=lease, verifier=party, interval=check.interval, first_ops=check.first_ops,
        second_ops=check.second_ops if check.second_at_ms else None, body=signed.body, signature=signed.signature,
        received_at=now,
    )  # fmt: skip
    return True


def _refuse_wrong_times(check: CheckStatement, due: datetime, now: datetime) -> None:
    first = moment(check.first_at_ms)
    second = moment(check.second_at_ms) if check.second_at_ms else None
    if max(first, second or first) > now + SKEW:
        raise ReportFromFuture("That instant has not come.")
    is_late = second is not None and not -STARTED_WITHIN <= second - first - timedelta(minutes=RETRY_MINUTES) <= (
        STARTED_WITHIN
    )
    if not -SKEW <= first - due <= STARTED_WITHIN or is_late:
        raise WrongInstant("That is not the time at which this machine was to be checked.", interval=check.interval)


def median_ops(values: Sequence[int]) -> int:
    """The median of the verifiers' scores; of two the higher one, so that one liar fails nobody."""
    return sorted(values)[len(values) // 2]
