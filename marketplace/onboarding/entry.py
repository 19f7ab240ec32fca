"""A university's undertakings on its dashboard: given for a node class, seen with their review, taken back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.compliance.papers import BODY_MAX_BYTES, Paper
from marketplace.doors import DoorForm, UsdPriceField, found_or_404, market_time, midnight, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.supply.entry import end_undertaking, entry_rule, give_undertaking
from marketplace.supply.entry_models import Undertaking
from marketplace.supply.selectors import classes_to_offer


class UndertakingForm(DoorForm):
    """Fields carry the names of `give_undertaking`."""

    node_class = forms.ChoiceField(label="Node class", help_text="The machines that it answers for.")
    amount_micros = UsdPriceField(label="Amount", help_text="What your institution answers for, instead of a stake.")
    signatory = forms.CharField(label="Signed by", max_length=120, help_text="Name and office, as on the document.")
    valid_from = forms.DateField(label="Holds from", widget=forms.DateInput(attrs={"type": "date"}))
    valid_until = forms.DateField(label="Holds until", widget=forms.DateInput(attrs={"type": "date"}),
                                  help_text="The first day on which it no longer holds.")  # fmt: skip
    file = forms.FileField(label="Document", help_text="At most 4 MiB. It is hashed and kept as it is.")

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes = {str(c.pk): c for c in classes_to_offer(party)}
        self.fields["node_class"].choices = [
            (key, f"{c.resource_class_id} × {c.units} · {c.site}") for key, c in self._classes.items()
        ]

    def terms(self) -> dict[str, Any]:
        """The arguments of `give_undertaking`."""
        given, file = self.cleaned_data, self.cleaned_data["file"]
        paper = Paper(file.name[:120], file.read(BODY_MAX_BYTES + 1), midnight(given["valid_from"]),
                      midnight(given["valid_until"]))  # fmt: skip
        return {"node_class": self._classes[given["node_class"]], "amount_micros": given["amount_micros"],
                "signatory": given["signatory"], "paper": paper}  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def undertakings(request: HttpRequest) -> HttpResponse:
    """What was given, what became of it, the rule of each tier, and the form."""
    now = market_time(request)
    form = UndertakingForm(request.POST or None, request.FILES or None, party=request.party)
    if request.method == "POST" and form.is_valid():
        try:
            give_undertaking(seat=seat_of(request), now=now, **form.terms())
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "Handed in. It counts once a second person has accepted it.")
            return redirect("onboarding:undertakings")
    rows = Undertaking.objects.filter(node_class__party=request.party).defer("body")
    return render(request, "onboarding/undertakings.html", {
        "form": form, "now": now, "rules": [entry_rule(tier) for tier in range(4)],
        "rows": rows.select_related("node_class__site", "review", "end"),
        "is_university": request.party.kind == "university",
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@provider_only
def undertaking_end(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take an undertaking back."""
    row = found_or_404(Undertaking.objects.filter(pk=pk, node_class__party=request.party).first())
    try:
        end_undertaking(undertaking=row, seat=seat_of(request), reason="taken back by its institution",
                        now=market_time(request))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, "Taken back. The contract is told at the next turn.")
    return redirect("onboarding:undertakings")
