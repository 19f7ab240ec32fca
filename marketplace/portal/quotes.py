"""The public page of comparator quotes, and the form by which the Foundation enters one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from marketplace.catalogue.models import ResourceClass
from marketplace.doors import DoorForm, UsdPriceField, market_time, seat_of
from marketplace.errors import MarketError
from marketplace.insights.quotes import add_quote, current_quotes
from marketplace.parties.roles import acts_of


class QuoteForm(DoorForm):
    """One published price. Fields carry the names of `add_quote`."""

    resource_class = forms.ChoiceField(label="Resource class")
    provider = forms.CharField(label="Provider", max_length=80)
    place = forms.CharField(label="Region or edge zone", max_length=80)
    country = forms.CharField(label="Country", max_length=2, help_text="Two capital letters.")
    is_edge = forms.BooleanField(label="An edge zone of a cloud", required=False)
    price_micros = UsdPriceField(label="Price per unit-hour")
    source = forms.CharField(label="Source", max_length=300, help_text="The page or document that says so.")
    quoted_on = forms.DateField(label="As of", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["resource_class"].choices = [(row.pk, row.name) for row in ResourceClass.objects.all()]


@require_http_methods(["GET", "HEAD", "POST"])
def quotes(request: HttpRequest) -> HttpResponse:
    """What others ask, with source and date; seats of the Foundation that operate enter more."""
    seat = seat_of(request)
    may_enter = seat is not None and seat.party.kind == "foundation" and "operate" in acts_of(seat)
    form = QuoteForm(request.POST if request.method == "POST" else None) if may_enter else None
    if request.method == "POST" and form is None:
        raise Http404("no such page for this seat")
    if request.method == "POST" and form is not None and seat is not None and form.is_valid():
        try:
            add_quote(seat=seat, now=market_time(request), **form.cleaned_data)
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Entered, with its source and date.")
            return redirect("quotes")
    return render(request, "portal/quotes.html", {"quotes": current_quotes(), "form": form},
                  status=422 if form is not None and form.errors else 200)  # fmt: skip
