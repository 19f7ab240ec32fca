"""Parties (organisations), their seats (logins) and their API keys."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac

BUYER_KINDS = ("enterprise_buyer", "public_buyer", "research_buyer")
PROVIDER_KINDS = ("university", "enterprise", "prosumer")
ROLES = (
    "owner",
    "purchaser",
    "approver",
    "finance",
    "compliance",
    "counsel",
    "operator",
    "market_maker",
    "operations",
    "judge",
    "auditor",
    "admin",
)
KINDS = (*BUYER_KINDS, *PROVIDER_KINDS, "verifier", "foundation")


class EmailUserManager(UserManager):
    """Makes users that sign in with their e-mail address."""

    def create_user(self, email: str, password: str | None = None, **extra):  # type: ignore[override]
        user = self.model(email=email.lower(), username=email.lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra):  # type: ignore[override]
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person. What the person may do follows from the seat, not from here."""

    email = models.EmailField(unique=True)
    sign_in_no = models.PositiveIntegerField(default=0, help_text="counts how often every session was ended at once")
    switched_off_at = models.DateTimeField(null=True, blank=True, help_text="null while the person may sign in")
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: list[str] = []
    objects = EmailUserManager()

    class Meta(AbstractUser.Meta):
        constraints = [
            # One person is not two by a capital: seats, approvals and the trail name people by their address.
            models.CheckConstraint(name="user_email_is_in_small_letters", condition=Q(email=Lower("email"))),
            models.CheckConstraint(
                name="user_that_is_off_says_since_when",
                condition=Q(is_active=True, switched_off_at=None) | Q(is_active=False, switched_off_at__isnull=False),
            ),
        ]

    @property
    def party(self) -> Party | None:
        seat = getattr(self, "seat", None)
        return seat.party if seat else None

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What a session is checked against: another password ends all of them, and so does the next `sign_in_no`."""
        salt, kept = "marketplace.parties.session", f"{self.password}:{self.sign_in_no}"
        return salted_hmac(salt, kept, secret=secret, algorithm="sha256").hexdigest()


class Party(models.Model):
    """An organisation that buys, provides, verifies or runs the market."""

    id = models.UUIDField(primary_key=True)
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=160)
    kind = models.CharField(max_length=20, choices=[(k, k.replace("_", " ")) for k in KINDS])
    country = models.CharField(max_length=2)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="children")
    parent_country = models.CharField(max_length=2, help_text="where the ultimate parent sits")
    chain_address = models.CharField(max_length=42, null=True, blank=True, unique=True)
    registered_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "parties"
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(name="party_kind_is_known", condition=Q(kind__in=KINDS)),
            models.CheckConstraint(
                name="party_country_is_two_capitals",
                condition=Q(country__regex=r"^[A-Z]{2}$") & Q(parent_country__regex=r"^[A-Z]{2}$"),
            ),
            models.CheckConstraint(name="party_is_not_its_own_parent", condition=Q(parent=None) | ~Q(parent=F("id"))),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_buyer(self) -> bool:
        return self.kind in BUYER_KINDS

    @property
    def is_provider(self) -> bool:
        return self.kind in PROVIDER_KINDS

    @property
    def owner_key(self) -> str:
        """Who stands behind the party in the end: all below one ultimate parent count as one."""
        return self._top.slug

    @property
    def ultimate_country(self) -> str:
        """Where the owner at the top sits. A party's own word counts only while nobody is known above it."""
        return self._top.parent_country

    @property
    def is_foundation(self) -> bool:
        """Whether it is the Foundation, or the Foundation stands somewhere above it: for every limit they are one."""
        here: Party | None = self
        while here is not None:  # it ends: the database refuses a circle
            if here.kind == "foundation":
                return True
            here = here.parent if here.parent_id else None
        return False

    @property
    def _top(self) -> Party:
        top = self
        while top.parent_id and top.parent:  # it ends: the database refuses a circle
            top = top.parent
        return top


