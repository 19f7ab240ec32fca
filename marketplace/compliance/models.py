"""Compliance as rows: controls, evidence and its review, data classes, agreements, zone lists, incidents.

Every span of time is half open: a thing holds from `valid_from` until just before `valid_until`.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from marketplace.catalogue.models import ResourceClass, Tier, Zone
from marketplace.parties.models import PROVIDER_KINDS, Party, Seat

CONTROL_KINDS = ("control", "legal_control", "agreement", "pack", "attribute")
NOTICE = timedelta(hours=72)
CODE = r"^[a-z0-9][a-z0-9-]{1,39}$"


class Control(models.Model):
    """Something that evidence can show or two parties can sign. A new one is a row, not code."""

    code = models.CharField(max_length=40, primary_key=True)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, choices=[(k, k.replace("_", " ")) for k in CONTROL_KINDS])
    asks = models.CharField(max_length=300, help_text="what the evidence has to show")
    source = models.CharField(max_length=200)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(name="control_kind_is_known", condition=Q(kind__in=CONTROL_KINDS)),
            models.CheckConstraint(name="control_code_is_a_word", condition=Q(code__regex=CODE)),
        ]

    def __str__(self) -> str:
        return self.name


class TierControl(models.Model):
    """One control that a tier asks for, besides all that the tiers below it ask for."""

    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, related_name="asked_controls")
    control = models.ForeignKey(Control, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["tier", "control"]
        constraints = [models.UniqueConstraint(name="a_tier_asks_once_for_a_control", fields=["control"])]


class TierZone(models.Model):
    """A zone in which a tier is offered. A tier without any is offered everywhere."""

    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, related_name="zones")
    zone = models.ForeignKey(Zone, on_delete=models.PROTECT, related_name="tier_offers")

    class Meta:
        ordering = ["tier", "zone"]
        constraints = [models.UniqueConstraint(name="a_tier_is_offered_once_in_a_zone", fields=["tier", "zone"])]


class KindLimit(models.Model):
    """The highest tier that a kind of provider may hold, whatever it shows."""

    kind = models.CharField(max_length=20, primary_key=True)
    tier_max = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=200)

    class Meta:
        ordering = ["kind"]
        constraints = [
            models.CheckConstraint(
                name="kind_limit_is_of_a_provider", condition=Q(kind__in=PROVIDER_KINDS) & Q(tier_max__lte=3)
            )
        ]


class DataClass(models.Model):
    """What kind of data a workload touches, and the least that it needs."""

    code = models.CharField(max_length=40, primary_key=True)
    name = models.CharField(max_length=120)
    tier_min = models.PositiveSmallIntegerField()
    controls = ArrayField(models.CharField(max_length=40), default=list, help_text="beside those of the tier")
    agreement = models.ForeignKey(
        Control, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="what buyer and provider must both have signed",
    )  # fmt: skip
    zone = models.ForeignKey(
        Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="where it may go"
    )
    is_refused = models.BooleanField(default=False)
    source = models.CharField(max_length=200)

    class Meta:
        ordering = ["tier_min", "code"]
        verbose_name_plural = "data classes"
        constraints = [
            models.CheckConstraint(
                name="data_class_is_a_word_with_a_tier", condition=Q(code__regex=CODE) & Q(tier_min__lte=3)
            )
        ]

    def __str__(self) -> str:
        return self.name


class Evidence(models.Model):
    """A document that shows a control for a site, or for all sites of a provider. Never changed; see its review."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="evidence")
    site = models.ForeignKey(
        "marketplace.Site", null=True, blank=True, on_delete=models.PROTECT, related_name="evidence"
    )
    control = models.ForeignKey(Control, on_delete=models.PROTECT, related_name="evidence")
    country = models.CharField(max_length=2, default="", blank=True, help_text="of a legal control: what it shows")
    issuer = models.CharField(max_length=120)
    file_name = models.CharField(max_length=120)
    sha256 = models.BinaryField(max_length=32)
    body = models.BinaryField()
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField()
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+", help_text="who handed it in")
    submitted_at = models.DateTimeField()

    class Meta:
        ordering = ["-submitted_at", "-id"]
        verbose_name_plural = "evidence"
        constraints = [
            models.CheckConstraint(name="evidence_ends_after_it_begins", condition=Q(valid_until__gt=F("valid_from"))),
            models.CheckConstraint(
                name="evidence_is_submitted_before_it_ends", condition=Q(submitted_at__lt=F("valid_until"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.control_id} of {self.party.slug}"


class EvidenceReview(models.Model):
    """A second person's word on a piece of evidence. There is one, and it stays."""

    evidence = models.OneToOneField(Evidence, on_delete=models.PROTECT, primary_key=True, related_name="review")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    is_accepted = models.BooleanField()
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="evidence_review_has_a_reason", condition=~Q(reason=""))]


class EvidenceEnd(models.Model):
    """Evidence that no longer holds before its time: taken back by its party, or revoked."""

    evidence = models.OneToOneField(Evidence, on_delete=models.PROTECT, primary_key=True, related_name="end")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="evidence_end_has_a_reason", condition=~Q(reason=""))]


