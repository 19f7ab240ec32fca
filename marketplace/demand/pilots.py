"""Pilots that become the real thing, and how many of them do."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from marketplace.catalogue.models import Window
from marketplace.demand.models import Demand
from marketplace.demand.services import post_demand, terms_of
from marketplace.errors import BadInput, NotYours
from marketplace.governance.services import record
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.spending.models import Pilot


@transaction.atomic
def convert_pilot(
    *, demand: Demand, seat: Seat, window: Window, reference: str, purchase_order: str = "", now: datetime
) -> Demand:
    """Make a pilot's demand into one without cap and end, on the same terms, in one act; the trail keeps both.

    Doing it again returns the demand that stands.
    """
    require_act(seat, "draft", "convert a pilot")
    own = Demand.objects.select_related("pilot").filter(pk=demand.pk, party=seat.party).first()
    if own is None:
        raise NotYours("There is no such demand.")
    if own.pilot is None:
        raise BadInput("Only a pilot's demand is converted.", field="demand")
    standing = Demand.objects.filter(converted_from=own).first()
    if standing:
        return standing
    made = post_demand(
        party=seat.party, window=window, reference=reference, seat=seat, purchase_order=purchase_order, now=now,
        **terms_of(own),
    )  # fmt: skip
    made.converted_from = own
    made.save(update_fields=["converted_from"])
    record(actor=seat.user.email, action="convert_pilot", subject=made.pk, reason=own.pilot.name, now=now,
           pilot_demand=str(own.pk))  # fmt: skip
    return made


def funnel_of_pilots() -> dict[str, int]:
    """How many pilots were opened, how many had a demand, and how many were converted."""
    return {
        "opened": Pilot.objects.count(),
        "tried": Pilot.objects.filter(demands__isnull=False).distinct().count(),
        "converted": Pilot.objects.filter(demands__converted_to__isnull=False).distinct().count(),
    }
