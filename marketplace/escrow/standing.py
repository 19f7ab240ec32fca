"""Demand that lasts: it enters each following window on the same terms, funded window by window, until its end.

A window is entered unfunded where the money, the order or an approval is not there yet, and tried again each turn while
that window collects. What is unfunded when demand closes counts for nothing there, and the demand stands on. What a
renewal may cost is capped: its limit is the buyer's own, or the last price paid plus the cap, if that is less.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.catalogue.limits import TICK_MICROS, require_name, require_price, require_whole
from marketplace.catalogue.models import Window
from marketplace.demand.funding_models import LINE_KINDS
from marketplace.demand.models import FUNDING_KINDS, Demand
from marketplace.demand.services import check_terms, fund_demand, post_demand
from marketplace.demand.standing_models import StandingDemand, StandingEntry
from marketplace.demand.stops import require_no_stop
from marketplace.errors import (
    BadInput,
    MarketError,
    NotYours,
    ReferenceReused,
    RenewalAboveCap,
    WindowClosed,
)
from marketplace.escrow.models import Lease
from marketplace.governance.services import flag_is_on, record, require_flag
from marketplace.notices.services import tell_parties
from marketplace.parties.models import ApiKey, Party, Seat
from marketplace.parties.roles import require_seat

PPM = 1_000_000
# The terms that every entry repeats; hours run over the whole of each window.
TERMS = (
    "kind", "accepted_classes", "quantity_units", "sla_code", "sla_targets", "zone_code", "control_zone_code",
    "tier_min", "vantage_code", "latency_ms_max", "latency_class", "minimum_units", "is_one_site", "data_class",
    "purpose", "required_controls", "accepts_interruptible",
)  # fmt: skip

LISTS = ("accepted_classes", "required_controls")


@transaction.atomic
def stand(
    *, party: Party, reference: str, price_limit_micros: int, renewal_cap_ppm: int, starts_at: datetime,
    ends_at: datetime, funding: str = "escrow", number: str = "", seat: Seat | None = None,
    key: ApiKey | None = None, now: datetime, **terms: Any,
) -> StandingDemand:  # fmt: skip
    """Let a demand stand from `starts_at` to `ends_at`; takes the terms of `post_demand` but its slots and window.

    A renewal never costs more than the last price paid plus `renewal_cap_ppm` parts per million of it. The same
    reference and terms return what stands. Nothing is held before a window collects. It is funded by itself, so its
    `seat` may post and fund alike. It, or the one that issued the program's `key`, counts as who posts its entries.
    """
    _require_may_stand(seat, party)
    require_flag(name="standing_demand", what="Demand that stands")
    if not party.is_buyer:
        raise BadInput("Only buyers post demand.", field="party")
    require_no_stop(party)
    require_name(reference, field="reference", longest=40)
    unknown = set(terms) - set(TERMS)
    if unknown:
        raise BadInput("A standing demand has no such term.", field=sorted(unknown)[0])
    limit = require_price(price_limit_micros, field="price_limit_micros")
    if not 0 <= require_whole(renewal_cap_ppm, field="renewal_cap_ppm") <= PPM:
        raise BadInput("A renewal cap is 0 to 1,000,000 parts per million.", field="renewal_cap_ppm")
    if not now < ends_at or not starts_at < ends_at:
        raise BadInput("A standing demand ends later than it starts, and later than now.", field="ends_at")
    if funding not in FUNDING_KINDS:
        raise BadInput(f"A demand is funded by {', '.join(FUNDING_KINDS)}.", field="funding")
    if (funding in LINE_KINDS) != bool(number):
        raise BadInput("A purchase order or a grant is named by its number, and nothing else is.", field="number")
    check_terms(window=_like_a_window(starts_at), price_limit_micros=limit, **terms)
    facts = {
        "terms": _plain(terms), "price_limit_micros": limit, "renewal_cap_ppm": renewal_cap_ppm, "starts_at": starts_at,
        "ends_at": ends_at, "funding_kind": funding, "funding_number": number,
    }  # fmt: skip
    standing = StandingDemand.objects.filter(party=party, reference=reference).first()
    if standing:
        if any(getattr(standing, name) != fact for name, fact in facts.items()):
            raise ReferenceReused("This reference names another standing demand of yours.", field="reference")
        return standing
    row = StandingDemand.objects.create(id=uuid7(now), party=party, reference=reference, made_at=now,
                                        made_by=seat or (key.issued_by if key else None), **facts)  # fmt: skip
    record(actor=seat.user.email if seat else party.slug, action="stand", subject=row.pk, now=now,
           reason="a demand that lasts", reference=reference, ends_at=ends_at.isoformat())  # fmt: skip
    return row


@transaction.atomic
def reprice(
    *, standing: StandingDemand, party: Party, price_limit_micros: int, seat: Seat | None = None, now: datetime
) -> StandingDemand:
    """Change the limit of the entries to come. Refused with `renewal_above_cap` beyond the last price plus the cap."""
    _require_may_stand(seat, party)
    row = _own(standing, party)
    if row.state != "active":
        raise WindowClosed("This demand stands no more.", state=row.state)
    limit = require_price(price_limit_micros, field="price_limit_micros")
    cap = renewal_cap_micros(row)
    if cap is not None and limit > cap:
        raise RenewalAboveCap(
            "A renewal may not rise that far above the last price.", field="price_limit_micros", cap_micros=cap,
        )
    row.price_limit_micros = limit
    row.save(update_fields=["price_limit_micros"])
    record(actor=party.slug, action="reprice", subject=row.pk, reason="another limit", now=now, limit_micros=limit)
    return row


@transaction.atomic
def withdraw_standing(
    *, standing: StandingDemand, party: Party, seat: Seat | None = None, now: datetime
) -> StandingDemand:
    """Enter no further window. What stands in a window already follows that window's own rules."""
    require_seat(seat, party, "draft", "withdraw standing demand")
    row = _own(standing, party)
    if row.state == "active":
        row.state, row.closed_at = "withdrawn", now
        row.save(update_fields=["state", "closed_at"])
        record(actor=party.slug, action="withdraw_standing", subject=row.pk, reason="withdrawn", now=now)
    return row


