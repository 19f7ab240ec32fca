"""The provider's view of running leases: health, every minute with its money, cases, and maintenance announced."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.delivery.selectors import cases_of, find_lease_of_party, lease_minutes, notices_of
from marketplace.doors import found_or_404, market_time, page_of, provider_only
from marketplace.sla.burning import burn_rates
from marketplace.sla.selectors import targets_shown


@require_safe
@provider_only
def cases(request: HttpRequest) -> HttpResponse:
    """Cases of the provider's own leases, newest first, and its announced maintenance."""
    page = page_of(request, cases_of(request.party))
    frame = {"page": page, "lease_page": "onboarding:lease_minutes", "notices": notices_of(request.party)[:10]}
    return render(request, "onboarding/cases.html", frame)


@require_safe
@provider_only
def minutes(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """One lease minute by minute, a day to a page, newest first."""
    lease = found_or_404(find_lease_of_party(lease_id, request.party))
    live = lease_minutes(lease)
    return render(request, "onboarding/minutes.html", {
        "live": live, "page": page_of(request, live.hours, 24), **targets_shown(lease),
        "burns": burn_rates(lease, now=market_time(request)), "standing": lease.node_class.standing.state,
    })
