"""Alerts that cost no stake: a class that burns its error budget six times too fast, or keeps failing its re-checks.

Such a class takes no new orders until it has proven itself again. Burn rates assume independent minutes and therefore
decide no breach: see `pricing.sla` for the test that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from marketplace.delivery.evidence_models import SlotTally
from marketplace.delivery.models import Reading
from marketplace.delivery.tallies import live_readings, minutes_down
from marketplace.escrow.models import Lease
from marketplace.notices.services import tell_parties
from marketplace.sla.models import Recheck
from marketplace.sla.services import evidence_hash
from marketplace.supply.standing import set_back
from pricing.sla import burn_tenths

# Hours looked back, and the burn in tenths of an even one that is told at once; the middle one sets the class back.
ALERTS = ((1, 144), (6, 60), (72, 10))
BURN_HOURS = ALERTS[1][0]
FAILED_CHECKS, CHECKS_HOURS = 3, 24


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast a lease burned its error budget over its last whole hours; tenths of an even burn."""

    hours: int
    limit_tenths: int
    tenths: int
    down: int
    known: int

    @property
    def is_over(self) -> bool:
        return self.down > 0 and self.tenths >= self.limit_tenths

    def __str__(self) -> str:
        return f"burn rate {self.tenths / 10:g} over {self.hours} h: {self.down} of {self.known} minutes down"


@transaction.atomic
def watch_burning(*, now: datetime) -> int:
    """Tell both sides of budgets that burn too fast; set back PROVEN classes over the middle rate or failing checks.

    Returns how many classes were set back. Each alert is told once per lease and span.
    """
    running = Lease.objects.filter(state="delivering", node_class__standing__state="PROVEN")
    hurt = (
        Reading.objects.filter(lease__in=running, minutes_down__gt=0),
        SlotTally.objects.filter(lease__in=running).exclude(down_word=0),
        Recheck.objects.filter(lease__in=running, has_failed=True),
    )
    wanted = {lease_id for rows in hurt for lease_id in rows.values_list("lease", flat=True)}
    moved = 0
    rows = running.filter(pk__in=wanted).select_related("window", "node_class", "demand", "provider")
    for lease in rows.order_by("pk"):
        burns = [burn for burn in burn_rates(lease, now=now) if burn.is_over]
        _tell(lease, burns, now)
        worst = next((str(burn) for burn in burns if burn.hours == BURN_HOURS), "")
        reason = worst or _fails_checks(lease, now)
        if reason:
            evidence = evidence_hash(lease, live_readings(lease))
            moved += set_back(node_class=lease.node_class, reason=reason, evidence=evidence, now=now)
    return moved


def burn_rates(lease: Lease, *, now: datetime) -> list[Burn]:
    """How fast a lease burns over each span whose hours are all in; a span longer than it has run is left out."""
    last = int((now - lease.window.starts_at) // timedelta(hours=1))
    minutes, found = _minutes_by_slot(lease), []
    for hours, limit in ALERTS:
        rows = [minutes[slot] for slot in range(last - hours, last) if slot in minutes]
        if len(rows) < hours:
            continue
        down, known = sum(row[0] for row in rows), 60 * hours - sum(row[1] for row in rows)
        tenths = burn_tenths(down_minutes=down, known_minutes=known, sla_bps=lease.sla_bps)
        found.append(Burn(hours, limit, tenths, down, known))
    return found


def _minutes_by_slot(lease: Lease) -> dict[int, tuple[int, int]]:
    """Minutes down by the provider's doing and unknown ones, of rated hours and of those that are complete."""
    tallies = SlotTally.objects.filter(lease=lease, is_complete=True, rated_at=None)
    live = {row.slot: (minutes_down(row), row.unknown_word.bit_count()) for row in tallies}
    rated = Reading.objects.filter(lease=lease).values_list("slot", "minutes_down", "minutes_unknown")
    return live | {slot: (down, unknown) for slot, down, unknown in rated}


def _tell(lease: Lease, burns: Sequence[Burn], now: datetime) -> None:
    for burn in burns:
        span = int((now - lease.window.starts_at) // timedelta(hours=burn.hours))
        tell_parties(
            parties={lease.buyer_id, lease.provider_id}, about=f"burn:{lease.pk}:{burn.hours}:{span}", now=now,
            code="error_budget_burning",
            sentence=f"{lease.demand.reference} at {lease.provider.name} burns its error budget: {burn}.",
        )  # fmt: skip


def _fails_checks(lease: Lease, now: datetime) -> str:
    failed = Recheck.objects.filter(
        lease__node_class=lease.node_class_id, has_failed=True, made_at__gt=now - timedelta(hours=CHECKS_HOURS)
    ).count()
    return f"{failed} re-checks failed within a day" if failed >= FAILED_CHECKS else ""
