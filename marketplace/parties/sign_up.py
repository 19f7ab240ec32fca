"""A buyer or a provider registers itself and gets its first seat. Nobody slips into an organisation that stands."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.text import slugify

from marketplace.errors import BadInput, ReferenceReused
from marketplace.parties.models import BUYER_KINDS, PROVIDER_KINDS, Party, Seat, User
from marketplace.parties.services import make_seat, register_party


@transaction.atomic
def sign_up(
    *, name: str, kind: str, country: str, parent_country: str, email: str, password: str, now: datetime
) -> Seat:
    """Register a buyer or a provider with the seat of its owner. Raises PhaseClosed for a prosumer before its phase.

    Raises BadInput and ReferenceReused beside the field, and then writes nothing.
    """
    if kind not in (*BUYER_KINDS, *PROVIDER_KINDS):
        raise BadInput(f"Whoever registers is one of {', '.join((*BUYER_KINDS, *PROVIDER_KINDS))}.", field="kind")
    slug = slugify(name)[:59].strip("-")
    if Party.objects.filter(slug=slug).exists():
        raise ReferenceReused("An organisation of this name is registered: ask it for a seat.", field="name")
    if User.objects.filter(email=email.lower()).exists():
        raise ReferenceReused("This person has a seat already: sign in.", field="email")
    try:
        validate_password(password)
    except ValidationError as error:
        raise BadInput(" ".join(error.messages), field="password") from error
    try:
        party = register_party(slug=slug, name=name, kind=kind, country=country, parent_country=parent_country, now=now)
    except BadInput as error:
        if error.facts.get("field") == "slug":
            raise BadInput("Write a name of at least two letters.", field="name") from error
        raise
    return make_seat(party=party, email=email, password=password, role="owner", now=now)
