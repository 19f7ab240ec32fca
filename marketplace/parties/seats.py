"""Seats of a party: who holds them, inviting a colleague by a link, other roles, switching off and on again.

Whoever may `seats` does so for the own party, never for the own seat: another owner changes that one. A link gives one
seat once. Only its hash is kept: its secret is the invitation's id under the server's key, so that the letter can be
written after the commit from the id alone, and whoever reads the database cannot use it.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils.crypto import salted_hmac

from ledger.ids import uuid7
from ledger.tasks import dead_jobs, enqueue
from marketplace.errors import BadInput, LastOwner, LinkOver, NotYours, ReferenceReused, RoleForbidden, SamePerson
from marketplace.governance.services import record
from marketplace.parties.letters import send_letter
from marketplace.parties.models import ApiKey, Invitation, Party, Seat, User
from marketplace.parties.roles import may_roles, require_act, require_seat, roles_of
from marketplace.parties.services import make_seat, require_email

INVITATION_LASTS = timedelta(days=7)
INVITATIONS_PER_DAY = 50  # of one party: whoever registers does not send the world mail through us
NAME_MAX = 150
JOB = "parties.mail_invitation"
APPROVING = ("owner", "approver")  # of a buyer's seats, who may be the second person; the walls name them too


# -- reads ------------------------------------------------------------------------------------------------------------
def seats_of(party: Party) -> QuerySet[Seat]:
    """Every seat of a party, those that are switched off too, in the order in which they were made."""
    rows = Seat.objects.filter(party=party).select_related("user", "limit")
    return rows.order_by("user__date_joined", "pk")


def find_seat_of(party: Party, key: object) -> Seat | None:
    """The seat of that id in the party, or None."""
    return Seat.objects.filter(party=party, pk=key).select_related("user", "party").first()


def open_invitations(party: Party, now: datetime) -> QuerySet[Invitation]:
    """Invitations whose links still lead in, oldest first."""
    rows = Invitation.objects.filter(party=party, accepted_at=None, withdrawn_at=None, expires_at__gt=now)
    return rows.select_related("invited_by__user").order_by("invited_at", "pk")


def find_invitation(*, secret: str, now: datetime) -> Invitation:
    """The invitation behind a link. Raises LinkOver for unknown, used, withdrawn and expired ones alike."""
    row = Invitation.objects.select_related("party").filter(secret_sha256=_digest(secret)).first()
    if row is None or row.accepted_at or row.withdrawn_at or row.expires_at <= now:
        raise LinkOver("This invitation was used, taken back or has run out: ask whoever sent it for another.")
    return row


def unsent_invitations() -> Collection[UUID]:
    """Invitations whose letter no mail server took, however often it was tried: the job is parked in the console."""
    return {UUID(key) for key in dead_jobs().filter(kind=JOB).values_list("payload__invitation", flat=True)}


# -- inviting ---------------------------------------------------------------------------------------------------------
@transaction.atomic
def invite(
    *, party: Party, by: Seat | None, email: str, role: str, now: datetime, root: str = ""
) -> tuple[Invitation, str]:
    """Offer a seat: the invitation and the secret of its link, which is returned once and lasts seven days.

    An open invitation of the same address ends: the newest link is the only one. Whether the address has a seat
    elsewhere is told to whoever holds the link, and to nobody here. `by` is None for the operator's command. With the
    `root` of the site's addresses the link is also mailed, by the outbox.
    """
    require_seat(by, party, "seats", "invite colleagues")
    email = require_email(email)
    if role not in roles_of(party):
        raise BadInput(f"A role here is one of {', '.join(roles_of(party))}.", field="role")
    Party.objects.select_for_update().get(pk=party.pk)
    if Seat.objects.filter(party=party, user__email=email).exists():
        raise ReferenceReused("This person has a seat with you already.", field="email")
    if Invitation.objects.filter(party=party, invited_at__gt=now - timedelta(days=1)).count() >= INVITATIONS_PER_DAY:
        raise BadInput(f"At most {INVITATIONS_PER_DAY} invitations a day.", field="email")
    open_now = Invitation.objects.filter(party=party, email=email, accepted_at=None, withdrawn_at=None)
    open_now.update(withdrawn_at=now)
    key = uuid7(now)
    secret = _secret_of(key)
    row = Invitation.objects.create(
        id=key, party=party, email=email, role=role, secret_sha256=_digest(secret), invited_by=by,
        invited_at=now, expires_at=now + INVITATION_LASTS,
    )  # fmt: skip
    record(actor=by.user.email if by else party.slug, action="invite", subject=email, reason=f"seat as {role}",
           now=now, party=party.slug, invitation=str(row.pk))  # fmt: skip
    if root:
        enqueue(kind=JOB, payload={"invitation": str(key), "root": root}, dedupe_key=f"{JOB}:{key}")
    return row, secret


def mail_invitation(*, invitation: UUID, root: str, now: datetime) -> bool:
    """Send the link to the address it is for, while it leads in. Raises LinkOver under another key of the server."""
    row = Invitation.objects.select_related("party", "invited_by__user").get(pk=invitation)
    if row.accepted_at or row.withdrawn_at or row.expires_at <= now:
        return False
    secret = _secret_of(row.pk)
    if _digest(secret) != bytes(row.secret_sha256):
        raise LinkOver("The server's key has changed since this invitation: invite the address again.")
    by = row.invited_by.user.email if row.invited_by else row.party.name
    about = {"by": by, "party": row.party.name, "role": row.get_role_display(), "link": f"{root}invitation/{secret}/"}
    send_letter(to=row.email, name="invitation", subject=f"A seat of {row.party.name} at Grove Exchange", about=about)
    return True


@transaction.atomic
def withdraw_invitation(*, invitation: Invitation, by: Seat, now: datetime) -> Invitation:
    """Take an invitation back: its link leads nowhere from now on. Raises LinkOver where it led nowhere already."""
    row = Invitation.objects.select_for_update(of=("self",)).select_related("party").get(pk=invitation.pk)
    require_seat(by, row.party, "seats", "take invitations back")
    if row.accepted_at or row.withdrawn_at:
        raise LinkOver("This invitation was used or taken back already.")
    row.withdrawn_at = now
    row.save(update_fields=["withdrawn_at"])
    record(actor=by.user.email, action="withdraw_invitation", subject=row.email, reason="taken back", now=now,
           invitation=str(row.pk))  # fmt: skip
    return row


@transaction.atomic
def accept_invitation(*, secret: str, name: str, password: str, now: datetime) -> Seat:
    """Take the seat of an invitation with a name and a password of one's own; the link leads nowhere afterwards.

    Raises LinkOver, BadInput beside the field, and ReferenceReused where the address has a seat elsewhere.
    """
    found = find_invitation(secret=secret, now=now)
    row = Invitation.objects.select_for_update(of=("self",)).select_related("party").get(pk=found.pk)
    if row.accepted_at or row.withdrawn_at:
        raise LinkOver("This invitation was used, taken back or has run out: ask whoever sent it for another.")
    name = name.strip()
    if not 2 <= len(name) <= NAME_MAX:
        raise BadInput(f"Write your name, at most {NAME_MAX} characters.", field="name")
    if User.objects.filter(email=row.email).exists():
        raise ReferenceReused("This address has a seat elsewhere: ask for an invitation of another address.",
                              field="name")  # fmt: skip
    require_password(password, User(email=row.email, first_name=name))
    seat = make_seat(party=row.party, email=row.email, password=password, role=row.role, now=now, name=name)
    row.accepted_at, row.seat = now, seat
    row.save(update_fields=["accepted_at", "seat"])
    record(actor=row.email, action="accept_invitation", subject=row.email, reason=f"seat as {row.role}", now=now,
           invitation=str(row.pk))  # fmt: skip
    return seat


def require_password(password: str, user: User) -> None:
    """Refuse a password that is short, common or like the person, beside its field."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise BadInput(" ".join(error.messages), field="password") from error


