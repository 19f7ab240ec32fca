"""Reports on the buyer's side, and the anonymous outcomes for everybody."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from marketplace.doors import DoorForm, buyer_only, market_time, page_of, seat_of
from marketplace.errors import MarketError
from marketplace.oversight.report_models import REPORT_KINDS, Report
from marketplace.oversight.reports import EVIDENCE_MAX_BYTES, make_report, published_outcomes, report_rule
from marketplace.parties.services import list_providers


class ReportForm(DoorForm):
    """Who did what. Fields carry the names of `make_report`."""

    about = forms.ChoiceField(label="About")
    kind = forms.ChoiceField(label="What it is about", choices=[(k, k.replace("_", " ")) for k in REPORT_KINDS])
    text = forms.CharField(label="What happened", max_length=2000, widget=forms.Textarea(attrs={"rows": 6}))
    evidence = forms.FileField(label="Evidence", required=False, help_text="One file, at most 4 MiB.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parties = {party.slug: party for party in list_providers()}
        self.fields["about"].choices = [(slug, party.name) for slug, party in self._parties.items()]

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `make_report`."""
        given, file = self.cleaned_data, self.cleaned_data["evidence"]
        return {
            "about": self._parties[given["about"]], "kind": given["kind"], "text": given["text"],
            "evidence": file.read(EVIDENCE_MAX_BYTES + 1) if file else b"", "file_name": file.name if file else "",
        }  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@buyer_only
def reports(request: HttpRequest) -> HttpResponse:
    """Own reports with their way, and the form for another."""
    form = ReportForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            make_report(party=request.party, seat=seat_of(request), now=market_time(request), **form.terms())
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Reported. Your deposit is held until two people have decided.")
            return redirect("portal:reports")
    own = Report.objects.filter(reporter=request.party).select_related("about").defer("evidence")
    rows = own.order_by("-made_at", "-id")[:25]
    return render(request, "portal/reports.html", {"form": form, "rows": rows, "rule": report_rule()},
                  status=422 if form.errors else 200)  # fmt: skip


@require_safe
def outcomes(request: HttpRequest) -> HttpResponse:
    """What was reported and decided, without any name."""
    page = page_of(request, published_outcomes())
    return render(request, "portal/report_outcomes.html", {"page": page, "rule": report_rule()})
