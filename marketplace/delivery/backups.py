"""A lease whose machine has failed: the backup that was agreed at its clearing takes over the rest of its hours.

    failed for BACKUP_GRACE_MINUTES by the provider's doing
        -> every rule is checked again, the failed lease ends at the first hour that is BACKUP_LEAD_MINUTES away
        -> the rest of its fee comes back (`payout/backups.py`) and is locked for the backup (`escrow/backups.py`)

All hours that are left move, or none. Whoever is to blame stays so: the verdict, the credit and the stake that answers
are the failed lease's. The backup has a lease of its own at the agreed price, its own verdict, and no backup.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Sum

from ledger.errors import InsufficientFunds
from ledger.faults import point
from ledger.ids import uuid7
from ledger.services import reserve_hold
from marketplace.capacity.services import Sellable
from marketplace.catalogue.models import Window
from marketplace.clearing.backups import WORDS, Again
from marketplace.clearing.models import Award
from marketplace.delivery.causes import Records, minute_counts
from marketplace.delivery.evidence_models import LeaseHealth, ProbeReport
from marketplace.delivery.probing import RUNNING
from marketplace.delivery.promises import promises
from marketplace.demand.funding import free_micros, origin_of
from marketplace.demand.models import Demand
from marketplace.errors import SealUnreadable
from marketplace.escrow.backup_models import STEPPED_IN, StepIn, StepInRun
from marketplace.escrow.backups import HOLDS_KEPT, extra_hold_id
from marketplace.escrow.models import Lease
from marketplace.escrow.packs import undocumented
from marketplace.governance.services import flag_is_on, record
from marketplace.notices.services import tell_parties
from marketplace.supply.admissions import delivery_month, free_unit_hours
from marketplace.supply.models import Bid
from marketplace.supply.onchain import exposure_room_micros

HOUR = timedelta(hours=1)


class Kept(Exception):
    """Why a backup cannot step in: a code, and the sentence that the parties read."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Money:
    """What moving the rest of a lease takes, in micro-USD; see the columns of `StepIn`."""

    rest_micros: int
    returned_micros: int
    extra_micros: int
    fee_micros: int
    spent_micros: int
    hold_micros: int


@transaction.atomic
def start_backups(*, window: Window, now: datetime) -> int:
    """Decide about each lease of a window that has been FAILED for the time of grace; returns how many were decided.

    Each failure is decided once. A lease whose bad minutes are the buyer's doing, the network's or excused waits.
    """
    locked = Window.objects.select_for_update().get(pk=window.pk)
    if locked.state != "DELIVERING":
        return 0
    since = now - timedelta(minutes=settings.BACKUP_GRACE_MINUTES)
    failed = LeaseHealth.objects.filter(
        state="FAILED", since__lte=since, lease__window=locked, lease__state__in=RUNNING, lease__step_in=None,
        lease__ended_slot=None,
    )  # fmt: skip
    leases = Lease.objects.select_for_update(of=("self",)).filter(pk__in=failed.values("lease")).select_related(
        "window__clearing", "demand__party__parent", "demand__zone", "demand__control_zone", "demand__sla",
        "demand__data_class", "demand__window", "bid", "provider", "buyer",
    )  # fmt: skip
    return sum(_decide(lease, now) for lease in leases.order_by("pk"))


