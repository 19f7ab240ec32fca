"""Audit trail and effect flags: below every stage, so that each stage can leave its mark here."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class AuditLine(models.Model):
    """Who did what, when and why; append-only and hash-chained, so one altered line is found."""

    no = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=120)
    action = models.CharField(max_length=60)
    subject = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    facts = models.JSONField(default=dict)
    prev_hash = models.BinaryField(max_length=32)
    hash = models.BinaryField(max_length=32)

    class Meta:
        indexes = [models.Index(fields=["subject", "no"], name="audit_by_subject")]
        constraints = [
            models.CheckConstraint(name="audit_line_names_actor_and_reason", condition=~Q(actor="") & ~Q(reason="")),
            models.CheckConstraint(name="audit_numbers_start_at_one", condition=Q(no__gte=1)),
        ]


class Flag(models.Model):
    """An effect that a phase switches on, such as admitting prosumers."""

    name = models.CharField(max_length=40, primary_key=True)
    is_on = models.BooleanField(default=False)
    opens_in_phase = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=300, default="")


class MarketClock(models.Model):
    """How far market time runs ahead of the wall clock; one row, forward only, for demos and tests."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    offset_seconds = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(name="there_is_one_market_clock", condition=Q(id=1)),
            models.CheckConstraint(name="market_time_never_runs_behind", condition=Q(offset_seconds__gte=0)),
        ]
