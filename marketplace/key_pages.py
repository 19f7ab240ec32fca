"""The page of API keys, the same at every door: see them, make one (its secret is shown once), cap it, end it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.catalogue.selectors import list_classes
from marketplace.doors import DoorForm, UsdPriceField, View, found_or_404, market_time, seat_of
from marketplace.errors import MarketError
from marketplace.parties.caps import Caps, cap_api_key
from marketplace.parties.models import ApiKey
from marketplace.parties.roles import acts_of
from marketplace.parties.services import issue_api_key, revoke_api_key

KEY_DAYS_MAX = 3650


class CapForm(DoorForm):
    """What a key may do at most."""

    notional_day_max_micros = UsdPriceField(
        label="Orders per day", required=False, help_text="Units × hours × price of all it orders in a UTC day."
    )
    open_orders_max = forms.IntegerField(
        label="Open orders", required=False, min_value=1, help_text="That wait for clearing at the same time."
    )
    resource_classes = forms.MultipleChoiceField(
        label="Resource classes", required=False, widget=forms.CheckboxSelectMultiple,
        help_text="The only ones it may order; none chosen: all.",
    )  # fmt: skip

    def __init__(self, *args: Any, codes: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["resource_classes"].choices = [(code, code) for code in codes]
        field = self.fields["notional_day_max_micros"]
        field.clean = lambda text, clean=field.clean: clean(text) if text else None

    def caps(self) -> Caps:
        """Return the caps that were typed."""
        given = self.cleaned_data
        return Caps(given["notional_day_max_micros"], given["open_orders_max"], tuple(given["resource_classes"]))


class KeyForm(CapForm):
    """A new key."""

    label = forms.CharField(label="Name", max_length=80, help_text="What it is for, so that you know which to end.")
    may_write = forms.BooleanField(label="It may order and withdraw, not only read", required=False)
    days = forms.IntegerField(
        label="Days until it expires", required=False, min_value=1, max_value=KEY_DAYS_MAX,
        help_text="Empty: it does not expire.",
    )  # fmt: skip
    field_order = ["label", "days", "may_write"]


def key_paths(door: str, only: Callable[[View], View]) -> list[URLPattern]:
    """The addresses of these pages behind one door, which `only` guards."""
    at = {"door": door}
    return [
        path("keys/", require_http_methods(["GET", "HEAD", "POST"])(only(key_list)), at, name="keys"),
        path("keys/<uuid:key_id>/cap/", require_POST(only(key_cap)), at, name="key_cap"),
        path("keys/<uuid:key_id>/end/", require_POST(only(key_revoke)), at, name="key_revoke"),
    ]


def key_list(request: HttpRequest, door: str) -> HttpResponse:
    """List the party's keys; a POST makes one and shows its secret in the answer, this once."""
    codes, secret, now = _codes(), "", market_time(request)
    form = KeyForm(request.POST or None, codes=codes)
    if request.method == "POST" and form.is_valid():
        days = form.cleaned_data["days"]
        try:
            _, secret = issue_api_key(
                party=request.party, seat=seat_of(request), label=form.cleaned_data["label"], caps=form.caps(),
                may_write=form.cleaned_data["may_write"], expires_at=now + timedelta(days=days) if days else None,
                now=now,
            )  # fmt: skip
        except MarketError as error:
            form.show(error)
        else:
            form = KeyForm(codes=codes)
    return _page(request, door, form, codes, secret=secret)


def key_cap(request: HttpRequest, door: str, key_id: UUID) -> HttpResponse:
    """Change the caps of a key."""
    key = found_or_404(ApiKey.objects.filter(pk=key_id, party=request.party).first())
    codes = _codes()
    form = CapForm(request.POST, codes=codes)
    if not form.is_valid():
        return _page(request, door, KeyForm(codes=codes), codes, capping={key.pk: form})
    return _done(request, door, f"{key.label} is capped from now on.", lambda: cap_api_key(
        key=key, party=request.party, caps=form.caps(), seat=seat_of(request), now=market_time(request)))  # fmt: skip


def key_revoke(request: HttpRequest, door: str, key_id: UUID) -> HttpResponse:
    """End a key at once."""
    key = found_or_404(ApiKey.objects.select_related("party").filter(pk=key_id, party=request.party).first())
    return _done(request, door, f"{key.label} is ended: its next request is refused.", lambda: revoke_api_key(
        key=key, seat=seat_of(request), now=market_time(request)))  # fmt: skip


def _page(
    request: HttpRequest, door: str, form: KeyForm, codes: list[str], *, secret: str = "",
    capping: dict[UUID, CapForm] | None = None,
) -> HttpResponse:  # fmt: skip
    now, wrong = market_time(request), capping or {}
    keys = ApiKey.objects.filter(party=request.party).order_by("-created_at", "-id")
    rows = [(key, wrong.get(key.pk) or _cap_form(key, codes), key.expires_at is not None and key.expires_at <= now)
            for key in keys]  # fmt: skip
    refused = bool(form.errors or wrong)
    return render(request, "keys.html", {
        "rows": rows, "form": form, "secret": secret, "door_name": door, "wrong": next(iter(wrong.values()), None),
        "may_manage": "keys" in acts_of(seat_of(request)), "server": request.build_absolute_uri("/").rstrip("/"),
    }, status=422 if refused else 200)  # fmt: skip


def _codes() -> list[str]:
    return [each.pk for each in list_classes()]


def _cap_form(key: ApiKey, codes: list[str]) -> CapForm:
    notional = key.notional_day_max_micros
    initial = {
        "notional_day_max_micros": f"{notional // 10**6}.{notional % 10**6:06d}" if notional else "",
        "open_orders_max": key.open_orders_max, "resource_classes": key.resource_classes,
    }  # fmt: skip
    return CapForm(codes=codes, initial=initial, auto_id=f"id_{key.prefix}_%s")


def _done(request: HttpRequest, door: str, sentence: str, act: Any) -> HttpResponse:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, sentence)
    return redirect(f"{door}:keys")