def _decide(lease: Lease, now: datetime) -> int:
    health = LeaseHealth.objects.select_for_update().get(pk=lease.pk)
    from_slot = -(-(now + timedelta(minutes=settings.BACKUP_LEAD_MINUTES) - lease.window.starts_at) // HOUR)
    whole = ("node_class__site", "node_class__standing", "party__parent")
    left = list(
        Award.objects.filter(demand=lease.demand_id, bid=lease.bid_id, end_slot__gt=from_slot)
        .select_related(*(f"backup__bid__{each}" for each in whole)).order_by("start_slot")
    )  # fmt: skip
    agreed = [award for award in left if hasattr(award, "backup")]
    if not agreed or StepIn.objects.filter(lease=lease, failed_at=health.since).exists():
        return 0
    if _cause(lease, health) != "PROVIDER":
        return 0
    try:
        with transaction.atomic():  # what a wall of the database refuses is taken back, and the refusal is kept
            step_in = _begin(lease, health, left, from_slot, now)
    except Kept as kept:
        _keep_out(lease, health, from_slot, kept, now)
    except IntegrityError as error:
        rule = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        if rule is None:
            raise
        _keep_out(lease, health, from_slot, Kept("rule", f"A rule of the market forbids it: {rule}."), now)
    else:
        _tell_begun(step_in, lease, now)
    return 1


def _cause(lease: Lease, health: LeaseHealth) -> str:
    """Whose doing the minute was in which the machine was last seen to fail."""
    minute_at = health.round_minute_at
    if minute_at is None:
        return "UNKNOWN"
    counts = minute_counts(list(ProbeReport.objects.filter(lease=lease, minute_at=minute_at)))
    return Records(lease).cause_of(minute_at, counts[minute_at]) if minute_at in counts else "UNKNOWN"


# -- may it step in? ---------------------------------------------------------------------------------------------------
def _begin(lease: Lease, health: LeaseHealth, left: Sequence[Award], from_slot: int, now: datetime) -> StepIn:
    if any(not hasattr(award, "backup") for award in left):
        raise Kept("not_whole", "Only a part of the hours that are left has a backup, and all move or none.")
    runs = [_run(award, from_slot) for award in left]
    by_bid: dict[Bid, list[StepInRun]] = defaultdict(list)
    for award, run in zip(left, runs, strict=True):
        by_bid[award.backup.bid].append(run)
    _require_rules(lease, by_bid)
    for bid, mine in by_bid.items():
        _require_machines(bid, mine, lease.window)
    money = _money(lease, runs, from_slot)
    _require_money(lease.demand, money, max(run.slot_prices_micros[0] for run in runs))
    _require_exposure(by_bid)
    return _write(lease, health, by_bid, money, from_slot, now)


def _run(award: Award, from_slot: int) -> StepInRun:
    backup, start = award.backup, max(award.start_slot, from_slot)
    hours = award.end_slot - start
    return StepInRun(
        award=award, demand_id=award.demand_id, bid=backup.bid, start_slot=start, end_slot=award.end_slot,
        units=award.units, slot_prices_micros=[backup.strike_price_micros] * hours,
        amount_micros=award.units * backup.strike_price_micros * hours,
    )  # fmt: skip


def _require_rules(lease: Lease, by_bid: Mapping[Bid, Sequence[StepInRun]]) -> None:
    """Residency, legal control, tier, evidence, funding, standing, incidents, phase, papers and concentration."""
    window, demand = lease.window, lease.demand
    if window.kind == "market" and not flag_is_on("escrow_locks"):
        raise Kept("phase_closed", "No money of market windows is locked now.")
    rules, moved = Again(demand), moved_unit_hours(window)
    for bid, runs in by_bid.items():
        if broken := rules.broken_rule(bid):
            raise Kept(f"not_eligible_{broken}"[:40], f"{bid.party.name} may not serve it now: {WORDS[broken]}.")
        hours = sum(run.units * (run.end_slot - run.start_slot) for run in runs)
        if rules.is_beyond_cap(bid, hours, leaves=lease.bid, moved=moved):
            raise Kept("concentration", f"{bid.party.name} would sell more of this product than one owner may.")
    for (_, bid), why in undocumented([(demand, bid) for bid in by_bid], window).items():
        raise Kept("undocumented", f"{bid.party.name}: {why}")


def moved_unit_hours(window: Window) -> dict[UUID, int]:
    """Unit-hours that backups of a window have taken over, by bid."""
    moved: Counter[UUID] = Counter()
    runs = StepInRun.objects.filter(step_in__lease__window=window, step_in__state__in=STEPPED_IN)
    for bid, units, start, end in runs.values_list("bid_id", "units", "start_slot", "end_slot"):
        moved[bid] += units * (end - start)
    return dict(moved)


def _require_machines(bid: Bid, runs: Sequence[StepInRun], window: Window) -> None:
    """Capacity left of the bid and of its machines in every hour, machines that do not fail, and admission."""
    node_class, name = bid.node_class, bid.party.name
    if LeaseHealth.objects.filter(lease__node_class=node_class, lease__state__in=RUNNING, state="FAILED").exists():
        raise Kept("backup_failed", f"The machines of {name} have failed as well.")
    of_bid, of_class = units_taken(bids=[bid]), units_taken(bids=Bid.objects.filter(node_class=node_class))
    known = Sellable(node_class)
    for run in runs:
        for slot in range(run.start_slot, run.end_slot):
            at = window.slot_at(slot)
            for taken in (of_bid, of_class):
                taken[at] += run.units
            if of_bid[at] > bid.quantity_units or of_class[at] > known.units(at):
                raise Kept("no_capacity", f"{name} has too few units left in hour {slot}.")
    if window.kind == "market":
        needed = 0 if bid.state == "awarded" else bid.unit_hours
        try:
            free = free_unit_hours(node_class=node_class, month=delivery_month(window))
        except SealUnreadable as error:
            raise Kept("admission", f"What {name} offers elsewhere cannot be read.") from error
        if free < needed:
            raise Kept("admission", f"{name} is no longer admitted with these unit-hours.")


def units_taken(*, bids: Iterable[Bid]) -> Counter[datetime]:
    """Units of some bids that awards and backups have in each hour, in windows that are not over."""
    taken: Counter[datetime] = Counter()
    runs = StepInRun.objects.filter(bid__in=bids, step_in__state__in=STEPPED_IN)
    for rows in (Award.objects.filter(bid__in=bids), runs):
        live = rows.filter(demand__window__state__in=("CLEARED", "DELIVERING")).select_related("demand__window")
        for row in live:
            for slot in range(row.start_slot, row.end_slot):
                taken[row.demand.window.slot_at(slot)] += row.units
    return taken


def _money(lease: Lease, runs: Sequence[StepInRun], from_slot: int) -> Money:
    owed = promises(leases=[lease])
    rest = sum(each.amount_micros for (_, slot), each in owed.items() if slot >= from_slot)
    sent = sum(credit.amount_micros for credit in lease.early_credits.all())
    returned = min(rest, lease.fee_micros - sent)
    fee, demand = sum(run.amount_micros for run in runs), lease.demand
    return Money(rest, returned, max(0, fee - returned), fee, cost_micros(demand) - rest, demand.hold_micros)


def cost_micros(demand: Demand) -> int:
    """What all leases of a demand cost when everything is delivered, backups in place of what they took over."""
    made = Lease.objects.filter(demand=demand, step_in=None).exclude(state="refused")
    fees = int(made.aggregate(total=Sum("fee_micros"))["total"] or 0)
    moved = StepIn.objects.filter(lease__demand=demand, state__in=STEPPED_IN)
    sums = moved.aggregate(rest=Sum("rest_micros"))["rest"] or 0
    instead = moved.exclude(state="fallen").aggregate(fee=Sum("fee_micros"))["fee"] or 0
    return fees - int(sums) + int(instead)


def _require_money(demand: Demand, money: Money, strike_micros: int) -> None:
    if strike_micros > demand.price_limit_micros:
        raise Kept("above_limit", "The agreed price is above the most that the demand pays for a unit-hour.")
    if money.spent_micros + money.fee_micros > money.hold_micros:
        raise Kept("beyond_hold", "The demand would cost more than was held for it.")
    if money.extra_micros > free_micros(demand.party):
        raise Kept("money_short", "What comes back does not pay for the backup, and too little else is free.")


def _require_exposure(by_bid: Mapping[Bid, Sequence[StepInRun]]) -> None:
    loads: Counter[UUID] = Counter()
    classes = {bid.node_class_id: bid.node_class for bid in by_bid}
    for bid, runs in by_bid.items():
        loads[bid.node_class_id] += sum(run.amount_micros for run in runs)
    for key, micros in loads.items():
        if micros > exposure_room_micros(node_class=classes[key]):
            raise Kept("exposure", "The backup's stake does not carry that much more.")


# -- what is written ---------------------------------------------------------------------------------------------------
def _write(
    lease: Lease, health: LeaseHealth, by_bid: Mapping[Bid, Sequence[StepInRun]], money: Money, from_slot: int,
    now: datetime,
) -> StepIn:  # fmt: skip
    step_in = StepIn.objects.create(
        id=uuid7(now), lease=lease, failed_at=health.since, from_slot=from_slot, state="returning", decided_at=now,
        **{name: getattr(money, name) for name in Money.__dataclass_fields__},
    )  # fmt: skip
    for bid, runs in by_bid.items():
        # From here on its capacity is promised; the database asks whether it is still let in.
        Bid.objects.filter(pk=bid.pk, state="lost").update(state="awarded")
        for run in runs:
            run.id, run.step_in = uuid7(now), step_in
            run.save(force_insert=True)
    if money.extra_micros:
        try:
            reserve_hold(
                id=extra_hold_id(step_in), party=lease.buyer_id, window=lease.window_id, amount=money.extra_micros,
                timeout_at=lease.window.ends_at + HOLDS_KEPT, origin=origin_of(lease.demand), now=now,
            )  # fmt: skip
        except InsufficientFunds as error:
            raise Kept("money_short", "Too little of the buyer's money is free.") from error
    Lease.objects.filter(pk=lease.pk).update(ended_slot=from_slot)
    point("delivery.backups.before_commit")
    record(
        actor="market", action="start_backup", subject=lease.pk, reason="failed by the provider's doing", now=now,
        cause="PROVIDER", from_slot=from_slot, fee_micros=money.fee_micros, returned_micros=money.returned_micros,
        extra_micros=money.extra_micros, backups=sorted(bid.party.slug for bid in by_bid),
    )  # fmt: skip
    return step_in


def _keep_out(lease: Lease, health: LeaseHealth, from_slot: int, kept: Kept, now: datetime) -> None:
    StepIn.objects.create(
        id=uuid7(now), lease=lease, failed_at=health.since, from_slot=from_slot, state="refused", code=kept.code,
        sentence=str(kept)[:300], decided_at=now, ended_at=now,
    )  # fmt: skip
    record(actor="market", action="refuse_backup", subject=lease.pk, reason=str(kept)[:300], now=now, code=kept.code)
    tell_parties(
        parties={lease.buyer_id, lease.provider_id}, about=f"backup:{lease.pk}:{health.since.isoformat()}", now=now,
        code="backup_refused", sentence=f"{lease.demand.reference} at {lease.provider.name}: its backup cannot step "
        f"in. {kept} The lease goes on; hours that fail are not billed.",
    )  # fmt: skip


def _tell_begun(step_in: StepIn, lease: Lease, now: datetime) -> None:
    begins = f"{lease.window.slot_at(step_in.from_slot):%Y-%m-%d %H:%M} UTC"
    runs = StepInRun.objects.filter(step_in=step_in).select_related("bid__party")
    names = ", ".join(sorted({run.bid.party.name for run in runs}))
    about = f"backup:{step_in.pk}"
    tell_parties(
        parties={lease.buyer_id, lease.provider_id}, about=about, code="backup_started", now=now,
        sentence=f"{lease.demand.reference} at {lease.provider.name} has failed and ends at {begins}, by the "
        f"provider's doing. {names} takes over the rest at the price that was agreed.",
    )  # fmt: skip
    tell_parties(
        parties={run.bid.party_id for run in runs}, about=f"{about}:own", code="backup_called", now=now,
        sentence=f"Your capacity steps in for {lease.demand.reference} from {begins} on; its money is being locked.",
    )  # fmt: skip
