"""What people are told while the product works."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q


class Progress(models.Model):
    """How far one long job has come; pages poll it, `up` prints it."""

    job = models.CharField(max_length=80, primary_key=True)
    phase = models.CharField(max_length=80)
    done = models.IntegerField(default=0)
    total = models.IntegerField(default=0)
    sentence = models.CharField(max_length=300, default="")
    outcome = models.CharField(
        max_length=10, default="running", choices=[(s, s) for s in ("running", "done", "failed")]
    )
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "progress"
        constraints = [
            models.CheckConstraint(
                name="progress_stays_within_its_total", condition=Q(done__gte=0) & Q(done__lte=F("total"))
            )
        ]
