"""Forms of the buyer portal. They parse; whether something is allowed is said by the service."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.http import QueryDict

from marketplace.catalogue import selectors as catalogue
from marketplace.catalogue.models import Window
from marketplace.compliance.rules import list_data_classes
from marketplace.demand.funding import named_orders
from marketplace.doors import DoorForm, TargetForm, UsdPriceField, micros_from_text
from marketplace.parties.models import Party
from pricing.latency import CLASSES

PPM_OF_PERCENT = 10_000
KINDS = (
    ("divisible", "Divisible: any part, in any of the hours"),
    ("window", "Window: the same share in every hour"),
    ("block", "Block: all or nothing"),
)


class StepForm(forms.Form):
    """What one step of a price curve becomes."""

    quantity_units = forms.IntegerField(label="Units", min_value=1)
    price_limit_micros = UsdPriceField(label="Price limit")


class DemandForm(TargetForm):
    """What a buyer needs, under which rules, at which limit. Fields carry the names of `post_demand`."""

    window = forms.ChoiceField(label="Window", help_text="The span of hours that is cleared together.")
    reference = forms.CharField(
        label="Your reference", max_length=60, help_text="Your own name for it. Sent twice, it is one demand."
    )
    kind = forms.ChoiceField(label="Kind", choices=KINDS, help_text="How it may be filled.")
    accepted_classes = forms.MultipleChoiceField(
        label="Accepted resource classes", widget=forms.CheckboxSelectMultiple, help_text="Any of these will do."
    )
    quantity_units = forms.IntegerField(label="Units", min_value=1, help_text="Accelerators, or vCPU bundles.")
    start_slot = forms.IntegerField(
        label="First hour", initial=0, min_value=0, help_text="Counted from the window's start."
    )
    end_slot = forms.IntegerField(
        label="End hour", initial=24, min_value=1, help_text="The first hour you no longer need."
    )
    price_limit_micros = UsdPriceField(
        label="Price limit", help_text="The most you pay, fee included. You pay the clearing price, never more."
    )
    minimum_units = forms.IntegerField(
        label="At least", required=False, min_value=0, help_text="Of a window: so many units, or none at all."
    )
    is_one_site = forms.BooleanField(
        label="All units in one site", required=False, help_text="Of a window or block: no part stands elsewhere."
    )
    choice = forms.CharField(
        label="Alternatives", required=False, max_length=60,
        help_text="Give several windows or blocks the same name here: at most one of them is awarded. Each is funded "
        "by its own hold; those that lose are released.",
    )
    zone_code = forms.ChoiceField(label="Zone", required=False, help_text="Where the machines must stand.")
    control_zone_code = forms.ChoiceField(
        label="Legal control", required=False, help_text="Where owner, operator and keys must sit."
    )
    tier_min = forms.TypedChoiceField(label="Lowest tier", coerce=int, help_text="The controls you need.")
    data_class = forms.ChoiceField(label="Data", required=False, help_text="What the work touches; it lifts the tier.")
    purpose = forms.CharField(label="Purpose", required=False, max_length=40,
                              help_text="Of data under an agreement: one that the agreement permits.")  # fmt: skip
    accepts_interruptible = forms.BooleanField(label="Interruptible capacity will do", required=False)
    purchase_order = forms.ChoiceField(
        label="Purchase order", required=False, help_text="Asked for under Commitments; it then funds the demand."
    )
    share_percent = forms.IntegerField(
        label="At most from one provider", required=False, min_value=1, max_value=99,
        help_text="The order is posted as legs no larger than that; no owner of providers serves two of them.",
    )  # fmt: skip
    steps = forms.CharField(
        label="Further steps of your price curve", required=False, max_length=400,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="One line each: units and the most you pay for them, such as `4 1.80`, each cheaper than the one "
        "before. The units and limit above are the first step. Funded and withdrawn together.",
    )  # fmt: skip
    insensitive_units = forms.IntegerField(
        label="Units without these rules", required=False, min_value=1,
        help_text="A second leg, free of the rules about place, law and data.",
    )  # fmt: skip
    fallback_venue = forms.CharField(label="Its fallback", required=False, max_length=120,
                                     help_text="Where that leg goes for what is not awarded here.")  # fmt: skip
    budget = forms.ChoiceField(label="Budget", required=False)
    pilot = forms.ChoiceField(label="Pilot", required=False, help_text="Small, light and short; see Pilots.")
    sla_code = forms.ChoiceField(label="SLA", help_text="Below it you are credited without a claim.")
    latency_class = forms.ChoiceField(
        label="Latency class", required=False, help_text="Bound and SLA target at once; name another bound below.",
        choices=[("", "None"), *((each.name, each.words) for each in CLASSES.values())],
    )  # fmt: skip
    vantage_code = forms.ChoiceField(label="Latency measured from", required=False)
    latency_ms_max = forms.IntegerField(
        label="Latency at most", required=False, min_value=1, help_text="Round trip, 95 % of the time."
    )

    def __init__(self, *args: Any, windows: list[Window], party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._budgets = {str(budget.pk): budget for budget in party.budgets.all()}
        self._pilots = {str(pilot.pk): pilot for pilot in party.pilots.all()}
        zones = [("", "Anywhere"), *((z.code, f"{z.code} · {z.name}") for z in catalogue.list_zones())]
        choices = {
            "window": [(str(w.pk), f"{w.name} · {w.slots} hours from {w.starts_at:%d %b, %H:%M} UTC") for w in windows],
            "accepted_classes": [(c.code, c.code) for c in catalogue.list_classes()],
            "zone_code": zones,
            "control_zone_code": [("", "No rule"), *zones[1:]],
            "tier_min": [(t.level, f"T{t.level} · {t.name}") for t in catalogue.list_tiers()],
            "data_class": [("", "No rule"), *((d.code, f"{d.name} · T{d.tier_min}") for d in list_data_classes())],
            "purchase_order": [("", "None"), *((line.number, f"{line.number} · {line.state.lower()}")
                                               for line in named_orders(party))],
            "budget": [("", "None"), *((key, budget.name) for key, budget in self._budgets.items())],
            "pilot": [("", "None"), *((key, pilot.name) for key, pilot in self._pilots.items())],
            "sla_code": [(s.code, str(s)) for s in catalogue.list_presets()],
            "vantage_code": [("", "No rule"), *((v.code, str(v)) for v in catalogue.list_vantages())],
        }
        for name, options in choices.items():
            self.fields[name].choices = options
        self._windows = {str(w.pk): w for w in windows}

    @classmethod
    def filled_from(cls, query: QueryDict) -> dict[str, Any]:
        """Return the first values that a link such as the workload map's asks for; a value of no use is left out."""
        filled: dict[str, Any] = {name: query[name][:200] for name in cls.base_fields if name in query}
        if "accepted_classes" in filled:
            filled["accepted_classes"] = query.getlist("accepted_classes")[:50]
        return filled

    def clean_steps(self) -> list[tuple[int, int]]:
        lines = [line.strip() for line in self.cleaned_data["steps"].splitlines() if line.strip()]
        found = []
        for number, line in enumerate(lines, 1):
            units, _, price = line.replace("\t", " ").partition(" ")
            if not (units.isascii() and units.isdigit() and len(units) < 8 and price.strip()):
                raise forms.ValidationError(f"Line {number} is not units and a price, such as 4 1.80.")
            found.append((int(units), micros_from_text(price)))
        return found

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `post_order`."""
        data = dict(self.cleaned_data)
        data["sla_targets"] = self.take_targets(data)
        data["window"] = self._windows[data["window"]]
        for name in ("zone_code", "control_zone_code", "vantage_code", "latency_class", "choice", "data_class",
                     "purpose"):  # fmt: skip
            data[name] = data[name] or None
        data["minimum_units"] = data["minimum_units"] or 0
        data["budget"] = self._budgets.get(data["budget"])
        data["pilot"] = self._pilots.get(data["pilot"])
        share, units, venue = (data.pop(name) for name in ("share_percent", "insensitive_units", "fallback_venue"))
        if steps := data.pop("steps"):
            data["further_steps"] = steps
        if share or units or venue:
            data |= {"provider_share_max_ppm": share * PPM_OF_PERCENT if share else None, "insensitive_units": units,
                     "fallback_venue": venue}  # fmt: skip
        return data


class DepositForm(DoorForm):
    """Test money into escrow; the hidden key makes a double click one deposit."""

    amount_micros = UsdPriceField(label="Amount", help_text="Test dollars, from the demo's faucet.")
    key = forms.UUIDField(widget=forms.HiddenInput)

    def deposit_key(self) -> str:
        key: UUID = self.cleaned_data["key"]
        return str(key)


class CardDepositForm(DepositForm):
    """A deposit that is paid by card on the processor's page."""

    amount_micros = UsdPriceField(label="Amount to pay", help_text="Whole cents, 50 at least.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="card_%s", **kwargs)  # two forms of one page share no id
