"""Slashing: held back until a benchmark is proven, then warned, requested, disputed, executed."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.escrow.models import Lease
from marketplace.sla.models import Verdict
from marketplace.supply.models import NodeClass

OUTCOMES = ("credited", "warned", "held_back", "requested", "disputed", "upheld", "vetoed", "executed", "lapsed")


class SlashCase(models.Model):
    """What followed from one confirmed breach."""

    id = models.UUIDField(primary_key=True)
    verdict = models.OneToOneField(Verdict, on_delete=models.PROTECT, related_name="slash_case")
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="slash_cases")
    outcome = models.CharField(max_length=10, choices=[(o, o.replace("_", " ")) for o in OUTCOMES])
    reason_kind = models.PositiveSmallIntegerField(help_text="0 first breach, 1 second, 2 later, 3 severe, 9 fraud")
    sentence = models.CharField(max_length=300)
    amount_micros = models.BigIntegerField(help_text="what was asked of the stake")
    forfeit_micros = models.BigIntegerField(default=0, help_text="what was taken from the holdback instead")
    intent_key = models.CharField(max_length=120, null=True, blank=True, unique=True)
    chain_id_of_request = models.BigIntegerField(null=True, blank=True)
    refusal = models.CharField(max_length=200, default="", help_text="the contract's own sentence when it reverted")
    executable_at = models.DateTimeField(null=True, blank=True)
    executed_at = models.DateTimeField(null=True, blank=True)
    to_buyer_micros = models.BigIntegerField(default=0)
    to_pool_micros = models.BigIntegerField(default=0)
    opened_at = models.DateTimeField()

    class Meta:
        ordering = ["opened_at", "id"]
        constraints = [
            models.CheckConstraint(name="slash_outcome_is_known", condition=Q(outcome__in=OUTCOMES)),
            models.CheckConstraint(
                name="only_an_executed_slash_pays",
                condition=Q(outcome="executed") | (Q(to_buyer_micros=0) & Q(to_pool_micros=0)),
            ),
            models.CheckConstraint(
                name="a_held_back_slash_asks_no_stake", condition=~Q(outcome="held_back") | Q(to_buyer_micros=0)
            ),
            models.CheckConstraint(
                name="no_slash_before_its_time_lock",
                condition=~Q(outcome="executed") | Q(executed_at__gte=F("executable_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_outcome_display()}: {self.verdict.lease}"


class Forfeit(models.Model):
    """A part of an unproven class's holdback that goes to the buyer of one of its trailing leases; append-only.

    A case may reach further back than its own lease: the contract pays one lease line by one signed verdict.
    """

    id = models.UUIDField(primary_key=True)
    case = models.ForeignKey(SlashCase, on_delete=models.PROTECT, related_name="forfeits")
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="forfeits")
    amount_micros = models.BigIntegerField()
    round_no = models.PositiveSmallIntegerField(default=0, help_text="1: more was due than the fees of all its leases")
    evidence_hash = models.BinaryField(max_length=32, unique=True)
    nonce = models.BigIntegerField(help_text="one verdict per class and nonce takes effect on chain")
    intent_key = models.CharField(max_length=120, unique=True)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["made_at", "id"]
        constraints = [
            models.CheckConstraint(name="forfeit_is_positive", condition=Q(amount_micros__gte=1)),
            models.UniqueConstraint(name="a_case_forfeits_once_per_lease", fields=["case", "lease", "round_no"]),
        ]

    def __str__(self) -> str:
        return f"forfeit to {self.lease}"


class Appeal(models.Model):
    """A provider's dispute of one request; it freezes the request until two persons agree. Append-only."""

    id = models.UUIDField(primary_key=True)
    case = models.OneToOneField(SlashCase, on_delete=models.PROTECT, related_name="appeal")
    person = models.CharField(max_length=120)
    grounds = models.CharField(max_length=1000)
    opened_at = models.DateTimeField()
    decide_by = models.DateTimeField(help_text="undecided until then means no slash")

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.CheckConstraint(name="appeal_names_its_grounds", condition=~Q(grounds="") & ~Q(person="")),
            models.CheckConstraint(name="appeal_is_decided_after_it_opens", condition=Q(decide_by__gt=F("opened_at"))),
        ]

    def __str__(self) -> str:
        return f"appeal of {self.case}"


class Opinion(models.Model):
    """What one judge thinks of an appeal, and why; append-only."""

    appeal = models.ForeignKey(Appeal, on_delete=models.PROTECT, related_name="opinions")
    judge = models.CharField(max_length=120)
    upholds = models.BooleanField(help_text="the request stands")
    reason = models.CharField(max_length=1000)
    given_at = models.DateTimeField()

    class Meta:
        ordering = ["given_at", "id"]
        constraints = [
            models.UniqueConstraint(name="a_judge_has_one_opinion", fields=["appeal", "judge"]),
            models.CheckConstraint(name="opinion_has_a_reason", condition=~Q(reason="") & ~Q(judge="")),
        ]

    def __str__(self) -> str:
        return f"{self.judge} on {self.appeal}"
