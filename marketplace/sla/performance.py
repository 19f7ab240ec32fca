"""Performance of running leases: each six hours a verdict on its re-check, each failed one credited at once.

The arithmetic is `pricing.performance`. Fewer than two verifiers, or a low first try without a second, prove nothing:
such an interval is no check at all.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Sum

from ledger.ids import uuid7
from marketplace.catalogue.models import Window
from marketplace.delivery.checks import HEARD_AFTER, begins_at, intervals_of, median_ops, proven_ops_of
from marketplace.delivery.evidence_models import CheckReport
from marketplace.delivery.promises import promises
from marketplace.escrow.backup_models import given_back_micros
from marketplace.escrow.models import Lease
from marketplace.governance.services import Deed, record_all
from marketplace.sla.models import EarlyCredit, Recheck
from pricing.health import PANEL_SEATS
from pricing.performance import CHECK_HOURS, Check, has_failed, needs_retry, shortfall_micros

VERIFIERS_MIN = 2


@transaction.atomic
def judge_checks(*, window: Window, now: datetime) -> int:
    """Judge the re-checks of running leases whose reports are in, and credit each shortfall at once; returns how many.

    Before proof nothing is credited while the lease runs: its credit comes out of the holdback at the close.
    """
    asked = CheckReport.objects.filter(lease__window=window, lease__state="delivering")
    leases = Lease.objects.select_for_update(of=("self",)).filter(pk__in=asked.values("lease")).order_by("pk")
    made: list[Recheck] = []
    for lease in leases.select_related("window"):
        made += _judge_lease(lease, now)
    Recheck.objects.bulk_create(made)
    credits = [credit for row in made if row.has_failed and row.lease.is_armed for credit in _credit(row, now)]
    EarlyCredit.objects.bulk_create(credits)
    record_all(deeds=[
        Deed("verifiers", "recheck", str(row.lease_id), "failed" if row.has_failed else "passed",
             {"interval": row.interval, "first_ops": row.first_ops, "second_ops": row.second_ops,
              "proven_ops": row.proven_ops, "shortfall_micros": row.shortfall_micros})
        for row in made
    ], now=now)  # fmt: skip
    return len(made)


def _judge_lease(lease: Lease, now: datetime) -> list[Recheck]:
    by_interval: dict[int, list[CheckReport]] = defaultdict(list)
    for report in CheckReport.objects.filter(lease=lease).order_by("id"):
        by_interval[report.interval].append(report)
    judged = set(Recheck.objects.filter(lease=lease).values_list("interval", flat=True))
    found = []
    for interval, reports in sorted(by_interval.items()):
        ends_at = begins_at(lease, interval) + timedelta(hours=CHECK_HOURS)
        if interval in judged or (len(reports) < PANEL_SEATS and now < ends_at + HEARD_AFTER):
            continue
        row = _recheck(lease, interval, reports, now)
        found += [row] if row else []
    return found


def _recheck(lease: Lease, interval: int, reports: Sequence[CheckReport], now: datetime) -> Recheck | None:
    proven = proven_ops_of(lease, begins_at(lease, interval))
    if len(reports) < VERIFIERS_MIN or proven == 0:
        return None
    first = median_ops([each.first_ops for each in reports])
    seconds = [each.second_ops for each in reports if each.second_ops is not None]
    asks_again = needs_retry(ops=first, proven_ops=proven)
    if asks_again and len(seconds) < VERIFIERS_MIN:
        return None
    check = Check(first, median_ops(seconds) if asks_again else None)
    fee = _interval_fee(lease, interval)
    leaves = sorted(hashlib.sha256(bytes(each.signature) + bytes(each.body)).digest() for each in reports)
    return Recheck(
        lease=lease, interval=interval, proven_ops=proven, first_ops=first, second_ops=check.second_ops,
        reports=len(reports), has_failed=has_failed(check, proven_ops=proven), interval_fee_micros=fee,
        shortfall_micros=shortfall_micros(check, proven_ops=proven, interval_fee_micros=fee), made_at=now,
        evidence_hash=hashlib.sha256(b"".join(leaves)).digest(),
    )  # fmt: skip


def _interval_fee(lease: Lease, interval: int) -> int:
    owed = promises(leases=[lease])
    first = lease.start_slot + CHECK_HOURS * interval
    return sum(owed[lease.pk, slot].amount_micros for slot in range(first, first + CHECK_HOURS)
               if (lease.pk, slot) in owed)  # fmt: skip


def _credit(row: Recheck, now: datetime) -> list[EarlyCredit]:
    """The credit of a failed check, never more than what is left of the fee after the credits before it."""
    before = EarlyCredit.objects.filter(lease=row.lease).aggregate(total=Sum("amount_micros"))["total"] or 0
    amount = min(row.shortfall_micros, row.lease.fee_micros - before - given_back_micros(row.lease))
    if amount <= 0:
        return []
    return [EarlyCredit(
        id=uuid7(now), lease=row.lease, kind="performance", period=row.interval, step_bps=0, amount_micros=amount,
        down_minutes=0, evidence_hash=bytes(row.evidence_hash), made_at=now,
        broken_at=begins_at(row.lease, row.interval) + timedelta(hours=CHECK_HOURS),
    )]  # fmt: skip


def checks_of(lease: Lease) -> list[Recheck]:
    """Return the judged re-checks of a lease in order of time."""
    return list(Recheck.objects.filter(lease=lease).order_by("interval")) if intervals_of(lease) else []
