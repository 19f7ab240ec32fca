"""What a first lease may be worth, and a university's word in place of the cash stake behind it."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Seat
from marketplace.supply.models import NodeClass


class EntryRule(models.Model):
    """For one tier: the most that the first lease of a node class may cost, and the most that an institution's word
    carries of its stake. Append-only; the last one of a tier holds."""

    tier = models.PositiveSmallIntegerField()
    first_lease_cap_micros = models.BigIntegerField()
    undertaking_max_micros = models.BigIntegerField()
    person = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["tier", "-id"]
        constraints = [
            models.CheckConstraint(
                name="an_undertaking_is_at_most_the_first_lease",
                condition=Q(tier__lte=3) & Q(first_lease_cap_micros__gte=1) & Q(undertaking_max_micros__gte=0)
                & Q(undertaking_max_micros__lte=F("first_lease_cap_micros")),
            ),
            models.CheckConstraint(name="entry_rule_says_who_and_why", condition=~Q(person="") & ~Q(reason="")),
        ]  # fmt: skip


class Undertaking(models.Model):
    """A university's signed word to answer for a node class up to an amount; it counts once it was reviewed."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="undertakings")
    amount_micros = models.BigIntegerField()
    signatory = models.CharField(max_length=120, help_text="who signed it, in which office")
    file_name = models.CharField(max_length=120)
    sha256 = models.BinaryField(max_length=32)
    body = models.BinaryField()
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField()
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+", help_text="who handed it in")
    submitted_at = models.DateTimeField()

    class Meta:
        ordering = ["-submitted_at", "-id"]
        constraints = [
            models.CheckConstraint(
                name="undertaking_has_an_amount_and_time",
                condition=Q(amount_micros__gte=1) & Q(valid_until__gt=F("valid_from")),
            ),
        ]


class UndertakingReview(models.Model):
    """A second person's word on an undertaking, and the cap that the contract kept before it. There is one."""

    undertaking = models.OneToOneField(Undertaking, on_delete=models.PROTECT, primary_key=True, related_name="review")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    is_accepted = models.BooleanField()
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="undertaking_review_has_a_reason", condition=~Q(reason=""))]


class UndertakingEnd(models.Model):
    """An undertaking ended before its time: taken back by its party, or revoked."""

    undertaking = models.OneToOneField(Undertaking, on_delete=models.PROTECT, primary_key=True, related_name="end")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="undertaking_end_has_a_reason", condition=~Q(reason=""))]
