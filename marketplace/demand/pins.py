"""Pin a demand's data (M-072): what is leased for it forbids egress, or limits it, and a meter shows what left.

An hour beyond the limit is credited with all that the buyer would pay for it (`sla/egress.py`).
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from marketplace.catalogue.limits import require_whole
from marketplace.demand.models import Demand
from marketplace.demand.pin_models import EgressPin
from marketplace.errors import BadInput, NotYours, ReferenceReused, WindowClosed
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat

LIMIT_BYTES_MAX = 2**53  # what a report of the meter can say


@transaction.atomic
def pin_data(
    *, demand: Demand, party: Party, limit_bytes: int = 0, seat: Seat | None = None, now: datetime
) -> EgressPin:
    """Forbid egress beyond `limit_bytes` an hour for whatever is leased for a demand: while it collects, and for good.

    Raises NotYours, BadInput, ReferenceReused for another limit than the one that stands, WindowClosed.
    """
    require_seat(seat, party, "draft", "pin data")
    own = Demand.objects.select_for_update(of=("self",)).select_related("window").filter(
        pk=demand.pk, party=party).first()  # fmt: skip
    if own is None:
        raise NotYours("There is no such demand.")
    if not 0 <= require_whole(limit_bytes, field="limit_bytes") <= LIMIT_BYTES_MAX:
        raise BadInput("A limit is a whole number of bytes an hour, 0 for none at all.", field="limit_bytes")
    standing = EgressPin.objects.filter(demand=own).first()
    if standing is not None:
        if standing.limit_bytes != limit_bytes:
            raise ReferenceReused("It is pinned with another limit, and that stays.", limit_bytes=standing.limit_bytes)
        return standing
    if own.window.state != "COLLECTING":
        raise WindowClosed("Data is pinned while demand is collected.", state=own.window.state)
    pin = EgressPin.objects.create(demand=own, seat=seat, limit_bytes=limit_bytes, at=now)
    record(actor=seat.user.email if seat else party.slug, action="pin_data", subject=own.pk, now=now,
           reason="egress limited" if limit_bytes else "egress forbidden", limit_bytes=limit_bytes)  # fmt: skip
    return pin
