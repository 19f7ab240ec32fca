"""Reports of wrongdoing with a deposit, and what they cost and earn."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.parties.models import Party

REPORT_KINDS = ("fake_hardware", "residency", "collusion", "self_dealing", "data_misuse", "other")
REPORT_STATES = ("open", "triaged", "upheld", "rejected")


class ReportRule(models.Model):
    """What a report costs as a deposit and what an upheld one earns. The newest row holds. Append-only."""

    deposit_micros = models.BigIntegerField()
    reward_micros = models.BigIntegerField()
    person = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                name="report_rule_asks_a_deposit", condition=Q(deposit_micros__gte=1) & Q(reward_micros__gte=0)
            ),
            models.CheckConstraint(name="report_rule_says_who_and_why", condition=~Q(person="") & ~Q(reason="")),
        ]


class Report(models.Model):
    """One report: its deposit, its way through triage and decision by two people, its outcome in anonymous words."""

    id = models.UUIDField(primary_key=True)
    reporter = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="reports_made")
    about = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="reports_about")
    kind = models.CharField(max_length=16, choices=[(k, k.replace("_", " ")) for k in REPORT_KINDS])
    text = models.CharField(max_length=2000)
    file_name = models.CharField(max_length=120, default="", blank=True)
    evidence = models.BinaryField(default=b"", blank=True)
    evidence_sha256 = models.BinaryField(max_length=32, null=True)
    deposit_micros = models.BigIntegerField()
    reward_micros = models.BigIntegerField(help_text="fixed when the report was made; paid when it is upheld")
    hold_id = models.UUIDField(unique=True)
    state = models.CharField(max_length=8, default="open", choices=[(s, s) for s in REPORT_STATES])
    made_at = models.DateTimeField()
    triaged_by = models.CharField(max_length=120, default="", blank=True)
    triaged_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.CharField(max_length=120, default="", blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, default="", blank=True, help_text="for the two parties and the trail")
    outcome = models.CharField(max_length=300, default="", blank=True, help_text="for everybody; it names nobody")
    intent_key = models.CharField(max_length=120, default="", blank=True, help_text="of what moves its money on chain")
    attempt = models.PositiveSmallIntegerField(default=1)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="when the reward or the lost deposit had moved")

    class Meta:
        ordering = ["made_at", "id"]
        constraints = [
            models.CheckConstraint(name="report_kind_is_known", condition=Q(kind__in=REPORT_KINDS)),
            models.CheckConstraint(name="report_is_about_somebody_else", condition=~Q(reporter=F("about"))),
            models.CheckConstraint(
                name="report_has_its_deposit", condition=Q(deposit_micros__gte=1) & Q(reward_micros__gte=0)
            ),
            models.CheckConstraint(
                name="report_state_says_who_decided",
                condition=Q(state="open", triaged_by="", decided_by="")
                | (Q(state="triaged", decided_by="") & ~Q(triaged_by=""))
                | (Q(state__in=("upheld", "rejected")) & ~Q(decided_by="") & ~Q(decided_at=None) & ~Q(reason="")
                   & ~Q(outcome="")),
            ),
            models.CheckConstraint(
                name="report_is_upheld_by_two_people",
                condition=~Q(state="upheld") | (~Q(triaged_by="") & ~Q(triaged_by=F("decided_by"))),
            ),
        ]  # fmt: skip
