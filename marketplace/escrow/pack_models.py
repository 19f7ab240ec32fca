"""The documentation pack of a lease, version by version."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.escrow.models import Lease


class LeasePack(models.Model):
    """One version of what is documented of a lease, as canonical JSON; its hash stands on the audit trail. Stays."""

    STAGES = ("start", "end")
    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="packs")
    version = models.PositiveSmallIntegerField()
    stage = models.CharField(max_length=5, choices=[(s, s) for s in STAGES])
    body = models.BinaryField(help_text="canonical JSON")
    sha256 = models.BinaryField(max_length=32)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "version"]
        constraints = [
            models.UniqueConstraint(name="pack_is_numbered_once", fields=["lease", "version"]),
            models.CheckConstraint(
                name="pack_of_the_start_is_the_first",
                condition=Q(version=1, stage="start") | Q(version__gte=2, stage="end"),
            ),
        ]
