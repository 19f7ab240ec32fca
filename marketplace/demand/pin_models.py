"""Data that is pinned to where it is worked on: none of it, or no more than a limit, may leave."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.demand.models import Demand
from marketplace.parties.models import Seat


class EgressPin(models.Model):
    """A demand's data may not leave the machines that it is leased, beyond a limit an hour. It stays."""

    demand = models.OneToOneField(Demand, primary_key=True, on_delete=models.PROTECT, related_name="pin")
    seat = models.ForeignKey(Seat, null=True, on_delete=models.PROTECT, related_name="+", help_text="empty: by a key")
    limit_bytes = models.BigIntegerField(default=0, help_text="that may leave in an hour; 0: none")
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="egress_limit_is_not_negative", condition=Q(limit_bytes__gte=0))]
