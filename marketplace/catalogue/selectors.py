"""Reads of windows, zones and names that pages and the API show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from marketplace.catalogue.models import ResourceClass, SlaPreset, Tier, Vantage, Window, Zone, ZoneMember

OPEN_STATES = ("COLLECTING", "BIDDING")
PAST_BIDDING = ("CLEARING", "CLEARED", "DELIVERING", "SETTLED")
STRIP = ("COLLECTING", "BIDDING", "CLEARING", "CLEARED", "DELIVERING", "SETTLED")


@dataclass(frozen=True)
class StripState:
    """One step of a window's way, for the strip on its page."""

    name: str
    is_done: bool
    is_current: bool
    at: datetime | None


def list_windows() -> QuerySet[Window]:
    """Return every window, newest first."""
    return Window.objects.order_by("-number")


def windows_in(states: tuple[str, ...]) -> QuerySet[Window]:
    """Return the windows in one of `states`, the next to close first."""
    return Window.objects.filter(state__in=states).order_by("demand_closes_at", "number")


def visible_to(windows: QuerySet[Window], party_id: UUID | None) -> QuerySet[Window]:
    """Narrow windows to those a party may know of: every market window, and those between two that it is one of."""
    between = Q(pair__buyer=party_id) | Q(pair__provider=party_id) if party_id else Q(pk=None)
    return windows.filter(Q(kind="market") | between)


def windows_between(party_id: UUID) -> QuerySet[Window]:
    """Return the bilateral windows that a party is one of, newest first."""
    between = Window.objects.filter(kind="bilateral").filter(Q(pair__buyer=party_id) | Q(pair__provider=party_id))
    return between.select_related("pair__buyer", "pair__provider").order_by("-number")


def find_visible_window(window_id: UUID, party_id: UUID | None) -> Window | None:
    """Return the window if the party may know of it, or None."""
    return visible_to(Window.objects.filter(pk=window_id), party_id).first()


def find_window(window_id: UUID) -> Window | None:
    """Return the window or None."""
    return Window.objects.filter(pk=window_id).first()


def strip_of(window: Window) -> list[StripState]:
    """Return the window's states in order, each with when it was entered; a failed window ends where it failed."""
    entered = dict(window.transitions.values_list("to_state", "at"))
    entered.setdefault("COLLECTING", window.opened_at)
    names = STRIP if window.state != "FAILED" else (*(s for s in STRIP[:3] if s in entered), "FAILED")
    current = names.index(window.state)
    return [StripState(n, i < current, i == current, entered.get(n)) for i, n in enumerate(names)]


def zone_countries(code: str, on: date) -> set[str]:
    """Return the two-letter codes of a zone's members on a date; empty for an unknown zone."""
    valid = ZoneMember.objects.filter(zone_id=code, valid_from__lte=on)
    return set(valid.filter(Q(valid_until=None) | Q(valid_until__gt=on)).values_list("country", flat=True))


def list_classes() -> list[ResourceClass]:
    """Return every resource class."""
    return list(ResourceClass.objects.all())


def list_zones() -> list[Zone]:
    """Return every zone."""
    return list(Zone.objects.order_by("code"))


def list_presets() -> list[SlaPreset]:
    """Return every SLA preset, the loosest first."""
    return list(SlaPreset.objects.all())


def list_tiers() -> list[Tier]:
    """Return every tier, T0 first."""
    return list(Tier.objects.all())


def tiers_with_controls() -> list[Tier]:
    """Return every tier, T0 first, with the controls that it asks for beside those of the tiers below."""
    return list(Tier.objects.prefetch_related("asked_controls__control"))


def list_vantages() -> list[Vantage]:
    """Return every site that latency is measured from."""
    return list(Vantage.objects.all())
