"""Clearing: the certified result of a window. Awards, prices and reasons are never changed."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import Window
from marketplace.demand.models import Demand
from marketplace.supply.models import Bid


class Clearing(models.Model):
    """One cleared window with its certificate."""

    id = models.UUIDField(primary_key=True)
    window = models.OneToOneField(Window, on_delete=models.PROTECT, related_name="clearing")
    rule_version = models.CharField(max_length=20)
    bundle_hash = models.BinaryField(max_length=32)
    welfare_micros = models.BigIntegerField()
    bound_micros = models.BigIntegerField()
    gap_micros = models.BigIntegerField()
    demand_lines = models.IntegerField()
    bid_lines = models.IntegerField()
    cleared_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="clearing_gap_is_bound_less_welfare",
                condition=Q(gap_micros=F("bound_micros") - F("welfare_micros")) & Q(gap_micros__gte=0),
            )
        ]

    def __str__(self) -> str:
        return f"clearing of {self.window.name}"


class BundleFile(models.Model):
    """One file of the public bundle, exactly as hashed."""

    clearing = models.ForeignKey(Clearing, on_delete=models.PROTECT, related_name="files")
    name = models.CharField(max_length=40)
    body = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(name="bundle_file_is_written_once", fields=["clearing", "name"])]


class PriceRow(models.Model):
    """The price of one product signature in each slot; null where nothing traded."""

    clearing = models.ForeignKey(Clearing, on_delete=models.PROTECT, related_name="price_rows")
    signature = models.CharField(max_length=64)
    resource_class = models.CharField(max_length=20)
    country = models.CharField(max_length=2)
    tier = models.PositiveSmallIntegerField()
    slot_prices_micros = models.JSONField(help_text="micro-USD per unit-hour, one entry a slot")

    class Meta:
        ordering = ["clearing", "resource_class", "country", "tier", "signature"]
        constraints = [models.UniqueConstraint(name="one_price_row_per_signature", fields=["clearing", "signature"])]


class Award(models.Model):
    """A run of slots in which one bid serves one demand with the same units."""

    id = models.UUIDField(primary_key=True)
    clearing = models.ForeignKey(Clearing, on_delete=models.PROTECT, related_name="awards")
    demand = models.ForeignKey(Demand, on_delete=models.PROTECT, related_name="awards")
    bid = models.ForeignKey(Bid, on_delete=models.PROTECT, related_name="awards")
    start_slot = models.IntegerField()
    end_slot = models.IntegerField()
    units = models.BigIntegerField()
    slot_prices_micros = models.JSONField(help_text="micro-USD per unit-hour, one entry a slot of the award")
    amount_micros = models.BigIntegerField()

    class Meta:
        ordering = ["clearing", "demand", "bid", "start_slot"]
        constraints = [
            models.UniqueConstraint(name="award_is_made_once", fields=["demand", "bid", "start_slot"]),
            models.CheckConstraint(
                name="award_has_units_and_money", condition=Q(units__gte=1) & Q(amount_micros__gte=1)
            ),
            models.CheckConstraint(
                name="award_slots_run_forward", condition=Q(start_slot__gte=0) & Q(start_slot__lt=F("end_slot"))
            ),
        ]


class LineReason(models.Model):
    """Why a line, or what is left of it, was not filled. Exactly one per such line."""

    SIDES = ("demand", "bid")
    clearing = models.ForeignKey(Clearing, on_delete=models.PROTECT, related_name="reasons")
    side = models.CharField(max_length=6, choices=[(s, s) for s in SIDES])
    demand = models.ForeignKey(Demand, null=True, blank=True, on_delete=models.PROTECT, related_name="reasons")
    bid = models.ForeignKey(Bid, null=True, blank=True, on_delete=models.PROTECT, related_name="reasons")
    code = models.CharField(max_length=30)
    detail = models.JSONField(default=dict)
    unfilled_unit_hours = models.BigIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="one_reason_per_demand", fields=["clearing", "demand"]),
            models.UniqueConstraint(name="one_reason_per_bid", fields=["clearing", "bid"]),
            models.CheckConstraint(
                name="reason_is_about_one_line",
                condition=(Q(side="demand") & ~Q(demand=None) & Q(bid=None))
                | (Q(side="bid") & Q(demand=None) & ~Q(bid=None)),
            ),
        ]
