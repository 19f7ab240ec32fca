"""Sealed bids that wait for funded demand: placed, and taken back until the no-cancel period begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from ledger.selectors import balance
from marketplace.capacity.services import require_sellable
from marketplace.catalogue.limits import (
    require_name,
    require_price,
    require_quantity,
    require_slots,
    require_targets,
    require_whole,
)
from marketplace.catalogue.models import SlaPreset, Window
from marketplace.catalogue.services import find_named
from marketplace.compliance.holdings import Freezes, Holdings, Span
from marketplace.demand.services import funded_figures
from marketplace.errors import (
    BadInput,
    DemandFirst,
    Frozen,
    NotEligible,
    NotYours,
    QuantityOutOfRange,
    ReferenceReused,
    SealUnreadable,
    TooLate,
    WindowClosed,
)
from marketplace.governance.services import record
from marketplace.parties.caps import Order, note_use, require_within_caps
from marketplace.parties.models import ApiKey, Party, Seat
from marketplace.parties.roles import require_seat
from marketplace.supply.bilateral import require_let_in
from marketplace.supply.entry import require_first_lease
from marketplace.supply.models import Bid, NodeClass
from marketplace.supply.sealing import NAMES, Terms, read_own, with_own_terms, withdraw_seal, write_sealed
from marketplace.supply.standing import BREACH_MEMORY_DAYS
from pricing.penalties import PROBATION_LEASE_HOURS, exposed_units

MAY_BID = ("PROBATION", "PROVEN")


@transaction.atomic
def place_bid(
    *, party: Party, node_class: NodeClass, window: Window, reference: str, quantity_units: int, start_slot: int,
    end_slot: int, price_ask_micros: int, sla_code: str, minimum_units: int = 0,
    sla_targets: Mapping[str, int] | None = None, seat: Seat | None = None, key: ApiKey | None = None, now: datetime,
) -> Bid:  # fmt: skip
    """Seal an offer of capacity. Refused with `demand_first` until funded demand has opened the window.

    The ask is per unit-hour before the platform's fee. With `minimum_units` the bid sells the same units in all its
    slots, at least so many, or none. `sla_targets` is what it promises beside availability. The same reference with
    the same terms returns the bid that stands. Raises NotEligible when standing, proven units or phase do not allow
    it, KeyCapped when the program's `key` may not offer that much.
    """
    require_seat(seat, party, "operate", "place bids")
    own = NodeClass.objects.select_related("standing", "party__parent").filter(pk=node_class.pk, party=party).first()
    if own is None:
        raise NotYours("There is no such node class.")
    if own.party.is_foundation:
        raise NotEligible("The Foundation runs the sealed bidding, so nothing that it owns takes part.",
                          rule="foundation")  # fmt: skip
    require_name(reference, field="reference", longest=60)
    start, end = require_slots(start_slot, end_slot, window=window)
    ask, quantity = require_price(price_ask_micros, field="price_ask_micros"), require_quantity(quantity_units)
    minimum = require_whole(minimum_units, field="minimum_units")
    if not 0 <= minimum <= quantity:
        raise QuantityOutOfRange("A minimum is at most the quantity.", field="minimum_units", quantity_units=quantity)
    sla = find_named(SlaPreset, sla_code, field="sla_code")
    if sla is None:
        raise BadInput("Choose an SLA preset.", field="sla_code")
    locked = _bidding(window, now)
    promised = require_targets(sla_targets, hours=end - start)
    terms = Terms(quantity, start, end, ask, minimum, sla.pk, promised)
    standing = Bid.objects.filter(party=party, reference=reference).first()
    if standing:
        if not _is_same(read_own(standing, party=party), locked, own, terms):
            raise ReferenceReused("This reference names another bid of yours.", field="reference")
        return standing
    require_within_caps(key, _order(party, own, quantity * (end - start) * ask), now)
    _require_eligible(own, locked, quantity, start, end, ask, now)
    require_first_lease(own, worth_micros=quantity * (end - start) * ask)
    _require_thawed(own, locked)
    require_sellable(
        own, quantity_units=quantity, ask_micros=ask, from_at=locked.slot_at(start), hours=end - start,
        taken=_offered(own, locked, start, end),
    )
    require_let_in(node_class=own, window=locked, unit_hours=quantity * (end - start))
    bid = write_sealed(
        party=party, node_class=own, window=locked, reference=reference, terms=terms,
        accepted_rank=_next_rank(locked), now=now,
    )  # fmt: skip
    note_use(key, "bid", bid.pk, now)
    return bid


@transaction.atomic
def withdraw_bid(*, bid: Bid, party: Party, seat: Seat | None = None, now: datetime) -> Bid:
    """Take a sealed bid back, until the no-cancel period begins."""
    require_seat(seat, party, "operate", "withdraw bids")
    standing = (
        Bid.objects.select_for_update(of=("self",)).select_related("window").filter(pk=bid.pk, party=party).first()
    )
    if standing is None:
        raise NotYours("There is no such bid.")
    if standing.state == "withdrawn":
        return read_own(standing, party=party)
    if standing.window.state != "BIDDING" or standing.state != "sealed":
        raise WindowClosed("This bid can no longer be withdrawn.", state=standing.window.state)
    if now >= standing.window.no_cancel_from:
        raise TooLate(
            "Bids cannot be withdrawn in the no-cancel period.",
            no_cancel_from=standing.window.no_cancel_from.isoformat(),
        )
    standing.state = "withdrawn"
    standing.save(update_fields=["state"])
    withdraw_seal(bid=standing)
    record(actor=party.slug, action="withdraw_bid", subject=bid.pk, reason="withdrawn", now=now)
    return read_own(standing, party=party)


def _order(party: Party, node_class: NodeClass, notional_micros: int) -> Order:
    """A bid as the caps of a key count it; sealed ones are read in their party's own copies."""

    def notional_of(bids: Sequence[UUID]) -> int:
        rows = with_own_terms(Bid.objects.filter(pk__in=bids), party=party)
        if any(row.quantity_units is None for row in rows):
            raise SealUnreadable("What this key offered today cannot be read, so nothing is added to it.")
        return sum(row.unit_hours * row.price_ask_micros for row in rows)

    return Order(
        kind="bid", resource_classes=[node_class.resource_class_id], notional_micros=notional_micros,
        notional_of=notional_of, open_among=lambda bids: Bid.objects.filter(pk__in=bids, state="sealed").count(),
    )  # fmt: skip


