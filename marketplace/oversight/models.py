"""What was seen while leases ran: papers that ended under them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.escrow.models import Lease


class WindDown(models.Model):
    """A lease whose agreement or evidence ended while it ran: it is brought to an end and not renewed. It stays."""

    CAUSES = ("agreement", "tier", "legal_control", "egress")
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="wind_downs")
    cause = models.CharField(max_length=16, choices=[(c, c.replace("_", " ")) for c in CAUSES])
    sentence = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(name="a_lease_is_wound_down_once_per_cause", fields=["lease", "cause"]),
            models.CheckConstraint(name="wind_down_cause_is_known", condition=Q(
                cause__in=("agreement", "tier", "legal_control", "egress"))),
        ]  # fmt: skip
