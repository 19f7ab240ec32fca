"""Demand: post, amend, fund, withdraw. Only funded demand counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet

from ledger.errors import InsufficientFunds
from ledger.faults import point
from ledger.ids import uuid7
from ledger.selectors import balance
from ledger.services import USD2_LEDGER, reserve_hold, void_hold
from marketplace.catalogue.limits import (
    MONEY_MAX_MICROS,
    require_name,
    require_price,
    require_quantity,
    require_slots,
    require_targets,
    require_whole,
)
from marketplace.catalogue.models import ResourceClass, SlaPreset, Vantage, Window, Zone
from marketplace.catalogue.pairs import require_buyer_of
from marketplace.catalogue.services import find_named, require_known_classes, zone_countries
from marketplace.compliance.rules import bound_zone, require_controls, require_data_class, require_some_country
from marketplace.demand.approvals import check_pilot, draw_on_budget, first_state, spend_of
from marketplace.demand.funding import (
    choose_funding,
    named_order,
    origin_of,
    require_kind,
    require_same_funding,
    what_funds,
)
from marketplace.demand.leg_models import DemandLeg
from marketplace.demand.models import KINDS, Demand
from marketplace.demand.standing_models import StandingEntry
from marketplace.demand.stops import require_no_stop
from marketplace.errors import (
    BadInput,
    ContradictoryRules,
    MakerLimit,
    NotFunded,
    NotYours,
    QuantityOutOfRange,
    ReferenceReused,
    RenewalAboveCap,
    WindowClosed,
    WrongStanding,
)
from marketplace.governance.services import record, require_flag
from marketplace.notices.services import tell_parties
from marketplace.parties.caps import Order, note_use, require_placed_by, require_within_caps
from marketplace.parties.models import ApiKey, Party, Seat
from marketplace.parties.owners import FOUNDATION
from marketplace.parties.roles import require_seat
from marketplace.spending.models import Budget, Pilot
from pricing.errors import SlaError
from pricing.latency import terms_of_class

OPEN_STATES = ("pending", "posted", "funded")  # wait for clearing
TERMS = (
    "kind", "accepted_classes", "quantity_units", "start_slot", "end_slot", "price_limit_micros", "sla_id",
    "sla_targets", "zone_id", "control_zone_id", "tier_min", "vantage_id", "latency_ms_max",
    "minimum_units", "is_one_site", "choice", "data_class_id", "purpose", "required_controls", "accepts_interruptible",
)  # fmt: skip


@transaction.atomic
def post_demand(
    *,
    party: Party,
    window: Window,
    reference: str,
    kind: str,
    accepted_classes: Collection[str],
    quantity_units: int,
    start_slot: int,
    end_slot: int,
    price_limit_micros: int,
    sla_code: str,
    zone_code: str | None = None,
    control_zone_code: str | None = None,
    tier_min: int = 0,
    vantage_code: str | None = None,
    latency_ms_max: int | None = None,
    latency_class: str | None = None,
    minimum_units: int = 0,
    is_one_site: bool = False,
    choice: str | None = None,
    data_class: str | None = None,
    purpose: str | None = None,
    required_controls: Collection[str] | None = None,
    accepts_interruptible: bool = False,
    sla_targets: Mapping[str, int] | None = None,
    seat: Seat | None = None,
    purchase_order: str = "",
    budget: Budget | None = None,
    pilot: Pilot | None = None,
    key: ApiKey | None = None,
    now: datetime,
) -> Demand:
    """Record what one buyer needs in `window`, at most `price_limit_micros` per unit-hour, all-in.

    A `window` may name a minimum: so many units or none. A `window` or `block` may be bound to one site, and may be one
    of several alternatives: of the buyer's demands with the same `choice` in this window at most one is awarded.
    A data class lifts the tier to the least it needs; one under an agreement names its purpose. `required_controls` are
    further controls that the capacity must hold, `sla_targets` what it must promise beside availability (see
    `pricing.targets`). A `latency_class` (L10 to batch, see `pricing.latency`) names bound and target at once.
    `purchase_order` is the number of an order that was asked for; the demand can then be funded by that order alone.
    Above the party's own threshold, or the limit of the seat, it begins as `pending` and waits for approvals by other
    seats than `seat`, or than the one that issued the program's `key`: nobody approves what they, or a program of
    theirs, posted.
    Posting moves no money and binds nobody; `fund_demand` does. The same reference with the same terms returns the
    demand that stands; with other terms it is refused (`reference_reused`). Raises KeyCapped when the program's `key`
    may not order that much.
    """
    if not (party.is_buyer or party.kind == "foundation"):  # its own is funded inside the limits of `maker` only
        raise BadInput("Only buyers post demand.", field="party")
    require_no_stop(party)
    require_name(reference, field="reference", longest=60)
    terms = _checked_terms(
        window=window, kind=kind, accepted_classes=accepted_classes, quantity_units=quantity_units,
        start_slot=start_slot, end_slot=end_slot, price_limit_micros=price_limit_micros, sla_code=sla_code,
        zone_code=zone_code, control_zone_code=control_zone_code, tier_min=tier_min, vantage_code=vantage_code,
        latency_ms_max=latency_ms_max, latency_class=latency_class, minimum_units=minimum_units,
        is_one_site=is_one_site, choice=choice, data_class=data_class, purpose=purpose,
        required_controls=required_controls, accepts_interruptible=accepts_interruptible, sla_targets=sla_targets,
    )  # fmt: skip
    require_seat(seat, party, "draft", "post demands")
    order = named_order(party=party, number=purchase_order)
    if any(each is not None and each.party_id != party.pk for each in (budget, pilot)):
        raise NotYours("There is no such budget or pilot.")
    require_buyer_of(window=window, party=party)
    locked = _collecting(window, now)
    standing = Demand.objects.filter(party=party, reference=reference).first()
    if standing:
        if standing.window_id != window.pk or any(getattr(standing, name) != terms[name] for name in TERMS):
            raise ReferenceReused("This reference names another demand of yours.", field="reference")
        return standing
    demand = Demand(
        id=uuid7(now), window=locked, party=party, reference=reference, posted_at=now,
        posted_by=seat or (key.issued_by if key else None),
        accepted_rank=_next_rank(locked), funding_line=order, budget=budget, pilot=pilot, **terms,
    )  # fmt: skip
    require_within_caps(key, _order(demand), now)
    spend = spend_of(demand)
    check_pilot(spend, locked, tier_min=demand.tier_min)
    demand.state = first_state(spend)
    demand.save(force_insert=True)
    note_use(key, "demand", demand.pk, now)
    record(actor=seat.user.email if seat else party.slug, action="post_demand", subject=demand.pk, now=now,
           reason=demand.state, reference=reference)  # fmt: skip
    if demand.state == "pending":
        tell_parties(parties=(party.pk,), about=f"approval:{demand.pk}", code="approval_needed", now=now,
                     sentence=f"{reference} waits for an approval.")  # fmt: skip
    return demand


def _order(demand: Demand) -> Order:
    """A demand as the caps of a key count it: at the most it can cost."""

    def among(demands: Sequence[UUID]) -> QuerySet[Demand]:
        return Demand.objects.filter(pk__in=demands)

    return Order(
        kind="demand", resource_classes=demand.accepted_classes, notional_micros=demand.hold_micros,
        notional_of=lambda demands: sum(each.hold_micros for each in among(demands)),
        open_among=lambda demands: among(demands).filter(state__in=OPEN_STATES).count(),
    )  # fmt: skip


def terms_of(demand: Demand) -> dict[str, Any]:
    """The terms of a demand as `post_demand` takes them."""
    return {
        "kind": demand.kind, "accepted_classes": demand.accepted_classes, "sla_code": demand.sla_id,
        "quantity_units": demand.quantity_units, "start_slot": demand.start_slot, "end_slot": demand.end_slot,
        "price_limit_micros": demand.price_limit_micros, "zone_code": demand.zone_id,
        "control_zone_code": demand.control_zone_id, "tier_min": demand.tier_min,
        "vantage_code": demand.vantage_id, "latency_ms_max": demand.latency_ms_max,
        "minimum_units": demand.minimum_units, "is_one_site": demand.is_one_site, "choice": demand.choice or None,
        "data_class": demand.data_class_id, "purpose": demand.purpose,
        "required_controls": demand.required_controls, "accepts_interruptible": demand.accepts_interruptible,
        "sla_targets": demand.sla_targets,
    }  # fmt: skip


@transaction.atomic
def amend_demand(*, demand: Demand, party: Party, seat: Seat | None = None, now: datetime, **changes: Any) -> Demand:
    """Change the terms of an unfunded demand while its window collects. Takes the fields of `post_demand`.

    Whoever changes it answers for it from then on: the limit of that `seat` counts, and it does not approve it.

    Raises BadInput for a leg of an order, but for units and price of a step: see `legs.amend_step`; RenewalAboveCap
    for a renewal of a demand that stands above its cap.
    """
    standing = _own(demand, party)
    leg = DemandLeg.objects.filter(demand=standing).first()
    if leg is not None and (leg.role != "step" or set(changes) - {"quantity_units", "price_limit_micros"}):
        raise BadInput("Legs of one order share their terms: withdraw the order and post another.",
                       field=min(changes, default="demand"))  # fmt: skip
    _collecting(standing.window, now)
    if standing.state != "posted":
        raise WindowClosed("Only a posted, unfunded demand can be changed.", state=standing.state)
    current = terms_of(standing)
    unknown = set(changes) - set(current)
    if unknown:
        raise BadInput("This cannot be changed.", field=sorted(unknown)[0])
    if standing.approvals.exists():
        raise WindowClosed("What others approved is not changed; post another demand.", state=standing.state)
    standing.posted_by = seat or standing.posted_by
    for name, term in _checked_terms(window=standing.window, **{**current, **changes}).items():
        setattr(standing, name, term)
    entry = StandingEntry.objects.filter(demand=standing).first()
    if entry and entry.cap_micros is not None and standing.price_limit_micros > entry.cap_micros:
        raise RenewalAboveCap("A renewal may not rise that far above the last price.", field="price_limit_micros",
                              cap_micros=entry.cap_micros)  # fmt: skip
    spend = spend_of(standing)
    check_pilot(spend, standing.window, tier_min=standing.tier_min, but=standing.pk)
    standing.state = first_state(spend)
    standing.save()
    record(actor=party.slug, action="amend_demand", subject=demand.pk, reason="amended", now=now, changed=list(changes))
    return standing


@transaction.atomic
def fund_demand(
    *, demand: Demand, party: Party, seat: Seat | None = None, funding: str = "", number: str = "",
    key: ApiKey | None = None, now: datetime,
) -> Demand:  # fmt: skip
    """Hold the most the demand can cost in the books: limit x units x hours. Funding twice is one act.

    `funding` says what stands behind it (see `demand.funding`); a purchase order or grant is named by its `number`.
    Left out, it is the order that the demand names, else money in escrow.
    Raises NotFunded when that does not cover it, LineNotDecided, WindowClosed outside COLLECTING, ReferenceReused where
    something else funds it already, WrongStanding for a demand that is withdrawn or refused.
    """
    require_flag(name="demand_funding", what="Funding of demand")
    require_no_stop(party)
    require_seat(seat, party, "fund", "fund demands")
    standing = _own(demand, party)
    require_placed_by(key, "demand", standing.pk)
    require_kind(funding)
    if standing.state == "funded":
        require_same_funding(standing, funding, number)
        return standing
    if standing.state in ("withdrawn", "refused"):
        raise WrongStanding(f"This demand is {standing.state}; post it anew.", state=standing.state)
    window = _collecting(standing.window, now)
    draw_on_budget(standing, now)
    if standing.state != "posted":
        raise WindowClosed("Only a posted demand can be funded.", state=standing.state)
    owed = balance(code="buyer.receivable", party=party.pk, ledger=USD2_LEDGER).minor
    if owed:
        raise NotFunded("A disputed card payment is still owed; the next deposit by card pays it.", owed_cents=owed)
    funding, number = what_funds(standing, funding, number)
    line = choose_funding(demand=standing, party=party, kind=funding, number=number, now=now)
    standing.funding_kind, standing.funding_line = funding, line
    hold_id = uuid7(now)
    try:
        reserve_hold(
            id=hold_id, party=party.pk, window=window.pk, amount=standing.hold_micros,
            timeout_at=window.ends_at, origin=origin_of(standing), now=now,
        )  # fmt: skip
    except InsufficientFunds as error:
        raise NotFunded(
            "Your available money does not cover this demand at its limit.", needed_micros=standing.hold_micros
        ) from error
    point("demand.fund.after_hold")
    standing.state, standing.hold_id, standing.funded_at = "funded", hold_id, now
    try:
        standing.save(update_fields=["state", "hold_id", "funded_at", "funding_kind", "funding_line"])
    except IntegrityError as refusal:  # what the Foundation owns trades inside the Foundation's limits, or not at all
        rule = str(getattr(getattr(refusal.__cause__, "diag", None), "constraint_name", "") or "")
        if not rule.startswith("maker_"):
            raise
        raise MakerLimit("The Foundation's limits do not allow this demand of its own.", rule=rule) from refusal
    record(actor=party.slug, action="fund_demand", subject=demand.pk, reason="funded", now=now, hold=str(hold_id),
           funding=funding)  # fmt: skip
    return standing


@transaction.atomic
def unfund_demand(*, demand: Demand, party: Party, now: datetime) -> Demand:
    """Give a funded demand's hold back and let it stand as posted; whoever changes it funds it anew at once."""
    standing = _own(demand, party)
    _collecting(standing.window, now)
    if standing.state != "funded":
        raise WindowClosed("Only a funded demand has a hold to give back.", state=standing.state)
    void_hold(id=standing.hold_id, now=now)
    standing.state, standing.hold_id, standing.funded_at, standing.funding_kind = "posted", None, None, ""
    standing.save(update_fields=["state", "hold_id", "funded_at", "funding_kind"])
    record(actor=party.slug, action="unfund_demand", subject=demand.pk, reason="changed while funded", now=now)
    return standing


