"""Forms of the planning pages. They parse; whether something is allowed is said by the service."""

from __future__ import annotations

from typing import Any

from django import forms

from marketplace.demand.models import Demand
from marketplace.doors import DoorForm, UsdPriceField, micros_from_text
from marketplace.errors import MarketError
from marketplace.insights import costs, workload_map
from marketplace.insights.drawing import usd_text
from marketplace.insights.models import SEGMENTS
from marketplace.insights.worth import ATTRIBUTES, PAIN_MAX, attributes_of
from pricing.tco import CURVES, INPUTS, InputKind

ENDS = ("low", "base", "high")


class WorkloadForm(DoorForm):
    """A list as people paste it, or as a file."""

    listing = forms.CharField(
        label="Your workloads", required=False, strip=False, widget=forms.Textarea(attrs={"rows": 8, "wrap": "off"}),
        help_text="One per line: name, units, data class, hours per week, then what you know of p95 latency in ms, "
        "shape (batch, service, gang), zone, GiB of memory per unit, present cost in USD a year.",
    )  # fmt: skip
    file = forms.FileField(label="Or a CSV file", required=False, help_text="At most 1,000 lines and 1 MB.")

    def text(self) -> str:
        """Return the list; a file goes before what was pasted. Bytes that are no text count as NUL."""
        file = self.cleaned_data.get("file")
        if file is None:
            return str(self.cleaned_data["listing"])
        return file.read(workload_map.BYTES_MAX + 1).decode("utf-8-sig", errors="replace").replace("\ufffd", "\x00")


