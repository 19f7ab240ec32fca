"""A proposed week that became a calendar in one act, and may be taken back in one."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Seat


class CalendarWeek(models.Model):
    """What a scheduler's export proposed, as adopted for one node class; its rules hold until it is undone."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey("marketplace.NodeClass", on_delete=models.PROTECT, related_name="calendar_weeks")
    source = models.CharField(max_length=120, help_text="the format and resource it was proposed from")
    spans = models.JSONField(help_text="start hour, end hour from Monday 00:00 UTC, units")
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.CheckConstraint(name="calendar_week_has_time", condition=Q(until_at__gt=F("from_at"))),
            models.UniqueConstraint(
                name="one_calendar_week_of_a_class", fields=["node_class"], condition=Q(undone_at=None)
            ),
        ]

    @property
    def unit_hours(self) -> int:
        """Unit-hours of one week."""
        return sum((end - start) * units for start, end, units in self.spans)
