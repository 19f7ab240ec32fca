"""Supply: sites, node classes, benchmark proofs, standing and sealed bids."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import ResourceClass, Vantage, Window, targets_agree, targets_are_known
from marketplace.errors import SealUnreadable
from marketplace.parties.models import Party

STANDINGS = ("REGISTERED", "PROBATION", "PROVEN", "DEGRADED", "SUSPENDED", "UNBONDING")
# From where to where a standing may move; the trigger of migration 0009 holds the same list.
STANDING_PATHS = (
    ("REGISTERED", "PROBATION"), ("REGISTERED", "SUSPENDED"), ("REGISTERED", "UNBONDING"),
    ("PROBATION", "PROVEN"), ("PROBATION", "REGISTERED"), ("PROBATION", "SUSPENDED"), ("PROBATION", "UNBONDING"),
    ("PROVEN", "PROBATION"), ("PROVEN", "DEGRADED"), ("PROVEN", "SUSPENDED"), ("PROVEN", "UNBONDING"),
    ("DEGRADED", "PROVEN"), ("DEGRADED", "PROBATION"), ("DEGRADED", "SUSPENDED"), ("DEGRADED", "UNBONDING"),
    ("SUSPENDED", "PROBATION"), ("SUSPENDED", "UNBONDING"),
)  # fmt: skip
BID_STATES = ("sealed", "withdrawn", "opened", "awarded", "lost")


class Site(models.Model):
    """Where machines stand, and under whose law they are owned, run and keyed."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="sites")
    code = models.CharField(max_length=60, unique=True)
    city = models.CharField(max_length=80)
    country = models.CharField(max_length=2)
    operator_country = models.CharField(max_length=2)
    keys_country = models.CharField(max_length=2)
    lat = models.FloatField()
    lon = models.FloatField()
    moved_at = models.DateTimeField(null=True, blank=True, help_text="evidence handed in before it no longer counts")
    control_changed_at = models.DateTimeField(
        null=True, blank=True, help_text="evidence of legal control handed in before it no longer counts"
    )
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(
                name="site_countries_are_two_capitals",
                condition=Q(country__regex=r"^[A-Z]{2}$")
                & Q(operator_country__regex=r"^[A-Z]{2}$")
                & Q(keys_country__regex=r"^[A-Z]{2}$"),
            )
        ]

    def __str__(self) -> str:
        return f"{self.city} ({self.country})"


class SiteLatency(models.Model):
    """Round trip between a vantage and a site, p95, and how it is known."""

    METHODS = ("measured", "bounded")
    site = models.ForeignKey(Site, on_delete=models.CASCADE, related_name="latencies")
    vantage = models.ForeignKey(Vantage, on_delete=models.CASCADE, related_name="+")
    rtt_ms_p95 = models.PositiveIntegerField()
    method = models.CharField(max_length=10, choices=[(m, m) for m in METHODS])

    class Meta:
        verbose_name_plural = "site latencies"
        constraints = [models.UniqueConstraint(name="one_latency_per_site_and_vantage", fields=["site", "vantage"])]


