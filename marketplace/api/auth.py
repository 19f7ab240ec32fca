"""Who is asking: a program by its key, or a person by the session of the portal. The party is never in the body."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from marketplace import clock
from marketplace.errors import BadKey
from marketplace.parties.models import ApiKey, Party, Seat
from marketplace.parties.services import find_api_key

# The shape is looked at before the database is asked: PostgreSQL refuses NUL in a text by an error of its own.
KEY_SHAPE = re.compile(r"gx_live_[0-9a-f]{8}_[A-Za-z0-9_-]{20,100}")


@dataclass(frozen=True)
class Holder:
    """The user of a request that came with a key: the party, without a person."""

    party: Party
    key: ApiKey
    is_authenticated: bool = True
    is_active: bool = True
    is_staff: bool = False
    is_anonymous: bool = False

    @property
    def pk(self) -> Any:
        return self.key.pk

    def get_username(self) -> str:
        """Name who acts, where a person would be named."""
        return f"key {self.key.prefix} of {self.party.slug}"


class KeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer gx_live_...`; any other scheme is refused, so that no header is silently ignored."""

    def authenticate(self, request: Request) -> tuple[Holder, ApiKey] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not KEY_SHAPE.fullmatch(secret.strip()):
            raise BadKey("This API key is not valid.")
        key = find_api_key(secret=secret.strip(), now=clock.now())
        return Holder(key.party, key), key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Grove Exchange"'


class SeatAuthentication(authentication.SessionAuthentication):
    """The portal's session; its POSTs need the CSRF token. A person without a seat has no party here."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        seat = Seat.objects.select_related("party").filter(user=found[0]).first()
        if seat is None:
            raise AuthenticationFailed("This person has no seat in a party.")
        request._request.seat_party = seat.party  # type: ignore[attr-defined]
        request._request.api_seat = seat  # type: ignore[attr-defined]
        return found

    def enforce_csrf(self, request: Request) -> None:
        """Check the token on Django's own request: asked of DRF's, the check would parse the body a second way.

        A method that the address does not know is let through to its 405: nothing is done, so nothing is forged.
        """
        if hasattr(request.parser_context["view"], str(request.method).lower()):
            super().enforce_csrf(request._request)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Grove Exchange"'


def seat_of(request: Request) -> Seat | None:
    """Return the seat of the person who asks, or None: a key belongs to a party and is nobody."""
    return None if isinstance(request.user, Holder) else getattr(request._request, "api_seat", None)


def party_of(request: Request) -> Party | None:
    """Return the party behind an authenticated request, or None."""
    if isinstance(request.user, Holder):
        return request.user.party
    return getattr(request._request, "seat_party", None)


def api_key_of(request: Request) -> ApiKey | None:
    """Return the key a program acts with, or None: a person acts by the session."""
    return request.user.key if isinstance(request.user, Holder) else None