class Seat(models.Model):
    """A person's login in a party."""

    id = models.UUIDField(primary_key=True)
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="seat")
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="seats")
    role = models.CharField(max_length=20, choices=[(r, r.replace("_", " ")) for r in ROLES])
    approved_until = models.DateTimeField(
        null=True, blank=True, help_text="when another role took its approving away; null: it approves, or never did"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(name="seat_role_is_known", condition=Q(role__in=ROLES)),
            models.CheckConstraint(
                name="seat_that_approves_has_not_stopped",
                condition=Q(approved_until=None) | ~Q(role__in=("owner", "approver")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user.email} ({self.role}, {self.party.name})"


class PasswordLink(models.Model):
    """That one seat made a link for another's password: for a while it may be behind that one. Append-only."""

    seat = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="password_links")
    made_by = models.ForeignKey(Seat, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        ordering = ["made_at", "id"]
        constraints = [
            models.CheckConstraint(name="password_link_is_made_by_another", condition=~Q(seat=F("made_by")))
        ]


class Invitation(models.Model):
    """A seat that is offered to whoever holds the link; only the link's hash is kept. Used once, or taken back."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=20, choices=[(r, r.replace("_", " ")) for r in ROLES])
    secret_sha256 = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(
        Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="null: the operator"
    )
    invited_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    seat = models.OneToOneField(Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="invitation")
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-invited_at", "-id"]
        constraints = [
            models.CheckConstraint(name="invitation_role_is_known", condition=Q(role__in=ROLES)),
            models.CheckConstraint(name="invitation_email_is_in_small_letters", condition=Q(email=Lower("email"))),
            models.CheckConstraint(
                name="invitation_is_accepted_in_time_by_its_seat",
                condition=Q(accepted_at=None, seat=None)
                | (Q(accepted_at__gte=F("invited_at")) & Q(accepted_at__lt=F("expires_at")) & ~Q(seat=None)),
            ),
            models.CheckConstraint(
                name="invitation_has_one_end", condition=Q(accepted_at=None) | Q(withdrawn_at=None)
            ),
            models.UniqueConstraint(
                name="one_open_invitation_per_address", fields=["party", "email"],
                condition=Q(accepted_at=None, withdrawn_at=None),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.email} ({self.role}, {self.party.name})"


class ApiKey(models.Model):
    """A program's key: shown once, stored as a look-up prefix and a SHA-256."""

    id = models.UUIDField(primary_key=True)
    party = models.ForeignKey(Party, on_delete=models.PROTECT, related_name="api_keys")
    label = models.CharField(max_length=80)
    prefix = models.CharField(max_length=8, unique=True)
    secret_sha256 = models.BinaryField(max_length=32)
    may_write = models.BooleanField(default=False)
    notional_day_max_micros = models.BigIntegerField(null=True, help_text="of the orders of one UTC day; null: no cap")
    open_orders_max = models.PositiveIntegerField(null=True, help_text="that wait for clearing; null: no cap")
    resource_classes = ArrayField(models.CharField(max_length=20), default=list, help_text="it may order; empty: all")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    issued_by = models.ForeignKey(
        Seat, null=True, blank=True, on_delete=models.PROTECT, related_name="issued_keys",
        help_text="approves nothing that the key posted; null: the operator's command",
    )  # fmt: skip

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="a_cap_of_a_key_is_at_least_one",
                condition=(Q(notional_day_max_micros=None) | Q(notional_day_max_micros__gte=1))
                & (Q(open_orders_max=None) | Q(open_orders_max__gte=1)),
            )
        ]

    def __str__(self) -> str:
        return f"{self.label} (…{self.prefix})"


class KeyUse(models.Model):
    """Which key placed an order, and when; not what the order says: a sealed bid stays sealed. Append-only."""

    KINDS = ("bid", "demand")
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="uses")
    kind = models.CharField(max_length=8, choices=[(each, each) for each in KINDS])
    subject = models.UUIDField()
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="key_use_is_an_order", condition=Q(kind__in=("bid", "demand"))),
            models.UniqueConstraint(name="an_order_is_placed_by_one_key", fields=["kind", "subject"]),
        ]
        indexes = [models.Index(name="key_use_by_day", fields=["key", "kind", "at"])]


class RememberedReply(models.Model):
    """The answer a party got for one Idempotency-Key; the same key and body get it again."""

    party = models.ForeignKey(Party, on_delete=models.CASCADE)
    key = models.CharField(max_length=120)
    route = models.CharField(max_length=120)
    body_sha256 = models.BinaryField(max_length=32, help_text="keyed: trying bodies out finds nothing")
    status = models.PositiveSmallIntegerField()
    reply = models.JSONField(help_text="under the party's key")
    remembered_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="one_reply_per_idempotency_key", fields=["party", "key"])]
