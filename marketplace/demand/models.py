"""Demand: what buyers need, under which rules, and whether it is funded."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import SlaPreset, Vantage, Window, Zone, targets_agree, targets_are_known
from marketplace.compliance.models import DataClass
from marketplace.demand.funding_models import FundingLine
from marketplace.parties.models import Party, Seat
from marketplace.spending.models import Budget, Pilot

KINDS = ("divisible", "window", "block")
# What stands behind a demand; none: it is interest, and counts nowhere.
FUNDING_KINDS = ("escrow", "card", "purchase_order", "grant")
STATES = ("pending", "posted", "funded", "refused", "withdrawn", "unfunded", "awarded", "lost", "released")


class Demand(models.Model):
    """One order of one buyer in one window."""

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="demands")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="demands")
    reference = models.CharField(max_length=60, help_text="the buyer's own name for it")
    kind = models.CharField(max_length=10, choices=[(k, k) for k in KINDS])
    accepted_classes = ArrayField(models.CharField(max_length=20))
    quantity_units = models.BigIntegerField()
    start_slot = models.IntegerField()
    end_slot = models.IntegerField()
    price_limit_micros = models.BigIntegerField()
    minimum_units = models.BigIntegerField(default=0, help_text="of a window: at least so many units, or none")
    is_one_site = models.BooleanField(default=False, help_text="all units in one site")
    choice = models.CharField(
        max_length=60, default="", blank=True, help_text="the buyer's own name for alternatives: at most one wins"
    )
    zone = models.ForeignKey(Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    control_zone = models.ForeignKey(Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    tier_min = models.PositiveSmallIntegerField(default=0)
    vantage = models.ForeignKey(Vantage, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    latency_ms_max = models.PositiveIntegerField(null=True, blank=True)
    data_class = models.ForeignKey(
        DataClass, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="what the work touches"
    )
    purpose = models.CharField(max_length=40, default="", blank=True, help_text="what data under an agreement is for")
    required_controls = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    accepts_interruptible = models.BooleanField(default=False, help_text="capacity that may be taken back will do")
    posted_by = models.ForeignKey(
        Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="of a program: who issued its key; none: nobody did",
    )
    budget = models.ForeignKey(Budget, null=True, blank=True, on_delete=models.PROTECT, related_name="demands")
    pilot = models.ForeignKey(Pilot, null=True, blank=True, on_delete=models.PROTECT, related_name="demands")
    converted_from = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="converted_to"
    )
    sla = models.ForeignKey(SlaPreset, on_delete=models.PROTECT, related_name="+")
    sla_targets = models.JSONField(
        default=dict, blank=True, help_text="what must be promised beside availability: target and bound"
    )
    state = models.CharField(max_length=10, default="posted", choices=[(s, s) for s in STATES])
    accepted_rank = models.BigIntegerField()
    funding_kind = models.CharField(
        max_length=14, default="", blank=True, choices=[(k, k.replace("_", " ")) for k in FUNDING_KINDS],
        help_text="what stands behind it; empty while it is interest",
    )
    funding_line = models.ForeignKey(
        FundingLine, null=True, blank=True, on_delete=models.PROTECT, related_name="demands",
        help_text="the order or grant behind it; an order may be named before it funds",
    )  # fmt: skip
    hold_id = models.UUIDField(null=True, blank=True)
    posted_at = models.DateTimeField()
    funded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["window", "accepted_rank"]
        constraints = [
            models.UniqueConstraint(name="demand_reference_is_used_once", fields=["party", "reference"]),
            models.UniqueConstraint(name="demand_rank_is_unique_in_window", fields=["window", "accepted_rank"]),
            models.CheckConstraint(name="demand_kind_is_known", condition=Q(kind__in=KINDS)),
            models.CheckConstraint(name="demand_state_is_known", condition=Q(state__in=STATES)),
            models.CheckConstraint(
                name="demand_quantity_is_1_to_2_20", condition=Q(quantity_units__gte=1) & Q(quantity_units__lte=2**20)
            ),
            models.CheckConstraint(
                name="demand_limit_is_a_price",
                condition=Q(price_limit_micros__gte=100) & Q(price_limit_micros__lte=10**9),
            ),
            models.CheckConstraint(
                name="demand_limit_lies_on_the_tick",
                condition=Q(price_limit_micros=F("price_limit_micros") / 100 * 100),
            ),
            models.CheckConstraint(
                name="demand_slots_run_forward", condition=Q(start_slot__gte=0) & Q(start_slot__lt=F("end_slot"))
            ),
            models.CheckConstraint(
                name="demand_minimum_is_within_its_quantity",
                condition=Q(minimum_units__gte=0) & Q(minimum_units__lte=F("quantity_units")),
            ),
            models.CheckConstraint(
                name="divisible_demand_takes_any_part",
                condition=~Q(kind="divisible") | Q(minimum_units=0, is_one_site=False, choice=""),
            ),
            models.CheckConstraint(
                name="block_demand_has_no_other_minimum", condition=~Q(kind="block") | Q(minimum_units=0)
            ),
            models.CheckConstraint(
                name="demand_latency_needs_a_vantage", condition=Q(latency_ms_max=None) | ~Q(vantage=None)
            ),
            targets_are_known("demand_targets_are_on_the_menu"),
            targets_agree("demand_targets_do_not_contradict"),
            models.CheckConstraint(
                name="funded_demand_has_its_hold",
                condition=~Q(state="funded") | (~Q(hold_id=None) & ~Q(funded_at=None)),
            ),
            models.CheckConstraint(
                name="funded_demand_names_its_funding", condition=~Q(state="funded") | ~Q(funding_kind="")
            ),
            models.CheckConstraint(
                name="demand_funding_is_known", condition=Q(funding_kind="") | Q(funding_kind__in=FUNDING_KINDS)
            ),
            models.CheckConstraint(
                name="demand_has_a_line_when_one_backs_it",
                condition=Q(funding_kind="") | Q(funding_line=None, funding_kind__in=("escrow", "card"))
                | (~Q(funding_line=None) & Q(funding_kind__in=("purchase_order", "grant"))),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} ({self.party.slug})"

    @property
    def hours(self) -> int:
        return self.end_slot - self.start_slot

    @property
    def unit_hours(self) -> int:
        return self.quantity_units * self.hours

    @property
    def has_place_rule(self) -> bool:
        """Whether it says where machines or their owners must be."""
        return bool(self.zone_id or self.control_zone_id)

    @property
    def line_number(self) -> str:
        """The number of the order or grant that it names; empty for none."""
        return self.funding_line.number if self.funding_line else ""

    @property
    def hold_micros(self) -> int:
        """The most it can cost: its limit over all its unit-hours."""
        return self.unit_hours * self.price_limit_micros
