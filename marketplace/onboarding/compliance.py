"""Evidence and capacity on the provider's dashboard: what each tier still asks for, and what is for sale when."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.capacity.models import FundingSource
from marketplace.capacity.services import Times, add_calendar_rule, set_carve_out, tag_funding
from marketplace.compliance.agreements import sign_agreement
from marketplace.compliance.evidence import end_evidence, submit_evidence
from marketplace.compliance.models import Agreement, Control, Evidence
from marketplace.compliance.papers import BODY_MAX_BYTES, Paper
from marketplace.compliance.reach import reach_of
from marketplace.doors import DoorForm, UsdPriceField, found_or_404, market_time, midnight, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.supply.selectors import classes_to_offer, sites_of


class EvidenceForm(DoorForm):
    """A document that shows a control."""

    control_code = forms.ChoiceField(label="Control", help_text="What the document shows.")
    site = forms.ChoiceField(label="Site", required=False, help_text="Leave open when it is about all of your sites.")
    country = forms.CharField(
        label="Country it shows", required=False, max_length=2, help_text="Of a legal control: two capital letters."
    )
    issuer = forms.CharField(label="Issuer", max_length=120, help_text="Who signed the document.")
    valid_from = forms.DateField(label="Holds from", widget=forms.DateInput(attrs={"type": "date"}))
    valid_until = forms.DateField(label="Holds until", widget=forms.DateInput(attrs={"type": "date"}),
                                  help_text="The first day on which it no longer holds.")  # fmt: skip
    file = forms.FileField(label="Document", help_text="At most 4 MiB. It is hashed and kept as it is.")

    def __init__(self, *args: Any, party: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        controls = Control.objects.exclude(kind="agreement")
        self.fields["control_code"].choices = [(each.code, f"{each.name}: {each.asks}") for each in controls]
        self.fields["site"].choices = [("", "all sites"), *((str(s.pk), str(s)) for s in sites_of(party))]

    def paper(self) -> Paper:
        """The file with its span."""
        file, given = self.cleaned_data["file"], self.cleaned_data
        body = file.read(BODY_MAX_BYTES + 1)
        return Paper(file.name[:120], body, midnight(given["valid_from"]), midnight(given["valid_until"]))


class CarveOutForm(DoorForm):
    """A rule of what is for sale; which service takes it is said by `kind`."""

    KINDS = (("carve_out", "Keep units for own researchers"), ("funding", "Units paid for by a grant"),
             ("open", "Open hours of the week"), ("closed", "Close hours of the week"))  # fmt: skip
    node_class = forms.ChoiceField(label="Node class")
    kind = forms.ChoiceField(label="Rule", choices=KINDS)
    units = forms.IntegerField(label="Units", required=False, min_value=1, help_text="Of a carve-out or a grant.")
    purpose = forms.CharField(label="Purpose", required=False, max_length=120, help_text="Of a carve-out.")
    source = forms.ChoiceField(label="Grant", required=False, help_text="Forbidden ones are not sold.")
    floor_micros = UsdPriceField(label="Floor", required=False, help_text="Full cost, under cost recovery.")
    ceiling_micros = UsdPriceField(label="Ceiling", required=False, help_text="The most that is asked.")
    from_hour = forms.IntegerField(label="From hour (UTC)", required=False, min_value=0, max_value=23)
    until_hour = forms.IntegerField(label="Until hour (UTC)", required=False, min_value=1, max_value=24)
    is_interruptible = forms.BooleanField(label="Interruptible: never given to firm demand", required=False)
    valid_from = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    valid_until = forms.DateField(label="Until", widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args: Any, party: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes = {str(c.pk): c for c in classes_to_offer(party)}
        self.fields["node_class"].choices = [
            (key, f"{c.resource_class_id} × {c.units} · {c.site}") for key, c in self._classes.items()
        ]
        sources = FundingSource.objects.all()
        self.fields["source"].choices = [("", "none"), *((s.code, f"{s.name} ({s.policy})") for s in sources)]
        for name in ("floor_micros", "ceiling_micros"):
            field = self.fields[name]
            field.clean = lambda text, clean=field.clean: clean(text) if text else None

    def apply(self, seat: Any, now: datetime) -> None:
        """Hand the rule to its service."""
        given = self.cleaned_data
        common = {"seat": seat, "node_class": self._classes[given["node_class"]], "now": now,
                  "times": Times(midnight(given["valid_from"]), midnight(given["valid_until"]))}  # fmt: skip
        if given["kind"] == "carve_out":
            set_carve_out(units=given["units"], purpose=given["purpose"], **common)
        elif given["kind"] == "funding":
            tag_funding(units=given["units"], source_code=given["source"], floor_micros=given["floor_micros"],
                        ceiling_micros=given["ceiling_micros"], **common)  # fmt: skip
        else:
            add_calendar_rule(kind=given["kind"], from_hour=given["from_hour"] or 0,
                              until_hour=given["until_hour"] or 24, is_firm=not given["is_interruptible"],
                              **common)  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def evidence(request: HttpRequest) -> HttpResponse:
    """Tiers reached by site, what each still asks for, documents with their ends, and the upload."""
    now = market_time(request)
    form = EvidenceForm(request.POST or None, request.FILES or None, party=request.party)
    if request.method == "POST" and form.is_valid():
        site = form.cleaned_data["site"]
        try:
            submit_evidence(
                seat=seat_of(request), control_code=form.cleaned_data["control_code"], paper=form.paper(),
                issuer=form.cleaned_data["issuer"], country=form.cleaned_data["country"].upper(),
                site_id=UUID(site) if site else None, now=now,
            )  # fmt: skip
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Handed in. It counts once a second person has accepted it.")
            return redirect("onboarding:evidence")
    rows = Evidence.objects.filter(party=request.party).select_related("control", "site", "review", "end")
    agreements = Agreement.objects.filter(provider=request.party).select_related("buyer", "control", "end")
    return render(request, "onboarding/evidence.html", {
        "form": form, "rows": rows.defer("body"), "reach": reach_of(request.party, now), "now": now,
        "agreements": agreements.defer("body").prefetch_related("signatures__party"),
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@provider_only
def evidence_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a document back."""
    row = found_or_404(Evidence.objects.filter(pk=pk, party=request.party).first())
    return _act(request, lambda seat, now: end_evidence(
        evidence=row, seat=seat, reason="taken back by its provider", now=now))  # fmt: skip


