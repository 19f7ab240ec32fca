"""The roll call: all machines of one ultimate owner, siblings' too, are challenged in one short span.

Each unit that a class sells has a prover and a key of its own: the first is the machine that meters, the others are
enrolled beside it. One machine that is listed twice cannot answer twice at once. If s of N claimed machines are called
and m are real, the fraud shows with 1 - C(m, s) / C(N, s); here all N are called, so it always shows. Without a whole
roll call no class of that owner becomes PROVEN.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Count, Max, Q
from django.utils.crypto import salted_hmac

from ledger.faults import point
from ledger.ids import uuid7
from marketplace.errors import BadInput, MarketError
from marketplace.governance.services import record
from marketplace.notices.models import Progress
from marketplace.notices.services import report_progress
from marketplace.parties.models import Party
from marketplace.parties.owners import last_owners
from marketplace.supply.key_models import UnitProver
from marketplace.supply.models import NodeClass
from marketplace.supply.proof_models import RollAnswer, RollCall, RollMember

SPAN = timedelta(minutes=10)
PERIOD = timedelta(days=7)  # from one roll call of an owner to the next at most,
SOONEST = timedelta(hours=84)  # and at least; the moment between is this server's secret
ROLLS_AT_ONCE = 20  # of one run; who has waited longest comes first
ROLL_JOB = "roll calls"
# Those that can sell. Whoever comes in or back later needs a roll call of its own, with all of these in it.
CALLED = ("PROBATION", "PROVEN", "DEGRADED")


def classes_of_owner(party: Party) -> list[NodeClass]:
    """All node classes under the ultimate owner of a party: its own and its siblings'."""
    rows = list(NodeClass.objects.filter(standing__state__in=CALLED).select_related("party").order_by("chain_class"))
    owners = last_owners({party.pk, *(row.party_id for row in rows)})
    return [row for row in rows if owners[row.party_id] == owners[party.pk]]


@transaction.atomic
def call_the_roll(*, party: Party, now: datetime) -> RollCall:
    """Open a roll call over all machines of a party's ultimate owner; one that is open already is returned.

    It is not announced: whoever knows the moment before can borrow machines for it. Raises BadInput for an owner
    without machines.
    """
    owner_id = last_owners([party.pk])[party.pk]
    Party.objects.select_for_update().get(pk=owner_id)  # one roll at a time per owner
    standing = RollCall.objects.filter(owner_id=owner_id, opened_at__lte=now, closes_at__gt=now).first()
    if standing:
        return standing
    classes = classes_of_owner(party)
    if not classes:
        raise BadInput("This owner has no machines to call.", field="party")
    roll = RollCall.objects.create(id=uuid7(now), owner_id=owner_id, opened_at=now, closes_at=now + SPAN)
    RollMember.objects.bulk_create(RollMember(roll=roll, node_class=row, machines=row.units) for row in classes)
    point("supply.rolls.before_commit")
    record(actor="verifiers", action="call_the_roll", subject=roll.pk, reason="all machines at once", now=now,
           classes=len(classes), machines=sum(row.units for row in classes))  # fmt: skip
    return roll


@dataclass(frozen=True, slots=True)
class CalledMachine:
    """One machine of a called class: the one that meters, or the prover of one more unit."""

    member: RollMember
    prover: UnitProver | None

    @property
    def machine_id(self) -> UUID:
        """Its id in statements."""
        return self.prover.pk if self.prover else self.member.node_class_id

    @property
    def public_key(self) -> bytes:
        """By which it signs; empty where the class has none in use."""
        return bytes(self.prover.public_key if self.prover else self.member.node_class.machine_key or b"")

    @property
    def number(self) -> int:
        """1 is the machine that meters."""
        return self.prover.number if self.prover else 1


def called_machines(members: Sequence[RollMember]) -> list[CalledMachine]:
    """Return the machines that a roll calls one by one, in its order: of each class as many as it has units, at most.

    A class with fewer provers than units cannot answer whole. Counted are those that stood when the roll was opened.
    """
    provers = defaultdict[UUID, list[UnitProver]](list)
    classes = {member.node_class_id for member in members}
    for row in UnitProver.objects.filter(node_class__in=classes).order_by("number"):
        provers[row.node_class_id].append(row)
    called = []
    for member in members:
        at = member.roll.opened_at
        standing = [row for row in provers[member.node_class_id] if row.stood_at(at)]
        called += [CalledMachine(member, row) for row in [None, *standing][: member.machines]]
    return called


def is_called(member: RollMember, prover: UnitProver | None) -> bool:
    """Whether one machine of a called class is among those that its roll calls, as `called_machines` counts them."""
    if prover is None:
        return True
    at = member.roll.opened_at
    if prover.node_class_id != member.node_class_id or not prover.stood_at(at):
        return False
    before = UnitProver.objects.filter(_stood("", at), node_class=prover.node_class_id, number__lt=prover.number)
    return before.count() < member.machines - 1


