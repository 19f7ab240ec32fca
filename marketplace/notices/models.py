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


class Notice(models.Model):
    """One thing a party is told, in one sentence; written once, with the change it tells of."""

    party = models.ForeignKey("marketplace.Party", on_delete=models.PROTECT, related_name="notices")
    about = models.CharField(max_length=120, help_text="what it is about, such as a window and an event")
    code = models.CharField(max_length=40)
    sentence = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(name="a_party_is_told_once", fields=["party", "about"]),
            models.CheckConstraint(name="notice_says_something", condition=~Q(sentence="") & ~Q(code="")),
        ]
