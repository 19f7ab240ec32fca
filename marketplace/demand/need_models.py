"""What hurts a buyer today, and what it spends on it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.parties.models import Party


class Need(models.Model):
    """A buyer's pain and present spend in its own words and figures; a newer one is a new row. Append-only."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="needs")
    pain = models.CharField(max_length=1000)
    spend_micros = models.BigIntegerField(help_text="what it costs today in a month")
    supplier = models.CharField(max_length=120, blank=True, default="", help_text="who supplies it today")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.CheckConstraint(name="need_says_what_hurts", condition=~Q(pain="")),
            models.CheckConstraint(name="need_spend_is_not_negative", condition=Q(spend_micros__gte=0)),
        ]
