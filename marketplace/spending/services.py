"""A buyer's own rules for spending, and what they say to one demand. Amounts are micro-USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from ledger.ids import uuid7
from marketplace.catalogue.limits import MONEY_MAX_MICROS, require_name, require_whole
from marketplace.errors import (
    BadInput,
    DataRefused,
    NotYours,
    OverBudget,
    PastDate,
    ReferenceReused,
    SamePerson,
    WindowClosed,
)
from marketplace.governance.services import record
from marketplace.notices.services import tell_parties
from marketplace.parties.models import Party, Seat
from marketplace.parties.roles import require_act
from marketplace.parties.two_people import ONE_PERSON_FOR, may_let, waits_for_another
from marketplace.spending.models import Budget, Pilot, SeatLimit, SpendingChange, SpendingRule

PILOT_TIER_MAX = 1  # no regulated data in a trial


@dataclass(frozen=True, slots=True)
class Spend:
    """What one demand would cost at most, and whose pocket it names."""

    party: Party
    hold_micros: int
    names_order: bool
    budget: Budget | None
    pilot: Pilot | None
    seat_id: UUID | None  # who answers for it


@transaction.atomic
def set_spending_rule(
    *, seat: Seat, threshold_micros: int, approvals_needed: int, needs_purchase_order: bool, now: datetime
) -> SpendingChange | None:
    """Say above which amount a demand waits for how many approvals, and whether it then names a purchase order.

    Terms that ask less than those of now wait until a second person lets them: the waiting change is returned, and the
    rule of now goes on. None: they are in force, because they ask more, or because nobody else approves here, nor
    did lately (`parties/two_people.py`).
    """
    require_act(seat, "rules", "set spending rules")
    _require_money(threshold_micros, field="threshold_micros", least=0)
    if not 1 <= require_whole(approvals_needed, field="approvals_needed") <= 5:
        raise BadInput("One to five people approve.", field="approvals_needed")
    terms = {"threshold_micros": threshold_micros, "approvals_needed": approvals_needed,
             "needs_purchase_order": needs_purchase_order}  # fmt: skip
    Party.objects.select_for_update().get(pk=seat.party_id)  # two changes of one rule come one after the other
    withdrawn = _withdraw_waiting(seat.party, "rule", None, now)
    standing = SpendingRule.objects.filter(party=seat.party).first()
    asks_less = standing is not None and (
        threshold_micros > standing.threshold_micros or approvals_needed < standing.approvals_needed
        or (standing.needs_purchase_order and not needs_purchase_order)
    )  # fmt: skip
    if asks_less and waits_for_another(seat.party, who=seat, whose=None, now=now):
        return _propose(seat, "rule", None, terms, now)
    SpendingRule.objects.update_or_create(party=seat.party, defaults={**terms, "set_by": seat, "set_at": now})
    alone = {"alone": True} if asks_less else {}  # nobody else could have let it: whoever audits reads it here
    record(actor=seat.user.email, action="set_spending_rule", subject=seat.party.slug, now=now,
           reason=f"{approvals_needed} approvals above the threshold", threshold_micros=threshold_micros,
           needs_purchase_order=needs_purchase_order, withdrawn=withdrawn, **alone)  # fmt: skip
    return None


@transaction.atomic
def set_seat_limit(*, seat: Seat, of: Seat, limit_micros: int, now: datetime) -> SpendingChange | None:
    """Say how much one demand may cost which the seat `of` approves.

    More than now (a seat without a limit approves nothing) waits for a second person, who is neither `seat` nor `of`,
    as a rule does: the waiting change is returned, or None where it is in force.
    """
    _lock_for_limit(seat, of)
    _require_money(limit_micros, field="limit_micros", least=0)
    withdrawn = _withdraw_waiting(seat.party, "limit", of, now)
    standing = SeatLimit.objects.filter(seat=of).first()
    asks_less = limit_micros > (standing.limit_micros if standing else 0)
    if asks_less and waits_for_another(seat.party, who=seat, whose=of, now=now):
        return _propose(seat, "limit", of, {"limit_micros": limit_micros}, now)
    terms = {"limit_micros": limit_micros, "limit_set_by": seat, "set_at": now}
    SeatLimit.objects.update_or_create(seat=of, defaults=terms)
    alone = {"alone": True} if asks_less else {}
    record(actor=seat.user.email, action="set_seat_limit", subject=of.user.email, reason="limit of a seat", now=now,
           limit_micros=limit_micros, withdrawn=withdrawn, **alone)  # fmt: skip
    return None


@transaction.atomic
def set_order_limit(*, seat: Seat, of: Seat, order_max_micros: int | None, now: datetime) -> SpendingChange | None:
    """Say how much one demand that the seat `of` posts may cost without an approval; None takes the limit away.

    Never of one's own seat (SamePerson). A higher limit than that of now waits for a second person, who is neither
    `seat` nor `of`, as a rule does: the waiting change is returned, or None where it is in force.
    """
    _lock_for_limit(seat, of)
    if of.pk == seat.pk:
        raise SamePerson("Another owner sets the limit of your own seat.")
    if order_max_micros is not None:
        _require_money(order_max_micros, field="order_max_micros", least=0)
    withdrawn = _withdraw_waiting(seat.party, "order_limit", of, now)
    standing = SeatLimit.objects.filter(seat=of).first()
    asks_less = standing is not None and standing.order_max_micros is not None and (
        order_max_micros is None or order_max_micros > standing.order_max_micros)  # fmt: skip
    if asks_less and waits_for_another(seat.party, who=seat, whose=of, now=now):
        return _propose(seat, "order_limit", of, {"order_max_micros": order_max_micros}, now)
    terms = {"order_max_micros": order_max_micros, "order_set_by": seat, "set_at": now}
    SeatLimit.objects.update_or_create(seat=of, defaults=terms)
    alone = {"alone": True} if asks_less else {}
    record(actor=seat.user.email, action="set_order_limit", subject=of.user.email, reason="limit of a seat", now=now,
           order_max_micros=order_max_micros, withdrawn=withdrawn, **alone)  # fmt: skip
    return None


def rule_of(party: Party) -> SpendingRule | None:
    """The rule in force, or None."""
    return SpendingRule.objects.filter(party=party).first()


def changes_of(party: Party) -> QuerySet[SpendingChange]:
    """Changes that waited or wait for a second person, oldest first."""
    rows = SpendingChange.objects.filter(party=party)
    related = ("party", "proposed_by__user", "decided_by__user", "seat__user")
    return rows.select_related(*related).order_by("proposed_at", "id")


def waiting_changes(party: Party) -> QuerySet[SpendingChange]:
    """Changes that wait for a second person, oldest first."""
    return changes_of(party).filter(decided_at=None, withdrawn_at=None)


def may_decide(change: SpendingChange, seat: Seat | None, now: datetime) -> bool:
    """Whether the seat may let the change; `decide_change` refuses who may not."""
    return seat is not None and seat.pk in may_let(
        change.party, who=change.proposed_by_id, whose=change.seat_id, now=now
    )


@transaction.atomic
def decide_change(*, change: SpendingChange, seat: Seat, is_let: bool, reason: str, now: datetime) -> SpendingChange:
    """Let a change that waits, which is in force then, or refuse it. Raises SamePerson for whoever proposed it, for
    whose limit it is and, to let it, for whoever may be the first under another name; RoleForbidden for a role that
    does not approve, WindowClosed for what waits no longer.
    """
    require_act(seat, "approve", "let changes of rules")
    Party.objects.select_for_update().get(pk=seat.party_id)
    row = SpendingChange.objects.filter(pk=change.pk, party=seat.party).select_related(
        "party", "seat__user", "proposed_by").first()  # fmt: skip
    if row is None:
        raise NotYours("There is no such change.")
    if row.decided_at or row.withdrawn_at:
        raise WindowClosed("This change waits for nobody.", field="change")
    if seat.pk in (row.proposed_by_id, row.seat_id):
        raise SamePerson("Neither who proposed a change nor whose limit it is lets it.")
    if is_let and not may_decide(row, seat, now):
        raise SamePerson(
            f"For {ONE_PERSON_FOR.days} days whoever let a seat in, or made a link for its password, counts as one "
            "person with it: somebody else lets this change.", days=ONE_PERSON_FOR.days,
        )  # fmt: skip
    require_name(reason, field="reason", longest=300)
    row.decided_by, row.decided_at, row.is_let, row.reason = seat, now, is_let, reason
    row.save(update_fields=["decided_by", "decided_at", "is_let", "reason"])
    if is_let:
        _put_in_force(row, now)
    record(actor=seat.user.email, action="let_spending_change" if is_let else "refuse_spending_change",
           subject=_subject(row), reason=reason, now=now, **_terms(row))  # fmt: skip
    return row


def _put_in_force(row: SpendingChange, now: datetime) -> None:
    if row.kind == "rule":
        SpendingRule.objects.filter(party=row.party_id).update(
            threshold_micros=row.threshold_micros, approvals_needed=row.approvals_needed,
            needs_purchase_order=row.needs_purchase_order, set_by=row.proposed_by_id, let_by=row, set_at=now,
        )  # fmt: skip
    elif row.kind == "order_limit":
        SeatLimit.objects.filter(seat=row.seat).update(
            order_max_micros=row.order_max_micros, order_set_by=row.proposed_by_id, order_let_by=row, set_at=now
        )
    else:
        SeatLimit.objects.update_or_create(seat=row.seat, defaults={
            "limit_micros": row.limit_micros, "limit_set_by": row.proposed_by, "limit_let_by": row, "set_at": now,
        })  # fmt: skip


def _lock_for_limit(seat: Seat, of: Seat) -> None:
    require_act(seat, "rules", "set limits of seats")
    if of.party_id != seat.party_id:
        raise NotYours("There is no such seat.")
    Party.objects.select_for_update().get(pk=seat.party_id)


def _propose(seat: Seat, kind: str, of: Seat | None, terms: dict[str, Any], now: datetime) -> SpendingChange:
    row = SpendingChange.objects.create(
        id=uuid7(now), party=seat.party, kind=kind, seat=of, proposed_by=seat, proposed_at=now, **terms
    )
    record(actor=seat.user.email, action="propose_spending_change", subject=_subject(row), now=now,
           reason="asks less than before: another person lets it", **_terms(row))  # fmt: skip
    tell_parties(parties=(seat.party_id,), about=f"spending_change:{row.pk}", code="approval_needed", now=now,
                 sentence="A change of your spending rules waits for a second person.")  # fmt: skip
    return row


def _withdraw_waiting(party: Party, kind: str, of: Seat | None, now: datetime) -> int:
    """The newest word counts: what waited for the same rule or seat waits no longer."""
    return waiting_changes(party).filter(kind=kind, seat=of).update(withdrawn_at=now)


def _subject(row: SpendingChange) -> str:
    return row.seat.user.email if row.seat else row.party.slug


def _terms(row: SpendingChange) -> dict[str, Any]:
    if row.kind == "order_limit":
        return {"order_max_micros": row.order_max_micros, "change": str(row.pk)}
    if row.kind == "limit":
        return {"limit_micros": row.limit_micros, "change": str(row.pk)}
    return {"threshold_micros": row.threshold_micros, "approvals_needed": row.approvals_needed,
            "needs_purchase_order": row.needs_purchase_order, "change": str(row.pk)}  # fmt: skip


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
    """How many approvals a demand of that size needs, by the party's rule and by the limit of the seat that posts it.

    Raises BadInput when it has to name a purchase order.
    """
    limit = SeatLimit.objects.filter(seat=spend.seat_id, order_max_micros__lt=spend.hold_micros)
    of_seat = 1 if spend.seat_id is not None and limit.exists() else 0
    rule = SpendingRule.objects.filter(party=spend.party).first()
    if rule is None or spend.hold_micros <= rule.threshold_micros:
        return of_seat
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
