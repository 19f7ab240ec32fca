"""What a buyer commits beyond one demand: demand that stands, orders and grants, windows between two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.catalogue import selectors as catalogue
from marketplace.demand.funding import kept_micros, left_micros
from marketplace.demand.funding_models import LINE_KINDS, FundingLine
from marketplace.demand.models import FUNDING_KINDS
from marketplace.doors import DoorForm, TargetForm, UsdPriceField, buyer_only, found_or_404, market_time, seat_of
from marketplace.errors import MarketError
from marketplace.escrow.advances import ask_line
from marketplace.escrow.standing import find_standing, renewal_cap_micros, stand, standing_of, withdraw_standing
from marketplace.escrow.vouchers import redeem_voucher, vouchers_of
from marketplace.parties.services import list_providers
from marketplace.portal.forms import KINDS
from marketplace.supply.bilateral import open_bilateral

PPM_OF_PERCENT = 10_000
WORDS = {
    "escrow": "Money in escrow", "card": "Card money", "purchase_order": "Purchase order", "grant": "Grant credits",
}  # fmt: skip


class DayField(forms.DateField):
    """A day (UTC), read as its first moment."""

    widget = forms.DateInput(attrs={"type": "date"})

    def clean(self, value: Any) -> datetime | None:
        day = super().clean(value)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


class LineForm(DoorForm):
    """A purchase order or a grant. Fields carry the names of `ask_line`."""

    act = "line"
    kind = forms.ChoiceField(label="Kind", choices=[(kind, WORDS[kind]) for kind in LINE_KINDS])
    number = forms.CharField(label="Number", max_length=60)
    limit_micros = UsdPriceField(label="Limit", help_text="What demands that name it may cost together.")
    valid_until = DayField(label="Valid until")


class VoucherForm(DoorForm):
    """The code of a grant voucher."""

    act = "voucher"
    code = forms.CharField(label="Code of the voucher", max_length=100, help_text="As the programme gave it to you.",
                           widget=forms.TextInput(attrs={"autocomplete": "off"}))  # fmt: skip


class StandForm(TargetForm):
    """A demand that lasts. Fields carry the names of `stand`, but for the cap in percent and the typed targets."""

    act = "stand"
    reference = forms.CharField(label="Your reference", max_length=40)
    kind = forms.ChoiceField(label="Kind", choices=KINDS)
    accepted_classes = forms.MultipleChoiceField(label="Accepted resource classes",
                                                 widget=forms.CheckboxSelectMultiple)  # fmt: skip
    quantity_units = forms.IntegerField(label="Units", min_value=1, help_text="In every hour of every window.")
    price_limit_micros = UsdPriceField(label="Price limit", help_text="The most you pay per unit-hour, fee included.")
    cap_percent = forms.IntegerField(label="Renewal cap", min_value=0, max_value=100, initial=10,
                                     help_text="How far a renewal may rise above the last price paid.")  # fmt: skip
    zone_code = forms.ChoiceField(label="Zone", required=False)
    tier_min = forms.TypedChoiceField(label="Lowest tier", coerce=int)
    sla_code = forms.ChoiceField(label="SLA")
    starts_at = DayField(label="From")
    ends_at = DayField(label="Until")
    funding = forms.ChoiceField(label="Funded by", choices=[(kind, WORDS[kind]) for kind in FUNDING_KINDS])
    number = forms.CharField(label="Number of the order or grant", max_length=60, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = {
            "accepted_classes": [(c.code, c.code) for c in catalogue.list_classes()],
            "zone_code": [("", "Anywhere"), *((z.code, f"{z.code} · {z.name}") for z in catalogue.list_zones())],
            "tier_min": [(t.level, f"T{t.level} · {t.name}") for t in catalogue.list_tiers()],
            "sla_code": [(s.code, str(s)) for s in catalogue.list_presets()],
        }
        for name, options in choices.items():
            self.fields[name].choices = options

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `stand`."""
        data = dict(self.cleaned_data)
        data["renewal_cap_ppm"] = data.pop("cap_percent") * PPM_OF_PERCENT
        data["zone_code"] = data["zone_code"] or None
        if targets := self.take_targets(data):
            data["sla_targets"] = targets
        return data