@transaction.atomic
def withdraw_demand(*, demand: Demand, party: Party, seat: Seat | None = None, now: datetime) -> Demand:
    """Take a demand back while its window collects; its hold is released in the same transaction."""
    require_seat(seat, party, "draft", "withdraw demands")
    standing = _own(demand, party)
    if standing.state == "withdrawn":
        return standing
    _collecting(standing.window, now)
    if standing.state not in ("pending", "posted", "funded"):
        raise WindowClosed("This demand can no longer be withdrawn.", state=standing.state)
    if standing.state == "funded":
        void_hold(id=standing.hold_id, now=now)
    standing.state = "withdrawn"
    standing.save(update_fields=["state"])
    record(actor=party.slug, action="withdraw_demand", subject=demand.pk, reason="withdrawn", now=now)
    return standing


def check_terms(*, window: Window, price_limit_micros: int, **terms: Any) -> None:
    """Refuse terms that `post_demand` would refuse in every window that starts like `window`."""
    left_out: dict[str, Any] = {
        "kind": "", "accepted_classes": (), "quantity_units": 0, "sla_code": "", "zone_code": None,
        "control_zone_code": None, "tier_min": 0, "vantage_code": None, "latency_ms_max": None,
        "latency_class": None, "minimum_units": 0, "is_one_site": False, "choice": None, "data_class": None,
        "purpose": None, "required_controls": None, "accepts_interruptible": False, "sla_targets": None,
    }  # fmt: skip
    _checked_terms(window=window, start_slot=0, end_slot=window.slots, price_limit_micros=price_limit_micros,
                   **left_out | terms)  # fmt: skip


