"""The triage queue of reports: one person looks, another decides; the public learns no name."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from ledger.rewards import reward_pool_micros
from marketplace import clock
from marketplace.console.views import render_page
from marketplace.doors import found_or_404, seat_of
from marketplace.errors import MarketError
from marketplace.oversight.report_models import Report
from marketplace.oversight.reports import decide_report, report_rule, triage_report

DECIDED_SHOWN = 20


@require_safe
def reports(request: HttpRequest) -> HttpResponse:
    """What waits, oldest first, and what was decided last."""
    rows = Report.objects.select_related("reporter", "about").defer("evidence")
    return render_page(
        request, "reports", title="Reports", waiting=rows.filter(state__in=("open", "triaged")),
        decided=rows.filter(state__in=("upheld", "rejected")).order_by("-decided_at", "-id")[:DECIDED_SHOWN],
        rule=report_rule(), pool_micros=reward_pool_micros(),
    )  # fmt: skip


@require_POST
def report_act(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Triage, uphold or reject one report."""
    seat, now = found_or_404(seat_of(request)), clock.now()
    reason, outcome = request.POST.get("reason", ""), request.POST.get("outcome", "")
    act = request.POST.get("act", "")
    if act not in ("triage", "uphold", "reject"):
        raise Http404("no such act")
    try:
        if act == "triage":
            triage_report(seat=seat, report_id=pk, reason=reason, now=now)
        else:
            decide_report(seat=seat, report_id=pk, is_upheld=act == "uphold", reason=reason, outcome=outcome, now=now)
    except MarketError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "Done, and on the audit trail.")
    return redirect("admin:reports")
