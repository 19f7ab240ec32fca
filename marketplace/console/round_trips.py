"""Round trips that the Foundation measured from its vantages to sites: which site has none, and a form for one."""

from __future__ import annotations

from datetime import UTC, datetime

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from marketplace import clock
from marketplace.catalogue.models import Vantage
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.doors import DoorForm, found_or_404, page_of, seat_of
from marketplace.errors import BadInput
from marketplace.supply.models import Site
from marketplace.supply.round_trips import record_round_trip


class RoundTripForm(DoorForm):
    """A measurement as `record_round_trip` takes it."""

    site = forms.ModelChoiceField(
        Site.objects.filter(retired_at=None).select_related("party"), label="Site", help_text="Where it stands now.")
    vantage_code = forms.ModelChoiceField(
        Vantage.objects.all(), label="Vantage", help_text="From where it was measured.")
    rtt_ms_p95 = forms.IntegerField(label="Round trip, milliseconds", help_text="The p95 of the echoes, rounded up.")
    echoes = forms.IntegerField(label="Echoes", help_text="How many signed echoes it is told by; 20 at least.")
    measured_at = forms.DateTimeField(label="Measured at", help_text="UTC, such as 2030-01-01 00:00.")

    def clean_measured_at(self) -> datetime:
        told: datetime = self.cleaned_data["measured_at"]
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told


@require_http_methods(["GET", "HEAD", "POST"])
def round_trips(request: HttpRequest) -> HttpResponse:
    """Every site with its round trips; a measurement is put on record with its person."""
    form = RoundTripForm(request.POST or None)
    if request.method == "POST":
        try:
            if not form.is_valid():
                field, errors = next(iter(form.errors.items()))
                raise BadInput(f"{form.fields[field].label}: {errors[0]}", field=field)
            terms = form.cleaned_data | {"vantage_code": form.cleaned_data["vantage_code"].pk}
            row = record_round_trip(seat=found_or_404(seat_of(request)), now=clock.now(), **terms)
            messages.success(request, f"On record: {row.site.code}, {row.rtt_ms_p95} ms from {row.vantage}.")
        except REFUSALS as refusal:
            messages.error(request, f"{refusal} ({refusal.code})")
        return redirect("admin:round_trips")
    sites = Site.objects.filter(retired_at=None).select_related("party").prefetch_related("latencies__vantage")
    page = page_of(request, sites.order_by("code"))
    return render_page(request, "round_trips", title="Round trips", form=form, page=page)
