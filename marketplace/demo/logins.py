"""One login per role, so that a visitor can look through every door of a demo."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction

from marketplace import clock
from marketplace.parties.models import Party
from marketplace.parties.services import make_seat, register_party


@dataclass(frozen=True, slots=True)
class Login:
    """What to type, and where it leads."""

    role: str
    email: str
    password: str
    path: str


# role, slug, name, kind, country, seat role, e-mail, path; the parties are actors of the demo world (fixtures/demo)
HOSTS = (
    ("enterprise buyer", "vintervik-pharma", "Vintervik Pharma", "enterprise_buyer", "SE", "owner",
     "buyer@grove.example", "/portal/"),
    ("provider (proven)", "nordlicht-rechenwerk", "Nordlicht Rechenwerk", "enterprise", "DE", "owner",
     "provider@grove.example", "/onboarding/"),
    ("provider (unproven)", "zirbelquell-compute", "Zirbelquell Compute", "enterprise", "CH", "owner",
     "newcomer@grove.example", "/onboarding/"),
    ("Foundation", "foundation", "Grove Foundation", "foundation", "CH", "operations", "foundation@grove.example",
     "/console/"),
    ("Foundation (admin)", "foundation", "Grove Foundation", "foundation", "CH", "admin", "admin@grove.example",
     "/console/"),
)  # fmt: skip


@transaction.atomic
def ensure_logins(now: datetime | None = None) -> list[Login]:
    """The demo's logins, made when missing. Their password is this installation's own, derived from its secret key."""
    if not settings.DEMO:
        return []
    now = now or clock.now()
    logins = []
    for role, slug, name, kind, country, seat_role, email, path in HOSTS:
        party = Party.objects.filter(slug=slug).first() or register_party(
            slug=slug, name=name, kind=kind, country=country, parent_country=country, now=now
        )
        password = demo_password(email)
        make_seat(party=party, email=email, password=password, role=seat_role, now=now)
        logins.append(Login(role, email, password, path))
    return logins


def demo_password(email: str) -> str:
    """A password that is the same at every start of this installation and written down nowhere."""
    digits = hmac.digest(settings.SECRET_KEY.encode(), f"demo login {email}".encode(), "sha256").hex()
    return f"grove-{digits[:10]}"
