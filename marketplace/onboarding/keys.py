"""API keys at this door; what they do stands in `key_pages`."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from marketplace import key_pages
from marketplace.doors import provider_only

DOOR = "onboarding"


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def keys(request: HttpRequest) -> HttpResponse:
    """The party's API keys, and a new one."""
    return key_pages.key_list(request, DOOR)


@require_POST
@provider_only
def key_cap(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Change what a key may do at most."""
    return key_pages.key_cap(request, DOOR, key_id)


@require_POST
@provider_only
def key_revoke(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """End a key at once."""
    return key_pages.key_revoke(request, DOOR, key_id)
