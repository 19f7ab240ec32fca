"""Forms of the provider's dashboard. They parse; whether a bid is allowed is said by the service."""

from __future__ import annotations

from typing import Any

from django import forms

from marketplace.catalogue import selectors as catalogue
from marketplace.catalogue.models import Window
from marketplace.doors import TargetForm, UsdPriceField
from marketplace.supply.models import NodeClass


class BidForm(TargetForm):
    """A sealed offer. Fields carry the names of `place_bid`."""

    none_words = "No promise"

    window = forms.ChoiceField(label="Window", help_text="Bids are taken once funded demand has opened it.")
    node_class = forms.ChoiceField(label="Node class", help_text="What you proved, where it stands.")
    reference = forms.CharField(
        label="Your reference", max_length=60, help_text="Your own name for it. Sent twice, it is one bid."
    )
    quantity_units = forms.IntegerField(label="Units", min_value=1, help_text="Offered in each of the hours.")
    start_slot = forms.IntegerField(
        label="First hour", initial=0, min_value=0, help_text="Counted from the window's start."
    )
    end_slot = forms.IntegerField(label="End hour", min_value=1, help_text="The first hour no longer offered.")
    price_ask_micros = UsdPriceField(
        label="Ask", help_text="The least you take before the platform's fee. You are paid the clearing price."
    )
    minimum_units = forms.IntegerField(
        label="At least", required=False, min_value=0,
        help_text="Sell the same units in all these hours, at least so many, or none. Empty: any part in any hour.",
    )
    sla_code = forms.ChoiceField(label="SLA you promise", help_text="Below it the buyer is credited from your payout.")

    def __init__(self, *args: Any, windows: list[Window], node_classes: list[NodeClass], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        late = {"COLLECTING": " (collecting demand)"}
        self.fields["window"].choices = [
            (str(w.pk), f"{w.name} · {w.slots} hours{late.get(w.state, '')}") for w in windows
        ]
        self.fields["node_class"].choices = [
            (str(c.pk), f"{c.resource_class_id} × {c.units} · {c.site} · {c.standing.state.lower()}")
            for c in node_classes
        ]
        self.fields["sla_code"].choices = [(s.code, str(s)) for s in catalogue.list_presets()]
        self._things = {"window": {str(w.pk): w for w in windows}, "node_class": {str(c.pk): c for c in node_classes}}

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `place_bid`."""
        chosen = {**self.cleaned_data, "minimum_units": self.cleaned_data["minimum_units"] or 0}
        chosen["sla_targets"] = self.take_targets(chosen)
        return {**chosen, **{name: known[self.cleaned_data[name]] for name, known in self._things.items()}}
