"""Pages that help a buyer plan: the workload map, the cost of ownership, and what a demand is worth."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from marketplace.compliance.rules import list_data_classes
from marketplace.demand.models import Demand
from marketplace.demand.selectors import find_demand
from marketplace.doors import buyer_only, found_or_404, market_time
from marketplace.environment import CHECKOUT
from marketplace.errors import BadLines, MarketError
from marketplace.insights import costs, savings, workload_map
from marketplace.insights.ranges import Bar, range_bars
from marketplace.insights.squares import Square, quadrants
from marketplace.insights.worth import SEGMENT_OF_KIND, state_worth, statement_by, statement_of
from marketplace.portal.planning_forms import CostForm, WorkloadForm, WorthForm
from pricing.tco import CURVES, KINDS, Cost

SAMPLE = CHECKOUT / "fixtures" / "workloads" / "workloads.csv"


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
        "form": form, "data_classes": list_data_classes(), "chart": chart, "mistakes": mistakes[:50],
        "more": max(0, len(mistakes) - 50),
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


@require_http_methods(["GET", "POST"])
@buyer_only
def cost(request: HttpRequest) -> HttpResponse:
    """Compute a cost of ownership, and keep it when asked. An example stands in the form at first."""
    if request.method != "POST":
        case = costs.example()
        first = {"name": case["name"], "curve": case["curve"], "counterfactual": ""} | CostForm.filled(case)
        return _cost_page(request, CostForm(initial=first))
    form = CostForm(request.POST)
    compared = None
    if form.is_valid():
        data = form.cleaned_data
        given = {"inputs": form.inputs(), "curve": data["curve"], "counterfactual": data["counterfactual"]}
        try:
            if "keep" in request.POST:
                kept = costs.save_comparison(party=request.party, name=data["name"], now=market_time(request), **given)
                messages.success(request, "Kept, with every input and its source.")
                return redirect("portal:comparison", kept.pk)
            compared = costs.compare(**given)
        except MarketError as error:
            form.show_input(error)
    return _cost_page(request, form, compared)


@require_safe
@buyer_only
def comparison(request: HttpRequest, comparison_id: UUID) -> HttpResponse:
    """A comparison that was kept, computed again from its inputs."""
    kept = found_or_404(costs.find_comparison(comparison_id, request.party))
    first = {"name": kept.name, "curve": kept.curve, "counterfactual": kept.counterfactual}
    compared = costs.compare(kept.inputs, curve=kept.curve, counterfactual=kept.counterfactual)
    return _cost_page(request, CostForm(initial=first | CostForm.filled(kept.inputs)), compared, kept)


def _cost_page(
    request: HttpRequest, form: CostForm, compared: costs.Compared | None = None, kept: Any = None
) -> HttpResponse:
    return render(request, "portal/cost.html", {
        "form": form, "compared": compared, "kept": kept, "all_kept": costs.comparisons_of(request.party),
        "sides": [("now", "Now", form.table("now")), ("planned", "Planned", form.table("planned"))],
        "curve": CURVES.get(form["curve"].value() or ""), "chart": _cost_chart(compared) if compared else None,
        "lines": _cost_lines(compared) if compared else [],
        "sensitivity": [(words, _sensitivity(c)) for words, c in (("Now", compared.now), ("Planned", compared.planned))]
        if compared else [],
    }, status=422 if form.errors else 200)  # fmt: skip


def _cost_lines(compared: costs.Compared) -> list[tuple[str, Any, Any]]:
    return [
        (words, now, planned)
        for (_, words, now), (_, _, planned) in zip(compared.now.lines, compared.planned.lines, strict=True)
    ]


def _cost_chart(compared: costs.Compared) -> Any:
    bars = [
        Bar("All, now", compared.now.total.low, compared.now.total.base, compared.now.total.high),
        Bar("All, planned", compared.planned.total.low, compared.planned.total.base, compared.planned.total.high, "s"),
    ]
    return range_bars(bars, title="What it costs a year, low to high")


def _sensitivity(cost: Cost) -> dict[str, Any]:
    """Inputs with the widest effect first, and the sums that equal the ends of the range."""
    rows = sorted(cost.sensitivity, key=lambda s: s.to_low - s.to_high)
    shown = [(KINDS[s.key].words, s.to_low, s.to_high) for s in rows if s.to_low or s.to_high]
    return {
        "rows": shown, "base": cost.total.base, "low": cost.total.low, "high": cost.total.high,
        "to_low": sum(low for _, low, _ in shown), "to_high": sum(high for _, _, high in shown),
    }  # fmt: skip


@require_http_methods(["GET", "POST"])
@buyer_only
def worth(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Say what a demand is worth: pain, present spend, the incumbent's quote, and curves."""
    return _say(request, found_or_404(find_demand(demand_id, request.party)))


@require_http_methods(["GET", "POST"])
@buyer_only
def needs(request: HttpRequest) -> HttpResponse:
    """Say what hurts and what it costs today, before there is a demand."""
    return _say(request, None)


def _say(request: HttpRequest, demand: Demand | None) -> HttpResponse:
    said = statement_of(demand) if demand else statement_by(request.party)
    first = {"segment": SEGMENT_OF_KIND.get(request.party.kind)} | WorthForm.filled(said)
    form = WorthForm(request.POST if request.method == "POST" else None, demand=demand, initial=first)
    if request.method == "POST" and form.is_valid():
        try:
            state_worth(demand=demand, party=request.party, now=market_time(request), **form.terms())
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Noted. The last version before demand closes is what counts.")
            return redirect("portal:demand", demand.pk) if demand else redirect("portal:needs")
    curves = [form[field] for _, field in form.curve_fields()]
    return render(request, "portal/worth.html", {
        "demand": demand, "form": form, "curves": curves, "said": said,
    }, status=422 if form.errors else 200)  # fmt: skip


@require_safe
@buyer_only
def measured_savings(request: HttpRequest) -> HttpResponse:
    """What each settled lease cost beside the counterfactual that was named for its demand."""
    rows = savings.leases_with_differences(request.party)
    return render(request, "portal/savings.html", {"rows": rows, "measured": [d for _, d in rows if d]})