class PairForm(DoorForm):
    """A window between two. Fields carry the names of `open_bilateral`."""

    act = "pair"
    name = forms.CharField(label="Name of the window", max_length=60)
    provider_slug = forms.ChoiceField(label="Provider")
    slots = forms.IntegerField(label="Hours", min_value=1, max_value=744, initial=168)
    starts_at = DayField(label="First day", help_text="Fund your demand 36 hours before; bids close 12 hours before.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["provider_slug"].choices = [(p.slug, f"{p.name} ({p.country})") for p in list_providers()]


FORMS = {form.act: form for form in (StandForm, LineForm, VoucherForm, PairForm)}


@require_http_methods(["GET", "POST"])
@buyer_only
def commitments(request: HttpRequest) -> HttpResponse:
    """The three kinds of commitment, each with what stands and a form."""
    asked = request.POST.get("act", "") if request.method == "POST" else ""
    if request.method == "POST" and asked not in FORMS:
        raise Http404("no such act")
    shown = {
        act: form(request.POST if act == asked else None, auto_id=f"{act}_%s") for act, form in FORMS.items()
    }  # fmt: skip
    if asked and shown[asked].is_valid():
        try:
            answer = _do(request, asked, shown[asked])
        except MarketError as error:
            shown[asked].show(error, names=(("provider", "provider_slug"), ("renewal_cap_ppm", "cap_percent")))
        else:
            return answer
    return render(request, "portal/commitments.html", {
        **shown, "form": shown.get(asked),
        "standing": [(row, renewal_cap_micros(row)) for row in standing_of(request.party)],
        "lines": [(row, left_micros(row)) for row in FundingLine.objects.filter(party=request.party)],
        "vouchers": [(row, kept_micros(row.line)) for row in vouchers_of(request.party) if row.line],
        "pairs": catalogue.windows_between(request.party.pk),
    }, status=422 if asked else 200)  # fmt: skip


@require_POST
@buyer_only
def standing_withdraw(request: HttpRequest, standing_id: UUID) -> HttpResponse:
    """Enter no further window."""
    row = found_or_404(find_standing(standing_id, request.party))
    try:
        withdraw_standing(standing=row, party=request.party, seat=seat_of(request), now=market_time(request))
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "It enters no further window. What stands in a window already is withdrawn there.")
    return redirect("portal:commitments")


def _do(request: HttpRequest, act: str, form: Any) -> HttpResponse:
    party, seat, now = request.party, seat_of(request), market_time(request)
    person = str(request.user.get_username())
    acts: dict[str, tuple[Callable[[], Any], str]] = {
        "line": (lambda: ask_line(party=party, person=person, seat=seat, now=now,
                                  **_until_the_end_of_day(form.cleaned_data)),
                 "Asked for. It counts once another person at the Foundation has approved it."),
        "voucher": (lambda: redeem_voucher(party=party, seat=seat, now=now, **form.cleaned_data),
                    "Redeemed. Fund a demand by its number; its money is there once the chain has it."),
        "stand": (lambda: stand(party=party, seat=seat, now=now, **form.terms()),
                  "It stands: each window that collects demand in its time is entered and funded by itself."),
        "pair": (lambda: open_bilateral(buyer=party, seat=seat, now=now, **form.cleaned_data),
                 "The window is open. Post your demand in it and fund it; your provider is told."),
    }  # fmt: skip
    run, sentence = acts[act]
    run()
    messages.success(request, sentence)
    return redirect("portal:commitments")


def _until_the_end_of_day(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "valid_until": data["valid_until"] + timedelta(days=1)}
