"""Tables of the seal: what a bid says in ciphertext, a window's public key, and its private key in shares.

Nothing here is secret from whoever reads the database; see `sealing.py` and `holders.py` for what it would take.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.catalogue.models import Window
from marketplace.supply.models import Bid

THRESHOLD, HOLDERS, OUTSIDE = 2, 3, 2  # any two of three shares open a window; two holders are outside organisations


class BidSeal(models.Model):
    """The terms of one bid under its own key, and that key for the window and for the party. Written once."""

    bid = models.OneToOneField(Bid, primary_key=True, on_delete=models.CASCADE, related_name="seal")
    body = models.BinaryField(help_text="the terms, padded to one length, under a key of their own")
    key_for_window = models.BinaryField(help_text="that key, for the window's key; empty once the bid is withdrawn")
    key_for_party = models.BinaryField(help_text="that key, for the party's own copy")
    party_key_version = models.PositiveIntegerField()
    commitment = models.BinaryField(max_length=32, help_text="SHA-256 of the terms and of 32 random bytes among them")

    class Meta:
        constraints = [models.CheckConstraint(name="bid_seal_holds_something", condition=~Q(body=b""))]


class KeyHolder(models.Model):
    """Who keeps a share of each window's key."""

    code = models.SlugField(max_length=40, primary_key=True)
    organisation = models.CharField(max_length=120)
    is_outside = models.BooleanField(help_text="an organisation that the Foundation does not control")
    is_demo = models.BooleanField(default=False, help_text="its key lies on this server: for demos and tests only")
    appointed_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(name="holder_names_its_organisation", condition=~Q(organisation="")),
        ]

    def __str__(self) -> str:
        return f"{self.organisation}{' (demo)' if self.is_demo else ''}"


class HolderKey(models.Model):
    """One public key of a holder; rotation adds the next. Append-only."""

    holder = models.ForeignKey(KeyHolder, on_delete=models.PROTECT, related_name="keys")
    version = models.PositiveIntegerField()
    public_key = models.BinaryField(max_length=32, help_text="X25519")
    since = models.DateTimeField()

    class Meta:
        ordering = ["holder", "version"]
        constraints = [
            models.UniqueConstraint(name="holder_key_is_versioned_once", fields=["holder", "version"]),
        ]


class WindowKey(models.Model):
    """The public key that a window's bids are sealed for. The private one existed until it was split."""

    window = models.OneToOneField(Window, primary_key=True, on_delete=models.PROTECT, related_name="key")
    public_key = models.BinaryField(max_length=32, help_text="X25519")
    made_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="when every share of it was erased")
    ended_by = models.CharField(max_length=20, default="", help_text="opened or failed")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="window_key_ends_by_something", condition=Q(ended_at=None, ended_by="") | (
                    ~Q(ended_at=None) & Q(ended_by__in=("opened", "failed")))
            ),
        ]  # fmt: skip


class WindowShare(models.Model):
    """One holder's share of a window's private key: locked for the holder, and plain once it was released."""

    window_key = models.ForeignKey(WindowKey, on_delete=models.PROTECT, related_name="shares")
    holder_key = models.ForeignKey(HolderKey, on_delete=models.PROTECT, related_name="shares")
    number = models.PositiveSmallIntegerField(help_text="the point of the polynomial")
    locked = models.BinaryField(null=True, help_text="for the holder's key; nothing once lost or erased")
    commitment = models.BinaryField(max_length=32, help_text="SHA-256 of the share")
    released = models.BinaryField(null=True, help_text="the share itself, after bidding has closed")
    released_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(null=True, blank=True)
    lost_because = models.CharField(max_length=300, default="", blank=True)

    class Meta:
        ordering = ["window_key", "number"]
        constraints = [
            models.UniqueConstraint(name="window_share_is_numbered_once", fields=["window_key", "number"]),
            models.CheckConstraint(
                name="window_share_is_one_of_three", condition=Q(number__gte=1) & Q(number__lte=HOLDERS)
            ),
            models.CheckConstraint(
                name="released_share_has_its_time", condition=Q(released=None) | ~Q(released_at=None)
            ),
            models.CheckConstraint(
                name="lost_share_is_gone",
                condition=Q(lost_at=None, lost_because="")
                | (~Q(lost_at=None) & ~Q(lost_because="") & Q(locked=None) & Q(released=None)),
            ),
        ]
