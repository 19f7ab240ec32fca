"""The page for exports of what a provider already runs: read, propose a week, store nothing."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from marketplace.doors import DoorForm, provider_only
from marketplace.errors import MarketError
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


@require_http_methods(["GET", "POST"])
@provider_only
def imports(request: HttpRequest) -> HttpResponse:
    """Upload an export and see the week that could be sold beside it."""
    form = ImportForm(request.POST, request.FILES) if request.method == "POST" else ImportForm()
    found, proposals = None, []
    if request.method == "POST" and form.is_valid():
        try:
            found, proposals = form.read()
        except MarketError as error:
            form.show(error)
    return render(request, "onboarding/imports.html", {
        "form": form, "found": found, "skipped": found.skipped[:SKIPPED_TOLD] if found else [],
        "proposals": [(p, [(hour_words(a), hour_words(b), n) for a, b, n in p.spans]) for p in proposals],
    }, status=422 if form.errors else 200)  # fmt: skip
