"""The Foundation as market-maker: limits that two people set, stops, its quotes, and conflicts of interest."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from marketplace.demand.models import Demand

RULES = ("loss", "person")


class MakerLimits(models.Model):
    """What the Foundation may buy and lose; in force once a second person has approved it, until the next is."""

    id = models.UUIDField(primary_key=True)
    resource_classes = ArrayField(models.CharField(max_length=20), help_text="the products it may quote")
    notional_max_micros = models.BigIntegerField(help_text="of all its open quotes and running leases, at their limits")
    inventory_max_unit_hours = models.BigIntegerField(help_text="that it may hold or be quoting for at one time")
    loss_max_micros = models.BigIntegerField(help_text="since these limits came into force; then it stops by itself")
    spread_max_ppm = models.PositiveIntegerField(help_text="a quote's limit above or below its class's reference price")
    reason = models.CharField(max_length=300)
    proposed_by = models.CharField(max_length=120)
    proposed_at = models.DateTimeField()
    approved_by = models.CharField(max_length=120, default="", blank=True)
    approved_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, help_text="refused, or followed by newer limits")

    class Meta:
        verbose_name_plural = "maker limits"
        ordering = ["-proposed_at", "-id"]
        constraints = [
            models.CheckConstraint(
                name="maker_limits_take_two_people",
                condition=Q(approved_by="", approved_at=None)
                | (~Q(approved_by="") & ~Q(approved_at=None) & ~Q(approved_by=F("proposed_by"))),
            ),
            models.CheckConstraint(name="maker_limits_name_who_and_why", condition=~Q(proposed_by="") & ~Q(reason="")),
            models.CheckConstraint(
                name="maker_limits_are_amounts",
                condition=Q(notional_max_micros__gte=1) & Q(inventory_max_unit_hours__gte=1)
                & Q(loss_max_micros__gte=1) & Q(spread_max_ppm__lte=10**6),
            ),
            models.UniqueConstraint(
                name="one_set_of_maker_limits_is_in_force", fields=["singleton"],
                condition=Q(ended_at=None) & ~Q(approved_at=None),
            ),
        ]  # fmt: skip

    singleton = models.BooleanField(default=True, editable=False)


class MakerStop(models.Model):
    """Trading stopped under one set of limits. It does not start again under them. Append-only."""

    limits = models.OneToOneField(MakerLimits, primary_key=True, on_delete=models.PROTECT, related_name="stop")
    rule = models.CharField(max_length=10, choices=[(r, r) for r in RULES])
    loss_micros = models.BigIntegerField(help_text="the result at that moment, as a loss")
    reason = models.CharField(max_length=300)
    stopped_by = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="maker_stop_is_of_a_known_rule", condition=Q(rule__in=RULES)),
        ]


class MakerQuote(models.Model):
    """One demand of the Foundation's own: who placed it, under which limits. Append-only."""

    demand = models.OneToOneField(Demand, primary_key=True, on_delete=models.PROTECT, related_name="maker_quote")
    limits = models.ForeignKey(MakerLimits, on_delete=models.PROTECT, related_name="quotes")
    placed_by = models.CharField(max_length=120)
    placed_at = models.DateTimeField()

    class Meta:
        ordering = ["-placed_at", "-demand_id"]
        constraints = [models.CheckConstraint(name="maker_quote_names_its_trader", condition=~Q(placed_by=""))]


class Conflict(models.Model):
    """An interest of a person of the Foundation that its office could serve. Append-only; an end is a new row."""

    person = models.CharField(max_length=120)
    about = models.CharField(max_length=160, help_text="the party or matter it concerns")
    what = models.CharField(max_length=300)
    recorded_by = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.CheckConstraint(
                name="conflict_says_who_and_what", condition=~Q(person="") & ~Q(about="") & ~Q(what="")
            ),
        ]
