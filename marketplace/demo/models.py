"""Where the story of a demo world stands, so that it resumes after any crash."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class DemoRun(models.Model):
    """The one demo story of a database: its seed, its first hour and what it has counted so far."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seed = models.IntegerField()
    began_at = models.DateTimeField()
    steps_done = models.IntegerField(default=0)
    facts = models.JSONField(default=dict)

    class Meta:
        constraints = [models.CheckConstraint(name="there_is_one_demo_story", condition=Q(id=1))]
