"""The page on which a provider sees what a unit-hour has to bring, beside what its work fetched last."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from marketplace.catalogue.selectors import tiers_with_controls
from marketplace.doors import DoorForm, UsdPriceField, provider_only
from marketplace.errors import BadInput
from marketplace.insights.work import entry_costs, work_prices
from pricing.breakeven import BreakEven, Machine, break_even
from pricing.entry import first_lease_cap_micros
from pricing.errors import EstimateError

# Each with where it comes from; the provider edits them all.
FIRST = {
    "capital_usd": 30_000, "life_years": 4, "other_usd_per_year": 1_500, "watts": 900, "pue": "1.3",
    "kwh_micros": "0.15", "sold_percent": 50,
}  # fmt: skip


class MachineForm(DoorForm):
    """One unit and what it costs. Figures in the form are examples with their sources, not advice."""

    capital_usd = forms.IntegerField(
        label="Price of a unit", min_value=0, help_text="With its share of the host. Example: a street price of 2025."
    )
    life_years = forms.IntegerField(label="Life", min_value=1, help_text="Example: four years of write-off.")
    other_usd_per_year = forms.IntegerField(
        label="Other costs", min_value=0, help_text="Staff, space and network for one unit. Example: invented."
    )
    watts = forms.IntegerField(
        label="Power", min_value=0, help_text="Example: 700 W of the card by its data sheet, and the host's share."
    )
    pue = forms.DecimalField(
        label="PUE", min_value=1, max_digits=8, decimal_places=6, help_text="Example: 1.3; the industry says about 1.5."
    )
    kwh_micros = UsdPriceField(label="Price of a kWh", help_text="Example: 0.15. Take your own contract.")
    sold_percent = forms.IntegerField(
        label="Hours that are sold", min_value=1, max_value=100,
        help_text="Example: 50. Networks that recruited supply first reached 44 to 57 %.",
    )  # fmt: skip

    def compute(self) -> BreakEven:
        """Return the break-even of the figures. Raises BadInput."""
        data = dict(self.cleaned_data)
        machine = Machine(
            capital_usd=data["capital_usd"], life_years=data["life_years"], watts=data["watts"],
            other_usd_per_year=data["other_usd_per_year"], pue_ppm=int(data["pue"] * 1_000_000),
            kwh_micros=data["kwh_micros"], sold_ppm=data["sold_percent"] * 10_000,
        )  # fmt: skip
        try:
            return break_even(machine, fee_bps=settings.PLATFORM_FEE_BPS)
        except EstimateError as error:
            names = {"pue_ppm": "pue", "sold_ppm": "sold_percent"}
            field = str(error.facts["field"])
            raise BadInput(str(error), field=names.get(field, field)) from error


@require_safe
@provider_only
def break_even_page(request: HttpRequest) -> HttpResponse:
    """Compute from the query, so that a page can be kept as a bookmark; nothing is stored."""
    form = MachineForm(request.GET if "capital_usd" in request.GET else None, initial=FIRST)
    found: BreakEven | None = None
    if form.is_bound and form.is_valid():
        try:
            found = form.compute()
        except BadInput as error:
            form.show(error)
    context: dict[str, Any] = {
        "form": form, "found": found, "fee_bps": settings.PLATFORM_FEE_BPS, "prices": work_prices(),
        "entry": entry_costs(), "tiers": tiers_with_controls(), "cap_micros": first_lease_cap_micros(),
    }  # fmt: skip
    return render(request, "onboarding/break_even.html", context, status=422 if form.errors else 200)
