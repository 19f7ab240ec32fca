"""Rows that market data is told beside: what others ask, with source and date, and what is set aside."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import ResourceClass


class ComparatorQuote(models.Model):
    """One published price of somebody else for one resource class, micro-USD per unit-hour. Append-only."""

    resource_class = models.ForeignKey(ResourceClass, on_delete=models.PROTECT, related_name="comparator_quotes")
    provider = models.CharField(max_length=80)
    place = models.CharField(max_length=80, help_text="region or edge zone, as its provider names it")
    country = models.CharField(max_length=2)
    is_edge = models.BooleanField(help_text="an edge zone of a cloud")
    price_micros = models.BigIntegerField()
    source = models.CharField(max_length=300, help_text="where it is published")
    quoted_on = models.DateField(help_text="the day on which the source said so")
    entered_on = models.DateField()
    person = models.CharField(max_length=120)

    class Meta:
        ordering = ["resource_class", "price_micros", "id"]
        constraints = [
            models.CheckConstraint(
                name="comparator_quote_has_its_source", condition=~Q(source="") & ~Q(provider="") & ~Q(person="")
            ),
            models.CheckConstraint(
                name="comparator_quote_lies_behind_us", condition=Q(quoted_on__lte=F("entered_on"))
            ),
            models.CheckConstraint(
                name="comparator_quote_is_a_price",
                condition=Q(price_micros__gte=1) & Q(country__regex=r"^[A-Z]{2}$"),
            ),
            models.UniqueConstraint(
                name="comparator_quote_is_entered_once",
                fields=["resource_class", "provider", "place", "quoted_on", "price_micros"],
            ),
        ]


class SetAsideRule(models.Model):
    """Which share of awarded unit-hours is meant for research. The newest row holds. Append-only."""

    share_ppm = models.PositiveIntegerField()
    person = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="set_aside_is_a_share", condition=Q(share_ppm__lte=10**6)),
            models.CheckConstraint(name="set_aside_says_who_and_why", condition=~Q(person="") & ~Q(reason="")),
        ]
