"""SLA: one verdict per lease period, and the credit that follows without a claim."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.escrow.models import Lease


class Verdict(models.Model):
    """What the exact test said about one lease period, with the figures to repeat it."""

    id = models.UUIDField(primary_key=True)
    lease = models.OneToOneField(Lease, on_delete=models.PROTECT, related_name="verdict")
    known_minutes = models.PositiveIntegerField()
    down_minutes = models.PositiveIntegerField()
    unknown_minutes = models.PositiveIntegerField()
    threshold_minutes = models.PositiveIntegerField(help_text="a breach needs more down minutes than this")
    availability_ppm = models.PositiveIntegerField()
    is_below_sla = models.BooleanField()
    is_breach = models.BooleanField()
    earned_micros = models.BigIntegerField(help_text="fee of the minutes delivered")
    unpaid_micros = models.BigIntegerField(help_text="the rest of the fee; it goes back to the buyer")
    above_ceiling_micros = models.BigIntegerField(
        default=0, help_text="of what is unpaid: delivered, but above the ceiling of cost recovery"
    )
    rule_version = models.CharField(max_length=20)
    evidence_hash = models.BinaryField(max_length=32)
    breach_at = models.DateTimeField(null=True, blank=True)
    judged_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="breach_has_its_instant", condition=Q(is_breach=False) | ~Q(breach_at=None)),
            models.CheckConstraint(
                name="verdict_money_is_not_negative", condition=Q(earned_micros__gte=0) & Q(unpaid_micros__gte=0)
            ),
            models.CheckConstraint(
                name="verdict_returns_what_lies_above_the_ceiling",
                condition=Q(above_ceiling_micros__gte=0) & Q(above_ceiling_micros__lte=F("unpaid_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"{'breach' if self.is_breach else 'verdict'} on {self.lease}"


class EarlyCredit(models.Model):
    """A step of a running lease's credit that is certain before the lease ends, and therefore posted at once."""

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="early_credits")
    period = models.PositiveSmallIntegerField(default=0, help_text="a lease of at most 30 days has one, number 0")
    step_bps = models.PositiveIntegerField(help_text="of the period's fee, this step and those below it together")
    amount_micros = models.BigIntegerField(help_text="what this step adds to the steps before it")
    down_minutes = models.PositiveIntegerField(help_text="so far, by the provider's doing")
    evidence_hash = models.BinaryField(max_length=32)
    broken_at = models.DateTimeField(help_text="end of the slot in which the step became certain")
    made_at = models.DateTimeField()
    intent_key = models.CharField(max_length=120, default="", help_text="the settle call that carries it")
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["lease", "step_bps"]
        constraints = [
            models.UniqueConstraint(name="a_step_is_credited_once", fields=["lease", "period", "step_bps"]),
            models.CheckConstraint(name="early_credit_is_positive", condition=Q(amount_micros__gte=1)),
            models.CheckConstraint(
                name="early_credit_is_of_a_known_step", condition=Q(step_bps__in=(1000, 2500, 10_000))
            ),
            models.CheckConstraint(
                name="posted_credit_has_its_call", condition=Q(posted_at=None) | ~Q(intent_key="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.step_bps / 100:g} % of {self.lease} at once"


class Credit(models.Model):
    """Money returned for a broken SLA. Nobody has to claim it."""

    SOURCES = ("escrow", "holdback")
    id = models.UUIDField(primary_key=True)
    verdict = models.OneToOneField(Verdict, on_delete=models.PROTECT, related_name="credit")
    step_bps = models.PositiveIntegerField()
    amount_micros = models.BigIntegerField()
    source = models.CharField(max_length=10, choices=[(s, s) for s in SOURCES])
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="credit_is_positive", condition=Q(amount_micros__gte=1)),
            models.CheckConstraint(name="credit_source_is_known", condition=Q(source__in=("escrow", "holdback"))),
        ]

    def __str__(self) -> str:
        return f"credit of {self.step_bps / 100:g} % on {self.verdict.lease}"
