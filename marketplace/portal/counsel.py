"""Counsel's sign-off on the buyer's side: which demands need it, and counsel's word."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.compliance.rules import list_data_classes
from marketplace.demand.counsel import (
    OPINION_MAX_BYTES,
    end_counsel_rule,
    require_counsel,
    sign_off,
    waiting_for_counsel,
)
from marketplace.demand.counsel_models import CounselRule, CounselSignOff
from marketplace.demand.selectors import find_demand
from marketplace.doors import DoorForm, buyer_only, found_or_404, market_time, seat_of
from marketplace.errors import MarketError
from marketplace.parties.roles import acts_of


class CounselRuleForm(DoorForm):
    """For which data counsel is asked."""

    data_class = forms.ChoiceField(label="Demands with", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["data_class"].choices = [("", "any data"), *((c.pk, c.name) for c in list_data_classes())]


@require_http_methods(["GET", "HEAD", "POST"])
@buyer_only
def counsel(request: HttpRequest) -> HttpResponse:
    """Rules in force, demands that wait for counsel, and what counsel has said; the form adds a rule."""
    form = CounselRuleForm(request.POST if request.method == "POST" else None)
    seat = found_or_404(seat_of(request))
    if request.method == "POST" and form.is_valid():
        try:
            require_counsel(seat=seat, data_class=form.cleaned_data["data_class"] or None, now=market_time(request))
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "From now on nothing is awarded to such demands before counsel has signed.")
            return redirect("portal:counsel")
    words = CounselSignOff.objects.filter(demand__party=request.party).select_related("demand__window", "seat__user")
    return render(request, "portal/counsel.html", {
        "form": form, "rules": CounselRule.objects.filter(party=request.party, ended_at=None)
        .select_related("data_class"), "waiting": waiting_for_counsel(request.party), "acts": acts_of(seat),
        "words": words.order_by("-at", "-pk")[:25],
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@buyer_only
def counsel_sign(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Counsel's word on one demand, with its opinion as a file if there is one."""
    demand = found_or_404(find_demand(demand_id, request.party))
    file = request.FILES.get("opinion")
    return _done(request, lambda: sign_off(
        seat=found_or_404(seat_of(request)), demand=demand, is_approved=request.POST.get("act") == "approve",
        reason=request.POST.get("reason", ""), opinion=file.read(OPINION_MAX_BYTES + 1) if file else None,
        now=market_time(request),
    ))  # fmt: skip


@require_POST
@buyer_only
def counsel_rule_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """End a rule."""
    return _done(request, lambda: end_counsel_rule(
        seat=found_or_404(seat_of(request)), rule_id=pk, reason=request.POST.get("reason", ""),
        now=market_time(request),
    ))  # fmt: skip


def _done(request: HttpRequest, act: Any) -> HttpResponse:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Done, and on the audit trail.")
    return redirect("portal:counsel")
