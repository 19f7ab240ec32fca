"""What the doors share: who sits at them, the one 404, paging, and forms that show a typed refusal beside its field.

The party comes from the session, never from the request's body. A stranger's object and a missing one are one 404.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time
from functools import wraps
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Page, Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import resolve_url

from marketplace import clock
from marketplace.errors import BadInput, MarketError
from marketplace.parties.models import Party, Seat
from marketplace.years import OUTSIDE_WORDS, YEARS
from pricing.targets import MENU, bound_words

ROWS_PER_PAGE = 25
STOP_POLLING = 286  # htmx stops asking when it sees this status
THOUSANDS = re.compile(r"[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?")
COMMA_WORDS = "A comma only parts thousands, as in 1,200.50; write the decimals behind a point, as in 1.50."
View = Callable[..., HttpResponse]


def seat_of(request: HttpRequest) -> Seat | None:
    """Return the seat of the signed-in person, or None. One query per request."""
    if not hasattr(request, "_seat"):
        user = request.user
        seats = Seat.objects.select_related("party__parent").filter(user=user) if user.is_authenticated else None
        request._seat = seats.first() if seats is not None else None  # type: ignore[attr-defined]
    return request._seat  # type: ignore[attr-defined]


def market_time(request: HttpRequest) -> datetime:
    """Return market time, the same instant for the whole of one request."""
    if not hasattr(request, "_market_time"):
        request._market_time = clock.now()  # type: ignore[attr-defined]
    return request._market_time  # type: ignore[attr-defined]


def address_of(request: Any) -> str:
    """Return the address that asks: behind a proxy of ours the last one it added, else the socket's."""
    if settings.SECURE_PROXY_SSL_HEADER:
        added = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")[-1].strip()
        if added:
            return added[:64]
    return str(request.META.get("REMOTE_ADDR", ""))


def home_of(request: HttpRequest) -> str:
    """Return the door of whoever asks: console, portal, onboarding, or the public market."""
    seat = seat_of(request)
    if seat is None:
        return "/console/" if request.user.is_authenticated and request.user.is_staff else "/market/"
    if seat.party.is_buyer:
        return "/portal/"
    if seat.party.is_provider:
        return "/onboarding/"
    return "/console/" if request.user.is_staff else "/market/"


def buyer_only(view: View) -> View:
    """Let in seats of buyers: `request.party` is theirs. Others get 404, nobody signed in gets the sign-in page."""
    return _guarded(view, lambda party: party.is_buyer)


def provider_only(view: View) -> View:
    """Let in seats of providers: `request.party` is theirs."""
    return _guarded(view, lambda party: party.is_provider)


def party_only(view: View) -> View:
    """Let in seats of buyers and of providers: `request.party` is theirs."""
    return _guarded(view, lambda party: party.is_buyer or party.is_provider)


def foundation_only(view: View) -> View:
    """Let in seats of the Foundation: `request.party` is it."""
    return _guarded(view, lambda party: party.kind == "foundation")


def signed_in_only(view: View) -> View:
    """Let in whoever is signed in; others get the sign-in page."""

    @wraps(view)
    def entered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return view(request, *args, **kwargs) if request.user.is_authenticated else _to_login(request)

    return entered


def _guarded(view: View, may_enter: Callable[[Party], bool]) -> View:
    @wraps(view)
    def entered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_login(request)
        seat = seat_of(request)
        if seat is None or not may_enter(seat.party):
            raise Http404("no such page for this seat")
        request.party = seat.party  # type: ignore[attr-defined]
        return view(request, *args, **kwargs)

    return entered


def _to_login(request: HttpRequest) -> HttpResponse:
    """Send to the sign-in page; a fragment whose session ended moves the whole page, not one table cell."""
    if request.headers.get("HX-Request"):
        return HttpResponse(status=204, headers={"HX-Redirect": resolve_url("login")})
    return redirect_to_login(request.get_full_path())


def found_or_404(thing: Any) -> Any:
    """Return `thing`, or answer 404 for what is missing and for what is somebody else's alike."""
    if thing is None:
        raise Http404("not found")
    return thing


def page_of(request: HttpRequest, rows: Any, per_page: int = ROWS_PER_PAGE) -> Page:
    """Return the page that `?page=` asks for; a page that does not exist is the nearest one."""
    return Paginator(rows, per_page).get_page(request.GET.get("page"))


