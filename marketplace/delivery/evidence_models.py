"""What the live market knows of running leases: signed statements as they came, and what they add up to.

The machine of a lease is its node class, which has one key. Statements are only ever added; health and tallies are made
anew from them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.escrow.models import Lease
from marketplace.parties.models import Party
from marketplace.supply.models import NodeClass
from pricing.metering import FULL_WORD

HEALTH_STATES = ("HEALTHY", "SUSPECT", "FAILED")
SOURCES = ("provider", "buyer")
CASE_STATES = ("OPEN", "DECIDED")
OUTCOMES = ("agreed", "two_of_three", "people")  # new evidence settled it; the sources voted; a person decided
STOP_REASONS = ("stopped", "over_quota", "unfunded")


class WitnessKey(models.Model):
    """The Ed25519 key by which a verifier signs its probes, or a buyer its counter-readings."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="witness_keys")
    public_key = models.BinaryField(max_length=32, unique=True)
    enrolled_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["enrolled_at", "id"]
        constraints = [
            models.UniqueConstraint(
                name="a_party_has_one_witness_key", fields=["party"], condition=Q(revoked_at=None)
            )
        ]


class ProbeDay(models.Model):
    """The secret from which a UTC day's probe seconds and panels are drawn: committed to before, shown afterwards."""

    day = models.DateField(primary_key=True)
    commitment = models.BinaryField(max_length=32, help_text="SHA-256 over day and secret")
    locked = models.BinaryField(help_text="the secret under the market's key, with the version of that key before it")
    organisations = models.JSONField(help_text="verifiers that may be drawn on this day")
    committed_at = models.DateTimeField()
    revealed = models.BinaryField(max_length=32, null=True, blank=True)
    revealed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-day"]
        constraints = [
            models.CheckConstraint(
                name="revealed_day_secret_has_its_time",
                condition=Q(revealed=None, revealed_at=None) | (~Q(revealed=None) & ~Q(revealed_at=None)),
            )
        ]


class Pulse(models.Model):
    """The last heartbeat of a node class."""

    node_class = models.OneToOneField(NodeClass, on_delete=models.PROTECT, primary_key=True, related_name="pulse")
    sequence = models.BigIntegerField()
    sent_at = models.DateTimeField()
    received_at = models.DateTimeField()
    devices = models.JSONField(help_text="lease: devices of that lease that answer, by the machine's own word")
    probe_address = models.CharField(max_length=200)
    workload_address = models.CharField(max_length=200)
    body = models.BinaryField(help_text="as signed")
    signature = models.BinaryField(max_length=64)

    class Meta:
        constraints = [models.CheckConstraint(name="pulse_sequence_starts_at_one", condition=Q(sequence__gte=1))]


class LeaseHealth(models.Model):
    """How the machine of a lease stands now; see `pricing.health`. `base_*` is how it stood before the last round."""

    lease = models.OneToOneField(Lease, on_delete=models.PROTECT, primary_key=True, related_name="health")
    state = models.CharField(max_length=8, default="HEALTHY", choices=[(s, s) for s in HEALTH_STATES])
    since = models.DateTimeField()
    good_minutes = models.PositiveSmallIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    round_minute_at = models.DateTimeField(null=True, blank=True, help_text="minute of the last round of probes")
    base_state = models.CharField(max_length=8, default="HEALTHY", choices=[(s, s) for s in HEALTH_STATES])
    base_since = models.DateTimeField()
    base_good_minutes = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="health_state_is_known", condition=Q(state__in=HEALTH_STATES) & Q(base_state__in=HEALTH_STATES)
            )
        ]

    @property
    def is_billed(self) -> bool:
        """Whether minutes are billed at once; those paused as SUSPECT that prove good are billed afterwards."""
        return self.state == "HEALTHY"


class HealthEvent(models.Model):
    """One change of health, with what caused it; append-only."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="health_events")
    from_state = models.CharField(max_length=8)
    to_state = models.CharField(max_length=8)
    reason = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="health_event_is_a_change_with_a_reason", condition=~Q(reason="") & ~Q(from_state=F("to_state"))
            )
        ]


class ProbeReport(models.Model):
    """What one verifier saw of a lease at one instant; append-only."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="probe_reports")
    verifier = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="probe_reports")
    slot = models.IntegerField()
    minute_at = models.DateTimeField()
    attempt = models.PositiveSmallIntegerField(help_text="1 at the secret second, 2 its retry, 3 for a suspicion")
    anchors_ok = models.BooleanField()
    is_valid = models.BooleanField(help_text="its anchors and its clock were good")
    echo_ok = models.BooleanField(help_text="the machine's own key answered the nonce")
    port_ok = models.BooleanField()
    devices = models.IntegerField()
    echo_ms = models.PositiveIntegerField(null=True, help_text="from asking to the echo; null: none, or not measured")
    has_failed = models.BooleanField(help_text="no echo, no workload, or fewer devices than were leased")
    body = models.BinaryField(help_text="as signed")
    signature = models.BinaryField(max_length=64)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["minute_at", "id"]
        constraints = [
            models.UniqueConstraint(
                name="one_probe_per_verifier_minute_and_attempt", fields=["lease", "minute_at", "verifier", "attempt"]
            ),
            models.CheckConstraint(name="probe_attempt_is_one_of_three", condition=Q(attempt__in=(1, 2, 3))),
        ]


