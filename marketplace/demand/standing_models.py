"""A demand that lasts longer than one window, and its entries into the windows it passes."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import Window
from marketplace.demand.models import FUNDING_KINDS, Demand
from marketplace.parties.models import Party, Seat

STANDING_STATES = ("active", "withdrawn", "ended")


class StandingDemand(models.Model):
    """Terms that enter each following window until the end or until they are withdrawn."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="standing_demands")
    reference = models.CharField(max_length=40)
    terms = models.JSONField(help_text="the terms of each entry, as `post_demand` takes them")
    price_limit_micros = models.BigIntegerField(help_text="micro-USD per unit-hour, what the buyer pays at most")
    renewal_cap_ppm = models.PositiveIntegerField(help_text="how far a renewal may rise above the last price paid")
    funding_kind = models.CharField(max_length=14, choices=[(k, k) for k in FUNDING_KINDS])
    funding_number = models.CharField(max_length=60, default="", blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    state = models.CharField(max_length=10, default="active", choices=[(s, s) for s in STANDING_STATES])
    made_at = models.DateTimeField()
    made_by = models.ForeignKey(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
                                help_text="counts as whoever posted its entries; null: nobody did")  # fmt: skip
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.UniqueConstraint(name="standing_demand_reference_is_used_once", fields=["party", "reference"]),
            models.CheckConstraint(name="standing_demand_state_is_known", condition=Q(state__in=STANDING_STATES)),
            models.CheckConstraint(name="standing_demand_lasts", condition=Q(ends_at__gt=F("starts_at"))),
            models.CheckConstraint(
                name="standing_demand_cap_is_a_share",
                condition=Q(renewal_cap_ppm__gte=0) & Q(renewal_cap_ppm__lte=10**6),
            ),
            models.CheckConstraint(
                name="closed_standing_demand_says_when",
                condition=Q(state="active", closed_at=None) | (~Q(state="active") & ~Q(closed_at=None)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} ({self.party.slug})"


class StandingEntry(models.Model):
    """One window that a standing demand entered, at which limit, and what the limit was capped by; append-only."""

    standing = models.ForeignKey(StandingDemand, on_delete=models.PROTECT, related_name="entries")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="standing_entries")
    demand = models.OneToOneField(Demand, on_delete=models.PROTECT, related_name="standing_entry")
    limit_micros = models.BigIntegerField(help_text="micro-USD per unit-hour of this entry")
    paid_micros = models.BigIntegerField(
        null=True, help_text="what the last lease of it cost per unit-hour, rounded down; null before the first"
    )
    cap_ppm = models.PositiveIntegerField()
    refusal = models.CharField(max_length=40, default="", blank=True, help_text="why it was not funded, if not")
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="standing_demand_enters_a_window_once", fields=["standing", "window"]),
            models.CheckConstraint(
                name="renewal_stays_under_its_cap",
                condition=Q(paid_micros=None)
                | Q(limit_micros__lte=F("paid_micros") + F("paid_micros") * F("cap_ppm") / 1_000_000),
            ),
        ]

    @property
    def cap_micros(self) -> int | None:
        """The most that this renewal may cost per unit-hour; None for the first entry."""
        return None if self.paid_micros is None else self.paid_micros + self.paid_micros * self.cap_ppm // 1_000_000
