"""Passwords: changing one's own, and a link that sets another one, once, within a day.

The links are Django's own: signed by the server's key over password and last sign-in, so that using one, or signing in
otherwise, ends all of them; none is stored. Whether an address has a seat is told to nobody who asks for one.
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from ledger.ids import uuid7
from ledger.tasks import enqueue
from marketplace.errors import BadInput, LinkOver, NotYours, RoleForbidden
from marketplace.governance.services import record
from marketplace.parties.letters import send_letter
from marketplace.parties.models import PasswordLink, Seat, User
from marketplace.parties.roles import require_act
from marketplace.parties.seats import require_password

JOB = "parties.mail_reset"
RESET_SUBJECT = "Another password for Grove Exchange"


@transaction.atomic
def change_password(*, user: User, old: str, password: str, now: datetime) -> User:
    """Set another password of one's own; every other session of the person ends. Raises BadInput beside its field."""
    row = User.objects.select_for_update().get(pk=user.pk)
    if not row.check_password(old):
        raise BadInput("That is not the password of now.", field="old")
    return _set(row, password, actor=row.email, action="change_password", now=now)


@transaction.atomic
def ask_reset(*, email: str, root: str, now: datetime) -> None:
    """Have a link sent to the address if it has a seat: one letter a minute at most.

    Known or not, the same is asked of the database, a row of the same kind is written and the same is told, in the same
    time. The row names a person of ours or nobody: the address of a stranger is not kept, not as a hash of it either.
    """
    known = User.objects.filter(email=email.lower(), seat__isnull=False).values_list("pk", flat=True).first()
    asked = salted_hmac(JOB, f"{email.lower()} {root} {int(now.timestamp()) // 60} {known}", algorithm="sha256")
    enqueue(kind=JOB, payload={"user": known, "root": root, "is_own": True}, dedupe_key=f"{JOB}:{asked.hexdigest()}")


def mail_reset(*, user: int | None, root: str, is_own: bool, now: datetime) -> bool:
    """Make the link and send it to a person of a seat that is on; it stands in no row of ours.

    `is_own`: the person asked for it, which the trail says when the letter has gone. None is nobody.
    """
    row = User.objects.select_related("seat__party").filter(pk=user, is_active=True, seat__isnull=False).first()
    if row is None:
        return False
    send_letter(to=row.email, name="reset", subject=RESET_SUBJECT,
                about={"link": root + _path(row), "party": row.seat.party.name})  # fmt: skip
    if is_own:
        record(actor=row.email, action="ask_reset", subject=row.email, reason="link sent to the address", now=now)
    return True


@transaction.atomic
def reset_path(*, seat: Seat, by: Seat, root: str, now: datetime) -> str:
    """The path of a link by which a colleague sets another password: made by whoever may `seats`, to hand over.

    The person gets a link too, by the outbox and below `root`, so that it knows of it whoever else holds this one.

    Not at the Foundation, where two people stand for each other's acts: there a link goes to its own person's mail
    alone (`ask_reset`), and nobody signs in as another. Whoever makes a link is, for a while, no second person beside
    the one whose link it is (`two_people.py`). Raises RoleForbidden.
    """
    require_act(by, "seats", "make links for passwords")
    if by.party.kind == "foundation":
        raise RoleForbidden("At the Foundation each person asks for the own link, at the sign-in page.",
                            role=by.role, roles=[])  # fmt: skip
    row = Seat.objects.select_related("user").filter(pk=seat.pk, party_id=by.party_id).first()
    if row is None:
        raise NotYours("There is no such seat.")
    if not row.user.is_active:
        raise RoleForbidden("This seat is switched off: switch it on first.", role=row.role, roles=[])
    if row.pk != by.pk:
        PasswordLink.objects.create(seat=row, made_by=by, made_at=now)
    record(actor=by.user.email, action="make_reset_link", subject=row.user.email, reason="to hand over", now=now)
    told = {"user": row.user_id, "root": root, "is_own": False}
    enqueue(kind=JOB, payload=told, dedupe_key=f"{JOB}:{row.pk}:{uuid7(now)}")
    return _path(row.user)


def find_reset(*, uid: str, token: str) -> User:
    """The person behind a link. Raises LinkOver for one that was used, has run out, or is none of ours."""
    try:
        user = User.objects.filter(pk=int(urlsafe_base64_decode(uid).decode()), is_active=True).first()
    except (ValueError, OverflowError):
        user = None
    if user is None or not default_token_generator.check_token(user, token):
        raise LinkOver("This link was used or has run out: ask for another one.")
    return user


@transaction.atomic
def reset_password(*, uid: str, token: str, password: str, now: datetime) -> User:
    """Set another password by a link, which is over then; every session of the person ends.

    Raises LinkOver, and BadInput beside the field.
    """
    row = User.objects.select_for_update().get(pk=find_reset(uid=uid, token=token).pk)
    find_reset(uid=uid, token=token)  # whoever used the same link meanwhile has ended it
    return _set(row, password, actor=row.email, action="reset_password", now=now)


def _set(user: User, password: str, *, actor: str, action: str, now: datetime) -> User:
    require_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    record(actor=actor, action=action, subject=user.email, reason="every other session ended", now=now)
    return user


def _path(user: User) -> str:
    return f"password/{urlsafe_base64_encode(force_bytes(user.pk))}/{default_token_generator.make_token(user)}/"