def enter_windows(*, now: datetime) -> int:
    """Bring every standing demand into each market window that collects within its time; returns how many entered."""
    StandingDemand.objects.filter(state="active", ends_at__lte=now).update(state="ended", closed_at=now)
    entered = 0
    if not flag_is_on("standing_demand"):
        return 0
    active = list(StandingDemand.objects.filter(state="active").select_related("party"))
    if not active:
        return 0
    windows = Window.objects.filter(state="COLLECTING", kind="market", demand_closes_at__gt=now).order_by("number")
    for window in windows:
        there = set(window.standing_entries.values_list("standing_id", flat=True))
        for standing in active:
            lasts = standing.starts_at <= window.starts_at and window.ends_at <= standing.ends_at
            if lasts and standing.pk not in there:
                entered += _enter(standing, window, now)
    return entered


def fund_waiting(*, now: datetime) -> int:
    """Fund what standing demand entered unfunded, now that an approval or its money may have come; returns how many."""
    rows = StandingEntry.objects.filter(
        standing__state="active", demand__state="posted", window__state="COLLECTING", window__demand_closes_at__gt=now
    )  # fmt: skip
    return sum(not _fund(row.standing, row.demand, now)
               for row in rows.select_related("standing__party", "demand").order_by("window__number", "id"))


def renewal_cap_micros(standing: StandingDemand) -> int | None:
    """The most a renewal may cost per unit-hour, on the tick; None while nothing was paid yet."""
    paid = last_paid_micros(standing)
    return None if paid is None else _tick_down(paid + paid * standing.renewal_cap_ppm // PPM)


def last_paid_micros(standing: StandingDemand) -> int | None:
    """What the last lease of a standing demand cost per unit-hour in the mean, rounded down; None before the first."""
    for entry in standing.entries.order_by("-window__starts_at", "-window__number"):
        sums = Lease.objects.filter(demand=entry.demand_id, step_in=None).exclude(state="refused").aggregate(
            fee=Sum("fee_micros"), hours=Sum("unit_hours"))  # fmt: skip
        if sums["hours"]:
            return int(sums["fee"]) // int(sums["hours"])
    return None


def standing_of(party: Party) -> list[StandingDemand]:
    """Return a buyer's standing demands with their entries, newest first."""
    return list(StandingDemand.objects.filter(party=party).prefetch_related("entries__window", "entries__demand"))


def find_standing(standing_id: UUID, party: Party) -> StandingDemand | None:
    """Return the party's own standing demand, or None."""
    return StandingDemand.objects.filter(pk=standing_id, party=party).first()


@transaction.atomic
def _enter(standing: StandingDemand, window: Window, now: datetime) -> int:
    rows = StandingDemand.objects.select_for_update(of=("self",))
    row = rows.select_related("party", "made_by__user", "made_by__party").get(pk=standing.pk)
    if row.state != "active" or row.entries.filter(window=window).exists():
        return 0
    paid, cap = last_paid_micros(row), renewal_cap_micros(row)
    limit = row.price_limit_micros if cap is None else min(row.price_limit_micros, cap)
    try:
        demand = post_demand(
            party=row.party, window=window, reference=f"{row.reference} w{window.number}", start_slot=0,
            end_slot=window.slots, price_limit_micros=limit, seat=row.made_by, now=now, **row.terms,
            purchase_order=row.funding_number if row.funding_kind == "purchase_order" else "",
        )  # fmt: skip
    except MarketError as error:  # a zone may have lost its members meanwhile: this window goes on without it
        tell_parties(
            parties={row.party_id}, about=f"standing:{row.pk}:{window.number}", code=error.code, now=now,
            sentence=f"{row.reference} did not enter {window.name}: {error}",
        )  # fmt: skip
        return 0
    refusal = _fund(row, demand, now)
    point("demand.standing.before_entry")
    StandingEntry.objects.create(
        standing=row, window=window, demand=demand, limit_micros=limit, paid_micros=paid, cap_ppm=row.renewal_cap_ppm,
        refusal=refusal, at=now,
    )  # fmt: skip
    return 1


def _fund(row: StandingDemand, demand: Demand, now: datetime) -> str:
    try:
        with transaction.atomic():
            fund_demand(demand=demand, party=row.party, funding=row.funding_kind, number=row.funding_number, now=now)
    except MarketError as error:  # no money, no approved order, or an approval of the party's own that is missing yet
        return error.code
    return ""


def _require_may_stand(seat: Seat | None, party: Party) -> None:
    require_seat(seat, party, "draft", "let demand stand")
    require_seat(seat, party, "fund", "let demand stand, which funds itself")


def _own(standing: StandingDemand, party: Party) -> StandingDemand:
    row = StandingDemand.objects.select_for_update().filter(pk=standing.pk, party=party).first()
    if row is None:
        raise NotYours("There is no such standing demand.")
    return row


def _like_a_window(starts_at: datetime) -> Window:
    """A window that is never written, of one hour: terms are checked against its date."""
    return Window(slots=1, starts_at=starts_at)


def _plain(terms: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(term) if name in LISTS else term for name, term in sorted(terms.items())}


def _tick_down(micros: int) -> int:
    return max(TICK_MICROS, micros - micros % TICK_MICROS)
