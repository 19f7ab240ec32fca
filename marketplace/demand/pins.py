"""Pin a demand's data (M-072): what is leased for it forbids egress, and a meter shows whether that holds."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from marketplace.demand.models import Demand
from marketplace.demand.pin_models import EgressPin
from marketplace.errors import NotYours, WindowClosed
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat


@transaction.atomic
def pin_data(*, demand: Demand, party: Party, seat: Seat | None = None, now: datetime) -> EgressPin:
    """Forbid egress for whatever is leased for a demand; only while its window collects, and for good."""
    require_seat(seat, party, "draft", "pin data")
    own = Demand.objects.select_for_update(of=("self",)).select_related("window").filter(
        pk=demand.pk, party=party).first()  # fmt: skip
    if own is None:
        raise NotYours("There is no such demand.")
    standing = EgressPin.objects.filter(demand=own).first()
    if standing is not None:
        return standing
    if own.window.state != "COLLECTING":
        raise WindowClosed("Data is pinned while demand is collected.", state=own.window.state)
    pin = EgressPin.objects.create(demand=own, seat=seat, at=now)
    record(actor=seat.user.email if seat else party.slug, action="pin_data", subject=own.pk, reason="egress forbidden",
           now=now)  # fmt: skip
    return pin
