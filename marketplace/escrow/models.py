"""Escrow: mandates, locks on chain, and the leases made from awards."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import Window, Zone, targets_are_known
from marketplace.clearing.models import Clearing
from marketplace.demand.models import Demand
from marketplace.parties.models import Party
from marketplace.supply.models import Bid, NodeClass

LEASE_CLAUSES = "lease-2026-11.1"  # the wording of `clauses.py`
LEASE_STATES = ("locking", "refused", "locked", "delivering", "delivered", "judged", "settled")


class Mandate(models.Model):
    """A buyer's signed permission to lock money for one window under one set of rules (EIP-712)."""

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="mandates")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="mandates")
    zone = models.ForeignKey(Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    control_zone = models.ForeignKey(Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    tier_min = models.PositiveSmallIntegerField()
    nonce = models.BigIntegerField()
    max_spend_micros = models.BigIntegerField()
    expires_at = models.DateTimeField()
    signed = models.JSONField(help_text="the struct and its signature, as sent to the contract")

    class Meta:
        ordering = ["window", "party", "nonce"]
        constraints = [
            models.UniqueConstraint(name="mandate_nonce_is_used_once", fields=["party", "nonce"]),
            models.CheckConstraint(name="mandate_allows_some_spend", condition=Q(max_spend_micros__gte=1)),
        ]


class LockBatch(models.Model):
    """One lock call: up to 64 mandates, 64 node classes and 512 lines, all or nothing."""

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="lock_batches")
    ordinal = models.PositiveIntegerField()
    intent_key = models.CharField(max_length=120, unique=True)
    chain_no = models.BigIntegerField(null=True, blank=True, help_text="number the contract gave it")
    buyers = models.JSONField(help_text="address per mandate, in call order")
    classes = models.JSONField(help_text="node class numbers, in call order")
    lines = models.JSONField(help_text="packed lines as decimal strings, in call order")
    total_micros = models.BigIntegerField()
    locked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "lock batches"
        ordering = ["window", "ordinal"]
        constraints = [
            models.UniqueConstraint(name="lock_batch_is_numbered_once", fields=["window", "ordinal"]),
            models.CheckConstraint(name="lock_batch_moves_money", condition=Q(total_micros__gte=1)),
        ]


class Lease(models.Model):
    """The running contract between one demand and one bid. Its terms are copied here and never change."""

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="leases")
    clearing = models.ForeignKey(Clearing, on_delete=models.PROTECT, related_name="leases")
    demand = models.ForeignKey(Demand, on_delete=models.PROTECT, related_name="leases")
    bid = models.ForeignKey(Bid, on_delete=models.PROTECT, related_name="leases")
    step_in = models.ForeignKey(
        "marketplace.StepIn", null=True, blank=True, on_delete=models.PROTECT, related_name="leases",
        help_text="set where a backup took over the rest of a failed lease's hours",
    )
    buyer = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="leases_bought")
    provider = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="leases_sold")
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="leases")
    mandate = models.ForeignKey(Mandate, on_delete=models.PROTECT, related_name="leases")
    lock_batch = models.ForeignKey(LockBatch, null=True, on_delete=models.PROTECT, related_name="leases")
    lock_line = models.PositiveIntegerField(null=True)
    refusal = models.CharField(max_length=200, default="", help_text="why its money was not locked")
    start_slot = models.IntegerField()
    end_slot = models.IntegerField()
    ended_slot = models.IntegerField(null=True, blank=True, help_text="the first hour that its backup took over")
    unit_hours = models.BigIntegerField()
    fee_micros = models.BigIntegerField(help_text="what the buyer pays when all is delivered")
    stake_micros = models.BigIntegerField(help_text="the stake such a lease carries")
    sla_bps = models.PositiveIntegerField()
    sla_targets = models.JSONField(default=dict, blank=True, help_text="what is promised beside availability")
    is_armed = models.BooleanField(help_text="signed while PROVEN: its stake may be slashed")
    state = models.CharField(max_length=12, default="locking", choices=[(s, s) for s in LEASE_STATES])
    clauses = models.CharField(max_length=20, default=LEASE_CLAUSES, help_text="which wording it was made under")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["window", "demand", "bid", "id"]
        constraints = [
            models.UniqueConstraint(
                name="one_lease_per_demand_and_bid", fields=["demand", "bid"], condition=Q(step_in=None)
            ),
            models.UniqueConstraint(name="one_lease_per_backup", fields=["step_in", "bid"]),
            models.CheckConstraint(
                name="lease_ends_inside_its_slots",
                condition=Q(ended_slot=None) | Q(ended_slot__gt=F("start_slot")) & Q(ended_slot__lt=F("end_slot")),
            ),
            models.CheckConstraint(name="lease_state_is_known", condition=Q(state__in=LEASE_STATES)),
            models.CheckConstraint(name="running_lease_is_locked", condition=Q(state="refused") | ~Q(lock_batch=None)),
            models.CheckConstraint(name="refused_lease_says_why", condition=~Q(state="refused") | ~Q(refusal="")),
            models.CheckConstraint(name="lease_has_a_fee", condition=Q(fee_micros__gte=1)),
            targets_are_known("lease_targets_are_on_the_menu"),
            models.CheckConstraint(name="lease_slots_run_forward", condition=Q(start_slot__lt=F("end_slot"))),
        ]

    def __str__(self) -> str:
        return f"{self.demand.reference} at {self.provider.slug}"

    @property
    def until_slot(self) -> int:
        """The first slot that it does not serve: its end, or where its backup began."""
        return self.end_slot if self.ended_slot is None else self.ended_slot
