"""Agreements with providers, and pilots: proposed, signed, opened and converted from the buyer's side."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.catalogue.selectors import find_window, windows_in
from marketplace.compliance.agreements import end_agreement, propose_agreement, sign_agreement
from marketplace.compliance.models import Agreement, Control
from marketplace.compliance.papers import BODY_MAX_BYTES, Paper
from marketplace.demand.pilots import convert_pilot
from marketplace.demand.selectors import find_demand
from marketplace.doors import DoorForm, UsdPriceField, buyer_only, found_or_404, market_time, midnight, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import PROVIDER_KINDS, Party
from marketplace.spending.models import Pilot
from marketplace.spending.services import open_pilot


class AgreementForm(DoorForm):
    """An agreement that is laid before a provider."""

    provider = forms.ChoiceField(label="Provider")
    control_code = forms.ChoiceField(label="Agreement")
    purposes = forms.CharField(label="Purposes", max_length=300, help_text="Words with spaces: research payment.")
    valid_from = forms.DateField(label="Holds from", widget=forms.DateInput(attrs={"type": "date"}))
    valid_until = forms.DateField(label="Holds until", widget=forms.DateInput(attrs={"type": "date"}))
    file = forms.FileField(label="Text of the agreement", help_text="At most 4 MiB. It is hashed and kept as it is.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._providers = {p.slug: p for p in Party.objects.filter(kind__in=PROVIDER_KINDS).order_by("name", "slug")}
        self.fields["provider"].choices = [(slug, p.name) for slug, p in self._providers.items()]
        self.fields["control_code"].choices = [(c.code, c.name) for c in Control.objects.filter(kind="agreement")]

    def terms(self) -> dict[str, Any]:
        """The arguments of `propose_agreement`."""
        given, file = self.cleaned_data, self.cleaned_data["file"]
        paper = Paper(file.name[:120], file.read(BODY_MAX_BYTES + 1), midnight(given["valid_from"]),
                      midnight(given["valid_until"]))  # fmt: skip
        return {"other": self._providers[given["provider"]], "control_code": given["control_code"],
                "purposes": given["purposes"].split(), "paper": paper}  # fmt: skip


class PilotForm(DoorForm):
    """A small trial with a cap and an end."""

    name = forms.CharField(label="Pilot", max_length=60)
    cap_micros = UsdPriceField(label="Cap", help_text="All of its demands together.")
    ends_on = forms.DateField(label="Ends on", widget=forms.DateInput(attrs={"type": "date"}))


@require_http_methods(["GET", "HEAD", "POST"])
@buyer_only
def agreements(request: HttpRequest) -> HttpResponse:
    """Agreements with their signatures and ends, and a form for the next."""
    form = AgreementForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            propose_agreement(seat=seat_of(request), now=market_time(request), **form.terms())
        except MarketError as error:
            form.show(error, (("other", "provider"),))
        else:
            messages.success(request, "Proposed. It counts once both of you have signed.")
            return redirect("portal:agreements")
    rows = Agreement.objects.filter(buyer=request.party).select_related("provider", "control", "end").defer("body")
    return render(request, "portal/agreements.html", {
        "form": form, "rows": rows.prefetch_related("signatures__party"), "now": market_time(request),
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@buyer_only
def agreement_act(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Sign an agreement, or end it."""
    row = found_or_404(Agreement.objects.filter(pk=pk, buyer=request.party).first())
    seat, now, words = seat_of(request), market_time(request), request.POST.get("words", "")
    try:
        if request.POST.get("act") == "end":
            end_agreement(agreement=row, seat=seat, reason=words, now=now)
        else:
            sign_agreement(agreement=row, seat=seat, title=words, now=now)
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Done, and on the audit trail.")
    return redirect("portal:agreements")


@require_http_methods(["GET", "HEAD", "POST"])
@buyer_only
def pilots(request: HttpRequest) -> HttpResponse:
    """Pilots with what they came to, and a form for the next."""
    form = PilotForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            open_pilot(seat=seat_of(request), name=form.cleaned_data["name"], now=market_time(request),
                       cap_micros=form.cleaned_data["cap_micros"],
                       ends_at=midnight(form.cleaned_data["ends_on"]))  # fmt: skip
        except MarketError as error:
            form.show(error, (("ends_at", "ends_on"),))
        else:
            messages.success(request, "Open. Name it in a demand.")
            return redirect("portal:pilots")
    rows = Pilot.objects.filter(party=request.party).prefetch_related("demands__converted_to", "demands__window")
    return render(request, "portal/pilots.html", {
        "form": form, "rows": rows, "windows": windows_in(("COLLECTING",)),
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@buyer_only
def pilot_convert(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Make a pilot's demand the real thing."""
    demand = found_or_404(find_demand(demand_id, request.party))
    try:
        window = found_or_404(find_window(UUID(request.POST.get("window", ""))))
        made = convert_pilot(
            demand=demand, seat=seat_of(request), window=window, reference=request.POST.get("reference", ""),
            purchase_order=request.POST.get("purchase_order", ""), now=market_time(request),
        )  # fmt: skip
    except (MarketError, ValueError) as error:
        messages.error(request, str(error))
        return redirect("portal:pilots")
    messages.success(request, "Converted on the same terms, without cap and end.")
    return redirect("portal:demand", made.pk)