def funded_figures(*, window: Window) -> dict[str, int]:
    """What the gate of a window looks at: funded unit-hours and distinct funded buyers (siblings count once).

    The Foundation's own demand counts for neither: nobody opens its own market.
    """
    rows = Demand.objects.filter(window=window, state="funded").exclude(party__in=FOUNDATION)
    rows = rows.select_related("party__parent")
    return {
        "funded_unit_hours": sum(row.unit_hours for row in rows),
        "funded_parties": len({row.party.owner_key for row in rows}),
        "funded_demands": len(rows),
    }


def freeze_demand(*, window: Window, now: datetime) -> int:
    """Turn away what was never funded when bidding opens; returns how many."""
    return Demand.objects.filter(window=window, state__in=("pending", "posted")).update(state="unfunded")


@transaction.atomic
def release_holds(*, window: Window, now: datetime) -> int:
    """Release every hold of a failed window, all or nothing."""
    rows = list(Demand.objects.select_for_update().filter(window=window, state="funded"))
    for row in rows:
        void_hold(id=row.hold_id, now=now)
        point("demand.release.after_hold")
    Demand.objects.filter(pk__in=[row.pk for row in rows]).update(state="released")
    point("demand.release.after_states")
    Demand.objects.filter(window=window, state__in=("pending", "posted")).update(state="unfunded")
    return len(rows)


