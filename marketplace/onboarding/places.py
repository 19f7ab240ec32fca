"""Sites and node classes on the provider's dashboard: registered, changed with what that voids shown first, retired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from marketplace.catalogue.models import ResourceClass
from marketplace.doors import DoorForm, found_or_404, market_time, page_of, provider_only, seat_of
from marketplace.errors import MarketError
from marketplace.parties.models import Party
from marketplace.supply.changes import (
    CLASS_FIELDS,
    SITE_FIELDS,
    bring_back,
    changes_of,
    edit_node_class,
    edit_site,
    foresee,
    is_undoable,
    retire,
    standing_on,
    undo_change,
)
from marketplace.supply.models import NodeClass, Site
from marketplace.supply.selectors import sites_of
from marketplace.supply.services import enrol_node_class, register_site

TIERS = [(level, f"T{level}") for level in range(4)]
COUNTRY = {"max_length": 2, "min_length": 2}


class SiteForm(DoorForm):
    """Where machines stand and under whose law. Fields carry the names of `edit_site`."""

    city = forms.CharField(label="City", max_length=80, help_text="As buyers read it.")
    country = forms.CharField(label="Country", help_text="Two capital letters, such as DE. Residency is judged by it.",
                              **COUNTRY)  # fmt: skip
    lat = forms.FloatField(label="Latitude", min_value=-90, max_value=90, help_text="Degrees, north positive.")
    lon = forms.FloatField(label="Longitude", min_value=-180, max_value=180, help_text="Degrees, east positive.")
    operator_country = forms.CharField(label="Operated from", help_text="Where the staff sits.", **COUNTRY)
    keys_country = forms.CharField(label="Keys kept in", help_text="Where encryption keys are held.", **COUNTRY)

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        return found | {name: found[name].upper() for name in found if name.endswith("country")}


class NewSiteForm(SiteForm):
    """A site with the code that names it from then on."""

    code = forms.SlugField(label="Code", max_length=60, help_text="Your short name for it. It stays.")
    field_order = ("code", *SITE_FIELDS)


class ClassForm(DoorForm):
    """What a node class is. Fields carry the names of `edit_node_class`."""

    claimed_name = forms.CharField(label="Declared name", max_length=80, help_text="Shown, never relied on.")
    units = forms.IntegerField(label="Units", min_value=1, help_text="Machines that are proven together.")
    tier = forms.TypedChoiceField(label="Tier asked for", choices=TIERS, coerce=int,
                                  help_text="Counts as far as accepted evidence of the site shows it.")  # fmt: skip
    resource_class = forms.ChoiceField(label="Kind", help_text="As declared; the benchmark says what it is.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["resource_class"].choices = [(c.code, c.name) for c in ResourceClass.objects.order_by("code")]


class NewClassForm(ClassForm):
    """Machines to be enrolled at a site."""

    site = forms.ChoiceField(label="Site", help_text="Where they stand.")
    field_order = ("site", "resource_class", "units", "tier", "claimed_name")

    def __init__(self, *args: Any, party: Party, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sites = {str(site.pk): site for site in sites_of(party).filter(retired_at=None)}
        self.fields["site"].choices = [(key, str(site)) for key, site in self._sites.items()]

    def terms(self) -> dict[str, Any]:
        """The arguments of `enrol_node_class`."""
        given = dict(self.cleaned_data)
        return given | {"site": self._sites[given["site"]], "resource_class_code": given.pop("resource_class")}


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def places(request: HttpRequest) -> HttpResponse:
    """The provider's sites with their node classes, forms for new ones, and what changed so far."""
    party, now, asked = request.party, market_time(request), request.POST.get("act", "")
    shown: dict[str, Any] = {
        "site": NewSiteForm(request.POST if asked == "site" else None, prefix="site"),
        "class": NewClassForm(request.POST if asked == "class" else None, prefix="class", party=party),
    }
    form = shown.get(asked)
    if form is not None and form.is_valid():
        try:
            if asked == "site":
                register_site(party=party, rtt_ms_p95={}, seat=seat_of(request), now=now, **form.cleaned_data)
            else:
                enrol_node_class(party=party, seat=seat_of(request), now=now, **form.terms())
        except MarketError as error:
            form.show(error, (("resource_class_code", "resource_class"), ("quantity_units", "units")))
        else:
            messages.success(request, "Registered. Hand in its evidence next." if asked == "site"
                             else "Enrolled. Make a one-time code for its agent on its page.")  # fmt: skip
            return redirect("onboarding:places")
    page = page_of(request, changes_of(party))
    return render(request, "onboarding/places.html", {
        "sites": sites_of(party).prefetch_related("node_classes__resource_class", "node_classes__standing"),
        "forms": shown, "form": form, "page": page,
        "rows": [(row, is_undoable(row.site or row.node_class, row, now)) for row in page.object_list],
    }, status=422 if form is not None and form.errors else 200)  # fmt: skip


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def site_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One site: change it, retire it, bring it back."""
    site = found_or_404(sites_of(request.party).filter(pk=pk).first())
    return _edit(request, site, SiteForm, {name: getattr(site, name) for name in SITE_FIELDS}, edit_site, "site")


@require_http_methods(["GET", "HEAD", "POST"])
@provider_only
def class_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """One node class: change it, retire it, bring it back."""
    row = found_or_404(NodeClass.objects.filter(pk=pk, party=request.party).select_related("site", "standing").first())
    before = {name: getattr(row, name) for name in CLASS_FIELDS} | {"resource_class": row.resource_class_id}
    return _edit(request, row, ClassForm, before, edit_node_class, "node_class")


@require_POST
@provider_only
def undo(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a change back."""
    row = found_or_404(changes_of(request.party).filter(pk=pk).first())
    _act(request, "Taken back. A proof that was dropped stays dropped.", lambda: undo_change(
        party=request.party, change=row, seat=seat_of(request), reason="taken back on its page",
        now=market_time(request)))  # fmt: skip
    return redirect("onboarding:places")


