"""The buyer's view of running leases: health, every minute with its money, and the cases in which sources disagree."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.delivery.selectors import cases_of, find_lease_of_party, lease_minutes
from marketplace.doors import buyer_only, found_or_404, market_time, page_of
from marketplace.sla.burning import burn_rates
from marketplace.sla.selectors import targets_shown


@require_safe
@buyer_only
def cases(request: HttpRequest) -> HttpResponse:
    """Cases of the buyer's own leases, newest first."""
    page = page_of(request, cases_of(request.party))
    return render(request, "portal/cases.html", {"page": page, "lease_page": "portal:lease_minutes"})


@require_safe
@buyer_only
def minutes(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """One lease minute by minute, a day to a page, newest first."""
    lease = found_or_404(find_lease_of_party(lease_id, request.party))
    live = lease_minutes(lease)
    return render(request, "portal/minutes.html", {
        "live": live, "page": page_of(request, live.hours, 24), **targets_shown(lease),
        "burns": burn_rates(lease, now=market_time(request)), "standing": lease.node_class.standing.state,
    })
