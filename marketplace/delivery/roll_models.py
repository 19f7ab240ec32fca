"""What machines and verifiers say in a roll call: the machine's own answer, and what each verifier measured of it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party
from marketplace.supply.proof_models import RollMember


class RollReply(models.Model):
    """A machine's signed answer: so many of its class's machines are up and open for the verifiers; append-only."""

    member = models.OneToOneField(RollMember, on_delete=models.PROTECT, related_name="reply")
    machines = models.PositiveIntegerField()
    received_at = models.DateTimeField()
    body = models.BinaryField(help_text="the statement, canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the machine key")

    class Meta:
        ordering = ["member"]
        constraints = [models.CheckConstraint(name="roll_reply_has_machines", condition=Q(machines__gte=1))]


class RollReport(models.Model):
    """What one verifier measured of a called class inside the span, by its own clock; append-only."""

    member = models.ForeignKey(RollMember, on_delete=models.PROTECT, related_name="reports")
    verifier = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="roll_reports")
    measured_at = models.DateTimeField(help_text="when its chain began")
    ended_at = models.DateTimeField(null=True, help_text="when its last root came; null: before it was told")
    ops = models.BigIntegerField(help_text="operations per second")
    received_at = models.DateTimeField()
    body = models.BinaryField(help_text="the statement, canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the witness key")

    class Meta:
        ordering = ["member", "id"]
        constraints = [
            models.UniqueConstraint(name="one_roll_report_per_verifier", fields=["member", "verifier"]),
            models.CheckConstraint(name="roll_report_measured_something", condition=Q(ops__gte=0)),
            models.CheckConstraint(
                name="roll_report_ends_after_it_begins", condition=Q(ended_at__gte=F("measured_at")) | Q(ended_at=None)
            ),
        ]