class CostForm(DoorForm):
    """Every input of both sides, each with low, base, high and its source."""

    name = forms.CharField(label="Name", max_length=60, help_text="Under which you find it again.")
    curve = forms.ChoiceField(
        label="What waits for an answer", choices=[(c.code, c.words) for c in CURVES.values()],
        help_text="Decides what a millisecond costs.",
    )  # fmt: skip
    counterfactual = forms.CharField(
        label="Invoice or quote of the bill now", max_length=300, required=False,
        help_text="Who billed or quoted it, and when. Without it no saving is shown.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for side in costs.SIDES:
            for kind in INPUTS:
                for end in (*ENDS, "source"):
                    field = forms.CharField(max_length=300) if end == "source" else forms.IntegerField(min_value=0)
                    self._add(f"{side}-{kind.key}-{end}", f"{kind.words}, {side}, {end}", field)

    def _add(self, name: str, label: str, field: forms.Field) -> None:
        field.label = label
        field.widget.attrs.update({"aria-label": label, "class": "form-control form-control-sm"})
        self.fields[name] = field

    def inputs(self) -> dict[str, Any]:
        """Return the inputs as `costs.compare` takes them."""
        data = self.cleaned_data
        return {
            side: {
                kind.key: {end: data[f"{side}-{kind.key}-{end}"] for end in (*ENDS, "source")}
                for kind in INPUTS
            }
            for side in costs.SIDES
        }  # fmt: skip

    def table(self, side: str) -> list[tuple[InputKind, list[tuple[str, Any]], Any]]:
        """Return (input, its three ends with their fields, its source field) of one side."""
        return [
            (kind, [(end.capitalize(), self[f"{side}-{kind.key}-{end}"]) for end in ENDS],
             self[f"{side}-{kind.key}-source"])
            for kind in INPUTS
        ]  # fmt: skip

    @staticmethod
    def filled(inputs: Any) -> dict[str, Any]:
        """Return kept inputs as first values."""
        return {
            f"{side}-{key}-{end}": value[end]
            for side in costs.SIDES for key, value in inputs[side].items() for end in (*ENDS, "source")
        }  # fmt: skip

    def show_input(self, error: MarketError) -> None:
        """Put a refusal of an input beside its base value."""
        field = str(error.facts.get("field"))
        self.show(error, [(field, f"{field}-base")] if f"{field}-base" in self.fields else [])


class QuoteField(UsdPriceField):
    """A price in dollars, or None where nothing was written."""

    def clean(self, value: Any) -> int | None:
        return super().clean(value) if str(value or "").strip() else None


class WorthForm(DoorForm):
    """What a demand is worth to its buyer, or what hurts before there is one. Named as the terms of `state_worth`."""

    OF_A_DEMAND = ("quote_micros", "quote_source", "quoted_on", "quote_latency_ms", "quote_country")

    segment = forms.ChoiceField(label="You are", choices=[(s, s.replace("_", " ")) for s in SEGMENTS])
    pain = forms.CharField(
        label="What is wrong with the present way", required=False, max_length=PAIN_MAX,
        widget=forms.Textarea(attrs={"rows": 3}), help_text="It is counted, and never shown with your name.",
    )  # fmt: skip
    present_usd_per_year = forms.IntegerField(
        label="Spent on it now", required=False, min_value=0, help_text="Whole dollars a year."
    )
    quote_micros = QuoteField(
        label="The incumbent's price", required=False, help_text="All-in, for the same unit-hour. It is what a saving "
        "is measured against, so it is said before prices are known.",
    )  # fmt: skip
    incumbent = forms.CharField(label="Who supplies or quotes it", required=False, max_length=120)
    quote_source = forms.CharField(
        label="Where it can be seen", required=False, max_length=300, help_text="Offer, invoice or price list."
    )
    quoted_on = forms.DateField(
        label="Quoted on", required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    quote_latency_ms = forms.IntegerField(
        label="Their latency", required=False, min_value=1, help_text="95 %, from your vantage."
    )
    quote_country = forms.CharField(
        label="Where they would run it", required=False, max_length=2, help_text="Two capitals."
    )

    def __init__(self, *args: Any, demand: Demand | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if demand is None:
            for name in self.OF_A_DEMAND:
                del self.fields[name]
            return
        hint = "One step per line: price in dollars, units. Up to 8; a price falls or stays as units grow."
        self.fields["curve"] = _curve_field("As it stands", hint)
        for name in attributes_of(demand):
            hint = "The same demand, if that rule fell."
            self.fields[f"curve_{name}"] = _curve_field(f"Without the {ATTRIBUTES[name]}", hint)

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `state_worth`."""
        data = dict(self.cleaned_data)
        curves = {name: data.pop(field) for name, field in self.curve_fields()}
        return data | {"curves": {name: steps for name, steps in curves.items() if steps}}

    def curve_fields(self) -> list[tuple[str, str]]:
        """Return (attribute, field) of each curve."""
        return [(f.removeprefix("curve").removeprefix("_"), f) for f in self.fields if f.startswith("curve")]

    @classmethod
    def filled(cls, statement: Any) -> dict[str, Any]:
        """Return what was said last as first values."""
        if statement is None:
            return {}
        first = {name: getattr(statement, name) for name in cls.base_fields}
        if statement.quote_micros:
            first["quote_micros"] = usd_text(statement.quote_micros, 4).lstrip("$").replace(",", "")
        for name, steps in statement.curves.items():
            lines = [f"{usd_text(price, 4).lstrip('$').replace(',', '')}, {units}" for price, units in steps]
            first[f"curve_{name}" if name else "curve"] = "\n".join(lines)
        return first


class CurveField(forms.CharField):
    """Steps as people type them, `2.40, 8` per line, as (micro-USD, units)."""

    def clean(self, value: Any) -> list[tuple[int, int]]:
        steps = []
        for number, line in enumerate(str(super().clean(value)).splitlines(), start=1):
            if not line.strip():
                continue
            price, _, units = line.replace(";", ",").replace("\t", ",").partition(",")
            if not units.strip().isascii() or not units.strip().isdigit() or len(units.strip()) > 7:
                raise forms.ValidationError(f"Line {number}: write a price and whole units, such as 2.40, 8.")
            steps.append((micros_from_text(price), int(units)))
        return steps


def _curve_field(label: str, hint: str) -> CurveField:
    return CurveField(label=label, help_text=hint, required=False, widget=forms.Textarea(attrs={"rows": 4}))
