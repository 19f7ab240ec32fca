"""Demands that are the legs of one order: spread over providers, parted by their data, or steps of a price curve."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.demand.models import Demand

LEG_ROLES = ("spread", "sensitive", "insensitive", "step")


class DemandLeg(models.Model):
    """One demand of an order that was split; append-only."""

    demand = models.OneToOneField(Demand, primary_key=True, on_delete=models.PROTECT, related_name="leg")
    order = models.UUIDField(db_index=True, help_text="the same for every leg")
    role = models.CharField(max_length=12, choices=[(r, r) for r in LEG_ROLES])
    no = models.PositiveSmallIntegerField()
    of = models.PositiveSmallIntegerField()
    fallback_venue = models.CharField(
        max_length=120, default="", blank=True, help_text="where an insensitive leg goes for what this market leaves"
    )

    class Meta:
        ordering = ["order", "no"]
        constraints = [
            models.CheckConstraint(name="leg_role_is_known", condition=Q(role__in=LEG_ROLES)),
            models.CheckConstraint(name="leg_is_one_of_its_order", condition=Q(no__gte=1) & Q(no__lte=F("of"))),
            models.UniqueConstraint(name="legs_of_an_order_are_numbered_once", fields=["order", "no"]),
            models.CheckConstraint(
                name="only_an_insensitive_leg_has_a_fallback", condition=Q(fallback_venue="") | Q(role="insensitive")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} leg {self.no} of {self.of}"
