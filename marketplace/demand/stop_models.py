"""What stops a buyer from new demand: an invoice in default, until it is paid."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.parties.models import Party


class DemandStop(models.Model):
    """No new demand of a buyer from `at` on, until somebody lifts it."""

    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="demand_stops")
    cause = models.CharField(max_length=60, help_text="the number of the invoice in default")
    at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(name="a_cause_stops_demand_once", fields=["cause"]),
            models.CheckConstraint(
                name="lifted_stop_says_by_whom",
                condition=Q(lifted_at=None, lifted_by="") | (~Q(lifted_at=None) & ~Q(lifted_by="")),
            ),
        ]