class NodeClass(models.Model):
    """Machines of one provider, site and resource class that are proven together."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="node_classes")
    site = models.ForeignKey(Site, on_delete=models.PROTECT, related_name="node_classes")
    resource_class = models.ForeignKey(ResourceClass, on_delete=models.PROTECT, related_name="+")
    claimed_name = models.CharField(max_length=80)
    units = models.PositiveIntegerField()
    tier = models.PositiveSmallIntegerField(default=0)
    chain_class = models.BigIntegerField(unique=True, help_text="its number on chain")
    machine_key = models.BinaryField(max_length=32, null=True, help_text="Ed25519 public key that signs readings")
    enrolled_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True, help_text="out of service by its owner's wish")

    class Meta:
        verbose_name_plural = "node classes"
        ordering = ["chain_class"]
        constraints = [
            models.UniqueConstraint(name="one_node_class_per_site_and_kind", fields=["site", "resource_class"]),
            models.UniqueConstraint(name="a_machine_key_is_enrolled_once", fields=["machine_key"]),
            models.CheckConstraint(name="node_class_has_units", condition=Q(units__gte=1)),
            models.CheckConstraint(name="node_class_tier_is_zero_to_three", condition=Q(tier__lte=3)),
        ]

    def __str__(self) -> str:
        return f"{self.party.slug} {self.resource_class_id} x {self.units}"

    def promised(self) -> list[Bid]:
        """Every bid that it must be able to keep, with the terms of sealed ones read in its party's own copies.

        Raises SealUnreadable where such a copy cannot be read: nobody knows then what is promised.
        """
        from marketplace.supply.sealing import with_own_terms  # its tables stand on these

        bids = self.bids.filter(state__in=("sealed", "opened", "awarded")).exclude(window__state="FAILED")
        rows = with_own_terms(bids.select_related("window"), party=self.party)
        if any(row.quantity_units is None for row in rows):
            raise SealUnreadable("What this node class offers already cannot be read, so nothing is added to it.")
        return rows


class Standing(models.Model):
    """How far a node class has proven itself; decides what it may win and whether its stake can be slashed."""

    node_class = models.OneToOneField(NodeClass, on_delete=models.CASCADE, primary_key=True, related_name="standing")
    state = models.CharField(max_length=12, default="REGISTERED", choices=[(s, s) for s in STANDINGS])
    checks_passed = models.PositiveIntegerField(default=0)
    checks_failed = models.PositiveIntegerField(default=0)
    good_hours = models.PositiveIntegerField(default=0)
    bad_hours = models.PositiveIntegerField(default=0)
    challenged_at = models.DateTimeField(null=True, blank=True)
    proven_at = models.DateTimeField(null=True, blank=True)
    proven_until = models.DateTimeField(null=True, blank=True)
    proven_ops_per_sec = models.BigIntegerField(default=0, help_text="5th percentile of the challenges it rests on")
    last_breach_at = models.DateTimeField(null=True, blank=True)
    restarted_at = models.DateTimeField(null=True, blank=True, help_text="proofs before it are void")
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="standing_is_known", condition=Q(state__in=STANDINGS)),
            models.CheckConstraint(
                name="proven_standing_has_its_proof",
                condition=~Q(state="PROVEN") | (~Q(proven_at=None) & ~Q(proven_until=None)),
            ),
        ]


class StandingChange(models.Model):
    """One change of standing with actor, reason and evidence; append-only."""

    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="standing_changes")
    from_state = models.CharField(max_length=12)
    to_state = models.CharField(max_length=12)
    actor = models.CharField(max_length=120, default="", help_text="empty only in rows of before it was kept")
    reason = models.CharField(max_length=300)
    evidence = models.BinaryField(max_length=32, null=True)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.CheckConstraint(name="standing_change_has_a_reason", condition=~Q(reason=""))]


class Benchmark(models.Model):
    """A proof of performance and what it was worth."""

    KINDS = ((1, "challenge"), (2, "baseline"))
    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="benchmarks")
    kind = models.PositiveSmallIntegerField(choices=KINDS)
    epoch = models.PositiveIntegerField()
    is_simulated = models.BooleanField(default=False)
    ops_per_sec = models.BigIntegerField()
    mem_bytes = models.BigIntegerField()
    mem_bytes_per_sec = models.BigIntegerField()
    seed = models.BinaryField(max_length=32)
    params_hash = models.BinaryField(max_length=32)
    transcript_hash = models.BinaryField(max_length=32)
    transcript = models.BinaryField(null=True)
    message = models.JSONField(help_text="the attested struct, as signed")
    hw_key_hash = models.BinaryField(max_length=32, null=True, help_text="null: hardware identity unattested")
    preset = models.CharField(max_length=32, default="", help_text="the chain that was asked for")
    backend = models.CharField(max_length=32, default="", help_text="what multiplied, by the prover's own word")
    jitter_bps = models.PositiveIntegerField(default=0, help_text="p95 over p50 of block times; 0: not measured")
    resident_bytes = models.BigIntegerField(default=0, help_text="shown in memory, however small; 0: not measured")
    sweep_bytes_per_sec = models.BigIntegerField(default=0, help_text="rate at which that was read")
    claimed_class = models.CharField(max_length=40, default="", help_text="as declared when it was measured")
    measured_class = models.CharField(max_length=40, null=True, help_text="null: it reaches none")
    ops_gap_bps = models.IntegerField(default=0, help_text="measured less claimed, of the claimed row")
    mem_gap_bps = models.IntegerField(null=True, help_text="null: not measured")
    mem_rate_gap_bps = models.IntegerField(null=True, help_text="null: not measured")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    valid_until = models.DateTimeField()

    class Meta:
        ordering = ["node_class", "epoch"]
        constraints = [
            models.UniqueConstraint(name="benchmark_epoch_rises", fields=["node_class", "epoch"]),
            models.CheckConstraint(name="benchmark_kind_is_known", condition=Q(kind__in=(1, 2))),
            models.CheckConstraint(
                name="benchmark_times_follow_each_other",
                condition=Q(started_at__lte=F("finished_at")) & Q(finished_at__lt=F("valid_until")),
            ),
            models.CheckConstraint(
                name="benchmark_is_valid_90_days_at_most",
                condition=Q(valid_until__lte=F("finished_at") + timedelta(days=90)),
            ),
        ]


class Attestation(models.Model):
    """One verifier's signature under a benchmark."""

    benchmark = models.ForeignKey(Benchmark, on_delete=models.CASCADE, related_name="attestations")
    signer = models.CharField(max_length=42)
    v = models.PositiveSmallIntegerField()
    r = models.BinaryField(max_length=32)
    s = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(name="a_verifier_signs_once", fields=["benchmark", "signer"])]


