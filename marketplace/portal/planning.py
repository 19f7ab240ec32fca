"""Pages that help a buyer plan before any demand stands: the workload map and the cost of ownership."""

from __future__ import annotations

from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from marketplace.doors import DoorForm, buyer_only, market_time
from marketplace.environment import CHECKOUT
from marketplace.errors import BadLines
from marketplace.insights import workload_map
from marketplace.insights.squares import Square, quadrants

SAMPLE = CHECKOUT / "fixtures" / "workloads" / "workloads.csv"


class WorkloadForm(DoorForm):
    """A list as people paste it, or as a file."""

    listing = forms.CharField(
        label="Your workloads", required=False, strip=False, widget=forms.Textarea(attrs={"rows": 8, "wrap": "off"}),
        help_text="One per line: name, units, data class, hours per week, then what you know of p95 latency in ms, "
        "shape (batch, service, gang), zone, GiB of memory per unit, present cost in USD a year.",
    )  # fmt: skip
    file = forms.FileField(label="Or a CSV file", required=False, help_text="At most 1,000 lines and 1 MB.")

    def text(self) -> str:
        """Return the list; a file goes before what was pasted. Bytes that are no text count as NUL."""
        file = self.cleaned_data.get("file")
        if file is None:
            return str(self.cleaned_data["listing"])
        return file.read(workload_map.BYTES_MAX + 1).decode("utf-8-sig", errors="replace").replace("\ufffd", "\x00")


@require_http_methods(["GET", "POST"])
@buyer_only
def workloads(request: HttpRequest) -> HttpResponse:
    """The workload map: a list in, four squares out, each line one click from a filled demand. Stores nothing."""
    is_post = request.method == "POST"
    sample = SAMPLE.read_text(encoding="utf-8") if request.GET.get("sample") else ""
    form = WorkloadForm(request.POST if is_post else None, request.FILES or None, initial={"listing": sample})
    placed, mistakes = [], []
    if is_post and form.is_valid():
        try:
            placed = workload_map.place_list(form.text(), party=request.party, on=market_time(request).date())
        except BadLines as error:
            form.show(error)
            mistakes = error.mistakes
    squares = workload_map.by_quadrant(placed)
    chart = quadrants(
        [Square(words, route, tuple(p.placement.workload.name for p in rows)) for _, words, route, rows in squares],
        title="Your workloads by latency and privacy",
    ) if placed else None  # fmt: skip
    return render(request, "portal/workloads.html", {
        "form": form, "mistakes": mistakes[:50], "more": max(0, len(mistakes) - 50), "chart": chart,
        "squares": [(words, route, [(p, _demand_link(p)) for p in rows]) for _, words, route, rows in squares],
    }, status=422 if form.errors else 200)  # fmt: skip


@require_safe
@buyer_only
def workload_sample(request: HttpRequest) -> HttpResponse:
    """The list of 20 workloads that shows the columns."""
    headers = {"Content-Disposition": 'attachment; filename="workloads.csv"'}
    return HttpResponse(SAMPLE.read_bytes(), content_type="text/csv; charset=utf-8", headers=headers)


def _demand_link(placed: workload_map.Placed) -> str:
    filled = [(name, value) for name, value in placed.form.items() if value not in ("", [])]
    return f"{reverse('portal:demand_new')}?{urlencode(filled, doseq=True)}"
