"""The provider's view of running leases: health, every minute with its money, cases, and maintenance announced."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from marketplace.delivery.causes import announce_maintenance
from marketplace.delivery.selectors import cases_of, find_lease_of_party, lease_minutes, notices_of
from marketplace.doors import DoorForm, found_or_404, market_time, page_of, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.sla.burning import burn_rates
from marketplace.sla.selectors import targets_shown
from marketplace.supply.models import NodeClass


class MaintenanceForm(DoorForm):
    """A span in which machines will be down, as `announce_maintenance` takes it."""

    node_class = forms.ModelChoiceField(NodeClass.objects.none(), label="Machines")
    starts_at = forms.DateTimeField(label="From", help_text="UTC, such as 2030-01-31 12:00. Paid from 72 hours ahead.")
    ends_at = forms.DateTimeField(label="Until", help_text="UTC; four hours later at most, in the same month.")
    reason = forms.CharField(label="Why", max_length=200, help_text="The buyers of running leases read it.")

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = NodeClass.objects.filter(party=party, retired_at=None).select_related("site")
        self.fields["node_class"].queryset = own.order_by("chain_class")  # type: ignore[attr-defined]


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def cases(request: HttpRequest) -> HttpResponse:
    """Cases of the provider's own leases, newest first, its announced maintenance, and a form to announce one."""
    form = MaintenanceForm(request.POST if request.method == "POST" else None, party=request.party)
    if request.method == "POST" and form.is_valid():
        try:
            announce_maintenance(party=request.party, seat=seat_of(request), now=market_time(request),
                                 **form.cleaned_data)  # fmt: skip
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Announced. The buyers of running leases are told.")
            return redirect("onboarding:cases")
    page = page_of(request, cases_of(request.party))
    frame = {"page": page, "lease_page": "onboarding:lease_minutes", "notices": notices_of(request.party)[:10],
             "form": form}  # fmt: skip
    return render(request, "onboarding/cases.html", frame, status=422 if form.errors else 200)


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
