"""Machine keys over time: codes that let a machine in, and every change of the key a node class signs with."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from marketplace.supply.models import NodeClass

CHANGES = ("enrolled", "rotated", "revoked")


class Enrolment(models.Model):
    """A one-time code for one node class, and the key that claimed it until a person has compared fingerprints."""

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="enrolments")
    code_sha256 = models.BinaryField(max_length=32, unique=True)
    is_for_a_unit = models.BooleanField(default=False, help_text="lets in one more prover, not the machine that meters")
    replaces = models.ForeignKey(
        "UnitProver", null=True, blank=True, on_delete=models.PROTECT, related_name="successors",
        help_text="the unit's prover that ends when this key is accepted",
    )
    made_by = models.CharField(max_length=120)
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    public_key = models.BinaryField(max_length=32, null=True, help_text="Ed25519, of the machine that claimed the code")
    claimed_at = models.DateTimeField(null=True, blank=True)
    is_accepted = models.BooleanField(null=True)
    decided_by = models.CharField(max_length=120, blank=True, default="")
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        constraints = [
            models.CheckConstraint(
                name="enrolment_code_ends_after_it_begins", condition=Q(expires_at__gt=F("made_at"))
            ),
            models.CheckConstraint(
                name="only_a_units_key_replaces_a_units", condition=Q(replaces=None) | Q(is_for_a_unit=True)
            ),
            models.CheckConstraint(
                name="enrolment_is_claimed_by_a_key",
                condition=Q(claimed_at=None, public_key=None) | (~Q(claimed_at=None) & ~Q(public_key=None)),
            ),
            models.CheckConstraint(
                name="enrolment_is_decided_by_a_person_once_claimed",
                condition=Q(decided_at=None, is_accepted=None, decided_by="")
                | (~Q(decided_at=None) & ~Q(is_accepted=None) & ~Q(decided_by="") & ~Q(claimed_at=None)),
            ),
        ]

    @property
    def state(self) -> str:
        """Where it stands: `open`, `waiting` for a person, `accepted` or `refused`."""
        if self.is_accepted is not None:
            return "accepted" if self.is_accepted else "refused"
        return "waiting" if self.claimed_at else "open"


class UnitProver(models.Model):
    """What answers roll calls for one more unit of a node class, under a key of its own.

    The machine that meters answers for the first unit; each further one that is sold has a row here. `seen_at` and what
    stands below it come with its heartbeats; the rest never changes, but that it is retired.
    """

    enrolment = models.OneToOneField(
        Enrolment, on_delete=models.PROTECT, primary_key=True, related_name="unit_prover"
    )
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="unit_provers")
    number = models.PositiveIntegerField(help_text="2 is the first: 1 is the machine that meters")
    public_key = models.BinaryField(max_length=32, unique=True, help_text="Ed25519")
    enrolled_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)
    retired_for = models.CharField(max_length=300, blank=True, default="")
    sequence = models.BigIntegerField(default=0, help_text="of its last heartbeat")
    seen_at = models.DateTimeField(null=True, blank=True)
    probe_address = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["node_class", "number", "enrolment"]
        constraints = [
            models.UniqueConstraint(
                name="a_unit_has_one_prover", fields=["node_class", "number"], condition=Q(retired_at=None)
            ),
            models.CheckConstraint(name="unit_prover_comes_after_the_meter", condition=Q(number__gte=2)),
            models.CheckConstraint(
                name="unit_prover_is_retired_for_a_reason",
                condition=Q(retired_at=None, retired_for="") | (~Q(retired_at=None) & ~Q(retired_for="")),
            ),
        ]

    def __str__(self) -> str:
        return f"unit {self.number} of {self.node_class}"

    def stood_at(self, at: datetime) -> bool:
        """Whether it was enrolled, and not retired, at a moment."""
        return self.enrolled_at <= at and (self.retired_at is None or self.retired_at > at)


class MachineKeyChange(models.Model):
    """One change of a node class's machine key; append-only. A key that was ever in use is never taken again."""

    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="key_changes")
    kind = models.CharField(max_length=8, choices=[(each, each) for each in CHANGES])
    public_key = models.BinaryField(max_length=32, help_text="the key from now on; of a revocation the one that ended")
    previous = models.BinaryField(max_length=32, null=True, help_text="of a rotation: the key that signed for the new")
    actor = models.CharField(max_length=120)
    reason = models.CharField(max_length=300)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(name="machine_key_change_is_known", condition=Q(kind__in=CHANGES)),
            models.CheckConstraint(
                name="machine_key_change_names_who_and_why", condition=~Q(actor="") & ~Q(reason="")
            ),
            models.CheckConstraint(
                name="a_rotation_and_nothing_else_follows_a_key",
                condition=(Q(kind="rotated") & ~Q(previous=None)) | (~Q(kind="rotated") & Q(previous=None)),
            ),
            models.UniqueConstraint(
                name="a_machine_key_is_taken_into_use_once", fields=["public_key"],
                condition=Q(kind__in=("enrolled", "rotated")),
            ),
        ]  # fmt: skip


def revoked_without_successor(node_class: NodeClass) -> bool:
    """Whether its key was revoked and no new one enrolled since: nothing it proves counts meanwhile."""
    last = MachineKeyChange.objects.filter(node_class=node_class).order_by("id").last()
    return last is not None and last.kind == "revoked"


def reenrolled_at(node_class: NodeClass) -> datetime | None:
    """When it last enrolled a key after a revocation: older proofs are void. None if no key was ever revoked."""
    changes = MachineKeyChange.objects.filter(node_class=node_class)
    if not changes.filter(kind="revoked").exists():
        return None
    return changes.filter(kind="enrolled").order_by("id").values_list("at", flat=True).last()
