"""How a buyer watches over its own spending: thresholds, limits of seats, budgets, approvals, pilots."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party, Seat


class SpendingRule(models.Model):
    """Above its threshold a demand of this party waits for so many approvals, and may need a purchase order."""

    party = models.OneToOneField(Party, on_delete=models.PROTECT, primary_key=True, related_name="spending_rule")
    threshold_micros = models.BigIntegerField(help_text="what a demand may cost at most without an approval")
    approvals_needed = models.PositiveSmallIntegerField(default=1)
    needs_purchase_order = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="spending_rule_asks_one_to_five",
                condition=Q(threshold_micros__gte=0) & Q(approvals_needed__gte=1) & Q(approvals_needed__lte=5),
            )
        ]


class SeatLimit(models.Model):
    """The most that one demand may cost which this seat approves. A seat without a limit approves nothing."""

    seat = models.OneToOneField(Seat, on_delete=models.CASCADE, primary_key=True, related_name="limit")
    limit_micros = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(name="seat_limit_is_not_negative", condition=Q(limit_micros__gte=0))]


class Budget(models.Model):
    """What a team may spend in a span of time, and what happens when it is used up."""

    ACTIONS = ("notify", "block")
    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="budgets")
    name = models.CharField(max_length=60)
    limit_micros = models.BigIntegerField()
    action = models.CharField(max_length=8, choices=[(a, a) for a in ACTIONS])
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()

    class Meta:
        ordering = ["party", "name"]
        constraints = [
            models.UniqueConstraint(name="a_party_names_a_budget_once", fields=["party", "name"]),
            models.CheckConstraint(name="budget_action_is_known", condition=Q(action__in=("notify", "block"))),
            models.CheckConstraint(
                name="budget_has_money_and_time", condition=Q(limit_micros__gte=1) & Q(until_at__gt=F("from_at"))
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Pilot(models.Model):
    """A small trial: light data only, a cap on all its demands together, and a day on which it ends."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="pilots")
    name = models.CharField(max_length=60)
    cap_micros = models.BigIntegerField()
    ends_at = models.DateTimeField()
    opened_at = models.DateTimeField()

    class Meta:
        ordering = ["party", "name"]
        constraints = [
            models.UniqueConstraint(name="a_party_names_a_pilot_once", fields=["party", "name"]),
            models.CheckConstraint(
                name="pilot_is_capped_and_ends", condition=Q(cap_micros__gte=1) & Q(ends_at__gt=F("opened_at"))
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DemandApproval(models.Model):
    """One seat's yes or no to a demand that waited; append-only."""

    demand = models.ForeignKey("marketplace.Demand", on_delete=models.PROTECT, related_name="approvals")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    is_approved = models.BooleanField()
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        constraints = [
            models.UniqueConstraint(name="a_seat_judges_a_demand_once", fields=["demand", "seat"]),
            models.CheckConstraint(name="approval_has_a_reason", condition=~Q(reason="")),
        ]
