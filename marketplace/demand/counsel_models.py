"""Counsel's sign-off: which of a buyer's demands need it, and what counsel said."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.compliance.models import DataClass
from marketplace.demand.models import Demand
from marketplace.parties.models import Party, Seat


class CounselRule(models.Model):
    """A buyer's demands of one data class, or all of them, are awarded only after counsel has signed them off."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="counsel_rules")
    data_class = models.ForeignKey(DataClass, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    from_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["party", "from_at", "id"]
        constraints = [
            models.UniqueConstraint(
                name="one_counsel_rule_in_force_per_data_class", fields=["party", "data_class"],
                condition=Q(ended_at=None), nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="counsel_rule_ends_after_it_begins", condition=Q(ended_at=None) | Q(ended_at__gte=F("from_at"))
            ),
        ]  # fmt: skip


class CounselSignOff(models.Model):
    """Counsel's word on one demand, with the hash of its written opinion if there is any. It stays."""

    demand = models.OneToOneField(Demand, primary_key=True, on_delete=models.PROTECT, related_name="counsel")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    is_approved = models.BooleanField()
    reason = models.CharField(max_length=300)
    opinion_sha256 = models.BinaryField(max_length=32, null=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="counsel_says_why", condition=~Q(reason=""))]
