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
from marketplace.parties.seats import seats_of
from marketplace.parties.two_people import ONE_PERSON_FOR
from marketplace.spending.models import Budget, SpendingChange, SpendingRule
from marketplace.spending.services import (
    decide_change,
    may_decide,
    set_budget,
    set_order_limit,
    set_seat_limit,
    set_spending_rule,
    waiting_changes,
)


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


class OrderLimitForm(DoorForm):
    """How much one demand may cost which a seat posts without an approval."""

    seat = forms.ChoiceField(label="Seat that posts", help_text="Not your own: another owner sets that one.")
    order_max_micros = UsdPriceField(
        label="Posts up to", required=False, help_text="Above it a demand waits for an approval. Empty: no own limit."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["order_max_micros"]
        field.clean = lambda text, clean=field.clean: clean(text) if text else None


FORMS: dict[str, type[DoorForm]] = {
    "rule": RuleForm, "budget": BudgetForm, "limit": LimitForm, "order_limit": OrderLimitForm,
}  # fmt: skip


def _form(what: str, typed: Any = None) -> DoorForm:
    """One of the forms of the page, its fields named apart from those of the others, so that a label has one field."""
    return FORMS[what](typed, auto_id=f"id_{what}_%s")


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
def change(request: HttpRequest, change_id: UUID) -> HttpResponse:
    """Let a change of the rules that waits, or refuse it."""
    row = found_or_404(SpendingChange.objects.filter(pk=change_id, party=request.party).first())
    is_let = request.POST.get("act") == "let"
    try:
        decide_change(change=row, seat=found_or_404(seat_of(request)), is_let=is_let,
                      reason=request.POST.get("reason", "").strip(), now=market_time(request))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "The change is in force." if is_let else "Refused: all stays as it was.")
    return redirect("portal:approvals")


@require_POST
@buyer_only
def rules(request: HttpRequest) -> HttpResponse:
    """Set the threshold, a budget or a limit of a seat."""
    seat, now = seat_of(request), market_time(request)
    seats = {str(each.pk): each for each in request.party.seats.all()}
    what = request.POST.get("what", "")
    form = _form(what if what in FORMS else "rule", request.POST)
    if "seat" in form.fields:
        form.fields["seat"].choices = [(key, key) for key in seats]
    if form.is_valid():
        given: dict[str, Any] = dict(form.cleaned_data)
        waits: SpendingChange | None = None
        try:
            if what == "budget":
                until = now + timedelta(days=given.pop("days"))
                set_budget(seat=seat, from_at=now, until_at=until, now=now, **given)
            elif what == "limit":
                waits = set_seat_limit(seat=seat, of=seats[given["seat"]], limit_micros=given["limit_micros"], now=now)
            elif what == "order_limit":
                waits = set_order_limit(seat=seat, of=seats[given["seat"]], now=now,
                                        order_max_micros=given["order_max_micros"])  # fmt: skip
            else:
                waits = set_spending_rule(seat=seat, now=now, **given)
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "It asks less than before: another person has to let it." if waits
                             else "Set, and on the audit trail.")  # fmt: skip
            return redirect("portal:approvals")
    return _page(request, status=422, refused=form)


def _page(request: HttpRequest, status: int = 200, refused: DoorForm | None = None) -> HttpResponse:
    seat = seat_of(request)
    limits, order_limits = _form("limit"), _form("order_limit")
    seats = list(seats_of(request.party).filter(user__is_active=True))
    for form in (limits, order_limits):
        form.fields["seat"].choices = [(str(s.pk), f"{s.user.email} ({s.role})") for s in seats]
    budgets = Budget.objects.filter(party=request.party)
    changes = [(row, may_decide(row, seat, market_time(request))) for row in waiting_changes(request.party)]
    return render(request, "portal/approvals.html", {
        "waiting": waiting_for(seat).prefetch_related("approvals__seat__user") if seat else [],
        "budgets": [(budget, used_of_budget(budget)) for budget in budgets], "seats": seats,
        "rule": SpendingRule.objects.filter(party=request.party).first(), "acts": acts_of(seat) if seat else set(),
        "rule_form": _form("rule"), "budget_form": _form("budget"), "limit_form": limits, "form": refused,
        "order_limit_form": order_limits, "changes": changes, "own": seat, "days": ONE_PERSON_FOR.days,
    }, status=status)  # fmt: skip
