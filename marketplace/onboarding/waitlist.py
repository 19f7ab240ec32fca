"""The provider's waitlist page: ask to be let in with capacity, see one's place and the funded demand that waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.doors import DoorForm, found_or_404, market_time, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.supply.admissions import admit, ask_admission, find_admission, leave_waitlist, places_of
from marketplace.supply.models import NodeClass
from marketplace.supply.selectors import classes_to_offer

MONTHS_AHEAD = 12


class AdmissionForm(DoorForm):
    """So many unit-hours of a class in a month. Fields carry the names of `ask_admission`."""

    node_class = forms.ChoiceField(label="Node class", help_text="Proven or not: waiting costs nothing.")
    month = forms.ChoiceField(label="Delivery month", help_text="The month in which a window begins to deliver.")
    unit_hours = forms.IntegerField(label="Unit-hours", min_value=1, help_text="Your units times the hours you offer.")

    def __init__(self, *args: Any, node_classes: list[NodeClass], now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes = {str(c.pk): c for c in node_classes}
        self.fields["node_class"].choices = [
            (key, f"{c.resource_class_id} × {c.units} · {c.site}") for key, c in self._classes.items()
        ]
        self.fields["month"].choices = [(f"{month}", f"{month:%B %Y}") for month in months_from(now)]

    def terms(self) -> dict[str, Any]:
        """Return the arguments of `ask_admission`."""
        data = self.cleaned_data
        return {
            "node_class": self._classes[data["node_class"]], "month": date.fromisoformat(data["month"]),
            "unit_hours": data["unit_hours"],
        }  # fmt: skip


def months_from(now: datetime) -> list[date]:
    """This month and those after it, as their first days."""
    first = now.astimezone(UTC).date().replace(day=1)
    months = [first.year * 12 + first.month - 1 + n for n in range(MONTHS_AHEAD)]
    return [date(number // 12, number % 12 + 1, 1) for number in months]


@require_http_methods(["GET", "POST"])
@provider_only
def waitlist(request: HttpRequest) -> HttpResponse:
    """The requests of this month and later, and a form for another one."""
    now, classes = market_time(request), list(classes_to_offer(request.party))
    data = request.POST if request.method == "POST" else None
    form = AdmissionForm(data, node_classes=classes, now=now)
    if request.method == "POST" and form.is_valid():
        try:
            ask_admission(party=request.party, seat=seat_of(request), now=now, **form.terms())
        except MarketError as error:
            form.show(error)
        else:
            messages.success(request, "You are on the waitlist. Whoever is covered is let in at the next turn.")
            return redirect("onboarding:waitlist")
    return render(request, "onboarding/waitlist.html", {
        "form": form, "classes": classes, "places": places_of(request.party, now),
    }, status=422 if form.errors else 200)  # fmt: skip


@require_POST
@provider_only
def enter(request: HttpRequest, admission_id: UUID) -> HttpResponse:
    """Go in now, if funded demand covers the request."""
    row = found_or_404(find_admission(admission_id, request.party))
    return _done(request, "You are let in: bid within these unit-hours.",
                 lambda: admit(admission=row, seat=seat_of(request), now=market_time(request)))  # fmt: skip


@require_POST
@provider_only
def leave(request: HttpRequest, admission_id: UUID) -> HttpResponse:
    """Leave the waitlist, or give back what was let in."""
    row = found_or_404(find_admission(admission_id, request.party))
    return _done(request, "Given back: it no longer waits, and goes to whoever does.",
                 lambda: leave_waitlist(admission=row, party=request.party, seat=seat_of(request),
                                        now=market_time(request)))  # fmt: skip


def _done(request: HttpRequest, sentence: str, act: Callable[[], object]) -> HttpResponse:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, sentence)
    return redirect("onboarding:waitlist")
