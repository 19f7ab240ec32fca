"""The console's pages about money and jobs: the trial balance at any number, its files, the parked jobs."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from ledger.exports import Export, Span, StatementExport, TransfersExport, TrialBalanceExport
from ledger.tasks import TRIES_MAX, dead_jobs
from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.reads import books_page, seq_asked_for
from marketplace.console.views import render_page
from marketplace.doors import found_or_404, page_of
from marketplace.downloads import asked_file, send_export
from marketplace.governance.jobs import drop_parked, retry_parked, told_job_lines
from marketplace.parties.models import Party
from marketplace.parties.roles import require_person

LINES_TOLD = 20


@require_safe
def books(request: HttpRequest) -> HttpResponse:
    """Trial balance now or at `?at=` a number or time, epochs, and the last comparisons with chain and processor."""
    asked, refusal, at_seq = request.GET.get("at", "")[:40], "", None
    try:
        at_seq = seq_asked_for(asked)
    except REFUSALS as error:
        refusal = f"{error} ({error.code})"
    answer = render_page(request, "books", title="Trial balance and epochs", asked=asked, refusal=refusal,
                  **books_page(at_seq))  # fmt: skip
    answer.status_code = 422 if refusal else 200
    return answer


@require_safe
def books_file(request: HttpRequest, what: str) -> HttpResponseBase:
    """The trial balance at `to_seq`, the transfers of a range, or the statement of `?party=`, as a file."""
    try:
        format, span = asked_file(request.GET)
        export, owner = _export_of(request, what, span)
        return send_export(request, export, format, owner=owner)
    except REFUSALS as error:
        messages.error(request, f"{error} ({error.code})")
        return redirect("admin:books")


def _export_of(request: HttpRequest, what: str, span: Span) -> tuple[Export, str]:
    if what == "trial-balance":
        return TrialBalanceExport(span.to_seq), ""
    if what == "transfers":
        return TransfersExport(span), ""
    if what == "statement":
        party = found_or_404(Party.objects.filter(slug=request.GET.get("party", "")).first())
        return StatementExport(party.pk, span), party.slug
    raise Http404("no such file of the books")


@require_http_methods(["GET", "HEAD", "POST"])
def parked_jobs(request: HttpRequest) -> HttpResponse:
    """Jobs that failed too often: try one again or drop it, with a reason; and what was done with others."""
    if request.method == "POST":
        return _help_job(request)
    return render_page(
        request, "parked_jobs", title="Parked jobs", page=page_of(request, dead_jobs()), tries_max=TRIES_MAX,
        told=told_job_lines()[:LINES_TOLD],
    )  # fmt: skip


def _help_job(request: HttpRequest) -> HttpResponse:
    act, done = {
        "retry": (retry_parked, "The job is tried again within a second or two."),
        "drop": (drop_parked, "The job is dropped. It stays in the table of jobs, with its last error."),
    }.get(request.POST.get("act", ""), (None, ""))
    try:
        job_id = UUID(request.POST.get("job", ""))
    except ValueError:
        raise Http404("no such job") from None
    if act is None:
        raise Http404("no such act")
    person = request.user.get_username()
    try:
        require_person(person, "operate", "try jobs again or drop them")
        act(id=job_id, person=person, reason=request.POST.get("reason", ""), now=clock.now())
    except REFUSALS as error:
        messages.error(request, f"{error} ({error.code})")
    else:
        messages.success(request, done)
    return redirect("admin:parked_jobs")
