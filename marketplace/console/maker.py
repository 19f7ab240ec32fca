"""The console's page of the market-maker: limits and who set them, what is used, quotes, the stop, daily results."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from marketplace import clock
from marketplace.catalogue.models import ResourceClass, SlaPreset, Zone
from marketplace.catalogue.selectors import windows_in
from marketplace.console.acts import REFUSALS
from marketplace.console.views import render_page
from marketplace.doors import TargetForm, UsdPriceField, found_or_404, seat_of
from marketplace.maker import selectors, services
from marketplace.maker.models import Conflict, MakerLimits
from marketplace.parties.roles import acts_of

ROWS = 20


class LimitsForm(forms.Form):
    """Limits as `propose_limits` takes them."""

    resource_classes = forms.ModelMultipleChoiceField(
        ResourceClass.objects.all(), label="Resource classes", help_text="The only ones it may quote.")
    notional_max_micros = UsdPriceField(label="Most at stake, dollars", help_text="Open quotes and running leases.")
    inventory_max_unit_hours = forms.IntegerField(
        label="Most held, unit-hours", min_value=1, help_text="Held or quoted for.")
    loss_max_micros = UsdPriceField(label="Most lost, dollars", help_text="Trade stops by itself there.")
    spread_max_ppm = forms.IntegerField(
        label="Widest spread, parts per million", min_value=0, max_value=10**6,
        help_text="Of the reference price: 50000 is 5 %.")
    reason = forms.CharField(label="Why", max_length=300, help_text="Goes on the audit trail.")


class QuoteForm(TargetForm):
    """A quote as `place_quote` takes it, and the typed targets that it asks for."""

    window = forms.ModelChoiceField(
        windows_in(("COLLECTING",)), label="Window", help_text="One that still collects demand.")
    reference = forms.CharField(label="Reference", max_length=60, help_text="A name of its own; sent twice it is one.")
    resource_class = forms.ModelChoiceField(
        ResourceClass.objects.all(), label="Resource class", help_text="Within the limits in force.")
    quantity_units = forms.IntegerField(label="Units", min_value=1, help_text="In each of the hours.")
    start_slot = forms.IntegerField(label="First hour", min_value=0, help_text="Counted from the window's start.")
    end_slot = forms.IntegerField(label="End hour", min_value=1, help_text="The first hour no longer asked for.")
    price_limit_micros = UsdPriceField(
        label="Price limit, dollars per unit-hour", help_text="Such as 1.94; at most four decimals.")
    sla_code = forms.ModelChoiceField(SlaPreset.objects.all(), label="SLA", help_text="The least that is asked for.")
    zone_code = forms.ModelChoiceField(
        Zone.objects.all(), label="Zone", required=False, help_text="Empty: anywhere.")


class ConflictForm(forms.Form):
    """An interest that is written down."""

    person = forms.CharField(label="Whose interest", max_length=120, help_text="The person, by e-mail.")
    about = forms.CharField(label="About", max_length=160, help_text="The party or matter.")
    what = forms.CharField(label="What it is", max_length=300, help_text="Such as: owns shares, sits on the board.")


@require_http_methods(["GET", "HEAD", "POST"])
def maker(request: HttpRequest) -> HttpResponse:
    """The Foundation's own trade, and the acts on it; each is written to the trail with its person."""
    if request.method == "POST":
        act = ACTS.get(request.POST.get("act", ""))
        if act is None:
            raise Http404("no such act")
        try:
            messages.success(request, act(request))
        except REFUSALS as error:
            messages.error(request, f"{error} ({error.code})")
        return redirect("admin:maker")
    limits, seat = selectors.limits_in_force(), seat_of(request)
    return render_page(
        request, "maker", title="Market-maker", limits=limits, use=selectors.use_of_limits(limits) if limits else None,
        proposed=MakerLimits.objects.filter(approved_at=None, ended_at=None), quotes=selectors.quotes()[:ROWS],
        days=selectors.daily_results()[:ROWS], conflicts=Conflict.objects.all()[:ROWS], person=_person(request),
        may_let=seat is None or "limits" in acts_of(seat),
        limits_form=LimitsForm(prefix="limits"), quote_form=QuoteForm(prefix="quote"),
        conflict_form=ConflictForm(prefix="conflict"),
    )  # fmt: skip


def _person(request: HttpRequest) -> str:
    return request.user.get_username()


def _read(form: forms.Form) -> dict:
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise services.BadInput(f"{form.fields[field].label}: {errors[0]}", field=field)
    return form.cleaned_data


def _propose(request: HttpRequest) -> str:
    terms = _read(LimitsForm(request.POST, prefix="limits"))
    classes = [each.pk for each in terms.pop("resource_classes")]
    services.propose_limits(resource_classes=classes, person=_person(request), now=clock.now(), **terms)
    return "Proposed. They come into force when another person approves them."


def _approve(request: HttpRequest) -> str:
    services.approve_limits(limits_id=_id(request), person=_person(request), now=clock.now())
    return "The limits are in force."


def _refuse(request: HttpRequest) -> str:
    reason = request.POST.get("reason", "").strip()
    services.refuse_limits(limits_id=_id(request), person=_person(request), reason=reason, now=clock.now())
    return "The proposal is refused."


def _quote(request: HttpRequest) -> str:
    form = QuoteForm(request.POST, prefix="quote")
    terms = _read(form)
    terms["sla_targets"] = form.take_targets(terms)
    seat = found_or_404(getattr(request.user, "seat", None))
    for name in ("resource_class", "sla_code", "zone_code"):
        terms[name] = terms[name].pk if terms[name] else None
    services.place_quote(party=seat.party, person=_person(request), now=clock.now(), **terms)
    return "The quote stands and its money is held."


def _withdraw(request: HttpRequest) -> str:
    quote = found_or_404(selectors.quotes().select_related("demand__party").filter(pk=_id(request)).first())
    services.withdraw_quote(demand=quote.demand, person=_person(request), now=clock.now())
    return "The quote is taken back and its money is free."


def _stop(request: HttpRequest) -> str:
    reason = request.POST.get("reason", "").strip()
    stopped = services.stop_trading(rule="person", person=_person(request), reason=reason, now=clock.now())
    return "Trade is stopped." if stopped else "There was nothing to stop."


def _conflict(request: HttpRequest) -> str:
    terms = _read(ConflictForm(request.POST, prefix="conflict"))
    services.record_conflict(recorded_by=_person(request), now=clock.now(), **terms)
    return "Written down."


def _id(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("id", ""))
    except ValueError:
        raise Http404("no such thing") from None


ACTS: dict[str, Callable[[HttpRequest], str]] = {
    "propose": _propose, "approve": _approve, "refuse": _refuse, "quote": _quote, "withdraw": _withdraw, "stop": _stop,
    "conflict": _conflict,
}  # fmt: skip
