"""What a provider changed about a site or a node class after it was registered: before, after, and what that voided."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.parties.models import Seat
from marketplace.supply.models import NodeClass, Site

CAUSES = ("provider", "measured", "undo")  # "measured": the verifiers listed a class as what it measures
VOIDS = ("evidence", "legal_control", "round_trips", "proof")


class SupplyChange(models.Model):
    """One change of one site or one node class; append-only. The database lets neither change without its line."""

    id = models.UUIDField(primary_key=True)
    site = models.ForeignKey(Site, null=True, on_delete=models.PROTECT, related_name="changes")
    node_class = models.ForeignKey(NodeClass, null=True, on_delete=models.PROTECT, related_name="changes")
    no = models.PositiveIntegerField(help_text="of the thing's changes, from 1")
    before = models.JSONField(help_text="each changed column as it was")
    after = models.JSONField(help_text="the same columns as they are from now on")
    voids = models.JSONField(default=list, help_text="what no longer counts from now on")
    kept = models.JSONField(default=dict, help_text="what an undo needs beside the columns")
    cause = models.CharField(max_length=10, default="provider", choices=[(each, each) for each in CAUSES])
    undoes = models.OneToOneField("self", null=True, on_delete=models.PROTECT, related_name="undone_by")
    actor = models.CharField(max_length=120)
    seat = models.ForeignKey(Seat, null=True, on_delete=models.PROTECT, related_name="+", help_text="empty: by a key")
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-no", "-id"]
        constraints = [
            models.UniqueConstraint(name="changes_of_a_site_are_numbered_once", fields=["site", "no"]),
            models.UniqueConstraint(name="changes_of_a_node_class_are_numbered_once", fields=["node_class", "no"]),
            models.CheckConstraint(
                name="supply_change_is_of_one_thing",
                condition=Q(site__isnull=True, node_class__isnull=False)
                | Q(site__isnull=False, node_class__isnull=True),
            ),
            models.CheckConstraint(name="supply_change_says_who_and_why", condition=~Q(actor="") & ~Q(reason="")),
            models.CheckConstraint(name="supply_change_changes_something", condition=~Q(before=models.F("after"))),
            models.CheckConstraint(
                name="supply_change_cause_is_known",
                condition=Q(cause__in=("provider", "measured"), undoes=None) | Q(cause="undo", undoes__isnull=False),
            ),
        ]

    @property
    def fields(self) -> list[tuple[str, object, object]]:
        """Each changed column with its value before and after, for a page."""
        return [(name, self.before.get(name), value) for name, value in self.after.items()]


def next_no(thing: Site | NodeClass) -> int:
    """The number of a thing's next change; its row is locked."""
    last = thing.changes.order_by("-no").first()
    return last.no + 1 if last else 1
