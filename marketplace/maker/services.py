"""The Foundation's own trade: quotes inside limits that a second person approved, and a stop that comes by itself.

The Foundation buys and never sells: it has no machines. A quote is a divisible demand, flagged in the public bundle. It
counts neither as a funded party nor as funded unit-hours of a window's gate: nobody opens its own market. What it has
bought is not resold, so its result is what came back less what it paid. The database holds the same limits in a
trigger (`maker_...`), for whoever does not come through here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_name, require_whole
from marketplace.catalogue.models import ResourceClass, Window
from marketplace.catalogue.services import require_known_classes
from marketplace.demand.models import Demand
from marketplace.demand.services import fund_demand, post_demand, withdraw_demand
from marketplace.errors import BadInput, MakerLimit, MakerStopped, NotYours, SamePerson
from marketplace.governance.phases import require_apart
from marketplace.governance.services import record
from marketplace.maker.models import Conflict, MakerLimits, MakerQuote, MakerStop
from marketplace.maker.selectors import limits_in_force, loss_micros, use_of_limits
from marketplace.parties.models import Party
from marketplace.parties.roles import require_person


@transaction.atomic
def propose_limits(
    *, resource_classes: Collection[str], notional_max_micros: int, inventory_max_unit_hours: int,
    loss_max_micros: int, spread_max_ppm: int, reason: str, person: str, now: datetime,
) -> MakerLimits:  # fmt: skip
    """Propose limits; nothing changes until somebody else approves them. Raises BadInput, or RoleForbidden."""
    require_person(person, "propose_limits", "propose limits of the market-maker")
    classes = require_known_classes(resource_classes, ResourceClass.objects.values_list("pk", flat=True))
    amounts = {"notional_max_micros": notional_max_micros, "loss_max_micros": loss_max_micros,
               "inventory_max_unit_hours": inventory_max_unit_hours}  # fmt: skip
    for field, amount in amounts.items():
        if not 1 <= require_whole(amount, field=field) < MONEY_MAX_MICROS:
            raise BadInput("A limit is a positive whole number that fits the books.", field=field)
    if not 0 <= require_whole(spread_max_ppm, field="spread_max_ppm") <= 10**6:
        raise BadInput("A spread is 0 to 1,000,000 parts per million of the reference price.", field="spread_max_ppm")
    require_name(reason, field="reason", longest=300)
    limits = MakerLimits.objects.create(
        id=uuid7(now), resource_classes=list(classes), spread_max_ppm=spread_max_ppm, reason=reason,
        proposed_by=require_name(person, field="person", longest=120), proposed_at=now, **amounts,
    )  # fmt: skip
    record(actor=person, action="propose_maker_limits", subject=limits.pk, reason=reason, now=now, **amounts,
           resource_classes=list(classes), spread_max_ppm=spread_max_ppm)  # fmt: skip
    return limits


@transaction.atomic
def approve_limits(*, limits_id: UUID, person: str, now: datetime) -> MakerLimits:
    """Bring proposed limits into force; those before end. Raises SamePerson, or NotYours for what is not proposed.

    Whoever quotes lets none (RoleForbidden): two market-makers would else set each other's limits. Nor does anybody
    who may be the first person under another name (SamePerson): let in by it, or it by them, in the last 30 days.
    """
    require_person(person, "limits", "approve limits of the market-maker")
    limits = _proposed(limits_id)
    if limits.proposed_by == person:
        raise SamePerson("Limits are approved by another person than proposed them.", proposed_by=limits.proposed_by)
    require_apart(person, limits.proposed_by, now)
    MakerLimits.objects.filter(ended_at=None).exclude(approved_at=None).update(ended_at=now)
    limits.approved_by, limits.approved_at = require_name(person, field="person", longest=120), now
    limits.save(update_fields=["approved_by", "approved_at"])
    record(actor=person, action="approve_maker_limits", subject=limits.pk, reason=limits.reason, now=now,
           proposed_by=limits.proposed_by)  # fmt: skip
    return limits


@transaction.atomic
def refuse_limits(*, limits_id: UUID, person: str, reason: str, now: datetime) -> None:
    """End limits that were proposed and not approved; whoever proposed them may take them back so."""
    limits = _proposed(limits_id)
    if person != limits.proposed_by:
        require_person(person, "limits", "refuse limits of the market-maker")
    require_name(reason, field="reason", longest=300)
    MakerLimits.objects.filter(pk=limits.pk).update(ended_at=now)
    record(actor=person, action="refuse_maker_limits", subject=limits.pk, reason=reason, now=now)


@transaction.atomic
def place_quote(
    *, party: Party, window: Window, reference: str, resource_class: str, quantity_units: int, start_slot: int,
    end_slot: int, price_limit_micros: int, sla_code: str, zone_code: str | None = None, tier_min: int = 0,
    sla_targets: Mapping[str, int] | None = None, person: str, now: datetime,
) -> Demand:  # fmt: skip
    """Post and fund a demand of the Foundation's own, in micro-USD per unit-hour; the same reference is one quote.

    Raises MakerStopped without limits in force or after a stop, MakerLimit with the rule that it would break, and
    whatever posting and funding a demand raise; then nothing is written.
    """
    require_person(person, "quote", "quote for the Foundation")
    if not party.is_foundation:
        raise BadInput("Only the Foundation is market-maker.", field="party")
    limits = MakerLimits.objects.select_for_update().filter(ended_at=None).exclude(approved_at=None).first()
    if limits is None or hasattr(limits, "stop"):
        raise MakerStopped("The Foundation does not trade: no limits are in force, or trading is stopped.")
    demand = post_demand(
        party=party, window=window, reference=reference, kind="divisible", accepted_classes=[resource_class],
        quantity_units=quantity_units, start_slot=start_slot, end_slot=end_slot,
        price_limit_micros=price_limit_micros, sla_code=sla_code, zone_code=zone_code, tier_min=tier_min,
        sla_targets=sla_targets, now=now,
    )  # fmt: skip
    if demand.state == "funded":
        return demand
    _require_within(limits, demand, now)
    MakerQuote.objects.get_or_create(demand=demand, defaults={"limits": limits, "placed_by": person, "placed_at": now})
    funded = fund_demand(demand=demand, party=party, now=now)
    record(actor=person, action="place_quote", subject=demand.pk, reason=reference, now=now, limits=str(limits.pk),
           notional_micros=demand.hold_micros)  # fmt: skip
    return funded


def withdraw_quote(*, demand: Demand, person: str, now: datetime) -> Demand:
    """Take a quote back while its window collects demand."""
    require_person(person, "quote", "take quotes back")
    with transaction.atomic():
        taken = withdraw_demand(demand=demand, party=demand.party, now=now)
        record(actor=person, action="withdraw_quote", subject=demand.pk, reason=demand.reference, now=now)
    return taken


def watch_limits(*, now: datetime) -> int:
    """Stop the Foundation's trade when its loss has reached the limit; returns 1 when it did. A step of every turn."""
    limits = limits_in_force()
    if limits is None or hasattr(limits, "stop") or loss_micros(limits) < limits.loss_max_micros:
        return 0
    return stop_trading(rule="loss", person="market", reason="the loss reached its limit", now=now)


