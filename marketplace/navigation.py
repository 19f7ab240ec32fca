"""Where one can go from each door: what people come for each day, and under "More" whatever else there is."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from marketplace.parties.models import Party

Entries = tuple[tuple[str, str], ...]  # name of a view, words

BUYER: Entries = (
    ("portal:home", "Home"), ("portal:windows", "Windows"), ("portal:demands", "Demands"), ("portal:leases", "Leases"),
    ("portal:escrow", "Escrow"), ("market", "Market"),
)  # fmt: skip
BUYER_MORE: Entries = (
    ("portal:workloads", "Workload map"), ("portal:cost", "Cost of ownership"), ("portal:savings", "Measured savings"),
    ("portal:approvals", "Approvals and budgets"), ("portal:commitments", "Standing demand"),
    ("portal:pilots", "Pilots"), ("portal:agreements", "Agreements"), ("portal:needs", "What hurts today"),
    ("portal:invoices", "Invoices"), ("portal:prices", "Prices paid"), ("portal:cases", "Delivery cases"),
    ("service_home", "Quality of service"),
    ("portal:seats", "Seats"), ("portal:keys", "API keys"),
    ("portal:counsel", "Counsel"), ("portal:reports", "Reports"),
)  # fmt: skip
PROVIDER: Entries = (
    ("onboarding:home", "Checklist"), ("onboarding:classes", "Node classes"), ("onboarding:bids", "Bids"),
    ("onboarding:leases", "Leases"), ("onboarding:payouts", "Payouts"), ("market", "Market"),
)  # fmt: skip
PROVIDER_MORE: Entries = (
    ("onboarding:places", "Sites and machines"), ("onboarding:evidence", "Evidence"),
    ("onboarding:capacity", "What is for sale"),
    ("onboarding:waitlist", "Waitlist"), ("onboarding:arming", "Arming and disputes"),
    ("onboarding:statement", "Statement"), ("onboarding:imports", "Imports"), ("onboarding:break_even", "Break-even"),
    ("onboarding:cases", "Cases and maintenance"), ("onboarding:seats", "Seats"), ("onboarding:keys", "API keys"),
    ("onboarding:members", "Members and devices"), ("onboarding:undertakings", "First leases"),
    ("service_home", "Quality of service"),
)  # fmt: skip
STAFF: Entries = (("admin:index", "Console"), ("market", "Market"))
ANYBODY: Entries = (("market", "Market"),)


@dataclass(frozen=True)
class Link:
    """One place; `is_here` where the page asked for is it or lies below it."""

    address: str
    words: str
    is_here: bool


@dataclass(frozen=True)
class Navigation:
    daily: list[Link]
    more: list[Link]

    @property
    def is_in_more(self) -> bool:
        return any(link.is_here for link in self.more)


def navigation_of(request: HttpRequest, party: Party | None) -> Navigation:
    """The links of whoever asks, at most one of which is where they are."""
    daily, more = _entries(request, party)
    places = {name: reverse(name) for name, _ in (*daily, *more)}
    below = [address for address in places.values() if request.path.startswith(address)]
    here = max(below, key=len, default="")
    # A door's own page lies above all others: it is meant only when it is asked for itself.
    home = reverse(daily[0][0])
    here = "" if here == home and request.path != home else here

    def links(entries: Entries) -> list[Link]:
        return [Link(places[name], words, places[name] == here) for name, words in entries]

    return Navigation(links(daily), links(more))


def _entries(request: HttpRequest, party: Party | None) -> tuple[Entries, Entries]:
    if party is not None and party.is_buyer:
        return BUYER, BUYER_MORE
    if party is not None and party.is_provider:
        return PROVIDER, PROVIDER_MORE
    return (STAFF if request.user.is_authenticated and request.user.is_staff else ANYBODY), ()
