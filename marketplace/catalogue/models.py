"""What can be traded and when: resource classes, zones, tiers, SLA presets, vantages, windows."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q

STATES = ("COLLECTING", "BIDDING", "CLEARING", "CLEARED", "DELIVERING", "SETTLED", "FAILED")


class ResourceClass(models.Model):
    """A kind of machine, assigned from a measured benchmark. Its unit is the unit-hour."""

    code = models.CharField(max_length=20, primary_key=True)
    name = models.CharField(max_length=80)
    ops_per_sec = models.BigIntegerField(help_text="reference row of the benchmark")
    mem_bytes = models.BigIntegerField()
    mem_bytes_per_sec = models.BigIntegerField()
    reference_price_micros = models.BigIntegerField(help_text="micro-USD per unit-hour, for stake only")

    class Meta:
        verbose_name_plural = "resource classes"
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code


class Zone(models.Model):
    """A set of jurisdictions with a dated member list."""

    code = models.CharField(max_length=12, primary_key=True)
    name = models.CharField(max_length=80)
    source = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.code


class ZoneMember(models.Model):
    """A country that belongs to a zone from one date until another."""

    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="members")
    country = models.CharField(max_length=2)
    valid_from = models.DateField()
    valid_until = models.DateField(null=True, blank=True)

    class Meta:
        ordering = ["zone", "country", "valid_from"]
        constraints = [
            models.UniqueConstraint(name="zone_member_starts_once", fields=["zone", "country", "valid_from"]),
            models.CheckConstraint(
                name="zone_member_ends_after_it_starts",
                condition=Q(valid_until=None) | Q(valid_until__gt=F("valid_from")),
            ),
        ]


class Tier(models.Model):
    """T0 public batch up to T3 restricted; its controls are rows of `compliance`."""

    level = models.PositiveSmallIntegerField(primary_key=True)
    name = models.CharField(max_length=80)

    class Meta:
        ordering = ["level"]
        constraints = [models.CheckConstraint(name="tier_is_zero_to_three", condition=Q(level__lte=3))]

    def __str__(self) -> str:
        return f"T{self.level}"


class SlaPreset(models.Model):
    """An availability promise in basis points, with its credit schedule."""

    code = models.CharField(max_length=20, primary_key=True)
    availability_bps = models.PositiveIntegerField()

    class Meta:
        ordering = ["availability_bps", "code"]
        constraints = [
            models.CheckConstraint(
                name="sla_is_a_share_below_one", condition=Q(availability_bps__gte=9000) & Q(availability_bps__lt=10000)
            )
        ]

    def __str__(self) -> str:
        return f"{self.availability_bps / 100:.2f} %"


def targets_are_known(name: str) -> models.CheckConstraint:
    """The rule that a column `sla_targets` holds lines of the closed menu of `pricing.targets`, and nothing else."""
    known = models.Func(F("sla_targets"), function="marketplace_targets_are_known", output_field=models.BooleanField())
    return models.CheckConstraint(name=name, condition=known)


def targets_agree(name: str) -> models.CheckConstraint:
    """The rule that the targets of a column `sla_targets` do not contradict one another over its row's hours."""
    agree = models.Func(F("sla_targets"), F("end_slot") - F("start_slot"), function="marketplace_targets_agree",
                        output_field=models.BooleanField())  # fmt: skip
    return models.CheckConstraint(name=name, condition=agree)


class Vantage(models.Model):
    """A verifier's probing site: latency is measured from here."""

    code = models.CharField(max_length=30, primary_key=True)
    city = models.CharField(max_length=80)
    country = models.CharField(max_length=2)
    lat = models.FloatField()
    lon = models.FloatField()

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return f"{self.city} ({self.country})"


class Window(models.Model):
    """The span of hourly slots that are cleared together."""

    KINDS = ("market", "bilateral")
    id = models.UUIDField(primary_key=True)
    number = models.PositiveIntegerField(unique=True, help_text="its number on chain")
    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=10, default="market", choices=[(k, k) for k in KINDS])
    state = models.CharField(max_length=12, default="COLLECTING", choices=[(s, s) for s in STATES])
    slots = models.PositiveIntegerField(default=168)
    starts_at = models.DateTimeField(help_text="start of slot 0")
    demand_closes_at = models.DateTimeField()
    no_cancel_from = models.DateTimeField()
    bidding_closes_at = models.DateTimeField()
    gate_unit_hours = models.BigIntegerField(help_text="funded demand that opens bidding")
    gate_parties = models.PositiveIntegerField(default=3, help_text="distinct funded buyers that open bidding")
    cover_ppm = models.PositiveBigIntegerField(
        default=2_000_000, help_text="capacity let in for each funded unit-hour of this window, in parts per million"
    )
    concentration_ppm = models.PositiveIntegerField(
        null=True, blank=True, default=300_000,
        help_text="the most of what trades in a product that one parent may sell, in parts per million",
    )
    foundation_budget_micros = models.BigIntegerField(
        null=True, blank=True, help_text="the most that the Foundation's own demand may cost at its limits"
    )
    pseudonym_salt = models.BinaryField(max_length=32)
    opened_at = models.DateTimeField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.CheckConstraint(name="window_state_is_known", condition=Q(state__in=STATES)),
            models.CheckConstraint(name="window_has_1_to_744_slots", condition=Q(slots__gte=1) & Q(slots__lte=744)),
            models.CheckConstraint(
                name="window_times_follow_each_other",
                condition=Q(demand_closes_at__lte=F("no_cancel_from"))
                & Q(no_cancel_from__lte=F("bidding_closes_at"))
                & Q(bidding_closes_at__lte=F("starts_at")),
            ),
            models.CheckConstraint(
                name="window_gate_asks_for_something", condition=Q(gate_unit_hours__gte=1) & Q(gate_parties__gte=1)
            ),
            models.CheckConstraint(
                name="window_cover_is_a_ratio", condition=Q(cover_ppm__gte=1) & Q(cover_ppm__lte=10**9)
            ),
            models.CheckConstraint(
                name="window_cap_is_a_share",
                condition=Q(concentration_ppm=None) | (Q(concentration_ppm__gte=1) & Q(concentration_ppm__lte=10**6)),
            ),
            models.CheckConstraint(
                name="window_budget_is_not_negative",
                condition=Q(foundation_budget_micros=None) | Q(foundation_budget_micros__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def ends_at(self) -> datetime:
        return self.slot_at(self.slots)

    def slot_at(self, slot: int) -> datetime:
        """When hourly `slot` starts."""
        return self.starts_at + timedelta(hours=slot)


class WindowTransition(models.Model):
    """One step of a window from state to state, with its reason; append-only."""

    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="transitions")
    from_state = models.CharField(max_length=12)
    to_state = models.CharField(max_length=12)
    reason = models.CharField(max_length=300)
    facts = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="window_enters_a_state_once", fields=["window", "to_state"]),
            models.CheckConstraint(name="window_transition_has_a_reason", condition=~Q(reason="")),
        ]
