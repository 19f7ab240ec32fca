"""Alerts that cost no stake: a class that burns its error budget six times too fast, or keeps failing its re-checks.

Such a class takes no new orders until it has proven itself again. Burn rates assume independent minutes and therefore
decide no breach: see `pricing.sla` for the test that does.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from marketplace.delivery.evidence_models import SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.tallies import live_readings
from marketplace.escrow.models import Lease
from marketplace.sla.models import Recheck
from marketplace.sla.services import evidence_hash
from marketplace.supply.standing import set_back

BURN_RATE, BURN_HOURS = 6, 6
FAILED_CHECKS, CHECKS_HOURS = 3, 24


@transaction.atomic
def watch_burning(*, now: datetime) -> int:
    """Set back the PROVEN classes whose running leases burn too fast or fail re-checks; returns how many."""
    running = Lease.objects.filter(state="delivering", node_class__standing__state="PROVEN")
    hurt = (
        Reading.objects.filter(lease__in=running, minutes_down__gt=0),
        SlotTally.objects.filter(lease__in=running).exclude(down_word=0),
        Recheck.objects.filter(lease__in=running, has_failed=True),
    )
    wanted = {lease_id for rows in hurt for lease_id in rows.values_list("lease", flat=True)}
    moved = 0
    for lease in running.filter(pk__in=wanted).select_related("window", "node_class").order_by("pk"):
        reason = _burns(lease, now) or _fails_checks(lease, now)
        if reason:
            evidence = evidence_hash(lease, live_readings(lease))
            moved += set_back(node_class=lease.node_class, reason=reason, evidence=evidence, now=now)
    return moved


def _burns(lease: Lease, now: datetime) -> str:
    """Whether the last six whole hours of a lease lost six times their share of the error budget, in words."""
    last = int((now - lease.window.starts_at) // timedelta(hours=1))
    hours = [row for row in live_readings(lease) if last - BURN_HOURS <= row.slot < last]
    down = sum(row.minutes_down for row in hours)
    known = 60 * len(hours) - sum(row.minutes_unknown for row in hours)
    if len(hours) < BURN_HOURS or down * 10_000 < BURN_RATE * (10_000 - lease.sla_bps) * known or not down:
        return ""
    return f"burn rate over {BURN_RATE}: {down} of {known} minutes of six hours down"


def _fails_checks(lease: Lease, now: datetime) -> str:
    failed = Recheck.objects.filter(
        lease__node_class=lease.node_class_id, has_failed=True, made_at__gt=now - timedelta(hours=CHECKS_HOURS)
    ).count()
    return f"{failed} re-checks failed within a day" if failed >= FAILED_CHECKS else ""