@require_POST
@provider_only
def agreement_sign(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Sign an agreement for the provider."""
    row = found_or_404(Agreement.objects.filter(pk=pk, provider=request.party).first())
    return _act(request, lambda seat, now: sign_agreement(
        agreement=row, seat=seat, title=request.POST.get("title", ""), now=now))  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def capacity(request: HttpRequest) -> HttpResponse:
    """What is for sale: carve-outs, grants and the calendar of each node class."""
    now = market_time(request)
    form = CarveOutForm(request.POST or None, party=request.party)
    if request.method == "POST" and form.is_valid():
        try:
            form.apply(seat_of(request), now)
        except MarketError as error:
            form.show(error, (("from_at", "valid_from"), ("until_at", "valid_until"), ("source_code", "source")))
        else:
            messages.success(request, "The rule holds for every bid and award from then on.")
            return redirect("onboarding:capacity")
    classes = classes_to_offer(request.party).prefetch_related(
        "carve_outs", "funding_tags__source", "calendar_rules__week", "calendar_weeks", "devices"
    )
    return render(request, "onboarding/capacity.html", {"form": form, "classes": classes},
                  status=422 if form.errors else 200)  # fmt: skip


def _act(request: HttpRequest, act: Any) -> HttpResponse:
    try:
        act(seat_of(request), market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Done, and on the audit trail.")
    return redirect("onboarding:evidence")