class SlotReport(models.Model):
    """A signed reading of one slot as it came, from the provider's machine or the buyer's counter; append-only."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="slot_reports")
    slot = models.IntegerField()
    source = models.CharField(max_length=8, choices=[(s, s) for s in SOURCES])
    sequence = models.BigIntegerField()
    up_word = models.BigIntegerField(help_text="bit m: minute m was up, says this source")
    body = models.BinaryField(help_text="as signed")
    signature = models.BinaryField(max_length=64)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "slot", "source"]
        constraints = [
            models.UniqueConstraint(name="one_slot_report_per_source", fields=["lease", "slot", "source"]),
            models.CheckConstraint(name="slot_report_source_is_known", condition=Q(source__in=SOURCES)),
            models.CheckConstraint(
                name="slot_report_has_sixty_minutes", condition=Q(up_word__gte=0) & Q(up_word__lte=FULL_WORD)
            ),
        ]


class SlotTally(models.Model):
    """What the evidence of one slot of a lease adds up to so far. Bit m of a word is minute m.

    Made anew from the statements whenever one arrives, so the order in which they came leaves no trace. Once it is
    rated its figures stand in a Reading and no more evidence is taken.
    """

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="tallies")
    slot = models.IntegerField()
    units = models.BigIntegerField()
    amount_micros = models.BigIntegerField(help_text="fee of this slot when fully delivered")
    most_micros = models.BigIntegerField(default=0, help_text="what funding lets be paid for it at most")
    provider_up = models.BigIntegerField(null=True, blank=True, help_text="null until its reading came")
    buyer_up = models.BigIntegerField(null=True, blank=True, help_text="null without a counter-reading")
    probe_valid = models.JSONField(help_text="one word per seat of the panel: minutes with a valid report")
    probe_failed = models.JSONField(help_text="one word per seat of the panel: minutes whose report failed")
    is_complete = models.BooleanField(default=False, help_text="every seat has reported every minute")
    down_word = models.BigIntegerField(default=0, help_text="minutes that the probes call down")
    known_word = models.BigIntegerField(default=0, help_text="minutes of which the probes know enough")
    unknown_word = models.BigIntegerField(help_text="other minutes, unless provider and buyer both call them up")
    causes = models.JSONField(default=dict, help_text="cause: word of bad minutes that are its doing")
    echo_ms = models.JSONField(default=list, help_text="median echo time of each minute, null where nobody knows")
    billable_word = models.BigIntegerField(default=0)
    held_word = models.BigIntegerField(default=0, help_text="the sources disagree, or only one of them saw it")
    disputed_word = models.BigIntegerField(default=0, help_text="of the held ones: two sources contradict one another")
    minutes_billable = models.PositiveSmallIntegerField(default=0)
    minutes_held = models.PositiveSmallIntegerField(default=0)
    minutes_unpaid = models.PositiveSmallIntegerField(default=60)
    billed_micros = models.BigIntegerField(default=0)
    held_micros = models.BigIntegerField(default=0)
    unpaid_micros = models.BigIntegerField()
    evidence_at = models.DateTimeField(help_text="when the last statement came")
    rated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["lease", "slot"]
        constraints = [
            models.UniqueConstraint(name="one_tally_per_lease_and_slot", fields=["lease", "slot"]),
            models.CheckConstraint(
                name="tally_money_is_billed_held_or_unpaid",
                condition=Q(amount_micros=F("billed_micros") + F("held_micros") + F("unpaid_micros"))
                & Q(billed_micros__gte=0) & Q(held_micros__gte=0) & Q(unpaid_micros__gte=0),
            ),
            models.CheckConstraint(
                name="tally_minutes_fill_the_hour",
                condition=Q(minutes_billable=60 - F("minutes_held") - F("minutes_unpaid")),
            ),
            models.CheckConstraint(name="rated_tally_holds_nothing", condition=Q(rated_at=None) | Q(held_micros=0)),
        ]  # fmt: skip


class CheckReport(models.Model):
    """What one verifier measured of a running lease's machine in one interval of six hours; append-only."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="check_reports")
    verifier = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="check_reports")
    interval = models.PositiveIntegerField(help_text="0, 1, 2 ... from the lease's first slot")
    first_ops = models.BigIntegerField(help_text="operations per second")
    second_ops = models.BigIntegerField(null=True, blank=True, help_text="a second try, if the first was too low")
    body = models.BinaryField(help_text="as signed")
    signature = models.BinaryField(max_length=64)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["lease", "interval", "id"]
        constraints = [
            models.UniqueConstraint(
                name="one_check_per_verifier_and_interval", fields=["lease", "interval", "verifier"]
            ),
            models.CheckConstraint(
                name="check_measured_something",
                condition=Q(first_ops__gte=0) & (Q(second_ops=None) | Q(second_ops__gte=0)),
            ),
        ]


