"""Around a benchmark: who may attest, how near the machine is, and the roll that calls all machines of one owner."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party
from marketplace.supply.models import Benchmark, NodeClass


class VerifierSeat(models.Model):
    """The signing address of a verifier organisation; nobody sits over machines of its own ultimate owner."""

    address = models.CharField(max_length=42, primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="verifier_seats")
    vantage = models.CharField(max_length=40, help_text="where it stands; distances are told from there")
    is_demo = models.BooleanField(default=False, help_text="demo panel, not independent")
    seated_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["address"]
        constraints = [
            models.UniqueConstraint(
                name="an_organisation_has_one_verifier_seat", fields=["party"], condition=Q(retired_at=None)
            ),
            models.CheckConstraint(name="verifier_seat_has_a_vantage", condition=~Q(vantage="")),
        ]

    def __str__(self) -> str:
        return f"{self.party.name} at {self.vantage}"


class BenchmarkVantage(models.Model):
    """One statement of place: within so many kilometres of a vantage. Never a city. Append-only."""

    benchmark = models.ForeignKey(Benchmark, on_delete=models.PROTECT, related_name="vantages")
    vantage = models.CharField(max_length=42)
    radius_km = models.PositiveIntegerField()

    class Meta:
        ordering = ["radius_km", "vantage", "benchmark_id"]
        constraints = [
            models.UniqueConstraint(name="a_vantage_tells_one_radius", fields=["benchmark", "vantage"]),
            models.CheckConstraint(name="radius_is_no_point", condition=Q(radius_km__gte=1)),
        ]


class RollCall(models.Model):
    """One short span in which all machines of one ultimate owner are challenged, so that none can answer twice."""

    id = models.UUIDField(primary_key=True)
    owner = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="roll_calls")
    opened_at = models.DateTimeField()
    closes_at = models.DateTimeField()

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.CheckConstraint(name="roll_call_is_open_for_a_while", condition=Q(closes_at__gt=F("opened_at"))),
        ]


class RollMember(models.Model):
    """A node class that is called, with the machines it claims at that moment; append-only."""

    roll = models.ForeignKey(RollCall, on_delete=models.PROTECT, related_name="members")
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="roll_members")
    machines = models.PositiveIntegerField()

    class Meta:
        ordering = ["roll", "node_class"]
        constraints = [
            models.UniqueConstraint(name="a_class_is_called_once_in_a_roll", fields=["roll", "node_class"]),
            models.CheckConstraint(name="roll_member_has_machines", condition=Q(machines__gte=1)),
        ]


class RollAnswer(models.Model):
    """How many machines of a class answered inside the span, by what verifiers measured of each and what each signed
    while the roll was open; append-only.
    """

    member = models.OneToOneField(RollMember, on_delete=models.PROTECT, related_name="answer")
    machines = models.PositiveIntegerField()
    answered_at = models.DateTimeField()

    class Meta:
        ordering = ["member"]
