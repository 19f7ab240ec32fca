"""The four owner screens, one page each, for buyers and providers alike."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.doors import found_or_404, market_time, party_only
from marketplace.insights.service import SCREENS, screen_of


@require_safe
@party_only
def service_page(request: HttpRequest, topic: str) -> HttpResponse:
    """One topic: its owner, its metric over the party's own leases, and what one can do oneself."""
    screen = found_or_404(screen_of(topic, request.party, market_time(request)))
    return render(request, "portal/service.html", {"screen": screen, "topics": list(SCREENS)})