def count_called(roll: RollCall) -> int:
    """How many machines a roll calls: as many as `called_machines` of all its members returns."""
    standing = Count("node_class__unit_provers", filter=_stood("node_class__unit_provers__", roll.opened_at))
    rows = RollMember.objects.filter(roll=roll).annotate(standing=standing).values_list("machines", "standing")
    return sum(min(machines, 1 + others) for machines, others in rows)


def _stood(prefix: str, at: datetime) -> Q:
    """As `UnitProver.stood_at`, in a query."""
    kept = Q(**{f"{prefix}retired_at": None}) | Q(**{f"{prefix}retired_at__gt": at})
    return Q(**{f"{prefix}enrolled_at__lte": at}) & kept


@dataclass(frozen=True, slots=True)
class DueRoll:
    """An owner whose roll is to be called, by one of its parties, since a moment that nobody outside knew."""

    due_at: datetime
    owner_id: UUID
    party: Party


def call_due_rolls(*, now: datetime) -> int:
    """Call the rolls that are due, the longest overdue first and a bounded number; returns how many were called.

    Each is a transaction of its own. One that fails holds up no other, stays due, and stands on the console until a
    run goes through. Run again, or by two at once, it calls nobody twice.
    """
    called, failed = 0, ""
    for due in due_rolls(now=now)[:ROLLS_AT_ONCE]:
        try:
            call_the_roll(party=due.party, now=now)
        except (MarketError, DatabaseError) as error:
            failed = f"{due.party.name}: {error}"[:300]
        else:
            called += 1
    if failed or called or Progress.objects.filter(job=ROLL_JOB, outcome="failed").exists():
        report_progress(
            job=ROLL_JOB, phase="Roll calls", done=called, total=called + bool(failed), now=now,
            sentence=failed or f"{called} owners called", outcome="failed" if failed else "done",
        )  # fmt: skip
    return called


def failed_roll_job() -> Progress | None:
    """Return what the last run of the roll calls says where it failed, or None."""
    return Progress.objects.filter(job=ROLL_JOB, outcome="failed").first()


def due_rolls(*, now: datetime) -> list[DueRoll]:
    """Return the owners whose secret moment has come, the longest overdue first.

    The next roll comes between `SOONEST` and `PERIOD` after the last; the first one within `SOONEST` of the moment
    from which one of the owner's classes can sell.
    """
    rows = NodeClass.objects.filter(standing__state__in=CALLED).select_related("party", "standing")
    classes = list(rows.order_by("standing__changed_at", "chain_class"))
    owners = last_owners({row.party_id for row in classes})
    first: dict[UUID, NodeClass] = {}
    for row in classes:
        first.setdefault(owners[row.party_id], row)
    last = dict(RollCall.objects.filter(owner__in=first).values_list("owner").annotate(Max("opened_at")).order_by())
    found = []
    for owner_id, row in first.items():
        since = last[owner_id] + SOONEST if owner_id in last else row.standing.changed_at
        due_at = since + _secret_wait(owner_id, since)
        if due_at <= now:
            found.append(DueRoll(due_at, owner_id, row.party))
    return sorted(found, key=lambda due: (due.due_at, due.owner_id))


def _secret_wait(owner_id: UUID, since: datetime) -> timedelta:
    """A whole number of seconds below `PERIOD - SOONEST` that only this server can work out."""
    digest = salted_hmac("grove roll call", f"{owner_id} {since.isoformat()}", algorithm="sha256").digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % int((PERIOD - SOONEST).total_seconds()))


@transaction.atomic
def note_answer(*, member: RollMember, now: datetime) -> RollAnswer:
    """Note that all machines of a called class answered, each by itself. The same again is one answer."""
    standing = RollAnswer.objects.filter(member=member).first()
    if standing:
        return standing
    machines = member.machines
    answer = RollAnswer.objects.create(member=member, machines=machines, answered_at=now)
    record(actor="verifiers", action="answer_roll", subject=member.node_class_id, now=now, machines=machines,
           reason=f"all {machines} machines answered")  # fmt: skip
    return answer


def whole_roll_since(node_class: NodeClass, since: datetime) -> RollCall | None:
    """The first roll call since then in which every machine of the owner answered, this class's among them."""
    called = RollMember.objects.filter(node_class=node_class, roll__opened_at__gte=since).order_by("roll__opened_at")
    for member in called.select_related("roll"):
        if is_whole(member.roll_id):
            return member.roll
    return None


def last_whole_roll(node_class: NodeClass) -> RollCall | None:
    """The newest roll call that this class and all called with it answered, or None."""
    called = RollMember.objects.filter(node_class=node_class).select_related("roll").order_by("-roll__opened_at")
    return next((member.roll for member in called[:3] if is_whole(member.roll_id)), None)


def is_whole(roll_id: UUID) -> bool:
    """Whether every machine that was called answered."""
    members = RollMember.objects.filter(roll_id=roll_id).values_list("machines", "answer__machines")
    return all(called == answered for called, answered in members)
