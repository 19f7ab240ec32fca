"""Parties, seats and API keys."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction

from ledger.ids import uuid7
from marketplace.errors import BadInput, BadKey, ContradictoryRules, CyclicOwnership, ReferenceReused
from marketplace.governance.services import record, require_flag
from marketplace.parties.caps import Caps
from marketplace.parties.countries import require_country
from marketplace.parties.models import KINDS, PROVIDER_KINDS, ROLES, ApiKey, Party, Seat, User
from marketplace.parties.roles import require_seat

NO_CAPS = Caps()
SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,58}")


@transaction.atomic
def register_party(
    *, slug: str, name: str, kind: str, country: str, parent_country: str, parent: Party | None = None, now: datetime
) -> Party:
    """Register an organisation, or return it when it stands already with the same facts.

    Prosumers are refused with `phase_closed` until their phase flag is on. Below a parent the ultimate parent's country
    is the parent's own: another one is `contradictory_rules`.
    """
    if not SLUG.fullmatch(slug):
        raise BadInput("A slug is 2 to 59 small letters, digits and dashes.", field="slug")
    if kind not in KINDS:
        raise BadInput(f"A party is one of {', '.join(KINDS)}.", field="kind")
    for field, code in (("country", country), ("parent_country", parent_country)):
        require_country(code, field)
    if not name.strip():
        raise BadInput("A party needs a name.", field="name")
    if parent is not None and parent.ultimate_country != parent_country:
        raise ContradictoryRules(
            f"The owner at the top of {parent.slug} sits in {parent.ultimate_country}.", field="parent_country"
        )
    if kind == "prosumer":
        require_flag(name="prosumer_parties", what="Registration of prosumers")
    standing = Party.objects.filter(slug=slug).first()
    if standing:
        if (standing.kind, standing.country, standing.parent_country) != (kind, country, parent_country):
            raise ReferenceReused("Another party has this slug.", field="slug", slug=slug)
        return standing
    party = Party.objects.create(
        id=uuid7(now), slug=slug, name=name, kind=kind, country=country, parent=parent,
        parent_country=parent_country, registered_at=now,
    )  # fmt: skip
    record(actor=slug, action="register_party", subject=slug, reason="registration", now=now, kind=kind)
    return party


def list_providers() -> list[Party]:
    """Return every party that may sell, by name."""
    return list(Party.objects.filter(kind__in=PROVIDER_KINDS).order_by("name", "slug"))


def find_provider(slug: str) -> Party | None:
    """Return the provider of that short name, or None."""
    return Party.objects.filter(slug=slug, kind__in=PROVIDER_KINDS).select_related("parent").first()


@transaction.atomic
def set_owner(*, party: Party, parent: Party | None, actor: str, now: datetime) -> Party:
    """Record who owns a party. Owners in a circle are refused (`cyclic_ownership`), here and by the database.

    A party that gets an owner sits, ultimately, where that owner's top sits.
    """
    with connection.cursor() as cursor:  # the trigger takes the same lock: two halves of a circle wait for each other
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('marketplace_party.parent_id'))")
    above = parent
    while above is not None:
        if above.pk == party.pk:
            raise CyclicOwnership("A party cannot own itself, not through others either.", field="parent")
        above = above.parent
    party.parent = parent
    if parent is not None:
        party.parent_country = parent.ultimate_country
    party.save(update_fields=["parent", "parent_country"])
    record(actor=actor, action="set_owner", subject=party.slug, reason=f"owned by {parent.slug}" if parent else "free",
           now=now)  # fmt: skip
    return party


def require_email(text: str) -> str:
    """Return an e-mail address in small letters, at most 120 characters, so that the trail can name it."""
    try:
        validate_email(text)
    except ValidationError as error:
        raise BadInput("That is not an e-mail address.", field="email") from error
    if len(text) > 120:
        raise BadInput("An e-mail address has at most 120 characters.", field="email")
    return text.lower()


@transaction.atomic
def make_seat(*, party: Party, email: str, password: str | None, role: str, now: datetime, name: str = "") -> Seat:
    """Give a person a login in `party`. Foundation seats may open the console.

    Without a password nobody can sign in by one.
    """
    email = require_email(email)
    if role not in ROLES:
        raise BadInput(f"A role is one of {', '.join(ROLES)}.", field="role")
    standing = Seat.objects.filter(user__email=email).select_related("party").first()
    if standing:
        if standing.party_id != party.pk:
            raise ReferenceReused("This person has a seat elsewhere.", field="email")
        return standing
    user = User.objects.create_user(email, password, first_name=name, date_joined=now)
    if party.kind == "foundation":
        user.is_staff = user.is_superuser = True
        user.save(update_fields=["is_staff", "is_superuser"])
    seat = Seat.objects.create(id=uuid7(now), user=user, party=party, role=role)
    record(actor=party.slug, action="make_seat", subject=email, reason=f"seat as {role}", now=now)
    return seat


@transaction.atomic
def issue_api_key(
    *, party: Party, label: str, may_write: bool, now: datetime, expires_at: datetime | None = None,
    caps: Caps = NO_CAPS, seat: Seat | None = None,
) -> tuple[ApiKey, str]:  # fmt: skip
    """A new key and its secret. The secret is returned once and stored only as a hash."""
    require_seat(seat, party, "keys", "manage API keys")
    if not label.strip() or len(label) > 80:
        raise BadInput("Name the key in at most 80 characters, so that it can be revoked later.", field="label")
    caps.require()
    prefix = secrets.token_hex(4)
    secret = f"gx_live_{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey.objects.create(
        id=uuid7(now), party=party, label=label, prefix=prefix, secret_sha256=_digest(secret), may_write=may_write,
        created_at=now, expires_at=expires_at, notional_day_max_micros=caps.notional_day_max_micros,
        open_orders_max=caps.open_orders_max, resource_classes=list(caps.resource_classes),
        issued_by=seat,
    )  # fmt: skip
    record(actor=seat.user.email if seat else party.slug, action="issue_api_key", subject=prefix, reason=label, now=now,
           may_write=may_write)  # fmt: skip
    return key, secret


def find_api_key(*, secret: str, now: datetime) -> ApiKey:
    """The live key behind `secret`; raises BadKey for unknown, expired and revoked ones alike."""
    parts = secret.split("_", 3)
    key = None
    if len(parts) == 4 and parts[:2] == ["gx", "live"]:
        key = ApiKey.objects.select_related("party").filter(prefix=parts[2]).first()
    if key is None or not hmac.compare_digest(bytes(key.secret_sha256), _digest(secret)):
        raise BadKey("This API key is not valid.")
    if key.revoked_at or (key.expires_at and key.expires_at <= now):
        raise BadKey("This API key is not valid.")
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


@transaction.atomic
def revoke_api_key(*, key: ApiKey, seat: Seat | None = None, now: datetime) -> None:
    """End a key at once."""
    require_seat(seat, key.party, "keys", "manage API keys")
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=now):
        actor = seat.user.email if seat else key.party.slug
        record(actor=actor, action="revoke_api_key", subject=key.prefix, reason="revoked", now=now)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
