"""Clearing: the certified result of a window. Awards, prices and reasons are never changed."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import ResourceClass, Window
from marketplace.demand.models import Demand
from marketplace.supply.models import Bid

ATTEMPTS_MAX = 3
PARTS = ("base_micros", "scarcity_micros", "locality_micros", "tier_micros", "sla_micros")


class ClearingAttempt(models.Model):
    """One try at clearing a window. One that never ended was killed; after the last one the window fails."""

    OUTCOMES = ("running", "published", "refused")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="clearing_attempts")
    number = models.PositiveSmallIntegerField()
    outcome = models.CharField(max_length=10, default="running", choices=[(o, o) for o in OUTCOMES])
    code = models.CharField(max_length=40, default="", blank=True)
    sentence = models.CharField(max_length=300, default="", blank=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["window", "number"]
        constraints = [
            models.UniqueConstraint(name="clearing_attempt_is_numbered_once", fields=["window", "number"]),
            models.CheckConstraint(
                name="a_window_is_tried_three_times", condition=Q(number__gte=1) & Q(number__lte=ATTEMPTS_MAX)
            ),
            models.CheckConstraint(
                name="refused_attempt_says_why",
                condition=(Q(outcome="refused") & ~Q(code="")) | (Q(outcome__in=("running", "published")) & Q(code="")),
            ),
        ]


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
    caps = models.JSONField(
        default=list, help_text="per product and parent: unit-hours at most, and what that takes from its price"
    )
    caps_not_applicable = models.JSONField(default=list, help_text="products with too few parents for a cap")
    concentration = models.JSONField(default=list, help_text="per product: volume, parents, HHI and top share")
    use = models.JSONField(
        default=list, help_text="per resource class, and in it per product: sold, offered and proven unit-hours"
    )
    sellers = models.JSONField(default=list, help_text="per product: unit-hours by owner; never published")
    sigma_numerator = models.BigIntegerField(default=0, help_text="what the budget takes from the Foundation's limits")
    sigma_denominator = models.BigIntegerField(default=1)
    premium_ppm = models.BigIntegerField(null=True, help_text="what compliance adds to the price, by volume")
    premium_low_ppm = models.BigIntegerField(null=True, help_text="2.5 % of the resampled means lie below")
    premium_high_ppm = models.BigIntegerField(null=True, help_text="2.5 % of the resampled means lie above")
    premium_unit_hours = models.BigIntegerField(null=True, help_text="the volume it was measured on")
    cleared_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="clearing_gap_is_bound_less_welfare",
                condition=Q(gap_micros=F("bound_micros") - F("welfare_micros")) & Q(gap_micros__gte=0),
            ),
            models.CheckConstraint(
                name="clearing_sigma_is_not_negative",
                condition=Q(sigma_numerator__gte=0) & Q(sigma_denominator__gte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"clearing of {self.window.name}"

    @property
    def sigma_ppm(self) -> int:
        """What the budget takes from each limit of the Foundation, rounded down; 0 without a binding budget."""
        return 1_000_000 * self.sigma_numerator // self.sigma_denominator


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
    home_zone = models.CharField(max_length=12, default="", help_text="the smallest zone that holds its country")
    slot_prices_micros = models.JSONField(help_text="micro-USD per unit-hour, one entry a slot")
    slot_parts_micros = models.JSONField(
        default=dict, help_text="what each price is made of: one list a part, null where nothing traded"
    )

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
    base_micros = models.BigIntegerField(null=True, help_text="the part of the amount that capacity costs anywhere")
    scarcity_micros = models.BigIntegerField(null=True, help_text="the part that demand above supply adds")
    locality_micros = models.BigIntegerField(null=True, help_text="the part that zone and site add")
    tier_micros = models.BigIntegerField(null=True, help_text="the part that the tier adds")
    sla_micros = models.BigIntegerField(null=True, help_text="the part that the SLA adds")

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
            models.CheckConstraint(
                name="award_parts_make_its_amount",
                condition=Q(**dict.fromkeys(PARTS))
                | Q(amount_micros=F(PARTS[0]) + F(PARTS[1]) + F(PARTS[2]) + F(PARTS[3]) + F(PARTS[4])),
            ),
        ]

    @property
    def parts_micros(self) -> dict[str, int]:
        """What the amount is made of, by part; empty for awards from before parts were kept."""
        return {} if self.base_micros is None else {name: getattr(self, name) for name in PARTS}


class Backup(models.Model):
    """Who would step in for an award, at which price. Agreed beforehand, not reserved: activation re-checks all."""

    award = models.OneToOneField(Award, primary_key=True, on_delete=models.PROTECT, related_name="backup")
    bid = models.ForeignKey(Bid, on_delete=models.PROTECT, related_name="backs_up")
    strike_price_micros = models.BigIntegerField(help_text="micro-USD per unit-hour")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="backup_strike_is_a_price",
                condition=Q(strike_price_micros__gte=100) & Q(strike_price_micros__lte=10**9),
            )
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


class IndicativePrice(models.Model):
    """What funded demand would meet if supply were as it last was: a reference, not a quote. No sealed bid is in it.

    Renewed while the window collects demand, frozen when bidding opens.
    """

    METHODS = ("cleared_bids", "comparator")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="indicative_prices")
    resource_class = models.ForeignKey(ResourceClass, on_delete=models.PROTECT, related_name="+")
    method = models.CharField(max_length=12, choices=[(m, m) for m in METHODS])
    low_micros = models.BigIntegerField()
    high_micros = models.BigIntegerField()
    bids = models.PositiveIntegerField(help_text="opened bids of the last cleared window behind it")
    source = models.CharField(max_length=120, help_text="where the reference supply comes from")
    input_hash = models.BinaryField(max_length=32, help_text="of the copy that was looked at")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["window", "resource_class"]
        constraints = [
            models.UniqueConstraint(name="one_indicative_price_per_class", fields=["window", "resource_class"]),
            models.CheckConstraint(
                name="indicative_range_runs_upward",
                condition=Q(low_micros__gte=0) & Q(low_micros__lte=F("high_micros")),
            ),
            models.CheckConstraint(
                name="indicative_price_names_its_bids",
                condition=Q(method="comparator", bids=0) | Q(method="cleared_bids", bids__gte=1),
            ),
        ]
