"""No new demand of a buyer whose invoice is in default; what it has posted and funded already goes on."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from marketplace.demand.stop_models import DemandStop
from marketplace.errors import InDefault
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party


def require_no_stop(party: Party) -> None:
    """Refuse with `in_default` while an invoice of the buyer is in default, naming it."""
    causes = list(DemandStop.objects.filter(party=party, lifted_at=None).values_list("cause", flat=True))
    if causes:
        raise InDefault("An invoice is in default: no new demand until it is paid.", invoices=causes)


@transaction.atomic
def stop_demand(*, party: Party, cause: str, now: datetime) -> DemandStop:
    """Take no new demand of a buyer; twice for one cause is one act."""
    stop, is_new = DemandStop.objects.get_or_create(cause=cause, defaults={"party": party, "at": now})
    if is_new:
        record(actor="market", action="stop_demand", subject=party.slug, reason=f"{cause} is in default", now=now)
        tell_parties(parties=(party.pk,), about=f"stop:{cause}", code="in_default", now=now,
                     sentence=f"Invoice {cause} is in default: no new demand until it is paid.")  # fmt: skip
    return stop


@transaction.atomic
def lift_stop(*, cause: str, person: str, now: datetime) -> int:
    """Let a buyer post demand again as far as this cause goes; returns how many stops were lifted."""
    lifted = DemandStop.objects.filter(cause=cause, lifted_at=None).update(lifted_at=now, lifted_by=person)
    if lifted:
        record(actor=person, action="lift_stop", subject=cause, reason="paid", now=now)
    return lifted
