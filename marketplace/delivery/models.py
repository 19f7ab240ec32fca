"""Delivery: one row per lease and slot, made of signed readings and independent probes."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.escrow.models import Lease
from marketplace.supply.models import NodeClass


class ReportChain(models.Model):
    """How far a node class's chain of signed reports has been taken; a gap or a repeat is refused."""

    node_class = models.OneToOneField(NodeClass, on_delete=models.PROTECT, primary_key=True, related_name="reports")
    sequence = models.BigIntegerField(default=0)
    head = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [models.CheckConstraint(name="report_sequence_counts_up", condition=Q(sequence__gte=0))]


class Reading(models.Model):
    """Sixty minutes of one lease as provider and probes saw them. Bit m of a word is minute m of the slot."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="readings")
    slot = models.IntegerField()
    units = models.BigIntegerField()
    amount_micros = models.BigIntegerField(help_text="fee of this slot when fully delivered")
    provider_up = models.BigIntegerField(help_text="minutes the provider's signed reading calls up")
    probe_valid = models.JSONField(help_text="one word per verifier: minutes with a valid report")
    probe_failed = models.JSONField(help_text="one word per verifier: minutes whose report failed")
    buyer_up = models.BigIntegerField(null=True, blank=True, help_text="minutes the buyer's counter-reading calls up")
    causes = models.JSONField(default=dict, help_text="cause: word of bad minutes; empty when all are the provider's")
    echo_ms = models.JSONField(
        default=list, help_text="median echo time of each minute, null where nobody knows; empty where none is known"
    )
    minutes_down = models.PositiveSmallIntegerField(help_text="by the provider's doing")
    minutes_unknown = models.PositiveSmallIntegerField()
    minutes_billable = models.PositiveSmallIntegerField()
    earned_micros = models.BigIntegerField()
    statements_hash = models.BinaryField(
        max_length=32, null=True, blank=True, help_text="SHA-256 over every statement about this slot; live leases only"
    )
    above_ceiling_micros = models.BigIntegerField(
        default=0, help_text="of its minutes at the clearing price, what funding under cost recovery forbids to earn"
    )
    report = models.BinaryField(help_text="the machine's slot report, canonical JSON; empty when it was silent")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the machine key")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="one_reading_per_lease_and_slot", fields=["lease", "slot"]),
            models.CheckConstraint(
                name="reading_minutes_fit_the_hour",
                condition=Q(minutes_billable__lte=60 - F("minutes_down"))
                & Q(minutes_unknown__lte=60 - F("minutes_down")),
            ),
            models.CheckConstraint(
                name="reading_earns_at_most_its_fee",
                condition=Q(earned_micros__gte=0, above_ceiling_micros__gte=0)
                & Q(earned_micros__lte=F("amount_micros") - F("above_ceiling_micros")),
            ),
        ]
