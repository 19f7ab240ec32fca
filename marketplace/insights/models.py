"""What buyers say a demand is worth, what it was measured to save, and the comparisons they kept. Never rewritten."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.demand.models import Demand
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party

SEGMENTS = ("enterprise", "public_sector", "research", "frontier_lab")


class DemandStatement(models.Model):
    """What a buyer says about one demand beside its terms, or about what it needs before it posts any.

    The last version is what counts, of a demand's the last before demand closes.
    """

    id = models.UUIDField(primary_key=True)
    demand = models.ForeignKey(Demand, null=True, blank=True, on_delete=models.PROTECT, related_name="statements")
    party = models.ForeignKey(
        Party, null=True, blank=True, on_delete=models.PROTECT, related_name="statements",
        help_text="the buyer, where it is about no demand yet",
    )  # fmt: skip
    version = models.PositiveIntegerField()
    segment = models.CharField(max_length=15, choices=[(s, s.replace("_", " ")) for s in SEGMENTS])
    pain = models.CharField(max_length=1000, default="", blank=True, help_text="what is wrong with the present way")
    present_usd_per_year = models.BigIntegerField(null=True, blank=True, help_text="what is spent on it now")
    incumbent = models.CharField(max_length=120, default="", blank=True, help_text="who supplies or quotes otherwise")
    quote_micros = models.BigIntegerField(null=True, blank=True, help_text="their all-in price per unit-hour")
    quote_latency_ms = models.PositiveIntegerField(null=True, blank=True, help_text="p95 from the same vantage")
    quote_country = models.CharField(max_length=2, default="", blank=True, help_text="where they would run it")
    quote_source = models.CharField(max_length=300, default="", blank=True, help_text="offer, invoice or price list")
    quoted_on = models.DateField(null=True, blank=True)
    curves = models.JSONField(default=dict, help_text="attribute left out, '' for none -> [[price micros, units], ...]")
    stated_at = models.DateTimeField()

    class Meta:
        ordering = ["demand", "version", "id"]
        constraints = [
            models.UniqueConstraint(name="statement_is_numbered_once", fields=["demand", "version"]),
            models.UniqueConstraint(name="statement_of_a_buyer_is_numbered_once", fields=["party", "version"]),
            models.CheckConstraint(
                name="statement_is_of_a_demand_or_a_buyer",
                condition=Q(demand=None, party__isnull=False) | Q(demand__isnull=False, party=None),
            ),
            models.CheckConstraint(
                name="statement_of_a_buyer_says_what_hurts",
                condition=Q(party=None) | (~Q(pain="") & Q(quote_micros=None, curves={})),
            ),
            models.CheckConstraint(name="statement_segment_is_known", condition=Q(segment__in=SEGMENTS)),
            models.CheckConstraint(
                name="statement_spend_is_not_negative",
                condition=Q(present_usd_per_year=None) | Q(present_usd_per_year__gte=0),
            ),
            models.CheckConstraint(
                name="counterfactual_says_who_when_and_where_from",
                condition=Q(quote_micros=None)
                | (Q(quote_micros__gte=100) & ~Q(incumbent="") & ~Q(quote_source="") & ~Q(quoted_on=None)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.demand.reference if self.demand else self.buyer.slug} v{self.version}"

    @property
    def buyer(self) -> Party:
        """Whose words these are."""
        party = self.demand.party if self.demand else self.party
        assert party is not None, "the database keeps one of the two"
        return party

    @property
    def has_counterfactual(self) -> bool:
        return self.quote_micros is not None


class LeaseDifference(models.Model):
    """What one settled lease cost beside the counterfactual its buyer had named, for what was delivered of it."""

    lease = models.OneToOneField(Lease, primary_key=True, on_delete=models.PROTECT, related_name="difference")
    statement = models.ForeignKey(DemandStatement, on_delete=models.PROTECT, related_name="+")
    delivered_unit_minutes = models.BigIntegerField()
    paid_micros = models.BigIntegerField(help_text="before SLA credits: those repair harm and save nothing")
    quoted_micros = models.BigIntegerField(help_text="the same minutes at the counterfactual's price")
    saved_micros = models.BigIntegerField(help_text="quoted less paid; negative when it cost more")
    latency_ms = models.PositiveIntegerField(null=True, help_text="measured p95 from the demand's vantage")
    quoted_latency_ms = models.PositiveIntegerField(null=True)
    residency = models.JSONField(help_text="where it ran, under whose control, and the zones that were asked for")
    measured_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="difference_is_quoted_less_paid", condition=Q(saved_micros=F("quoted_micros") - F("paid_micros"))
            ),
            models.CheckConstraint(
                name="difference_is_of_something_delivered",
                condition=Q(delivered_unit_minutes__gte=1) & Q(paid_micros__gte=0) & Q(quoted_micros__gte=0),
            ),
        ]


class Comparison(models.Model):
    """A cost of ownership that a buyer kept: every input with its source, and the ranges they gave, a year."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="comparisons")
    name = models.CharField(max_length=60)
    curve = models.CharField(max_length=10)
    inputs = models.JSONField(help_text="now and planned: input -> low, base, high, source")
    counterfactual = models.CharField(max_length=300, default="", blank=True, help_text="whose bill or quote")
    now_low_micros = models.BigIntegerField()
    now_base_micros = models.BigIntegerField()
    now_high_micros = models.BigIntegerField()
    planned_low_micros = models.BigIntegerField()
    planned_base_micros = models.BigIntegerField()
    planned_high_micros = models.BigIntegerField()
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["-made_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="comparison_ranges_run_upward",
                condition=Q(now_low_micros__gte=0) & Q(now_low_micros__lte=F("now_base_micros"))
                & Q(now_base_micros__lte=F("now_high_micros"))
                & Q(planned_low_micros__gte=0) & Q(planned_low_micros__lte=F("planned_base_micros"))
                & Q(planned_base_micros__lte=F("planned_high_micros")),
            ),
        ]

    def __str__(self) -> str:
        return self.name
