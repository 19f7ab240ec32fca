"""The page on which a provider registers itself: universities and enterprises now, prosumers in their phase."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from marketplace.doors import DoorForm, address_of, market_time
from marketplace.errors import MarketError, PhaseClosed
from marketplace.parties.sign_up import sign_up_provider

TRIES_MAX, HOUR_SECONDS = 20, 3600
KINDS = (("university", "University or research centre"), ("enterprise", "Enterprise data centre"),
         ("prosumer", "A person's own machines"))  # fmt: skip


class JoinForm(DoorForm):
    """Who registers. Fields carry the names of `sign_up_provider`."""

    name = forms.CharField(label="Organisation", max_length=160)
    kind = forms.ChoiceField(label="Kind", choices=KINDS)
    country = forms.CharField(label="Country", max_length=2, help_text="Two letters, such as DE.")
    parent_country = forms.CharField(
        label="Country of the ultimate parent", max_length=2, help_text="Where whoever owns it in the end sits."
    )
    email = forms.EmailField(label="Your e-mail", max_length=120)
    password = forms.CharField(label="Password", widget=forms.PasswordInput, max_length=128)


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """Register a provider; 403 while the phase of its kind is closed, 429 after too many tries from one address."""
    form = JoinForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        status = 422
        if _tries(request) > TRIES_MAX:
            form.add_error(None, "Too many tries from here; come back in an hour.")
            status = 429
        elif form.is_valid():
            try:
                sign_up_provider(now=market_time(request), **form.cleaned_data)
            except MarketError as error:
                form.show(error)
                status = 403 if isinstance(error, PhaseClosed) else 422
            else:
                messages.success(request, "Registered. Sign in; the checklist says what comes next.")
                return redirect("login")
    return render(request, "onboarding/join.html", {"form": form}, status=status)


def _tries(request: HttpRequest) -> int:
    name = f"join:{address_of(request)}"
    cache.add(name, 0, timeout=HOUR_SECONDS)
    try:
        return int(cache.incr(name))
    except ValueError:  # evicted between the two calls
        return 1
