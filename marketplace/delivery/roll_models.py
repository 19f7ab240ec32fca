"""What machines and verifiers say in a roll call: each machine's own answer, and what each verifier measured of it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party
from marketplace.supply.key_models import UnitProver
from marketplace.supply.proof_models import RollMember


class RollReply(models.Model):
    """One machine's signed answer: it is up, and open for the verifiers; append-only."""

    member = models.ForeignKey(RollMember, on_delete=models.PROTECT, related_name="replies")
    prover = models.ForeignKey(
        UnitProver, null=True, on_delete=models.PROTECT, related_name="roll_replies",
        help_text="null: the machine that meters",
    )
    received_at = models.DateTimeField()
    body = models.BinaryField(help_text="the statement, canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the machine key")

    class Meta:
        ordering = ["member", "id"]
        constraints = [
            models.UniqueConstraint(
                name="a_machine_replies_once_to_a_roll", fields=["member", "prover"], nulls_distinct=False
            )
        ]


class RollReport(models.Model):
    """What one verifier measured of a called machine inside the span, by its own clock; append-only."""

    member = models.ForeignKey(RollMember, on_delete=models.PROTECT, related_name="reports")
    prover = models.ForeignKey(
        UnitProver, null=True, on_delete=models.PROTECT, related_name="roll_reports",
        help_text="null: the machine that meters",
    )
    verifier = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="roll_reports")
    measured_at = models.DateTimeField(help_text="when its chain began")
    ended_at = models.DateTimeField(null=True, help_text="when its last root came; null: before it was told")
    ops = models.BigIntegerField(help_text="operations per second")
    instant = models.PositiveSmallIntegerField(
        null=True, help_text="of the roll, at which this verifier was to measure; null: before all were of one instant"
    )
    received_at = models.DateTimeField()
    body = models.BinaryField(help_text="the statement, canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the witness key")

    class Meta:
        ordering = ["member", "id"]
        constraints = [
            models.UniqueConstraint(
                name="one_roll_report_per_verifier", fields=["member", "prover", "verifier"], nulls_distinct=False
            ),
            models.CheckConstraint(name="roll_report_measured_something", condition=Q(ops__gte=0)),
            models.CheckConstraint(
                name="roll_report_ends_after_it_begins", condition=Q(ended_at__gte=F("measured_at")) | Q(ended_at=None)
            ),
        ]
