"""A buyer's own rules for spending, and what they say to one demand. Amounts are micro-USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from ledger.ids import uuid7
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_name, require_whole
from marketplace.errors import BadInput, DataRefused, NotYours, OverBudget, PastDate, ReferenceReused
from marketplace.governance.services import record
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act
from marketplace.spending.models import Budget, Pilot, SeatLimit, SpendingRule

PILOT_TIER_MAX = 1  # no regulated data in a trial


@dataclass(frozen=True, slots=True)
class Spend:
    """What one demand would cost at most, and whose pocket it names."""

    party: Party
    hold_micros: int
    names_order: bool
    budget: Budget | None
    pilot: Pilot | None


@transaction.atomic
def set_spending_rule(
    *, seat: Seat, threshold_micros: int, approvals_needed: int, needs_purchase_order: bool, now: datetime
) -> SpendingRule:
    """Say above which amount a demand waits for how many approvals, and whether it then names a purchase order."""
    require_act(seat, "rules", "set spending rules")
    _require_money(threshold_micros, field="threshold_micros", least=0)
    if not 1 <= require_whole(approvals_needed, field="approvals_needed") <= 5:
        raise BadInput("One to five people approve.", field="approvals_needed")
    rule, _ = SpendingRule.objects.update_or_create(
        party=seat.party, defaults={"threshold_micros": threshold_micros, "approvals_needed": approvals_needed,
                                    "needs_purchase_order": needs_purchase_order},
    )  # fmt: skip
    record(actor=seat.user.email, action="set_spending_rule", subject=seat.party.slug, now=now,
           reason=f"{approvals_needed} approvals above the threshold", threshold_micros=threshold_micros)  # fmt: skip
    return rule


@transaction.atomic
def set_seat_limit(*, seat: Seat, of: Seat, limit_micros: int, now: datetime) -> SeatLimit:
    """Say how much one demand may cost which the seat `of` approves."""
    require_act(seat, "rules", "set limits of seats")
    if of.party_id != seat.party_id:
        raise NotYours("There is no such seat.")
    _require_money(limit_micros, field="limit_micros", least=0)
    limit, _ = SeatLimit.objects.update_or_create(seat=of, defaults={"limit_micros": limit_micros})
    record(actor=seat.user.email, action="set_seat_limit", subject=of.user.email, reason="limit of a seat", now=now,
           limit_micros=limit_micros)  # fmt: skip
    return limit


@transaction.atomic
def set_budget(
    *, seat: Seat, name: str, limit_micros: int, action: str, from_at: datetime, until_at: datetime, now: datetime
) -> Budget:
    """Make a budget, or change its limit and action. A budget that blocks refuses what would pass it."""
    require_act(seat, "rules", "set budgets")
    require_name(name, field="name", longest=60)
    _require_money(limit_micros, field="limit_micros", least=1)
    if action not in Budget.ACTIONS:
        raise BadInput("A budget notifies or blocks.", field="action")
    if until_at <= max(now, from_at):
        raise PastDate("A budget ends after it begins, and after today.", field="until_at")
    budget, is_new = Budget.objects.get_or_create(
        party=seat.party, name=name,
        defaults={"id": uuid7(now), "limit_micros": limit_micros, "action": action, "from_at": from_at,
                  "until_at": until_at},
    )  # fmt: skip
    if not is_new:
        budget.limit_micros, budget.action, budget.from_at, budget.until_at = limit_micros, action, from_at, until_at
        budget.save()
    record(actor=seat.user.email, action="set_budget", subject=f"{seat.party.slug}/{name}", reason=action, now=now,
           limit_micros=limit_micros, until_at=until_at)  # fmt: skip
    return budget


@transaction.atomic
def open_pilot(*, seat: Seat, name: str, cap_micros: int, ends_at: datetime, now: datetime) -> Pilot:
    """Open a trial with a cap on all its demands together and a day on which it ends."""
    require_act(seat, "draft", "open a pilot")
    require_name(name, field="name", longest=60)
    _require_money(cap_micros, field="cap_micros", least=1)
    if ends_at <= now:
        raise PastDate("A pilot ends on a day that lies ahead.", field="ends_at")
    standing = Pilot.objects.filter(party=seat.party, name=name).first()
    if standing:
        if (standing.cap_micros, standing.ends_at) != (cap_micros, ends_at):
            raise ReferenceReused("Another pilot of yours has this name.", field="name")
        return standing
    pilot = Pilot.objects.create(id=uuid7(now), party=seat.party, name=name, cap_micros=cap_micros, ends_at=ends_at,
                                 opened_at=now)  # fmt: skip
    record(actor=seat.user.email, action="open_pilot", subject=f"{seat.party.slug}/{name}", reason="pilot", now=now,
           cap_micros=cap_micros, ends_at=ends_at)  # fmt: skip
    return pilot


def approvals_needed(spend: Spend) -> int:
    """How many approvals a demand of that size needs; raises BadInput when it has to name a purchase order."""
    rule = SpendingRule.objects.filter(party=spend.party).first()
    if rule is None or spend.hold_micros <= rule.threshold_micros:
        return 0
    if rule.needs_purchase_order and not spend.names_order:
        raise BadInput("A demand above your threshold names its purchase order.", field="purchase_order",
                       threshold_micros=rule.threshold_micros)  # fmt: skip
    return rule.approvals_needed


def require_pilot(spend: Spend, *, tier_min: int, ends_at: datetime, used_micros: int) -> None:
    """Keep a pilot small, light and short: raises DataRefused, PastDate or OverBudget."""
    pilot = spend.pilot
    if pilot is None:
        return
    if tier_min > PILOT_TIER_MAX:
        raise DataRefused(
            f"A pilot takes data of T{PILOT_TIER_MAX} at most; convert it first.", field="data_class", tier_min=tier_min
        )
    if ends_at > pilot.ends_at:
        raise PastDate("The window ends after the pilot.", field="window", pilot_ends_at=pilot.ends_at.isoformat())
    if used_micros + spend.hold_micros > pilot.cap_micros:
        raise OverBudget("That is more than the pilot's cap leaves.", cap_micros=pilot.cap_micros,
                         used_micros=used_micros, needed_micros=spend.hold_micros)  # fmt: skip


def judge_budget(spend: Spend, *, used_micros: int, now: datetime) -> bool:
    """Whether the budget is passed by this spend; one that blocks, or that is over, refuses it (OverBudget)."""
    budget = spend.budget
    if budget is None:
        return False
    if not budget.from_at <= now < budget.until_at:
        raise OverBudget("This budget does not run now.", budget=budget.name, until_at=budget.until_at.isoformat())
    is_passed = used_micros + spend.hold_micros > budget.limit_micros
    if is_passed and budget.action == "block":
        raise OverBudget("This budget is used up.", budget=budget.name, limit_micros=budget.limit_micros,
                         used_micros=used_micros, needed_micros=spend.hold_micros)  # fmt: skip
    return is_passed


def _require_money(amount: object, *, field: str, least: int) -> None:
    if not least <= require_whole(amount, field=field) < MONEY_MAX_MICROS:
        raise BadInput("An amount is no negative number, and fits the books.", field=field)
