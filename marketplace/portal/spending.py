"""Approvals, budgets and limits on the buyer's side: each page asks one service for each act."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from marketplace.demand.approvals import approve_demand, refuse_demand, used_of_budget, waiting_for
from marketplace.demand.selectors import find_demand
from marketplace.doors import DoorForm, UsdPriceField, buyer_only, found_or_404, market_time, seat_of
from marketplace.errors import MarketError
from marketplace.parties.roles import acts_of
from marketplace.spending.models import Budget, SpendingRule
from marketplace.spending.services import set_budget, set_seat_limit, set_spending_rule


class RuleForm(DoorForm):
    """Above which amount a demand waits, and for how many people."""

    threshold_micros = UsdPriceField(label="Threshold", help_text="What a demand may cost without an approval.")
    approvals_needed = forms.IntegerField(label="Approvals", min_value=1, max_value=5, initial=1)
    needs_purchase_order = forms.BooleanField(label="Asks for a purchase-order number", required=False)


class BudgetForm(DoorForm):
    """What a team may spend until a day."""

    name = forms.CharField(label="Budget", max_length=60)
    limit_micros = UsdPriceField(label="Limit")
    action = forms.ChoiceField(label="When it is used up", choices=(("notify", "tell us"), ("block", "refuse")))
    days = forms.IntegerField(label="Days", min_value=1, max_value=731, initial=365)


class LimitForm(DoorForm):
    """How much one demand may cost which a seat approves."""

    seat = forms.ChoiceField(label="Seat")
    limit_micros = UsdPriceField(label="Approves up to")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="seat_%s", **kwargs)  # a budget's limit stands on the same page


@require_safe
@buyer_only
def approvals(request: HttpRequest) -> HttpResponse:
    """What waits for an approval, budgets with what is used of them, and the rules."""
    return _page(request)


@require_POST
@buyer_only
def approve(request: HttpRequest, demand_id: UUID) -> HttpResponse:
    """Say yes or no to a demand that waits."""
    demand = found_or_404(find_demand(demand_id, request.party))
    service = approve_demand if request.POST.get("act") == "approve" else refuse_demand
    try:
        row = service(demand=demand, seat=seat_of(request), reason=request.POST.get("reason", "").strip(),
                      now=market_time(request))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, f"{row.reference} is {row.state} now.")
    return redirect("portal:approvals")


@require_POST
@buyer_only
def rules(request: HttpRequest) -> HttpResponse:
    """Set the threshold, a budget or a seat's limit."""
    seat, now = seat_of(request), market_time(request)
    seats = {str(each.pk): each for each in request.party.seats.all()}
    kinds = {"rule": RuleForm, "budget": BudgetForm, "limit": LimitForm}
    what = request.POST.get("what", "")
    form = kinds.get(what, RuleForm)(request.POST)
    if what == "limit":
        form.fields["seat"].choices = [(key, key) for key in seats]
    if form.is_valid():
        given: dict[str, Any] = dict(form.cleaned_data)
        try:
            if what == "budget":
                until = now + timedelta(days=given.pop("days"))
                set_budget(seat=seat, from_at=now, until_at=until, now=now, **given)
            elif what == "limit":
                set_seat_limit(seat=seat, of=seats[given["seat"]], limit_micros=given["limit_micros"], now=now)
            else:
                set_spending_rule(seat=seat, now=now, **given)
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Set, and on the audit trail.")
            return redirect("portal:approvals")
    return _page(request, status=422, refused=form)


def _page(request: HttpRequest, status: int = 200, refused: DoorForm | None = None) -> HttpResponse:
    seat = seat_of(request)
    limits = LimitForm()
    seats = list(request.party.seats.select_related("user", "limit"))
    limits.fields["seat"].choices = [(str(s.pk), f"{s.user.email} ({s.role})") for s in seats]
    budgets = Budget.objects.filter(party=request.party)
    return render(request, "portal/approvals.html", {
        "waiting": waiting_for(seat).prefetch_related("approvals__seat__user") if seat else [],
        "budgets": [(budget, used_of_budget(budget)) for budget in budgets], "seats": seats,
        "rule": SpendingRule.objects.filter(party=request.party).first(), "acts": acts_of(seat) if seat else set(),
        "rule_form": RuleForm(), "budget_form": BudgetForm(), "limit_form": limits, "form": refused,
    }, status=status)  # fmt: skip
