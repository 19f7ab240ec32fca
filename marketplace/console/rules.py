"""The rules that the Foundation sets for everybody: lapse of quota, reports and their pool, the set-aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from ledger.rewards import reward_pool_micros
from marketplace import clock
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.doors import UsdPriceField, found_or_404, seat_of
from marketplace.errors import BadInput
from marketplace.insights.public_benefit import benefit_report, set_aside
from marketplace.oversight.reports import fill_reward_pool, report_rule, set_report_rule
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.supply.entry import entry_rule, set_entry_rule
from marketplace.supply.lapses import lapse_rule, set_lapse_rule


class RuleForm(forms.Form):
    """Each change has its reason, which the trail keeps."""

    reason = forms.CharField(label="Why", max_length=300, help_text="Goes on the audit trail.")

    def put(self, seat: Seat) -> str:
        """Set the rule; returns the sentence to show."""
        raise NotImplementedError


class LapseForm(RuleForm):
    """After how many windows without a bid quota lapses."""

    windows = forms.IntegerField(
        label="Windows without a bid", help_text="After so many quota lapses; notice is given one before.")
    field_order = ("windows", "reason")

    def put(self, seat: Seat) -> str:
        require_act(seat, "operate", "set the rule of lapses")
        set_lapse_rule(**self.cleaned_data, person=seat.user.email, now=clock.now())
        return "Quota lapses by the new rule from the next turn on."


class ReportForm(RuleForm):
    """Deposit and reward of a report."""

    deposit_micros = UsdPriceField(label="Deposit, dollars", help_text="Held from whoever reports.")
    reward_micros = UsdPriceField(label="Reward, dollars", help_text="A fixed sum out of the pool.")
    field_order = ("deposit_micros", "reward_micros", "reason")

    def put(self, seat: Seat) -> str:
        require_act(seat, "operate", "set the rule of reports")
        set_report_rule(**self.cleaned_data, person=seat.user.email, now=clock.now())
        return "Reports made from now on follow the new rule."


class PoolForm(RuleForm):
    """Capital for rewards."""

    micros = UsdPriceField(label="Amount, dollars", help_text="Of the Foundation's capital.")
    field_order = ("micros", "reason")

    def put(self, seat: Seat) -> str:
        fill_reward_pool(**self.cleaned_data, seat=seat, now=clock.now())
        return "The pool is filled."


class SetAsideForm(RuleForm):
    """The share meant for research."""

    share_ppm = forms.IntegerField(
        label="Share, parts per million", help_text="Of awarded unit-hours: 50000 is 5 %.")
    field_order = ("share_ppm", "reason")

    def put(self, seat: Seat) -> str:
        set_aside(**self.cleaned_data, seat=seat, now=clock.now())
        return "The public report measures against the new share."


class FirstLeaseForm(RuleForm):
    """What a first lease of a tier may cost, and how much of it an institution's word carries."""

    tier = forms.TypedChoiceField(label="Tier", choices=[(level, f"T{level}") for level in range(4)], coerce=int,
                                  help_text="Of the node class.")  # fmt: skip
    first_lease_cap_micros = UsdPriceField(
        label="First lease at most, dollars", help_text="The stake curve ends at $79,999.99.")
    undertaking_max_micros = UsdPriceField(
        label="Of it by undertaking, dollars", help_text="A university's word instead of cash, at most the cap.")
    field_order = ("tier", "first_lease_cap_micros", "undertaking_max_micros", "reason")

    def put(self, seat: Seat) -> str:
        set_entry_rule(**self.cleaned_data, seat=seat, now=clock.now())
        return "Bids and undertakings from now on follow the new rule."


FORMS: dict[str, tuple[str, type[RuleForm], Callable[[], Any]]] = {
    "lapse": ("Unused quota", LapseForm, lambda: lapse_rule().windows),
    "report": ("Reports", ReportForm, lambda: report_rule().deposit_micros),
    "pool": ("Pool of rewards", PoolForm, reward_pool_micros),
    "first_lease": ("First leases", FirstLeaseForm, lambda: entry_rule(0).first_lease_cap_micros),
    "set_aside": ("Set aside for research", SetAsideForm, lambda: benefit_report().share_ppm),
}


@require_http_methods(["GET", "HEAD", "POST"])
def rules(request: HttpRequest) -> HttpResponse:
    """What holds now, and a form for each; every change is on the trail with its person and reason."""
    if request.method == "POST":
        name = request.POST.get("act", "")
        if name not in FORMS:
            raise Http404("no such rule")
        try:
            messages.success(request, _put(request, name))
        except REFUSALS as refusal:
            messages.error(request, f"{refusal} ({refusal.code})")
        return redirect("admin:rules")
    shown = [(name, title, now_it_is(), form(prefix=name)) for name, (title, form, now_it_is) in FORMS.items()]
    return render_page(request, "rules", title="Rules for everybody", shown=shown, report=report_rule())


def _put(request: HttpRequest, name: str) -> str:
    form = FORMS[name][1](request.POST, prefix=name)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise BadInput(f"{form.fields[field].label}: {errors[0]}", field=field)
    return form.put(found_or_404(seat_of(request)))
