"""What slashing may and may not take from a node class now, after its proof, and at worst, from live figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet, Sum

from ledger import selectors as books
from marketplace.escrow.models import Lease
from marketplace.escrow.selectors import RUNNING_STATES
from marketplace.parties.models import Party
from marketplace.slashing.models import SlashCase
from marketplace.supply.models import NodeClass
from marketplace.supply.selectors import live_benchmark
from pricing import penalties
from pricing.penalties import Day, Trajectory

EXAMPLE_DAYS = 7
EXAMPLE_SLA_BPS = 9900


@dataclass(frozen=True)
class Example:
    """What one mishap would cost in a week's lease, before and after proof (micro-USD)."""

    name: str
    now_micros: int
    after_micros: int


@dataclass(frozen=True)
class SlashRule:
    """One row of the slash table: what for, and the share of the lease's stake in basis points."""

    name: str
    share_bps: int


@dataclass(frozen=True)
class Arming:
    """The three columns of the arming page for one node class. Amounts are micro-USD."""

    node_class: NodeClass
    is_armed: bool
    reason: str
    proof_ends_at: datetime | None
    stake_micros: int
    holdback_micros: int
    committed_micros: int
    cap_now_micros: int
    cap_after_micros: int
    lease_hours_max: int | None
    holdback_share_bps: int
    example_units: int
    worst_now_micros: int
    worst_after_micros: int
    examples: list[Example]

    @property
    def state(self) -> str:
        return self.node_class.standing.state


SLASH_TABLE = (
    SlashRule("first confirmed breach in 90 days: a warning", penalties.SLASH_BPS[penalties.WARNING]),
    SlashRule("second breach", penalties.SLASH_BPS[penalties.SECOND_BREACH]),
    SlashRule("third and later", penalties.SLASH_BPS[penalties.THIRD_BREACH]),
    SlashRule("second or later below 95 % availability", penalties.SLASH_BPS[penalties.SEVERE_BREACH]),
    SlashRule("proof fraud", penalties.SLASH_BPS[penalties.PROOF_FRAUD]),
)
CAPS_BPS = {"period": penalties.PERIOD_CAP_BPS, "quarter": penalties.QUARTER_CAP_BPS}
FORFEIT_BPS = penalties.FORFEIT_BPS


def explain_arming(node_class: NodeClass, now: datetime) -> Arming:
    """Return what is held back now, what opens after proof, and the worst case, for one node class."""
    standing = node_class.standing
    proof = live_benchmark(node_class, now)
    is_armed = standing.state in ("PROVEN", "DEGRADED", "SUSPENDED", "UNBONDING") and standing.proven_at is not None
    stake = books.balance(code="stake.mirror", party=node_class.party_id, scope=node_class.pk).minor
    holdback = books.balance(code="provider.holdback", party=node_class.party_id, scope=node_class.pk).minor
    committed = _committed_micros(node_class)
    units = _example_units(node_class)
    return Arming(
        node_class=node_class, is_armed=is_armed, reason=_last_reason(node_class),
        proof_ends_at=standing.proven_until or (proof.valid_until if proof else None), stake_micros=stake,
        holdback_micros=holdback, committed_micros=committed,
        cap_now_micros=_cap_micros(node_class, standing.state, stake, holdback, now),
        cap_after_micros=_cap_micros(node_class, "PROVEN", stake, holdback, now),
        lease_hours_max=penalties.PROBATION_LEASE_HOURS if standing.state == "PROBATION" else None,
        holdback_share_bps=0 if is_armed else 10_000, example_units=units,
        worst_now_micros=stake if is_armed else holdback + committed, worst_after_micros=stake,
        examples=_examples(node_class, units, stake, holdback),
    )


def slash_cases_of(party: Party) -> QuerySet[SlashCase]:
    """Return what followed from each confirmed breach of a provider, newest first."""
    return (
        SlashCase.objects.filter(node_class__party=party)
        .select_related("node_class", "verdict__lease__demand", "verdict__lease__window", "appeal")
        .prefetch_related("appeal__opinions").order_by("-opened_at", "id")
    )


def find_appealed(case_id: UUID) -> SlashCase | None:
    """Return a case that somebody disputed, with all that its judges need, or None."""
    lease = [f"verdict__lease__{name}" for name in ("demand", "buyer", "window")]
    related = ("appeal", "node_class__party", *lease)
    return SlashCase.objects.filter(pk=case_id, appeal__isnull=False).select_related(*related).prefetch_related(
        "appeal__opinions", "verdict__lease__readings"
    ).first()  # fmt: skip


def _committed_micros(node_class: NodeClass) -> int:
    leases = Lease.objects.filter(node_class=node_class, state__in=RUNNING_STATES)
    return int(leases.aggregate(total=Sum("fee_micros"))["total"] or 0)


def _last_reason(node_class: NodeClass) -> str:
    changes = list(node_class.standing_changes.all())
    return changes[-1].reason if changes else "enrolled; no proof yet"


def _cap_micros(node_class: NodeClass, state: str, stake: int, holdback: int, now: datetime) -> int:
    standing = node_class.standing
    breached = standing.last_breach_at is not None and now - standing.last_breach_at < timedelta(days=90)
    return penalties.exposure_cap_micros(
        standing=state, price_micros=node_class.resource_class.reference_price_micros,
        capacity_units=node_class.units, bonded_micros=stake, good_hours=standing.good_hours,
        bad_hours=standing.bad_hours, breached_within_90_days=breached, holdback_micros=holdback,
    )


def _example_units(node_class: NodeClass) -> int:
    return max(1, node_class.units * penalties.PROBATION_CAPACITY_BPS // 10_000)


def _examples(node_class: NodeClass, units: int, stake: int, holdback: int) -> list[Example]:
    """Price three mishaps with the production functions, on the same units for both standings."""
    mishaps = (("40-minute dip", 40), ("one day down", 1440))
    found = []
    for name, down in mishaps:
        trajectory = _week(node_class, units, down)
        found.append(Example(name, penalties.loss_unproven(trajectory), penalties.loss_proven(trajectory)))
    week = _week(node_class, units, 0)
    return [*found, Example("false proof", holdback + week.fee_of_day_micros * EXAMPLE_DAYS, stake)]


def _week(node_class: NodeClass, units: int, down_minutes: int) -> Trajectory:
    standing = node_class.standing
    bad_day = Day(down_minutes=down_minutes, known_minutes=1440, unpaid_minutes=down_minutes)
    good_day = Day(down_minutes=0, known_minutes=1440, unpaid_minutes=0)
    return Trajectory(
        days=(bad_day, *(good_day for _ in range(EXAMPLE_DAYS - 1))),
        price_micros=node_class.resource_class.reference_price_micros, units=units, sla_bps=EXAMPLE_SLA_BPS,
        good_hours=standing.good_hours, bad_hours=standing.bad_hours,
        earlier_breaches=1 if standing.last_breach_at else 0,
    )