class Agreement(models.Model):
    """A contract between a buyer and a provider, such as a business associate agreement; in force once both signed."""

    id = models.UUIDField(primary_key=True)
    control = models.ForeignKey(Control, on_delete=models.PROTECT, related_name="agreements")
    buyer = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="agreements_as_buyer")
    provider = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="agreements_as_provider")
    purposes = ArrayField(models.CharField(max_length=40), help_text="what the data may be used for")
    file_name = models.CharField(max_length=120)
    sha256 = models.BinaryField(max_length=32)
    body = models.BinaryField()
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField()
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+", help_text="who proposed it")
    proposed_at = models.DateTimeField()

    class Meta:
        ordering = ["-proposed_at", "-id"]
        constraints = [
            models.CheckConstraint(name="agreement_ends_after_it_begins", condition=Q(valid_until__gt=F("valid_from"))),
            models.CheckConstraint(name="agreement_names_its_purposes", condition=Q(purposes__len__gte=1)),
            models.CheckConstraint(name="agreement_is_between_two", condition=~Q(buyer=F("provider"))),
        ]


class AgreementSignature(models.Model):
    """One party's signature under an agreement, by a seat that may sign."""

    agreement = models.ForeignKey(Agreement, on_delete=models.PROTECT, related_name="signatures")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="+")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    title = models.CharField(max_length=80, help_text="in what office the person signs")
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "id"]
        constraints = [models.UniqueConstraint(name="a_party_signs_an_agreement_once", fields=["agreement", "party"])]


class AgreementEnd(models.Model):
    """An agreement ended before its time by one of its parties."""

    agreement = models.OneToOneField(Agreement, on_delete=models.PROTECT, primary_key=True, related_name="end")
    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="agreement_end_has_a_reason", condition=~Q(reason=""))]


class ZoneChange(models.Model):
    """One version of a zone's member list: what it added and removed, from which day, and after which source."""

    zone = models.ForeignKey(Zone, on_delete=models.PROTECT, related_name="changes")
    version = models.PositiveIntegerField()
    valid_from = models.DateField()
    added = ArrayField(models.CharField(max_length=2), default=list)
    removed = ArrayField(models.CharField(max_length=2), default=list)
    source = models.CharField(max_length=200)
    person = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]
        constraints = [
            models.UniqueConstraint(name="zone_versions_count_up", fields=["zone", "version"]),
            models.CheckConstraint(name="zone_change_has_a_source", condition=~Q(source="")),
        ]

    def __str__(self) -> str:
        return f"{self.zone_id} version {self.version}"


class ZoneReport(models.Model):
    """What a changed list did to open demands and running leases."""

    change = models.OneToOneField(ZoneChange, on_delete=models.PROTECT, primary_key=True, related_name="report")
    demands = models.JSONField(default=list, help_text="capacity that could serve each open demand, before and after")
    leases = models.JSONField(default=list, help_text="running leases that the list no longer allows, and why")
    at = models.DateTimeField()


class Incident(models.Model):
    """Something went wrong with a provider or a product. While frozen nothing of it is awarded."""

    id = models.UUIDField(primary_key=True)
    title = models.CharField(max_length=160)
    party = models.ForeignKey(Party, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents")
    resource_class = models.ForeignKey(
        ResourceClass, null=True, blank=True, on_delete=models.PROTECT, related_name="incidents"
    )
    zone = models.ForeignKey(Zone, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    tier = models.PositiveSmallIntegerField(null=True, blank=True)
    discovered_at = models.DateTimeField()
    notify_by = models.DateTimeField(help_text="72 hours after it was discovered")
    opened_at = models.DateTimeField()
    opened_by = models.CharField(max_length=120)
    is_frozen = models.BooleanField(default=False)
    notified_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    post_mortem_url = models.URLField(max_length=300, default="", blank=True)

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.CheckConstraint(
                name="incident_is_about_a_provider_or_a_product",
                condition=Q(party__isnull=False) | Q(resource_class__isnull=False),
            ),
            models.CheckConstraint(
                name="incident_of_a_product_names_its_class",
                condition=Q(resource_class__isnull=False) | (Q(zone=None) & Q(tier=None)),
            ),
            models.CheckConstraint(
                name="closed_incident_has_its_post_mortem",
                condition=Q(closed_at=None) | (~Q(post_mortem_url="") & Q(is_frozen=False)),
            ),
            models.CheckConstraint(
                name="incident_clock_is_72_hours", condition=Q(notify_by=F("discovered_at") + NOTICE)
            ),
        ]

    def __str__(self) -> str:
        return self.title


class IncidentStep(models.Model):
    """One thing that was done about an incident, by whom and why; append-only."""

    STEPS = ("opened", "frozen", "thawed", "notified", "closed")
    incident = models.ForeignKey(Incident, on_delete=models.PROTECT, related_name="steps")
    step = models.CharField(max_length=10, choices=[(s, s) for s in STEPS])
    person = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(name="incident_step_has_person_and_reason", condition=~Q(person="") & ~Q(reason=""))
        ]
