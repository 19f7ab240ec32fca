"""The trailing 30 days of an unproven class: what its leases owe together, beside what each owed alone (M-058)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, QuerySet, Sum, Value
from django.db.models.functions import Coalesce

from ledger.models import ChainIntent
from ledger.selectors import balance
from marketplace.delivery.models import Reading
from marketplace.escrow.models import Lease
from marketplace.sla.hours import count_hours
from marketplace.sla.models import Verdict
from marketplace.slashing.models import Forfeit
from marketplace.supply.models import NodeClass
from pricing.penalties import Owed, ServedLease, owed_unproven, starts_to_judge

TRAILING_DAYS = 30
HOUR = Value(timedelta(hours=1), output_field=DurationField())
RATED = ("causes", "minutes_billable", "minutes_down", "minutes_unknown")  # what says whether an hour was good
NOT_TAKEN = ("reverted",)  # states of an intent whose forfeit never took effect


@dataclass(frozen=True)
class Trailing:
    """The unproven leases of one class and one SLA that ended in the 30 days up to the end of a judged one.

    Or only the later part of them, where more is still due for that part alone.
    """

    verdicts: list[Verdict]  # with their leases, oldest first
    owed: Owed
    taken_micros: int  # forfeited for these leases before

    @property
    def due_micros(self) -> int:
        """What is still to be forfeited."""
        return max(0, self.owed.micros - self.taken_micros)


def ended_at(prefix: str = "") -> ExpressionWrapper:
    """When a lease ends, as an expression over its window and slots."""
    return ExpressionWrapper(
        F(f"{prefix}window__starts_at") + Coalesce(f"{prefix}ended_slot", f"{prefix}end_slot") * HOUR,
        output_field=DateTimeField(),
    )


def waits_for_others(verdict: Verdict) -> bool:
    """Whether a lease that the trailing 30 days reach back to is not settled yet, in dispute perhaps.

    Judged without it the span would come out cheaper than judged with it, and never be looked at again.
    """
    lease = verdict.lease
    until = lease.window.slot_at(lease.until_slot)
    return Lease.objects.annotate(ended=ended_at()).filter(
        node_class=lease.node_class_id, is_armed=False, sla_bps=lease.sla_bps, ended__lte=until,
        ended__gt=until - timedelta(days=TRAILING_DAYS),
    ).exclude(state__in=("refused", "settled")).exists()  # fmt: skip


def trailing_of(verdict: Verdict) -> Trailing:
    """Judge the trailing 30 days that end with the lease of a verdict, from what is on record."""
    lease = verdict.lease
    until = lease.window.slot_at(lease.until_slot)
    verdicts = list(
        Verdict.objects.annotate(ended=ended_at("lease__"))
        .filter(
            lease__node_class=lease.node_class_id, lease__is_armed=False, lease__sla_bps=lease.sla_bps,
            ended__lte=until, ended__gt=until - timedelta(days=TRAILING_DAYS),
        ).select_related("credit", "lease__window", "lease__lock_batch", "lease__node_class", "lease__buyer")
        .order_by("ended", "id")
    )  # fmt: skip
    forfeits = Forfeit.objects.filter(case__verdict__in=verdicts).exclude(intent_key__in=_reverted(lease.node_class))
    by_verdict = dict(forfeits.order_by().values_list("case__verdict").annotate(total=Sum("amount_micros")))
    taken = [int(by_verdict.get(each.pk, 0)) for each in verdicts]
    free = free_holdback_micros(lease.node_class)
    judged = [_judged(verdicts[start:], sum(taken[start:]), free) for start in starts_to_judge(taken)]
    return max(judged, key=lambda each: each.due_micros)  # of equal ones the longest


def _judged(verdicts: list[Verdict], taken_micros: int, free_micros: int) -> Trailing:
    lease = verdicts[-1].lease
    good, bad = _hours_before(lease.node_class, verdicts)
    owed = owed_unproven(
        [_served(each) for each in verdicts], sla_bps=lease.sla_bps, hours=_distinct_hours(verdicts), good_hours=good,
        bad_hours=bad, holdback_micros=taken_micros + free_micros,
    )  # fmt: skip
    return Trailing(verdicts, owed, taken_micros)


def free_holdback_micros(node_class: NodeClass) -> int:
    """The holdback of a class that no forfeit on its way has promised already, micro-USD."""
    held = balance(code="provider.holdback", party=node_class.party_id, scope=node_class.pk).minor
    ended = ChainIntent.objects.filter(key__startswith="forfeit:", state__in=("final", *NOT_TAKEN)).values("key")
    promised = Forfeit.objects.filter(lease__node_class=node_class).exclude(intent_key__in=ended)
    return max(0, held - int(promised.aggregate(total=Sum("amount_micros"))["total"] or 0))


def unproven_to_judge(window: Any) -> QuerySet[Verdict]:
    """Verdicts of settled unproven leases in a window that opened no case and may owe something: a bad one, or a good
    one beside a bad one of its class (the stake that answers for a breach grows with the hours that follow it).
    """
    bad = Verdict.objects.filter(lease__is_armed=False).exclude(down_minutes=0)
    return Verdict.objects.filter(
        lease__window=window,
        lease__state="settled",
        lease__is_armed=False,
        slash_case=None,
        lease__node_class__in=bad.values("lease__node_class"),
    )


def _served(verdict: Verdict) -> ServedLease:
    credit = getattr(verdict, "credit", None)
    return ServedLease(
        # what funding forbids to earn is neither owed to the provider nor a harm to the buyer
        fee_micros=verdict.lease.fee_micros - verdict.above_ceiling_micros,
        refund_micros=verdict.unpaid_micros - verdict.above_ceiling_micros,
        credit_micros=credit.amount_micros if credit else 0, down_minutes=verdict.down_minutes,
        known_minutes=verdict.known_minutes, unknown_minutes=verdict.unknown_minutes, breach=verdict.is_breach,
    )  # fmt: skip


def _distinct_hours(verdicts: Sequence[Verdict]) -> int:
    """Hours in which at least one of the leases ran; two that run side by side are one longer promise, not two."""
    starts = {
        each.lease.window.slot_at(slot)
        for each in verdicts
        for slot in range(each.lease.start_slot, each.lease.until_slot)
    }
    return len(starts)


def _hours_before(node_class: NodeClass, verdicts: Sequence[Verdict]) -> tuple[int, int]:
    """Good and bad unit-hours of a class before its trailing leases: all of them less those since."""
    first: datetime = min(each.lease.window.slot_at(each.lease.start_slot) for each in verdicts)
    since = Lease.objects.annotate(ended=ended_at()).filter(
        node_class=node_class, ended__gt=first, verdict__isnull=False
    )
    alike = Reading.objects.filter(lease__in=since).order_by().values(*RATED).annotate(all_units=Sum("units"))
    good, bad = count_hours(Reading(units=row.pop("all_units"), **row) for row in alike)
    standing = node_class.standing
    return max(0, standing.good_hours - good), max(0, standing.bad_hours - bad)


def _reverted(node_class: NodeClass) -> QuerySet[Any]:
    keys = Forfeit.objects.filter(lease__node_class=node_class).values("intent_key")
    return ChainIntent.objects.filter(key__in=keys, state__in=NOT_TAKEN).values("key")
