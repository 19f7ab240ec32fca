"""The gate board of the phases with its sign-offs and signals, and the orders that wait for a second person."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.demand.funding_models import FundingLine
from marketplace.doors import DoorForm, found_or_404
from marketplace.errors import BadInput
from marketplace.escrow.advances import approve_line, refuse_line
from marketplace.governance.phases import gate_board, keep_evidence, open_phase, sign_phase
from marketplace.governance.signals import (
    KINDS,
    close_signal,
    hold_review,
    is_review_due,
    last_review,
    open_signals,
    quarter_of,
    raise_signal,
)
from marketplace.insights.gates import phase_counts
from marketplace.parties.roles import require_person
from marketplace.payout.invoice_models import Invoice
from marketplace.payout.invoices import ageing, note_payment, open_invoices
from marketplace.payout.taxes import approve_tax, propose_tax, tax_rules

LINES_SHOWN = 50


class TaxForm(DoorForm):
    """A rule as `propose_tax` takes it."""

    country = forms.CharField(label="Country", max_length=2, help_text="Of the buyer, two capital letters.")
    rate_ppm = forms.IntegerField(
        label="Rate, parts per million", min_value=0, max_value=10**6, help_text="190000 is 19 %.")
    words = forms.CharField(label="On the invoice", max_length=120, help_text="As the invoice says it.")
    valid_from = forms.DateTimeField(label="In force from", help_text="UTC, such as 2030-01-01 00:00.")


@require_http_methods(["GET", "HEAD", "POST"])
def phases(request: HttpRequest) -> HttpResponse:
    """What each phase waits for, with evidence; a person signs, opens, enters or closes a signal, holds the review."""
    if request.method == "POST":
        return _act(request)
    now, counts = clock.now(), phase_counts()
    return render_page(
        request, "phases", title="Phases", board=gate_board(counts), signals=open_signals(), kinds=sorted(KINDS),
        review=last_review(), is_review_due=is_review_due(now), quarter=quarter_of(now),
    )  # fmt: skip


def _act(request: HttpRequest) -> HttpResponse:
    act = {
        "sign": _sign, "open": _open, "raise": _raise, "close": _close, "review": _review,
    }.get(request.POST.get("act", ""))  # fmt: skip
    if act is None:
        raise Http404("no such act")
    return _told(request, "admin:phases", lambda: act(request))


def _sign(request: HttpRequest) -> str:
    require_person(_person(request), "review", "sign phases")
    no, counts, now = _number(request, "phase"), phase_counts(), clock.now()
    evidence = keep_evidence(no=no, counts=counts, now=now)
    sign_phase(no=no, evidence_hash=bytes(evidence.hash), counts=counts, person=_person(request), now=now)
    return f"You signed phase {no} on the figures as they are now."


def _open(request: HttpRequest) -> str:
    require_person(_person(request), "review", "open phases")
    phase = open_phase(no=_number(request, "phase"), counts=phase_counts(), person=_person(request), now=clock.now())
    return f"{phase} is open."


def _raise(request: HttpRequest) -> str:
    freezes = _number(request, "freezes") if request.POST.get("freezes") else None
    signal = raise_signal(
        kind=request.POST.get("kind", ""), title=request.POST.get("title", ""), owner=_person(request),
        evidence_link=request.POST.get("evidence_link", ""), freezes=freezes, now=clock.now(),
    )  # fmt: skip
    return f"The signal is entered; it {signal.direction} the case."


def _close(request: HttpRequest) -> str:
    require_person(_person(request), "review", "close signals")
    close_signal(signal_id=_id(request, "signal"), person=_person(request), reason=request.POST.get("reason", ""),
                 now=clock.now())  # fmt: skip
    return "The signal is closed."


def _review(request: HttpRequest) -> str:
    require_person(_person(request), "review", "hold reviews")
    review = hold_review(person=_person(request), verdict=request.POST.get("verdict", ""), counts=phase_counts(),
                         now=clock.now())  # fmt: skip
    return f"The review of {review.quarter} is kept, with every open signal."


@require_http_methods(["GET", "HEAD", "POST"])
def funding_lines(request: HttpRequest) -> HttpResponse:
    """Purchase orders and grants that buyers asked for; another person than the asker decides, with a reason."""
    if request.method != "POST":
        rows = FundingLine.objects.select_related("party").order_by("-asked_at", "-id")
        return render_page(
            request, "funding_lines", title="Orders and grants", pending=rows.filter(state="PENDING"),
            decided=rows.exclude(state="PENDING")[:LINES_SHOWN], invoices=open_invoices()[:LINES_SHOWN],
            ages=ageing(now=clock.now()), taxes=tax_rules(), tax_form=TaxForm(prefix="tax"), person=_person(request),
        )  # fmt: skip
    taxing = {"propose_tax": _propose_tax, "approve_tax": _approve_tax}.get(request.POST.get("act", ""))
    if taxing is not None:
        return _told(request, "admin:funding_lines", lambda: taxing(request))
    if request.POST.get("act") == "paid":
        invoice = found_or_404(open_invoices().filter(pk=_id(request, "invoice")).first())
        return _told(request, "admin:funding_lines", lambda: _paid(request, invoice))
    line = found_or_404(FundingLine.objects.filter(pk=_id(request, "line")).first())
    decide = {"approve": approve_line, "refuse": refuse_line}.get(request.POST.get("act", ""))
    if decide is None:
        raise Http404("no such act")

    def act() -> str:
        row = decide(line=line, person=_person(request), reason=request.POST.get("reason", ""), now=clock.now())
        return f"{row} of {line.party.name} is {row.state.lower()}."

    return _told(request, "admin:funding_lines", act)


def _paid(request: HttpRequest, invoice: Invoice) -> str:
    note_payment(invoice=invoice, person=_person(request), reference=request.POST.get("reference", ""),
                 now=clock.now())  # fmt: skip
    return f"Invoice {invoice} is paid."


def _propose_tax(request: HttpRequest) -> str:
    form = TaxForm(request.POST, prefix="tax")
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise BadInput(f"{form.fields[field].label}: {errors[0]}", field=field)
    propose_tax(**form.cleaned_data, person=_person(request), now=clock.now())
    return "Proposed. It comes into force on its day when another person approves it."


def _approve_tax(request: HttpRequest) -> str:
    rule = approve_tax(rule_id=_id(request, "tax_rule"), person=_person(request), now=clock.now())
    return f"{rule} is approved."


def _told(request: HttpRequest, back: str, act: Callable[[], str]) -> HttpResponse:
    try:
        messages.success(request, act())
    except REFUSALS as refusal:
        messages.error(request, f"{refusal} ({refusal.code})")
    return redirect(back)


def _person(request: HttpRequest) -> str:
    return str(request.user.get_username())


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    if text not in ("1", "2", "3", "4"):
        raise Http404("no such phase")
    return int(text)


def _id(request: HttpRequest, name: str) -> UUID:
    try:
        return UUID(request.POST.get(name, ""))
    except ValueError:
        raise Http404("no such thing") from None
