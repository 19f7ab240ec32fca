"""What lets a buyer commit before it has paid: an approved purchase order, or credits of a grant."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party

LINE_KINDS = ("purchase_order", "grant")
LINE_STATES = ("PENDING", "APPROVED", "REFUSED")


class FundingLine(models.Model):
    """Money that the Foundation brings into escrow for a buyer, up to a limit that another person approved."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="funding_lines")
    kind = models.CharField(max_length=14, choices=[(k, k) for k in LINE_KINDS])
    number = models.CharField(max_length=60, help_text="the number on the order or of the grant")
    limit_micros = models.BigIntegerField()
    valid_until = models.DateTimeField()
    state = models.CharField(max_length=10, default="PENDING", choices=[(s, s) for s in LINE_STATES])
    asked_by = models.CharField(max_length=120, help_text="the person that asked")
    decided_by = models.CharField(max_length=120, default="", blank=True, help_text="another person, that decided")
    reason = models.CharField(max_length=300, default="", blank=True)
    asked_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.UniqueConstraint(name="funding_line_is_asked_for_once", fields=["party", "kind", "number"]),
            models.CheckConstraint(name="funding_line_kind_is_known", condition=Q(kind__in=LINE_KINDS)),
            models.CheckConstraint(name="funding_line_state_is_known", condition=Q(state__in=LINE_STATES)),
            models.CheckConstraint(name="funding_line_has_a_limit", condition=Q(limit_micros__gte=1)),
            models.CheckConstraint(
                name="funding_line_is_decided_by_another",
                condition=Q(state="PENDING", decided_by="", decided_at=None)
                | (~Q(state="PENDING") & ~Q(decided_by="") & ~Q(decided_by=F("asked_by")) & ~Q(decided_at=None)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.number}"
