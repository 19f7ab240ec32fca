"""Undertakings of universities that wait for a second person, and those that were decided."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.doors import found_or_404, seat_of
from marketplace.governance.services import record
from marketplace.parties.roles import require_act
from marketplace.supply.entry import end_undertaking, review_undertaking
from marketplace.supply.entry_models import Undertaking

SHOWN = 50


@require_http_methods(["GET", "HEAD", "POST"])
def undertakings(request: HttpRequest) -> HttpResponse:
    """Accept, refuse or revoke an undertaking, with a reason; read its document."""
    rows = Undertaking.objects.select_related("node_class__party", "node_class__site", "seat__user", "review", "end")
    if request.method == "POST":
        row = found_or_404(rows.filter(pk=_id(request.POST.get("id", ""))).first())
        try:
            messages.success(request, _act(request, row))
        except REFUSALS as refusal:
            messages.error(request, f"{refusal} ({refusal.code})")
        return redirect("admin:undertakings")
    if "document" in request.GET:
        return _document(request, found_or_404(rows.filter(pk=_id(request.GET["document"])).first()))
    rows = rows.defer("body")
    return render_page(
        request, "undertakings", title="Undertakings", waiting=rows.filter(review=None, end=None),
        decided=rows.exclude(review=None)[:SHOWN], now=clock.now(),
    )  # fmt: skip


def _act(request: HttpRequest, row: Undertaking) -> str:
    seat, act, reason = found_or_404(seat_of(request)), request.POST.get("act", ""), request.POST.get("reason", "")
    if act == "end":
        end_undertaking(undertaking=row, seat=seat, reason=reason, now=clock.now())
        return "It is ended. The contract is told at the next turn."
    if act not in ("accept", "refuse"):
        raise Http404("no such act")
    review_undertaking(undertaking=row, seat=seat, is_accepted=act == "accept", reason=reason, now=clock.now())
    return "Accepted: it stands in for cash from the next turn on." if act == "accept" else "Refused."


def _document(request: HttpRequest, row: Undertaking) -> HttpResponse:
    seat = found_or_404(seat_of(request))
    require_act(seat, "review", "read this document")
    record(actor=seat.user.email, action="saw_undertaking", subject=row.pk, reason=row.file_name, now=clock.now(),
           sha256=bytes(row.sha256).hex())  # fmt: skip
    disposition = {"Content-Disposition": f'attachment; filename="undertaking-{row.pk}"'}
    return HttpResponse(bytes(row.body), content_type="application/octet-stream", headers=disposition)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404("no such thing") from None
