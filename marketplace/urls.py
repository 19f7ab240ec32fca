"""The site's doors. The API and the console add their own includes."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import include, path

from marketplace import seat_pages
from marketplace.portal import public, quotes, reports, service, webhooks

urlpatterns = [
    path("", public.root, name="root"),
    path("healthz", public.healthz, name="healthz"),
    path("login/", public.SignIn.as_view(), name="login"),
    path("logout/", LogoutView.as_view(next_page="/market/"), name="logout"),
    path("invitation/<str:secret>/", seat_pages.invitation, name="invitation"),
    path("password/", seat_pages.password_forgotten, name="password_forgotten"),
    path("password/<str:uid>/<str:token>/", seat_pages.password_reset, name="password_reset"),
    path("account/password/", seat_pages.password_change, name="password_change"),
    path("fonts/<str:name>", public.font, name="font"),
    path("theme/", public.theme, name="theme"),
    path("market/", public.market_page, name="market"),
    path("market/claims/", public.claims_page, name="claims"),
    path("market/coverage/", public.coverage_page, name="coverage"),
    path("market/value/", public.value_page, name="value"),
    path("market/demand/", public.demand_page, name="demand_report"),
    path("market/public-benefit/", public.benefit_page, name="public_benefit"),
    path("market/fees/", public.fees_page, name="fees"),
    path("market/quotes/", quotes.quotes, name="quotes"),
    path("market/reports/", reports.outcomes, name="report_outcomes"),
    path("market/bundles/<int:number>.zip", public.bundle, name="bundle"),
    path("service/", service.service_page, {"topic": "quality"}, name="service_home"),
    path("service/<slug:topic>/", service.service_page, name="service"),
    path("portal/", include("marketplace.portal.urls")),
    path("onboarding/", include("marketplace.onboarding.urls")),
    path("api/", include("marketplace.api.urls")),
    path("problems/", include("marketplace.api.problem_urls")),
    path("webhooks/stripe/", webhooks.stripe, name="stripe_webhook"),
    path("console/", include("marketplace.console.urls")),
]
