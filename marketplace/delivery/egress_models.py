"""The egress meter: bytes that left the machines of a lease, hour by hour, as the machine signed them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.escrow.models import Lease


class EgressReading(models.Model):
    """One hour of one lease. Append-only."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="egress_readings")
    slot = models.IntegerField()
    egress_bytes = models.BigIntegerField()
    report = models.BinaryField(help_text="as signed: canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the machine key")
    taken_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "slot"]
        constraints = [
            models.UniqueConstraint(name="one_egress_reading_per_lease_and_slot", fields=["lease", "slot"]),
            models.CheckConstraint(name="egress_is_not_negative", condition=Q(egress_bytes__gte=0)),
        ]
