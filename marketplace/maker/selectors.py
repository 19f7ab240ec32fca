"""Reads of the Foundation's trade: limits and their use, quotes, its flagged awards, and the daily result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.db.models import BigIntegerField, ExpressionWrapper, F, QuerySet, Sum
from django.db.models.functions import TruncDate

from marketplace.clearing.models import Clearing
from marketplace.demand.models import Demand
from marketplace.maker.models import MakerLimits, MakerQuote
from marketplace.parties.owners import FOUNDATION
from marketplace.payout.models import SettlementLine
from marketplace.sla.models import Credit

ENDED = ("SETTLED", "FAILED")
OPEN = ("funded", "awarded")
HOURS = ExpressionWrapper(F("quantity_units") * (F("end_slot") - F("start_slot")), output_field=BigIntegerField())


@dataclass(frozen=True)
class Use:
    """What of the limits is used: micro-USD and unit-hours."""

    notional_micros: int
    unit_hours: int
    loss_micros: int


@dataclass(frozen=True)
class Day:
    """One day's result (UTC): paid for delivered hours, come back as credit, and the sum of the two. Micro-USD."""

    day: date
    paid_micros: int
    credited_micros: int

    @property
    def result_micros(self) -> int:
        return self.credited_micros - self.paid_micros


@dataclass(frozen=True)
class OwnTrade:
    """What the Foundation itself bought in one clearing."""

    lines: int
    unit_hours: int
    micros: int


def limits_in_force() -> MakerLimits | None:
    """Return the limits that are in force, stopped or not, or None."""
    return MakerLimits.objects.filter(ended_at=None).exclude(approved_at=None).select_related("stop").first()


def use_of_limits(limits: MakerLimits) -> Use:
    """Return how much of the limits open quotes, running leases and past losses use."""
    open_rows = Demand.objects.filter(party__in=FOUNDATION, state__in=OPEN).exclude(window__state__in=ENDED)
    rows = open_rows.annotate(hours=HOURS)
    sums = rows.aggregate(all_hours=Sum("hours"), money=Sum(F("hours") * F("price_limit_micros")))
    return Use(int(sums["money"] or 0), int(sums["all_hours"] or 0), loss_micros(limits))


def loss_micros(limits: MakerLimits) -> int:
    """Return what was lost since the limits came into force, never below nothing."""
    lines = SettlementLine.objects.filter(lease__buyer__in=FOUNDATION, settlement__made_at__gte=limits.approved_at)
    paid = int(lines.aggregate(total=Sum("earned_micros"))["total"] or 0)
    back = _holdback_credits().filter(posted_at__gte=limits.approved_at).aggregate(total=Sum("amount_micros"))["total"]
    return max(0, paid - int(back or 0))


def daily_results() -> list[Day]:
    """Return the Foundation's result day by day, newest first, out of the settlements themselves."""
    paid = dict(
        SettlementLine.objects.filter(lease__buyer__in=FOUNDATION).order_by()
        .annotate(day=TruncDate("settlement__made_at")).values_list("day").annotate(total=Sum("earned_micros"))
    )  # fmt: skip
    credited = dict(
        _holdback_credits().order_by().annotate(day=TruncDate("posted_at")).values_list("day")
        .annotate(total=Sum("amount_micros"))
    )  # fmt: skip
    days = sorted({*paid, *credited}, reverse=True)
    return [Day(day, int(paid.get(day, 0)), int(credited.get(day, 0))) for day in days]


def quotes() -> QuerySet[MakerQuote]:
    """Return the Foundation's quotes, newest first."""
    return MakerQuote.objects.select_related("demand__window", "limits")


def own_trade(clearing: Clearing) -> OwnTrade | None:
    """Return what the Foundation bought in a clearing, or None when it had no line in it."""
    lines = Demand.objects.filter(window=clearing.window_id, party__in=FOUNDATION).exclude(hold_id=None)
    count = lines.exclude(state__in=("withdrawn", "unfunded")).count()
    if not count:
        return None
    awards = clearing.awards.filter(demand__party__in=FOUNDATION).annotate(
        hours=ExpressionWrapper(F("units") * (F("end_slot") - F("start_slot")), output_field=BigIntegerField()))
    sums = awards.aggregate(all_hours=Sum("hours"), money=Sum("amount_micros"))
    return OwnTrade(count, int(sums["all_hours"] or 0), int(sums["money"] or 0))


def _holdback_credits() -> QuerySet[Credit]:
    # Credits out of escrow are already taken from what a settlement line says was earned.
    return Credit.objects.filter(
        verdict__lease__buyer__in=FOUNDATION, source="holdback", posted_at__isnull=False
    )
