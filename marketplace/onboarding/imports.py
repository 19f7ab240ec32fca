"""The page for exports of what a provider already runs: read, propose a week, and make it a calendar if one wants."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.capacity.services import Times
from marketplace.capacity.week_models import CalendarWeek
from marketplace.capacity.weeks import adopt_week, undo_week
from marketplace.doors import DoorForm, found_or_404, market_time, midnight, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.supply.imports import (
    BYTES_MAX,
    READERS,
    SKIPPED_TOLD,
    Imported,
    Proposal,
    hour_words,
    propose,
    read_export,
)
from marketplace.supply.selectors import classes_to_offer

WORDS = {"slurm": "Slurm: sacct --parsable2", "blazar": "Blazar: leases as JSON",
         "coldfront": "ColdFront: allocations as JSON", "waldur": "Waldur: component usages as JSON"}  # fmt: skip


class ImportForm(DoorForm):
    """An export, how much of its resource there is, and what researchers keep."""

    kind = forms.ChoiceField(label="Format", choices=[(kind, WORDS[kind]) for kind in READERS])
    file = forms.FileField(label="File", help_text="It is read here and not kept.")
    time_zone = forms.CharField(
        label="Time zone of the cluster", required=False, help_text="Slurm writes local times. Such as Europe/Berlin."
    )
    capacity_units = forms.IntegerField(label="Units you have of it", min_value=1)
    carve_out_percent = forms.IntegerField(
        label="Kept for research", initial=50, min_value=0, max_value=100, help_text="Never sold; rounded up."
    )

    def read(self) -> tuple[Imported, list[Proposal]]:
        """Read the file and propose a week for each resource in it. Raises MarketError."""
        data = self.cleaned_data
        text = data["file"].read(BYTES_MAX).decode("utf-8", errors="replace")
        found = read_export(text, kind=data["kind"], time_zone=data["time_zone"])
        share = data["carve_out_percent"] * 10_000
        return found, [
            propose(found, resource=name, capacity_units=data["capacity_units"], carve_out_ppm=share)
            for name in found.resources()
        ]


class WeekForm(DoorForm):
    """A proposed week that becomes the calendar of a node class. The spans are those of the proposal, checked anew."""

    node_class = forms.ChoiceField(label="Node class", help_text="Whose hours these are.")
    valid_from = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    valid_until = forms.DateField(label="Until", widget=forms.DateInput(attrs={"type": "date"}),
                                  help_text="The first day on which it no longer holds.")  # fmt: skip
    spans = forms.JSONField(label="The proposed hours", widget=forms.HiddenInput)
    source = forms.CharField(label="Where from", max_length=120, widget=forms.HiddenInput)

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes = {str(c.pk): c for c in classes_to_offer(party)}
        self.fields["node_class"].choices = [
            (key, f"{c.resource_class_id} × {c.units} · {c.site}") for key, c in self._classes.items()
        ]

    def clean_spans(self) -> list[list[int]]:
        spans = self.cleaned_data["spans"]
        if not isinstance(spans, list) or not all(isinstance(each, list) for each in spans):
            raise forms.ValidationError("These are not the hours of a proposal: read the export again.")
        return spans

    def adopt(self, seat: Any, now: datetime) -> None:
        """Hand the week to its service."""
        given = self.cleaned_data
        times = Times(max(now, midnight(given["valid_from"])), midnight(given["valid_until"]))
        adopt_week(seat=seat, node_class=self._classes[given["node_class"]], spans=given["spans"], times=times,
                   source=given["source"], now=now)  # fmt: skip


@require_http_methods(["GET", "POST"])
@provider_only
def imports(request: HttpRequest) -> HttpResponse:
    """Upload an export and see the week that could be sold beside it."""
    is_week = request.POST.get("act") == "week"
    form = ImportForm(request.POST, request.FILES) if request.method == "POST" and not is_week else ImportForm()
    week = WeekForm(request.POST if is_week else None, party=request.party)
    found, proposals = None, []
    if is_week and week.is_valid():
        try:
            week.adopt(seat_of(request), market_time(request))
        except MarketError as error:
            week.show(error, (("from_at", "valid_from"), ("until_at", "valid_until")))
        else:
            messages.success(request, "It is the calendar now. One button below takes all of it back.")
            return redirect("onboarding:capacity")
    if form.is_bound and form.is_valid():
        try:
            found, proposals = form.read()
        except MarketError as error:
            form.show(error)
    return render(request, "onboarding/imports.html", {
        "form": form, "found": found, "skipped": found.skipped[:SKIPPED_TOLD] if found else [],
        "proposals": [(p, [(hour_words(a), hour_words(b), n) for a, b, n in p.spans],
                       WeekForm(party=request.party, auto_id=f"week{n}_%s", initial={
                           "spans": p.spans, "source": f"{form['kind'].value()} {p.resource}"[:120]}))
                      for n, p in enumerate(proposals)],
        "week": week, "refused": week if week.errors else form,
    }, status=422 if form.errors or week.errors else 200)  # fmt: skip


@require_POST
@provider_only
def week_undo(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take an adopted week back, with all of its rules."""
    row = found_or_404(CalendarWeek.objects.filter(pk=pk, node_class__party=request.party).first())
    try:
        undo_week(seat=seat_of(request), week=row, now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Taken back: its hours are no rule any more.")
    return redirect("onboarding:capacity")
