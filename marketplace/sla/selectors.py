"""Reads of what a lease was promised and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.delivery.models import Reading
from marketplace.delivery.tallies import live_readings
from marketplace.escrow.models import Lease
from marketplace.sla.models import TargetVerdict
from marketplace.sla.targets import Found, Seen, look_at
from pricing.targets import TARGETS, Target, bound_words


@dataclass(frozen=True)
class Promised:
    """One line of a lease's SLA: what was promised, what was measured, and what came of it.

    `outcome` is kept, broken, unknown, or running while the lease is not judged and nothing is broken for certain.
    """

    name: str
    words: str
    promised: str
    measured: str
    outcome: str
    credit_micros: int
    counted: str  # how much of it missed, of how much that is known
    verdicts: list[TargetVerdict]


def promised_and_measured(lease: Lease) -> list[Promised]:
    """Return the typed targets of a lease in the order of the menu; of a running one as its evidence stands."""
    asked = [target for target in TARGETS.values() if target.name in lease.sla_targets]
    if not asked:
        return []
    given: dict[str, list[TargetVerdict]] = {target.name: [] for target in asked}
    for verdict in TargetVerdict.objects.filter(lease=lease, target__in=given).order_by("event_minute"):
        given[verdict.target].append(verdict)
    is_over = lease.state not in ("locking", "locked", "delivering")
    rows = list(Reading.objects.filter(lease=lease).order_by("slot")) if is_over else live_readings(lease)
    seen = None if all(given[target.name] for target in asked) else Seen(lease, rows)
    return [_line(lease, target, given[target.name], seen) for target in asked]


def _line(lease: Lease, target: Target, verdicts: list[TargetVerdict], seen: Seen | None) -> Promised:
    broken = [verdict for verdict in verdicts if verdict.outcome == "broken"]
    shown: TargetVerdict | Found | None = next(iter(broken or verdicts), None)
    outcome = shown.outcome if shown else "running"
    if shown is None and seen is not None:
        shown = next(iter(look_at(seen, target.name, is_over=True)), None)
    return Promised(
        name=target.name, words=target.words, promised=bound_words(target, lease.sla_targets[target.name]),
        measured=_measured(target, shown.measured if shown else None), outcome=outcome,
        credit_micros=sum(verdict.credit_micros for verdict in broken), counted=_counted(target, shown),
        verdicts=verdicts,
    )  # fmt: skip


def _measured(target: Target, figure: int | None) -> str:
    if figure is None:
        return "nothing yet"
    return f"{figure / 100:g} %" if target.unit == "bps" else f"{figure} {target.unit}"


def _counted(target: Target, shown: TargetVerdict | Found | None) -> str:
    if shown is None or not target.is_share:
        return ""
    what = "checks" if target.unit == "bps" else "minutes"
    return f"{shown.missed:,} of {shown.known:,} {what} missed it; broken beyond {shown.allowed:,}"


def targets_shown(lease: Lease) -> dict[str, object]:
    """What the pages of buyer and provider show of a lease's targets."""
    promised = promised_and_measured(lease)
    return {"promised": promised, "judged_targets": [verdict for line in promised for verdict in line.verdicts]}
