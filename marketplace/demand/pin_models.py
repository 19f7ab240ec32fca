"""Data that is pinned to where it is worked on."""

from __future__ import annotations

from django.db import models

from marketplace.demand.models import Demand
from marketplace.parties.models import Seat


class EgressPin(models.Model):
    """A demand's data may not leave the machines that it is leased: any byte out is a breach. It stays."""

    demand = models.OneToOneField(Demand, primary_key=True, on_delete=models.PROTECT, related_name="pin")
    seat = models.ForeignKey(Seat, null=True, on_delete=models.PROTECT, related_name="+", help_text="empty: by a key")
    at = models.DateTimeField()