def _own(demand: Demand, party: Party) -> Demand:
    found = Demand.objects.filter(pk=demand.pk, party=party).first()
    if found is None:
        raise NotYours("There is no such demand.")
    # The window first, as whoever judges its gate does: the other order is a deadlock.
    Window.objects.select_for_update().get(pk=found.window_id)
    return Demand.objects.select_for_update(of=("self",)).select_related("window").get(pk=found.pk)


def _collecting(window: Window, now: datetime) -> Window:
    # Locked, so that posting, funding and the opening of bidding follow one another.
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "COLLECTING" or now >= locked.demand_closes_at:
        raise WindowClosed(
            "Demand for this window is closed.", window=locked.name, state=locked.state,
            closed_at=locked.demand_closes_at.isoformat(),
        )  # fmt: skip
    return locked


def _next_rank(window: Window) -> int:
    return (Demand.objects.filter(window=window).aggregate(top=Max("accepted_rank"))["top"] or 0) + 1


def _checked_terms(
    *, window: Window, kind: str, accepted_classes: Collection[str], quantity_units: int, start_slot: int,
    end_slot: int, price_limit_micros: int, sla_code: str, zone_code: str | None, control_zone_code: str | None,
    tier_min: int, vantage_code: str | None, latency_ms_max: int | None, minimum_units: int, is_one_site: bool,
    choice: str | None, data_class: str | None, purpose: str | None, required_controls: Collection[str] | None,
    accepts_interruptible: bool, sla_targets: Mapping[str, int] | None, latency_class: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Each term in its column's name, or a typed refusal that names the field."""
    if kind not in KINDS:
        raise BadInput(f"A demand is one of {', '.join(KINDS)}.", field="kind")
    start, end = require_slots(start_slot, end_slot, window=window)
    limit, quantity = require_price(price_limit_micros, field="price_limit_micros"), require_quantity(quantity_units)
    if limit * quantity * (end - start) >= MONEY_MAX_MICROS:
        raise QuantityOutOfRange("This demand is worth more than the books can hold.", field="quantity_units")
    sla = find_named(SlaPreset, sla_code, field="sla_code")
    if sla is None:
        raise BadInput("Choose an SLA preset.", field="sla_code")
    if not _is_level(tier_min):
        raise BadInput("A tier is a whole number from 0 to 3.", field="tier_min")
    if not isinstance(accepts_interruptible, bool):
        raise BadInput("Interruptible capacity will do or not: true or false.", field="accepts_interruptible")
    zone, control = (
        find_named(Zone, zone_code, field="zone_code"),
        find_named(Zone, control_zone_code, field="control_zone_code"),
    )
    for rule, field in ((zone, "zone_code"), (control, "control_zone_code")):
        if rule and not zone_countries(zone=rule, on=window.starts_at.date()):
            raise ContradictoryRules(f"Zone {rule.code} has no members on that date.", field=field)
    data = require_data_class(data_class, purpose=purpose)
    tier_min = max(tier_min, data.tier_min if data else 0)
    require_some_country(zone=zone, control_zone=control, data_class=data, tier_min=tier_min,
                         on=window.starts_at.date())  # fmt: skip
    zone = bound_zone(zone, data, on=window.starts_at.date())
    vantage = find_named(Vantage, vantage_code, field="vantage_code")
    targets = require_targets(sla_targets, hours=end - start)
    if latency_ms_max is not None and not (type(latency_ms_max) is int and 1 <= latency_ms_max <= 10_000):
        raise BadInput("A latency bound is 1 to 10,000 ms.", field="latency_ms_max")
    if latency_class:
        latency_ms_max, targets = _in_class(latency_class, latency_ms_max, targets, hours=end - start)
    if latency_ms_max is not None and vantage is None:
        raise BadInput("A latency bound needs the vantage it is measured from.", field="vantage_code")
    return {
        "kind": kind, "quantity_units": quantity, "start_slot": start, "end_slot": end, "price_limit_micros": limit,
        "accepted_classes": list(
            require_known_classes(accepted_classes, ResourceClass.objects.values_list("pk", flat=True))
        ),
        "sla_id": sla.pk, "zone_id": zone.pk if zone else None, "control_zone_id": control.pk if control else None,
        "tier_min": tier_min, "vantage_id": vantage.pk if vantage else None, "latency_ms_max": latency_ms_max,
        "data_class_id": data.pk if data else None, "purpose": purpose or "",
        "required_controls": require_controls(required_controls), "accepts_interruptible": accepts_interruptible,
        "sla_targets": targets, **_checked_wholes(kind, quantity, minimum_units, is_one_site, choice),
    }  # fmt: skip


def _in_class(
    name: str, latency_ms_max: int | None, targets: Mapping[str, int], *, hours: int
) -> tuple[int | None, dict[str, int]]:
    """Bound and targets of a demand that names a latency class. Raises BadInput, ContradictoryRules with the `rule`."""
    try:
        bound, asked = terms_of_class(name, latency_ms_max=latency_ms_max, targets=targets)
    except SlaError as error:
        refusal = BadInput if error.facts["rule"] == "no_such_class" else ContradictoryRules
        raise refusal(str(error), field="latency_class", **error.facts) from error
    return bound, require_targets(asked, hours=hours)


def _checked_wholes(
    kind: str, quantity: int, minimum_units: object, is_one_site: object, choice: object
) -> dict[str, Any]:
    """The terms that make a demand whole. A divisible one has none of them; a block says its minimum by its kind."""
    minimum = require_whole(minimum_units, field="minimum_units")
    if not isinstance(is_one_site, bool):
        raise BadInput("One site is asked for or not: true or false.", field="is_one_site")
    if choice is not None and choice != "":
        choice = require_name(choice, field="choice", longest=60)
    if kind == "divisible":
        for given, field, what in ((minimum, "minimum_units", "a minimum"), (is_one_site, "is_one_site", "one site"),
                                   (choice, "choice", "alternatives")):  # fmt: skip
            if given:
                raise BadInput(f"A divisible demand takes any part anywhere: choose window or block for {what}.",
                               field=field)  # fmt: skip
    if kind == "block" and minimum:
        raise BadInput("A block is all or nothing: leave its minimum out, or choose window.", field="minimum_units")
    if not 0 <= minimum <= quantity:
        raise QuantityOutOfRange("A minimum is at most the quantity.", field="minimum_units", quantity_units=quantity)
    return {"minimum_units": minimum, "is_one_site": is_one_site, "choice": choice or ""}


def _is_level(tier: object) -> bool:
    return isinstance(tier, int) and not isinstance(tier, bool) and 0 <= tier <= 3
