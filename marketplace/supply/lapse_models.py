"""Quota that nobody uses: after how many windows it lapses, who was warned, and what lapsed."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.supply.admission_models import Admission


class LapseRule(models.Model):
    """After how many windows in a row without a bid admitted capacity goes to whoever waits. The newest row holds."""

    windows = models.PositiveSmallIntegerField(help_text="with funded demand for the class, and no bid of it")
    person = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(name="lapse_rule_leaves_time_for_a_notice", condition=Q(windows__gte=2)),
            models.CheckConstraint(name="lapse_rule_says_who_and_why", condition=~Q(person="") & ~Q(reason="")),
        ]

    def __str__(self) -> str:
        return f"{self.windows} windows"


class LapseNotice(models.Model):
    """A provider was told that its quota lapses unless it bids. Append-only."""

    admission = models.ForeignKey(Admission, on_delete=models.PROTECT, related_name="lapse_notices")
    missed = models.PositiveSmallIntegerField(help_text="windows without a bid so far")
    at = models.DateTimeField()

    class Meta:
        ordering = ["admission", "at", "id"]
        constraints = [models.CheckConstraint(name="lapse_notice_follows_a_missed_window", condition=Q(missed__gte=1))]


class Lapse(models.Model):
    """So much of an admission has lapsed; what its earlier bids stand on is left. Append-only."""

    admission = models.ForeignKey(Admission, on_delete=models.PROTECT, related_name="lapses")
    notice = models.ForeignKey(LapseNotice, on_delete=models.PROTECT, related_name="lapses")
    unit_hours_before = models.BigIntegerField()
    unit_hours_after = models.BigIntegerField()
    windows = models.JSONField(help_text="the windows without a bid, by name")
    at = models.DateTimeField()

    class Meta:
        ordering = ["admission", "at", "id"]
        constraints = [
            models.CheckConstraint(
                name="lapse_takes_something_away",
                condition=Q(unit_hours_after__gte=0) & Q(unit_hours_after__lt=F("unit_hours_before")),
            )
        ]
