"""The console's cases of delivery: what the sources say of a disputed hour, and a judge's decision."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.delivery.cases import decide_case
from marketplace.delivery.selectors import cases_of, sources_of
from marketplace.doors import found_or_404, page_of, seat_of


@require_safe
def cases(request: HttpRequest) -> HttpResponse:
    """Every case, newest first."""
    return render_page(request, "delivery_cases", title="Delivery cases", page=page_of(request, cases_of(None)))


@require_http_methods(["GET", "HEAD", "POST"])
def case(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show what each source says of a disputed hour, and take a judge's decision."""
    row = found_or_404(cases_of(None).filter(pk=pk).first())
    if request.method != "POST":
        return render_page(request, "delivery_case", title="Decide a case", case=row, sources=sources_of(row))
    seat = seat_of(request)
    if seat is None:
        raise PermissionDenied("A judge of the Foundation decides cases.")
    try:
        decide_case(
            case_id=pk, seat=seat, bills=request.POST.get("decision") == "bill", now=clock.now(),
            reason=request.POST.get("reason", ""),
        )  # fmt: skip
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    else:
        messages.success(request, "The case is decided, and both parties are told.")
    return redirect("admin:delivery_case", pk=pk)
