"""A benchmark that the market asked for: who sits over it, on which terms, and what each verifier handed in."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from marketplace.supply.models import Benchmark, NodeClass
from marketplace.supply.proof_models import VerifierSeat


class Challenge(models.Model):
    """The market's question to one node class; its nonce goes into the seed. Append-only.

    `token`, with a seat's address, makes the word by which that verifier is let in at the machine.
    """

    id = models.UUIDField(primary_key=True)
    node_class = models.ForeignKey(NodeClass, on_delete=models.PROTECT, related_name="challenges")
    epoch = models.PositiveIntegerField()
    nonce = models.BinaryField(max_length=32)
    terms = models.JSONField(help_text="what verifiers are to attest, as they are told it")
    preset = models.JSONField(help_text="the chain that is asked for")
    prover_url = models.CharField(max_length=200)
    certificate = models.CharField(max_length=64, help_text="SHA-256 in hex; empty: an authority signed it")
    token = models.CharField(max_length=64)
    body = models.BinaryField(help_text="the machine's statement, canonical JSON")
    signature = models.BinaryField(max_length=64, help_text="Ed25519 by the machine key")
    opened_at = models.DateTimeField()
    closes_at = models.DateTimeField()

    class Meta:
        ordering = ["-opened_at", "-id"]
        constraints = [
            models.UniqueConstraint(name="a_challenge_has_its_own_epoch", fields=["node_class", "epoch"]),
            models.UniqueConstraint(name="a_challenge_nonce_is_used_once", fields=["nonce"]),
            models.CheckConstraint(name="challenge_is_open_for_a_while", condition=Q(closes_at__gt=F("opened_at"))),
        ]


class ChallengeSeat(models.Model):
    """A verifier drawn for a challenge; append-only."""

    challenge = models.ForeignKey(Challenge, on_delete=models.PROTECT, related_name="seats")
    seat = models.ForeignKey(VerifierSeat, on_delete=models.PROTECT, related_name="challenges")

    class Meta:
        ordering = ["challenge", "seat"]
        constraints = [models.UniqueConstraint(name="a_seat_is_drawn_once", fields=["challenge", "seat"])]


class ChallengeTranscript(models.Model):
    """A transcript that the market checked itself, kept once however many verifiers hand it in; append-only."""

    transcript_hash = models.BinaryField(max_length=32, primary_key=True)
    challenge = models.ForeignKey(Challenge, on_delete=models.PROTECT, related_name="transcripts")
    transcript = models.BinaryField(help_text="canonical bytes in the light form")
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["received_at", "transcript_hash"]


class ChallengeReport(models.Model):
    """One verifier's signed attestation of a challenge, over one transcript; append-only."""

    challenge = models.ForeignKey(Challenge, on_delete=models.PROTECT, related_name="reports")
    seat = models.ForeignKey(VerifierSeat, on_delete=models.PROTECT, related_name="reports")
    transcript = models.ForeignKey(ChallengeTranscript, on_delete=models.PROTECT, related_name="reports")
    v = models.PositiveSmallIntegerField()
    r = models.BinaryField(max_length=32)
    s = models.BinaryField(max_length=32)
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["challenge", "id"]
        constraints = [
            models.UniqueConstraint(name="a_verifier_reports_a_challenge_once", fields=["challenge", "seat"]),
        ]


class ChallengeResult(models.Model):
    """The benchmark that a quorum of the panel made of a challenge; append-only."""

    challenge = models.OneToOneField(Challenge, on_delete=models.PROTECT, related_name="result")
    benchmark = models.OneToOneField(Benchmark, on_delete=models.PROTECT, related_name="challenge")
    settled_at = models.DateTimeField()

    class Meta:
        ordering = ["settled_at", "challenge_id"]