@transaction.atomic
def stop_trading(*, rule: str, person: str, reason: str, now: datetime) -> int:
    """Stop at once under the limits in force: no new quote, and those of windows that still collect are taken back."""
    limits = MakerLimits.objects.select_for_update().filter(ended_at=None).exclude(approved_at=None).first()
    if limits is None or hasattr(limits, "stop"):
        return 0
    require_name(reason, field="reason", longest=300)
    loss = loss_micros(limits)
    MakerStop.objects.create(limits=limits, rule=rule, loss_micros=loss, reason=reason, stopped_by=person, at=now)
    open_quotes = Demand.objects.filter(
        maker_quote__isnull=False, state="funded", window__state="COLLECTING", window__demand_closes_at__gt=now
    ).select_related("party")
    taken = [withdraw_demand(demand=demand, party=demand.party, now=now) for demand in open_quotes]
    record(actor=person, action="stop_maker", subject=limits.pk, reason=reason, now=now, rule=rule, loss_micros=loss,
           quotes_taken_back=len(taken))  # fmt: skip
    return 1


@transaction.atomic
def record_conflict(*, person: str, about: str, what: str, recorded_by: str, now: datetime) -> Conflict:
    """Write down an interest of a person of the Foundation; it stays for ever."""
    texts = {"person": (person, 120), "about": (about, 160), "what": (what, 300)}
    for field, (text, longest) in texts.items():
        require_name(text, field=field, longest=longest)
    row = Conflict.objects.create(person=person, about=about, what=what, recorded_by=recorded_by, at=now)
    record(actor=recorded_by, action="record_conflict", subject=person, reason=what, now=now, about=about)
    return row


def _proposed(limits_id: UUID) -> MakerLimits:
    found = MakerLimits.objects.select_for_update().filter(pk=limits_id, approved_at=None, ended_at=None).first()
    if found is None:
        raise NotYours("There are no such limits to decide on.")
    return found


def _require_within(limits: MakerLimits, demand: Demand, now: datetime) -> None:
    use = use_of_limits(limits)
    code = demand.accepted_classes[0]
    reference = ResourceClass.objects.get(pk=code).reference_price_micros
    if code not in limits.resource_classes:
        raise MakerLimit("The Foundation may not quote this product.", rule="products", allowed=limits.resource_classes)
    if abs(demand.price_limit_micros - reference) * 10**6 > limits.spread_max_ppm * reference:
        raise MakerLimit("This limit is too far from the reference price.", rule="spread",
                         reference_micros=reference, spread_max_ppm=limits.spread_max_ppm)  # fmt: skip
    for rule, used, more, most in (
        ("notional", use.notional_micros, demand.hold_micros, limits.notional_max_micros),
        ("inventory", use.unit_hours, demand.unit_hours, limits.inventory_max_unit_hours),
    ):
        if used + more > most:
            raise MakerLimit(f"This quote would pass the {rule} limit.", rule=rule, used=used, more=more, most=most)
    if use.loss_micros >= limits.loss_max_micros:
        raise MakerLimit("The loss has reached its limit.", rule="loss", used=use.loss_micros,
                         most=limits.loss_max_micros)  # fmt: skip