class DeliveryCase(models.Model):
    """A slot about which two sources contradict one another; what they differ by stays held until it is decided."""

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="delivery_cases")
    slot = models.IntegerField()
    disputed_word = models.BigIntegerField(help_text="minutes in dispute when it was opened")
    held_micros = models.BigIntegerField(help_text="held when it was opened")
    opened_at = models.DateTimeField()
    decide_by = models.DateTimeField(help_text="72 h after the last new evidence two of three sources decide")
    state = models.CharField(max_length=8, default="OPEN", choices=[(s, s) for s in CASE_STATES])
    outcome = models.CharField(max_length=12, default="", blank=True)
    billed_word = models.BigIntegerField(null=True, blank=True, help_text="held minutes that are billed after all")
    decided_by = models.CharField(max_length=120, default="", blank=True)
    reason = models.CharField(max_length=300, default="", blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-opened_at", "id"]
        constraints = [
            models.UniqueConstraint(name="one_case_per_lease_and_slot", fields=["lease", "slot"]),
            models.CheckConstraint(
                name="decided_case_says_how_who_and_why",
                condition=Q(state="OPEN", outcome="", decided_at=None)
                | (
                    Q(state="DECIDED", outcome__in=OUTCOMES) & ~Q(decided_at=None) & ~Q(billed_word=None)
                    & ~Q(decided_by="") & ~Q(reason="")
                ),
            ),
        ]  # fmt: skip

    @property
    def disputed_minutes(self) -> int:
        return self.disputed_word.bit_count()

    @property
    def billed_minutes(self) -> int | None:
        """Minutes that a decision billed after all; None before it."""
        return None if self.billed_word is None else self.billed_word.bit_count()


class MaintenanceNotice(models.Model):
    """A span in which a provider announces that its machines will be down; append-only."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="maintenance_notices")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200)
    announced_at = models.DateTimeField()

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="maintenance_runs_forward_and_says_why", condition=Q(ends_at__gt=F("starts_at")) & ~Q(reason="")
            )
        ]


class BuyerStop(models.Model):
    """The buyer's own record that it does not use a lease for a span: stopped, over quota or unfunded; append-only."""

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="buyer_stops")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=12, choices=[(s, s) for s in STOP_REASONS])
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="buyer_stop_runs_forward_and_says_why",
                condition=Q(ends_at__gt=F("starts_at")) & Q(reason__in=STOP_REASONS),
            )
        ]


LEASE_CAUSES = ("BUYER", "NETWORK")
CLASS_CAUSES = ("FORCE_MAJEURE",)


class JudgedCause(models.Model):
    """One judge's signature that bad minutes were not the provider's doing; two of them count; append-only.

    The buyer's and the network's are signed for a lease, a force majeure for a node class and every lease on it.
    """

    id = models.UUIDField(primary_key=True)
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="judged_causes", null=True, blank=True)
    node_class = models.ForeignKey(
        NodeClass, on_delete=models.PROTECT, related_name="judged_causes", null=True, blank=True
    )
    cause = models.CharField(max_length=16, choices=[(each, each.lower()) for each in (*LEASE_CAUSES, *CLASS_CAUSES)])
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    person = models.CharField(max_length=120)
    evidence = models.CharField(max_length=300)
    signed_at = models.DateTimeField()

    class Meta:
        ordering = ["starts_at", "person", "id"]
        constraints = [
            models.UniqueConstraint(
                name="a_judge_signs_a_cause_once",
                fields=["lease", "node_class", "cause", "starts_at", "ends_at", "person"], nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="judged_cause_is_known",
                condition=(Q(cause__in=LEASE_CAUSES, node_class=None) & ~Q(lease=None))
                | (Q(cause__in=CLASS_CAUSES, lease=None) & ~Q(node_class=None)),
            ),
            models.CheckConstraint(
                name="judged_cause_has_person_and_evidence",
                condition=Q(ends_at__gt=F("starts_at")) & ~Q(person="") & ~Q(evidence=""),
            ),
        ]  # fmt: skip