def _is_same(bid: Bid, window: Window, node_class: NodeClass, terms: Terms) -> bool:
    places = (bid.window_id, bid.node_class_id) == (window.pk, node_class.pk)
    return places and all(getattr(bid, name) == getattr(terms, name) for name in NAMES)


def _bidding(window: Window, now: datetime) -> Window:
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state == "COLLECTING":
        figures = funded_figures(window=locked)
        raise DemandFirst(
            "No bid before funded demand.", window=locked.name, needed_unit_hours=locked.gate_unit_hours,
            needed_parties=locked.gate_parties, **figures,
        )  # fmt: skip
    if locked.state != "BIDDING" or now >= locked.bidding_closes_at:
        raise WindowClosed(
            "Bidding in this window is closed.", window=locked.name, state=locked.state,
            closed_at=locked.bidding_closes_at.isoformat(),
        )  # fmt: skip
    return locked


def _require_eligible(
    node_class: NodeClass, window: Window, quantity_units: int, start: int, end: int, ask_micros: int, now: datetime
) -> None:
    state = node_class.standing.state
    if state not in MAY_BID:
        raise NotEligible(f"A node class that is {state} cannot bid.", rule="standing", standing=state)
    allowed = node_class.units
    if state == "PROBATION":
        if end - start > PROBATION_LEASE_HOURS:
            raise NotEligible(
                "On probation a lease lasts a day at most.", rule="probation_hours", hours=end - start,
                allowed_hours=PROBATION_LEASE_HOURS,
            )  # fmt: skip
        allowed = _probation_units(node_class, ask_micros, now)
    taken = _offered(node_class, window, start, end)
    if taken + quantity_units > allowed:
        raise NotEligible(
            "That is more than this node class may offer in these slots.", rule="proven_units", allowed_units=allowed,
            already_offered=taken, standing=state,
        )  # fmt: skip


def _probation_units(node_class: NodeClass, price_micros: int, now: datetime) -> int:
    """The units a class on probation may offer: a tenth, and after a breach what its holdback answers for (M-058 c)."""
    standing = node_class.standing
    breached = standing.last_breach_at is not None and now - standing.last_breach_at < timedelta(
        days=BREACH_MEMORY_DAYS
    )
    return exposed_units(
        price_micros=price_micros, capacity_units=node_class.units, good_hours=standing.good_hours,
        bad_hours=standing.bad_hours, breached_within_90_days=breached,
        holdback_micros=balance(code="provider.holdback", party=node_class.party_id, scope=node_class.pk).minor,
    )  # fmt: skip


def _require_thawed(node_class: NodeClass, window: Window) -> None:
    freezes = Freezes(window.starts_at)
    if not freezes.is_any:
        return
    tier = Holdings([node_class.party_id], Span(window.starts_at, window.ends_at)).tier_of(node_class)
    incident = freezes.of(node_class, tier)
    if incident:
        raise Frozen("An incident has frozen this provider or product.", incident=str(incident.pk))


def _offered(node_class: NodeClass, window: Window, start: int, end: int) -> int:
    """What a node class offers already in these slots, read in its party's own copies."""
    bids = [bid for bid in node_class.promised() if bid.state == "sealed" and bid.window_id == window.pk]
    return sum(bid.quantity_units for bid in bids if bid.start_slot < end and bid.end_slot > start)


def _next_rank(window: Window) -> int:
    return (Bid.objects.filter(window=window).aggregate(top=Max("accepted_rank"))["top"] or 0) + 1
