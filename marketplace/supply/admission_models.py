"""Who was let in to offer how much of a product in a month, and who waits."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.supply.models import NodeClass

ADMISSION_STATES = ("WAITLIST", "ADMITTED", "WITHDRAWN", "LAPSED")


class Admission(models.Model):
    """A request to offer unit-hours of one node class in one delivery month: waiting until funded demand covers it."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="admissions")
    month = models.DateField(help_text="first day of the delivery month, UTC")
    zone = models.CharField(max_length=12, help_text="the smallest zone around the site, or its country")
    unit_hours = models.BigIntegerField()
    state = models.CharField(max_length=10, default="WAITLIST", choices=[(s, s) for s in ADMISSION_STATES])
    asked_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["asked_at", "id"]
        indexes = [models.Index(fields=["month", "state"], name="admission_by_month")]
        constraints = [
            models.UniqueConstraint(
                name="a_class_waits_once_a_month", fields=["node_class", "month"], condition=Q(state="WAITLIST")
            ),
            models.CheckConstraint(name="admission_state_is_known", condition=Q(state__in=ADMISSION_STATES)),
            models.CheckConstraint(name="admission_has_unit_hours", condition=Q(unit_hours__gte=1)),
            models.CheckConstraint(name="admission_month_begins_on_its_first", condition=Q(month__day=1)),
            models.CheckConstraint(
                name="decided_admission_says_when",
                condition=Q(state="WAITLIST", decided_at=None) | (~Q(state="WAITLIST") & ~Q(decided_at=None)),
            ),
        ]
