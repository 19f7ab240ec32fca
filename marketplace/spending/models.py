"""How a buyer watches over its own spending: thresholds, limits of seats and their changes, budgets, approvals."""

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
    set_by = models.ForeignKey(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    let_by = models.ForeignKey(
        "marketplace.SpendingChange", null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="the change that another person let, where these terms ask less than those before",
    )  # fmt: skip
    set_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="spending_rule_asks_one_to_five",
                condition=Q(threshold_micros__gte=0) & Q(approvals_needed__gte=1) & Q(approvals_needed__lte=5),
            )
        ]


class SeatLimit(models.Model):
    """The most that one demand may cost which this seat approves, and which it orders without an approval.

    A seat without a limit approves nothing, and orders what the party's own rule lets everybody order.
    """

    seat = models.OneToOneField(Seat, on_delete=models.CASCADE, primary_key=True, related_name="limit")
    limit_micros = models.BigIntegerField(default=0, help_text="it approves up to")
    limit_set_by = models.ForeignKey(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    limit_let_by = models.ForeignKey(
        "marketplace.SpendingChange", null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="the change that another person let, where it approves more than before",
    )  # fmt: skip
    order_max_micros = models.BigIntegerField(
        null=True, blank=True, help_text="one demand that it posts may cost so much without an approval; null: any"
    )
    order_set_by = models.ForeignKey(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    order_let_by = models.ForeignKey(
        "marketplace.SpendingChange", null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="the change that another person let, where this limit is higher than the one before",
    )  # fmt: skip
    set_at = models.DateTimeField(null=True, blank=True, help_text="when either limit was set last")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="seat_limit_is_not_negative",
                condition=Q(limit_micros__gte=0) & (Q(order_max_micros=None) | Q(order_max_micros__gte=0)),
            ),
            models.CheckConstraint(
                name="seat_sets_no_order_limit_of_its_own",
                condition=Q(order_set_by=None) | ~Q(order_set_by=F("seat")),
            ),
        ]


class SpendingChange(models.Model):
    """A rule or a seat's limit that would ask less than before: it waits until another person lets it or refuses it."""

    KINDS = ("rule", "order_limit", "limit")
    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="spending_changes")
    kind = models.CharField(max_length=12, choices=[(each, each) for each in KINDS])
    threshold_micros = models.BigIntegerField(null=True, blank=True)
    approvals_needed = models.PositiveSmallIntegerField(null=True, blank=True)
    needs_purchase_order = models.BooleanField(null=True, blank=True)
    seat = models.ForeignKey(
        Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="whose limit it is"
    )
    order_max_micros = models.BigIntegerField(null=True, blank=True, help_text="of a seat; null: no own limit")
    limit_micros = models.BigIntegerField(null=True, blank=True, help_text="a seat approves up to")
    proposed_by = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    is_let = models.BooleanField(null=True, blank=True)
    reason = models.CharField(max_length=300, default="", blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True, help_text="a later word took its place")

    @property
    def state(self) -> str:
        """Whether it waits, was let or refused, or a later word took its place."""
        if self.withdrawn_at:
            return "withdrawn"
        return "waiting" if self.is_let is None else "let" if self.is_let else "refused"

    class Meta:
        ordering = ["proposed_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="spending_change_is_of_a_rule_or_of_a_seat",
                condition=Q(kind="rule", seat=None, order_max_micros=None, limit_micros=None, threshold_micros__gte=0,
                            approvals_needed__gte=1, needs_purchase_order__isnull=False)
                | (Q(threshold_micros=None, approvals_needed=None, needs_purchase_order=None) & ~Q(seat=None)
                   & (Q(kind="order_limit", limit_micros=None)
                      | Q(kind="limit", order_max_micros=None, limit_micros__gte=0))),
            ),
            models.CheckConstraint(
                name="spending_change_says_who_decided_and_why",
                condition=Q(decided_by=None, decided_at=None, is_let=None)
                | (~Q(decided_by=None) & ~Q(decided_at=None) & Q(is_let__isnull=False) & ~Q(reason="")
                   & Q(withdrawn_at=None)),
            ),
            models.CheckConstraint(
                name="spending_change_is_let_by_another",
                condition=Q(decided_by=None)
                | (~Q(decided_by=F("proposed_by")) & (Q(seat=None) | ~Q(decided_by=F("seat")))),
            ),
            models.UniqueConstraint(
                name="one_spending_change_waits_at_a_time", fields=["party", "kind", "seat"],
                condition=Q(decided_at=None, withdrawn_at=None), nulls_distinct=False,
            ),
        ]  # fmt: skip


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