# -- changing seats ---------------------------------------------------------------------------------------------------
@transaction.atomic
def change_role(*, seat: Seat, by: Seat, role: str, now: datetime) -> Seat:
    """Give another seat of the own party another role, from its next request on.

    Never one's own (SamePerson), nor the last owner's (LastOwner).
    """
    row = _anothers(seat, by, "change roles")
    if role not in roles_of(row.party):
        raise BadInput(f"A role here is one of {', '.join(roles_of(row.party))}.", field="role")
    before = row.role
    if before == role:
        return row
    if role not in may_roles("seats", row.party):
        _require_another_owner(row)
    stops = before in APPROVING and role not in APPROVING
    row.role, row.approved_until = role, now if stops else None if role in APPROVING else row.approved_until
    row.save(update_fields=["role", "approved_until"])
    record(actor=by.user.email, action="change_role", subject=row.user.email, reason=f"{before} to {role}", now=now,
           before=before, after=role)  # fmt: skip
    return row


@transaction.atomic
def switch_off(*, seat: Seat, by: Seat, now: datetime) -> Seat:
    """Sign a person out at once and let nobody in by the seat; keys that it issued end. What it did stays."""
    row = _anothers(seat, by, "switch seats off")
    if not row.user.is_active:
        return row
    _require_another_owner(row)
    User.objects.filter(pk=row.user_id).update(
        is_active=False, switched_off_at=now, sign_in_no=F("sign_in_no") + 1
    )
    keys = ApiKey.objects.filter(issued_by=row, revoked_at=None)
    prefixes = list(keys.order_by("created_at", "pk").values_list("prefix", flat=True))
    keys.update(revoked_at=now)
    row.user.refresh_from_db()
    record(actor=by.user.email, action="switch_seat_off", subject=row.user.email, reason="switched off", now=now,
           keys=prefixes)  # fmt: skip
    return row


