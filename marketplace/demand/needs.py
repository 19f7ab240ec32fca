"""Recording what hurts a buyer and what it spends: what the first phase is there to find out."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_whole
from marketplace.demand.need_models import Need
from marketplace.errors import BadInput
from marketplace.governance.services import record
from marketplace.parties.models import Party

PAIN_MAX = 1000


@transaction.atomic
def record_need(*, party: Party, pain: str, spend_micros: int, supplier: str = "", now: datetime) -> Need:
    """Keep a buyer's pain and its monthly spend in micro-USD; the same words again are the need that stands."""
    if not party.is_buyer:
        raise BadInput("Only buyers have needs here.", field="party")
    if not isinstance(pain, str) or not pain.strip() or len(pain) > PAIN_MAX or "\x00" in pain:
        raise BadInput(f"Say what hurts in 1 to {PAIN_MAX} characters.", field="pain")
    if not 0 <= require_whole(spend_micros, field="spend_micros") < MONEY_MAX_MICROS:
        raise BadInput("A spend is no negative amount, and fits the books.", field="spend_micros")
    if not isinstance(supplier, str) or len(supplier) > 120 or (supplier and not supplier.isprintable()):
        raise BadInput("A supplier's name has at most 120 printable characters.", field="supplier")
    last = Need.objects.filter(party=party).first()
    if last and (last.pain, last.spend_micros, last.supplier) == (pain, spend_micros, supplier):
        return last
    need = Need.objects.create(id=uuid7(now), party=party, pain=pain, spend_micros=spend_micros, supplier=supplier,
                               at=now)  # fmt: skip
    record(actor=party.slug, action="record_need", subject=need.pk, reason="what hurts today", now=now,
           spend_micros=spend_micros)  # fmt: skip
    return need


def last_need(party: Party) -> Need | None:
    """Return what a buyer said last, or None."""
    return Need.objects.filter(party=party).first()
