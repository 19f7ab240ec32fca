"""Devices, sub-sites and the revenue split on the provider's dashboard: whose hardware and whose money it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.capacity.models import Device, RevenueSplit, SubSite
from marketplace.capacity.services import assign_sub_site, enrol_device, retire_device, set_revenue_split
from marketplace.doors import DoorForm, found_or_404, market_time, midnight, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.parties.services import list_providers
from marketplace.supply.selectors import classes_to_offer, sites_of

LINE = re.compile(r"(?P<slug>[a-z0-9-]+)\s+(?P<whole>\d{1,3})(?:[.,](?P<part>\d+))?\s*%?")
LINES_MAX = 40
WHOLE_PPM = 1_000_000


class DeviceForm(DoorForm):
    """One piece of hardware by the key it holds itself."""

    node_class = forms.ChoiceField(label="Node class")
    label = forms.CharField(label="Label", max_length=80, help_text="Your own name for it, such as a serial number.")
    device_key = forms.CharField(
        label="Device key", max_length=512, help_text="The public key of its own, in hex. Only its hash is kept."
    )

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._classes = {str(c.pk): c for c in classes_to_offer(party)}
        self.fields["node_class"].choices = [
            (key, f"{c.resource_class_id} × {c.units} · {c.site}") for key, c in self._classes.items()
        ]

    def clean_device_key(self) -> bytes:
        try:
            return bytes.fromhex(self.cleaned_data["device_key"].removeprefix("0x"))
        except ValueError:
            raise forms.ValidationError("Write the key in hex: digits and the letters a to f.") from None

    def apply(self, seat: Any, now: Any) -> str:
        """Enrol the device; returns the sentence to show."""
        given = self.cleaned_data
        enrol_device(seat=seat, node_class=self._classes[given["node_class"]], device_key=given["device_key"],
                     label=given["label"], now=now)  # fmt: skip
        return f"{given['label']} is enrolled. The same hardware is refused anywhere else."


class SubSiteForm(DoorForm):
    """Which member runs a site."""

    site = forms.ChoiceField(label="Site")
    member = forms.ChoiceField(label="Member", help_text="A provider that is registered here.")

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sites = {str(site.pk): site for site in sites_of(party)}
        self._members = {member.slug: member for member in list_providers()}
        self.fields["site"].choices = [(key, str(site)) for key, site in self._sites.items()]
        self.fields["member"].choices = [(slug, member.name) for slug, member in self._members.items()]

    def apply(self, seat: Any, now: Any) -> str:
        """Assign the site; returns the sentence to show."""
        site, member = self._sites[self.cleaned_data["site"]], self._members[self.cleaned_data["member"]]
        assign_sub_site(seat=seat, site=site, member=member, now=now)
        return f"{site} is run by {member.name}."


class SplitForm(DoorForm):
    """How payouts are shared from a day on."""

    shares = forms.CharField(
        label="Members and their parts", error_messages={"required": "Name at least one member and its part."},
        widget=forms.Textarea(attrs={"rows": 5}), max_length=4000,
        help_text="One line each: the member's short name and its part in per cent, such as `fjord 33.3333`. "
        "Together 100 per cent. Name yourself for what you keep.",
    )  # fmt: skip
    from_day = forms.DateField(
        label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text="Empty: from now on."
    )

    def __init__(self, *args: Any, party: Party, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._party, self._now = party, now

    def clean_shares(self) -> Mapping[Party, int]:
        lines = [line.strip() for line in self.cleaned_data["shares"].splitlines() if line.strip()]
        found: dict[str, int] = {}
        if not 1 <= len(lines) <= LINES_MAX:
            raise forms.ValidationError(f"Name 1 to {LINES_MAX} members, one a line.")
        for number, line in enumerate(lines, 1):
            slug, ppm = self._part(number, line)
            if slug in found:
                raise forms.ValidationError(f"Line {number} names {slug} a second time.")
            found[slug] = ppm
        known = {party.slug: party for party in list_providers()} | {self._party.slug: self._party}
        if missing := sorted(found.keys() - known.keys()):
            near = get_close_matches(missing[0], known, n=1)
            hint = f" Did you mean {near[0]}?" if near else " Each member registers as a provider first."
            raise forms.ValidationError(f"No provider here has the short name {missing[0]}.{hint}")
        if (off := sum(found.values()) - WHOLE_PPM) != 0:
            words = f"{abs(off) / 10_000:.4f}".rstrip("0").rstrip(".")
            raise forms.ValidationError(
                f"The parts make {(WHOLE_PPM + off) / 10_000:.4f} per cent: {words} per cent too "
                f"{'much' if off > 0 else 'little'}. They have to make 100; name yourself for what you keep."
            )
        return {known[slug]: ppm for slug, ppm in found.items()}

    def _part(self, number: int, line: str) -> tuple[str, int]:
        """A line as (short name, parts per million)."""
        match = LINE.fullmatch(line.lower())
        if match is None:
            raise forms.ValidationError(
                f"Line {number}, {line[:40]!r}, is not a short name and a part in per cent such as fjord 33.3333.")
        if len(match["part"] or "") > 4:
            raise forms.ValidationError(f"Line {number} has more than four decimals; the smallest part is 0.0001.")
        ppm = int(match["whole"]) * 10_000 + int((match["part"] or "").ljust(4, "0"))
        if not 1 <= ppm <= WHOLE_PPM:
            raise forms.ValidationError(f"Line {number} gives {match['slug']} {line.split(maxsplit=1)[1]}: a part is "
                                        "above 0 and at most 100 per cent. Leave out who gets nothing.")
        return match["slug"], ppm

    def clean_from_day(self) -> Any:
        day = self.cleaned_data["from_day"]
        if day and midnight(day) < self._now:
            raise forms.ValidationError("That day has begun: choose a later one, or leave it empty for from now on.")
        return day

    def apply(self, seat: Any, now: Any) -> str:
        """Set the split; returns the sentence to show."""
        day = self.cleaned_data["from_day"]
        split = set_revenue_split(seat=seat, shares_ppm=self.cleaned_data["shares"],
                                  from_at=midnight(day) if day else now, now=now)  # fmt: skip
        return f"From {split.from_at:%d %b %Y %H:%M} UTC on, the market pays each member its part of every payout."


FORMS: dict[str, type[Any]] = {"device": DeviceForm, "sub_site": SubSiteForm, "split": SplitForm}


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def members(request: HttpRequest) -> HttpResponse:
    """The consortium's devices, sub-sites and split, each with its form."""
    asked, now = request.POST.get("act", ""), market_time(request)
    shown = {
        name: kind(request.POST if name == asked else None, party=request.party, prefix=name,
                   **({"now": now} if name == "split" else {}))
        for name, kind in FORMS.items()
    }  # fmt: skip
    form = shown.get(asked)
    if request.method == "POST" and form is not None and form.is_valid():
        try:
            sentence = form.apply(seat_of(request), now)
        except MarketError as error:
            form.show(error, (("shares_ppm", "shares"), ("from_at", "from_day")))
        else:
            messages.success(request, sentence)
            return redirect("onboarding:members")
    splits = RevenueSplit.objects.filter(party=request.party).prefetch_related("shares__member").order_by("-from_at")
    return render(request, "onboarding/members.html", {
        "forms": shown, "form": form, "splits": splits[:10], "now": now,
        "sub_sites": SubSite.objects.filter(site__party=request.party).select_related("site", "member"),
        "devices": _devices(request.party).filter(retired_at=None),
    }, status=422 if form is not None and form.errors else 200)  # fmt: skip


@require_POST
@provider_only
def device_retire(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a piece of hardware out, so that it may be enrolled again elsewhere."""
    device = found_or_404(_devices(request.party).filter(pk=pk).first())
    try:
        retire_device(seat=seat_of(request), device=device, reason=request.POST.get("reason", ""),
                      now=market_time(request))  # fmt: skip
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, f"{device.label} is retired.")
    return redirect("onboarding:members")


def _devices(party: Party) -> Any:
    return Device.objects.filter(node_class__party=party).select_related("node_class__resource_class")
