"""The pages on which an organisation registers itself: a buyer, or a provider (a prosumer in its phase)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from marketplace.doors import DoorForm, address_of, market_time
from marketplace.errors import MarketError, PhaseClosed
from marketplace.parties.sign_up import sign_up

TRIES_MAX, HOUR_SECONDS = 20, 3600
KINDS = {
    "portal": (("enterprise_buyer", "Enterprise"), ("public_buyer", "Public body"), ("research_buyer", "Research")),
    "onboarding": (("university", "University or research centre"), ("enterprise", "Enterprise data centre"),
                   ("prosumer", "A person's own machines")),
}  # fmt: skip
WHAT_NEXT = {
    "portal": "Registered. Sign in, then invite a colleague under Seats: whoever posts a demand does not approve it.",
    "onboarding": "Registered. Sign in; the checklist says what comes next.",
}


class JoinForm(DoorForm):
    """Who registers. Fields carry the names of `sign_up`."""

    name = forms.CharField(label="Organisation", max_length=160)
    kind = forms.ChoiceField(label="Kind")
    country = forms.CharField(label="Country", max_length=2, help_text="Two letters, such as DE.")
    parent_country = forms.CharField(
        label="Country of the ultimate parent", max_length=2, help_text="Where whoever owns it in the end sits."
    )
    email = forms.EmailField(label="Your e-mail", max_length=120)
    password = forms.CharField(label="Password", widget=forms.PasswordInput, max_length=128)

    def __init__(self, *args: Any, door: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].choices = KINDS[door]


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, door: str) -> HttpResponse:
    """Register a buyer or a provider; 403 while the phase of its kind is closed, 429 after too many tries from here."""
    form = JoinForm(request.POST if request.method == "POST" else None, door=door)
    status = 200
    if request.method == "POST":
        status = 422
        if _tries(request) > TRIES_MAX:
            form.add_error(None, "Too many tries from here; come back in an hour.")
            status = 429
        elif form.is_valid():
            try:
                sign_up(now=market_time(request), **form.cleaned_data)
            except MarketError as error:
                form.show(error)
                status = 403 if isinstance(error, PhaseClosed) else 422
            else:
                messages.success(request, WHAT_NEXT[door])
                return redirect("login")
    return render(request, "account/join.html", {"form": form, "door_name": door}, status=status)


def _tries(request: HttpRequest) -> int:
    name = f"join:{address_of(request)}"
    cache.add(name, 0, timeout=HOUR_SECONDS)
    try:
        return int(cache.incr(name))
    except ValueError:  # evicted between the two calls
        return 1
