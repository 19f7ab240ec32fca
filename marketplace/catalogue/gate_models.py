"""What opens a window beside its unit-hours and parties, and windows between two."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import ResourceClass, Window
from marketplace.parties.models import Party


class GateRule(models.Model):
    """So much money has to be committed to one resource class before the window takes bids."""

    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="gate_rules")
    resource_class = models.ForeignKey(ResourceClass, on_delete=models.PROTECT, related_name="+")
    notional_micros = models.BigIntegerField(help_text="funded demand at its limits")

    class Meta:
        ordering = ["window", "resource_class"]
        constraints = [
            models.UniqueConstraint(name="one_gate_rule_per_class", fields=["window", "resource_class"]),
            models.CheckConstraint(name="gate_rule_asks_for_something", condition=Q(notional_micros__gte=1)),
        ]


class Pair(models.Model):
    """The one buyer and the one provider of a bilateral window; append-only."""

    window = models.OneToOneField(Window, on_delete=models.PROTECT, primary_key=True, related_name="pair")
    buyer = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="+")
    provider = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.CheckConstraint(name="a_pair_is_of_two", condition=~Q(buyer=F("provider")))]