class DoorForm(forms.Form):
    """A form whose fields carry their hints and errors for people who cannot see the layout."""

    error_css_class = "has-error"

    def _clean_fields(self) -> None:
        """Refuse dates outside the years of the market, whatever field read them, before anything reckons with one."""
        super()._clean_fields()
        for name, value in list(self.cleaned_data.items()):
            if isinstance(value, date) and value.year not in YEARS:
                self.add_error(name, forms.ValidationError(OUTSIDE_WORDS, code="bad_day"))

    def show(self, error: MarketError, names: Iterable[tuple[str, str]] = ()) -> None:
        """Put a typed refusal beside the field it names, else above the form. `names` maps facts to form fields."""
        field = dict(names).get(str(error.facts.get("field")), error.facts.get("field"))
        refusal = forms.ValidationError(str(error), code=error.code)
        refusal.is_refusal = True  # pages show the code of a refusal, not those of the form library
        self.add_error(field if field in self.fields else None, refusal)


def midnight(day: date) -> datetime:
    """The first instant of a day, UTC."""
    return datetime.combine(day, time.min, tzinfo=UTC)


class TargetForm(DoorForm):
    """A form with one choice for each typed SLA target of the menu; none chosen promises none, or asks for none."""

    none_words = "Not asked"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for target in MENU:
            self.fields[f"target_{target.name}"] = forms.TypedChoiceField(
                label=target.words, required=False, coerce=int, empty_value=None,
                choices=[("", self.none_words), *((bound, bound_words(target, bound)) for bound in target.menu)],
            )  # fmt: skip

    @property
    def target_fields(self) -> list[Any]:
        """The fields of the menu, in its order."""
        return [self[f"target_{target.name}"] for target in MENU]

    def take_targets(self, data: dict[str, Any]) -> dict[str, int]:
        """Take the chosen targets out of the cleaned data, by name."""
        chosen = {target.name: data.pop(f"target_{target.name}") for target in MENU}
        return {name: bound for name, bound in chosen.items() if bound is not None}

    def show(self, error: MarketError, names: Iterable[tuple[str, str]] = ()) -> None:
        """A refused target stands beside its own field, with the rule that it breaks."""
        field = f"target_{error.facts.get('target')}"
        super().show(error, [*names, ("sla_targets", field)])
        if field in self.fields:
            for refusal in self.errors.as_data().get(field, []):
                refusal.code = str(error.facts.get("rule", error.code))


def has_stray_comma(text: str) -> bool:
    """Say whether a comma stands where it parts no thousands: dropped, it would make 15 of 1,5."""
    return "," in text and not THOUSANDS.fullmatch(text)


def bytes_from_text(text: str) -> int:
    """Return gigabytes as people type them, such as `0.5`, as bytes. Raises BadInput."""
    plain = text.strip()
    if has_stray_comma(plain):
        raise BadInput(COMMA_WORDS, field="limit_bytes")
    whole, _, part = plain.replace(",", "").partition(".")
    if not (whole + part).isascii() or not (whole + part).isdigit() or len(part) > 9 or len(whole) > 7:
        raise BadInput("Write gigabytes such as 0.5, with at most nine decimals.", field="limit_bytes")
    return int(whole or 0) * 10**9 + int(part.ljust(9, "0") or 0)


class UsdPriceField(forms.CharField):
    """Dollars as people type them, turned into integer micro-USD without a float."""

    def clean(self, value: Any) -> int:
        return micros_from_text(super().clean(value))


def micros_from_text(text: str) -> int:
    """Return `1.94`, `$1.94` or `1,200.5` as micro-USD. Refuses more than six decimals and anything else."""
    plain = text.strip().removeprefix("$").strip()
    if has_stray_comma(plain):
        raise forms.ValidationError(COMMA_WORDS, code="number_format")
    whole, _, part = plain.replace(",", "").replace(" ", "").partition(".")
    if not (whole or part) or not (whole + part).isascii() or not (whole + part).isdigit():
        raise forms.ValidationError("Write an amount in dollars such as 1.94.", code="number_format")
    if len(part) > 6:
        raise forms.ValidationError("At most six decimals: the smallest amount is $0.000001.", code="number_format")
    if len(whole) > 12:
        raise forms.ValidationError("This amount is larger than the books can hold.", code="number_format")
    return int(whole or 0) * 1_000_000 + int(part.ljust(6, "0") or 0)


def plain_usd(micros: int) -> str:
    """An amount as it is typed into a `UsdPriceField`, exact: `1.94`, and `0.000001`."""
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{f'{part:06}'.rstrip('0').ljust(2, '0')}"
