"""Pages for everybody: the market, its public bundles, signing in, and the small print of the site."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from contracts.parameters import DAY, HOLDBACK_DELAY
from marketplace.catalogue import selectors as catalogue
from marketplace.clearing import selectors as clearings
from marketplace.demand.selectors import PARTIES_PER_STEP, gates_of
from marketplace.doors import address_of, found_or_404, home_of, market_time
from marketplace.insights import market
from marketplace.insights.coverage import coverage_report
from marketplace.insights.demand_report import demand_report
from marketplace.insights.public_benefit import benefit_report
from marketplace.insights.savings import claims
from marketplace.insights.segments import segments
from marketplace.insights.value import values
from marketplace.maker.selectors import daily_results, own_trade
from marketplace.parties.sign_in import count_failure, may_try
from marketplace.payout.invoices import DUNNED_AFTER, TERMS
from marketplace.payout.taxes import tax_rules
from marketplace.portal import fonts
from marketplace.supply.verifiers import is_demo_panel
from pricing.penalties import (
    FORFEIT_BPS,
    PERIOD_CAP_BPS,
    PROOF_FRAUD,
    QUARTER_CAP_BPS,
    SECOND_BREACH,
    SEVERE_BREACH,
    SLASH_BPS,
    THIRD_BREACH,
    WARNING,
)
from pricing.samples import METHOD

THEMES = ("auto", "light", "dark")
YEAR_SECONDS = 365 * 86_400
DAYS_SHOWN = 14
SLASH_WORDS = {
    WARNING: "first breach in 90 days", SECOND_BREACH: "second", THIRD_BREACH: "third and later",
    SEVERE_BREACH: "availability below 95 %", PROOF_FRAUD: "a false proof of performance",
}  # fmt: skip


class SignInForm(AuthenticationForm):
    """E-mail and password. The refusal is the same sentence whether or not the address is known."""

    error_messages = {
        "invalid_login": "E-mail and password do not match a seat. Check both; capitals count in the password.",
        "inactive": "E-mail and password do not match a seat. Check both; capitals count in the password.",
        "too_many": "Too many wrong passwords. Wait a quarter of an hour, then try again.",
    }

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "E-mail"
        self.fields["username"].widget.input_type = "email"
        self.fields["username"].widget.attrs.update({"autocomplete": "username", "autofocus": True})

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).lower()

    def clean(self) -> dict[str, Any]:
        who = {"email": self.cleaned_data.get("username", ""), "address": address_of(self.request)}
        if not may_try(**who):
            raise ValidationError(self.error_messages["too_many"], code="too_many")
        try:
            return super().clean()
        except ValidationError:
            count_failure(**who)
            raise


class SignIn(LoginView):
    """Sign in, and go to the door of one's own party."""

    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        return home_of(self.request)


@require_safe
def benefit_page(request: HttpRequest) -> HttpResponse:
    """What of each window went to research, against what is meant to."""
    return render(request, "portal/benefit.html", {"report": benefit_report()})


@require_safe
def fees_page(request: HttpRequest) -> HttpResponse:
    """Everything that the exchange takes or keeps back, by the figures that the code itself uses."""
    return render(request, "portal/fees.html", {
        "fee_ppm": settings.PLATFORM_FEE_BPS * 100, "holdback_days": HOLDBACK_DELAY // DAY,
        "slashes": [(name, SLASH_BPS[code] * 100) for code, name in SLASH_WORDS.items()],
        "forfeit_ppm": FORFEIT_BPS * 100, "period_ppm": PERIOD_CAP_BPS * 100, "quarter_ppm": QUARTER_CAP_BPS * 100,
        "terms_days": TERMS.days, "default_days": (TERMS + DUNNED_AFTER[-1]).days,
        "taxes": [rule for rule in tax_rules() if rule.approved_at],
    })  # fmt: skip


@require_safe
def root(request: HttpRequest) -> HttpResponse:
    """Send everybody to their own door; strangers to the public market."""
    return redirect(home_of(request))


@require_safe
def market_page(request: HttpRequest) -> HttpResponse:
    """The last cleared window for everybody, and how to check it."""
    zones = [z.code for z in catalogue.list_zones()]
    zone = request.GET.get("zone", "")
    zone = zone if zone in zones else ""
    windows = list(catalogue.visible_to(catalogue.list_windows(), None)[:8])
    gates = gates_of(windows)
    shown = market.public_market(zone, request.GET.get("class", ""))
    return render(request, "portal/market.html", {
        "market": shown, "zone": zone, "zones": zones, "windows": [(w, gates[w.pk]) for w in windows],
        "own": own_trade(shown.clearing) if shown else None, "days": daily_results()[:DAYS_SHOWN],
    })  # fmt: skip


@require_safe
def claims_page(request: HttpRequest) -> HttpResponse:
    """What may be claimed from measured leases, with n and method; nothing from too few."""
    found = claims()
    return render(request, "portal/claims.html", {
        "claims": [("Price", found.price, "less than quoted"), ("Latency", found.latency, "fewer ms than quoted")],
        "in_zone": found.in_zone, "missing": found.without_counterfactual, "method": METHOD,
    })  # fmt: skip


@require_safe
def demand_page(request: HttpRequest) -> HttpResponse:
    """The demand-curve report: what funded demand says it would pay, and what each rule adds."""
    report = demand_report(request.GET.get("class", ""))
    return render(request, "portal/demand_report.html", {"report": report, "segments": segments()})


@require_safe
def coverage_page(request: HttpRequest) -> HttpResponse:
    """Where capacity is proven and demand not met. The Foundation's staff see demand of any number of buyers."""
    buyers_min = 1 if request.user.is_staff else PARTIES_PER_STEP
    report = coverage_report(on=market_time(request).date(), buyers_min=buyers_min)
    return render(request, "portal/coverage.html", {"report": report})


@require_safe
def value_page(request: HttpRequest) -> HttpResponse:
    """Proven operations per USD, class by class."""
    return render(
        request, "portal/value.html", {"rows": values(market_time(request)), "is_demo_panel": is_demo_panel()}
    )


@require_safe
def bundle(request: HttpRequest, number: int) -> HttpResponse:
    """The public bundle of one clearing as a zip."""
    clearing = found_or_404(clearings.find_clearing_by_number(number))
    return HttpResponse(
        clearings.bundle_zip(clearing), content_type="application/zip",
        headers={"Content-Disposition": f'attachment; filename="grove-window-{number}-bundle.zip"'},
    )


@require_safe
def font(request: HttpRequest, name: str) -> HttpResponse:
    """A file of the font that was cut for these pages."""
    path = found_or_404(fonts.find_font_file(name))
    headers = {"Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable"}
    return HttpResponse(path.read_bytes(), content_type=fonts.SERVED[name], headers=headers)


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remember light, dark or auto in a cookie and go back to where one was."""
    back = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = "/"
    response = redirect(back)
    chosen = request.POST.get("theme", "auto")
    response.set_cookie(
        "theme", chosen if chosen in THEMES else "auto", max_age=YEAR_SECONDS, samesite="Lax", httponly=True,
        secure=request.is_secure(),
    )
    return response


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer ok when the database answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return HttpResponse("ok\n", content_type="text/plain")