def _edit(
    request: HttpRequest, thing: Site | NodeClass, kind: type[DoorForm], before: dict[str, Any], save: Any, name: str
) -> HttpResponse:
    """Show the form; then what the edit would do; then do it. Retiring and bringing back are buttons of the page."""
    party, now, act = request.party, market_time(request), request.POST.get("act", "")
    reason, facts = request.POST.get("reason", ""), {"party": party, "seat": seat_of(request), "now": now}
    if act in ("retire", "return"):
        verb = retire if act == "retire" else bring_back
        done = "Out of service." if act == "retire" else "In service again; its machines prove themselves anew."
        _act(request, done, lambda: verb(thing=thing, reason=reason, **facts))
        return redirect(request.path)
    form = kind(request.POST if act else None, initial=before)
    foreseen = None
    if act and form.is_valid():
        try:
            foreseen = foresee(thing, form.cleaned_data)
            if act == "save":
                done = save(**{name: thing}, reason=reason, **facts, **form.cleaned_data)
                messages.success(request, "Changed, and on the audit trail." if done else "Nothing differs.")
                return redirect("onboarding:places")
        except MarketError as error:
            form.show(error, (("quantity_units", "units"),))
    classes = list(thing.node_classes.all()) if isinstance(thing, Site) else [thing]
    return render(request, "onboarding/place.html", {
        "thing": thing, "is_site": isinstance(thing, Site), "form": form, "foreseen": foreseen, "reason": reason,
        "classes": classes, "bids": standing_on(classes).count(),
    }, status=422 if form.errors else 200)  # fmt: skip


def _act(request: HttpRequest, sentence: str, act: Callable[[], object]) -> None:
    try:
        act()
    except MarketError as error:
        messages.error(request, str(error), extra_tags=error.code)
    else:
        messages.success(request, sentence)
