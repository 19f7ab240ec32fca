"""Who may trade in a window between two: those two, and for anybody else there is no such window."""

from __future__ import annotations

from marketplace.catalogue.gate_models import Pair
from marketplace.catalogue.models import Window
from marketplace.errors import NotYours
from marketplace.parties.models import Party


def require_buyer_of(*, window: Window, party: Party) -> None:
    """Refuse demand of anybody but the buyer of a window between two; a market window takes everybody's."""
    if window.kind == "bilateral" and not Pair.objects.filter(window=window, buyer=party).exists():
        raise NotYours("There is no such window.")


def require_provider_of(*, window: Window, party: Party) -> None:
    """Refuse a bid of anybody but the provider of a window between two."""
    if window.kind == "bilateral" and not Pair.objects.filter(window=window, provider=party).exists():
        raise NotYours("There is no such window.")
