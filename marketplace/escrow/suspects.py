"""What looks like trade with oneself: kept beside the lease, so that its fee is never counted as organic revenue."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.escrow.models import Lease

KINDS = ("same_owner", "circular")


class SuspectFlow(models.Model):
    """One lease whose money may have come back to who paid it. Append-only: a suspicion is answered, not erased."""

    lease = models.OneToOneField(Lease, primary_key=True, on_delete=models.PROTECT, related_name="suspicion")
    kind = models.CharField(max_length=12, choices=[(k, k.replace("_", " ")) for k in KINDS])
    owners = models.JSONField(help_text="the ultimate owners that the money passed through, in order")
    came_round_micros = models.BigIntegerField(help_text="the least that passed between two of them")
    is_tagged_in_books = models.BooleanField(
        help_text="found before settlement: its transfers carry the tag; if not, the headline leaves its fee out"
    )
    found_at = models.DateTimeField()

    class Meta:
        ordering = ["-found_at", "lease"]
        constraints = [
            models.CheckConstraint(name="suspicion_is_of_a_known_kind", condition=Q(kind__in=KINDS)),
            models.CheckConstraint(name="suspicion_names_what_came_round", condition=Q(came_round_micros__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {' > '.join(self.owners)}"
