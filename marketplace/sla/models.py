"""SLA: one verdict per lease period, and the credit that follows without a claim."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.escrow.models import Lease


class Verdict(models.Model):
    """What the exact test said about one lease period, with the figures to repeat it."""

    id = models.UUIDField(primary_key=True)
    lease = models.OneToOneField(Lease, on_delete=models.PROTECT, related_name="verdict")
    known_minutes = models.PositiveIntegerField()
    down_minutes = models.PositiveIntegerField()
    unknown_minutes = models.PositiveIntegerField()
    threshold_minutes = models.PositiveIntegerField(help_text="a breach needs more down minutes than this")
    availability_ppm = models.PositiveIntegerField()
    is_below_sla = models.BooleanField()
    checks = models.PositiveIntegerField(default=0, help_text="performance re-checks of the period")
    checks_failed = models.PositiveIntegerField(default=0)
    checks_allowed = models.PositiveIntegerField(default=0, help_text="a breach needs more failed checks than this")
    is_breach = models.BooleanField()
    earned_micros = models.BigIntegerField(help_text="fee of the minutes delivered")
    unpaid_micros = models.BigIntegerField(help_text="the rest of the fee; it goes back to the buyer")
    above_ceiling_micros = models.BigIntegerField(
        default=0, help_text="of what is unpaid: delivered, but above the ceiling of cost recovery"
    )
    rule_version = models.CharField(max_length=20)
    evidence_hash = models.BinaryField(max_length=32)
    breach_at = models.DateTimeField(null=True, blank=True)
    judged_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="breach_has_its_instant", condition=Q(is_breach=False) | ~Q(breach_at=None)),
            models.CheckConstraint(
                name="verdict_money_is_not_negative", condition=Q(earned_micros__gte=0) & Q(unpaid_micros__gte=0)
            ),
            models.CheckConstraint(
                name="verdict_fails_checks_that_were_made", condition=Q(checks_failed__lte=F("checks"))
            ),
            models.CheckConstraint(
                name="verdict_returns_what_lies_above_the_ceiling",
                condition=Q(above_ceiling_micros__gte=0) & Q(above_ceiling_micros__lte=F("unpaid_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"{'breach' if self.is_breach else 'verdict'} on {self.lease}"


CREDIT_KINDS = ("availability", "performance", "target", "egress")
OUTCOMES = ("kept", "broken", "unknown")


class Recheck(models.Model):
    """One performance re-check of a running lease: what its panel measured in six hours, and what that returns."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="rechecks")
    interval = models.PositiveIntegerField(help_text="0, 1, 2 ... from the lease's first slot, six hours each")
    proven_ops = models.BigIntegerField(help_text="the attested score it is compared with")
    first_ops = models.BigIntegerField(help_text="median of the verifiers")
    second_ops = models.BigIntegerField(null=True, blank=True)
    reports = models.PositiveSmallIntegerField(help_text="verifiers that measured")
    has_failed = models.BooleanField(help_text="both tries under 90 % of the proven score")
    interval_fee_micros = models.BigIntegerField()
    shortfall_micros = models.BigIntegerField(help_text="what is missing, of the interval's fee")
    evidence_hash = models.BinaryField(max_length=32)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "interval"]
        constraints = [
            models.UniqueConstraint(name="an_interval_is_checked_once", fields=["lease", "interval"]),
            models.CheckConstraint(
                name="only_a_failed_check_falls_short",
                condition=Q(has_failed=False, shortfall_micros=0)
                | Q(has_failed=True, shortfall_micros__gte=0, shortfall_micros__lte=F("interval_fee_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"re-check {self.interval} of {self.lease}"


class TargetVerdict(models.Model):
    """What became of one typed target of a lease: of a share once, of a late start, repair or notice once per event.

    A broken one stands from when nothing can mend it; what is not broken is judged at the close. Append-only.
    """

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="target_verdicts")
    target = models.CharField(max_length=40, help_text="its name on the menu")
    bound = models.PositiveIntegerField(help_text="as promised, in the unit that the name ends with")
    outcome = models.CharField(max_length=8, choices=[(o, o) for o in OUTCOMES])
    event_minute = models.PositiveIntegerField(default=0, help_text="of the lease, in which the event began")
    last_minute = models.PositiveIntegerField(default=0, help_text="of the lease, to which it was seen to last")
    measured = models.BigIntegerField(null=True, help_text="in the unit of the bound; null: nothing was measured")
    missed = models.PositiveIntegerField(help_text="minutes or checks that missed the bound; bad minutes of an event")
    known = models.PositiveIntegerField(help_text="minutes or checks of which enough is known")
    allowed = models.PositiveIntegerField(help_text="a share is broken by more than this")
    credit_bps = models.PositiveIntegerField(default=0, help_text="of the period's fee")
    credit_micros = models.BigIntegerField(default=0)
    evidence = models.JSONField(help_text="what it rests on; its canonical JSON is hashed")
    evidence_hash = models.BinaryField(max_length=32)
    rule_version = models.CharField(max_length=20)
    broken_at = models.DateTimeField(null=True, blank=True, help_text="end of the slot in which it became certain")
    judged_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "target", "event_minute"]
        constraints = [
            models.UniqueConstraint(name="an_event_is_judged_once", fields=["lease", "target", "event_minute"]),
            models.CheckConstraint(name="target_outcome_is_known", condition=Q(outcome__in=OUTCOMES)),
            models.CheckConstraint(
                name="only_a_broken_target_is_credited",
                condition=Q(outcome="broken", credit_bps__gte=1, credit_micros__gte=1) & ~Q(broken_at=None)
                | ~Q(outcome="broken") & Q(credit_bps=0, credit_micros=0, broken_at=None),
            ),
            models.CheckConstraint(
                name="target_misses_what_is_known", condition=Q(missed__lte=F("known")) & Q(known__gte=0)
            ),
            models.CheckConstraint(
                name="target_event_runs_forward", condition=Q(last_minute__gte=F("event_minute"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target} of {self.lease}: {self.outcome}"


class EarlyCredit(models.Model):
    """A part of a running lease's credit that is certain before the lease ends, and therefore posted at once.

    A step of its availability, the shortfall of one failed re-check, a broken target, or an hour in which pinned data
    left.
    """

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="early_credits")
    kind = models.CharField(max_length=12, default="availability", choices=[(k, k) for k in CREDIT_KINDS])
    period = models.PositiveSmallIntegerField(
        default=0, help_text="0 for availability; a re-check's interval; counts targets; an hour of egress"
    )
    target_verdict = models.OneToOneField(
        TargetVerdict, null=True, blank=True, on_delete=models.PROTECT, related_name="early_credit"
    )
    step_bps = models.PositiveIntegerField(help_text="of the period's fee, this step and those below it together")
    amount_micros = models.BigIntegerField(help_text="what this step adds to the steps before it")
    down_minutes = models.PositiveIntegerField(help_text="so far, by the provider's doing")
    evidence_hash = models.BinaryField(max_length=32)
    broken_at = models.DateTimeField(help_text="end of the slot in which the step became certain")
    made_at = models.DateTimeField()
    intent_key = models.CharField(max_length=120, default="", help_text="the settle call that carries it")
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["lease", "kind", "period", "step_bps"]
        constraints = [
            models.UniqueConstraint(name="a_step_is_credited_once", fields=["lease", "kind", "period", "step_bps"]),
            models.CheckConstraint(name="early_credit_is_positive", condition=Q(amount_micros__gte=1)),
            models.CheckConstraint(
                name="early_credit_is_of_a_known_step",
                condition=Q(kind="availability", step_bps__in=(1000, 2500, 10_000))
                | Q(kind__in=("performance", "egress"), step_bps=0)
                | Q(kind="target", step_bps__in=(500, 1000)),
            ),
            models.CheckConstraint(
                name="credit_of_a_target_names_its_verdict",
                condition=Q(kind="target") & ~Q(target_verdict=None) | ~Q(kind="target") & Q(target_verdict=None),
            ),
            models.CheckConstraint(
                name="posted_credit_has_its_call", condition=Q(posted_at=None) | ~Q(intent_key="")
            ),
        ]

    def __str__(self) -> str:
        if self.target_verdict is not None:
            return f"{self.target_verdict} at once"
        other = f"egress in hour {self.period}" if self.kind == "egress" else f"shortfall of check {self.period}"
        what = f"{self.step_bps / 100:g} %" if self.step_bps else other
        return f"{what} of {self.lease} at once"


class Credit(models.Model):
    """Money returned for a broken SLA. Nobody has to claim it."""

    SOURCES = ("escrow", "holdback")
    id = models.UUIDField(primary_key=True)
    verdict = models.OneToOneField(Verdict, on_delete=models.PROTECT, related_name="credit")
    step_bps = models.PositiveIntegerField()
    amount_micros = models.BigIntegerField()
    performance_micros = models.BigIntegerField(default=0, help_text="of the amount, shortfalls of failed re-checks")
    targets_micros = models.BigIntegerField(default=0, help_text="of the amount, for broken targets")
    egress_micros = models.BigIntegerField(default=0, help_text="of the amount, hours in which pinned data left")
    source = models.CharField(max_length=10, choices=[(s, s) for s in SOURCES])
    posted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="credit_is_positive", condition=Q(amount_micros__gte=1)),
            models.CheckConstraint(name="credit_source_is_known", condition=Q(source__in=("escrow", "holdback"))),
            models.CheckConstraint(
                name="performance_is_part_of_its_credit",
                condition=Q(performance_micros__gte=0) & Q(performance_micros__lte=F("amount_micros")),
            ),
            models.CheckConstraint(
                name="targets_are_part_of_their_credit",
                condition=Q(targets_micros__gte=0, targets_micros__lte=F("amount_micros") - F("performance_micros")),
            ),
            models.CheckConstraint(
                name="egress_is_part_of_its_credit",
                condition=Q(egress_micros__gte=0)
                & Q(egress_micros__lte=F("amount_micros") - F("performance_micros") - F("targets_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"credit of {self.step_bps / 100:g} % on {self.verdict.lease}"


class EvidenceDay(models.Model):
    """The root over the evidence of every verdict of a UTC day, and the transaction that made it public."""

    day = models.DateField(primary_key=True)
    root = models.BinaryField(max_length=32, help_text="Merkle root over the verdicts' evidence hashes by id")
    verdicts = models.PositiveIntegerField()
    anchor_number = models.BigIntegerField(unique=True, help_text="under which the anchor contract keeps it")
    intent_key = models.CharField(max_length=120, unique=True)
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["-day"]
        constraints = [models.CheckConstraint(name="evidence_day_has_verdicts", condition=Q(verdicts__gte=1))]
