"""Demands that wait for a second person, and budgets that are drawn on."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import BigIntegerField, F, QuerySet, Sum

from marketplace.catalogue.limits import require_name
from marketplace.catalogue.models import Window
from marketplace.demand.models import Demand
from marketplace.errors import NotYours, PendingApproval, RoleForbidden, SamePerson, WindowClosed
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Seat
from marketplace.parties.roles import require_act
from marketplace.spending.models import Budget, DemandApproval, Pilot, SeatLimit
from marketplace.spending.services import Spend, approvals_needed, judge_budget, require_pilot

if TYPE_CHECKING:
    from uuid import UUID

HOLD = F("quantity_units") * (F("end_slot") - F("start_slot")) * F("price_limit_micros")


@transaction.atomic
def approve_demand(*, demand: Demand, seat: Seat, reason: str, now: datetime) -> Demand:
    """Say yes as one of the people a demand waits for; with the last of them it is posted.

    Raises SamePerson for whoever posted it, and RoleForbidden for a role or a limit that does not reach.
    """
    standing = _waiting(demand, seat)
    limit = SeatLimit.objects.filter(seat=seat).first()
    if limit is None or standing.hold_micros > limit.limit_micros:
        raise RoleForbidden(
            "This demand is above what your seat may approve.", limit_micros=limit.limit_micros if limit else 0,
            needed_micros=standing.hold_micros,
        )  # fmt: skip
    _judge(standing, seat, True, reason, now)
    if standing.approvals.filter(is_approved=True).count() >= approvals_needed(spend_of(standing)):
        standing.state = "posted"
        standing.save(update_fields=["state"])
    return standing


@transaction.atomic
def refuse_demand(*, demand: Demand, seat: Seat, reason: str, now: datetime) -> Demand:
    """Say no: the demand ends here, whoever else approved it."""
    standing = _waiting(demand, seat)
    _judge(standing, seat, False, reason, now)
    standing.state = "refused"
    standing.save(update_fields=["state"])
    return standing


def spend_of(demand: Demand) -> Spend:
    """What a demand would cost at most, and who answers for it: whoever posted it, or changed its terms last."""
    return Spend(demand.party, demand.hold_micros, demand.funding_line_id is not None, demand.budget, demand.pilot,
                 demand.posted_by_id)  # fmt: skip


def first_state(spend: Spend) -> str:
    """The state in which a demand of that size begins."""
    return "pending" if approvals_needed(spend) else "posted"


def check_pilot(spend: Spend, window: Window, *, tier_min: int, but: UUID | None = None) -> None:
    """Keep the pilot's cap, end and data class; `but` is the demand that is being changed."""
    if spend.pilot is not None:
        Pilot.objects.select_for_update().get(pk=spend.pilot.pk)
        used = _hold_of(Demand.objects.filter(
            pilot=spend.pilot, state__in=("pending", "posted", "funded", "awarded")).exclude(pk=but))  # fmt: skip
        require_pilot(spend, tier_min=tier_min, ends_at=window.ends_at, used_micros=used)


def draw_on_budget(demand: Demand, now: datetime) -> None:
    """Before a demand is funded: refuse what waits for approval or passes a budget that blocks."""
    if demand.state == "pending":
        raise PendingApproval("This demand waits for an approval.", demand=str(demand.pk))
    spend = spend_of(demand)
    if demand.state == "posted" and demand.approvals.filter(is_approved=True).count() < approvals_needed(spend):
        raise PendingApproval("It is above a limit that was set after it was posted: withdraw it and post it anew.",
                              demand=str(demand.pk))  # fmt: skip
    if demand.budget is None:
        return
    Budget.objects.select_for_update().get(pk=demand.budget_id)
    used = used_of_budget(demand.budget)
    if judge_budget(spend, used_micros=used, now=now):
        tell_parties(
            parties=(demand.party_id,), about=f"budget:{demand.budget_id}:{demand.pk}", code="budget_passed", now=now,
            sentence=f"{demand.reference} takes the budget {demand.budget.name} beyond its limit.",
        )  # fmt: skip


def used_of_budget(budget: Budget) -> int:
    """What funded and awarded demands hold of a budget, micro-USD."""
    return _hold_of(budget.demands.filter(state__in=("funded", "awarded")))


def waiting_for(seat: Seat) -> QuerySet[Demand]:
    """The demands of the seat's party that wait for an approval, oldest first."""
    rows = Demand.objects.filter(party=seat.party, state="pending")
    return rows.select_related("window", "posted_by__user", "funding_line")


def _hold_of(rows: QuerySet[Demand]) -> int:
    return int(rows.order_by().aggregate(total=Sum(HOLD, output_field=BigIntegerField()))["total"] or 0)


def _waiting(demand: Demand, seat: Seat) -> Demand:
    require_act(seat, "approve", "approve demands")
    found = Demand.objects.filter(pk=demand.pk, party=seat.party).first()
    if found is None:
        raise NotYours("There is no such demand.")
    window = Window.objects.select_for_update().get(pk=found.window_id)
    standing = Demand.objects.select_for_update(of=("self",)).select_related("posted_by", "party").get(pk=found.pk)
    if standing.state != "pending" or window.state != "COLLECTING":
        raise WindowClosed("This demand waits for nobody.", state=standing.state)
    if standing.posted_by and standing.posted_by.user_id == seat.user_id:
        raise SamePerson("Whoever posted a demand does not approve it.")
    return standing


def _judge(demand: Demand, seat: Seat, is_approved: bool, reason: str, now: datetime) -> None:
    require_name(reason, field="reason", longest=300)
    if DemandApproval.objects.filter(demand=demand, seat=seat).exists():
        raise SamePerson("This seat has judged this demand already.")
    DemandApproval.objects.create(demand=demand, seat=seat, is_approved=is_approved, reason=reason, at=now)
    record(actor=seat.user.email, action="approve_demand" if is_approved else "refuse_demand", subject=demand.pk,
           reason=reason, now=now)  # fmt: skip
