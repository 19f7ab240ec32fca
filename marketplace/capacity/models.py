"""What of a provider's capacity may be sold, and when: carve-outs, funding, calendars, devices, consortia."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.capacity.week_models import CalendarWeek
from marketplace.parties.models import Party, Seat

POLICIES = ("free", "cost_recovery", "forbidden")


class CarveOut(models.Model):
    """Units that are kept for the provider's own researchers in a span of time: never sold."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey("marketplace.NodeClass", on_delete=models.PROTECT, related_name="carve_outs")
    units = models.PositiveIntegerField()
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    purpose = models.CharField(max_length=120)
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["node_class", "from_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="carve_out_has_units_and_time", condition=Q(units__gte=1) & Q(until_at__gt=F("from_at"))
            )
        ]


class FundingSource(models.Model):
    """Whose money paid for capacity, and whether that may be sold to companies."""

    code = models.CharField(max_length=40, primary_key=True)
    name = models.CharField(max_length=120)
    policy = models.CharField(max_length=16, choices=[(p, p.replace("_", " ")) for p in POLICIES])
    source = models.CharField(max_length=200, help_text="the rule of the grant, as published")

    class Meta:
        ordering = ["code"]
        constraints = [models.CheckConstraint(name="funding_policy_is_known", condition=Q(policy__in=POLICIES))]

    def __str__(self) -> str:
        return self.name


class FundingTag(models.Model):
    """So many units of a node class were paid for by a source; under cost recovery with a floor and a ceiling."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey("marketplace.NodeClass", on_delete=models.PROTECT, related_name="funding_tags")
    source = models.ForeignKey(FundingSource, on_delete=models.PROTECT, related_name="tags")
    units = models.PositiveIntegerField()
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    floor_micros = models.BigIntegerField(null=True, blank=True, help_text="full cost, micro-USD per unit-hour")
    ceiling_micros = models.BigIntegerField(null=True, blank=True, help_text="the most that may be asked")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["node_class", "from_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="funding_tag_has_units_and_time", condition=Q(units__gte=1) & Q(until_at__gt=F("from_at"))
            ),
            models.CheckConstraint(
                name="funding_prices_run_upward",
                condition=Q(floor_micros=None, ceiling_micros=None)
                | (Q(floor_micros__gte=0) & Q(ceiling_micros__gte=F("floor_micros"))),
            ),
        ]


class CalendarRule(models.Model):
    """Hours of the week, in UTC, in which a node class is open or closed. With no open rule it is always open.

    `weekdays` has a bit per day from Monday; hours run from `from_hour` to just before `until_hour`. What only an
    interruptible rule opens is never given to firm demand.
    """

    KINDS = ("open", "closed")
    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey("marketplace.NodeClass", on_delete=models.PROTECT, related_name="calendar_rules")
    kind = models.CharField(max_length=8, choices=[(k, k) for k in KINDS])
    weekdays = models.PositiveSmallIntegerField(default=127)
    from_hour = models.PositiveSmallIntegerField(default=0)
    until_hour = models.PositiveSmallIntegerField(default=24)
    from_at = models.DateTimeField()
    until_at = models.DateTimeField()
    is_firm = models.BooleanField(default=True)
    units = models.PositiveIntegerField(null=True, blank=True, help_text="that an open rule opens; empty: all")
    week = models.ForeignKey(
        CalendarWeek, null=True, blank=True, on_delete=models.PROTECT, related_name="rules",
        help_text="the week it is part of; without it the rule stands alone",
    )  # fmt: skip
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["node_class", "from_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="calendar_units_are_of_open_hours", condition=Q(units=None) | Q(kind="open", units__gte=1)
            ),
            models.CheckConstraint(name="calendar_kind_is_known", condition=Q(kind__in=("open", "closed"))),
            models.CheckConstraint(
                name="calendar_hours_lie_in_a_week",
                condition=Q(weekdays__gte=1) & Q(weekdays__lte=127) & Q(from_hour__lt=F("until_hour"))
                & Q(until_hour__lte=24) & Q(until_at__gt=F("from_at")),
            ),
        ]  # fmt: skip


class Device(models.Model):
    """One piece of hardware by the hash of its own key; enrolled in one node class at a time."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey("marketplace.NodeClass", on_delete=models.PROTECT, related_name="devices")
    key_sha256 = models.BinaryField(max_length=32)
    label = models.CharField(max_length=80)
    enrolled_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["node_class", "label", "id"]
        constraints = [
            models.UniqueConstraint(
                name="a_device_is_enrolled_once", fields=["key_sha256"], condition=Q(retired_at=None)
            )
        ]


class SubSite(models.Model):
    """Which member of a consortium runs a site."""

    site = models.OneToOneField("marketplace.Site", on_delete=models.PROTECT, primary_key=True, related_name="sub_site")
    member = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="sub_sites")


class RevenueSplit(models.Model):
    """From when on a consortium shares its earnings in which parts; a later one replaces it, none is changed."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="revenue_splits")
    from_at = models.DateTimeField()
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["party", "from_at"]
        constraints = [models.UniqueConstraint(name="one_revenue_split_from_an_instant", fields=["party", "from_at"])]


class SplitShare(models.Model):
    """One member's part of a split, in parts per million; all parts of a split make a million."""

    split = models.ForeignKey(RevenueSplit, on_delete=models.PROTECT, related_name="shares")
    member = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="+")
    share_ppm = models.PositiveIntegerField()

    class Meta:
        ordering = ["split", "member"]
        constraints = [
            models.UniqueConstraint(name="a_member_has_one_share_of_a_split", fields=["split", "member"]),
            models.CheckConstraint(
                name="split_share_is_a_part", condition=Q(share_ppm__gte=1) & Q(share_ppm__lte=10**6)
            ),
        ]