class Bid(models.Model):
    """A sealed offer of capacity. What it offers is null here until the window closes; see `sealing.py`."""

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="bids")
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="bids")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="bids")
    reference = models.CharField(max_length=60)
    quantity_units = models.BigIntegerField(null=True)
    start_slot = models.IntegerField(null=True)
    end_slot = models.IntegerField(null=True)
    price_ask_micros = models.BigIntegerField(null=True)
    minimum_units = models.BigIntegerField(
        null=True, help_text="sells the same units in all its slots, at least so many, or none"
    )
    sla = models.ForeignKey("marketplace.SlaPreset", null=True, on_delete=models.PROTECT, related_name="+")
    sla_targets = models.JSONField(null=True, help_text="what it promises beside availability: target and bound")
    state = models.CharField(max_length=10, default="sealed", choices=[(s, s) for s in BID_STATES])
    accepted_rank = models.BigIntegerField()
    placed_at = models.DateTimeField()

    class Meta:
        ordering = ["window", "accepted_rank"]
        constraints = [
            models.UniqueConstraint(name="bid_reference_is_used_once", fields=["party", "reference"]),
            models.UniqueConstraint(name="bid_rank_is_unique_in_window", fields=["window", "accepted_rank"]),
            models.CheckConstraint(name="bid_state_is_known", condition=Q(state__in=BID_STATES)),
            models.CheckConstraint(
                name="sealed_bid_tells_nothing",
                condition=Q(
                    state__in=("sealed", "withdrawn"), quantity_units=None, start_slot=None, end_slot=None,
                    price_ask_micros=None, minimum_units=None, sla=None, sla_targets__isnull=True,
                )
                | (
                    Q(state__in=("opened", "awarded", "lost")) & ~Q(quantity_units=None) & ~Q(start_slot=None)
                    & ~Q(end_slot=None) & ~Q(price_ask_micros=None) & ~Q(minimum_units=None) & ~Q(sla=None)
                ),
            ),
            models.CheckConstraint(
                name="bid_quantity_is_1_to_2_20", condition=Q(quantity_units__gte=1) & Q(quantity_units__lte=2**20)
            ),
            models.CheckConstraint(
                name="bid_ask_is_a_price", condition=Q(price_ask_micros__gte=100) & Q(price_ask_micros__lte=10**9)
            ),
            models.CheckConstraint(
                name="bid_ask_lies_on_the_tick", condition=Q(price_ask_micros=F("price_ask_micros") / 100 * 100)
            ),
            models.CheckConstraint(
                name="bid_slots_run_forward", condition=Q(start_slot__gte=0) & Q(start_slot__lt=F("end_slot"))
            ),
            targets_are_known("bid_targets_are_on_the_menu"),
            targets_agree("bid_targets_do_not_contradict"),
            models.CheckConstraint(
                name="bid_minimum_is_within_its_quantity",
                condition=Q(minimum_units__gte=0) & Q(minimum_units__lte=F("quantity_units")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} ({self.party.slug})"

    @property
    def unit_hours(self) -> int:
        """What it offers; 0 while that is sealed."""
        if self.quantity_units is None or self.start_slot is None or self.end_slot is None:
            return 0
        return self.quantity_units * (self.end_slot - self.start_slot)
