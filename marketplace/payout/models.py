"""Payout: netted settlements on chain and the payouts that follow."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.capacity.models import RevenueSplit
from marketplace.catalogue.models import Window
from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.supply.models import NodeClass


class Settlement(models.Model):
    """One settle call. Epochs on chain are strictly consecutive, and each claim begins a generation of them.

    A call that the chain refused has no lines any more: its leases are settled by another. After three refusals of one
    epoch that takes two people: one asks for another try and says why, another lets it. A refusal that only time heals
    is put off until then, and is no try.
    """

    id = models.UUIDField(primary_key=True)
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="settlements")
    epoch = models.BigIntegerField()
    intent_key = models.CharField(max_length=120, unique=True)
    earned_micros = models.BigIntegerField()
    refunded_micros = models.BigIntegerField()
    fees_micros = models.BigIntegerField()
    root = models.BinaryField(max_length=32, help_text="of what classes could claim; bytes")
    owed = models.JSONField(default=dict, help_text="gross micro-USD since ever by the class's number: what root says")
    made_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    refusal = models.CharField(max_length=200, default="", help_text="the contract's own sentence")
    put_off_until = models.DateTimeField(null=True, blank=True, help_text="refused for what only time heals")
    retry_asked_by = models.CharField(max_length=120, default="", blank=True)
    retry_asked_at = models.DateTimeField(null=True, blank=True)
    retry_reason = models.CharField(max_length=300, default="", blank=True)
    retry_let_by = models.CharField(max_length=120, default="", blank=True)

    class Meta:
        ordering = ["epoch", "id"]
        constraints = [
            models.CheckConstraint(
                name="settlement_retry_says_who_asked_and_why",
                condition=Q(retry_asked_at=None, retry_asked_by="", retry_reason="")
                | (~Q(retry_asked_at=None) & ~Q(retry_asked_by="") & ~Q(retry_reason="")),
            ),
            models.CheckConstraint(
                name="settlement_retry_is_of_two_people",
                condition=Q(retry_let_by="") | (~Q(retry_asked_by="") & ~Q(retry_let_by=F("retry_asked_by"))),
            ),
            models.CheckConstraint(
                name="settlement_retry_is_of_a_refused_call", condition=Q(retry_let_by="") | ~Q(refused_at=None)
            ),
            models.CheckConstraint(
                name="settlement_is_put_off_before_it_is_final",
                condition=Q(put_off_until=None) | Q(final_at=None, put_off_until__gte=F("made_at")),
            ),
            models.CheckConstraint(name="settlement_epochs_start_at_one", condition=Q(epoch__gte=1)),
            models.UniqueConstraint(
                name="one_settlement_per_epoch", fields=["epoch"], condition=Q(refused_at=None)
            ),
            models.CheckConstraint(
                name="settlement_is_final_or_refused", condition=Q(refused_at=None) | Q(final_at=None)
            ),
        ]


class SettlementLine(models.Model):
    """What one lease came to: earned = payable + holdback + fee + covered (claimed on chain before).

    And earned + returned + credited = its fee.
    """

    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, related_name="lines")
    lease = models.OneToOneField(Lease, on_delete=models.PROTECT, related_name="settlement_line")
    earned_micros = models.BigIntegerField()
    covered_micros = models.BigIntegerField(default=0, help_text="claimed on chain before; not paid again")
    payable_micros = models.BigIntegerField()
    holdback_micros = models.BigIntegerField()
    fee_micros = models.BigIntegerField()
    returned_micros = models.BigIntegerField()
    credit_micros = models.BigIntegerField()
    credited_before_micros = models.BigIntegerField(default=0, help_text="of what goes back; sent while the lease ran")
    given_back_micros = models.BigIntegerField(default=0, help_text="of what is returned; its backup took it along")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="settlement_line_splits_what_was_earned",
                condition=Q(
                    earned_micros=F("payable_micros") + F("holdback_micros") + F("fee_micros") + F("covered_micros")
                ),
            ),
            models.CheckConstraint(
                name="settlement_line_has_no_negative_part",
                condition=Q(payable_micros__gte=0)
                & Q(holdback_micros__gte=0)
                & Q(covered_micros__gte=0)
                & Q(fee_micros__gte=0)
                & Q(returned_micros__gte=0)
                & Q(credit_micros__gte=0),
            ),
            models.CheckConstraint(
                name="settlement_line_returns_what_was_credited_before",
                condition=Q(credited_before_micros__gte=0)
                & Q(given_back_micros__gte=0)
                & Q(given_back_micros__lte=F("returned_micros"))
                & Q(
                    credited_before_micros__lte=F("returned_micros") + F("credit_micros") - F("given_back_micros")
                ),
            ),
        ]

    @property
    def sent_before_micros(self) -> int:
        """What had gone back before this settlement: credits of the running lease, and what its backup took along."""
        return self.credited_before_micros + self.given_back_micros


class Payout(models.Model):
    """Money on its way to a provider's own address."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="payouts")
    window = models.ForeignKey(Window, on_delete=models.PROTECT, related_name="payouts")
    part = models.PositiveSmallIntegerField(default=0, help_text="of a window that is settled in parts, from 0")
    amount_micros = models.BigIntegerField()
    intent_key = models.CharField(max_length=120, unique=True)
    made_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                name="one_payout_per_class_window_and_part", fields=["node_class", "window", "part"]
            ),
            models.CheckConstraint(name="payout_is_positive", condition=Q(amount_micros__gte=1)),
        ]


class MemberShare(models.Model):
    """One member's part of what escrow paid to its consortium; the parts of a payment make it to the last micro.

    The leader's own part stays in its wallet. Every other part is a transfer on chain, tried again until it is final.
    """

    id = models.UUIDField(primary_key=True)
    reference = models.BinaryField(max_length=36, help_text="the chain event by which escrow paid")
    lead = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="shares_paid_on")
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="member_shares")
    split = models.ForeignKey(RevenueSplit, on_delete=models.PROTECT, related_name="member_shares")
    member = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="member_shares")
    paid_micros = models.BigIntegerField(help_text="what escrow paid, of which this is a part")
    amount_micros = models.BigIntegerField()
    attempt = models.PositiveSmallIntegerField(default=1)
    intent_key = models.CharField(max_length=160, default="", blank=True, help_text="empty: nothing to send")
    made_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.UniqueConstraint(name="a_member_is_paid_once_of_a_payment", fields=["reference", "member"]),
            models.CheckConstraint(
                name="member_share_is_a_part_of_its_payment",
                condition=Q(amount_micros__gte=0) & Q(amount_micros__lte=F("paid_micros")),
            ),
            models.CheckConstraint(
                name="member_share_is_sent_or_needs_no_sending", condition=~Q(final_at=None) | ~Q(intent_key="")
            ),
        ]
