"""One order as several demands: a cap on the share of one provider (M-040), or sensitive and other legs (M-029).

A cap is kept before prices are found, in the feasible set: the order is cut into legs no larger than the cap, the
providers of its classes are dealt over the legs by their last owners, and a leg accepts only those dealt to it. So no
owner, sybil children together, can serve more than one leg, whatever clears; the published verifier sees it as a paper
that each leg asks for and those bids hold. What a cap costs the buyer is choice: a leg sees a part of the providers.
The share is one of what is asked for, not of what is awarded.

A price curve (M-002) is an order whose legs are steps: so many units at most at this price, further ones only at a
lower one. The steps share every other term, are funded and withdrawn together, and change one by one.

A sensitive leg carries every rule about place, law and data and has no venue outside this market; an insensitive one
carries none of them and may name where it goes for what is not awarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ledger.ids import uuid_from
from marketplace.catalogue.limits import require_name, require_quantity, require_whole
from marketplace.catalogue.models import Window
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.models import Demand
from marketplace.demand.services import amend_demand, fund_demand, post_demand, unfund_demand, withdraw_demand
from marketplace.errors import BadInput, NotYours, QuantityOutOfRange
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.spending.services import Spend, approvals_needed

LEGS_MAX = 20
STEPS_MAX = 8
PPM = 1_000_000
# What an insensitive leg leaves out.
RULES = ("zone_code", "control_zone_code", "tier_min", "data_class", "purpose", "required_controls", "vantage_code",
         "latency_ms_max", "latency_class")  # fmt: skip


@transaction.atomic
def post_spread(
    *, party: Party, window: Window, reference: str, quantity_units: int, provider_share_max_ppm: int,
    seat: Seat | None = None, now: datetime, **terms: Any,
) -> list[Demand]:  # fmt: skip
    """Post an order of which no owner of providers serves more than a share; takes the terms of `post_demand`.

    Raises QuantityOutOfRange as `leg_sizes` does.
    """
    require_name(reference, field="reference", longest=50)
    quantity = require_quantity(quantity_units)
    if not 1 <= require_whole(provider_share_max_ppm, field="provider_share_max_ppm") < PPM:
        raise BadInput("A cap is a share between 1 and 999,999 parts per million.", field="provider_share_max_ppm")
    for name in ("minimum_units", "is_one_site", "choice"):
        if terms.get(name):
            raise BadInput("An order that is spread has no minimum, no one site and no alternatives.", field=name)
    if terms.get("kind") == "block":
        raise BadInput("A block is all or nothing, and cannot be spread.", field="kind")
    sizes = leg_sizes(quantity, provider_share_max_ppm)
    legs = len(sizes)
    wanted = [(f"{reference} {no}/{legs}", "spread", "", dict(terms, quantity_units=size))
              for no, size in enumerate(sizes, start=1)]  # fmt: skip
    return _post(party, window, reference, wanted, seat, now)


def leg_sizes(quantity_units: int, provider_share_max_ppm: int) -> list[int]:
    """The units of each leg: as few legs as keep every one within the share, and as even as can be.

    Raises QuantityOutOfRange when the share of so few units is less than one, or more than 20 legs were needed.
    """
    most = quantity_units * provider_share_max_ppm // PPM
    if most < 1 or -(-quantity_units // most) > LEGS_MAX:
        raise QuantityOutOfRange(
            f"So many units cannot be spread that far: a share is one unit at least, and legs are {LEGS_MAX} at most.",
            field="provider_share_max_ppm", most_units=most,
        )  # fmt: skip
    legs = -(-quantity_units // most)
    return [quantity_units // legs + (place < quantity_units % legs) for place in range(legs)]


@transaction.atomic
def post_parted(
    *, party: Party, window: Window, reference: str, quantity_units: int, insensitive_units: int,
    fallback_venue: str = "", seat: Seat | None = None, now: datetime, **terms: Any,
) -> list[Demand]:  # fmt: skip
    """Post an order with a sensitive leg, which keeps every rule, and an insensitive one of so many of its units."""
    require_name(reference, field="reference", longest=40)
    quantity = require_quantity(quantity_units)
    if not 1 <= require_whole(insensitive_units, field="insensitive_units") < quantity:
        raise QuantityOutOfRange("Both legs have units.", field="insensitive_units", quantity_units=quantity)
    if fallback_venue:
        require_name(fallback_venue, field="fallback_venue", longest=120)
    if not any(terms.get(name) for name in ("zone_code", "control_zone_code", "data_class")):
        raise BadInput("A sensitive leg names where its data may be, or what data it is.", field="zone_code")
    free = {name: term for name, term in terms.items() if name not in RULES}
    wanted = [
        (f"{reference} sensitive", "sensitive", "", dict(terms, quantity_units=quantity - insensitive_units)),
        (f"{reference} insensitive", "insensitive", fallback_venue, dict(free, quantity_units=insensitive_units)),
    ]
    return _post(party, window, reference, wanted, seat, now)


@transaction.atomic
def post_curve(
    *, party: Party, window: Window, reference: str, quantity_units: int, price_limit_micros: int,
    further_steps: Sequence[tuple[int, int]], seat: Seat | None = None, now: datetime, **terms: Any,
) -> list[Demand]:  # fmt: skip
    """Post a price curve: `quantity_units` at most at `price_limit_micros`, then (units, price) at ever lower prices.

    Prices are micro-USD per unit-hour. Raises BadInput where a price does not fall, or with terms that bind all units.
    """
    require_name(reference, field="reference", longest=50)
    steps = [(quantity_units, price_limit_micros), *further_steps]
    if not 2 <= len(steps) <= STEPS_MAX:
        raise BadInput(f"A curve has 2 to {STEPS_MAX} steps.", field="further_steps", most=STEPS_MAX)
    if terms.get("kind") != "divisible":
        raise BadInput("Steps are of a divisible demand: any part of each may be served.", field="kind")
    for name in ("minimum_units", "is_one_site", "choice"):
        if terms.get(name):
            raise BadInput("A curve has no minimum, no one site and no alternatives.", field=name)
    if any(require_whole(price, field="further_steps") >= before for (_, before), (_, price) in pairwise(steps)):
        raise BadInput("The price falls from step to step: whoever pays more for more asks for a block.",
                       field="further_steps")  # fmt: skip
    wanted = [(f"{reference} {no}/{len(steps)}", "step", "",
               dict(terms, quantity_units=units, price_limit_micros=price))
              for no, (units, price) in enumerate(steps, start=1)]  # fmt: skip
    return _post(party, window, reference, wanted, seat, now)


@transaction.atomic
def amend_step(
    *, demand: Demand, party: Party, quantity_units: int | None = None, price_limit_micros: int | None = None,
    seat: Seat | None = None, now: datetime,
) -> Demand:  # fmt: skip
    """Change the units or the price of one step of a curve while its window collects; the other steps stay.

    A funded step is held anew at its new cost, by what stood behind it, in the same transaction; else nothing changes.
    Raises NotYours, WindowClosed, what `amend_demand` and `fund_demand` raise, and BadInput for what is no step, for
    nothing to change, and for a price that does not lie between those of its neighbours.
    """
    require_seat(seat, party, "draft", "change demands")
    own = Demand.objects.filter(pk=demand.pk, party=party).first()
    if own is None:
        raise NotYours("There is no such demand.")
    Window.objects.select_for_update().get(pk=own.window_id)  # two steps of one curve change one after the other
    steps = [leg.demand for leg in legs_with(own) if leg.role == "step"]
    if not steps:
        raise BadInput("This demand is no step of a price curve.", field="demand")
    asked = {"quantity_units": quantity_units, "price_limit_micros": price_limit_micros}
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        raise BadInput("Say the step's new units, its new price, or both.", field="quantity_units")
    prices = [price_limit_micros if price_limit_micros is not None and each.pk == own.pk else each.price_limit_micros
              for each in steps]  # fmt: skip
    if any(later >= before for before, later in pairwise(prices)):
        raise BadInput("The price falls from step to step: it stays between those of its neighbours.",
                       field="price_limit_micros")  # fmt: skip
    is_funded, behind = own.state == "funded", own.funding_kind if own.funding_line_id is None else ""
    if is_funded:
        unfund_demand(demand=own, party=party, now=now)
    changed = amend_demand(demand=own, party=party, seat=seat, now=now, **changes)
    _require_same_approvals(party, [changed if each.pk == changed.pk else each for each in steps])
    if is_funded:
        changed = fund_demand(demand=changed, party=party, seat=seat, funding=behind, now=now)
    return changed


@transaction.atomic
def fund_whole(*, demand: Demand, party: Party, **how: Any) -> Demand:
    """Fund a demand, or every step of the curve that it is part of, all or none; takes the terms of `fund_demand`."""
    for each in _steps_of(demand, party):
        if each.pk != demand.pk:
            fund_demand(demand=each, party=party, **how)
    return fund_demand(demand=demand, party=party, **how)


@transaction.atomic
def withdraw_whole(*, demand: Demand, party: Party, **how: Any) -> Demand:
    """Withdraw a demand, or every step of the curve that it is part of; takes the terms of `withdraw_demand`."""
    for each in _steps_of(demand, party):
        if each.pk != demand.pk:
            withdraw_demand(demand=each, party=party, **how)
    return withdraw_demand(demand=demand, party=party, **how)


def _steps_of(demand: Demand, party: Party) -> list[Demand]:
    return [leg.demand for leg in legs_with(demand) if leg.role == "step" and leg.demand.party_id == party.pk]


def post_order(**terms: Any) -> list[Demand]:
    """Post one demand, or an order that is split when a cap, an insensitive leg or further steps are asked for."""
    if {"provider_share_max_ppm", "insensitive_units", "further_steps"} & set(terms):
        return post_split(**terms)
    return [post_demand(**terms)]


def post_split(
    *, party: Party, window: Window, provider_share_max_ppm: int | None = None, insensitive_units: int | None = None,
    further_steps: Sequence[tuple[int, int]] | None = None, fallback_venue: str = "", **terms: Any,
) -> list[Demand]:  # fmt: skip
    """Post an order the one way or the other; raises BadInput unless exactly one of the three is asked for."""
    if sum(asked is not None for asked in (provider_share_max_ppm, insensitive_units, further_steps)) != 1:
        raise BadInput("An order is split by a cap on one provider, into two legs, or into steps of a price curve: say "
                       "one of them.", field="provider_share_max_ppm")  # fmt: skip
    if further_steps is not None:
        if fallback_venue:
            raise BadInput("Only an insensitive leg has a fallback.", field="fallback_venue")
        return post_curve(party=party, window=window, further_steps=further_steps, **terms)
    if provider_share_max_ppm is not None:
        if fallback_venue:
            raise BadInput("Only an insensitive leg has a fallback.", field="fallback_venue")
        return post_spread(party=party, window=window, provider_share_max_ppm=provider_share_max_ppm, **terms)
    assert insensitive_units is not None
    return post_parted(party=party, window=window, insensitive_units=insensitive_units, fallback_venue=fallback_venue,
                       **terms)  # fmt: skip


def legs_with(demand: Demand) -> QuerySet[DemandLeg]:
    """Every leg of the order that a demand is a leg of, in order; none for a demand that stands alone."""
    leg = DemandLeg.objects.filter(demand=demand).first()
    rows = DemandLeg.objects.filter(order=leg.order) if leg else DemandLeg.objects.none()
    return rows.select_related("demand__zone", "demand__control_zone", "demand__window").order_by("no")


def _post(
    party: Party, window: Window, reference: str, wanted: list[tuple[str, str, str, dict[str, Any]]],
    seat: Seat | None, now: datetime,
) -> list[Demand]:  # fmt: skip
    order = uuid_from("order", party.pk, reference)
    made = []
    for no, (name, role, fallback, terms) in enumerate(wanted, start=1):
        demand = post_demand(party=party, window=window, reference=name, seat=seat, now=now, **terms)
        _note(demand, order, role, no, len(wanted), fallback)
        made.append(demand)
    _require_same_approvals(party, made)
    return made


def _note(demand: Demand, order: UUID, role: str, no: int, of: int, fallback: str) -> None:
    facts = {"order": order, "role": role, "no": no, "of": of, "fallback_venue": fallback}
    leg, _ = DemandLeg.objects.get_or_create(demand=demand, defaults=facts)
    if any(getattr(leg, name) != fact for name, fact in facts.items()):
        raise BadInput("This reference names another order of yours.", field="reference")


def _require_same_approvals(party: Party, legs: list[Demand]) -> None:
    """A purchase is not cut into pieces that each need nobody's approval."""
    together = sum(leg.hold_micros for leg in legs)
    if not any(leg.state == "posted" and not leg.approvals.exists() for leg in legs):
        return
    posters = {leg.posted_by_id for leg in legs}
    if any(approvals_needed(Spend(party, together, True, None, None, each)) for each in posters):
        raise BadInput("Together these legs are above your threshold or the limit of your seat, and one alone is not: "
                       "post it whole.", field="quantity_units", hold_micros=together)  # fmt: skip
