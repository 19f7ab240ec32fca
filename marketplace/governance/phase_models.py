"""The four phases as data: conditions, sign-offs over evidence, openings, and the signals that raise or freeze them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

PHASES = (1, 2, 3, 4)
DIRECTIONS = ("raises", "lowers")


class Phase(models.Model):
    """One of four steps of the market. Opened in order, by people, over evidence; never by time."""

    no = models.PositiveSmallIntegerField(primary_key=True)
    name = models.CharField(max_length=60)
    is_open = models.BooleanField(default=False)
    opened_at = models.DateTimeField(null=True, blank=True)
    evidence_hash = models.BinaryField(max_length=32, null=True, help_text="of the figures it was opened on")

    class Meta:
        ordering = ["no"]
        constraints = [
            models.CheckConstraint(name="phase_is_one_of_four", condition=Q(no__in=PHASES)),
            models.CheckConstraint(
                name="open_phase_says_when", condition=Q(is_open=False) | (~Q(opened_at=None) & ~Q(evidence_hash=None))
            ),
        ]

    def __str__(self) -> str:
        return f"Phase {self.no}: {self.name}"


class PhaseCondition(models.Model):
    """One figure that has to be reached before a phase may be opened."""

    phase = models.ForeignKey(Phase, on_delete=models.PROTECT, related_name="conditions")
    code = models.CharField(max_length=40)
    sentence = models.CharField(max_length=200)
    needed = models.BigIntegerField()

    class Meta:
        ordering = ["phase", "id"]
        constraints = [
            models.UniqueConstraint(name="phase_names_a_condition_once", fields=["phase", "code"]),
            models.CheckConstraint(name="phase_condition_asks_for_something", condition=Q(needed__gte=1)),
        ]


class PhaseEvidence(models.Model):
    """The figures of a phase's conditions as they were looked at, under their hash; append-only."""

    phase = models.ForeignKey(Phase, on_delete=models.PROTECT, related_name="evidence")
    hash = models.BinaryField(max_length=32)
    figures = models.JSONField(help_text="per condition: what is needed, what is there, and where that is seen")
    is_complete = models.BooleanField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]


class PhaseSignOff(models.Model):
    """One person's yes to opening a phase on these figures; append-only."""

    evidence = models.ForeignKey(PhaseEvidence, on_delete=models.PROTECT, related_name="sign_offs")
    person = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="a_person_signs_evidence_once", fields=["evidence", "person"]),
            models.CheckConstraint(name="sign_off_names_its_person", condition=~Q(person="")),
        ]


class Signal(models.Model):
    """Something in the world that raises or lowers the case for going on, with its owner and evidence."""

    id = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=40)
    title = models.CharField(max_length=200)
    direction = models.CharField(max_length=6, choices=[(d, d) for d in DIRECTIONS])
    freezes = models.ForeignKey(Phase, null=True, blank=True, on_delete=models.PROTECT, related_name="signals")
    owner = models.CharField(max_length=120)
    evidence_link = models.URLField(max_length=300)
    raised_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=120, default="", blank=True)
    closing_reason = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        ordering = ["-raised_at", "-id"]
        constraints = [
            models.CheckConstraint(name="signal_direction_is_known", condition=Q(direction__in=DIRECTIONS)),
            models.CheckConstraint(name="signal_names_owner_and_evidence",
                                   condition=~Q(owner="") & ~Q(evidence_link="")),
            models.CheckConstraint(
                name="only_a_bearish_signal_freezes", condition=Q(freezes=None) | Q(direction="lowers")
            ),
            models.CheckConstraint(
                name="closed_signal_says_who_and_why",
                condition=Q(closed_at=None, closed_by="", closing_reason="")
                | (~Q(closed_at=None) & ~Q(closed_by="") & ~Q(closing_reason="") & ~Q(closed_by=F("owner"))),
            ),
        ]


class GateReview(models.Model):
    """The review of the gates that is held each quarter; append-only."""

    quarter = models.CharField(max_length=7, unique=True, help_text="such as 2026-Q4")
    person = models.CharField(max_length=120)
    verdict = models.CharField(max_length=300)
    facts = models.JSONField(help_text="every open signal, and each gate as it stood")
    at = models.DateTimeField()

    class Meta:
        ordering = ["-quarter"]
        constraints = [
            models.CheckConstraint(name="review_names_person_and_verdict", condition=~Q(person="") & ~Q(verdict="")),
            models.CheckConstraint(name="review_is_of_a_quarter", condition=Q(quarter__regex=r"^\d{4}-Q[1-4]$")),
        ]