@transaction.atomic
def switch_on(*, seat: Seat, by: Seat, now: datetime) -> Seat:
    """Let a person in again, by the password of before. Sessions and keys that ended stay ended."""
    row = _anothers(seat, by, "switch seats on")
    if not row.user.is_active:
        User.objects.filter(pk=row.user_id).update(is_active=True, switched_off_at=None)
        row.user.refresh_from_db()
        record(actor=by.user.email, action="switch_seat_on", subject=row.user.email, reason="switched on", now=now)
    return row


def require_person_with(seat: Seat | None, act: str, what: str) -> Seat:
    """Return the seat of the person who asks. A program's key changes no seats, whatever it may write."""
    if seat is None:
        raise RoleForbidden(f"A key may not {what}: a person does, signed in.", role="key", roles=["owner", "admin"])
    require_act(seat, act, what)
    return seat


def _anothers(seat: Seat, by: Seat, what: str) -> Seat:
    """Lock a seat of the own party that is not the one's who asks; changes of one party's seats come one by one."""
    require_act(by, "seats", what)
    Party.objects.select_for_update().get(pk=by.party_id)
    row = Seat.objects.select_for_update(of=("self",)).select_related("user", "party").filter(
        pk=seat.pk, party_id=by.party_id).first()  # fmt: skip
    if row is None:
        raise NotYours("There is no such seat.")
    if row.pk == by.pk:
        _require_another_owner(row)
        raise SamePerson("Another owner changes your own seat.")
    return row


def _require_another_owner(row: Seat) -> None:
    owners = may_roles("seats", row.party)
    others = Seat.objects.filter(party=row.party, role__in=owners, user__is_active=True).exclude(pk=row.pk)
    if row.role in owners and row.user.is_active and not others.exists():
        raise LastOwner("This is the last seat that gives and takes seats: make somebody else an owner first.",
                        roles=owners)  # fmt: skip


def _secret_of(invitation: UUID) -> str:
    made = salted_hmac("marketplace.parties.invitation", str(invitation), algorithm="sha256").digest()
    return urlsafe_b64encode(made).decode().rstrip("=")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
