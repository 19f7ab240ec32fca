"""The console's cases of delivery, what judges decide of them, and what two judges sign of their causes."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.moments import moment
from marketplace.console.views import render_page
from marketplace.delivery.cases import decide_case
from marketplace.delivery.causes import sign_cause, signed_causes
from marketplace.delivery.selectors import cases_of, running_leases_by_name, sources_of
from marketplace.doors import found_or_404, page_of, seat_of
from marketplace.escrow.models import Lease
from marketplace.supply.models import NodeClass


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


@require_http_methods(["GET", "HEAD", "POST"])
def causes(request: HttpRequest) -> HttpResponse:
    """Show what was signed as not the provider's doing, and take a judge's signature for a lease or a whole class."""
    if request.method != "POST":
        classes = NodeClass.objects.select_related("party", "site").order_by("chain_class")
        return render_page(
            request, "causes", title="Causes of bad minutes", causes=signed_causes(most=50), classes=classes,
            leases=running_leases_by_name(),
        )  # fmt: skip
    seat = seat_of(request)
    if seat is None:
        raise PermissionDenied("A judge of the Foundation signs a cause.")
    try:
        sign_cause(
            of=_signed_for(request.POST), cause=request.POST.get("cause", ""), seat=seat, now=clock.now(),
            starts_at=moment(request.POST, "starts_at"), ends_at=moment(request.POST, "ends_at"),
            evidence=request.POST.get("evidence", ""),
        )  # fmt: skip
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    else:
        messages.success(request, "Signed. It counts once a second judge signed the same; the parties are told.")
    return redirect("admin:causes")


def _signed_for(posted: QueryDict) -> Lease | NodeClass:
    """The lease or the class that a signature names."""
    number, asked = posted.get("node_class", ""), posted.get("lease", "")
    if number:
        found = NodeClass.objects.filter(chain_class=number).first() if number.isdecimal() else None
        return found_or_404(found)
    return found_or_404(next((lease for lease in running_leases_by_name() if str(lease.pk) == asked), None))
