"""A window between two: one buyer and one provider, funded demand, no market gate; everything else as anywhere."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from marketplace.catalogue.gate_models import Pair
from marketplace.catalogue.models import Window
from marketplace.catalogue.pairs import require_provider_of
from marketplace.catalogue.services import open_window
from marketplace.errors import BadInput, ReferenceReused, UnknownName
from marketplace.governance.services import record, require_flag
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.admissions import require_admission
from marketplace.supply.models import NodeClass
from marketplace.years import require_year

TO_BID, TO_SETTLE = timedelta(hours=24), timedelta(hours=12)


@transaction.atomic
def open_bilateral(
    *, buyer: Party, provider_slug: str, name: str, slots: int, starts_at: datetime, salt: str = "",
    seat: Seat | None = None, now: datetime,
) -> Window:  # fmt: skip
    """Open a window between a buyer and the provider it names; the same name and terms return the one that stands.

    Bidding opens 48 hours, and closes 12 hours before the first slot; from half of that on bids stay. Funded demand of
    the buyer alone opens it. Raises BadInput, UnknownName, ReferenceReused.
    """
    require_seat(seat, buyer, "draft", "open windows")
    require_flag(name="bilateral_windows", what="A window between two")
    if not buyer.is_buyer:
        raise BadInput("A buyer opens a window between two.", field="party")
    provider = Party.objects.filter(slug=provider_slug).first() if isinstance(provider_slug, str) else None
    if provider is None or not provider.is_provider:
        raise UnknownName("There is no provider of this name.", field="provider")
    if provider.owner_key == buyer.owner_key:
        raise BadInput("Buyer and provider have the same owner.", field="provider")
    require_year(starts_at, "starts_at")
    closes_at = starts_at - TO_SETTLE
    window = open_window(
        name=name, slots=slots, starts_at=starts_at, demand_closes_at=closes_at - TO_BID,
        no_cancel_from=closes_at - TO_BID / 2, bidding_closes_at=closes_at, gate_unit_hours=1, gate_parties=1,
        kind="bilateral", concentration_ppm=None, salt=salt, now=now,
    )  # fmt: skip
    pair = Pair.objects.filter(window=window).first()
    if pair is not None:
        if (pair.buyer_id, pair.provider_id) != (buyer.pk, provider.pk):
            raise ReferenceReused("Another window has this name.", field="name")
        return window
    Pair.objects.create(window=window, buyer=buyer, provider=provider)
    record(actor=buyer.slug, action="open_bilateral", subject=name, reason="a window between two", now=now,
           provider=provider.slug)  # fmt: skip
    tell_parties(parties={provider.pk}, about=f"window:{window.number}:bilateral", code="bilateral_window", now=now,
                 sentence=f"{buyer.name} opened {name} with you alone; bid once its demand is funded.")  # fmt: skip
    return window


def require_let_in(*, node_class: NodeClass, window: Window, unit_hours: int) -> None:
    """Refuse a bid that nobody let in: in a market window by admission, between two by being the one named."""
    require_provider_of(window=window, party=node_class.party)
    if window.kind == "market":
        require_flag(name="market_bids", what="Bidding in market windows")
        require_admission(node_class=node_class, window=window, unit_hours=unit_hours)
